//! The state machine against a plain model, through crashes and clocks that are set.

use super::*;
use crate::clients::{Departure, Holder};
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMITS: Limits = Limits {
    points: 100,
    queues: 10,
    stay_ms: 10_000,
};

fn at(steady_ms: i64) -> Moment {
    Moment {
        wall_ms: 1_000_000 + steady_ms,
        steady_ms,
    }
}

fn claim(state: &mut InFlight, queue: QueueIndex, committed: i64) -> Claim {
    match state.begin(queue, committed, None) {
        Begin::At(claim) => claim,
        other => panic!("{other:?}"),
    }
}

fn pop(state: &mut InFlight, queue: QueueIndex, committed: i64, offsets: &[i64], now: Moment) -> Key {
    pop_held(state, queue, committed, offsets, now, None)
}

fn pop_held(state: &mut InFlight, queue: QueueIndex, committed: i64, offsets: &[i64], now: Moment, lease: Option<Lease>) -> Key {
    let claim = claim(state, queue, committed);
    let popped = Popped {
        offsets,
        next: offsets.last().unwrap() + 1,
        pop_time: now.wall_ms,
        invisible_ms: 60_000,
        revive_queue: 3,
        lease,
    };
    assert_eq!(state.popped(claim, popped, now), Ok(true));
    Key {
        queue,
        start: claim.from,
        pop_time: now.wall_ms,
    }
}

#[test]
fn what_is_acknowledged_soon_is_never_written() {
    let mut state = InFlight::new(LIMITS);
    let queue = state.open_queue("t", "g", 0).unwrap();
    let first = pop(&mut state, queue, 0, &[0, 1], at(0));
    let second = pop(&mut state, queue, 0, &[2, 3], at(1));
    assert_eq!((second.start, state.messages(queue)), (2, 4));
    assert_eq!(state.ack(second, 2, at(2)), Acked::Done(None));
    assert_eq!(
        state.ack(second, 3, at(2)),
        Acked::Done(None),
        "the first pop holds back the offset"
    );
    assert_eq!(state.ack(first, 0, at(3)), Acked::Done(None));
    assert_eq!(state.ack(first, 0, at(3)), Acked::Done(None), "again");
    assert_eq!(state.ack(first, 1, at(3)), Acked::Done(Some(4)));
    assert_eq!(state.ack(first, 1, at(3)), Acked::Unknown);
    assert!(state.is_empty() && state.next_look().is_none());
}

#[test]
fn an_old_check_point_is_written_and_then_its_acknowledgements() {
    let mut state = InFlight::new(LIMITS);
    let queue = state.open_queue("t", "g", 0).unwrap();
    let key = pop(&mut state, queue, 5, &[5, 6, 9], at(0));
    state.ack(key, 6, at(1));
    assert!(state.take_due(9, at(9_999)).is_empty());
    let job = state.take_due(9, at(10_000)).remove(0);
    assert_eq!((job.task, job.acked, &job.offsets[..]), (Task::Write, 2, &[5, 6, 9][..]));
    state.written(&job, 77, 1_000, at(10_000));
    let mut commits = Vec::new();
    state.settle(999, |commit| commits.push(commit.offset));
    assert!(commits.is_empty(), "the record is not on the device");
    state.settle(1_000, |commit| commits.push(commit.offset));
    assert_eq!((commits, state.first_record(3)), (vec![10], Some(77)));
    state.ack(key, 5, at(10_001));
    state.ack(key, 9, at(10_002));
    assert!(state.take_due(9, at(10_100)).is_empty());
    let job = state.take_due(9, at(10_102)).remove(0);
    assert_eq!((job.task, job.acked & !job.saved), (Task::SaveAcks, 5));
    state.saved(&job, 5, 1_100, at(10_102));
    state.settle(1_100, |_| ());
    assert!(state.is_empty() && state.first_record(3).is_none());
}

