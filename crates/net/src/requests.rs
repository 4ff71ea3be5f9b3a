//! Our own requests on a connection that wait for an answer: a bounded table from opaque to callback.
//!
//! Invariant: a callback that was accepted is called exactly once, never under the table's lock: with the answer, on time-out (swept
//! coarsely), or when the connection ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use protocol::frame::Frame;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum RequestError {
    /// As many requests as the connection's limit wait already; nothing was sent. Try later.
    #[error("too many requests wait for an answer on this connection")]
    TooMany,
    /// The connection is closed, or closed before the answer came; the peer may or may not have acted.
    #[error("connection closed")]
    Closed,
    /// No answer in time; the peer may or may not have acted.
    #[error("no answer in time")]
    TimedOut,
}

/// What is called with the answer.
pub(crate) type Done = Box<dyn FnOnce(Result<Frame, RequestError>) + Send>;

struct Pending {
    /// In [`crate::clock::uptime_ms`] time.
    deadline_ms: u64,
    done: Done,
}

#[derive(Default)]
struct Table {
    entries: HashMap<i32, Pending>,
    next_opaque: i32,
    closed: bool,
}

pub(crate) struct Requests {
    table: Mutex<Table>,
    waiting: AtomicUsize,
    bound: usize,
}

impl Requests {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            table: Mutex::default(),
            waiting: AtomicUsize::new(0),
            bound,
        }
    }

    /// Requests without an answer yet.
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Reserves an opaque that no waiting request has.
    pub(crate) fn insert(&self, deadline_ms: u64, done: Done) -> Result<i32, RequestError> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(RequestError::Closed);
        }
        if table.entries.len() >= self.bound {
            return Err(RequestError::TooMany);
        }
        let mut opaque = table.next_opaque;
        // Ends: the table is bounded far below the number of opaques.
        while table.entries.contains_key(&opaque) {
            opaque = opaque.wrapping_add(1);
        }
        table.next_opaque = opaque.wrapping_add(1);
        table.entries.insert(opaque, Pending { deadline_ms, done });
        self.waiting.store(table.entries.len(), Ordering::Relaxed);
        Ok(opaque)
    }

    /// Calls back whoever waits for this answer; an unknown one (too late) is dropped. True if somebody waited.
    pub(crate) fn complete(&self, frame: Frame) -> bool {
        let pending = self.remove(frame.opaque);
        let known = pending.is_some();
        if let Some(done) = pending {
            done(Ok(frame));
        }
        known
    }

    /// Forgets a request without a call.
    pub(crate) fn remove(&self, opaque: i32) -> Option<Done> {
        let mut table = self.table.lock();
        let pending = table.entries.remove(&opaque);
        self.waiting.store(table.entries.len(), Ordering::Relaxed);
        pending.map(|pending| pending.done)
    }

    /// Times out what is due. How many were.
    pub(crate) fn sweep(&self, now_ms: u64) -> usize {
        if self.len() == 0 {
            return 0;
        }
        let due: Vec<Pending> = {
            let mut table = self.table.lock();
            let due = table
                .entries
                .extract_if(|_, pending| pending.deadline_ms <= now_ms)
                .map(|(_, pending)| pending)
                .collect();
            self.waiting.store(table.entries.len(), Ordering::Relaxed);
            due
        };
        let count = due.len();
        for pending in due {
            (pending.done)(Err(RequestError::TimedOut));
        }
        count
    }

    /// Fails all that wait and all that follow. How many waited.
    pub(crate) fn close(&self) -> usize {
        let entries = {
            let mut table = self.table.lock();
            table.closed = true;
            self.waiting.store(0, Ordering::Relaxed);
            std::mem::take(&mut table.entries)
        };
        let count = entries.len();
        for pending in entries.into_values() {
            (pending.done)(Err(RequestError::Closed));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn reporting(report: &mpsc::Sender<Result<i32, RequestError>>) -> Done {
        let report = report.clone();
        Box::new(move |result| report.send(result.map(|frame| frame.opaque)).unwrap())
    }

    #[test]
    fn the_table_is_bounded_and_each_request_ends_once() {
        let (report, results) = mpsc::channel();
        let requests = Requests::new(3);
        assert_eq!(requests.insert(10, reporting(&report)), Ok(0));
        assert_eq!(requests.insert(20, reporting(&report)), Ok(1));
        assert_eq!(requests.insert(30, reporting(&report)), Ok(2));
        assert_eq!(requests.insert(30, reporting(&report)), Err(RequestError::TooMany));
        let mut answer = Frame::request(0);
        answer.opaque = 1;
        assert!(requests.complete(answer.clone()));
        assert!(!requests.complete(answer));
        assert_eq!(requests.sweep(10), 1);
        assert_eq!(requests.close(), 1);
        assert_eq!(requests.insert(30, reporting(&report)), Err(RequestError::Closed));
        let results: Vec<_> = results.try_iter().collect();
        assert_eq!(results, [Ok(1), Err(RequestError::TimedOut), Err(RequestError::Closed)]);
    }
}
