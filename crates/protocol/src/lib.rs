//! The remoting protocol as pure bytes: frames, codes, headers by feature, JSON bodies.
//!
//! Nothing here opens a socket, reads a file or decides anything; broker and name server define what a request *does*.
//! The headers and bodies of a feature are in one file with the feature's name.
//!
//! Invariants: no bytes cause a panic; every length is checked before memory is allocated; the size of decoded data is limited
//! by its frame.

pub mod access;
pub mod assignment;
pub mod codes;
pub mod controller;
pub mod data_version;
pub mod diagnose;
pub mod ext;
pub mod frame;
pub mod group;
pub mod header;
pub mod heartbeat;
pub mod json;
pub mod kv;
mod language;
pub mod lite;
pub mod lock;
pub mod number;
pub mod offset;
pub mod pop;
pub mod pull;
pub mod query;
pub mod queue;
pub mod register;
pub mod replication;
pub mod request_reply;
pub mod reset;
pub mod retry;
mod reused;
pub mod route;
pub mod send;
pub mod static_topic;
pub mod stats;
pub mod timer;
pub mod topic;
pub mod transaction;
pub mod version;

pub use codes::{RequestCode, ResponseCode};
pub use data_version::DataVersion;
pub use ext::{Ext, Value};
pub use frame::{Encoding, Frame, FrameError};
pub use header::HeaderError;
pub use json::JsonError;
pub use language::Language;
pub use queue::MessageQueue;
