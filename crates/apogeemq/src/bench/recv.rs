//! `bench recv`: reads each queue of a topic from its first message to its end at the start of the run.
//!
//! A reader has one connection and one pull in flight for each of its queues, or one pop ([`super::pop`]).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use client::Queue;

use super::arguments::{Acknowledge, Consume, RecvArguments};
use super::closed::{self, Pace};
use super::exchange::Exchange;
use super::frames;
use super::pop::{self, Backlog, Pops};
use super::report::{Report, plural};
use super::target::{LoadTarget, distribute};
use super::totals::{CounterGuard, Window};
use super::wire::{Answer, Answers};
use crate::failure::Failure;

pub(super) fn run(arguments: &RecvArguments) -> Result<Report, Failure> {
    arguments.check()?;
    let load_target = LoadTarget::new(&arguments.target)?;
    let queues = load_target.find()?;
    if arguments.consumption.consume == Consume::Pop {
        return pop(arguments, &load_target, &queues);
    }
    let window = Window::new(Duration::ZERO, Duration::from_secs(u64::from(arguments.seconds)));
    let assigned = distribute(&queues, arguments.readers);
    let mut connections = Vec::new();
    for queues_of_reader in &assigned {
        let tracks = queues_of_reader
            .iter()
            .map(|queue| Track::new(&load_target, queue))
            .collect::<Result<Vec<_>, _>>()?;
        connections.push((load_target.connect(&queues_of_reader[0].address)?, tracks));
    }
    let ended = closed::run(
        "bench-reader",
        window,
        &arguments.output,
        connections,
        |tracks: Vec<Track>, pace| Reader {
            wanted: (0..tracks.len()).collect(),
            in_flight: 0,
            tracks,
            topic: arguments.target.topic.clone(),
            batch: arguments.batch,
            pace,
        },
    )?;
    let (readers, shown) = (plural(assigned.len() as u64, "reader"), plural(queues.len() as u64, "queue"));
    let what = format!("recv {} at most in a pull, {readers}, {shown}", arguments.batch);
    let last_us = ended.counters.iter().map(|counter| counter.measured().0.last_us).max().unwrap_or(0);
    Ok(Report::new(what, &ended.counters, last_us as f64 / 1e6, ended.used))
}

/// The same by pops of a new group.
fn pop(arguments: &RecvArguments, load_target: &LoadTarget, queues: &[Queue]) -> Result<Report, Failure> {
    let window = Window::new(Duration::ZERO, Duration::from_secs(u64::from(arguments.seconds)));
    let run = RandomState::new().build_hasher().finish();
    let of = &arguments.consumption;
    let pops = Arc::new(Pops::new(&arguments.target.topic, run, of.acknowledge, of.invisible));
    let assigned = distribute(queues, arguments.readers);
    let mut connections = Vec::new();
    for queues_of_reader in &assigned {
        let backlogs = queues_of_reader
            .iter()
            .map(|queue| {
                let (min, max) = load_target.bounds(queue)?;
                Ok(Backlog {
                    queue_id: queue.id,
                    left: (max - min).max(0) as u64,
                    asked_us: 0,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        connections.push((load_target.connect(&queues_of_reader[0].address)?, backlogs));
    }
    let reader = |backlogs: Vec<Backlog>, pace| pop::Reader {
        pops: Arc::clone(&pops),
        wanted: (0..backlogs.len()).collect(),
        backlogs,
        in_flight: 0,
        batch: arguments.batch,
        pace,
        acks: Vec::new(),
    };
    let ended = closed::run("bench-reader", window, &arguments.output, connections, reader)?;
    let (readers, shown) = (plural(assigned.len() as u64, "reader"), plural(queues.len() as u64, "queue"));
    let acks = match of.acknowledge {
        Acknowledge::Each => "each acknowledged",
        Acknowledge::Batch => "acknowledged in batches",
        Acknowledge::Nothing => "not acknowledged",
    };
    let what = format!("recv {} at most in a pop, {acks}, {readers}, {shown}", arguments.batch);
    let last_us = ended.counters.iter().map(|counter| counter.measured().0.last_us).max().unwrap_or(0);
    Ok(Report::new(what, &ended.counters, last_us as f64 / 1e6, ended.used))
}

/// Progress in a queue.
struct Track {
    id: i32,
    next: i64,
    end: i64,
    asked_us: u64,
}

impl Track {
    fn new(load_target: &LoadTarget, queue: &Queue) -> Result<Self, Failure> {
        let (next, end) = load_target.bounds(queue)?;
        Ok(Self {
            id: queue.id,
            next,
            end,
            asked_us: 0,
        })
    }
}

struct Reader {
    tracks: Vec<Track>,
    /// Indexes of queues without a pull in flight.
    wanted: Vec<usize>,
    in_flight: usize,
    topic: String,
    batch: i32,
    pace: Pace,
}

impl Exchange for Reader {
    fn write_requests(&mut self, out: &mut Vec<u8>) -> bool {
        let now_us = self.pace.clock.now_us();
        for index in std::mem::take(&mut self.wanted) {
            self.in_flight += self.ask(index, now_us, out);
        }
        self.in_flight > 0
    }

    fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let (now_us, counter) = (self.pace.clock.now_us(), Arc::clone(&self.pace.counter));
        let mut counts = counter.open();
        while let Some(answer) = answers.next()? {
            let index = self.take(&mut counts, &answer, now_us)?;
            self.wanted.push(index);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        Ok(())
    }
}

impl Reader {
    /// Appends the next pull of a queue. Returns the number of pulls, 0 at the end of the queue.
    fn ask(&mut self, index: usize, now_us: u64, out: &mut Vec<u8>) -> usize {
        let track = &mut self.tracks[index];
        if track.next >= track.end || now_us >= self.pace.end_us {
            return 0;
        }
        track.asked_us = now_us;
        frames::pull(&self.topic, track.id, track.next, self.batch, 0, index as u32, out);
        1
    }

    /// Counts an answer; returns the index of the answered queue.
    fn take(&mut self, counts: &mut CounterGuard<'_>, answer: &Answer<'_>, now_us: u64) -> Result<usize, Failure> {
        let index = answer.opaque() as usize;
        let unexpected = || Failure::new("an answer without a request");
        let track = self.tracks.get_mut(index).ok_or_else(unexpected)?;
        let next = answer.next_offset().filter(|next| *next > track.next);
        match (answer.code(), next) {
            (0, Some(next)) => {
                let messages = client::records(answer.body).filter(Result::is_ok).count() as u64;
                counts.success(track.asked_us, now_us, messages, answer.body.len() as u64);
                track.next = next;
            }
            // Nothing here (deleted, filtered): the answer has the next offset.
            (20 | 21, Some(next)) => track.next = next,
            _ => {
                counts.failure(track.asked_us, || {
                    format!("queue {} at {}: {}", track.id, track.next, answer.remark())
                });
                track.next = track.end;
            }
        }
        Ok(index)
    }
}
