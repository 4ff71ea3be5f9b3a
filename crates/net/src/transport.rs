//! The two ends of a byte stream. Plain TCP today; TLS becomes a second variant of both enums: its write side turns slices into
//! records before the socket, its read side records into plain bytes, and nothing outside this file changes.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Splits a connected, non-blocking stream that is registered with the current runtime.
pub(crate) fn plain(stream: TcpStream) -> (ReadSide, WriteSide) {
    let (read, write) = stream.into_split();
    (ReadSide::Plain(read), WriteSide::Plain(write))
}

/// Where bytes come from. Used by the connection's task only.
pub(crate) enum ReadSide {
    /// A TCP stream without encryption.
    Plain(OwnedReadHalf),
}

impl ReadSide {
    /// Whether a read would find something, without a system call.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(half) => half.as_ref().poll_read_ready(cx),
        }
    }

    /// Reads once into the spare capacity of `buffer`, up to `most` bytes; 0 is the end of the stream. A short read clears readiness,
    /// so that no second read is spent on learning that there is nothing more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut, most: usize) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(half) => pin!(half.read_buf(&mut buffer.limit(most))).poll(cx),
        }
    }
}

/// Where bytes go. Writes never block and may come from any thread, one at a time.
pub(crate) enum WriteSide {
    /// A TCP stream without encryption.
    Plain(OwnedWriteHalf),
}

impl WriteSide {
    /// Writes what fits now; `WouldBlock` when nothing does.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(half) => half.try_write_vectored(slices),
        }
    }

    /// Whether a write would find room. Registers the task: only the connection's own task may ask.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(half) => half.as_ref().poll_write_ready(cx),
        }
    }

    /// Ends our direction: the peer reads what was written, and then the end.
    pub(crate) fn end(&self) {
        match self {
            Self::Plain(half) => drop(socket2::SockRef::from(half.as_ref()).shutdown(Shutdown::Write)),
        }
    }

    /// Ends the stream in both directions, so that the peer learns of it even while someone still holds this value.
    pub(crate) fn shutdown(&self) {
        match self {
            // An error means that the peer was faster.
            Self::Plain(half) => drop(socket2::SockRef::from(half.as_ref()).shutdown(Shutdown::Both)),
        }
    }
}
