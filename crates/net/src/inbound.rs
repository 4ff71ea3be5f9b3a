//! From the socket to frames, with memory only where bytes are.
//!
//! Where a partial frame waits for its rest:
//!
//! | so far | kept in | next read goes to |
//! |---|---|---|
//! | nothing | – | the thread's read buffer |
//! | part of a small frame | a copy of its own | the thread's read buffer, behind the copy |
//! | part of a frame above [`LARGE_BYTES`] | a buffer of its own, which doubles as bytes really arrive | that buffer |
//!
//! So a length field that lies costs at most twice what was really sent (or [`LARGE_BYTES`]), and a body of any size is copied
//! a bounded number of times.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use protocol::frame::{self, Frame, FrameError};

use crate::spare;
use crate::transport::ReadSide;

/// A frame above this size is read into a buffer of its own.
const LARGE_BYTES: usize = 32 << 10;
/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;

pub(crate) struct Inbound {
    side: ReadSide,
    partial: BytesMut,
}

/// What one read brought: bytes to decode. To be given back by [`Inbound::keep`] on the same thread before the next await.
pub(crate) struct Chunk {
    buffer: BytesMut,
    /// The buffer is the connection's, not the thread's.
    own: bool,
    /// There is probably more to read at once.
    pub(crate) full: bool,
}

impl Chunk {
    /// The first bytes as they came, before any is decoded.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The next whole frame.
    pub(crate) fn decode(&mut self, max_frame_bytes: usize) -> Result<Option<Frame>, FrameError> {
        frame::decode(&mut self.buffer, max_frame_bytes)
    }
}

impl Inbound {
    pub(crate) fn new(side: ReadSide) -> Self {
        Self {
            side,
            partial: BytesMut::new(),
        }
    }

    /// One read. `None` is the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        ready!(self.side.poll_ready(cx))?;
        let own = total(&self.partial) > LARGE_BYTES;
        let buffer = if own { self.grown() } else { self.shared() };
        let room = buffer.capacity() - buffer.len();
        let mut chunk = Chunk { buffer, own, full: false };
        match self.side.poll_read(cx, &mut chunk.buffer) {
            Poll::Ready(Ok(bytes)) if bytes > 0 => {
                chunk.full = bytes == room;
                Poll::Ready(Ok(Some(chunk)))
            }
            nothing => {
                self.keep(chunk);
                nothing.map_ok(|_| None)
            }
        }
    }

    /// Reads and forgets until the stream ends.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.partial = BytesMut::new();
        while let Ok(Some(mut chunk)) = ready!(self.poll_read(cx)) {
            chunk.buffer.clear();
            self.keep(chunk);
        }
        Poll::Ready(())
    }

    /// Takes a decoded chunk back: what is left of it is the beginning of the next frame.
    pub(crate) fn keep(&mut self, chunk: Chunk) {
        let Chunk { buffer, own, .. } = chunk;
        let large = total(&buffer) > LARGE_BYTES;
        if own && large {
            self.partial = buffer;
            return;
        }
        self.partial = BytesMut::new();
        if !buffer.is_empty() {
            let room = if large {
                total(&buffer).min(buffer.len().max(LARGE_BYTES) * 2)
            } else {
                buffer.len()
            };
            self.partial.reserve(room);
            self.partial.extend_from_slice(&buffer);
        }
        if !own {
            spare::give_read_buffer(buffer);
        }
    }

    fn shared(&mut self) -> BytesMut {
        let mut buffer = spare::read_buffer();
        if !self.partial.is_empty() {
            buffer.extend_from_slice(&std::mem::take(&mut self.partial));
        }
        buffer
    }

    /// The buffer of the large frame, with room for more of it: doubled, but never beyond the frame's end.
    fn grown(&mut self) -> BytesMut {
        let mut buffer = std::mem::take(&mut self.partial);
        if buffer.len() == buffer.capacity() {
            let missing = total(&buffer).saturating_sub(buffer.len());
            buffer.reserve(missing.min(buffer.len()).max(1));
        }
        buffer
    }
}

/// Size with its length field of the frame that begins here, as far as it says; 0 while it does not. Whether it may be that long
/// is the decoder's question, asked before the chunk is kept.
fn total(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<LENGTH_BYTES>() {
        Some(length) => usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0) + LENGTH_BYTES,
        None => 0,
    }
}
