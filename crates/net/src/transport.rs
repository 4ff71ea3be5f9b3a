//! The two ends of a byte stream: plain TCP, or TCP with a security [`Session`](crate::session::Session).
//!
//! Static dispatch: the plain path has no lock and no indirection of its own. Nothing outside this file and `secured.rs` knows which
//! one a connection has.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::secured::{self, SecuredRead, SecuredWrite};
use crate::session::Session;

/// A connected, non-blocking stream that is registered with the current runtime.
pub(crate) struct Halves {
    pub(crate) read: OwnedReadHalf,
    pub(crate) write: OwnedWriteHalf,
}

impl Halves {
    /// Splits a stream.
    pub(crate) fn of(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write }
    }

    /// The ends without encryption.
    pub(crate) fn plain(self) -> (ReadSide, WriteSide) {
        (ReadSide::Plain(self.read), WriteSide::Plain(Arc::new(self.write)))
    }

    /// Runs the handshake of a session, which begins with `records` that were read already. See [`secured::handshake`].
    pub(crate) async fn secure(self, session: Box<dyn Session>, records: BytesMut) -> io::Result<(ReadSide, WriteSide)> {
        let (read, write) = secured::handshake((self.read, self.write), session, records).await?;
        Ok((ReadSide::Secured(read), WriteSide::Secured(write)))
    }
}

/// Where bytes come from. Used by the connection's task only.
pub(crate) enum ReadSide {
    /// A TCP stream without encryption.
    Plain(OwnedReadHalf),
    /// A TCP stream with a session.
    Secured(SecuredRead),
}

impl ReadSide {
    /// Whether a read would find something, without a system call.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(half) => half.as_ref().poll_read_ready(cx),
            Self::Secured(read) => read.poll_ready(cx),
        }
    }

    /// Reads once into the spare capacity of `buffer`, up to `most` bytes; 0 is the end of the stream. A short read clears readiness,
    /// so that no second read is spent on learning that there is nothing more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut, most: usize) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(half) => pin!(half.read_buf(&mut buffer.limit(most))).poll(cx),
            Self::Secured(read) => read.poll_read(cx, buffer, most),
        }
    }
}

/// Where bytes go. Writes never block and may come from any thread, one at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) enum WriteSide {
    /// A TCP stream without encryption.
    Plain(Arc<OwnedWriteHalf>),
    /// A TCP stream with a session.
    Secured(Arc<SecuredWrite>),
}

impl WriteSide {
    /// Writes what fits now; `WouldBlock` when nothing does. A session may take bytes whose records the socket has not taken: then
    /// [`Self::flush`] is to follow.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(half) => half.try_write_vectored(slices),
            Self::Secured(write) => write.write(slices),
        }
    }

    /// Writes what a session has taken and the socket has not; `WouldBlock` while something is left.
    pub(crate) fn flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Secured(write) => write.flush(),
        }
    }

    /// Memory of what a session has taken and the socket has not.
    pub(crate) fn unsent_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Secured(write) => write.unsent_bytes(),
        }
    }

    /// Waits until the socket is writable and nothing is left to flush. Registers the task: only the connection's own task may ask.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(half) => OwnedWriteHalf::as_ref(half).poll_write_ready(cx),
            Self::Secured(write) => write.poll_flush(cx),
        }
    }

    /// Ends our direction: the peer reads what was written, and then the end.
    pub(crate) fn end(&self) {
        if let Self::Secured(write) = self {
            write.end();
        }
        self.shut(Shutdown::Write);
    }

    /// Ends the stream in both directions, so that the peer learns of it even while someone still holds this value.
    pub(crate) fn shutdown(&self) {
        self.shut(Shutdown::Both);
    }

    fn shut(&self, how: Shutdown) {
        let half = match self {
            Self::Plain(half) => half,
            Self::Secured(write) => write.socket(),
        };
        // An error means that the peer was faster.
        let _ = socket2::SockRef::from(half.as_ref()).shutdown(how);
    }
}
