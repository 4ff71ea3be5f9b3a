//! From a stored record to a message of this protocol.

use super::{BORN_HOST, SHARDING_KEY, TRACE_CONTEXT, is_reserved, kind_of};
use crate::time::{to_duration, to_timestamp};
use crate::v2::{DeadLetterQueue, Digest, DigestType, Encoding, Message, Resource, SystemProperties};
use ::message::record::Record;
use ::message::{id, properties, sys_flag};
use bytes::Bytes;
use md5::Md5;
use md5::digest::Digest as _;
use std::collections::BTreeMap;

/// What is shown of a message beside its record.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The topic that the client reads; of a retried message its own topic, not the retry topic.
    pub(crate) topic: String,
    pub(crate) receipt_handle: Option<String>,
    pub(crate) invisible_ms: Option<i64>,
    /// How often it is handed out with this, from 1; without it the record says it.
    pub(crate) attempt: Option<i32>,
}

/// A message. Its body is copied: what a client does not read must not keep the memory of the log.
pub(crate) fn of_record(record: &Record<'_>, shown: Shown) -> Message {
    let mut system = SystemProperties {
        body_digest: Some(Digest {
            r#type: DigestType::Md5.into(),
            checksum: hexadecimal(&Md5::digest(record.body)),
        }),
        body_encoding: encoding(record).into(),
        born_timestamp: Some(to_timestamp(record.born_timestamp)),
        store_timestamp: Some(to_timestamp(record.store_timestamp)),
        store_host: record.store_host.to_string(),
        receipt_handle: shown.receipt_handle,
        queue_id: record.queue_id,
        queue_offset: Some(record.queue_offset.0),
        invisible_duration: shown.invisible_ms.map(to_duration),
        delivery_attempt: Some(shown.attempt.unwrap_or(record.reconsume_times.saturating_add(1))),
        ..SystemProperties::default()
    };
    let mut own = BTreeMap::new();
    let mut seen = Seen::default();
    for (name, value) in properties::texts(record.properties) {
        note(&mut system, &mut seen, &name, &value);
        if !is_reserved(&name) {
            own.insert(name.into_owned(), value.into_owned());
        }
    }
    if system.message_id.is_empty() {
        system.message_id = id::offset_id(record.store_host, record.log_offset);
    }
    if system.born_host.is_empty() {
        system.born_host = record.born_host.ip().to_string();
    }
    if let (Some(topic), Some(message_id)) = (seen.dead_topic, seen.dead_id) {
        system.dead_letter_queue = Some(DeadLetterQueue { topic, message_id });
    }
    system.message_type = kind_of(seen.is_transaction, seen.is_delayed, &system).into();
    Message {
        topic: Some(Resource {
            name: shown.topic,
            ..Resource::default()
        }),
        user_properties: own,
        system_properties: Some(system),
        body: Bytes::copy_from_slice(record.body),
    }
}

/// What the properties say that is needed at the end.
#[derive(Default)]
struct Seen {
    is_transaction: bool,
    is_delayed: bool,
    dead_topic: Option<String>,
    dead_id: Option<String>,
}

fn note(system: &mut SystemProperties, seen: &mut Seen, name: &str, value: &str) {
    let text = || value.to_owned();
    match name {
        properties::TAGS => system.tag = Some(text()),
        properties::KEYS => system.keys = value.split(' ').filter(|key| !key.is_empty()).map(str::to_owned).collect(),
        properties::UNIQ_KEY => system.message_id = text(),
        SHARDING_KEY => system.message_group = Some(text()),
        properties::LITE_TOPIC => system.lite_topic = Some(text()),
        TRACE_CONTEXT => system.trace_context = Some(text()),
        BORN_HOST => system.born_host = text(),
        properties::PRIORITY => system.priority = value.parse().ok().filter(|priority: &i32| *priority >= 0),
        properties::TIMER_DELIVER_MS => {
            seen.is_delayed = true;
            system.delivery_timestamp = value.parse().ok().map(to_timestamp);
        }
        properties::DELAY | properties::TIMER_DELAY_SEC | properties::TIMER_DELAY_MS => seen.is_delayed = true,
        properties::TRANSACTION_PREPARED => seen.is_transaction = value.eq_ignore_ascii_case("true"),
        properties::DLQ_ORIGIN_TOPIC => seen.dead_topic = Some(text()),
        properties::DLQ_ORIGIN_MESSAGE_ID => seen.dead_id = Some(text()),
        _ => {}
    }
}

fn encoding(record: &Record<'_>) -> Encoding {
    match record.sys_flag & sys_flag::COMPRESSED {
        0 => Encoding::Identity,
        _ => Encoding::Gzip,
    }
}

/// Compat: in upper case, as clients compare it.
fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
