//! Messages that could not be consumed: sent back for later, and in the end put into the dead letter queue.
//!
//! Life of a message that fails: the consumer sends it back (36). It is stored again, with the group's retry topic
//! `%RETRY%group` as its destination and one reconsumption more, to wait at a delay level that grows with each failure
//! ([`crate::delay`]). The group's members subscribe to their retry topic, so it comes to one of them. When it has failed too
//! often it is stored in `%DLQ%group`, which is an ordinary topic that anyone may read.
//!
//! Clients that cannot send back (an orderly consumer at its limit, or one whose 36 was refused) send it to the retry
//! topic themselves; [`rules::dies_on_send`] says when that ends in the dead letter queue.
//!
//! Compat: the retry policy of a group (`groupRetryPolicy`) and `consumeMessageOrderly` are kept and told; Apache's broker
//! does not look at them here either, its gRPC proxy does.
//!
//! Not here: waiting, and how clients count.

pub mod remoting;
pub mod rules;
pub mod send_back;
