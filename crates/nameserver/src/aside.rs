//! Work that would hold up the thread on which it was asked for: reading a registration of many megabytes, writing a list of all topics,
//! waiting for a disk. One thread does it, started with the first job.
//!
//! Invariants:
//! - Jobs of one connection run in the order in which they came. Connections take turns, so that one with a thousand jobs keeps another
//!   with one job waiting for one of them.
//! - What waits is bounded, in jobs and in bytes of requests, for all and for each connection; one more is refused.
//! - A job of a connection that is closed is dropped, and one of a connection that does not read its answers waits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use net::Connection;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;

/// Jobs of one connection that wait at most.
const MAX_JOBS_PER_CONNECTION: usize = 4_096;
/// Jobs that wait at most.
const MAX_JOBS: usize = 65_536;
/// The part of the bytes that one connection may have waiting.
const SHARE_OF_BYTES: usize = 4;
/// Time between two looks whether a connection with jobs reads its answers again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

type Run = Box<dyn FnOnce() + Send>;

struct Job {
    bytes: usize,
    run: Run,
}

/// Jobs of one connection.
struct Line {
    connection: Arc<Connection>,
    jobs: VecDeque<Job>,
    bytes: usize,
}

#[derive(Default)]
struct Waiting {
    lines: FxHashMap<u64, Line>,
    /// Connections with jobs, in the order of their turns.
    turns: VecDeque<u64>,
    jobs: usize,
    bytes: usize,
    started: bool,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

/// Too much waits already; nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Busy {
    /// Of this connection, or of all.
    #[error("too many requests of this kind wait already, try again later")]
    Jobs,
    /// As many bytes as allowed.
    #[error("requests with {0} bytes wait already, see apogeeMaxWaitingBytes; try again later")]
    Bytes(usize),
    /// No thread.
    #[error("no thread can be started for this request")]
    NoThread,
}

/// A thread and what waits for it. Dropping it ends the thread after its job.
pub(crate) struct Aside {
    name: &'static str,
    max_bytes: usize,
    shared: Arc<Shared>,
}

impl Aside {
    /// For requests of so many bytes in all.
    pub(crate) fn new(name: &'static str, max_bytes: usize) -> Self {
        Self {
            name,
            max_bytes,
            shared: Arc::default(),
        }
    }

    /// Has `run` called on the thread, unless the connection closes before. It holds `bytes` of a request.
    ///
    /// # Errors
    /// [`Busy`]; `run` will not be called.
    pub(crate) fn run(&self, connection: &Arc<Connection>, bytes: usize, run: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        let mut waiting = self.shared.waiting.lock();
        let (jobs, of_connection) = waiting
            .lines
            .get(&connection.id())
            .map_or((0, 0), |line| (line.jobs.len(), line.bytes));
        if jobs >= MAX_JOBS_PER_CONNECTION || waiting.jobs >= MAX_JOBS {
            return Err(Busy::Jobs);
        }
        // A request that is larger than the share is taken if nothing else waits.
        let full = |held: usize, max: usize| held > 0 && held + bytes > max;
        if full(of_connection, self.max_bytes / SHARE_OF_BYTES) || full(waiting.bytes, self.max_bytes) {
            return Err(Busy::Bytes(waiting.bytes));
        }
        if !waiting.started {
            self.start()?;
            waiting.started = true;
        }
        // Without a size: the answer counts when it is there, and no further job of this connection is begun before.
        let owed = connection.owe(0);
        let run = Box::new(move || {
            run();
            drop(owed);
        });
        waiting.push(connection, Job { bytes, run });
        drop(waiting);
        self.shared.bell.notify_one();
        Ok(())
    }

    fn start(&self) -> Result<(), Busy> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(self.name.to_owned());
        thread.spawn(move || work(&shared)).map(drop).map_err(|error| {
            tracing::warn!(%error, thread = self.name, "cannot start a thread");
            Busy::NoThread
        })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.shared.waiting.lock().ended = true;
        self.shared.bell.notify_one();
    }
}

impl Waiting {
    fn push(&mut self, connection: &Arc<Connection>, job: Job) {
        let id = connection.id();
        let line = self.lines.entry(id).or_insert_with(|| Line {
            connection: Arc::clone(connection),
            jobs: VecDeque::new(),
            bytes: 0,
        });
        if line.jobs.is_empty() {
            self.turns.push_back(id);
        }
        line.bytes += job.bytes;
        self.bytes += job.bytes;
        self.jobs += 1;
        line.jobs.push_back(job);
    }

