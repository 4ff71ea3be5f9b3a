//! Whether a message was delivered before a crash, though the saved offset does not say so.
//!
//! `delayOffset.json` is saved every few seconds; what was delivered since would be delivered twice after a crash (and is, by
//! Apache). But the log has the deliveries: a delivered record is the waiting one with another topic and queue, its properties
//! to the byte but for the time it waited for, and the key index finds it by its unique key. So before the first delivery of a level after a start its
//! messages are looked up one after the other, until one is found that was not delivered: all after it were not either, since a
//! level delivers in order.
//!
//! Each delivery found must stand behind the one found before, so that of two equal messages (a producer that sent again)
//! each needs a delivery of its own. What the index does not know (`messageIndexEnable=false`, a Java broker's delivery with
//! its properties in another order) counts as not delivered: twice is better than never.

use crate::schedule;
use message::Record;
use message::properties::Indexed;
use store::Store;

/// Deliveries of one unique key that are looked at.
const CANDIDATES: usize = 32;
/// The index keeps times in seconds.
const INDEX_STEP_MS: i64 = 1_000;

/// Where in the log the delivery of a waiting record stands, behind the place `after`.
pub(super) fn find(store: &Store, waiting: &Record<'_>, topic: &str, queue_id: i32, after: i64) -> Option<i64> {
    let key = Indexed::of(waiting.properties).uniq_key;
    if key.is_empty() {
        return None;
    }
    let found = store.query(topic, &key, waiting.store_timestamp - INDEX_STEP_MS, i64::MAX, CANDIDATES);
    let found = found
        .inspect_err(|error| tracing::warn!(%error, topic, "cannot tell whether a delayed message was delivered; it is delivered again"))
        .ok()?;
    let places = found.records.iter().filter_map(|bytes| {
        let record = Record::parse(bytes).ok()?;
        (record.queue_id == queue_id && is_delivery_of(&record, waiting)).then_some(record.log_offset.0)
    });
    places.filter(|at| *at > after.max(waiting.log_offset.0)).min()
}

fn is_delivery_of(record: &Record<'_>, waiting: &Record<'_>) -> bool {
    let identity = |r: &Record<'_>| (r.born_timestamp, r.born_host, r.reconsume_times, r.flag, r.body_crc, r.body.len());
    identity(record) == identity(waiting) && *record.properties == *schedule::delivered_properties(waiting.properties)
}
