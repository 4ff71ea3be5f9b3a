//! The remoting protocol as pure bytes: frames, codes, headers by feature, JSON bodies.
//!
//! Nothing here opens a socket, reads a file or decides anything; what a request *does* is the broker's and the name
//! server's business. A feature's headers and bodies stand together in one file of the feature's name.
//!
//! Invariants: nothing panics on any bytes; every length is checked before memory is taken; what is decoded is bounded
//! by the frame it came in.

pub mod codes;
pub mod data_version;
pub mod ext;
pub mod frame;
pub mod header;
pub mod json;
mod language;
pub mod number;
pub mod offset;
pub mod pull;
pub mod queue;
pub mod send;
pub mod version;

pub use codes::{RequestCode, ResponseCode};
pub use data_version::DataVersion;
pub use ext::{Ext, Value};
pub use frame::{Encoding, Frame, FrameError};
pub use header::HeaderError;
pub use json::JsonError;
pub use language::Language;
pub use queue::MessageQueue;
