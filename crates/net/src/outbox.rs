//! What waits to be written to one connection, and who writes it.
//!
//! Any thread appends under a short lock. Whoever wants it written becomes the writer unless there is one; the writer takes all
//! that waits, writes it without holding the lock, and looks again before it leaves, so that what others appended meanwhile is
//! written by it as well. Nobody waits for a writer. When the socket is full, the rest goes back in front and the connection's own
//! task waits for room.
//!
//! Invariants:
//! - Bytes leave in the order of `queue` calls.
//! - `blocked` implies that nobody writes until the connection's task has seen room.
//! - `queued` counts all bytes not yet taken by the socket, also those in the writer's hands.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;

use crate::spare;
use crate::transport::WriteSide;

/// Slices in one vectored write.
const SLICES: usize = 64;
/// A body below this size is copied behind its head: cheaper than a slice of its own.
const COPY_BELOW_BYTES: usize = 1_024;

/// Where a frame is encoded: heads go straight into the output buffer, large bodies are only referred to.
///
/// Whole frames only: what is left half written here tears the stream.
pub struct Out<'a> {
    batch: &'a mut Batch,
}

impl Out<'_> {
    /// The output buffer. Append to it; what is there already belongs to earlier frames.
    pub fn head(&mut self) -> &mut BytesMut {
        &mut self.batch.tail
    }

    /// Appends a body, or a part of one, without copying it unless it is small. The bytes stay alive until the peer has taken them.
    pub fn body(&mut self, body: Bytes) {
        self.batch.push(body);
    }
}

/// Bytes in order: `parts`, then `tail`.
#[derive(Default)]
struct Batch {
    parts: VecDeque<Bytes>,
    /// Sum of `parts`.
    parts_bytes: usize,
    tail: BytesMut,
}

impl Batch {
    fn len(&self) -> usize {
        self.parts_bytes + self.tail.len()
    }

    fn push(&mut self, body: Bytes) {
        if body.len() < COPY_BELOW_BYTES {
            return self.tail.extend_from_slice(&body);
        }
        if self.parts.capacity() == 0 {
            self.parts = spare::parts();
        }
        self.seal();
        self.parts_bytes += body.len();
        self.parts.push_back(body);
    }

    /// Makes the tail a part, so that others can follow.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts_bytes += self.tail.len();
            self.parts.push_back(self.tail.split().freeze());
        }
    }

    /// Writes until nothing is left, or the socket takes no more (`WouldBlock`), or it fails.
    fn write(&mut self, socket: &WriteSide) -> io::Result<()> {
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
        Ok(())
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let all = self.parts.iter().map(|part| &part[..]).chain(tail);
        let mut used = 0;
        for (slot, bytes) in slices.iter_mut().zip(all) {
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        used
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.parts.front_mut() {
            if written < part.len() {
                part.advance(written);
                self.parts_bytes -= written;
                return;
            }
            written -= part.len();
            self.parts_bytes -= part.len();
            self.parts.pop_front();
        }
        self.tail.advance(written);
    }

    /// Puts `self`, which is older, in front of `newer`.
    fn precede(mut self, newer: &mut Self) {
        self.seal();
        spare::give_out_buffer(std::mem::take(&mut self.tail));
        self.parts.append(&mut newer.parts);
        newer.parts_bytes += self.parts_bytes;
        std::mem::swap(&mut newer.parts, &mut self.parts);
    }

    fn recycle(self) {
        spare::give_parts(self.parts);
        spare::give_out_buffer(self.tail);
    }
}

#[derive(Default)]
struct Waiting {
    batch: Batch,
    writing: bool,
    closed: bool,
    waker: Option<Waker>,
}

/// What became of appended bytes.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Queued {
    /// They wait to be written.
    Waiting,
    /// The connection is closed, they are dropped.
    Closed,
    /// They exceed the bound: the connection must be closed.
    Overflow,
}

pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Taken only by the writer, by the task that waits for room, and by `close`. Order: never while `waiting` is held.
    socket: Mutex<Option<WriteSide>>,
    queued: AtomicUsize,
    blocked: AtomicBool,
    bound_bytes: usize,
}

