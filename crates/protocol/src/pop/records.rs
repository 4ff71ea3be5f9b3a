//! Bodies of the records in the revive topic: what was popped, and what of it was acknowledged.
//!
//! | tag | body |
//! |---|---|
//! | `ck` | [`CheckPoint`]: messages of one pop from one queue |
//! | `ack` | [`Ack`]: one of them was acknowledged |
//! | `bAck` | [`Ack`] with a list of offsets |
//!
//! An acknowledgement names its check point by topic, group, queue, first offset, pop time and broker.

use serde::{Deserialize, Serialize};

/// Tag of a check point.
pub const CHECK_POINT_TAG: &str = "ck";
/// Tag of an acknowledgement.
pub const ACK_TAG: &str = "ack";
/// Tag of an acknowledgement of several messages.
pub const BATCH_ACK_TAG: &str = "bAck";
/// The group whose offsets in the revive topic say how far its records are done.
pub const REVIVE_GROUP: &str = "CID_RMQ_SYS_REVIVE_GROUP";
/// Maximum number of messages of a check point: bits of `bitMap`.
pub const MAX_MESSAGES: usize = 32;

/// Messages that were popped from one queue at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct CheckPoint {
    /// Ours only: the client of the group for which the messages are held. Apache's broker ignores it.
    #[serde(rename = "apogeeHolder", skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Ours only: until when they are held at most, epoch ms.
    #[serde(rename = "apogeeHeldUntil", skip_serializing_if = "Option::is_none")]
    pub held_until: Option<i64>,
    /// Bit n: message n was acknowledged before this was written.
    #[serde(rename = "bm")]
    pub bit_map: i32,
    /// Name of the broker.
    #[serde(rename = "bn", skip_serializing_if = "Option::is_none")]
    pub broker_name: Option<String>,
    /// The consumer group.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Distances of the messages' queue offsets from the first one; without it they are consecutive.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    pub distances: Option<Vec<i32>>,
    /// For how long the messages are invisible, ms.
    #[serde(rename = "it")]
    pub invisible_time: i64,
    /// Number of messages.
    #[serde(rename = "n")]
    pub count: i8,
    /// When they were popped, epoch ms.
    #[serde(rename = "pt")]
    pub pop_time: i64,
    /// The queue.
    #[serde(rename = "q")]
    pub queue_id: i32,
    /// Offset of a record in the revive topic, not used in files.
    #[serde(rename = "ro")]
    pub revive_offset: i64,
    /// How often it was written again because a message could not be read, as text.
    #[serde(rename = "rp", skip_serializing_if = "Option::is_none")]
    pub put_again: Option<String>,
    /// The first queue offset.
    #[serde(rename = "so")]
    pub start: i64,
    /// Whether the next delivery does not count as a retry.
    #[serde(rename = "sp")]
    pub suspend: bool,
    /// The topic that the messages are in.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// Messages of a check point that were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Ack {
    /// Queue offset of the message, in a record with tag [`ACK_TAG`].
    #[serde(rename = "ao", alias = "ackOffset")]
    pub offset: i64,
    /// Queue offsets, in a record with tag [`BATCH_ACK_TAG`].
    #[serde(rename = "aol", alias = "ackOffsetList", skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Vec<i64>>,
    /// Name of the broker; absent from batches of Apache's broker.
    #[serde(rename = "bn", alias = "brokerName", skip_serializing_if = "Option::is_none")]
    pub broker_name: Option<String>,
    /// The consumer group.
    #[serde(rename = "c", alias = "consumerGroup", skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When the messages were popped.
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time: i64,
    /// The queue.
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    /// The check point's first queue offset.
    #[serde(rename = "so", alias = "startOffset")]
    pub start: i64,
    /// The topic that the messages are in.
    #[serde(rename = "t", alias = "topic", skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

impl CheckPoint {
    /// Queue offsets of the messages, at most [`MAX_MESSAGES`]; empty if the numbers contradict each other.
    #[must_use]
    pub fn offsets(&self) -> Vec<i64> {
        let count = usize::try_from(self.count).unwrap_or(0);
        if count > MAX_MESSAGES || self.start < 0 || self.start > i64::MAX / 2 {
            return Vec::new();
        }
        match &self.distances {
            // Compat: as Apache, whose older brokers did not write distances.
            None => (0..count as i64).map(|n| self.start + n).collect(),
            Some(distances) if distances.is_empty() => (0..count as i64).map(|n| self.start + n).collect(),
            Some(distances) if distances.len() < count || distances.iter().any(|distance| *distance < 0) => Vec::new(),
            Some(distances) => distances
                .iter()
                .take(count)
                .map(|distance| self.start + i64::from(*distance))
                .collect(),
        }
    }
}

impl Ack {
    /// The acknowledged queue offsets.
    pub fn acknowledged(&self) -> impl Iterator<Item = i64> + '_ {
        let single = self.offsets.is_none().then_some(self.offset);
        single.into_iter().chain(self.offsets.iter().flatten().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn a_check_point_of_apaches_broker_is_read() {
        let body = br#"{"bm":0,"bn":"a","c":"g","d":[0,2,5],"it":60000,"n":3,"pt":17,"q":1,"reviveTime":60017,"ro":0,"so":100,"sp":false,"t":"t"}"#;
        let read: CheckPoint = json::read(body).unwrap();
        assert_eq!(read.offsets(), [100, 102, 105]);
        assert_eq!(
            (read.group.as_deref(), read.topic.as_deref(), read.pop_time),
            (Some("g"), Some("t"), 17)
        );
        let old: CheckPoint = json::read(br#"{"n":2,"so":5}"#).unwrap();
        assert_eq!(old.offsets(), [5, 6]);
    }

    #[test]
    fn impossible_numbers_name_no_message() {
        for body in [
            &br#"{"n":127,"so":5}"#[..],
            br#"{"n":-1,"so":5}"#,
            br#"{"n":2,"so":-5}"#,
            br#"{"n":2,"so":5,"d":[1]}"#,
            br#"{"n":1,"so":5,"d":[-1]}"#,
        ] {
            assert!(json::read::<CheckPoint>(body).unwrap().offsets().is_empty());
        }
    }

    #[test]
    fn acknowledgements_are_read_in_both_forms() {
        let one: Ack = json::read(br#"{"ao":7,"bn":"a","c":"g","pt":1,"q":0,"so":5,"t":"t"}"#).unwrap();
        assert!(one.acknowledged().eq([7]));
        let several: Ack = json::read(br#"{"ackOffset":0,"ackOffsetList":[7,8],"consumerGroup":"g","startOffset":5}"#).unwrap();
        assert!(several.acknowledged().eq([7, 8]));
        assert_eq!((several.start, several.group.as_deref()), (5, Some("g")));
    }
}
