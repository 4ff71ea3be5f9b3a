//! A message's trace: the records that clients with tracing wrote to the trace topic.
//!
//! A trace message's body is a list of records, each ended by U+0002, their fields separated by U+0001. The first field is the kind;
//! which fields follow depends on it, and newer clients append to the end.

use std::time::Duration;

use client::{KeyQuery, Message, Producer, Queue, records};
use message::names;
use serde::Serialize;

use crate::message::body;
use crate::message::query::{Search, stored_by_key};
use crate::message::send::{Draft, SentMessage};
use crate::{Cluster, Error, time};

const RECORD_END: char = '\u{2}';
const FIELD_END: char = '\u{1}';
/// Producer group of traces.
const PRODUCER_GROUP: &str = "_INNER_TRACE_PRODUCER";

/// The trace of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The steps, in the order in which they were found.
    pub steps: Vec<TraceStep>,
}

/// One step of a trace.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceStep {
    /// `Pub`, `SubBefore`, `SubAfter`, `EndTransaction` or `Recall`.
    pub kind: String,
    /// The producer's or consumer's group; empty for older clients.
    pub group: String,
    /// The client's address.
    pub client_host: String,
    /// Time of the step, ms; 0 for older clients.
    pub timestamp: i64,
    /// How long it took, ms.
    pub cost_ms: i64,
    /// Whether it succeeded; absent if the step has no outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// The topic, if the step has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The message's tags; empty if it has none or the step does not name them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tags: String,
    /// The message's keys; empty if it has none or the step does not name them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub keys: String,
    /// The broker's address, if the step has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub store_host: String,
    /// Of a send: `normal`, `half`, `committed`, `delayed`, `ordered`, or the number of a kind that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<String>,
    /// Of a consumption: how many times the message was sent back before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_times: Option<i64>,
    /// Of the end of a transaction: `COMMIT_MESSAGE`, `ROLLBACK_MESSAGE` or `UNKNOW`, as clients spell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_state: Option<String>,
    /// Of the end of a transaction: whether it answers a check of the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_check: Option<bool>,
}

/// Kinds of messages by the number that a send's record has.
const MESSAGE_TYPES: [&str; 5] = ["normal", "half", "committed", "delayed", "ordered"];

/// The trace of a message, from a trace topic.
///
/// # Errors
/// [`Error::NotFound`] if there is none; [`Error::Call`] if the topic is unknown or a broker does not answer.
pub async fn by_id(cluster: &Cluster, query: KeyQuery<'_>) -> Result<Trace, Error> {
    let msg_id = query.key;
    let search = Search { query, cluster: None };
    let mut steps = Vec::new();
    for found in stored_by_key(cluster, &search).await? {
        for record in records(&found) {
            let record = record?;
            let text = String::from_utf8_lossy(&body::plain(&record).0).into_owned();
            steps.extend(parsed(&text, msg_id, &record.born_host.ip().to_string()));
        }
    }
    if steps.is_empty() {
        let why = "its clients may run without tracing (enableTrace), or the trace has not arrived yet";
        return Err(Error::NotFound(format!(
            "topic {} has no trace of {msg_id}: {why}",
            search.query.topic
        )));
    }
    steps.sort_by_key(|step| step.timestamp);
    Ok(Trace { steps })
}

/// The steps of one message in a trace message. Malformed records are skipped.
fn parsed(text: &str, msg_id: &str, client_host: &str) -> Vec<TraceStep> {
    text.split(RECORD_END)
        .filter_map(|record| step(record, msg_id, client_host))
        .collect()
}

fn step(record: &str, msg_id: &str, client_host: &str) -> Option<TraceStep> {
    let fields = Fields(record.split(FIELD_END).collect());
    let kind = fields.text(0);
    let common = |id: usize, group: usize, time: usize| {
        (fields.text(id) == msg_id).then(|| TraceStep {
            kind: kind.clone(),
            group: fields.text(group),
            client_host: client_host.to_owned(),
            timestamp: fields.number(time),
            ..TraceStep::default()
        })
    };
    let of_topic = |step: TraceStep| TraceStep {
        topic: Some(fields.text(4)),
        ..step
    };
    let of_message = |step: TraceStep| TraceStep {
        tags: fields.text(6),
        keys: fields.text(7),
        store_host: fields.text(8),
        ..of_topic(step)
    };
    let step = match kind.as_str() {
        "Pub" => {
            // With 13 fields there is no offset id yet before the outcome.
            let outcome = if fields.0.len() == 13 { 12 } else { 13 };
            let number = fields.number(11);
            let known = usize::try_from(number).ok().and_then(|number| MESSAGE_TYPES.get(number));
            TraceStep {
                cost_ms: fields.number(10),
                success: Some(fields.is_true(outcome)),
                message_type: Some(known.map_or_else(|| number.to_string(), |&name| name.to_owned())),
                ..of_message(common(5, 3, 1)?)
            }
        }
        "SubBefore" => TraceStep {
            retry_times: Some(fields.number(6)),
            keys: fields.text(7),
            ..common(5, 3, 1)?
        },
        "SubAfter" => TraceStep {
            cost_ms: fields.number(3),
            success: Some(fields.is_true(4)),
            keys: fields.text(5),
            ..common(2, 8, 7)?
        },
        "EndTransaction" => TraceStep {
            transaction_state: Some(fields.text(11)),
            from_check: Some(fields.is_true(12)),
            ..of_message(common(5, 3, 1)?)
        },
        "Recall" => TraceStep {
            success: Some(fields.is_true(6)),
            ..of_topic(common(5, 3, 1)?)
        },
        _ => return None,
    };
    Some(step)
}

