//! Records of the revive topic, and copies of messages for the retry topic.
//!
//! Compat: Apache's broker delivers its records into the revive topic through its timer, when they are due. Ours are written there at once:
//! its revive service waits for the time in the record's body, and its own clock of the topic, the property `TIMER_DELIVER_MS`, is the time
//! of writing, so it revives nothing early.

use super::in_flight::Job;
use crate::delay::clock::Moment;
use bytes::{Bytes, BytesMut};
use message::names;
use message::properties::{self, Builder};
use message::record::{Draft, Placement, Record};
use protocol::json;
use protocol::pop::records::{ACK_TAG, Ack, BATCH_ACK_TAG, CHECK_POINT_TAG, CheckPoint};
use std::net::SocketAddr;

/// Compat: separates the parts of a record's unique key.
const SEPARATOR: char = '@';
/// When a message was popped for the first time, epoch ms.
const FIRST_POP_TIME: &str = "1ST_POP_TIME";
/// The group that popped a message of a retry topic.
const ORIGIN_GROUP: &str = "ORIGIN_GROUP";

/// The revive topic of a cluster.
pub(super) fn topic(cluster: &str) -> String {
    format!("{}{cluster}", names::REVIVE_TOPIC_PREFIX)
}

/// A record of the revive topic.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) body: Vec<u8>,
    pub(super) properties: Vec<u8>,
}

impl Written {
    fn new(body: Vec<u8>, tag: &str, uniq_key: &str, now_ms: i64) -> Self {
        let properties = Builder::new()
            .with(properties::TAGS, tag)
            .with(properties::TIMER_DELIVER_MS, &now_ms.to_string())
            .with(properties::UNIQ_KEY, uniq_key)
            .build();
        Self { body, properties }
    }

    /// The record of a check point.
    pub(super) fn point(job: &Job, broker: &str, now: Moment) -> Self {
        let now_ms = now.wall_ms;
        let point = CheckPoint {
            holder: job.lease.as_ref().map(|lease| lease.holder.client().to_owned()),
            held_until: job
                .lease
                .as_ref()
                .map(|lease| lease.until.saturating_sub(now.steady_ms).saturating_add(now_ms)),
            bit_map: job.acked as i32,
            broker_name: Some(broker.to_owned()),
            group: Some(job.group.to_string()),
            distances: Some(
                job.offsets
                    .iter()
                    .map(|offset| i32::try_from(offset - job.key.start).unwrap_or(i32::MAX))
                    .collect(),
            ),
            invisible_time: job.invisible_ms,
            count: job.offsets.len() as i8,
            pop_time: job.key.pop_time,
            queue_id: job.queue_id,
            revive_offset: 0,
            put_again: None,
            start: job.key.start,
            suspend: job.suspend,
            topic: Some(job.topic.to_string()),
        };
        let key = unique_key(job, &job.key.start.to_string(), Some(broker), CHECK_POINT_TAG);
        Self::new(json::write(&point), CHECK_POINT_TAG, &key, now_ms)
    }

    /// The record of acknowledged messages of a check point.
    pub(super) fn acks(job: &Job, bits: u32, broker: &str, now_ms: i64) -> Self {
        let offsets: Vec<i64> = job.of(bits).collect();
        let listed = format!("{offsets:?}");
        let ack = Ack {
            offset: 0,
            offsets: Some(offsets),
            broker_name: Some(broker.to_owned()),
            group: Some(job.group.to_string()),
            pop_time: job.key.pop_time,
            queue_id: job.queue_id,
            start: job.key.start,
            topic: Some(job.topic.to_string()),
        };
        let key = unique_key(job, &listed, None, BATCH_ACK_TAG);
        Self::new(json::write(&ack), BATCH_ACK_TAG, &key, now_ms)
    }

    pub(super) fn draft<'a>(&'a self, topic: &'a str, revive_queue: u16, host: SocketAddr, now_ms: i64) -> Draft<'a> {
        Draft {
            born_timestamp: now_ms,
            born_host: host,
            store_host: host,
            properties: &self.properties,
            ..Draft::new(topic, i32::from(revive_queue), &self.body)
        }
    }
}

