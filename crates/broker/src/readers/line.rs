//! Who is next: jobs in line, by the connection they are for. Pure state.
//!
//! Connections take turns, one job each, in the order in which they came to have one. So a connection with a thousand jobs and one
//! with a single job both have one done in each round. No connection has more than a share of the threads at once, so that jobs that
//! take long do not take all of them.
//!
//! Invariant: a connection is in `turns` exactly once while it has jobs waiting and may have one more done, else not at all.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Bounds of a line, each a setting.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Jobs waiting in all: `apogeeMaxWaitingReads`.
    pub jobs: usize,
    /// Of one connection: `apogeeMaxWaitingReadsPerConnection`.
    pub jobs_of_one: usize,
    /// Bytes of requests that wait, in all: `apogeeMaxWaitingReadBytes`.
    pub bytes: usize,
    /// Of one connection: `apogeeMaxWaitingReadBytesPerConnection`.
    pub bytes_of_one: usize,
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// Too many in all.
    #[error("{0} requests wait already, over apogeeMaxWaitingReads")]
    Jobs(usize),
    /// Too many of this connection.
    #[error("{0} requests of this connection wait already, over apogeeMaxWaitingReadsPerConnection")]
    JobsOfOne(usize),
    /// Too large in all.
    #[error("requests of {0} bytes wait already, over apogeeMaxWaitingReadBytes with this one")]
    Bytes(usize),
    /// Too large for this connection.
    #[error("requests of {0} bytes of this connection wait already, over apogeeMaxWaitingReadBytesPerConnection with this one")]
    BytesOfOne(usize),
}

#[derive(Debug)]
struct Owner<J> {
    jobs: VecDeque<(usize, J)>,
    bytes: usize,
    running: usize,
    in_turn: bool,
}

/// Jobs in line.
#[derive(Debug)]
pub(super) struct Line<J> {
    bounds: Bounds,
    /// Jobs of one connection that are done at once.
    running_of_one: usize,
    owners: FxHashMap<u64, Owner<J>>,
    turns: VecDeque<u64>,
    jobs: usize,
    bytes: usize,
}

impl<J> Line<J> {
    pub(super) fn new(bounds: Bounds, running_of_one: usize) -> Self {
        Self {
            bounds,
            running_of_one,
            owners: FxHashMap::default(),
            turns: VecDeque::new(),
            jobs: 0,
            bytes: 0,
        }
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.jobs
    }

    /// Puts a job in line that keeps `bytes` of its request.
    ///
    /// # Errors
    /// A bound is reached.
    pub(super) fn push(&mut self, owner: u64, bytes: usize, job: J) -> Result<(), Full> {
        let (jobs_of_one, bytes_of_one) = self.owners.get(&owner).map_or((0, 0), |known| (known.jobs.len(), known.bytes));
        let Bounds { jobs, bytes: most, .. } = self.bounds;
        if self.jobs >= jobs {
            return Err(Full::Jobs(self.jobs));
        }
        if jobs_of_one >= self.bounds.jobs_of_one {
            return Err(Full::JobsOfOne(jobs_of_one));
        }
        if self.bytes.saturating_add(bytes) > most {
            return Err(Full::Bytes(self.bytes));
        }
        if bytes_of_one.saturating_add(bytes) > self.bounds.bytes_of_one {
            return Err(Full::BytesOfOne(bytes_of_one));
        }
        self.jobs += 1;
        self.bytes += bytes;
        let known = self.owners.entry(owner).or_insert_with(|| Owner {
            jobs: VecDeque::new(),
            bytes: 0,
            running: 0,
            in_turn: false,
        });
        known.bytes += bytes;
        known.jobs.push_back((bytes, job));
        self.take_turn(owner);
        Ok(())
    }

    fn take_turn(&mut self, owner: u64) {
        let Some(known) = self.owners.get_mut(&owner) else { return };
        if !known.in_turn && !known.jobs.is_empty() && known.running < self.running_of_one {
            known.in_turn = true;
            self.turns.push_back(owner);
        }
    }

