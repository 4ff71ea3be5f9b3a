//! Progress of groups and offset resets.

use super::{Page, Show, Table, or_dash};
use crate::monitor::Round;
use crate::offset::reset::ResetDone;
use crate::offset::{BrokerProgress, GroupProgress, GroupSummaries};
use crate::time;

impl Show for GroupProgress {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new([
            "TOPIC",
            "BROKER",
            ">QUEUE",
            ">BROKER OFFSET",
            ">CONSUMER OFFSET",
            ">DIFF",
            ">INFLIGHT",
            "LAST CONSUMED",
            "CLIENT",
        ]);
        for queue in &self.queues {
            table.row([
                queue.topic.clone(),
                queue.broker.clone(),
                queue.queue_id.to_string(),
                queue.broker_offset.to_string(),
                queue.consumer_offset.to_string(),
                queue.diff.to_string(),
                queue.inflight.to_string(),
                time::shown(queue.last_timestamp),
                queue.client.clone().unwrap_or_default(),
            ]);
        }
        out.table(&table);
        out.blank();
        out.line(format_args!("Consume TPS: {:.2}", self.consume_tps));
        out.line(format_args!("Diff total: {}", self.diff_total));
        out.line(format_args!("Inflight total: {}", self.inflight_total));
        for queue in &self.queues {
            if let Some(count) = queue.damaged {
                out.line(format_args!(
                    "Damaged: {count} messages of {} {} {} were skipped since the broker started; its log names them, apogeemq store check finds them",
                    queue.topic, queue.broker, queue.queue_id
                ));
            }
        }
    }
}

impl Show for GroupSummaries {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["GROUP", ">MEMBERS", "VERSION", "TYPE", "MODEL", ">TPS", ">DIFF TOTAL"]);
        for group in &self.groups {
            table.row([
                group.group.clone(),
                group.members.to_string(),
                group.version.clone().unwrap_or_else(|| "OFFLINE".to_owned()),
                or_dash(group.consume_type.map(|kind| kind.name().trim_start_matches("CONSUME_"))),
                or_dash(group.message_model.map(|model| model.name())),
                format!("{:.2}", group.consume_tps),
                group.diff_total.to_string(),
            ]);
        }
        out.table(&table);
    }
}

impl Show for BrokerProgress {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new([
            "TOPIC",
            "GROUP",
            "BROKER",
            ">QUEUE",
            ">BROKER OFFSET",
            ">CONSUMER OFFSET",
            ">DIFF",
            "LAST CONSUMED",
        ]);
        for row in &self.queues {
            let queue = &row.progress;
            table.row([
                queue.topic.clone(),
                row.group.clone(),
                queue.broker.clone(),
                queue.queue_id.to_string(),
                queue.broker_offset.to_string(),
                queue.consumer_offset.to_string(),
                queue.diff.to_string(),
                time::shown(queue.last_timestamp),
            ]);
        }
        out.table(&table);
        out.blank();
        out.line(format_args!("Diff total: {}", self.diff_total));
    }
}

impl Show for ResetDone {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["BROKER", ">QUEUE", ">BEFORE", ">OFFSET"]);
        for queue in &self.queues {
            table.row([
                queue.broker.clone(),
                queue.queue_id.to_string(),
                or_dash(queue.before),
                queue.offset.to_string(),
            ]);
        }
        out.table(&table);
        if !self.running_consumers {
            out.blank();
            out.line("No consumer of the group is connected; its offsets were set.");
        }
    }
}

impl Show for Round {
    fn show(&self, out: &mut Page) {
        out.line(format_args!("{}", time::shown(self.timestamp)));
        let mut table = Table::new(["GROUP", "TOPIC", ">LEFT", ">LEFT IN ONE QUEUE", ">DELAY MS"]);
        for undone in &self.undone {
            table.row([
                undone.consumer_group.clone(),
                undone.topic.clone(),
                undone.total.to_string(),
                undone.single_queue.to_string(),
                undone.delay_ms.to_string(),
            ]);
        }
        if !table.is_empty() {
            out.table(&table);
        }
        for warning in &self.warnings {
            out.line(format_args!("WARNING: {warning}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset::reset::QueueReset;

    #[test]
    fn a_reset_without_consumers_says_so() {
        let mut done = ResetDone {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            running_consumers: true,
            queues: vec![QueueReset {
                broker: "b".to_owned(),
                queue_id: 3,
                before: None,
                offset: 40,
            }],
        };
        assert_eq!(done.shown(), "BROKER  QUEUE  BEFORE  OFFSET\nb           3       -      40\n");
        done.running_consumers = false;
        assert!(
            done.shown()
                .ends_with("\nNo consumer of the group is connected; its offsets were set.\n")
        );
    }
}
