//! Our own requests in flight on a connection: a bounded table from opaque to callback.
//!
//! Invariant: an accepted callback is called exactly once, never under the table's lock: with the response, on time-out (detected by a
//! coarse scan), or when the connection closes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use protocol::frame::Frame;

/// Why a request has no response.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum RequestError {
    /// The connection's limit of requests in flight is reached. Nothing was sent; try later.
    #[error("too many requests are in flight on this connection (max_pending_requests): try again later")]
    TooMany,
    /// Another request in flight has the opaque that this one came with. Nothing was sent.
    #[error("another request in flight on this connection has the same opaque")]
    OpaqueInUse,
    /// The connection is closed, or closed before the response arrived; the peer may have executed the request.
    #[error("connection closed")]
    Closed,
    /// No response in time; the peer may have executed the request.
    #[error("no response in time")]
    TimedOut,
}

/// Called with the response.
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

impl Table {
    fn free_opaque(&mut self) -> i32 {
        let mut opaque = self.next_opaque;
        // Terminates, because the table has far fewer entries than there are opaques.
        while self.entries.contains_key(&opaque) {
            opaque = opaque.wrapping_add(1);
        }
        self.next_opaque = opaque.wrapping_add(1);
        opaque
    }
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

    /// Number of requests in flight.
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Adds a request. Returns its opaque, which no other request in flight has.
    pub(crate) fn insert(&self, deadline_ms: u64, done: Done) -> Result<i32, RequestError> {
        self.add(None, deadline_ms, done).map_err(|(error, _)| error)
    }

    /// Adds a request, under an opaque that it has already if there is one. Returns its opaque, or the callback with the reason.
    pub(crate) fn add(&self, opaque: Option<i32>, deadline_ms: u64, done: Done) -> Result<i32, (RequestError, Done)> {
        let mut table = self.table.lock();
        if table.closed {
            return Err((RequestError::Closed, done));
        }
        if table.entries.len() >= self.bound {
            return Err((RequestError::TooMany, done));
        }
        let opaque = match opaque {
            Some(opaque) if table.entries.contains_key(&opaque) => return Err((RequestError::OpaqueInUse, done)),
            Some(opaque) => opaque,
            None => table.free_opaque(),
        };
        table.entries.insert(opaque, Pending { deadline_ms, done });
        self.waiting.store(table.entries.len(), Ordering::Relaxed);
        Ok(opaque)
    }

    /// Calls the callback of a response. Drops a response without a request in flight. Returns whether there was one.
    pub(crate) fn complete(&self, frame: Frame) -> bool {
        let pending = self.remove(frame.opaque);
        let known = pending.is_some();
        if let Some(done) = pending {
            done(Ok(frame));
        }
        known
    }

    /// Removes a request without calling its callback.
    pub(crate) fn remove(&self, opaque: i32) -> Option<Done> {
        let mut table = self.table.lock();
        let pending = table.entries.remove(&opaque);
        self.waiting.store(table.entries.len(), Ordering::Relaxed);
        pending.map(|pending| pending.done)
    }

    /// Fails requests whose time-out has passed. Returns how many.
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

    /// Fails all requests in flight and all later ones. Returns how many were in flight.
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

    #[test]
    fn a_request_may_have_an_opaque_of_its_own() {
        let (report, results) = mpsc::channel();
        let requests = Requests::new(2);
        let add = |opaque| requests.add(Some(opaque), 10, reporting(&report)).map_err(|(error, _)| error);
        assert_eq!(add(7), Ok(7));
        assert_eq!(add(7), Err(RequestError::OpaqueInUse));
        assert_eq!(add(-1), Ok(-1));
        assert_eq!(add(8), Err(RequestError::TooMany));
        let mut answer = Frame::request(0);
        answer.opaque = 7;
        assert!(requests.complete(answer));
        assert_eq!(requests.close(), 1);
        assert_eq!(results.try_iter().collect::<Vec<_>>(), [Ok(7), Err(RequestError::Closed)]);
    }
}
