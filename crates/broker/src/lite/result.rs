//! The result of a pop of lite topics, for clients of any protocol.

use bytes::Bytes;
use protocol::codes::ResponseCode;

/// Where a message of a pop comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteTaken {
    /// The lite topic.
    pub lite_topic: Box<str>,
    /// The message's offset in the queue of the lite topic.
    pub offset: i64,
    /// How often it was handed out before.
    pub count: u16,
}

/// Result of a pop of lite topics.
#[derive(Debug)]
pub struct LitePopResult {
    /// `Success` with messages, `PollingTimeout` or `PollingFull` without.
    pub code: ResponseCode,
    /// When the messages were popped, epoch ms.
    pub pop_time: i64,
    /// For how long they are invisible, ms.
    pub invisible_ms: i64,
    /// One for each record.
    pub taken: Vec<LiteTaken>,
    /// The records of the messages.
    pub records: Vec<Bytes>,
    /// Bytes of the records.
    pub bytes: usize,
    /// The broker holds the messages for the client: nobody has to renew them.
    pub is_held: bool,
}

impl LitePopResult {
    /// The counts as in the remoting protocol.
    pub(super) fn order_counts(&self) -> String {
        let counts: Vec<String> = self.taken.iter().map(|taken| taken.count.to_string()).collect();
        counts.join(";")
    }
}
