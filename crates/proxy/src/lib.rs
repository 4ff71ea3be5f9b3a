//! The gRPC protocol of RocketMQ 5 (`apache.rocketmq.v2.MessagingService`) in front of the broker of the same process, or of the brokers of a
//! cluster.
//!
//! A request is decoded and checked, becomes a verb of the [`backend`], and the outcome is encoded. The backend calls the verbs of the broker
//! in the process ([`local`]), or asks brokers by the remoting protocol ([`cluster`]). Nothing is kept here that a client could not tell again: the
//! clients that are connected with their settings ([`clients`]), and the messages whose invisible time is renewed for a push consumer
//! ([`renewal`]).
//!
//! Invariants
//! - Protobuf is known here only.
//! - No task is spawned per message beside the one that the HTTP/2 server has for each request. A receive that waits holds no thread.
//! - What a client can make the server keep is limited, see [`settings`]. A client that does not read keeps its own connection only.
//! - A client is online as long as its telemetry stream is open.
//!
//! Not here: how messages are kept, and what becomes of those that are not acknowledged.

mod ack;
mod admin;
mod backend;
mod caller;
mod clients;
mod cluster;
mod codec;
mod codes;
mod connection;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod inbound;
mod lite;
mod local;
mod message;
mod offset;
mod pull;
mod receive;
mod remoting;
mod renewal;
mod route;
mod send;
mod server;
mod service;
pub mod settings;
mod stream;
mod telemetry;
mod time;
mod transaction;
mod workers;
/// What `build.rs` makes of the `.proto` files.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v2 {
    tonic::include_proto!("apache.rocketmq.v2");
}

pub use admin::Administration;
pub use cluster::settings as cluster_settings;
pub use remoting::Remoting;
pub use remoting::settings as remoting_settings;
pub use server::{Proxy, StartError};
