//! The result of a pop, for clients of any protocol.

use bytes::Bytes;
use protocol::codes::ResponseCode;
use protocol::pop::handle::Origin;
use smallvec::SmallVec;

/// Messages of a pop that come from one queue. With [`PopResult::pop_time`] they make the handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The topic itself, or a retry topic.
    pub origin: Origin,
    /// The queue.
    pub queue_id: i32,
    /// The first queue offset of the pop.
    pub start: i64,
    /// Number of messages.
    pub count: usize,
}

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
    /// From which queues the messages were taken, in the order of the records.
    pub taken: SmallVec<[Taken; 2]>,
    /// The records of the messages.
    pub records: Vec<Bytes>,
    /// Bytes of the records.
    pub bytes: usize,
    /// The broker holds the messages for the client: nobody has to renew them.
    pub is_held: bool,
}
