//! Reads frames from the socket, with memory only for bytes that have arrived.
//!
//! Where an incomplete frame is stored:
//!
//! | received so far | stored in | next read goes to |
//! |---|---|---|
//! | nothing | – | the thread's read buffer |
//! | part of a small frame | a copy of its own | the thread's read buffer, behind the copy |
//! | part of a frame above [`LARGE_BYTES`] | a buffer of its own, which doubles as bytes arrive | that buffer, up to the frame's end |
//!
//! So a wrong length field costs at most twice the bytes that were sent (or twice [`LARGE_BYTES`]), and a body of any size is copied a
//! limited number of times. The memory of all connections of a server is limited too ([`crate::intake`]): a read returns no more than may be
//! kept, and the buffer of a large frame grows when memory is free.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use protocol::frame::{self, Frame, FrameError};

use crate::clock::uptime_ms;
use crate::intake::Share;
use crate::partial::Partial;
use crate::spare::{self, READ_BYTES};
use crate::transport::ReadSide;

/// A frame above this size is read into a buffer of its own.
const LARGE_BYTES: usize = 32 << 10;
/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;

pub(crate) struct Inbound {
    side: ReadSide,
    partial: BytesMut,
    share: Share,
}

/// The bytes of one read, to be decoded. Return it with [`Inbound::keep`] on the same thread before the next await.
pub(crate) struct Chunk {
    buffer: BytesMut,
    /// The buffer belongs to the connection, not to the thread.
    own: bool,
    /// Number of bytes that were read.
    read: usize,
    /// There are probably more bytes to read.
    pub(crate) full: bool,
}

impl Chunk {
    /// The bytes that are not decoded yet.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Decodes the next complete frame.
    pub(crate) fn decode(&mut self, max_frame_bytes: usize) -> Result<Option<Frame>, FrameError> {
        frame::decode(&mut self.buffer, max_frame_bytes)
    }
}

impl Inbound {
    pub(crate) fn new(side: ReadSide, share: Share) -> Self {
        Self {
            side,
            partial: BytesMut::new(),
            share,
        }
    }

    /// The state of the incomplete frame.
    pub(crate) fn partial(&self) -> &Arc<Partial> {
        self.share.partial()
    }

    /// Returns the parts after the first read, with a copy of its bytes.
    pub(crate) fn into_parts(mut self, first: Chunk) -> (ReadSide, Share, BytesMut) {
        let bytes = BytesMut::from(first.bytes());
        self.discard(first);
        (self.side, self.share, bytes)
    }

    /// Reads once. `None` is the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.share.partial().restart_clock(uptime_ms);
        let own = total(&self.partial) > LARGE_BYTES;
        match self.side.poll_ready(cx) {
            Poll::Ready(ready) => ready?,
            Poll::Pending => {
                if !own {
                    self.share.hold(self.partial.len());
                }
                return Poll::Pending;
            }
        }
        if own {
            ready!(self.poll_grow(cx));
        }
        let limit = self.limit(own);
        let buffer = if own { std::mem::take(&mut self.partial) } else { self.shared() };
        let most = limit.min(buffer.capacity() - buffer.len());
        let mut chunk = Chunk {
            buffer,
            own,
            read: 0,
            full: false,
        };
        match self.side.poll_read(cx, &mut chunk.buffer, most) {
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                chunk.read = bytes;
                chunk.full = bytes == most;
                Poll::Ready(Ok(Some(chunk)))
            }
            nothing => {
                self.put_back(chunk);
                nothing.map_ok(|_| None)
            }
        }
    }

    /// Notes that the connection is not read because its peer does not read: the time-out of its frame stops, and it leaves the queue for memory.
    pub(crate) fn pause(&mut self) {
        self.share.partial().stop_clock();
        self.share.pause();
    }

    /// Reads and discards until the stream ends.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.partial = BytesMut::new();
        self.share.hold(0);
        while let Ok(Some(chunk)) = ready!(self.poll_read(cx)) {
            self.discard(chunk);
        }
        Poll::Ready(())
    }

    /// Stores the rest of a decoded chunk: the beginning of the next frame, which begins in this read if frames were `decoded`, otherwise
    /// possibly in an earlier one.
    pub(crate) fn keep(&mut self, chunk: Chunk, decoded: bool, now_ms: u64) {
        let partial = self.share.partial();
        if chunk.buffer.is_empty() {
            partial.complete();
        } else {
            partial.advance(chunk.read, decoded, now_ms);
        }
        self.put_back(chunk);
    }

    /// Returns the buffer of a chunk without keeping its bytes.
    pub(crate) fn discard(&mut self, mut chunk: Chunk) {
        chunk.buffer.clear();
        self.put_back(chunk);
    }

    fn put_back(&mut self, chunk: Chunk) {
        let Chunk { buffer, own, .. } = chunk;
        let is_large = total(&buffer) > LARGE_BYTES;
        if own && is_large {
            self.partial = buffer;
            return;
        }
        self.partial = BytesMut::new();
        if buffer.is_empty() {
            self.share.hold(0);
        } else {
            let bytes = if is_large { self.first_size(&buffer) } else { buffer.len() };
            self.partial.reserve(bytes);
            self.partial.extend_from_slice(&buffer);
        }
        if !own {
            spare::give_read_buffer(buffer);
        }
    }

    /// First size of a large frame's buffer: the size of its beginning if no more memory is free.
    fn first_size(&mut self, beginning: &BytesMut) -> usize {
        let bytes = next_size(beginning);
        if self.share.try_grow(bytes) {
            return bytes;
        }
        self.share.hold(beginning.len());
        beginning.len()
    }

    fn shared(&mut self) -> BytesMut {
        let mut buffer = spare::read_buffer();
        if !self.partial.is_empty() {
            buffer.extend_from_slice(&std::mem::take(&mut self.partial));
        }
        buffer
    }

    /// Grows the buffer of a large frame if it is full.
    fn poll_grow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let len = self.partial.len();
        if len < self.partial.capacity() {
            return Poll::Ready(());
        }
        let bytes = next_size(&self.partial);
        ready!(self.share.poll_grow(cx, bytes, total(&self.partial), uptime_ms));
        self.partial.reserve(bytes - len);
        Poll::Ready(())
    }

    /// Maximum size of the next read.
    fn limit(&self, own: bool) -> usize {
        let missing = total(&self.partial).saturating_sub(self.partial.len());
        if own {
            // The buffer is for this frame only.
            return missing;
        }
        self.share.intake().read_bytes(READ_BYTES).max(missing)
    }
}

/// Next size of a large frame's buffer: twice the received bytes, but not beyond the frame's end.
fn next_size(beginning: &BytesMut) -> usize {
    total(beginning).min(beginning.len().max(LARGE_BYTES) * 2)
}

/// Size of the frame that begins here, with its length field; 0 if the length field is incomplete. The decoder checks the maximum before
/// the chunk is kept.
fn total(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<LENGTH_BYTES>() {
        Some(length) => usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0) + LENGTH_BYTES,
        None => 0,
    }
}
