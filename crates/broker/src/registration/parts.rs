//! Splits a registration into several requests: name servers accept frames up to 16 MiB, and one of 24 MiB (100,000 topics) would
//! block them for long.
//!
//! A name server adds the topics of a request to those it has (unless it has deleteTopicWithBrokerRegistration) if the data version
//! differs from that of the last request or a topic is missing. So every part except the last gets a unique data version that no
//! table has, and the last gets that of the table: a name server with that version has all parts.

use crate::topic::Topic;
use protocol::DataVersion;
use std::sync::Arc;

/// Target size of a request, in bytes.
pub(super) const PART_BYTES: usize = 256 << 10;
/// Fewest topics in a part except the last: a name server rejects a request with one topic from an unknown broker.
const MIN_TOPICS: usize = 2;
/// Bytes of a topic in a request besides its name, twice, and its attributes.
const TOPIC_OVERHEAD: usize = 192;
/// Bytes of the mapping of a static topic besides its name, twice, and its queues.
const MAPPING_OVERHEAD: usize = 384;
/// Bytes of a queue in a mapping.
const MAPPED_QUEUE: usize = 16;

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartLimits {
    /// Estimated size in bytes.
    pub(super) bytes: usize,
    /// Number of topics.
    pub(super) topics: usize,
}

/// Estimated size of a topic in a request, in bytes.
pub(super) fn estimated_bytes(topic: &Topic) -> usize {
    let attributes = topic.attributes.iter().map(|(name, value)| name.len() + value.len() + 8);
    let mapped = topic.mapping().map_or(0, |mapping| {
        MAPPING_OVERHEAD + 2 * topic.name.len() + MAPPED_QUEUE * mapping.detail().hosted_queues.len()
    });
    TOPIC_OVERHEAD + 2 * topic.name.len() + attributes.sum::<usize>() + mapped
}

/// Splits the topics into parts, in order. There is always a last part, even without topics, because it has the table's version.
pub(super) fn cut(topics: &[Arc<Topic>], limits: PartLimits) -> Vec<&[Arc<Topic>]> {
    let mut parts = Vec::new();
    let mut remaining = topics;
    loop {
        let mut bytes = 0;
        let first_over_limit = remaining.iter().position(|topic| {
            bytes += estimated_bytes(topic);
            bytes > limits.bytes
        });
        let len = first_over_limit.unwrap_or(remaining.len()).min(limits.topics).max(MIN_TOPICS);
        let Some((part, others)) = remaining.split_at_checked(len).filter(|(_, others)| !others.is_empty()) else {
            parts.push(remaining);
            return parts;
        };
        parts.push(part);
        remaining = others;
    }
}

/// The data version of a part that is not the last.
pub(super) fn version_of_part(whole: DataVersion, serial: i64) -> DataVersion {
    // Counters of tables are never negative, so this version is unique.
    DataVersion {
        counter: -1 - serial.max(0),
        ..whole
    }
}
