//! Thread pools for jobs that take long or wait for the disk, so that other connections of the network thread do not wait.
//!
//! A [`Pool`] has a few threads and one queue of jobs. The queue is limited, in all and for each connection, and connections take turns
//! (`queue.rs`). Threads start with the first job and end after a minute without one.
//!
//! Invariants:
//! - Jobs of one connection begin in the order in which they were added. With one thread for each connection, they also end in that order.
//! - Jobs of a connection that closes are dropped before they begin.
//! - With [`Options::holds_back`], no job begins while its connection does not read its responses. When it reads again, an event starts the
//!   held jobs.
//! - At least one thread exists while a job waits, also a held one.
//! - Jobs are called and dropped without a lock, so a job may add others.

mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::Connection;
use crate::sync::{Arc, Condvar, Mutex, Weak, thread};
use queue::{Begin, JobQueue, Taken};
pub use queue::{Bound, Bounds, Full};

/// How long a thread waits for a job before it ends.
const IDLE: Duration = Duration::from_secs(60);
/// Owner of jobs without a connection; no connection has this id.
const NO_CONNECTION: u64 = 0;

type Job = Box<dyn FnOnce() + Send>;

/// Options of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Name of its threads; Linux shows 15 bytes.
    pub name: &'static str,
    /// Maximum number of threads.
    pub threads: usize,
    /// Maximum number of running jobs of one connection.
    pub threads_of_one: usize,
    /// Whether jobs of a connection are held while it does not read its responses ([`Connection::peer_lags`]).
    pub holds_back: bool,
    /// Limits of the queue.
    pub bounds: Bounds,
}

/// Why a job was refused. It was dropped.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// The queue is full.
    #[error("no {name} thread for this request: {full}")]
    Full {
        /// Name of the pool's threads.
        name: &'static str,
        /// The limit that is reached.
        full: Full,
    },
    /// No thread could be started.
    #[error("no {name} thread for this request: {error}")]
    NoThread {
        /// Name of the pool's threads.
        name: &'static str,
        /// The error of the system.
        error: std::io::Error,
    },
}

/// Threads and a queue of jobs. Dropping it drops the waiting jobs and ends the threads after their running jobs.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    state: Mutex<PoolState>,
    /// A job may begin, or the pool ended.
    called: Condvar,
}

struct PoolState {
    queue: JobQueue<Option<Arc<Connection>>, Job>,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl Pool {
    /// Creates a pool. Threads start with the first job.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let state = PoolState {
            queue: JobQueue::new(options.bounds, options.threads_of_one),
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

    /// Adds a job for a connection that keeps `bytes` of its request in memory. Drops the job if the connection is closed.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full, or no thread can be started.
    pub fn run(&self, conn: &Arc<Connection>, bytes: usize, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.shared.run(Some(conn), bytes, Box::new(job))
    }

    /// Adds a job without a connection.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full, or no thread can be started.
    pub fn run_own(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.shared.run(None, 0, Box::new(job))
    }

    /// As [`Self::run_own`], for a job that takes `with`: if it is refused, `refused` gets it back, on this thread.
    pub fn run_own_with<T: Send + 'static>(&self, with: T, job: impl FnOnce(T) + Send + 'static, refused: impl FnOnce(T, Busy)) {
        let kept = Arc::new(Mutex::new(Some(with)));
        let taken = kept.clone();
        let take = move || {
            let with = taken.lock().take();
            if let Some(with) = with {
                job(with);
            }
        };
        if let Err(busy) = self.run_own(take)
            && let Some(with) = kept.lock().take()
        {
            refused(with, busy);
        }
    }

    /// Drops the waiting jobs of a connection. Call it when the connection has closed.
    pub fn forget(&self, conn: &Connection) {
        let jobs = self.shared.state.lock().queue.forget(conn.id());
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
        let id = conn.map_or(NO_CONNECTION, |conn| conn.id());
        // Declared before the job is used, so that a refused job is dropped after the lock is released.
        let mut state = self.state.lock();
        // Under the lock: if the connection closes after this, `forget` is called after this too.
        if conn.is_some_and(|conn| conn.is_closed()) {
            return Ok(());
        }
        state.queue.admit(id, bytes).map_err(|full| Busy::Full { name, full })?;
        state.queue.push(id, || conn.cloned(), bytes, job);
        match self.call_thread(&mut state) {
            Err(error) if state.threads == 0 => {
                // No other job waits, because there was no thread.
                let jobs = state.queue.forget(id);
                drop(state);
                drop(jobs);
                Err(Busy::NoThread { name, error })
            }
            _ => Ok(()),
        }
    }

    /// Wakes an idle thread, or starts a new one if the idle threads may not be enough.
    fn call_thread(self: &Arc<Self>, state: &mut PoolState) -> std::io::Result<()> {
        self.called.notify_one();
        if state.idle >= state.queue.len() || state.threads >= self.options.threads {
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
            match state.queue.take(|id, conn| self.begin(id, conn.as_ref())) {
                Taken::Job(id, job) => {
                    if state.queue.has_turn() && state.idle > 0 {
                        self.called.notify_one();
                    }
                    drop(state);
                    self.call(job);
                    state = self.state.lock();
                    state.queue.done(id);
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
                    let is_needed = state.queue.has_turn() || (state.threads == 1 && state.queue.len() > 0);
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
                "a job panicked and its request gets no response: this is a bug, the panic is printed above"
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

    /// Called when a connection reads again or has closed.
    fn release(pool: &Weak<Self>, id: u64) {
        let Some(shared) = pool.upgrade() else { return };
        let mut state = shared.state.lock();
        state.queue.release(id);
        if state.queue.has_turn() {
            // If no thread can be started, the existing one does the job.
            let _ = shared.call_thread(&mut state);
        }
    }
}
