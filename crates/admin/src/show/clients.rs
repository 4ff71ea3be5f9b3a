//! Connected clients and the state of consumers.

use protocol::heartbeat::Subscription;
use protocol::stats::{Connection, ConsumerConnection, ProducerConnection, ProducerTable};
use protocol::version;

use super::{Page, Show, Table, or_dash};
use crate::clients::{ClientStatus, ConsumerStatus};
use crate::time;

fn connections(connections: &[Connection]) -> Table {
    let mut table = Table::new(["CLIENT ID", "ADDRESS", "LANGUAGE", "VERSION"]);
    for one in connections {
        table.row([
            one.client_id.clone(),
            one.client_addr.clone(),
            one.language.clone(),
            version::name(one.version),
        ]);
    }
    table
}

fn subscriptions<'a>(all: impl IntoIterator<Item = &'a Subscription>) -> Table {
    let mut table = Table::new(["TOPIC", "TYPE", "EXPRESSION"]);
    for wanted in all {
        table.row([wanted.topic.clone(), wanted.expression_type.clone(), wanted.sub_string.clone()]);
    }
    table
}

impl Show for ConsumerConnection {
    fn show(&self, out: &mut Page) {
        out.table(&connections(&self.connection_set));
        out.heading("Subscriptions");
        out.table(&subscriptions(self.subscription_table.values()));
        out.blank();
        out.fields([
            ("Consume type:", or_dash(self.consume_type.map(|kind| kind.name()))),
            ("Message model:", or_dash(self.message_model.map(|model| model.name()))),
            ("Consume from:", or_dash(self.consume_from_where.map(|place| place.name()))),
        ]);
    }
}

impl Show for ProducerConnection {
    fn show(&self, out: &mut Page) {
        out.table(&connections(&self.connection_set));
    }
}

impl Show for ProducerTable {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["GROUP", "CLIENT ID", "ADDRESS", "LANGUAGE", "VERSION", "LAST HEARTBEAT"]);
        for (group, producers) in &self.data {
            for producer in producers {
                table.row([
                    group.clone(),
                    producer.client_id.clone(),
                    producer.remote_ip.clone(),
                    producer.language.clone(),
                    version::name(producer.version),
                    time::shown(producer.last_update_timestamp),
                ]);
            }
        }
        out.table(&table);
    }
}

impl Show for ConsumerStatus {
    fn show(&self, out: &mut Page) {
        match self.clients.as_slice() {
            [one] => details(out, one),
            many => overview(out, many),
        }
        out.blank();
        for warning in &self.warnings {
            out.line(format_args!("WARNING: {warning}"));
        }
        if self.warnings.is_empty() {
            out.line("No problems found.");
        }
    }
}

fn overview(out: &mut Page, clients: &[ClientStatus]) {
    let mut table = Table::new(["CLIENT ID", "VERSION", ">QUEUES", ">CACHED", "NOTE"]);
    for client in clients {
        let cached: i64 = client.queues.iter().map(|queue| i64::from(queue.state.cached_msg_count)).sum();
        table.row([
            client.client_id.clone(),
            client.version.clone(),
            client.queues.len().to_string(),
            cached.to_string(),
            client.error.clone().unwrap_or_default(),
        ]);
    }
    out.table(&table);
    out.blank();
    out.line("Details of one client: -i CLIENT_ID; of all: --output json");
}

fn details(out: &mut Page, client: &ClientStatus) {
    out.line(format_args!("{} {}", client.client_id, client.version));
    if let Some(error) = &client.error {
        out.line(format_args!("did not answer: {error}"));
        return;
    }
    out.heading("Properties");
    out.fields(&client.properties);
    out.heading("Subscriptions");
    out.table(&subscriptions(&client.subscriptions));
    out.heading("Queues");
    out.table(&queues(client));
    out.heading("Speed");
    out.table(&speed(client));
    if !client.user_info.is_empty() {
        out.heading("Values of the application");
        out.fields(&client.user_info);
    }
    if let Some(jstack) = &client.jstack {
        out.heading("Stack traces");
        out.lines(jstack.trim_end());
    }
}

fn queues(client: &ClientStatus) -> Table {
    let mut table = Table::new([
        "TOPIC",
        "BROKER",
        ">QUEUE",
        ">OFFSET",
        ">CACHED",
        "LOCKED",
        "LAST PULLED",
        "LAST CONSUMED",
    ]);
    for queue in &client.queues {
        table.row([
            queue.topic.clone(),
            queue.broker.clone(),
            queue.queue_id.to_string(),
            queue.state.commit_offset.to_string(),
            queue.state.cached_msg_count.to_string(),
            queue.state.locked.to_string(),
            time::shown(queue.state.last_pull_timestamp),
            time::shown(queue.state.last_consume_timestamp),
        ]);
    }
    table
}

fn speed(client: &ClientStatus) -> Table {
    let mut table = Table::new([
        "TOPIC",
        ">PULL MS",
        ">PULL TPS",
        ">CONSUME MS",
        ">OK TPS",
        ">FAILED TPS",
        ">FAILED IN AN HOUR",
    ]);
    for (topic, speed) in &client.speed {
        table.row([
            topic.clone(),
            format!("{:.2}", speed.pull_rt),
            format!("{:.2}", speed.pull_tps),
            format!("{:.2}", speed.consume_rt),
            format!("{:.2}", speed.consume_ok_tps),
            format!("{:.2}", speed.consume_failed_tps),
            speed.consume_failed_msgs.to_string(),
        ]);
    }
    table
}
