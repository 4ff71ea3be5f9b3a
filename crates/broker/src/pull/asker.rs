//! The client of a pull, and the result that it gets, for clients of any protocol.

use crate::errors::Refusal;
use crate::reply::Reply;
use bytes::Bytes;
use message::QueueOffset;
use protocol::codes::ResponseCode;
use std::net::SocketAddr;

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
    /// System flag of the topic.
    pub topic_sys_flag: i32,
    /// System flag of the group.
    pub group_sys_flag: i32,
    /// The records of the messages.
    pub records: Vec<Bytes>,
    /// Bytes of the records.
    pub bytes: usize,
}

/// Receives the result of one pull. Implemented by each protocol except remoting, whose pulls need no box. If it is dropped without
/// a result, the pull was discarded: too many wait for a thread, or its client disconnected.
pub trait PullSink: Send {
    /// Client id, unique among connections too ([`net::Connection::next_id`]). Parked pulls are limited per client.
    fn client(&self) -> u64;
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Whether the client disconnected.
    fn is_disconnected(&self) -> bool;
    /// Called once with the result, unless [`Self::refuse`] is called.
    fn answer(self: Box<Self>, pulled: Pulled);
    /// Called once if the pull is refused.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

/// The client of a pull.
pub enum Asker {
    /// A remoting client.
    Remoting(Reply),
    /// A client of another protocol.
    Protocol(Box<dyn PullSink>),
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

    /// Whether the client has too many unread bytes on its connection.
    pub(super) fn lags(&self) -> bool {
        match self {
            Self::Remoting(reply) => reply.connection().peer_lags(),
            Self::Protocol(_) => false,
        }
    }

    pub(super) fn answer(self, pulled: Pulled) {
        match self {
            Self::Remoting(reply) => super::remoting::answer(&reply, pulled),
            Self::Protocol(sink) => sink.answer(pulled),
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Remoting(reply) => reply.send(Err(refusal)),
            Self::Protocol(sink) => sink.refuse(refusal),
        }
    }
}
