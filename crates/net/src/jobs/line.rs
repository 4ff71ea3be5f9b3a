//! Who is next: jobs in line, by the connection they are for. Pure state.
//!
//! Connections take turns, one job each, in the order in which they came to have one. So a connection with a thousand jobs and one
//! with a single job both have one done in each round. No connection has more than a share of the threads at once, so that jobs that
//! take long do not take all of them.
//!
//! Invariant: a connection is in `turns` exactly once while it has jobs waiting, may have one more done and is not held, else not at
//! all.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// A bound on what waits.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// The most.
    pub most: usize,
    /// What sets it, for refusals: a configuration key.
    pub set_by: &'static str,
}

impl Bound {
    /// At most `most`, as `set_by` says.
    pub const fn new(most: usize, set_by: &'static str) -> Self {
        Self { most, set_by }
    }
}

/// Bounds of a line. A job that has more bytes than allowed is taken while no other bytes wait, so that none is refused for ever.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Jobs waiting in all.
    pub jobs: Bound,
    /// Of one connection.
    pub jobs_of_one: Bound,
    /// Bytes of requests that wait, in all.
    pub bytes: Bound,
    /// Of one connection.
    pub bytes_of_one: Bound,
}

/// The bound that keeps a job from being taken, with what waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Too many in all.
    #[error("{0} requests wait already, with this one more than {1} allows")]
    Jobs(usize, &'static str),
    /// Too many of this connection.
    #[error("{0} requests of this connection wait already, with this one more than {1} allows")]
    JobsOfOne(usize, &'static str),
    /// Too large in all.
    #[error("requests of {0} bytes wait already, with this one more than {1} allows")]
    Bytes(usize, &'static str),
    /// Too large for this connection.
    #[error("requests of {0} bytes of this connection wait already, with this one more than {1} allows")]
    BytesOfOne(usize, &'static str),
}

/// Whether the next job of an owner begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// It does.
    Now,
    /// Not before [`Line::release`].
    Held,
    /// None of its jobs ever does.
    Never,
}

/// What [`Line::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<J> {
    /// The next job and whose it is; [`Line::done`] is to be told when it is done.
    Job(u64, J),
    /// Jobs that nobody wants any more. There may be others.
    Unwanted(VecDeque<(usize, J)>),
    /// Nothing can begin now.
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

/// Jobs `J` in line, of owners `O`.
#[derive(Debug)]
pub(super) struct Line<O, J> {
    bounds: Bounds,
    /// Jobs of one owner that are done at once.
    running_of_one: usize,
    owners: FxHashMap<u64, Owner<O, J>>,
    turns: VecDeque<u64>,
    jobs: usize,
    bytes: usize,
}

impl<O, J> Line<O, J> {
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

    /// Some owner's turn has come, as far as is known here.
    pub(super) fn has_turn(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether a job that keeps `bytes` of its request can be put in line.
    ///
    /// # Errors
    /// The bound that is reached.
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

    /// Puts a job in line that was [admitted](Self::admit). `of` says whose it is, where that is not known yet.
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

    /// The next job of an owner whose jobs may begin.
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

    /// An owner that was [held](Begin::Held) gets its turn again.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.held = false;
            self.take_turn(id);
        }
    }

    /// A job that was taken is done.
    pub(super) fn done(&mut self, id: u64) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        owner.running -= 1;
        if owner.running == 0 && owner.jobs.is_empty() {
            self.owners.remove(&id);
        } else {
            self.take_turn(id);
        }
    }

    /// Takes out all jobs of an owner that wait, with their bytes. Those that are being done go on.
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

    type TestLine = Line<(), &'static str>;

    fn line(running_of_one: usize) -> TestLine {
        Line::new(BOUNDS, running_of_one)
    }

    fn push(line: &mut TestLine, id: u64, bytes: usize, job: &'static str) -> Result<(), Full> {
        line.admit(id, bytes)?;
        line.push(id, || (), bytes, job);
        Ok(())
    }

    fn take(line: &mut TestLine) -> Option<(u64, &'static str)> {
        match line.take(|_, ()| Begin::Now) {
            Taken::Job(id, job) => Some((id, job)),
            Taken::Unwanted(_) | Taken::Nothing => None,
        }
    }

    fn forget(line: &mut TestLine, id: u64) -> Vec<&'static str> {
        line.forget(id).into_iter().map(|(_, job)| job).collect()
    }

    fn is_empty(line: &TestLine) -> bool {
        line.owners.is_empty() && line.turns.is_empty() && (line.jobs, line.bytes) == (0, 0)
    }

    #[test]
    fn connections_take_turns() {
        let mut line = line(4);
        for job in ["a1", "a2", "a3"] {
            push(&mut line, 1, 1, job).unwrap();
        }
        push(&mut line, 2, 1, "b1").unwrap();
        push(&mut line, 3, 1, "c1").unwrap();
        push(&mut line, 2, 1, "b2").unwrap();
        let order: Vec<&str> = std::iter::from_fn(|| take(&mut line)).map(|(_, job)| job).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn one_connection_has_a_share_of_the_threads() {
        let mut line = line(1);
        push(&mut line, 1, 1, "a1").unwrap();
        push(&mut line, 1, 1, "a2").unwrap();
        assert_eq!(take(&mut line), Some((1, "a1")));
        assert_eq!(take(&mut line), None, "its first job is being done");
        push(&mut line, 2, 1, "b1").unwrap();
        assert_eq!(take(&mut line), Some((2, "b1")));
        line.done(1);
        assert_eq!(take(&mut line), Some((1, "a2")));
        line.done(2);
        line.done(1);
        assert!(is_empty(&line));
    }

    #[test]
    fn each_bound_refuses_what_is_over_it() {
        let mut line = line(4);
        push(&mut line, 1, 1, "small").unwrap();
        assert_eq!(push(&mut line, 1, 60, "large"), Err(Full::BytesOfOne(1, "maxBytesOfOne")));
        push(&mut line, 1, 59, "fits").unwrap();
        assert_eq!(push(&mut line, 2, 41, "too much in all"), Err(Full::Bytes(60, "maxBytes")));
        for _ in 0..2 {
            push(&mut line, 1, 0, "small").unwrap();
        }
        assert_eq!(push(&mut line, 1, 0, "fifth"), Err(Full::JobsOfOne(4, "maxJobsOfOne")));
        push(&mut line, 2, 0, "small").unwrap();
        push(&mut line, 3, 0, "small").unwrap();
        let refused = push(&mut line, 4, 0, "seventh").unwrap_err();
        assert_eq!(refused, Full::Jobs(6, "maxJobs"));
        assert_eq!(
            refused.to_string(),
            "6 requests wait already, with this one more than maxJobs allows"
        );
    }

    #[test]
    fn a_job_larger_than_a_bound_is_taken_when_nothing_else_waits() {
        let mut line = line(4);
        push(&mut line, 1, 200, "larger than all may be").unwrap();
        assert_eq!(push(&mut line, 2, 1, "b1"), Err(Full::Bytes(200, "maxBytes")));
        take(&mut line).unwrap();
        push(&mut line, 1, 1, "a1").unwrap();
        push(&mut line, 2, 61, "larger than one may be").unwrap();
        assert_eq!(push(&mut line, 2, 1, "b2"), Err(Full::BytesOfOne(61, "maxBytesOfOne")));
    }

    #[test]
    fn a_closed_connection_leaves_nothing_behind() {
        let mut line = line(1);
        for job in ["a1", "a2", "a3"] {
            push(&mut line, 1, 10, job).unwrap();
        }
        push(&mut line, 2, 1, "b1").unwrap();
        assert_eq!(take(&mut line), Some((1, "a1")));
        assert_eq!(forget(&mut line, 1), ["a2", "a3"]);
        assert_eq!((line.len(), line.bytes), (1, 1));
        line.done(1);
        assert_eq!(forget(&mut line, 1), Vec::<&str>::new());
        assert_eq!(forget(&mut line, 2), ["b1"]);
        assert!(is_empty(&line));
        assert_eq!(take(&mut line), None);
    }

    #[test]
    fn who_is_held_is_passed_over_until_released() {
        let mut line = line(4);
        for job in ["a1", "a2"] {
            push(&mut line, 1, 1, job).unwrap();
        }
        push(&mut line, 2, 1, "b1").unwrap();
        let hold_first = |id: u64, (): &()| if id == 1 { Begin::Held } else { Begin::Now };
        assert_eq!(line.take(hold_first), Taken::Job(2, "b1"));
        push(&mut line, 1, 1, "a3").unwrap();
        assert!(!line.has_turn());
        assert_eq!(take(&mut line), None);
        line.release(1);
        line.release(1);
        let order: Vec<&str> = std::iter::from_fn(|| take(&mut line)).map(|(_, job)| job).collect();
        assert_eq!(order, ["a1", "a2", "a3"]);
        for id in [1, 1, 1, 2] {
            line.done(id);
        }
        line.release(1);
        assert!(is_empty(&line));
    }

    #[test]
    fn what_nobody_wants_is_given_out_to_be_dropped() {
        let mut line = line(4);
        push(&mut line, 1, 5, "a1").unwrap();
        push(&mut line, 2, 1, "b1").unwrap();
        let not_first = |id: u64, (): &()| if id == 1 { Begin::Never } else { Begin::Now };
        assert_eq!(line.take(not_first), Taken::Unwanted([(5, "a1")].into()));
        assert_eq!(line.take(not_first), Taken::Job(2, "b1"));
        line.done(2);
        assert!(is_empty(&line));
    }
}
