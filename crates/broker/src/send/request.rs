//! What the verb "send" takes and gives, whatever face it is called through.

use super::late::{Ending, MayBeLate};
use crate::errors::Refusal;
use message::record::Placement;
use protocol::send::SendHeader;
use std::net::SocketAddr;

/// A request with one message or a batch.
#[derive(Debug)]
pub struct SendRequest<'a, A> {
    /// The header.
    pub header: SendHeader<'a>,
    /// Whether the body is a batch.
    pub is_batch: bool,
    /// The message's body, or a batch.
    pub body: &'a [u8],
    /// Version number of the client, as Apache counts them.
    pub client_version: i32,
    /// What the protocol needs to answer it.
    pub asker: A,
}

/// What requests that are served together share.
#[derive(Clone, Copy, Debug)]
pub struct SendContext {
    /// Address of the client.
    pub client: SocketAddr,
    /// This broker's address in records and message ids.
    pub store_host: SocketAddr,
    /// Epoch milliseconds.
    pub now_ms: i64,
}

/// A request whose messages were stored.
#[derive(Clone, Debug)]
pub struct Sent<'a> {
    /// Places of its messages, in order; at least one.
    pub placements: &'a [Placement],
    /// This broker's address in message ids.
    pub store_host: SocketAddr,
    /// Queue it was sent to.
    pub queue_id: i32,
    /// Offset of the first message in that queue; -1 in a logical queue that is being moved here.
    pub queue_offset: i64,
    /// UNIQ_KEY of the message, generated here if the client gave none; empty for a batch without one.
    pub uniq_key: &'a str,
    /// What recalls the message, if it waits for its time.
    pub recall_handle: Option<String>,
    /// Setting `regionId`.
    pub region: &'a str,
    /// Setting `traceOn`, as text.
    pub trace_on: &'a str,
}

/// Receives the outcomes of sends; each protocol implements it.
pub trait SendSink {
    /// Identifies a request.
    type Asker: Copy;

    /// Whether the client expects an answer.
    fn wants_answer(asker: Self::Asker) -> bool;

    /// A request was refused; none of its messages is stored.
    fn refuse(&self, asker: Self::Asker, refusal: Refusal);

    /// Requests are complete.
    fn answer<'s>(&self, sent: impl Iterator<Item = (Self::Asker, Sent<'s>)>);

    /// The answer to requests that were stored together, called once their outcome is known, from another thread.
    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (Self::Asker, Sent<'s>)> + Clone,
        may_be_late: MayBeLate,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static;

    /// These requests failed for this reason; as far as is known they are not stored.
    fn fail(&self, askers: impl Iterator<Item = Self::Asker>, reason: &str);
}
