//! The client of a request whose answer may come later, for clients of any protocol.

use crate::errors::Refusal;
use crate::reply::Reply;
use std::net::SocketAddr;

/// Receives the result of one request. Implemented by each protocol except remoting, whose requests need no box. If it is dropped without a
/// result, the request was discarded: too many wait for a thread, or its client disconnected.
pub trait Sink<R>: Send {
    /// Client id, unique among connections too ([`net::Connection::take_id`]). Parked requests are limited per client.
    fn client(&self) -> u64;
    /// Address of the client.
    fn peer(&self) -> SocketAddr;
    /// Whether the client disconnected.
    fn is_disconnected(&self) -> bool;
    /// Called once with the result, unless [`Self::refuse`] is called.
    fn answer(self: Box<Self>, result: R);
    /// Called once if the request is refused.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

/// A result that is sent to remoting clients, too.
pub trait RemotingResult {
    /// Sends it.
    fn send(self, reply: &Reply);
}

/// The client of a request with this result.
pub enum Asker<R> {
    /// A remoting client.
    Remoting(Reply),
    /// A client of another protocol.
    Protocol(Box<dyn Sink<R>>),
}

impl<R: RemotingResult> Asker<R> {
    /// For a remoting client: where the response goes.
    pub(crate) fn reply(&self) -> Option<Reply> {
        match self {
            Self::Remoting(reply) => Some(reply.clone()),
            Self::Protocol(_) => None,
        }
    }

    pub(crate) fn client(&self) -> u64 {
        match self {
            Self::Remoting(reply) => reply.connection().id(),
            Self::Protocol(sink) => sink.client(),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Self::Remoting(reply) => reply.connection().peer(),
            Self::Protocol(sink) => sink.peer(),
        }
    }

    pub(crate) fn is_disconnected(&self) -> bool {
        match self {
            Self::Remoting(reply) => reply.connection().is_closed(),
            Self::Protocol(sink) => sink.is_disconnected(),
        }
    }

    /// Whether the client has too many unread bytes on its connection.
    pub(crate) fn lags(&self) -> bool {
        match self {
            Self::Remoting(reply) => reply.connection().peer_lags(),
            Self::Protocol(_) => false,
        }
    }

    pub(crate) fn answer(self, result: R) {
        match self {
            Self::Remoting(reply) => result.send(&reply),
            Self::Protocol(sink) => sink.answer(result),
        }
    }

    pub(crate) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Remoting(reply) => reply.send(Err(refusal)),
            Self::Protocol(sink) => sink.refuse(refusal),
        }
    }
}