#[test]
fn more_time_moves_a_message_to_a_check_point_of_its_own() {
    let mut state = InFlight::new(LIMITS);
    let queue = state.open_queue("t", "g", 0).unwrap();
    let key = pop(&mut state, queue, 0, &[0, 1], at(0));
    let pop_time = state.renew(key, 1, 120_000, true, at(5)).unwrap().unwrap();
    assert_eq!(state.renew(key, 1, 1, false, at(5)), Ok(None), "its old handle is done");
    assert_eq!(state.ack(key, 0, at(6)), Acked::Done(None), "the other one holds back the offset");
    let renewed = Key { start: 1, pop_time, ..key };
    let jobs = state.take_due(9, at(10_005));
    let job = &jobs[0];
    assert_eq!((job.task, job.suspend, job.key, jobs.len()), (Task::Write, true, renewed, 1));
    state.failed(job, at(10_005));
    assert_eq!(state.ack(renewed, 1, at(10_006)), Acked::Done(Some(2)));
    assert!(state.is_empty());
}

#[test]
fn a_reset_or_a_deletion_ends_what_moves_the_offset() {
    let mut state = InFlight::new(LIMITS);
    let queue = state.open_queue("t", "g", 0).unwrap();
    let key = pop(&mut state, queue, 0, &[0, 1], at(0));
    let read = claim(&mut state, queue, 0);
    state.reset(queue);
    assert_eq!(state.passed(read, 9), None);
    assert_eq!(state.position(queue, 0), 0);
    state.ack(key, 0, at(1));
    assert_eq!(state.ack(key, 1, at(1)), Acked::Done(None), "it does not move the new offset");
    pop(&mut state, queue, 0, &[0, 1], at(2));
    state.forget(|topic, _| topic == "t");
    assert!(state.is_empty() && state.find_queue("t", "g", 0).is_none());
    assert!(state.index.is_empty());
}

#[test]
fn limits_are_kept_and_idle_queues_make_room() {
    let mut state = InFlight::new(Limits {
        points: 1,
        queues: 2,
        ..LIMITS
    });
    let first = state.open_queue("t", "g", 0).unwrap();
    let key = pop(&mut state, first, 0, &[0], at(0));
    let second = state.open_queue("t", "g", 9).unwrap();
    let read = claim(&mut state, second, 0);
    let popped = Popped {
        offsets: &[0],
        next: 1,
        pop_time: 0,
        invisible_ms: 1,
        revive_queue: 0,
        lease: None,
    };
    assert_eq!(state.popped(read, popped, at(0)), Err(Full::Points(1)));
    assert_eq!(state.renew(key, 0, 1, false, at(0)), Err(Full::Points(1)));
    state.open_queue("t", "h", 0).unwrap();
    let claimed = claim(&mut state, first, 1);
    assert_eq!(state.begin(first, 1, None), Begin::Busy);
    let third = state.find_queue("t", "h", 0).unwrap();
    let read = claim(&mut state, third, 0);
    assert_eq!(state.open_queue("u", "g", 0), Err(Full::Queues(2)));
    state.release(read);
    state.release(claimed);
    assert_eq!(state.begin(first, 1, Some(0)), Begin::Limited);
}

/// A client that comes back within 30 s keeps its messages.
const GRACE_MS: i64 = 30_000;

fn holder_online() -> Arc<Holder> {
    let holder = Arc::new(Holder::new("g", "c", GRACE_MS, 0));
    holder.come();
    holder
}

fn lease(holder: &Arc<Holder>, until: i64) -> Option<Lease> {
    Some(Lease {
        holder: Arc::clone(holder),
        until,
    })
}

/// Writes what is due to be written; what is due to be stored again.
fn due(state: &mut InFlight, now: Moment) -> Vec<Job> {
    let (revived, written): (Vec<Job>, Vec<Job>) = state.take_due(9, now).into_iter().partition(|job| job.task == Task::Revive);
    for job in written {
        match job.task {
            Task::Write => state.written(&job, now.steady_ms, now.steady_ms, now),
            _ => state.saved(&job, job.acked & !job.saved, now.steady_ms, now),
        }
    }
    revived
}

