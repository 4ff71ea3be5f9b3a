//! TLS for connections: the keys `tls.*`, certificates and keys in PEM files, and sessions of rustls behind [`net::session`].
//!
//! ```text
//! TlsSettings ──► Tls::open ──► server(): what listeners accept        ──► net::session::Acceptor
//!                     │    └──► client(): how outgoing connections begin ──► net::session::Connector
//!                     └ thread tls-files: reads changed files once a second, new connections get the new certificate
//! ```
//!
//! Compat: names, defaults and meaning of the keys are those of Apache's `TlsSystemConfig` and `TlsHelper`. Three things differ, and
//! `docs/tls.md` says so: test mode ends when files are given, a broken file stops the start, and TLS 1.0 and 1.1 do not exist.
//!
//! Invariants:
//! - A changed file is used as a whole or not at all: a certificate, its key and the trusted certificates are read and checked together. If
//!   they cannot be used, the old ones stay and a warning names the file.
//! - An open connection keeps the certificate that its handshake used.
//! - No private key and no password is logged.
//!
//! Not here: sockets, deadlines and memory limits of handshakes (`net`), requests.

mod certificates;
mod configs;
mod old_encryption;
mod reload;
mod session;
mod settings;
mod verify;

pub use configs::TlsError;
pub use reload::{Accepted, Client, Server, Tls};
pub use settings::{ClientAuth, TlsMode, TlsSettings};