/// The fields of a record. One that is missing is empty, 0 or false.
struct Fields<'a>(Vec<&'a str>);

impl Fields<'_> {
    /// Compat: clients write a value that a message does not have as `null`.
    fn text(&self, at: usize) -> String {
        let text = self.0.get(at).copied().unwrap_or_default();
        if text == "null" { String::new() } else { text.to_owned() }
    }

    fn number(&self, at: usize) -> i64 {
        self.0.get(at).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn is_true(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|&text| text == "true")
    }
}

/// Writes a send to the trace topic, like clients with tracing. If no broker has that topic yet, the trace goes to the broker of the
/// message, which creates the topic if automatic creation is on.
pub(crate) async fn publish(
    cluster: &Cluster,
    draft: &Draft<'_>,
    group: &str,
    took: Duration,
    sent: &SentMessage,
    queue: &Queue,
) -> Result<(), Error> {
    let record = published(draft, group, took, sent, time::now_ms());
    let keys = match draft.keys {
        Some(keys) => format!("{} {keys}", sent.msg_id),
        None => sent.msg_id.clone(),
    };
    let message = Message::new(names::TRACE_TOPIC, record).keys(&keys);
    let producer = Producer::new(cluster.client(), PRODUCER_GROUP);
    match producer.send(message.clone()).await {
        Err(client::Error::NoRoute { .. }) => {
            let first = Queue {
                topic: names::TRACE_TOPIC.into(),
                ..queue.with_id(0)
            };
            producer.send_to(&first, message).await?;
        }
        other => drop(other?),
    }
    Ok(())
}

fn published(draft: &Draft<'_>, group: &str, took: Duration, sent: &SentMessage, now_ms: i64) -> String {
    let took = took.as_millis() as i64;
    let (sent_at, took, size) = ((now_ms - took).to_string(), took.to_string(), draft.body.len().to_string());
    let fields = [
        "Pub",
        &sent_at,
        "DefaultRegion",
        group,
        draft.topic,
        &sent.msg_id,
        draft.tags.unwrap_or_default(),
        draft.keys.unwrap_or_default(),
        &sent.broker,
        &size,
        &took,
        // A normal message.
        "0",
        &sent.offset_msg_id,
        "true",
    ];
    let mut record = fields.join(&FIELD_END.to_string());
    record.push(RECORD_END);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_trace_is_read_back() {
        let draft = Draft {
            topic: "t",
            body: "hello",
            keys: None,
            tags: Some("A"),
            queue: None,
            traced: true,
        };
        let sent = SentMessage {
            broker: "b".to_owned(),
            queue_id: 0,
            queue_offset: 0,
            status: "SEND_OK",
            msg_id: "ID".to_owned(),
            offset_msg_id: "OFFSET".to_owned(),
        };
        let text = published(&draft, "g", Duration::from_millis(7), &sent, 1_007);
        let steps = parsed(&text, "ID", "1.2.3.4");
        assert_eq!((steps[0].timestamp, steps[0].cost_ms, steps[0].success), (1_000, 7, Some(true)));
        assert_eq!((steps[0].group.as_str(), steps[0].topic.as_deref()), ("g", Some("t")));
        assert_eq!((steps[0].message_type.as_deref(), steps[0].tags.as_str()), (Some("normal"), "A"));
        assert!(parsed(&text, "OTHER", "1.2.3.4").is_empty());
    }

    #[test]
    fn the_way_of_a_transactional_and_of_a_recalled_message_is_read() {
        let record = |fields: &[&str]| fields.join("\u{1}") + "\u{2}";
        let half = [
            "Pub",
            "10",
            "R",
            "pg",
            "t",
            "ID",
            "null",
            "k",
            "1.1.1.1:1",
            "5",
            "3",
            "1",
            "OFF",
            "true",
            "c@1",
        ];
        let end = [
            "EndTransaction",
            "20",
            "R",
            "pg",
            "t",
            "ID",
            "null",
            "k",
            "1.1.1.1:1",
            "2",
            "TX",
            "COMMIT_MESSAGE",
            "true",
        ];
        let before = ["SubBefore", "30", "R", "cg", "REQ", "ID", "2", "k"];
        let recall = ["Recall", "40", "R", "pg", "t", "ID", "false"];
        let text = record(&half) + &record(&end) + &record(&before) + &record(&recall);
        let steps = parsed(&text, "ID", "h");
        assert_eq!(steps.len(), 4);
        assert_eq!((steps[0].message_type.as_deref(), steps[0].tags.as_str()), (Some("half"), ""));
        assert_eq!(
            (steps[1].transaction_state.as_deref(), steps[1].from_check),
            (Some("COMMIT_MESSAGE"), Some(true))
        );
        assert_eq!((steps[2].retry_times, steps[2].keys.as_str()), (Some(2), "k"));
        assert_eq!((steps[3].success, steps[3].topic.as_deref()), (Some(false), Some("t")));
    }

    #[test]
    fn steps_of_old_and_new_consumers_are_read_and_malformed_ones_skipped() {
        let text = "SubAfter\u{1}R\u{1}ID\u{1}12\u{1}true\u{1}k\u{1}0\u{1}99\u{1}g\u{2}SubAfter\u{1}R\u{1}ID\u{1}3\u{1}false\u{1}k\u{2}?\u{1}\u{2}";
        let steps = parsed(text, "ID", "h");
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].cost_ms, steps[0].success, steps[0].timestamp), (12, Some(true), 99));
        assert_eq!((steps[1].group.as_str(), steps[1].success), ("", Some(false)));
    }
}
