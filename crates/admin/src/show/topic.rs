//! Topics, groups, and changes.

use protocol::group::GroupConfig;
use protocol::route::TopicRoute;

use super::{Page, Show, Table, or_dash};
use crate::change::Changes;
use crate::group::GroupSettings;
use crate::static_topic::StaticTopicChange;
use crate::stats::Traffic;
use crate::time;
use crate::topic::order::OrderConf;
use crate::topic::state::{Allocation, ClusterNames, TopicNames, TopicState, TopicUses};

impl Show for Changes {
    fn show(&self, out: &mut Page) {
        for change in &self.changes {
            match &change.error {
                None => out.line(format_args!("ok      {}  {}", change.at, change.step)),
                Some(error) => out.line(format_args!("FAILED  {}  {}: {error}", change.at, change.step)),
            }
        }
        if self.changes.is_empty() {
            out.line("nothing to do");
        }
    }
}

impl Show for StaticTopicChange {
    fn show(&self, out: &mut Page) {
        if let Some(before) = &self.before {
            // Compat: mqadmin's words.
            out.line(format_args!("The old mapping data is written to file {}", before.display()));
            out.line(format_args!("The new mapping data is written to file {}", self.after.display()));
        }
        self.changes.show(out);
        if self.changes.failed() > 0 {
            out.line(format_args!("Repeat the rest with -mf {}", self.after.display()));
        }
    }
}

impl Show for TopicNames {
    fn show(&self, out: &mut Page) {
        self.topics.iter().for_each(|topic| out.line(topic));
    }
}

impl Show for ClusterNames {
    fn show(&self, out: &mut Page) {
        self.clusters.iter().for_each(|cluster| out.line(cluster));
    }
}

impl Show for TopicUses {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["CLUSTER", "TOPIC", "CONSUMER GROUP"]);
        for topic in &self.topics {
            let clusters = topic.clusters.join(",");
            for group in &topic.groups {
                table.row([clusters.clone(), topic.topic.clone(), group.clone()]);
            }
            if topic.groups.is_empty() {
                table.row([clusters, topic.topic.clone(), String::new()]);
            }
        }
        out.table(&table);
    }
}

impl Show for TopicRoute {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["CLUSTER", "BROKER", "ADDRESSES", ">READ QUEUES", ">WRITE QUEUES", ">PERM"]);
        for broker in &self.broker_datas {
            let addresses: Vec<_> = broker.broker_addrs.iter().map(|(id, address)| format!("{id}={address}")).collect();
            let queues = self.queue_datas.iter().find(|data| data.broker_name == broker.broker_name);
            table.row([
                broker.cluster.clone(),
                broker.broker_name.clone(),
                addresses.join(" "),
                or_dash(queues.map(|data| data.read_queue_nums)),
                or_dash(queues.map(|data| data.write_queue_nums)),
                or_dash(queues.map(|data| data.perm)),
            ]);
        }
        out.table(&table);
        let mut logical = Table::new([">LOGICAL QUEUE", "BROKER", ">QUEUE", ">EPOCH"]);
        let mappings = self.topic_queue_mapping_by_broker.iter().flatten();
        let led = mappings.flat_map(|(broker, mapping)| {
            mapping
                .curr_id_map
                .iter()
                .map(move |(id, queue)| (id, broker, queue, mapping.epoch))
        });
        let mut led: Vec<_> = led.collect();
        led.sort();
        for (id, broker, queue, epoch) in led {
            logical.row([id.to_string(), broker.clone(), queue.to_string(), epoch.to_string()]);
        }
        if !logical.is_empty() {
            out.blank();
            out.table(&logical);
        }
        if let Some(conf) = &self.order_topic_conf {
            out.blank();
            out.line(format_args!("Order configuration: {conf}"));
        }
    }
}

