//! Everything of the protocol once more, with a proxy that asks its broker over the network. See `support`.
#![allow(clippy::duplicate_mod, reason = "each of them has its support")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "clients.rs"]
mod clients;
#[path = "held.rs"]
mod held;
#[path = "lite.rs"]
mod lite;
#[path = "messaging.rs"]
mod messaging;
