//! Static topics: a fixed number of logical queues that can be moved from broker to broker while they are used.
//!
//! Clients see the queues 0 to n of one broker `__syslo__global__`, and get from the route which broker leads each of them. The leader
//! stores new messages in its physical queue of the logical one. It answers everything else, too: what an earlier broker has, it
//! asks that broker for ([`forward`]). See `protocol/static_topic.rs` for what a logical queue is made of.
//!
//! A tool moves a queue with code 513, in this order:
//!
//! ```text
//! new leader   gets a last item of its own, logical offset -1: it takes messages, and nobody reads them yet
//! old leader   gets the same list: it refuses from now on. Its answer means that its end is final
//! new leader   gets the list with the logical offset: the end of the old queue, rounded up
//! ```
//!
//! Invariants:
//! - A mapping is part of its [`Topic`](crate::topic::Topic), which requests look up anyway: for other topics a send or a pull checks
//!   one pointer. Requests that look up no topic check one flag.
//! - No message is appended to a queue for a mapping that was replaced, once the answer to the replacement is sent
//!   ([`Mapping::begin_send`]).
//! - What was once said of an item stays true ([`crate::logical_queue::accept`]): a reader that holds an old mapping reads the right messages.
//! - A reader passes the end of an item that is not the last one only when the next item is decided.
//!
//! Compat: POP, and what waits for its time (delays, timers, transactions), work on physical queues, as in Apache's broker.
//! `docs/static-topics.md` says what that means for a move.

pub mod clean;
pub mod forward;
pub mod handler;
pub mod offsets;
pub mod pull;
pub mod table;

use crate::logical_queue::Mapping;
use crate::topic::Topics;
use protocol::Frame;
use std::sync::Arc;

/// The mapping that a request for a queue goes by; `None` if its topic is not static or another broker has translated it already.
/// While there is no static topic, this reads one flag.
#[must_use]
pub fn mapping_of(request: &Frame, topics: &Topics) -> Option<Arc<Mapping>> {
    let mapping = topics.mapping(request.ext.text("topic")?)?;
    (request.ext.bool("lo") != Some(false)).then_some(mapping)
}