    /// The next job, of the connection whose turn it is.
    fn pop(&mut self) -> Option<Run> {
        for _ in 0..self.turns.len() {
            let id = self.turns.pop_front()?;
            let line = self.lines.get_mut(&id)?;
            if line.connection.is_closed() {
                self.jobs -= line.jobs.len();
                self.bytes -= line.bytes;
                self.lines.remove(&id);
                continue;
            }
            if line.connection.congested() {
                self.turns.push_back(id);
                continue;
            }
            let job = line.jobs.pop_front()?;
            line.bytes -= job.bytes;
            self.jobs -= 1;
            self.bytes -= job.bytes;
            if line.jobs.is_empty() {
                self.lines.remove(&id);
            } else {
                self.turns.push_back(id);
            }
            return Some(job.run);
        }
        None
    }
}

fn work(shared: &Shared) {
    loop {
        let mut waiting = shared.waiting.lock();
        let run = loop {
            if waiting.ended {
                return;
            }
            if let Some(run) = waiting.pop() {
                break run;
            }
            if waiting.turns.is_empty() {
                shared.bell.wait(&mut waiting);
            } else {
                shared.bell.wait_for(&mut waiting, LOOK_AGAIN);
            }
        };
        drop(waiting);
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!("a request has panicked; its client gets no answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::client::{Peer, PeerOptions};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(20);

    /// Connections to a listener that never reads.
    fn with_connections(test: impl FnOnce(&Arc<Connection>, &Arc<Connection>)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let one = Peer::connect(&address, PeerOptions::default()).await.unwrap();
            let other = Peer::connect(&address, PeerOptions::default()).await.unwrap();
            test(one.connection(), other.connection());
        });
    }

    /// Occupies the thread until the sender is dropped or used.
    fn occupy(aside: &Aside, connection: &Arc<Connection>) -> Sender<()> {
        let (release, released) = channel::<()>();
        let (begun, begins) = channel();
        let wait = move || {
            begun.send(()).unwrap();
            let _ = released.recv();
        };
        aside.run(connection, 1, wait).unwrap();
        begins.recv_timeout(SOON).unwrap();
        release
    }

    fn say(done: &Sender<&'static str>, what: &'static str) -> impl FnOnce() + Send + 'static {
        let done = done.clone();
        move || done.send(what).unwrap()
    }

    fn order(said: &Receiver<&'static str>, count: usize) -> Vec<&'static str> {
        (0..count).map(|_| said.recv_timeout(SOON).unwrap()).collect()
    }

    #[test]
    fn connections_take_turns_and_each_keeps_its_order() {
        with_connections(|one, other| {
            let aside = Aside::new("aside", 1_000);
            let release = occupy(&aside, one);
            let (done, said) = channel();
            for what in ["a1", "a2", "a3"] {
                aside.run(one, 1, say(&done, what)).unwrap();
            }
            aside.run(other, 1, say(&done, "b1")).unwrap();
            drop(release);
            assert_eq!(order(&said, 4), ["a1", "b1", "a2", "a3"]);
        });
    }

    #[test]
    fn what_waits_is_bounded_for_each_connection_and_for_all() {
        with_connections(|one, other| {
            let aside = Aside::new("aside", 1_000);
            let release = occupy(&aside, other);
            let (done, said) = channel();
            aside.run(one, 200, say(&done, "a")).unwrap();
            assert_eq!(aside.run(one, 51, || ()), Err(Busy::Bytes(200)));
            aside.run(one, 50, say(&done, "a")).unwrap();
            aside
                .run(other, 600, say(&done, "large, but the only one of its connection"))
                .unwrap();
            assert_eq!(aside.run(other, 1, || ()), Err(Busy::Bytes(850)));
            for _ in 2..MAX_JOBS_PER_CONNECTION {
                aside.run(one, 0, || ()).unwrap();
            }
            assert_eq!(aside.run(one, 0, || ()), Err(Busy::Jobs));
            drop(release);
            order(&said, 3);
        });
    }

    #[test]
    fn jobs_of_a_closed_connection_are_dropped_and_a_panic_ends_none_but_its_own() {
        with_connections(|one, other| {
            let aside = Aside::new("aside", 1_000);
            let release = occupy(&aside, other);
            let (done, said) = channel();
            aside.run(one, 500, say(&done, "never")).unwrap();
            aside.run(other, 1, || panic!("a panic that a test asked for")).unwrap();
            aside.run(other, 1, say(&done, "after")).unwrap();
            one.close();
            drop(release);
            assert_eq!(order(&said, 1), ["after"]);
            assert_eq!(aside.shared.waiting.lock().bytes, 0);
        });
    }
}