#[test]
fn held_messages_are_acknowledged_with_their_first_handle_however_long_that_takes() {
    let (mut state, holder) = (InFlight::new(LIMITS), holder_online());
    let queue = state.open_queue("t", "g", 0).unwrap();
    let key = pop_held(&mut state, queue, 0, &[0, 1, 2], at(0), lease(&holder, 3_600_000));
    let mut writes = 0;
    for minute in 0..50 {
        let jobs = state.take_due(9, at(60_000 * minute + 59_000));
        writes += jobs.len();
        jobs.iter()
            .for_each(|job| state.written(job, 7, 1_000, at(60_000 * minute + 59_000)));
        assert!(state.take_due(9, at(60_000 * minute + 60_001)).is_empty(), "minute {minute}");
    }
    assert_eq!(writes, 1, "nothing is written for more time");
    // One of them is to be tried again, by its first handle: that one is not held any more.
    let pop_time = state.renew(key, 1, 5_000, false, at(3_000_500)).unwrap().unwrap();
    let retried = due(&mut state, at(3_000_600));
    assert!(retried.is_empty());
    let retried = due(&mut state, at(3_005_600));
    assert_eq!((retried.len(), retried[0].key.pop_time), (1, pop_time));
    state.revived(&retried[0], 2_000, at(3_005_600));
    assert_eq!(state.ack(key, 0, at(3_010_000)), Acked::Done(None));
    assert_eq!(state.ack(key, 2, at(3_010_000)), Acked::Done(None));
    let job = state.take_due(9, at(3_011_000)).remove(0);
    assert_eq!((job.task, job.acked), (Task::SaveAcks, 0b111));
    state.saved(&job, job.acked & !job.saved, 3_011_000, at(3_011_000));
    state.settle(3_011_000, |_| ());
    assert!(state.is_empty() && state.held.is_empty());
}

#[test]
fn held_messages_come_again_after_the_grace_time_or_the_most_time() {
    let (mut state, holder) = (InFlight::new(LIMITS), holder_online());
    let queue = state.open_queue("t", "g", 0).unwrap();
    pop_held(&mut state, queue, 0, &[0], at(0), lease(&holder, 10_000_000));
    assert!(due(&mut state, at(10_000)).is_empty(), "it is written");
    holder.go(Departure::Lost, 50_000);
    assert!(due(&mut state, at(60_000)).is_empty(), "the client may come back");
    assert_eq!(state.next_look(), Some(80_000));
    holder.come();
    assert!(due(&mut state, at(80_000)).is_empty(), "it came back");
    holder.go(Departure::Lost, 90_000);
    let jobs = due(&mut state, at(140_000));
    assert_eq!(jobs.len(), 1);
    assert!(!jobs[0].suspend && jobs[0].lease.is_none());
    holder.come();
    state.revived(&jobs[0], 2_000_000, at(140_000));

    let (start, until) = (200_000, 290_000);
    pop_held(&mut state, queue, 1, &[1], at(start), lease(&holder, until));
    assert!(due(&mut state, at(start + 10_000)).is_empty() && due(&mut state, at(start + 60_000)).is_empty());
    assert_eq!(state.next_look(), Some(until));
    assert_eq!(due(&mut state, at(until)).len(), 1, "its client had it for too long");
}

#[test]
fn a_goodbye_gives_back_what_is_held_for_the_client_only_and_soon() {
    let mut state = InFlight::new(LIMITS);
    let (one, other) = (holder_online(), holder_online());
    let queue = state.open_queue("t", "g", 0).unwrap();
    pop_held(&mut state, queue, 0, &[0], at(0), lease(&one, 10_000_000));
    pop_held(&mut state, queue, 0, &[1], at(1), lease(&other, 10_000_000));
    pop(&mut state, queue, 0, &[2], at(2));
    assert!(due(&mut state, at(10_002)).is_empty(), "they are written");
    one.go(Departure::Goodbye(1_000), 20_000);
    state.give_back(&one, 1_000, at(20_000));
    assert!(due(&mut state, at(20_999)).is_empty());
    let jobs = due(&mut state, at(21_000));
    assert_eq!((jobs.len(), &jobs[0].offsets[..], jobs[0].suspend), (1, &[0][..], true));
    assert!(state.held.of_holder(&one).is_none() && state.held.of_holder(&other) == Some(1));
    state.forget(|_, _| true);
    assert!(state.held.is_empty());
}

