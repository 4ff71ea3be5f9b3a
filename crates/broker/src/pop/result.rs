//! The result of a pop, for clients of any protocol.

use bytes::Bytes;
use protocol::codes::ResponseCode;

/// Result of a pop.
#[derive(Debug)]
pub struct PopResult {
    /// `Success` with messages, `PollingTimeout` or `PollingFull` without.
    pub code: ResponseCode,
    /// When the messages were popped, epoch ms.
    pub pop_time: i64,
    /// For how long they are invisible, ms.
    pub invisible_ms: i64,
    /// Queue of the revive topic, for the handles.
    pub revive_queue: i32,
    /// Messages that are left in the queues.
    pub rest: i64,
    /// First offset of each queue; see [`protocol::pop::handle`].
    pub start_offsets: String,
    /// Offsets of the messages.
    pub message_offsets: String,
    /// For a pop in order: how often they were handed out.
    pub order_counts: Option<String>,
    /// The records of the messages.
    pub records: Vec<Bytes>,
    /// Bytes of the records.
    pub bytes: usize,
}
