//! Messages, their traces, queue entries, sends.

use protocol::diagnose::{ConsumeDirectlyReply, ConsumeQueueEntries};
use serde::Serialize;

use super::{Page, Show, Table, or_dash};
use crate::message::Found;
use crate::message::query::Messages;
use crate::message::read::QueueRead;
use crate::message::send::{RoundTrips, SentMessage};
use crate::message::trace::{Trace, TraceStep};
use crate::time;

impl Show for Found {
    fn show(&self, out: &mut Page) {
        let mut rows = vec![
            ("Message ID:", self.msg_id.clone()),
            ("Offset ID:", self.offset_msg_id.clone()),
            ("Topic:", self.topic.clone()),
            ("Tags:", or_dash(self.tags.as_deref())),
            ("Keys:", or_dash(self.keys.as_deref())),
            ("Queue:", self.queue_id.to_string()),
            ("Queue offset:", self.queue_offset.to_string()),
            ("Log offset:", self.commit_log_offset.to_string()),
            ("Reconsume times:", self.reconsume_times.to_string()),
            ("Born:", time::shown_exactly(self.born_timestamp)),
            ("Stored:", time::shown_exactly(self.store_timestamp)),
            ("Born host:", self.born_host.clone()),
            ("Store host:", self.store_host.clone()),
            ("System flag:", self.sys_flag.to_string()),
            ("Properties:", properties(self)),
        ];
        if let Some(body) = &self.body {
            rows.push(("Body:", body.shown()));
        }
        out.fields(rows);
        let Some(tracks) = &self.tracks else { return };
        out.blank();
        if tracks.is_empty() {
            out.line("No consumer group is known for the topic.");
            return;
        }
        let mut table = Table::new(["GROUP", "STATE", "NOTE"]);
        for track in tracks {
            table.row([
                track.consumer_group.clone(),
                track.state.name().to_owned(),
                track.note.clone().unwrap_or_default(),
            ]);
        }
        out.table(&table);
    }
}

fn properties(found: &Found) -> String {
    let pairs: Vec<_> = found.properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

/// A message in one line.
#[derive(Serialize)]
#[serde(transparent)]
pub struct MessageLine(pub Found);

impl Show for MessageLine {
    fn show(&self, out: &mut Page) {
        let Self(found) = self;
        let mut line = format!(
            "{}/{}  {}  {}  tags={} keys={}",
            found.queue_id,
            found.queue_offset,
            time::shown_exactly(found.store_timestamp),
            found.msg_id,
            or_dash(found.tags.as_deref()),
            or_dash(found.keys.as_deref()),
        );
        if let Some(body) = &found.body {
            line.push_str("  ");
            line.push_str(&body.shown());
        }
        out.line(line);
    }
}

impl Show for Messages {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["MESSAGE ID", ">QUEUE", ">OFFSET", "STORED", "OFFSET ID"]);
        for found in &self.messages {
            table.row([
                found.msg_id.clone(),
                found.queue_id.to_string(),
                found.queue_offset.to_string(),
                time::shown_exactly(found.store_timestamp),
                found.offset_msg_id.clone(),
            ]);
        }
        out.table(&table);
    }
}

impl Show for QueueRead {
    fn show(&self, out: &mut Page) {
        let Self {
            topic, broker, queue_id, ..
        } = self;
        out.line(format_args!(
            "{topic} {broker}/{queue_id}: {} messages in offsets from {} on, below {}",
            self.messages, self.from_offset, self.to_offset
        ));
        let Some(tags) = &self.tags else { return };
        let mut table = Table::new(["TAG", ">COUNT"]);
        let mut counts: Vec<_> = tags.iter().collect();
        counts.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
        for (tag, count) in counts {
            table.row([tag.clone(), count.to_string()]);
        }
        out.table(&table);
    }
}

impl Show for SentMessage {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["BROKER", ">QUEUE", ">OFFSET", "RESULT", "MESSAGE ID"]);
        table.row([
            self.broker.clone(),
            self.queue_id.to_string(),
            self.queue_offset.to_string(),
            self.status.to_owned(),
            self.msg_id.clone(),
        ]);
        out.table(&table);
    }
}

