//! Request and reply: a producer sends a request as an ordinary message with its client id, a consumer sends the reply (324, 325),
//! and the broker forwards it to that producer on its connection (326).
//!
//! A reply is forwarded immediately, because the producer waits for it. It is only stored in the reply topic for operators to look
//! at (`storeReplyMessageEnable`). A reply that cannot be delivered is refused and not stored.
//!
//! Not here: the request, which is an ordinary send.

pub mod handler;
