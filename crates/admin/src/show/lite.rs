//! Lite topics.

use super::{Page, Show, Table};
use crate::lite::{Brokers, Client, Lag, Parent, Topic};
use crate::time;
use protocol::lite::LiteLag;
use std::collections::BTreeSet;

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl Show for Brokers {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new([
            "BROKER",
            "STORE",
            ">MAX LMQ",
            ">LMQ",
            ">SUBSCRIPTIONS",
            ">IN FLIGHT",
            ">CQ TABLE",
            ">OFFSETS",
            ">CLIENTS READY",
        ]);
        for at in &self.brokers {
            table.row([
                at.broker.clone(),
                at.info.store_type.clone(),
                at.info.max_lmq_num.to_string(),
                at.info.current_lmq_num.to_string(),
                at.info.lite_subscription_count.to_string(),
                at.info.order_info_count.to_string(),
                at.info.cq_table_size.to_string(),
                at.info.offset_table_size.to_string(),
                at.info.event_map_size.to_string(),
            ]);
        }
        out.table(&table);
        if !self.with_detail {
            return;
        }
        let mut table = Table::new(["BROKER", "PARENT TOPIC", ">EXPIRES AFTER MINUTES", "GROUPS"]);
        for at in &self.brokers {
            for (topic, minutes) in &at.info.topic_meta {
                let groups = at.info.group_meta.get(topic).map(listed).unwrap_or_default();
                table.row([at.broker.clone(), topic.clone(), minutes.to_string(), groups]);
            }
        }
        out.blank();
        out.table(&table);
    }
}

impl Show for Parent {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["BROKER", ">EXPIRES AFTER MINUTES", ">LITE TOPICS", ">LMQ", "GROUPS"]);
        for at in &self.brokers {
            table.row([
                at.broker.clone(),
                at.info.ttl.to_string(),
                at.info.lite_topic_count.to_string(),
                at.info.lmq_num.to_string(),
                at.info.groups.as_ref().map(listed).unwrap_or_default(),
            ]);
        }
        out.table(&table);
    }
}

impl Show for Topic {
    fn show(&self, out: &mut Page) {
        out.line(format_args!("Queue: {}", message::text::line(&self.queue)));
        let mut table = Table::new(["BROKER", ">MIN", ">MAX", "LAST MESSAGE", "HERE", ">SUBSCRIBERS"]);
        for at in &self.brokers {
            table.row([
                at.broker.clone(),
                at.info.topic_offset.min_offset.to_string(),
                at.info.topic_offset.max_offset.to_string(),
                time::shown(at.info.topic_offset.last_update_timestamp),
                at.info.sharding_to_broker.to_string(),
                at.info.subscriber.len().to_string(),
            ]);
        }
        out.table(&table);
        if !self.with_clients {
            return;
        }
        let mut table = Table::new(["BROKER", "GROUP", "CLIENT"]);
        for at in &self.brokers {
            for subscriber in &at.info.subscriber {
                table.row([at.broker.clone(), subscriber.group.clone(), subscriber.client_id.clone()]);
            }
        }
        out.blank();
        out.table(&table);
    }
}

impl Show for Client {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["BROKER", ">LITE TOPICS", "LAST ASKED", "LAST RECEIVED"]);
        for at in &self.brokers {
            let count = at.info.lite_topic_count;
            table.row([
                at.broker.clone(),
                if count < 0 { "-".to_owned() } else { count.to_string() },
                time::shown(at.info.last_access_time),
                time::shown(at.info.last_consume_time),
            ]);
        }
        out.table(&table);
        if !self.with_topics {
            return;
        }
        let mut table = Table::new(["BROKER", "QUEUE"]);
        for at in &self.brokers {
            for queue in at.info.lite_topic_set.iter().flatten() {
                table.row([at.broker.clone(), queue.clone()]);
            }
        }
        out.blank();
        out.table(&table);
    }
}

fn lags(out: &mut Page, title: &str, lags: &[LiteLag]) {
    if lags.is_empty() {
        return;
    }
    let mut table = Table::new(["LITE TOPIC", ">LAG", "FIRST MESSAGE"]);
    for lag in lags {
        table.row([
            lag.lite_topic.clone(),
            lag.lag_count.to_string(),
            time::shown(lag.earliest_unconsumed_timestamp),
        ]);
    }
    out.blank();
    out.line(title);
    out.table(&table);
}

impl Show for Lag {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["BROKER", ">BROKER OFFSET", ">CONSUMER OFFSET", ">LAG", "LAST CONSUMED"]);
        for at in &self.brokers {
            if let Some(offset) = &at.info.lite_topic_offset_wrapper {
                table.row([
                    at.broker.clone(),
                    offset.broker_offset.to_string(),
                    offset.consumer_offset.to_string(),
                    at.info.total_lag_count.to_string(),
                    time::shown(offset.last_timestamp),
                ]);
            }
        }
        if !table.is_empty() {
            out.table(&table);
            out.blank();
        }
        out.line(format_args!("Lag total: {}", self.total));
        if let Some(at) = self.earliest_ms {
            out.line(format_args!("First message that is not consumed: {}", time::shown(at)));
        }
        lags(out, "Lite topics with the most messages that are not consumed:", &self.by_count);
        lags(out, "Lite topics whose messages wait longest:", &self.by_time);
    }
}