#[test]
fn a_recovered_check_point_is_held_for_a_client_that_comes_back_soon() {
    let recover = |state: &mut InFlight, holder: &Arc<Holder>| {
        let of = Recovered {
            start: 5,
            offsets: &[5, 6],
            pop_time: at(-100_000).wall_ms,
            invisible_ms: 60_000,
            acked: 0b10,
            suspend: false,
            revive_queue: 3,
            record: 77,
            grace_ms: 0,
            lease: lease(holder, 1_000_000),
        };
        state.recover_point("t", "g", 0, of, at(0));
    };
    let holder = Arc::new(Holder::new("g", "c", GRACE_MS, 0));
    let (mut state, mut other) = (InFlight::new(LIMITS), InFlight::new(LIMITS));
    recover(&mut state, &holder);
    recover(&mut other, &holder);
    assert!(due(&mut state, at(0)).is_empty() && due(&mut other, at(0)).is_empty());
    assert_eq!(due(&mut other, at(GRACE_MS)).len(), 1, "its client does not come");
    holder.come();
    assert!(due(&mut state, at(GRACE_MS)).is_empty());
    let key = Key {
        queue: state.find_queue("t", "g", 0).unwrap(),
        start: 5,
        pop_time: at(-100_000).wall_ms,
    };
    assert_eq!(state.ack(key, 5, at(200_000)), Acked::Done(None));
}

#[test]
fn a_message_may_be_renewed_while_its_record_is_being_written() {
    let mut state = InFlight::new(LIMITS);
    let queue = state.open_queue("t", "g", 0).unwrap();
    let key = pop(&mut state, queue, 0, &[0, 1], at(0));
    let job = state.take_due(9, at(10_000)).remove(0);
    let pop_time = state.renew(key, 1, 90_000, false, at(10_000)).unwrap().expect("it is in flight");
    state.written(&job, 5, 100, at(10_001));
    assert_eq!(state.renew(key, 1, 1, false, at(10_002)), Ok(None), "its handle was changed");
    assert!(due(&mut state, at(60_000)).is_empty());
    let jobs = state.take_due(9, at(60_200));
    assert_eq!((jobs.len(), jobs[0].task, jobs[0].acked), (1, Task::Revive, 0b10));
    assert_eq!(state.renew(key, 0, 1, false, at(60_200)), Ok(None), "it is being stored again");
    assert_eq!(state.ack(Key { start: 1, pop_time, ..key }, 1, at(60_300)), Acked::Done(None));
}

/// What a step does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u8),
    Pop {
        queue: bool,
        most: u8,
        invisible_s: u8,
        passes: u8,
        /// For which client they are held, and for how long at most.
        held_for: Option<(bool, u16)>,
    },
    Come {
        client: bool,
    },
    Go {
        client: bool,
        says_goodbye: bool,
    },
    Ack {
        which: u8,
    },
    Renew {
        which: u8,
        invisible_s: u8,
    },
    Pass {
        seconds: u8,
    },
    SetClock {
        seconds: i16,
    },
    Work {
        fails: bool,
        /// Clients acknowledge and want more time meanwhile.
        during: bool,
    },
    Sync,
    SaveOffsets,
    Crash {
        power: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..20u8).prop_map(Step::Send),
        6 => (any::<bool>(), 1..33u8, 1..60u8, 0..4u8, prop::option::of((any::<bool>(), 0..400u16)))
            .prop_map(|(queue, most, invisible_s, passes, held_for)| Step::Pop { queue, most, invisible_s, passes, held_for }),
        2 => any::<bool>().prop_map(|client| Step::Come { client }),
        2 => (any::<bool>(), 0..3u8).prop_map(|(client, how)| Step::Go { client, says_goodbye: how == 0 }),
        9 => any::<u8>().prop_map(|which| Step::Ack { which }),
        2 => (any::<u8>(), 1..60u8).prop_map(|(which, invisible_s)| Step::Renew { which, invisible_s }),
        4 => (0..20u8).prop_map(|seconds| Step::Pass { seconds }),
        1 => (-5_000..5_000i16).prop_map(|seconds| Step::SetClock { seconds }),
        5 => (0..8u8).prop_map(|n| Step::Work { fails: n == 0, during: n % 2 == 0 }),
        2 => Just(Step::Sync),
        2 => Just(Step::SaveOffsets),
        1 => any::<bool>().prop_map(|power| Step::Crash { power }),
    ]
}

/// A record of the log.
#[derive(Clone, Debug)]
enum Record {
    Point {
        job: Job,
    },
    Acks {
        job: Job,
        offsets: Vec<i64>,
    },
    /// A message for the retry queue.
    Copy {
        message: usize,
    },
}

/// A message that a client holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    message: usize,
    key: (i32, i64, i64),
    offset: i64,
    /// By the monotonic clock.
    until: i64,
    /// It is held for this client, which was never gone for too long, until this time at most.
    held_for: Option<(usize, i64)>,
    /// The client whose goodbye gives it back.
    of_client: Option<usize>,
}

