//! The controller: Apache's brokers in controller mode get their ids from it, it elects their masters and keeps their in-sync sets.
//!
//! ```text
//! net ─► server (codes) ─► handlers (decode, call, reply) ─┬─► alive: heartbeats, on each controller (pure state)
//!                             │                            └─► core ─► raft (openraft, files, other controllers) ─► replicas (pure state)
//!                             └─► watch: elections after a loss, notifications of brokers (1008)
//!                                 elections: nobody is told of a master while one is being elected (pure state)
//! ```
//!
//! One controller, or three that survive the loss of one. The leader serves; the others answer code 2007 (`CONTROLLER_NOT_LEADER`), and
//! all say who leads (1005). `docs/controller.md` has keys and files.
//!
//! Compat: requests, answers and their texts are those of Apache's controller of 5.5.0 in DLedger mode.
//!
//! Not here: the log of messages, and what a broker does with its role.

#[doc(hidden)]
pub mod alive;
mod core;
#[doc(hidden)]
pub mod elections;
mod error;
mod handlers;
#[doc(hidden)]
pub mod lost;
mod raft;
pub mod replicas;
mod server;
pub mod settings;
mod told;
mod watch;

#[doc(hidden)]
pub use raft::fuzzed;
pub use server::{Controller, StartError};
pub use settings::ControllerSettings;
