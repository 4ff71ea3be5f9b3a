//! The result of a pull, for clients of any protocol.

use bytes::Bytes;
use message::QueueOffset;
use protocol::codes::ResponseCode;

/// Result of a pull.
#[derive(Debug)]
pub struct Pulled {
    /// Response code; `Success` comes with messages.
    pub code: ResponseCode,
    /// Apache's name of the result.
    pub status: &'static str,
    /// Offset of the client's next pull.
    pub next: QueueOffset,
    /// Min offset of the queue.
    pub min: QueueOffset,
    /// Max offset of the queue.
    pub max: QueueOffset,
    /// What the client adds to the offset in each record: from a logical queue of a static topic.
    pub offset_delta: Option<i64>,
    /// System flag of the topic.
    pub topic_sys_flag: i32,
    /// System flag of the group.
    pub group_sys_flag: i32,
    /// Id of the broker that the client should pull from next: 0, the master, unless reads are behind and slaves serve them.
    pub pull_from: i64,
    /// The records of the messages.
    pub records: Vec<Bytes>,
    /// Bytes of the records.
    pub bytes: usize,
}