/// A client, in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Online,
    AwaySince(i64),
    Left,
}

/// The world around the state: a log, two queues (one of them of the retry topic), clients.
struct World {
    state: InFlight,
    now: Moment,
    log: Vec<Record>,
    flushed: usize,
    /// Messages of the topic's queue: number n is message n.
    sent: usize,
    committed: [i64; 2],
    saved: [i64; 2],
    /// Of the revive topic, as Apache counts: the last record that is done.
    revived: i64,
    saved_revived: i64,
    held: Vec<Held>,
    holders: [Arc<Holder>; 2],
    clients: [Presence; 2],
    acked: BTreeSet<usize>,
    /// After a crash a message may be in its queue and in the retry queue.
    has_crashed: bool,
}

impl World {
    fn new() -> Self {
        Self {
            state: InFlight::new(LIMITS),
            now: at(0),
            log: Vec::new(),
            flushed: 0,
            sent: 0,
            committed: [0; 2],
            saved: [0; 2],
            revived: -1,
            saved_revived: -1,
            held: Vec::new(),
            holders: [holder_online(), holder_online()],
            clients: [Presence::Online; 2],
            acked: BTreeSet::new(),
            has_crashed: false,
        }
    }

    /// The retry queue is what the log has of it.
    fn retries(&self) -> Vec<usize> {
        let copy = |record: &Record| match record {
            Record::Copy { message } => Some(*message),
            _ => None,
        };
        self.log.iter().filter_map(copy).collect()
    }

    fn message(&self, queue: usize, offset: i64) -> usize {
        if queue == 0 {
            offset as usize
        } else {
            self.retries()[offset as usize]
        }
    }

    fn end(&self, queue: usize) -> i64 {
        if queue == 0 {
            self.sent as i64
        } else {
            self.retries().len() as i64
        }
    }

    fn commit(&mut self, queue: i32, offset: i64) {
        let committed = &mut self.committed[queue as usize];
        assert!(offset > *committed, "offsets move on");
        *committed = offset;
    }

    /// Whether nobody else may get the message.
    fn is_invisible(&self, held: &Held) -> bool {
        held.until > self.now.steady_ms || held.held_for.is_some()
    }

    /// Messages are not held any more whose client is gone for too long, or had them for too long.
    fn end_leases(&mut self) {
        for held in &mut self.held {
            let Some((client, most)) = held.held_for else { continue };
            let is_kept = match self.clients[client] {
                Presence::Online => true,
                Presence::AwaySince(since) => self.now.steady_ms < since + GRACE_MS,
                Presence::Left => false,
            };
            if !is_kept || self.now.steady_ms >= most {
                held.held_for = None;
            }
        }
    }

    fn go(&mut self, client: usize, says_goodbye: bool) {
        let now = self.now.steady_ms;
        if says_goodbye {
            const AFTER_MS: i64 = 500;
            self.holders[client].go(Departure::Goodbye(AFTER_MS), now);
            self.state.give_back(&self.holders[client], AFTER_MS, self.now);
            self.clients[client] = Presence::Left;
            for held in self.held.iter_mut().filter(|held| held.of_client == Some(client)) {
                held.until = held.until.min(now + AFTER_MS);
            }
        } else {
            self.holders[client].go(Departure::Lost, now);
            if self.clients[client] == Presence::Online {
                self.clients[client] = Presence::AwaySince(now);
            }
        }
    }

    fn come(&mut self, client: usize) {
        self.holders[client].come();
        self.clients[client] = Presence::Online;
    }

