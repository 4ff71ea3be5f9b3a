//! The client of a pop, and the result that it gets, for clients of any protocol.

use crate::errors::Refusal;
use crate::reply::Reply;
use bytes::Bytes;
use protocol::codes::ResponseCode;
use std::net::SocketAddr;

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

/// Receives the result of one pop. Implemented by each protocol except remoting. If it is dropped without a result, the pop was
/// discarded: too many wait for a thread, or its client disconnected.
pub trait PopSink: Send {
    /// Client id, unique among connections too ([`net::Connection::next_id`]).
    fn client(&self) -> u64;
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Whether the client disconnected.
    fn is_disconnected(&self) -> bool;
    /// Called once with the result, unless [`Self::refuse`] is called.
    fn answer(self: Box<Self>, result: PopResult);
    /// Called once if the pop is refused.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

/// The client of a pop.
pub enum Asker {
    /// A remoting client.
    Remoting(Reply),
    /// A client of another protocol.
    Protocol(Box<dyn PopSink>),
}

impl Asker {
    /// For a remoting client: where the response goes.
    pub(super) fn reply(&self) -> Option<Reply> {
        match self {
            Self::Remoting(reply) => Some(reply.clone()),
            Self::Protocol(_) => None,
        }
    }

    pub(super) fn client(&self) -> u64 {
        match self {
            Self::Remoting(reply) => reply.connection().id(),
            Self::Protocol(sink) => sink.client(),
        }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Remoting(reply) => reply.connection().peer(),
            Self::Protocol(sink) => sink.peer(),
        }
    }

    pub(super) fn is_disconnected(&self) -> bool {
        match self {
            Self::Remoting(reply) => reply.connection().is_closed(),
            Self::Protocol(sink) => sink.is_disconnected(),
        }
    }

    pub(super) fn answer(self, result: PopResult) {
        match self {
            Self::Remoting(reply) => super::remoting::answer(&reply, result),
            Self::Protocol(sink) => sink.answer(result),
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Remoting(reply) => reply.send(Err(refusal)),
            Self::Protocol(sink) => sink.refuse(refusal),
        }
    }
}
