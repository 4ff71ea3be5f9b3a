//! Connections: a TCP server that hands whole batches of frames to a [`Service`], and a client end ([`client::Peer`]).
//!
//! ```text
//!  accept ──► least loaded worker thread (one tokio current_thread runtime each)
//!                 │
//!    one task a connection:   first read ─► handshake, if its first byte is 0x16 and an acceptor is configured
//!                             read ─► decode ALL frames ─► Service::serve ─► one vectored write
//!                                          │ answers to our own requests
//!                                          └► their callbacks, before the service sees anything
//!    any other thread:        Connection::send ─► outbox ─► non-blocking write on that thread
//!    what takes long:         jobs::Pool, threads that connections take turns at
//! ```
//!
//! Why it looks like this: waking another thread costs as much as forty 1 KiB appends, so nothing is handed over between
//! threads on the way from read to reply, and whoever produces bytes for a connection also writes them. A batch that arrives in
//! one read costs one `epoll_wait`, one `read` and one `writev`.
//!
//! Invariants:
//! - Bytes queued for a connection leave in the order in which they were queued; a frame is never torn by another.
//! - Every buffer, table and queue has a bound in [`Limits`]; a peer that does not read, or lies about lengths, harms only itself.
//! - An idle connection holds no buffers: those belong to the worker thread and are lent for one read or one write.
//! - An idle server does not wake up: the only timer is one coarse scan per worker, and only while there are connections.
//!
//! Not here: what a request means, reconnecting (the caller's decision), TLS (its seam is [`session`]).

mod arrival;
mod batch;
mod budget;
mod clock;
mod connection;
mod drive;
mod inbound;
mod intake;
mod limits;
mod listen;
mod memory;
mod outbox;
mod partial;
mod quiet;
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
pub use limits::Limits;
pub use listen::{bind, resolve};
pub use memory::when_relieved;
pub use quiet::Gate;
pub use requests::RequestError;
pub use server::{Options, Server, StopOutcome, worker_threads};
pub use service::Service;
pub use turn::together;