impl Outbox {
    pub(crate) fn new(socket: WriteSide, bound_bytes: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            socket: Mutex::new(Some(socket)),
            queued: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            bound_bytes,
        }
    }

    /// Bytes not yet taken by the socket.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// The socket took no more; the connection's task waits for room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Appends what `encode` produces. Writes nothing.
    pub(crate) fn queue(&self, encode: impl FnOnce(&mut Out<'_>)) -> Queued {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Queued::Closed;
        }
        let batch = &mut waiting.batch;
        if batch.tail.capacity() == 0 {
            batch.tail = spare::out_buffer();
        }
        let before = batch.len();
        encode(&mut Out { batch });
        let added = batch.len().saturating_sub(before);
        let queued = self.queued.fetch_add(added, Ordering::Relaxed) + added;
        if queued > self.bound_bytes {
            Queued::Overflow
        } else {
            Queued::Waiting
        }
    }

    /// Writes what waits, unless someone is at it or the socket is full. False: the connection has failed and must be closed.
    pub(crate) fn flush(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.writing || waiting.closed || self.is_blocked() || waiting.batch.len() == 0 {
            return true;
        }
        waiting.writing = true;
        loop {
            let mut batch = std::mem::take(&mut waiting.batch);
            drop(waiting);
            let before = batch.len();
            let result = self.write(&mut batch);
            self.queued.fetch_sub(before - batch.len(), Ordering::Relaxed);
            waiting = self.waiting.lock();
            match result {
                Ok(()) => batch.recycle(),
                Err(error) => return self.suspend(&mut waiting, batch, &error),
            }
            if waiting.batch.len() == 0 || waiting.closed {
                waiting.writing = false;
                return true;
            }
        }
    }

    fn write(&self, batch: &mut Batch) -> io::Result<()> {
        match self.socket.lock().as_ref() {
            Some(socket) => batch.write(socket),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The writer stops: because the socket is full (the task is woken to wait for room) or for good.
    fn suspend(&self, waiting: &mut Waiting, batch: Batch, error: &io::Error) -> bool {
        waiting.writing = false;
        let full = error.kind() == io::ErrorKind::WouldBlock;
        if full && !waiting.closed {
            batch.precede(&mut waiting.batch);
            self.blocked.store(true, Ordering::Release);
        }
        if let Some(waker) = &waiting.waker {
            waker.wake_by_ref();
        }
        full
    }

    /// There is room again: writes on. To be called by the connection's task only.
    pub(crate) fn resume(&self) -> bool {
        self.blocked.store(false, Ordering::Release);
        self.flush()
    }

    /// Waits for room in the socket. To be called by the connection's task only.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket.lock().as_ref() {
            Some(socket) => socket.poll_ready(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Names the task to wake when the socket is full, or when `wake` is called.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        if waiting.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            waiting.waker = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        let waker = self.waiting.lock().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nothing more will be written, and all that was is.
    pub(crate) fn end(&self) {
        if let Some(socket) = self.socket.lock().as_ref() {
            socket.end();
        }
    }

    /// Drops what waits and ends the stream. Later calls of anything here do nothing.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.waker = None;
        let dropped = std::mem::take(&mut waiting.batch);
        drop(waiting);
        self.queued.fetch_sub(dropped.len(), Ordering::Relaxed);
        if let Some(socket) = self.socket.lock().take() {
            socket.shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(batch: &Batch) -> Vec<u8> {
        let mut all: Vec<u8> = batch.parts.iter().flatten().copied().collect();
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
            batch.push(Bytes::from(body.clone()));
            expected.extend_from_slice(&[200, round]);
            expected.extend_from_slice(&body);
        }
        for step in [1, 2, 1_999, 2_500, 7, 5_000] {
            batch.advance(step);
            expected.drain(..step);
            assert_eq!(batch.len(), expected.len());
            assert_eq!(bytes_of(&batch), expected);
        }
    }

    #[test]
    fn what_could_not_be_written_goes_before_what_came_later() {
        let mut older = Batch::default();
        older.tail.extend_from_slice(b"one");
        older.push(Bytes::from(vec![b'b'; 1_500]));
        older.tail.extend_from_slice(b"two");
        let mut newer = Batch::default();
        newer.push(Bytes::from(vec![b'c'; 1_500]));
        newer.tail.extend_from_slice(b"three");
        let expected: Vec<u8> = bytes_of(&older).into_iter().chain(bytes_of(&newer)).collect();
        older.precede(&mut newer);
        assert_eq!(bytes_of(&newer), expected);
        assert_eq!(newer.len(), expected.len());
    }
}