impl Show for RoundTrips {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["BROKER", ">QUEUE", "RESULT", ">MS"]);
        for send in &self.sends {
            table.row([
                send.broker.clone(),
                send.queue_id.to_string(),
                send.error.clone().unwrap_or_else(|| "ok".to_owned()),
                format!("{:.2}", send.ms),
            ]);
        }
        out.table(&table);
        out.blank();
        out.line(format_args!(
            "Average: {:.2} ms, {} succeeded, {} failed",
            self.average_ms, self.succeeded, self.failed
        ));
    }
}

impl Show for Trace {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["STEP", "GROUP", "CLIENT", "TIME", ">MS", "RESULT", "DETAIL"]);
        for step in &self.steps {
            let outcome = step.success.map(|success| if success { "success" } else { "failed" });
            table.row([
                step.kind.clone(),
                step.group.clone(),
                step.client_host.clone(),
                time::shown(step.timestamp),
                step.cost_ms.to_string(),
                or_dash(outcome),
                detail(step),
            ]);
        }
        out.table(&table);
    }
}

/// What only this kind of step has: the kind of message, how the transaction ended, the number of retries.
fn detail(step: &TraceStep) -> String {
    let kind = step.message_type.as_ref().map(|kind| format!("{kind} message"));
    let state = step.transaction_state.as_ref().map(|state| match step.from_check {
        Some(true) => format!("{state} after a check"),
        _ => state.clone(),
    });
    let retry = step.retry_times.filter(|&times| times > 0).map(|times| format!("retry {times}"));
    or_dash(kind.or(state).or(retry))
}

impl Show for ConsumeQueueEntries {
    fn show(&self, out: &mut Page) {
        out.line(format_args!(
            "Offsets from {} on, below {}",
            self.min_queue_index, self.max_queue_index
        ));
        if let Some(wanted) = &self.subscription_data {
            out.line(format_args!("Subscription: {} {}", wanted.expression_type, wanted.sub_string));
        }
        if let Some(filter) = &self.filter_data {
            out.line(format_args!("Filter: {filter}"));
        }
        let mut table = Table::new([">LOG OFFSET", ">SIZE", ">TAGS CODE", "MATCHES", "NOTE"]);
        for entry in self.queue_data.iter().flatten() {
            let note = [&entry.extend_data_json, &entry.bit_map, &entry.msg];
            table.row([
                entry.physic_offset.to_string(),
                entry.physic_size.to_string(),
                entry.tags_code.to_string(),
                entry.eval.to_string(),
                note.into_iter().flatten().cloned().collect::<Vec<_>>().join(" "),
            ]);
        }
        out.table(&table);
    }
}

impl Show for ConsumeDirectlyReply {
    fn show(&self, out: &mut Page) {
        out.fields([
            ("Result:", or_dash(self.consume_result.map(|result| result.name()))),
            ("Took:", format!("{} ms", self.spent_time_mills)),
            ("Ordered:", self.order.to_string()),
            ("Remark:", or_dash(self.remark.as_deref())),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::send::RoundTrip;
    use std::collections::BTreeMap;

    #[test]
    fn tags_are_sorted_by_their_counts() {
        let read = QueueRead {
            topic: "t".to_owned(),
            broker: "b".to_owned(),
            queue_id: 1,
            from_offset: 5,
            to_offset: 9,
            messages: 4,
            tags: Some(BTreeMap::from([("A".to_owned(), 1), ("B".to_owned(), 3)])),
        };
        assert_eq!(
            read.shown(),
            "t b/1: 4 messages in offsets from 5 on, below 9\nTAG  COUNT\nB        3\nA        1\n"
        );
    }

    #[test]
    fn round_trips_end_with_their_average() {
        let trips = RoundTrips {
            sends: vec![RoundTrip {
                broker: "b".to_owned(),
                queue_id: 0,
                ms: 1.5,
                error: None,
            }],
            succeeded: 1,
            failed: 0,
            average_ms: 0.0,
        };
        assert!(trips.shown().ends_with("\nAverage: 0.00 ms, 1 succeeded, 0 failed\n"));
    }
}
