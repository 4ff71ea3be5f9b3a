//! A small remoting client for tests and tools, for Apache RocketMQ and ApogeeMQ.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! use client::{Client, Message, Options, Producer, Puller, PullOptions};
//!
//! let client = Client::new(Options::with_name_servers(["127.0.0.1:9876"]));
//! let producer = Producer::new(&client, "my_producers");
//! let sent = producer.send(Message::new("orders", "one").tags("new")).await?;
//!
//! let puller = Puller::new(&client, "my_consumers");
//! let pulled = puller.pull(&sent.queue, sent.offset, &PullOptions::default()).await?;
//! for record in pulled.records() {
//!     println!("{:?}", record?.body);
//! }
//! # Ok(()) }
//! ```
//!
//! Each feature has a file with its name, as in `protocol`; `calls.rs` (one connection per address) and `error.rs`
//! (errors by what the caller can do) are common to all. Everything runs on the caller's runtime, a `current_thread` one suffices; timers
//! and I/O must be enabled. Connections live on the runtime that opened them.
//!
//! Not here: retries, rebalancing, consuming in the background, compression. The caller decides these, because tests and
//! measurements must see what really happened. For other requests use [`Client::call`] with a frame from `protocol`.

mod calls;
mod config;
mod controller;
mod diagnose;
mod error;
mod group;
mod heartbeat;
mod kv;
mod lookup;
mod offset;
mod pop;
mod pull;
mod query;
mod route;
mod send;
mod stats;
mod timer;
mod topic;
mod transaction;
mod unique;

pub use calls::Client;
pub use controller::{Controllers, Elected};
pub use error::Error;
pub use heartbeat::Acknowledged;
pub use lookup::{Lookup, Options};
pub use pull::{Outcome, PullOptions, Pulled, Puller, records};
pub use query::KeyQuery;
pub use route::{MAX_QUEUES, Queue, Route};
pub use send::{Message, Pending, Producer, Sent, Stored};
pub use timer::{TimerCount, TimerCounts};
pub use transaction::{CheckService, Half, LocalOutcome};
pub use unique::unique_key;
