//! Clients of the remoting protocol behind the proxy: real brokers, and brokers of the test that do what real ones seldom do.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod ends;
mod limits;
mod routing;
