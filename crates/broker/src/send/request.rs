//! What the verb "send" takes and gives, whatever face it is called through.

use super::late::Ending;
use crate::errors::Refusal;
use message::record::Placement;
use protocol::send::SendHeader;
use std::net::SocketAddr;

/// A request with one message or a batch.
#[derive(Debug)]
pub struct SendRequest<'a, A> {
    /// What it says of its messages.
    pub header: SendHeader<'a>,
    /// Whether the body holds several messages.
    pub is_batch: bool,
    /// The message's body, or a batch.
    pub body: &'a [u8],
    /// Ordinal of the client's version.
    pub client_version: i32,
    /// What its face answers it by.
    pub asker: A,
}

/// What requests that are served together have in common.
#[derive(Clone, Copy, Debug)]
pub struct SendContext {
    /// Address of the client.
    pub client: SocketAddr,
    /// The address that records and message ids name as this broker's.
    pub store_host: SocketAddr,
    /// Epoch milliseconds.
    pub now_ms: i64,
}

/// A request whose messages are stored.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Where its messages are, in order; at least one.
    pub placements: &'a [Placement],
    /// This broker's address in message ids.
    pub store_host: SocketAddr,
    /// The queue it was sent to.
    pub queue_id: i32,
    /// The id that the client gave its message, or that it got here; empty for a batch without one.
    pub uniq_key: &'a str,
    /// Setting `regionId`.
    pub region: &'a str,
    /// Setting `traceOn`, as text.
    pub trace_on: &'a str,
}

/// Where outcomes of sends go: implemented by each face.
pub trait SendSink {
    /// Tells one request from others.
    type Asker: Copy;

    /// Whether anybody waits for an answer.
    fn wants_answer(asker: Self::Asker) -> bool;

    /// A request is refused; nothing of it is stored.
    fn refuse(&self, asker: Self::Asker, refusal: Refusal);

    /// Requests are done.
    fn answer<'s>(&self, sent: impl Iterator<Item = (Self::Asker, Sent<'s>)>);

    /// What answers requests that were stored together when it is known how they end: called once, from another thread.
    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (Self::Asker, Sent<'s>)> + Clone,
        may_time_out: bool,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static;

    /// None of these requests is known to be stored, for this reason.
    fn fail(&self, askers: impl Iterator<Item = Self::Asker>, reason: &str);
}
