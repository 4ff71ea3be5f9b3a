//! Bytes to be written to a socket: heads that are encoded here, and bodies that are references.
//!
//! A body that belongs to other code, for example a slice of the log's tail, keeps all of its buffer alive. That is cheap during a write, and
//! without limit while a peer does not read. So bytes that a socket did not take are copied once; then the counted bytes are the
//! memory that is used.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use protocol::frame::Frame;

use crate::spare;
use crate::transport::WriteSide;

/// Maximum number of slices in one vectored write.
const SLICES: usize = 64;
/// A smaller body is copied behind its head, which is cheaper than a slice of its own.
const COPY_BELOW_BYTES: usize = 1_024;

/// Output for encoded frames: heads go into the output buffer, large bodies are stored as references.
///
/// Append whole frames only; a part of a frame makes the rest of the stream unreadable.
pub struct Out<'a> {
    batch: &'a mut Batch,
    /// The peer does not read now: bodies are copied.
    copying: bool,
}

impl<'a> Out<'a> {
    pub(crate) fn new(batch: &'a mut Batch, copying: bool) -> Self {
        Self { batch, copying }
    }

    /// The output buffer. Append only: its content belongs to earlier frames.
    pub fn head(&mut self) -> &mut BytesMut {
        &mut self.batch.tail
    }

    /// Appends a frame. A large body is not copied, see [`Self::body`].
    pub fn frame(&mut self, frame: &Frame) {
        frame.encode_head(self.head());
        self.body(frame.body.clone());
    }

    /// Appends a frame as it was read, but with this opaque, see [`Frame::encode_head_as_read`]. A large body is not copied.
    pub fn forwarded(&mut self, frame: &Frame, opaque: i32) {
        frame.encode_head_as_read(opaque, self.head());
        self.body(frame.body.clone());
    }

    /// Appends a body or a part of one. It is copied only if it is small or the peer does not read now; otherwise its buffer stays alive
    /// until the socket has taken the bytes or is full.
    pub fn body(&mut self, body: Bytes) {
        if self.copying {
            self.batch.push(Bytes::copy_from_slice(&body), false);
        } else {
            self.batch.push(body, true);
        }
    }
}

/// Bytes of one or several frames, or of a part of one.
pub(crate) struct Part {
    bytes: Bytes,
    /// They may be a slice of a larger buffer of other code.
    shared: bool,
}

