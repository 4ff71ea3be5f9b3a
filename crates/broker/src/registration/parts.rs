//! A registration cut into requests: name servers take no frame above 16 MiB, and one of 24 MiB (100,000 topics) would hold them up.
//!
//! A name server takes the topics of a request beside those it has (unless it has deleteTopicWithBrokerRegistration), if the request has
//! another version than the one before it, or where a topic is missing. So every part but the last has a version of its own, which no
//! table ever has, and the last has the table's: a name server that has that version has all parts.

use crate::topic::Topic;
use protocol::DataVersion;
use std::sync::Arc;

/// Bytes of a request from which on the next topic goes into the next one.
pub(super) const PART_BYTES: usize = 256 << 10;
/// Fewest topics in a part but the last: a name server takes a request with one topic from a broker that it does not know for a mistake.
const MIN_TOPICS: usize = 2;
/// What a topic takes in a request beside its name, twice, and its attributes.
const AROUND_TOPIC: usize = 192;

/// The most that one request may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartLimits {
    /// Estimated bytes.
    pub(super) bytes: usize,
    /// Topics.
    pub(super) topics: usize,
}

/// Bytes of a topic in a request, about.
pub(super) fn weight(topic: &Topic) -> usize {
    let attributes = topic.attributes.iter().map(|(name, value)| name.len() + value.len() + 8);
    AROUND_TOPIC + 2 * topic.name.len() + attributes.sum::<usize>()
}

/// Topics for each request, in order. There is always a last part, also without topics: it has the version.
pub(super) fn cut(topics: &[Arc<Topic>], limits: PartLimits) -> Vec<&[Arc<Topic>]> {
    let mut parts = Vec::new();
    let mut rest = topics;
    loop {
        let mut bytes = 0;
        let room = rest.iter().position(|topic| {
            bytes += weight(topic);
            bytes > limits.bytes
        });
        let len = room.unwrap_or(rest.len()).min(limits.topics).max(MIN_TOPICS);
        let Some((part, others)) = rest.split_at_checked(len).filter(|(_, others)| !others.is_empty()) else {
            parts.push(rest);
            return parts;
        };
        parts.push(part);
        rest = others;
    }
}

/// The version of a part that is not the last.
pub(super) fn version_of_part(whole: DataVersion, serial: i64) -> DataVersion {
    // Counters of tables are never negative.
    DataVersion {
        counter: -1 - serial.max(0),
        ..whole
    }
}
