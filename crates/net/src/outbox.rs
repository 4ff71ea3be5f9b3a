//! The bytes that wait to be written to one connection, which thread writes them, and when the connection's task continues.
//!
//! Any thread appends under a short lock. A thread that flushes becomes the writer unless there is one. The writer takes all queued
//! bytes, writes them without the lock, and checks again before it stops, so it also writes what other threads appended meanwhile. No thread
//! waits for the writer. When the socket is full, the remaining bytes go back to the front and the connection's own task waits until
//! the socket is writable.
//!
//! Responses that other threads will queue are counted too ([`Outbox::owe`]), with their expected bytes. So the limit applies to what a
//! connection has asked for, not only to what is queued.
//!
//! Invariants:
//! - Bytes are written in the order of `queue` calls.
//! - While `blocked`, no thread writes until the connection's task has found the socket writable, and no queued part is shared.
//! - `queued` counts all bytes not yet taken by the socket (or by its session, see `secured.rs`), also those that are being written. While
//!   a session has bytes that the socket has not taken, the connection is `blocked`.
//! - No lock of the outbox is held over a system call. A session's lock is held over a non-blocking write.
//! - A task that got [`Next::Wait`] is woken when the reason ends, on whichever thread that happens. The same holds for callbacks of
//!   [`Outbox::when_read`].

use std::io;
use std::task::{Context, Poll, Waker};

use crate::batch::{Batch, Out};
use crate::budget::Budget;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::transport::WriteSide;

/// Called when a peer reads again.
type Then = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    batch: Batch,
    writing: bool,
    closed: bool,
    waker: Option<Waker>,
    /// Callbacks of [`Outbox::when_read`].
    others: Vec<Then>,
    /// Memory of unread bytes, as it is charged to the server's budget.
    charged: usize,
    /// Memory of records that the session has sealed and the socket has not taken, as of when it became full.
    sealed: usize,
}

/// Result of appending bytes.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Queued {
    /// They are queued.
    Waiting,
    /// The connection is closed; the bytes were dropped.
    Closed,
    /// They exceed the limit: the connection must be closed.
    Overflow,
}

/// What the connection's task has to do next.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Next {
    /// Serve and read.
    Go,
    /// Wait to be woken: too much is queued or expected, or the connection drains and something is not written yet.
    Wait,
    /// End the connection: it drains and everything is written.
    Drained,
}

/// Limits of one outbox in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Above it the connection is congested.
    pub(crate) pause: usize,
    /// Above it the connection has to be closed.
    pub(crate) close: usize,
}

pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Empty once the connection is closed, so that its descriptor is free while others still hold the connection. Locked only to clone
    /// or take it, never while `waiting` is held.
    socket: Mutex<Option<WriteSide>>,
    queued: AtomicUsize,
    /// Number of responses that other threads will queue.
    owed: AtomicUsize,
    /// Expected bytes of these.
    expected: AtomicUsize,
    blocked: AtomicBool,
    draining: AtomicBool,
    /// The task waits for other threads.
    task_waits: AtomicBool,
    /// `others` may not be empty.
    others_wait: AtomicBool,
    bounds: Bounds,
    budget: Arc<Budget>,
}

impl Outbox {
    pub(crate) fn new(socket: WriteSide, bounds: Bounds, budget: Arc<Budget>) -> Self {
        Self {
            waiting: Mutex::new(Waiting::default()),
            socket: Mutex::new(Some(socket)),
            queued: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            task_waits: AtomicBool::new(false),
            others_wait: AtomicBool::new(false),
            bounds,
            budget,
        }
    }

    /// Bytes that the socket has not taken.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }

    /// Whether more bytes are queued or expected than this connection may have now.
    pub(crate) fn is_congested(&self) -> bool {
        let bytes = self.queued_bytes() + self.expected.load(Ordering::SeqCst);
        bytes > self.budget.allowance(self.bounds.pause)
    }

    /// Whether more bytes are queued than this connection may have now.
    pub(crate) fn lags(&self) -> bool {
        self.queued_bytes() > self.budget.allowance(self.bounds.pause)
    }

