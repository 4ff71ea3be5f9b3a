//! The queue of jobs, by connection. Pure state without threads.
//!
//! Connections take turns, one job each. So a connection with a thousand jobs and one with a single job both get one job done in each round.
//! No connection uses more than its share of the threads, so that long jobs of one connection do not use all of them.
//!
//! Invariant: a connection is in `turns` exactly once while it has waiting jobs, may use another thread and is not held, otherwise not at
//! all.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// A limit of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// The maximum.
    pub most: usize,
    /// The configuration key that sets it, for error texts.
    pub set_by: &'static str,
}

impl Bound {
    /// Creates a limit of `most`, set by the key `set_by`.
    pub const fn new(most: usize, set_by: &'static str) -> Self {
        Self { most, set_by }
    }
}

/// Limits of a queue. A job larger than a byte limit is accepted while no other bytes wait, so that no job is refused forever.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Waiting jobs of all connections.
    pub jobs: Bound,
    /// Waiting jobs of one connection.
    pub jobs_of_one: Bound,
    /// Bytes of waiting requests of all connections.
    pub bytes: Bound,
    /// Bytes of waiting requests of one connection.
    pub bytes_of_one: Bound,
}

/// The limit that refuses a job, with what waits already and the key of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Too many jobs of all connections.
    #[error("{0} requests wait already, with this one more than {1} allows")]
    Jobs(usize, &'static str),
    /// Too many jobs of this connection.
    #[error("{0} requests of this connection wait already, with this one more than {1} allows")]
    JobsOfOne(usize, &'static str),
    /// Too many bytes of all connections.
    #[error("requests of {0} bytes wait already, with this one more than {1} allows")]
    Bytes(usize, &'static str),
    /// Too many bytes of this connection.
    #[error("requests of {0} bytes of this connection wait already, with this one more than {1} allows")]
    BytesOfOne(usize, &'static str),
}

/// Whether the next job of an owner begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Yes.
    Now,
    /// Not before [`JobQueue::release`].
    Held,
    /// Never: its jobs are dropped.
    Never,
}

/// Result of [`JobQueue::take`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<J> {
    /// The next job and the id of its owner. Call [`JobQueue::done`] when it is done.
    Job(u64, J),
    /// Jobs of an owner that has gone, to be dropped. Call again: there may be other jobs.
    Unwanted(VecDeque<(usize, J)>),
    /// No job can begin now.
    Nothing,
}

#[derive(Debug)]
struct Owner<O, J> {
    of: O,
    jobs: VecDeque<(usize, J)>,
    bytes: usize,
    running: usize,
    in_turn: bool,
    held: bool,
}

/// Waiting jobs `J` of owners `O`.
#[derive(Debug)]
pub(super) struct JobQueue<O, J> {
    bounds: Bounds,
    /// Maximum number of running jobs of one owner.
    running_of_one: usize,
    owners: FxHashMap<u64, Owner<O, J>>,
    turns: VecDeque<u64>,
    jobs: usize,
    bytes: usize,
}

impl<O, J> JobQueue<O, J> {
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

    /// Number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.jobs
    }

    /// Whether some owner has a job that may begin.
    pub(super) fn has_turn(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Checks whether a job that keeps `bytes` of its request can be added.
    ///
    /// # Errors
    /// [`Full`] with the limit that is reached.
    pub(super) fn admit(&self, id: u64, bytes: usize) -> Result<(), Full> {
        let (jobs_of_one, bytes_of_one) = self.owners.get(&id).map_or((0, 0), |owner| (owner.jobs.len(), owner.bytes));
        let Bounds {
            jobs: max_jobs,
            jobs_of_one: max_jobs_of_one,
            bytes: max_bytes,
            bytes_of_one: max_bytes_of_one,
        } = self.bounds;
        let exceeds = |held: usize, bound: Bound| held > 0 && held.saturating_add(bytes) > bound.most;
        if self.jobs >= max_jobs.most {
            return Err(Full::Jobs(self.jobs, max_jobs.set_by));
        }
        if jobs_of_one >= max_jobs_of_one.most {
            return Err(Full::JobsOfOne(jobs_of_one, max_jobs_of_one.set_by));
        }
        if exceeds(self.bytes, max_bytes) {
            return Err(Full::Bytes(self.bytes, max_bytes.set_by));
        }
        if exceeds(bytes_of_one, max_bytes_of_one) {
            return Err(Full::BytesOfOne(bytes_of_one, max_bytes_of_one.set_by));
        }
        Ok(())
    }

    /// Adds a job that was [admitted](Self::admit). `of` returns its owner, called if that is new.
    pub(super) fn push(&mut self, id: u64, of: impl FnOnce() -> O, bytes: usize, job: J) {
        self.jobs += 1;
        self.bytes += bytes;
        let owner = self.owners.entry(id).or_insert_with(|| Owner {
            of: of(),
            jobs: VecDeque::new(),
            bytes: 0,
            running: 0,
            in_turn: false,
            held: false,
        });
        owner.bytes += bytes;
        owner.jobs.push_back((bytes, job));
        self.take_turn(id);
    }

    fn take_turn(&mut self, id: u64) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        if !owner.in_turn && !owner.held && !owner.jobs.is_empty() && owner.running < self.running_of_one {
            owner.in_turn = true;
            self.turns.push_back(id);
        }
    }

    /// Returns the next job of an owner whose jobs may begin.
    pub(super) fn take(&mut self, begin: impl Fn(u64, &O) -> Begin) -> Taken<J> {
        while let Some(id) = self.turns.pop_front() {
            let Some(owner) = self.owners.get_mut(&id) else { continue };
            owner.in_turn = false;
            match begin(id, &owner.of) {
                Begin::Held => owner.held = true,
                Begin::Never => return Taken::Unwanted(self.forget(id)),
                Begin::Now => {
                    let Some((bytes, job)) = owner.jobs.pop_front() else { continue };
                    owner.bytes -= bytes;
                    owner.running += 1;
                    self.bytes -= bytes;
                    self.jobs -= 1;
                    self.take_turn(id);
                    return Taken::Job(id, job);
                }
            }
        }
        Taken::Nothing
    }

    /// Lets jobs of an owner that was [held](Begin::Held) begin again.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.held = false;
            self.take_turn(id);
        }
    }

    /// Notes that a job is done.
    pub(super) fn done(&mut self, id: u64) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        owner.running -= 1;
        if owner.running == 0 && owner.jobs.is_empty() {
            self.owners.remove(&id);
        } else {
            self.take_turn(id);
        }
    }

    /// Removes and returns all waiting jobs of an owner, with their bytes. Running jobs continue.
    pub(super) fn forget(&mut self, id: u64) -> VecDeque<(usize, J)> {
        let Some(owner) = self.owners.get_mut(&id) else {
            return VecDeque::new();
        };
        self.jobs -= owner.jobs.len();
        self.bytes -= std::mem::take(&mut owner.bytes);
        let jobs = std::mem::take(&mut owner.jobs);
        if std::mem::take(&mut owner.in_turn) {
            self.turns.retain(|waiting| *waiting != id);
        }
        if owner.running == 0 {
            self.owners.remove(&id);
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        jobs: Bound::new(6, "maxJobs"),
        jobs_of_one: Bound::new(4, "maxJobsOfOne"),
        bytes: Bound::new(100, "maxBytes"),
        bytes_of_one: Bound::new(60, "maxBytesOfOne"),
    };

    type TestQueue = JobQueue<(), &'static str>;

    fn queue(running_of_one: usize) -> TestQueue {
        JobQueue::new(BOUNDS, running_of_one)
    }

    fn push(queue: &mut TestQueue, id: u64, bytes: usize, job: &'static str) -> Result<(), Full> {
        queue.admit(id, bytes)?;
        queue.push(id, || (), bytes, job);
        Ok(())
    }

    fn take(queue: &mut TestQueue) -> Option<(u64, &'static str)> {
        match queue.take(|_, ()| Begin::Now) {
            Taken::Job(id, job) => Some((id, job)),
            Taken::Unwanted(_) | Taken::Nothing => None,
        }
    }

    fn forget(queue: &mut TestQueue, id: u64) -> Vec<&'static str> {
        queue.forget(id).into_iter().map(|(_, job)| job).collect()
    }

    fn is_empty(queue: &TestQueue) -> bool {
        queue.owners.is_empty() && queue.turns.is_empty() && (queue.jobs, queue.bytes) == (0, 0)
    }

    #[test]
    fn connections_take_turns() {
        let mut queue = queue(4);
        for job in ["a1", "a2", "a3"] {
            push(&mut queue, 1, 1, job).unwrap();
        }
        push(&mut queue, 2, 1, "b1").unwrap();
        push(&mut queue, 3, 1, "c1").unwrap();
        push(&mut queue, 2, 1, "b2").unwrap();
        let order: Vec<&str> = std::iter::from_fn(|| take(&mut queue)).map(|(_, job)| job).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn one_connection_uses_its_share_of_the_threads() {
        let mut queue = queue(1);
        push(&mut queue, 1, 1, "a1").unwrap();
        push(&mut queue, 1, 1, "a2").unwrap();
        assert_eq!(take(&mut queue), Some((1, "a1")));
        assert_eq!(take(&mut queue), None, "its first job is being done");
        push(&mut queue, 2, 1, "b1").unwrap();
        assert_eq!(take(&mut queue), Some((2, "b1")));
        queue.done(1);
        assert_eq!(take(&mut queue), Some((1, "a2")));
        queue.done(2);
        queue.done(1);
        assert!(is_empty(&queue));
    }

    #[test]
    fn each_limit_refuses_what_exceeds_it() {
        let mut queue = queue(4);
        push(&mut queue, 1, 1, "small").unwrap();
        assert_eq!(push(&mut queue, 1, 60, "large"), Err(Full::BytesOfOne(1, "maxBytesOfOne")));
        push(&mut queue, 1, 59, "fits").unwrap();
        assert_eq!(push(&mut queue, 2, 41, "too much in all"), Err(Full::Bytes(60, "maxBytes")));
        for _ in 0..2 {
            push(&mut queue, 1, 0, "small").unwrap();
        }
        assert_eq!(push(&mut queue, 1, 0, "fifth"), Err(Full::JobsOfOne(4, "maxJobsOfOne")));
        push(&mut queue, 2, 0, "small").unwrap();
        push(&mut queue, 3, 0, "small").unwrap();
        let refused = push(&mut queue, 4, 0, "seventh").unwrap_err();
        assert_eq!(refused, Full::Jobs(6, "maxJobs"));
        assert_eq!(
            refused.to_string(),
            "6 requests wait already, with this one more than maxJobs allows"
        );
    }

    #[test]
    fn a_job_larger_than_a_bound_is_taken_when_nothing_else_waits() {
        let mut queue = queue(4);
        push(&mut queue, 1, 200, "larger than all may be").unwrap();
        assert_eq!(push(&mut queue, 2, 1, "b1"), Err(Full::Bytes(200, "maxBytes")));
        take(&mut queue).unwrap();
        push(&mut queue, 1, 1, "a1").unwrap();
        push(&mut queue, 2, 61, "larger than one may be").unwrap();
        assert_eq!(push(&mut queue, 2, 1, "b2"), Err(Full::BytesOfOne(61, "maxBytesOfOne")));
    }

    #[test]
    fn a_closed_connection_leaves_nothing_behind() {
        let mut queue = queue(1);
        for job in ["a1", "a2", "a3"] {
            push(&mut queue, 1, 10, job).unwrap();
        }
        push(&mut queue, 2, 1, "b1").unwrap();
        assert_eq!(take(&mut queue), Some((1, "a1")));
        assert_eq!(forget(&mut queue, 1), ["a2", "a3"]);
        assert_eq!((queue.len(), queue.bytes), (1, 1));
        queue.done(1);
        assert_eq!(forget(&mut queue, 1), Vec::<&str>::new());
        assert_eq!(forget(&mut queue, 2), ["b1"]);
        assert!(is_empty(&queue));
        assert_eq!(take(&mut queue), None);
    }

    #[test]
    fn a_held_owner_is_skipped_until_it_is_released() {
        let mut queue = queue(4);
        for job in ["a1", "a2"] {
            push(&mut queue, 1, 1, job).unwrap();
        }
        push(&mut queue, 2, 1, "b1").unwrap();
        let hold_first = |id: u64, (): &()| if id == 1 { Begin::Held } else { Begin::Now };
        assert_eq!(queue.take(hold_first), Taken::Job(2, "b1"));
        push(&mut queue, 1, 1, "a3").unwrap();
        assert!(!queue.has_turn());
        assert_eq!(take(&mut queue), None);
        queue.release(1);
        queue.release(1);
        let order: Vec<&str> = std::iter::from_fn(|| take(&mut queue)).map(|(_, job)| job).collect();
        assert_eq!(order, ["a1", "a2", "a3"]);
        for id in [1, 1, 1, 2] {
            queue.done(id);
        }
        queue.release(1);
        assert!(is_empty(&queue));
    }

    #[test]
    fn jobs_of_an_owner_that_has_gone_are_returned_to_be_dropped() {
        let mut queue = queue(4);
        push(&mut queue, 1, 5, "a1").unwrap();
        push(&mut queue, 2, 1, "b1").unwrap();
        let not_first = |id: u64, (): &()| if id == 1 { Begin::Never } else { Begin::Now };
        assert_eq!(queue.take(not_first), Taken::Unwanted([(5, "a1")].into()));
        assert_eq!(queue.take(not_first), Taken::Job(2, "b1"));
        queue.done(2);
        assert!(is_empty(&queue));
    }
}