    fn pop(&mut self, queue: usize, most: usize, invisible_ms: i64, passes: i64, held_for: Option<(usize, i64)>) {
        let index = self.state.open_queue("t", "g", queue as i32).unwrap();
        let claim = match self.state.begin(index, self.committed[queue], None) {
            Begin::At(claim) => claim,
            other => panic!("{other:?}"),
        };
        if claim.is_covered {
            self.commit(queue as i32, claim.from);
        }
        let end = self.end(queue);
        // The model's filter selects nothing of the first `passes` messages only if another group wants them: they are acknowledged here.
        let skipped = claim.from + passes.min(end - claim.from);
        let offsets: Vec<i64> = (skipped..end).take(most.min(32)).collect();
        for offset in claim.from..skipped {
            let message = self.message(queue, offset);
            self.acked.insert(message);
        }
        let Some(last) = offsets.last() else {
            if let Some(offset) = self.state.passed(claim, skipped) {
                self.commit(queue as i32, offset);
            }
            return;
        };
        let popped = Popped {
            offsets: &offsets,
            next: last + 1,
            pop_time: self.now.wall_ms,
            invisible_ms,
            revive_queue: 0,
            lease: held_for.and_then(|(client, most_ms)| lease(&self.holders[client], self.now.steady_ms + most_ms)),
        };
        if self.state.popped(claim, popped, self.now) != Ok(true) {
            return;
        }
        for offset in offsets {
            let message = self.message(queue, offset);
            let is_same = |held: &&Held| {
                let is_copy = !self.has_crashed && held.message == message;
                (is_copy || (held.key.0, held.offset) == (queue as i32, offset)) && self.is_invisible(held)
            };
            let again = self.held.iter().find(is_same);
            assert!(again.is_none(), "message {message} is handed out while it is invisible: {again:?}");
            self.held.push(Held {
                message,
                key: (queue as i32, claim.from, self.now.wall_ms),
                offset,
                until: self.now.steady_ms + invisible_ms,
                held_for: held_for.map(|(client, most_ms)| (client, self.now.steady_ms + most_ms)),
                of_client: held_for.map(|(client, _)| client),
            });
        }
    }

    fn key(&self, (queue_id, start, pop_time): (i32, i64, i64)) -> Option<Key> {
        let queue = self.state.find_queue("t", "g", queue_id)?;
        Some(Key { queue, start, pop_time })
    }

    fn ack(&mut self, which: usize) {
        if self.held.is_empty() {
            return;
        }
        let held = self.held.remove(which % self.held.len());
        let Some(key) = self.key(held.key) else { return };
        match self.state.ack(key, held.offset, self.now) {
            Acked::Done(commit) => {
                // Also one that comes late, but before the thread looked.
                self.acked.insert(held.message);
                if let Some(offset) = commit {
                    self.commit(held.key.0, offset);
                }
            }
            Acked::Unknown => assert!(!self.is_invisible(&held), "an acknowledgement in time counts: {held:?}"),
        }
    }

    fn renew(&mut self, which: usize, invisible_ms: i64) {
        if self.held.is_empty() {
            return;
        }
        let at = which % self.held.len();
        let held = self.held[at];
        let Some(key) = self.key(held.key) else { return };
        match self.state.renew(key, held.offset, invisible_ms, false, self.now) {
            Ok(Some(pop_time)) => {
                self.held[at] = Held {
                    key: (held.key.0, held.offset, pop_time),
                    until: self.now.steady_ms + invisible_ms,
                    held_for: None,
                    of_client: None,
                    ..held
                };
            }
            Ok(None) => {
                assert!(!self.is_invisible(&held), "more time is granted while there is some");
                self.held.remove(at);
            }
            Err(_) => {}
        }
    }

    fn work(&mut self, fails: bool, during: bool) {
        let jobs = self.state.take_due(5, self.now);
        if during {
            self.ack(3);
            self.renew(5, 40_000);
        }
        for job in jobs {
            if fails {
                self.state.failed(&job, self.now);
                continue;
            }
            match job.task {
                Task::Write => {
                    let record = self.log.len() as i64;
                    self.log.push(Record::Point { job: job.clone() });
                    self.state.written(&job, record, self.log.len() as i64, self.now);
                }
                Task::SaveAcks => {
                    let bits = job.acked & !job.saved;
                    let offsets = job.of(bits).collect();
                    self.log.push(Record::Acks { job: job.clone(), offsets });
                    self.state.saved(&job, bits, self.log.len() as i64, self.now);
                }
                Task::Revive => {
                    for offset in job.of(job.all() & !job.acked) {
                        let message = self.message(job.queue_id as usize, offset);
                        self.log.push(Record::Copy { message });
                    }
                    if job.is_written {
                        let offsets = job.of(job.all()).collect();
                        self.log.push(Record::Acks { job: job.clone(), offsets });
                    }
                    self.state.revived(&job, self.log.len() as i64, self.now);
                }
            }
        }
    }

