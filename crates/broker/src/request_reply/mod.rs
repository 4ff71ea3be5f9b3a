//! Request and reply: a producer sends a request as an ordinary message with its client id in it, a consumer sends the reply
//! (324, 325), and the broker hands it to that producer on its connection (326).
//!
//! A reply is an answer to somebody who waits: it is handed on at once, and stored in the topic of replies only so that an
//! operator can look at it (`storeReplyMessageEnable`). One that did not reach who asked is refused and not stored.
//!
//! Not here: the request, which is a send like any other.

pub mod handler;