fn unique_key(job: &Job, offsets: &str, broker: Option<&str>, tag: &str) -> String {
    let Job {
        topic, group, queue_id, ..
    } = job;
    let mut key = format!(
        "{topic}{SEPARATOR}{queue_id}{SEPARATOR}{offsets}{SEPARATOR}{group}{SEPARATOR}{}",
        job.key.pop_time
    );
    for part in broker.into_iter().chain([tag]) {
        key.push(SEPARATOR);
        key.push_str(part);
    }
    key
}

/// What a record of the revive topic says.
#[derive(Debug)]
pub(super) enum Read {
    Point(CheckPoint),
    Acks(Ack),
}

/// Reads a record of the revive topic; the text says why it cannot be read.
pub(super) fn parse(record: &Record<'_>) -> Result<Read, String> {
    let tag = properties::text(record.properties, properties::TAGS).unwrap_or_default();
    let read = match &*tag {
        CHECK_POINT_TAG => json::read(record.body).map(Read::Point),
        ACK_TAG | BATCH_ACK_TAG => json::read(record.body).map(Read::Acks),
        other => return Err(format!("it has the tag '{}'", message::text::brief(other))),
    };
    read.map_err(|error| error.to_string())
}

/// Queue offset of a stored record.
pub(super) fn queue_offset(record: &[u8]) -> i64 {
    let bytes = record.get(20..28).and_then(|bytes| bytes.try_into().ok());
    debug_assert!(bytes.is_some(), "the store returns whole records");
    bytes.map_or(0, i64::from_be_bytes)
}

/// A record of a retry topic as one of the first topic, with its handle.
pub(super) fn as_of_topic(bytes: &Bytes, topic: &str, handle: &str) -> Bytes {
    let Ok(record) = Record::parse(bytes) else { return bytes.clone() };
    let properties = Builder::from_bytes(record.properties).with(properties::POP_CK, handle).build();
    if properties.len() > properties::MAX_BYTES {
        // Without its handle: the client makes one of the answer's fields.
        return bytes.clone();
    }
    let draft = Draft {
        topic,
        properties: &properties,
        ..Draft::of(&record)
    };
    let place = Placement {
        queue_offset: record.queue_offset,
        log_offset: record.log_offset,
        store_timestamp: record.store_timestamp,
    };
    let mut out = BytesMut::with_capacity(draft.encoded_len());
    draft.encode(place, &mut out);
    out.freeze()
}

/// The properties of a message that is stored again.
pub(super) fn retried_properties(record: &Record<'_>, group: &str, pop_time: i64) -> Vec<u8> {
    let first = properties::find(record.properties, FIRST_POP_TIME).filter(|_| record.reconsume_times > 0);
    let first = first.map_or_else(|| pop_time.to_string().into_bytes(), <[u8]>::to_vec);
    let built = Builder::from_bytes_without(record.properties, &[FIRST_POP_TIME, ORIGIN_GROUP, properties::POP_CK])
        .with(FIRST_POP_TIME, &first)
        .with(ORIGIN_GROUP, group)
        .build();
    if built.len() > properties::MAX_BYTES {
        return record.properties.to_vec();
    }
    built
}

#[cfg(test)]
mod tests {
    use super::super::in_flight::Task;
    use super::super::point::Key;
    use super::*;
    use message::{LogOffset, QueueOffset, hash};

    fn job() -> Job {
        Job {
            id: 0,
            task: Task::Write,
            key: Key {
                queue: 0,
                start: 100,
                pop_time: 17,
            },
            topic: "t".into(),
            group: "g".into(),
            queue_id: 2,
            revive_queue: 3,
            invisible_ms: 60_000,
            offsets: [101, 105].into_iter().collect(),
            acked: 2,
            saved: 0,
            is_written: false,
            lease: None,
            suspend: true,
        }
    }

