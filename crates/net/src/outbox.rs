//! What waits to be written to one connection, who writes it, and when the connection's task goes on.
//!
//! Any thread appends under a short lock. Whoever wants it written becomes the writer unless there is one; the writer takes all
//! that waits, writes it without holding the lock, and looks again before it leaves, so that what others appended meanwhile is
//! written by it as well. Nobody waits for a writer. When the socket is full, the rest goes back in front and the connection's own
//! task waits for room.
//!
//! Answers that are still to come from other threads are counted here too ([`Outbox::owe`]), with the bytes that are expected of
//! them: a connection is congested by what it has asked for, not only by what is there already.
//!
//! Invariants:
//! - Bytes leave in the order of `queue` calls.
//! - `blocked` implies that nobody writes until the connection's task has seen room, and that nothing that waits is shared.
//! - `queued` counts all bytes not yet taken by the socket (or by its session, see `secured.rs`), also those that are being written. While
//!   a session has bytes that the socket has not taken, the connection is `blocked`.
//! - No lock of the outbox is held over a system call. A session's lock is held over a non-blocking write.
//! - A task that was told to wait ([`Next::Wait`]) is woken by whatever ends the reason, whichever thread that runs on. The same goes
//!   for others who wait until the peer reads ([`Outbox::when_read`]).

use std::io;
use std::task::{Context, Poll, Waker};

use crate::batch::{Batch, Out};
use crate::budget::Budget;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::transport::WriteSide;

/// What is called when a peer reads again.
type Then = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    batch: Batch,
    writing: bool,
    closed: bool,
    waker: Option<Waker>,
    /// Others who wait until the peer reads.
    others: Vec<Then>,
    /// Memory of what waits for room in the socket, as the server's budget knows it.
    charged: usize,
    /// Memory of records that the session has sealed and the socket has not taken, as of when it became full.
    sealed: usize,
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

/// What the connection's task does next.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Next {
    /// Serves and reads.
    Go,
    /// Waits to be woken: too much waits to be written or to be answered, or the end waits for it.
    Wait,
    /// Ends the connection: it drains, and all is written.
    Drained,
}

/// Bounds of one outbox in bytes.
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
    /// Answers that other threads will queue.
    owed: AtomicUsize,
    /// Bytes expected of those.
    expected: AtomicUsize,
    blocked: AtomicBool,
    draining: AtomicBool,
    /// The task was told to wait for what others do.
    task_waits: AtomicBool,
    /// `others` may have someone.
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

    /// Bytes not yet taken by the socket.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }

    /// More waits to be written, or is expected of answers to come, than this connection may have at the moment.
    pub(crate) fn is_congested(&self) -> bool {
        let bytes = self.queued_bytes() + self.expected.load(Ordering::SeqCst);
        bytes > self.budget.allowance(self.bounds.pause)
    }

    /// More waits to be written than this connection may have at the moment.
    pub(crate) fn lags(&self) -> bool {
        self.queued_bytes() > self.budget.allowance(self.bounds.pause)
    }

    /// The socket took no more; the connection's task waits for room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst)
    }

    /// Memory that waits for a peer that does not read.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.waiting.lock().charged
    }

    /// An answer of about so many bytes will be queued by another thread.
    pub(crate) fn owe(&self, bytes: usize) {
        self.expected.fetch_add(bytes, Ordering::SeqCst);
        self.owed.fetch_add(1, Ordering::SeqCst);
    }

    /// The answer was queued, or never will be.
    pub(crate) fn paid(&self, bytes: usize) {
        self.expected.fetch_sub(bytes, Ordering::SeqCst);
        self.owed.fetch_sub(1, Ordering::SeqCst);
        self.wake_waiting();
    }

    /// Appends what `encode` produces. Writes nothing.
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

    /// Tells the budget what waits here.
    fn settle(&self, waiting: &mut Waiting) {
        let memory = if self.is_blocked() {
            waiting.batch.memory() + waiting.sealed
        } else {
            0
        };
        let before = std::mem::replace(&mut waiting.charged, memory);
        self.budget.settle(before, memory);
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

    /// The writer stops: because the socket is full (the task is woken to wait for room) or for good.
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
            // After `blocked`, so that nobody sees that nothing is queued and misses what the session has not sent.
            self.queued.fetch_sub(written, Ordering::SeqCst);
        } else {
            self.queued.fetch_sub(written + batch.len(), Ordering::SeqCst);
        }
        if let Some(waker) = &waiting.waker {
            waker.wake_by_ref();
        }
        drop(waiting);
        self.tell_others();
        full
    }

    /// There is room again: writes on. To be called by the connection's task only.
    pub(crate) fn resume(&self) -> bool {
        let mut waiting = self.waiting.lock();
        self.blocked.store(false, Ordering::SeqCst);
        waiting.sealed = 0;
        if waiting.batch.len() == 0 {
            // Only the session had something left.
            self.settle(&mut waiting);
        }
        drop(waiting);
        self.flush()
    }

    /// Waits for room in the socket. To be called by the connection's task only.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Ok(socket) => socket.poll_ready(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// What the connection's task does, which must be registered and see for room itself when the socket is full.
    pub(crate) fn next(&self) -> Next {
        match self.look() {
            Next::Wait => {}
            other => return other,
        }
        // Whoever ends the reason after this sees that the task waits; whoever ended it before is seen by the second look.
        self.task_waits.store(true, Ordering::SeqCst);
        let next = self.look();
        if next != Next::Wait {
            self.task_waits.store(false, Ordering::SeqCst);
        }
        next
    }

    fn look(&self) -> Next {
        if self.draining.load(Ordering::SeqCst) {
            // What is owed is looked at first: an answer is queued before it is owed no more.
            let drained = self.owed.load(Ordering::SeqCst) == 0 && self.queued_bytes() == 0 && !self.is_blocked();
            return if drained { Next::Drained } else { Next::Wait };
        }
        if self.is_congested() { Next::Wait } else { Next::Go }
    }

    /// Less waits than before: wakes whoever waited for that.
    fn wake_waiting(&self) {
        self.tell_others();
        if self.task_waits.load(Ordering::SeqCst) && self.look() != Next::Wait && self.task_waits.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Has `then` called once the peer has read so much that it [lags](Self::lags) no more, or the connection is closed. False: that
    /// is so already, and `then` was dropped. It is called on any thread, without a lock, and must not block.
    pub(crate) fn when_read(&self, then: Then) -> bool {
        let mut waiting = self.waiting.lock();
        // Whoever writes after this sees that somebody waits; what was written before is seen by the look.
        self.others_wait.store(true, Ordering::SeqCst);
        if waiting.closed || !self.lags() {
            self.others_wait.store(!waiting.others.is_empty(), Ordering::SeqCst);
            return false;
        }
        waiting.others.push(then);
        true
    }

    fn tell_others(&self) {
        if self.others_wait.load(Ordering::SeqCst) && !self.lags() {
            let mut waiting = self.waiting.lock();
            self.others_wait.store(false, Ordering::SeqCst);
            let others = std::mem::take(&mut waiting.others);
            drop(waiting);
            others.into_iter().for_each(|then| then());
        }
    }

    /// Has the connection's task end once nothing is owed and all is written.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.wake();
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
        if let Ok(socket) = self.socket() {
            socket.end();
        }
    }

    /// Drops what waits and ends the stream. Later calls of anything here do nothing.
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
