//! `bench recv`: reads what a topic holds, each queue from its first message to the end it had at the start.
//!
//! A reader has one connection and one pull in flight for each of its queues.

use std::sync::Arc;
use std::time::Duration;

use client::Queue;

use super::arguments::RecvArguments;
use super::closed::{self, Pace};
use super::frames;
use super::place::{Place, deal};
use super::report::{Report, plural};
use super::talk::Talk;
use super::tally::{Open, Window};
use super::wire::{Answer, Answers, Socket};
use crate::failure::Failure;

pub(super) fn run(arguments: &RecvArguments) -> Result<Report, Failure> {
    let place = Place::new(&arguments.target)?;
    let queues = place.found()?;
    let window = Window::new(Duration::ZERO, Duration::from_secs(u64::from(arguments.seconds)));
    let hands = deal(&queues, arguments.readers);
    let mut connections = Vec::new();
    for hand in &hands {
        let tracks = hand.iter().map(|queue| Track::new(&place, queue)).collect::<Result<Vec<_>, _>>()?;
        connections.push((Socket::connect(&hand[0].address)?, tracks));
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
    let (readers, shown) = (plural(hands.len() as u64, "reader"), plural(queues.len() as u64, "queue"));
    let what = format!("recv {} at most in a pull, {readers}, {shown}", arguments.batch);
    let last_us = ended.counters.iter().map(|counter| counter.measured().0.last_us).max().unwrap_or(0);
    Ok(Report::new(what, &ended.counters, last_us as f64 / 1e6, ended.used))
}

/// How far a queue is read.
struct Track {
    id: i32,
    next: i64,
    end: i64,
    asked_us: u64,
}

impl Track {
    fn new(place: &Place, queue: &Queue) -> Result<Self, Failure> {
        let (next, end) = place.bounds(queue)?;
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
    /// Tracks that have no pull in flight.
    wanted: Vec<usize>,
    in_flight: usize,
    topic: String,
    batch: i32,
    pace: Pace,
}

impl Talk for Reader {
    fn say(&mut self, out: &mut Vec<u8>) -> bool {
        let now_us = self.pace.clock.now_us();
        for place in std::mem::take(&mut self.wanted) {
            self.in_flight += self.ask(place, now_us, out);
        }
        self.in_flight > 0
    }

    fn hear(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let (now_us, counter) = (self.pace.clock.now_us(), Arc::clone(&self.pace.counter));
        let mut counts = counter.open();
        while let Some(answer) = answers.next()? {
            let place = self.take(&mut counts, &answer, now_us)?;
            self.wanted.push(place);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        Ok(())
    }
}

impl Reader {
    /// Asks for what comes next in a queue; 0 when there is nothing more to ask for.
    fn ask(&mut self, place: usize, now_us: u64, out: &mut Vec<u8>) -> usize {
        let track = &mut self.tracks[place];
        if track.next >= track.end || now_us >= self.pace.end_us {
            return 0;
        }
        track.asked_us = now_us;
        frames::pull(&self.topic, track.id, track.next, self.batch, 0, place as u32, out);
        1
    }

    /// Counts an answer; returns whose it is.
    fn take(&mut self, counts: &mut Open<'_>, answer: &Answer<'_>, now_us: u64) -> Result<usize, Failure> {
        let place = answer.opaque() as usize;
        let stray = || Failure::new("an answer to something that was not asked");
        let track = self.tracks.get_mut(place).ok_or_else(stray)?;
        let next = answer.next_offset().filter(|next| *next > track.next);
        match (answer.code(), next) {
            (0, Some(next)) => {
                let messages = client::records(answer.body).filter(Result::is_ok).count() as u64;
                counts.success(track.asked_us, now_us, messages, answer.body.len() as u64);
                track.next = next;
            }
            // Nothing here (deleted, filtered): the broker says where to go on.
            (20 | 21, Some(next)) => track.next = next,
            _ => {
                counts.failure(track.asked_us, || {
                    format!("queue {} at {}: {}", track.id, track.next, answer.remark())
                });
                track.next = track.end;
            }
        }
        Ok(place)
    }
}