    fn stored(draft: &Draft<'_>, queue_offset: i64) -> Bytes {
        let place = Placement {
            queue_offset: QueueOffset(queue_offset),
            log_offset: LogOffset(77),
            store_timestamp: 5,
        };
        let mut out = BytesMut::new();
        draft.encode(place, &mut out);
        out.freeze()
    }

    #[test]
    fn records_are_read_back() {
        let host = SocketAddr::from(([127, 0, 0, 1], 10_911));
        let holder = std::sync::Arc::new(crate::clients::Holder::new("g", "c", 30_000, 0));
        let job_of_holder = Job {
            lease: Some(crate::clients::Lease { holder, until: 5_500 }),
            ..job()
        };
        let now = Moment {
            wall_ms: 1_000,
            steady_ms: 500,
        };
        let written = Written::point(&job_of_holder, "b", now);
        let bytes = stored(&written.draft("rmq_sys_REVIVE_LOG_c", 3, host, 1_000), 9);
        assert_eq!(queue_offset(&bytes), 9);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(
            properties::text(record.properties, properties::UNIQ_KEY).unwrap(),
            "t@2@100@g@17@b@ck"
        );
        let Ok(Read::Point(point)) = parse(&record) else {
            panic!("{record:?}")
        };
        assert_eq!((point.holder.as_deref(), point.held_until), (Some("c"), Some(6_000)));
        let unheld = Written::point(&job(), "b", now);
        assert!(
            !String::from_utf8_lossy(&unheld.body).contains("apogee"),
            "the record of Apache's broker"
        );
        assert_eq!((point.offsets(), point.bit_map, point.suspend), (vec![101, 105], 2, true));
        let written = Written::acks(&job(), 1, "b", 1_000);
        let bytes = stored(&written.draft("rmq_sys_REVIVE_LOG_c", 3, host, 1_000), 10);
        let Ok(Read::Acks(acks)) = parse(&Record::parse(&bytes).unwrap()) else {
            panic!()
        };
        assert!(acks.acknowledged().eq([101]) && acks.start == 100);
    }

    #[test]
    fn a_record_that_is_none_says_why() {
        let other = Draft {
            properties: b"TAGS\x01x\x02",
            ..Draft::new("t", 0, b"{}")
        };
        assert!(parse(&Record::parse(&stored(&other, 0)).unwrap()).unwrap_err().contains("tag 'x'"));
        let broken = Draft {
            properties: b"TAGS\x01ck\x02",
            ..Draft::new("t", 0, b"[")
        };
        assert!(parse(&Record::parse(&stored(&broken, 0)).unwrap()).is_err());
    }

    #[test]
    fn a_retried_message_looks_like_one_of_its_topic() {
        let retried = Draft {
            properties: b"TAGS\x01a\x02",
            reconsume_times: 2,
            ..Draft::new("%RETRY%g_t", 0, b"body")
        };
        let shown = as_of_topic(&stored(&retried, 4), "t", "1 2 3 4 1 b 0 4");
        let record = Record::parse(&shown).unwrap();
        assert_eq!((record.topic, record.queue_offset.0, record.log_offset.0), ("t", 4, 77));
        assert_eq!((record.body, record.reconsume_times), (&b"body"[..], 2));
        assert_eq!(properties::text(record.properties, properties::POP_CK).unwrap(), "1 2 3 4 1 b 0 4");
        assert_eq!(
            hash::tags_code("a"),
            hash::tags_code(&properties::text(record.properties, properties::TAGS).unwrap())
        );
    }

    #[test]
    fn a_retry_keeps_when_its_message_was_popped_first() {
        let first = stored(&Draft::new("t", 0, b""), 0);
        let built = retried_properties(&Record::parse(&first).unwrap(), "g", 17);
        assert_eq!(built, b"1ST_POP_TIME\x0117\x02ORIGIN_GROUP\x01g\x02");
        let again = Draft {
            reconsume_times: 1,
            properties: &built,
            ..Draft::new("%RETRY%g_t", 0, b"")
        };
        let again = stored(&again, 0);
        assert_eq!(retried_properties(&Record::parse(&again).unwrap(), "g", 99), built);
    }
}