impl Show for TopicState {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["BROKER", ">QUEUE", ">MIN OFFSET", ">MAX OFFSET", "LAST UPDATED"]);
        for queue in &self.queues {
            table.row([
                queue.broker.clone(),
                queue.queue_id.to_string(),
                queue.min_offset.to_string(),
                queue.max_offset.to_string(),
                time::shown_exactly(queue.last_update_timestamp),
            ]);
        }
        out.table(&table);
        out.blank();
        out.line(format_args!("Put TPS: {:.2}", self.put_tps));
    }
}

impl Show for Allocation {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["CONSUMER", "BROKER", ">QUEUE"]);
        for (consumer, queues) in &self.result {
            for queue in queues {
                table.row([consumer.clone(), queue.broker_name.clone(), queue.queue_id.to_string()]);
            }
            if queues.is_empty() {
                table.row([consumer.clone(), "-".to_owned(), "-".to_owned()]);
            }
        }
        out.table(&table);
    }
}

impl Show for OrderConf {
    fn show(&self, out: &mut Page) {
        out.line(&self.order_conf);
    }
}

impl Show for GroupSettings {
    fn show(&self, out: &mut Page) {
        for at in &self.brokers {
            out.heading(format_args!("{} {}", at.cluster, at.broker));
            out.fields(settings(&at.config));
        }
    }
}

/// Settings by their names in files and on the wire.
fn settings(config: &GroupConfig) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(members)) => members.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        _ => Vec::new(),
    }
}

impl Show for Traffic {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new([
            "TOPIC",
            "CONSUMER GROUP",
            ">ACCUMULATION",
            ">IN TPS",
            ">OUT TPS",
            ">IN 24H",
            ">OUT 24H",
        ]);
        for row in &self.topics {
            let consumed = row.group.is_some();
            let of_group = |text: String| if consumed { text } else { "-".to_owned() };
            table.row([
                row.topic.clone(),
                row.group.clone().unwrap_or_else(|| "(no consumer)".to_owned()),
                of_group(row.accumulation.to_string()),
                format!("{:.2}", row.in_tps),
                of_group(format!("{:.2}", row.out_tps)),
                row.in_24_hours.to_string(),
                of_group(row.out_24_hours.to_string()),
            ]);
        }
        out.table(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupAtBroker;
    use protocol::route::{BrokerData, QueueData};

    #[test]
    fn changes_show_which_step_failed_and_why() {
        let mut changes = Changes::default();
        changes.note("a:1", "create topic t", Ok(()));
        changes.note::<()>("b:1", "create topic t", Err(client::Error::Invalid("why".to_owned())));
        assert_eq!(changes.shown(), "ok      a:1  create topic t\nFAILED  b:1  create topic t: why\n");
        assert_eq!(Changes::default().shown(), "nothing to do\n");
    }

    #[test]
    fn a_route_shows_every_broker_with_its_queues() {
        let route = TopicRoute {
            broker_datas: vec![BrokerData {
                broker_addrs: [(0, "a:1".to_owned()), (1, "a:2".to_owned())].into(),
                broker_name: "b".to_owned(),
                cluster: "c".to_owned(),
                ..BrokerData::default()
            }],
            queue_datas: vec![QueueData {
                broker_name: "b".to_owned(),
                perm: 6,
                read_queue_nums: 8,
                write_queue_nums: 4,
                topic_sys_flag: 0,
            }],
            ..TopicRoute::default()
        };
        let expected = "CLUSTER  BROKER  ADDRESSES    READ QUEUES  WRITE QUEUES  PERM\n\
                        c        b       0=a:1 1=a:2            8             4     6\n";
        assert_eq!(route.shown(), expected);
    }

    #[test]
    fn group_settings_have_their_wire_names() {
        let settings = GroupSettings {
            brokers: vec![GroupAtBroker {
                cluster: "c".to_owned(),
                broker: "b".to_owned(),
                config: GroupConfig::new("g"),
            }],
        };
        let shown = settings.shown();
        assert!(shown.starts_with("c b\n"), "{shown}");
        assert!(shown.contains("retryMaxTimes                   16\n"), "{shown}");
    }
}
