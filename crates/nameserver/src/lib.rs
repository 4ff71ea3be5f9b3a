//! The name server: brokers register with their topics, clients ask for routes.
//!
//! ```text
//! net ─► server (codes, one match) ─► handlers/ (decode, call, reply) ─► routes/ (who is there, pure state)
//!                                                                   ├─► kv (order configurations and others, on disk)
//!              │                                                    └─► config::Live (settings)
//!              ├─► net::jobs (registrations, lists and what waits for the disk, on threads of their own)
//!              └─► encoded (routes and lists as they were sent)
//! ```
//!
//! Compat: requests, answers and their texts are those of Apache's name server; where ours differs (bounds, refused settings) the answer
//! says why. Name servers do not know of each other; each has the whole table.
//!
//! Not here: messages, the log, sockets (crate `net`), reading configuration files.

mod answer;
mod dispatch;
mod embedded;
mod encoded;
mod handlers;
mod java_order;
mod kv;
mod names;
mod notify;
mod problem;
pub mod routes;
mod scan;
mod server;
pub mod settings;

pub use embedded::LocalBroker;
pub use kv::KvError;
pub use scan::Scan;
pub use server::{Clock, NameServer, Options, monotonic};
pub use settings::NamesrvSettings;
