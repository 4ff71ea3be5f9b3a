//! Connections: a TCP server that passes all frames of one read to a [`Service`] together, and a client ([`client::Peer`]).
//!
//! ```text
//!  accept ──► least loaded worker thread (one tokio current_thread runtime each)
//!                 │
//!    one task a connection:   first read ─► handshake, if its first byte is 0x16 and an acceptor is configured
//!                             read ─► decode ALL frames ─► Service::serve ─► one vectored write
//!                                          │ responses to our own requests
//!                                          └► their callbacks, before the service is called
//!    any other thread:        Connection::send ─► outbox ─► non-blocking write on that thread
//!    long work:               jobs::Pool, threads that serve connections in turn
//! ```
//!
//! Reason: waking another thread costs as much as forty appends of 1 KiB. So no work moves between threads from read to reply, and
//! the thread that produces bytes for a connection also writes them. A batch that arrives in one read costs one `epoll_wait`, one `read`
//! and one `writev`.
//!
//! Invariants:
//! - Bytes of a connection are sent in the order in which they were queued; frames are never interleaved.
//! - Every buffer, table and queue has a limit in [`Limits`]; a peer that does not read, or sends wrong lengths, affects only its own connection.
//! - An idle connection holds no buffers: they belong to the worker thread, which lends them for one read or one write.
//! - An idle server does not wake up without connections. With connections, each worker has one coarse timer, and a stream that has sent
//!   nothing has one for its idle time-out.
//!
//! Not here: what a request means, reconnecting (the caller's decision), TLS (its seam is [`session`]).

mod arrival;
mod batch;
mod budget;
mod clock;
mod connection;
mod drive;
mod gate;
mod inbound;
mod intake;
mod limits;
mod listen;
mod memory;
mod outbox;
mod partial;
mod relief;
mod requests;
mod secured;
mod server;
mod service;
mod spare;
mod sync;
mod transport;
mod turn;
mod worker;

pub mod client;
pub mod jobs;
pub mod session;

pub use batch::Out;
pub use connection::{Connection, Owed};
pub use gate::Gate;
pub use limits::Limits;
pub use listen::{OpenSockets, bind, canonical, resolve};
pub use memory::when_relieved;
pub use requests::RequestError;
pub use server::{Options, Server, StopOutcome, worker_threads};
pub use service::Service;
pub use turn::together;
