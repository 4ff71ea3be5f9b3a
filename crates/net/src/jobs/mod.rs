//! Threads beside those that serve connections: for what takes long, or waits for the disk, so that nobody else on the connection's
//! thread waits for it.
//!
//! A [`Pool`] is a few threads and one line of jobs before them. The line is bounded, in all and for each connection, and connections
//! take turns in it (`line.rs`). Threads start with the first job and end after a minute without one.
//!
//! Invariants:
//! - Jobs of one connection begin in the order in which they came. Where one of them is done at a time, they are done in that order.
//! - Jobs of a connection that closes are dropped before they begin.
//! - With [`Options::holds_back`], no job begins while its connection does not read its answers; one that was held begins when it
//!   does, by event.
//! - A thread is there while a job waits, so a job that was held finds one.
//! - A job is called, and dropped, without a lock: it may have others done.

mod line;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::Connection;
use crate::sync::{Arc, Condvar, Mutex, Weak, thread};
use line::{Begin, Line, Taken};
pub use line::{Bound, Bounds, Full};

/// How long a thread waits for a job before it ends.
const IDLE: Duration = Duration::from_secs(60);
/// Owner of jobs that are for no connection; no connection has this id.
const NOBODY: u64 = 0;

type Job = Box<dyn FnOnce() + Send>;

/// How a pool is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What its threads are called; Linux shows 15 bytes.
    pub name: &'static str,
    /// Threads at most.
    pub threads: usize,
    /// Jobs of one connection that are done at once.
    pub threads_of_one: usize,
    /// Whether jobs of a connection are held back while it does not read its answers ([`Connection::peer_lags`]).
    pub holds_back: bool,
    /// What may wait.
    pub bounds: Bounds,
}

/// Why a job was not taken. It was dropped.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// Too much waits already.
    #[error("no {name} thread for this request: {full}")]
    Full {
        /// Name of the pool's threads.
        name: &'static str,
        /// The bound.
        full: Full,
    },
    /// The system gives no thread.
    #[error("no {name} thread for this request: {error}")]
    NoThread {
        /// Name of the pool's threads.
        name: &'static str,
        /// Why.
        error: std::io::Error,
    },
}

/// A few threads and a line of jobs. Dropping it ends the threads after the jobs that they are doing, and drops the others.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    /// A job may begin, or the pool ended.
    called: Condvar,
}

struct State {
    line: Line<Option<Arc<Connection>>, Job>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl Pool {
    /// Without threads yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let state = State {
            line: Line::new(options.bounds, options.threads_of_one),
            threads: 0,
            idle: 0,
            ended: false,
        };
        Self {
            shared: Arc::new(Shared {
                options,
                state: Mutex::new(state),
                called: Condvar::new(),
            }),
        }
    }

    /// Has a job done for a connection; it keeps `bytes` of its request until then. A connection that is closed needs nothing done.
    ///
    /// # Errors
    /// [`Busy`] if the line is full, or no thread can be had.
    pub fn run(&self, conn: &Arc<Connection>, bytes: usize, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.shared.run(Some(conn), bytes, Box::new(job))
    }

    /// Has a job done that is for no connection.
    ///
    /// # Errors
    /// [`Busy`] if the line is full, or no thread can be had.
    pub fn run_own(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.shared.run(None, 0, Box::new(job))
    }

    /// Drops the jobs of a connection that have not begun. To be called when it has closed.
    pub fn forget(&self, conn: &Connection) {
        let jobs = self.shared.state.lock().line.forget(conn.id());
        drop(jobs);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.called.notify_all();
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.shared.options.name)
    }
}

impl Shared {
    fn run(self: &Arc<Self>, conn: Option<&Arc<Connection>>, bytes: usize, job: Job) -> Result<(), Busy> {
        let name = self.options.name;
        let id = conn.map_or(NOBODY, |conn| conn.id());
        // Dropped before the job, where that is not taken.
        let mut state = self.state.lock();
        // Under the lock: a connection that closes later than this is forgotten later, too.
        if conn.is_some_and(|conn| conn.is_closed()) {
            return Ok(());
        }
        state.line.admit(id, bytes).map_err(|full| Busy::Full { name, full })?;
        state.line.push(id, || conn.cloned(), bytes, job);
        match self.call_thread(&mut state) {
            Err(error) if state.threads == 0 => {
                // Nothing else waits: there was no thread.
                let jobs = state.line.forget(id);
                drop(state);
                drop(jobs);
                Err(Busy::NoThread { name, error })
            }
            _ => Ok(()),
        }
    }

    /// Has a thread look at the line: one that is idle, or a new one where those may not be enough.
    fn call_thread(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        self.called.notify_one();
        if state.idle >= state.line.len() || state.threads >= self.options.threads {
            return Ok(());
        }
        let shared = self.clone();
        let thread = thread::Builder::new().name(self.options.name.to_owned());
        thread.spawn(move || shared.work())?;
        state.threads += 1;
        Ok(())
    }

    fn work(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while !state.ended {
            match state.line.take(|id, conn| self.begin(id, conn.as_ref())) {
                Taken::Job(id, job) => {
                    if state.line.has_turn() && state.idle > 0 {
                        self.called.notify_one();
                    }
                    drop(state);
                    self.call(job);
                    state = self.state.lock();
                    state.line.done(id);
                }
                Taken::Unwanted(jobs) => {
                    drop(state);
                    drop(jobs);
                    state = self.state.lock();
                }
                Taken::Nothing => {
                    state.idle += 1;
                    let timed_out = self.called.wait_for(&mut state, IDLE).timed_out();
                    state.idle -= 1;
                    let is_needed = state.line.has_turn() || (state.threads == 1 && state.line.len() > 0);
                    if timed_out && !is_needed {
                        state.threads -= 1;
                        return;
                    }
                }
            }
        }
    }

    fn call(&self, job: Job) {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!(
                thread = self.options.name,
                "a request was given up: this is a bug, the panic is printed above"
            );
        }
    }

    /// Whether a job for `conn` begins now. Called under the lock.
    fn begin(self: &Arc<Self>, id: u64, conn: Option<&Arc<Connection>>) -> Begin {
        let Some(conn) = conn else { return Begin::Now };
        if conn.is_closed() {
            return Begin::Never;
        }
        if !self.options.holds_back || !conn.peer_lags() {
            return Begin::Now;
        }
        let pool = Arc::downgrade(self);
        let is_held = conn.when_peer_reads(move || Self::release(&pool, id));
        if is_held { Begin::Held } else { Begin::Now }
    }

    /// A connection reads again, or has closed.
    fn release(pool: &Weak<Self>, id: u64) {
        let Some(shared) = pool.upgrade() else { return };
        let mut state = shared.state.lock();
        state.line.release(id);
        if state.line.has_turn() {
            // A thread that cannot be had is no loss: there is one.
            let _ = shared.call_thread(&mut state);
        }
    }
}