    fn sync(&mut self) {
        self.flushed = self.log.len();
        let mut commits = Vec::new();
        self.state.settle(self.flushed as i64, |commit| commits.push(commit));
        for commit in commits {
            self.commit(commit.queue_id, commit.offset);
        }
        self.revived = self.state.first_record(0).map_or(self.log.len() as i64, |first| first) - 1;
    }

    fn crash(&mut self, power: bool) {
        if power {
            self.log.truncate(self.flushed);
        }
        self.flushed = self.log.len();
        self.committed = self.saved;
        self.revived = self.saved_revived;
        self.committed[1] = self.committed[1].min(self.retries().len() as i64);
        self.state = InFlight::new(LIMITS);
        for at in (self.revived + 1).max(0) as usize..self.log.len() {
            match self.log[at].clone() {
                Record::Point { job } => {
                    let of = Recovered {
                        start: job.key.start,
                        offsets: &job.offsets,
                        pop_time: job.key.pop_time,
                        invisible_ms: job.invisible_ms,
                        acked: job.acked,
                        suspend: false,
                        revive_queue: 0,
                        record: at as i64,
                        grace_ms: 0,
                        lease: job.lease.clone(),
                    };
                    self.state.recover_point("t", "g", job.queue_id, of, self.now);
                }
                Record::Acks { job, offsets } => {
                    for offset in offsets {
                        self.state
                            .recover_ack("t", "g", job.queue_id, job.key.start, job.key.pop_time, offset);
                    }
                }
                Record::Copy { .. } => {}
            }
        }
        for covered in self.state.covered() {
            let queue = covered.queue_id as usize;
            let position = self.state.position(covered.index, self.committed[queue]);
            if position > self.committed[queue] {
                self.commit(covered.queue_id, position);
            }
        }
        // A client may get again what it holds, and what it acknowledged a moment ago.
        self.held.clear();
        self.has_crashed = true;
        for client in 0..2 {
            if self.clients[client] == Presence::Online {
                self.go(client, false);
            }
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send(messages) => self.sent += usize::from(messages),
            Step::Pop {
                queue,
                most,
                invisible_s,
                passes,
                held_for,
            } => {
                let held_for = held_for.map(|(client, most_s)| (usize::from(client), i64::from(most_s) * 1_000));
                self.pop(queue.into(), most.into(), i64::from(invisible_s) * 1_000, passes.into(), held_for);
            }
            Step::Come { client } => self.come(client.into()),
            Step::Go { client, says_goodbye } => self.go(client.into(), says_goodbye),
            Step::Ack { which } => self.ack(which.into()),
            Step::Renew { which, invisible_s } => self.renew(which.into(), i64::from(invisible_s) * 1_000),
            Step::Pass { seconds } => {
                self.now.steady_ms += i64::from(seconds) * 1_000;
                self.now.wall_ms += i64::from(seconds) * 1_000;
            }
            Step::SetClock { seconds } => self.now.wall_ms += i64::from(seconds) * 1_000,
            Step::Work { fails, during } => self.work(fails, during),
            Step::Sync => self.sync(),
            Step::SaveOffsets => (self.saved, self.saved_revived) = (self.committed, self.revived),
            Step::Crash { power } => self.crash(power),
        }
        // Without a number for each moment, two pops of one millisecond could not be told apart.
        self.now.wall_ms += 1;
        self.now.steady_ms += 1;
        self.end_leases();
    }

    /// Until nothing is left: time passes, the thread works, a client acknowledges all it gets.
    fn finish(&mut self) {
        for _ in 0..200 {
            for queue in 0..2 {
                let index = self.state.open_queue("t", "g", queue as i32).unwrap();
                while self.state.position(index, self.committed[queue]) < self.end(queue) {
                    self.pop(queue, 32, 30_000, 0, None);
                    (0..self.held.len()).rev().for_each(|at| self.ack(at));
                }
            }
            self.run(Step::Pass { seconds: 70 });
            self.held.clear();
            self.work(false, false);
            self.sync();
        }
        for message in 0..self.sent {
            assert!(self.acked.contains(&message), "message {message} is lost or stuck");
        }
        assert!(self.state.is_empty() && !self.state.is_settling() && self.state.held.is_empty());
        assert_eq!(self.state.first_record(0), None);
        assert_eq!(self.committed, [self.end(0), self.end(1)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_stuck_or_handed_out_while_it_is_invisible(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.finish();
    }
}
