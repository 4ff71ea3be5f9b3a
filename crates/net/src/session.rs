//! The interface of transports other than plain TCP: a [`Session`] turns plain bytes into records and back, without I/O.
//!
//! This crate handles sockets, the deadline of the handshake, memory limits and threads; a session only transforms bytes. One session has the
//! state of both directions. Its methods are never called concurrently.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;

/// First byte of a stream that begins with a handshake: a TLS record of type handshake. No frame begins with it: its length would
/// be over 369 million, and the largest `frameMaxLength` is 256 MiB.
pub const HANDSHAKE_BYTE: u8 = 0x16;

/// Maximum size of a record in bytes; TLS needs 16 KiB and 261 bytes. A longer one fails the connection.
pub const RECORD_MAX_BYTES: usize = 18 << 10;

/// Plain bytes that one call of [`Session::seal`] gets at most.
pub const SEAL_MAX_BYTES: usize = 64 << 10;

/// Whether the peer can send more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It can.
    Open,
    /// It has ended its direction.
    Ended,
}

/// A security session of one connection.
pub trait Session: Send {
    /// Whether the handshake is incomplete. Nothing is sealed before it is complete.
    fn is_handshaking(&self) -> bool;

    /// Processes all complete records at the front of `records` and removes them; leaves an incomplete one or keeps it, at most
    /// [`RECORD_MAX_BYTES`] between two calls. Appends what they carry to
    /// `plain` (never more bytes than the records had), and what the protocol answers (handshake messages, key updates) to `out`. The first
    /// call has no records: a client then appends its first message.
    ///
    /// # Errors
    /// `io::Error` if a record is invalid or the handshake has failed. `out` may have an alert for the peer. The connection is closed.
    fn receive(&mut self, records: &mut BytesMut, plain: &mut BytesMut, out: &mut BytesMut) -> io::Result<Received>;

    /// Appends records with plain bytes to `out`. Returns how many bytes of `plain` they have, in order from the first: at least one.
    /// `plain` is not empty and has at most [`SEAL_MAX_BYTES`].
    ///
    /// # Errors
    /// `io::Error` if the session cannot send any more. The connection is closed.
    fn seal(&mut self, plain: &[IoSlice<'_>], out: &mut BytesMut) -> io::Result<usize>;

    /// Appends the record that ends our direction.
    fn end(&mut self, out: &mut BytesMut);
}

/// Creates sessions for streams that a server accepts.
pub trait Acceptor: Debug + Send + Sync {
    /// Creates a session for a stream that begins with [`HANDSHAKE_BYTE`].
    ///
    /// # Errors
    /// `io::Error` if no session can be created now. The connection is closed.
    fn accept(&self) -> io::Result<Box<dyn Session>>;
}

/// What a server does with streams that begin with a handshake, and with others. The names are those of Apache's `tls.server.mode`.
#[derive(Debug, Clone, Default)]
pub enum Encryption {
    /// Closes streams that begin with a handshake.
    #[default]
    Disabled,
    /// Serves both, on the same port.
    Permissive(Arc<dyn Acceptor>),
    /// Closes streams that do not begin with a handshake.
    Enforcing(Arc<dyn Acceptor>),
}

impl Encryption {
    pub(crate) fn acceptor(&self) -> Option<&dyn Acceptor> {
        match self {
            Self::Disabled => None,
            Self::Permissive(acceptor) | Self::Enforcing(acceptor) => Some(&**acceptor),
        }
    }

    pub(crate) fn allows_plain(&self) -> bool {
        !matches!(self, Self::Enforcing(_))
    }
}

/// The transport of a process: what its servers do with streams, and how its outgoing connections begin. The default is plain TCP.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// For accepted streams.
    pub encryption: Encryption,
    /// For outgoing connections; without it they are plain TCP.
    pub connector: Option<Arc<dyn Connector>>,
}

/// Creates sessions for outgoing connections.
pub trait Connector: Debug + Send + Sync {
    /// Creates a session for a stream to `host`, a name or an IP address without brackets.
    ///
    /// # Errors
    /// `io::Error` if no session can be created for this host. The connection fails.
    fn connect(&self, host: &str) -> io::Result<Box<dyn Session>>;
}