    /// The next job and whose it is; [`Self::done`] is to be told when it is done.
    pub(super) fn take(&mut self) -> Option<(u64, J)> {
        let owner = self.turns.pop_front()?;
        let known = self.owners.get_mut(&owner)?;
        known.in_turn = false;
        let (bytes, job) = known.jobs.pop_front()?;
        known.bytes -= bytes;
        known.running += 1;
        self.bytes -= bytes;
        self.jobs -= 1;
        self.take_turn(owner);
        Some((owner, job))
    }

    /// A job that was taken is done.
    pub(super) fn done(&mut self, owner: u64) {
        let Some(known) = self.owners.get_mut(&owner) else { return };
        known.running -= 1;
        if known.running == 0 && known.jobs.is_empty() {
            self.owners.remove(&owner);
        } else {
            self.take_turn(owner);
        }
    }

    /// Takes out all jobs of a connection that wait. Those that are being done go on.
    pub(super) fn forget(&mut self, owner: u64) -> Vec<J> {
        let Some(known) = self.owners.get_mut(&owner) else {
            return Vec::new();
        };
        self.jobs -= known.jobs.len();
        self.bytes -= std::mem::take(&mut known.bytes);
        let jobs = known.jobs.drain(..).map(|(_, job)| job).collect();
        if std::mem::take(&mut known.in_turn) {
            self.turns.retain(|waiting| *waiting != owner);
        }
        if known.running == 0 {
            self.owners.remove(&owner);
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(running_of_one: usize) -> Line<&'static str> {
        let bounds = Bounds {
            jobs: 6,
            jobs_of_one: 4,
            bytes: 100,
            bytes_of_one: 60,
        };
        Line::new(bounds, running_of_one)
    }

    #[test]
    fn connections_take_turns() {
        let mut line = line(4);
        for job in ["a1", "a2", "a3"] {
            line.push(1, 1, job).unwrap();
        }
        line.push(2, 1, "b1").unwrap();
        line.push(3, 1, "c1").unwrap();
        line.push(2, 1, "b2").unwrap();
        let order: Vec<&str> = std::iter::from_fn(|| line.take()).map(|(_, job)| job).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn one_connection_has_a_share_of_the_threads() {
        let mut line = line(1);
        line.push(1, 1, "a1").unwrap();
        line.push(1, 1, "a2").unwrap();
        assert_eq!(line.take(), Some((1, "a1")));
        assert_eq!(line.take(), None, "its first job is being done");
        line.push(2, 1, "b1").unwrap();
        assert_eq!(line.take(), Some((2, "b1")));
        line.done(1);
        assert_eq!(line.take(), Some((1, "a2")));
        line.done(2);
        line.done(1);
        assert!(line.owners.is_empty() && line.turns.is_empty());
        assert_eq!((line.jobs, line.bytes), (0, 0));
    }

    #[test]
    fn each_bound_refuses_what_is_over_it() {
        let mut line = line(4);
        assert_eq!(line.push(1, 61, "large"), Err(Full::BytesOfOne(0)));
        line.push(1, 60, "fits").unwrap();
        assert_eq!(line.push(2, 41, "too much in all"), Err(Full::Bytes(60)));
        for _ in 0..3 {
            line.push(1, 0, "small").unwrap();
        }
        assert_eq!(line.push(1, 0, "fifth"), Err(Full::JobsOfOne(4)));
        line.push(2, 0, "small").unwrap();
        line.push(3, 0, "small").unwrap();
        assert_eq!(line.push(4, 0, "seventh"), Err(Full::Jobs(6)));
    }

    #[test]
    fn a_closed_connection_leaves_nothing_behind() {
        let mut line = line(1);
        for job in ["a1", "a2", "a3"] {
            line.push(1, 10, job).unwrap();
        }
        line.push(2, 1, "b1").unwrap();
        assert_eq!(line.take(), Some((1, "a1")));
        assert_eq!(line.forget(1), ["a2", "a3"]);
        assert_eq!((line.len(), line.bytes), (1, 1));
        line.done(1);
        assert_eq!(line.forget(1), Vec::<&str>::new());
        assert_eq!(line.forget(2), ["b1"]);
        assert!(line.owners.is_empty() && line.turns.is_empty());
        assert_eq!(line.take(), None);
    }
}