    /// Whether the socket is full; the connection's task waits until it is writable.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst)
    }

    /// Memory of unread bytes.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.waiting.lock().charged
    }

    /// Announces a response of about this size that another thread will queue.
    pub(crate) fn owe(&self, bytes: usize) {
        self.expected.fetch_add(bytes, Ordering::SeqCst);
        self.owed.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends an announcement: the response was queued, or never will be.
    pub(crate) fn paid(&self, bytes: usize) {
        self.expected.fetch_sub(bytes, Ordering::SeqCst);
        self.owed.fetch_sub(1, Ordering::SeqCst);
        self.wake_waiting();
    }

    /// Appends what `encode` produces. Does not write.
    pub(crate) fn queue(&self, encode: impl FnOnce(&mut Out<'_>)) -> Queued {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Queued::Closed;
        }
        let blocked = self.is_blocked();
        let batch = &mut waiting.batch;
        batch.prepare(blocked);
        let before = batch.len();
        encode(&mut Out::new(batch, blocked));
        let added = batch.len().saturating_sub(before);
        let queued = self.queued.fetch_add(added, Ordering::SeqCst) + added;
        if blocked {
            self.settle(&mut waiting);
        }
        if queued > self.bounds.close {
            Queued::Overflow
        } else {
            Queued::Waiting
        }
    }

    /// Updates what is charged to the budget.
    fn settle(&self, waiting: &mut Waiting) {
        let memory = if self.is_blocked() {
            waiting.batch.memory() + waiting.sealed
        } else {
            0
        };
        let before = std::mem::replace(&mut waiting.charged, memory);
        self.budget.settle(before, memory);
    }

    /// Writes what is queued, unless another thread is writing or the socket is full. Returns false if the connection has failed and must be
    /// closed.
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
            let written = before - batch.len();
            if let Err(error) = result {
                return self.suspend(batch, written, &error);
            }
            self.queued.fetch_sub(written, Ordering::SeqCst);
            batch.recycle();
            waiting = self.waiting.lock();
            if waiting.batch.len() == 0 || waiting.closed {
                waiting.writing = false;
                if waiting.charged > 0 {
                    self.settle(&mut waiting);
                }
                drop(waiting);
                self.wake_waiting();
                return true;
            }
        }
    }

    fn write(&self, batch: &mut Batch) -> io::Result<()> {
        batch.write(&self.socket()?)
    }

    fn socket(&self) -> io::Result<WriteSide> {
        self.socket.lock().clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ends writing, because the socket is full (the task is woken to wait until it is writable) or has failed.
    fn suspend(&self, batch: Batch, written: usize, error: &io::Error) -> bool {
        let full = error.kind() == io::ErrorKind::WouldBlock;
        let batch = if full { batch.owned() } else { batch };
        let sealed = self.socket().map_or(0, |socket| socket.unsent_bytes());
        let mut waiting = self.waiting.lock();
        waiting.writing = false;
        if full && !waiting.closed {
            let mut newer = std::mem::take(&mut waiting.batch).owned();
            batch.precede(&mut newer);
            waiting.batch = newer;
            waiting.sealed = sealed;
            self.blocked.store(true, Ordering::SeqCst);
            self.settle(&mut waiting);
            // After `blocked`, so that no thread sees an empty queue and misses what the session has not sent.
            self.queued.fetch_sub(written, Ordering::SeqCst);
        } else {
            self.queued.fetch_sub(written + batch.len(), Ordering::SeqCst);
        }
        if let Some(waker) = &waiting.waker {
            waker.wake_by_ref();
        }
        drop(waiting);
        self.call_waiting();
        full
    }

    /// Continues to write when the socket is writable again. Called by the connection's task only.
    pub(crate) fn resume(&self) -> bool {
        let mut waiting = self.waiting.lock();
        self.blocked.store(false, Ordering::SeqCst);
        waiting.sealed = 0;
        if waiting.batch.len() == 0 {
            // Only the session had unsent bytes.
            self.settle(&mut waiting);
        }
        drop(waiting);
        self.flush()
    }

    /// Waits until the socket is writable. Called by the connection's task only.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Ok(socket) => socket.poll_ready(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Returns what the connection's task has to do. The task must be registered, and polls for a writable socket itself.
    pub(crate) fn next(&self) -> Next {
        match self.check() {
            Next::Wait => {}
            other => return other,
        }
        // A thread that ends the reason after this sees that the task waits; if it did so before, the second check sees that.
        self.task_waits.store(true, Ordering::SeqCst);
        let next = self.check();
        if next != Next::Wait {
            self.task_waits.store(false, Ordering::SeqCst);
        }
        next
    }

    fn check(&self) -> Next {
        if self.draining.load(Ordering::SeqCst) {
            // `owed` is read first: a response is queued before its announcement ends.
            let drained = self.owed.load(Ordering::SeqCst) == 0 && self.queued_bytes() == 0 && !self.is_blocked();
            return if drained { Next::Drained } else { Next::Wait };
        }
        if self.is_congested() { Next::Wait } else { Next::Go }
    }

    /// Wakes the task and callbacks that waited for fewer queued or expected bytes.
    fn wake_waiting(&self) {
        self.call_waiting();
        if self.task_waits.load(Ordering::SeqCst) && self.check() != Next::Wait && self.task_waits.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Calls `then` once when [`Self::lags`] is false or the connection is closed. Returns false and drops `then` if that is so already. `then` is
    /// called on any thread, without a lock, and must not block.
    pub(crate) fn when_read(&self, then: Then) -> bool {
        let mut waiting = self.waiting.lock();
        // A thread that writes after this sees that a callback waits; the check below sees what was written before.
        self.others_wait.store(true, Ordering::SeqCst);
        if waiting.closed || !self.lags() {
            self.others_wait.store(!waiting.others.is_empty(), Ordering::SeqCst);
            return false;
        }
        waiting.others.push(then);
        true
    }

    fn call_waiting(&self) {
        if self.others_wait.load(Ordering::SeqCst) && !self.lags() {
            let mut waiting = self.waiting.lock();
            self.others_wait.store(false, Ordering::SeqCst);
            let others = std::mem::take(&mut waiting.others);
            drop(waiting);
            others.into_iter().for_each(|then| then());
        }
    }

    /// Makes the connection's task end once all announced responses are queued and everything is written.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Sets the task to wake when the socket is full, or when `wake` is called.
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

    /// Ends our direction of the stream. Everything has been written.
    pub(crate) fn end(&self) {
        if let Ok(socket) = self.socket() {
            socket.end();
        }
    }

    /// Drops what is queued and ends the stream. Later calls have no effect.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.waker = None;
        let dropped = std::mem::take(&mut waiting.batch);
        let charged = std::mem::take(&mut waiting.charged);
        let others = std::mem::take(&mut waiting.others);
        drop(waiting);
        others.into_iter().for_each(|then| then());
        self.budget.settle(charged, 0);
        self.queued.fetch_sub(dropped.len(), Ordering::SeqCst);
        let socket = self.socket.lock().take();
        if let Some(socket) = socket {
            socket.shutdown();
        }
    }
}