/// Bytes in order: `parts`, then `tail`.
#[derive(Default)]
pub(crate) struct Batch {
    parts: VecDeque<Part>,
    /// Sum of the lengths of `parts`.
    parts_bytes: usize,
    tail: BytesMut,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.parts_bytes + self.tail.len()
    }

    /// Memory of a batch after [`Self::owned`].
    pub(crate) fn memory(&self) -> usize {
        self.parts_bytes + self.tail.capacity()
    }

    /// Gives the tail a buffer unless it has one. While a peer does not read (`copying`), the buffer gets only the size that it needs.
    pub(crate) fn prepare(&mut self, copying: bool) {
        if self.tail.capacity() == 0 && !copying {
            self.tail = spare::out_buffer();
        }
    }

    fn push(&mut self, bytes: Bytes, shared: bool) {
        if bytes.len() < COPY_BELOW_BYTES {
            return self.tail.extend_from_slice(&bytes);
        }
        if self.parts.capacity() == 0 {
            self.parts = spare::parts();
        }
        self.seal();
        self.parts_bytes += bytes.len();
        self.parts.push_back(Part { bytes, shared });
    }

    /// Makes the tail a part, so that further parts can follow. Later frames are encoded into the rest of its buffer, so the part is shared.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts_bytes += self.tail.len();
            let bytes = self.tail.split().freeze();
            self.parts.push_back(Part { bytes, shared: true });
        }
    }

    /// Writes until the socket has taken all bytes, is full (`WouldBlock`), or fails. It is also `WouldBlock`, perhaps with an empty batch, if a
    /// session has unsent bytes.
    pub(crate) fn write(&mut self, socket: &WriteSide) -> io::Result<()> {
        while self.len() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.fill(&mut slices);
            match socket.write(&slices[..used]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        socket.flush()
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let all = self.parts.iter().map(|part| &part.bytes[..]).chain(tail);
        let mut used = 0;
        for (slot, bytes) in slices.iter_mut().zip(all) {
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        used
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.parts.front_mut() {
            if written < part.bytes.len() {
                part.bytes.advance(written);
                self.parts_bytes -= written;
                return;
            }
            written -= part.bytes.len();
            self.parts_bytes -= part.bytes.len();
            self.parts.pop_front();
        }
        self.tail.advance(written);
    }

    /// Returns the same bytes with shared parts copied.
    pub(crate) fn owned(mut self) -> Self {
        self.seal();
        spare::give_out_buffer(std::mem::take(&mut self.tail));
        let shared = self.parts.iter().filter(|part| part.shared).map(|part| part.bytes.len()).sum();
        let mut copy = BytesMut::with_capacity(shared);
        let mut parts = VecDeque::with_capacity(self.parts.len().min(4));
        let own = |bytes: Bytes| Part { bytes, shared: false };
        for part in self.parts.drain(..) {
            if part.shared {
                copy.extend_from_slice(&part.bytes);
                continue;
            }
            if !copy.is_empty() {
                parts.push_back(own(copy.split().freeze()));
            }
            parts.push_back(part);
        }
        if !copy.is_empty() {
            parts.push_back(own(copy.freeze()));
        }
        spare::give_parts(self.parts);
        Self {
            parts,
            parts_bytes: self.parts_bytes,
            tail: BytesMut::new(),
        }
    }

    /// Inserts `self`, which is older, before `newer`. Both are owned.
    pub(crate) fn precede(mut self, newer: &mut Self) {
        self.parts.append(&mut newer.parts);
        newer.parts_bytes += self.parts_bytes;
        std::mem::swap(&mut newer.parts, &mut self.parts);
    }

    pub(crate) fn recycle(self) {
        spare::give_parts(self.parts);
        spare::give_out_buffer(self.tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(batch: &Batch) -> Vec<u8> {
        let mut all: Vec<u8> = batch.parts.iter().flat_map(|part| &part.bytes).copied().collect();
        all.extend_from_slice(&batch.tail);
        all
    }

    #[test]
    fn parts_and_tail_keep_their_order_through_partial_writes() {
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        for round in 0..20_u8 {
            let body = vec![round; if round % 3 == 0 { 10 } else { 2_000 }];
            batch.tail.extend_from_slice(&[200, round]);
            batch.push(Bytes::from(body.clone()), round % 2 == 0);
            expected.extend_from_slice(&[200, round]);
            expected.extend_from_slice(&body);
        }
        for step in [1, 2, 1_999, 2_500, 7, 5_000] {
            batch.advance(step);
            expected.drain(..step);
            assert_eq!(batch.len(), expected.len());
            assert_eq!(bytes_of(&batch), expected);
        }
        assert_eq!(bytes_of(&batch.owned()), expected);
    }

    #[test]
    fn unwritten_bytes_are_put_before_newer_ones() {
        let mut older = Batch::default();
        older.tail.extend_from_slice(b"one");
        older.push(Bytes::from(vec![b'b'; 1_500]), true);
        older.tail.extend_from_slice(b"two");
        let mut newer = Batch::default();
        newer.push(Bytes::from(vec![b'c'; 1_500]), false);
        newer.tail.extend_from_slice(b"three");
        let expected: Vec<u8> = bytes_of(&older).into_iter().chain(bytes_of(&newer)).collect();
        older.owned().precede(&mut newer);
        assert_eq!(bytes_of(&newer), expected);
        assert_eq!(newer.len(), expected.len());
    }

    #[test]
    fn an_owned_batch_copies_shared_parts_only() {
        let foreign = Bytes::from(vec![7; 1 << 20]);
        let mut batch = Batch::default();
        batch.tail.extend_from_slice(b"head");
        batch.push(foreign.slice(5_000..7_000), true);
        let own = Bytes::from(vec![8; 3_000]);
        batch.push(own.clone(), false);
        let expected = bytes_of(&batch);
        let batch = batch.owned();
        assert_eq!(bytes_of(&batch), expected);
        assert!(foreign.is_unique(), "the slice was copied");
        assert!(!own.is_unique(), "a part that is not shared is not copied");
        assert_eq!(batch.memory(), expected.len());
    }
}
