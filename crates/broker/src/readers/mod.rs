//! Threads beside those that serve connections, so that no sender waits for what somebody else asked for.
//!
//! | thread | what | how many |
//! |---|---|---|
//! | `catch-up` | copies what the page cache has and memory has not any more; never waits for the disk | as many as may have a processor each |
//! | `reader` | whatever may wait for the disk: cold pulls, look-ups, messages that are sent back | a few more |
//! | `admin` | walks over tables, and requests whose bodies are large: never waits for the disk, but takes long | as many as may have a processor each |
//!
//! They start with the first job and end after a minute without one. The line before them is bounded, in all and for each
//! connection, and connections take turns in it ([`line`]). Jobs of one connection may be done at the same time, but for those of
//! `admin`, which are done in the order in which they came. Jobs of a connection that closes are dropped before they begin.

mod line;

pub use line::Bounds;

use crate::errors::Refusal;
use line::Line;
use net::Connection;
use parking_lot::{Condvar, Mutex};
use protocol::codes::ResponseCode;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How long a thread waits for a job before it ends.
const IDLE: Duration = Duration::from_secs(60);
/// Owner of the broker's own jobs; no connection has this id.
const BROKER: u64 = 0;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads and a line of jobs.
pub struct Readers {
    name: &'static str,
    max_threads: usize,
    state: Mutex<State>,
    job_came: Condvar,
}

struct State {
    line: Line<Job>,
    threads: usize,
    idle: usize,
}

impl Readers {
    /// Up to `max_threads` threads called `name`. `of_one` jobs of one connection are done at once.
    #[must_use]
    pub fn new(name: &'static str, max_threads: usize, of_one: usize, bounds: Bounds) -> Arc<Self> {
        let state = State {
            line: Line::new(bounds, of_one),
            threads: 0,
            idle: 0,
        };
        Arc::new(Self {
            name,
            max_threads,
            state: Mutex::new(state),
            job_came: Condvar::new(),
        })
    }

    /// Has a job done for a connection; it keeps `bytes` of its request until then. A connection that is closed needs nothing done.
    ///
    /// # Errors
    /// The line is full, or no thread can be had: busy.
    pub fn run(self: &Arc<Self>, conn: &Connection, bytes: usize, job: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        self.run_unless(|| conn.is_closed(), conn.id(), bytes, Box::new(job))
    }

    /// Has a job of the broker's own done.
    ///
    /// # Errors
    /// The line is full, or no thread can be had: busy.
    pub fn run_own(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        self.run_unless(|| false, BROKER, 0, Box::new(job))
    }

    fn run_unless(self: &Arc<Self>, gone: impl FnOnce() -> bool, owner: u64, bytes: usize, job: Job) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        // Under the lock: a connection that closes later than this is forgotten later, too.
        if gone() {
            return Ok(());
        }
        state.line.push(owner, bytes, job).map_err(|full| self.busy(&full))?;
        if state.idle < state.line.len() && state.threads < self.max_threads {
            let readers = self.clone();
            match std::thread::Builder::new().name(self.name.to_owned()).spawn(move || readers.work()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    let jobs = state.line.forget(owner);
                    drop(state);
                    drop(jobs);
                    return Err(self.busy(&error));
                }
                Err(_) => {}
            }
        }
        self.job_came.notify_one();
        Ok(())
    }

    fn busy(&self, why: &dyn std::fmt::Display) -> Refusal {
        Refusal::new(ResponseCode::SystemBusy, format!("no {} thread for this request: {why}", self.name))
    }

    /// Drops the jobs of a connection that have not begun.
    pub fn forget(&self, conn: &Connection) {
        let jobs = self.state.lock().line.forget(conn.id());
        // Not under the lock: what a job drops may want something done.
        drop(jobs);
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((owner, job)) = state.line.take() {
                drop(state);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!(
                        thread = self.name,
                        "a request was given up: this is a bug, the panic is printed above"
                    );
                }
                state = self.state.lock();
                state.line.done(owner);
                continue;
            }
            state.idle += 1;
            let timed_out = self.job_came.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if timed_out && state.line.len() == 0 {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// The threads of a broker.
#[derive(Clone)]
pub struct Threads {
    /// For what the page cache has.
    pub catch_up: Arc<Readers>,
    /// For what may wait for the disk.
    pub reader: Arc<Readers>,
    /// For what takes long without waiting.
    pub admin: Arc<Readers>,
}

impl Threads {
    /// So many threads of each kind.
    #[must_use]
    pub fn new(catch_up: usize, reader: usize, admin: usize, bounds: Bounds) -> Self {
        Self {
            catch_up: Readers::new("catch-up", catch_up, catch_up, bounds),
            // A read of the disk may take long: one thread is left to the others.
            reader: Readers::new("reader", reader, reader.saturating_sub(1).max(1), bounds),
            admin: Readers::new("admin", admin, 1, bounds),
        }
    }

    /// Drops what waits to be done for a connection that closed.
    pub fn forget(&self, conn: &Connection) {
        for readers in [&self.catch_up, &self.reader, &self.admin] {
            readers.forget(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const BOUNDS: Bounds = Bounds {
        jobs: 2,
        jobs_of_one: 2,
        bytes: 100,
        bytes_of_one: 100,
    };

    #[test]
    fn jobs_are_done_and_one_too_many_is_refused() {
        let readers = Readers::new("reader", 1, 1, BOUNDS);
        let (hold, held) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let (started, running) = mpsc::channel();
        readers
            .run_own(move || {
                started.send(()).unwrap();
                held.recv().unwrap();
            })
            .unwrap();
        running.recv().unwrap();
        for n in 0..2 {
            let done = done.clone();
            readers.run_own(move || done.send(n).unwrap()).unwrap();
        }
        let refusal = readers.run_own(|| ()).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::SystemBusy);
        assert!(refusal.text.contains("apogeeMaxWaitingReads"), "{}", refusal.text);
        hold.send(()).unwrap();
        assert_eq!(finished.iter().take(2).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_job_that_panics_keeps_neither_its_thread_nor_its_place() {
        let readers = Readers::new("reader", 1, 1, BOUNDS);
        for _ in 0..20 {
            let (begun, done) = mpsc::channel::<()>();
            readers
                .run_own(move || {
                    let _begun = begun;
                    panic!("as asked");
                })
                .unwrap();
            // Dropped by the unwinding.
            assert!(done.recv().is_err());
        }
        let (done, finished) = mpsc::channel();
        readers.run_own(move || done.send(()).unwrap()).unwrap();
        finished.recv().unwrap();
    }
}
