//! The server and the client end over plain TCP.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connections;
mod support;

const SECURED: bool = false;
