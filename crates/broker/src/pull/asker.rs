//! Who pulls, and what a pull is answered with, whatever face it came through.

use crate::errors::Refusal;
use crate::reply::Reply;
use bytes::Bytes;
use message::QueueOffset;
use protocol::codes::ResponseCode;
use std::net::SocketAddr;

/// What a pull is answered with.
#[derive(Debug)]
pub struct Pulled {
    /// What became of it; messages come with `Success`.
    pub code: ResponseCode,
    /// Apache's name for that.
    pub status: &'static str,
    /// Where the client goes on.
    pub next: QueueOffset,
    /// The first offset kept of the queue.
    pub min: QueueOffset,
    /// The offset after its last message.
    pub max: QueueOffset,
    /// System flag of the topic.
    pub topic_sys_flag: i32,
    /// System flag of the group.
    pub group_sys_flag: i32,
    /// The messages, as records.
    pub records: Vec<Bytes>,
    /// Bytes of the records.
    pub bytes: usize,
}

/// Where the outcome of one pull goes: implemented by each face but the remoting one, whose pulls need no box. One that is dropped
/// without an outcome is of a pull that was given up: too many wait for a thread, or its client is gone.
pub trait PullSink: Send {
    /// Tells clients apart, from connections too ([`net::Connection::next_id`] gives numbers); what is parked is bounded for each.
    fn client(&self) -> u64;
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Nobody waits for the outcome any more.
    fn is_disconnected(&self) -> bool;
    /// The pull is done. Called once, unless [`Self::refuse`] is.
    fn answer(self: Box<Self>, pulled: Pulled);
    /// The pull is refused.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

/// Who pulls.
pub enum Asker {
    /// A client of the remoting protocol.
    Remoting(Reply),
    /// One of another face.
    Face(Box<dyn PullSink>),
}

impl Asker {
    /// Of the remoting face: where its answer goes.
    pub(super) fn reply(&self) -> Option<Reply> {
        match self {
            Self::Remoting(reply) => Some(reply.clone()),
            Self::Face(_) => None,
        }
    }

    pub(super) fn client(&self) -> u64 {
        match self {
            Self::Remoting(reply) => reply.connection().id(),
            Self::Face(sink) => sink.client(),
        }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Remoting(reply) => reply.connection().peer(),
            Self::Face(sink) => sink.peer(),
        }
    }

    pub(super) fn is_disconnected(&self) -> bool {
        match self {
            Self::Remoting(reply) => reply.connection().is_closed(),
            Self::Face(sink) => sink.is_disconnected(),
        }
    }

    /// The client has not read what it was sent before.
    pub(super) fn lags(&self) -> bool {
        match self {
            Self::Remoting(reply) => reply.connection().peer_lags(),
            Self::Face(_) => false,
        }
    }

    pub(super) fn answer(self, pulled: Pulled) {
        match self {
            Self::Remoting(reply) => super::remoting::answer(&reply, pulled),
            Self::Face(sink) => sink.answer(pulled),
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Remoting(reply) => reply.send(Err(refusal)),
            Self::Face(sink) => sink.refuse(refusal),
        }
    }
}
