//! The name server: brokers register with their topics, clients ask for routes.
//!
//! ```text
//! net ─► server, dispatch (codes) ─► handlers/ (decode, call, reply) ─┬─► routes/ (registered brokers, pure state)
//!           │                                                           ├─► kv/ (KV configuration, on disk)
//!           │                                                           └─► config::Live (settings)
//!           ├─► net::jobs (registrations, lists and disk writes, on threads of their own)
//!           └─► cache (encoded routes and lists)
//! ```
//!
//! Compat: requests, answers and their texts are those of Apache's name server. Where ours differs (limits, refused settings), the answer
//! says why. Name servers do not know each other; each has all routes.
//!
//! Not here: messages, the log, sockets (crate `net`), reading configuration files.

mod answer;
mod cache;
mod dispatch;
mod embedded;
mod error;
mod handlers;
mod java_order;
mod kv;
mod names;
mod notify;
pub mod routes;
mod scan;
mod server;
pub mod settings;

pub use embedded::LocalBroker;
pub use kv::KvError;
pub use scan::Scan;
pub use server::{Clock, NameServer, Options, monotonic};
pub use settings::NamesrvSettings;
