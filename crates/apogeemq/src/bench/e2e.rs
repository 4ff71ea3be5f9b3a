//! `bench e2e`: an open loop of sends, and readers whose pulls the broker holds until something arrives.
//!
//! The latency of a message runs from the moment at which it should have been sent to the moment at which a reader has it. That of its
//! acknowledgement is told beside it. With `--delays` it runs from the moment at which the message was due: the lateness of delivery.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::Queue;

use super::arguments::E2eArguments;
use super::frames::{self, Shape};
use super::lanes::Lanes;
use super::open::{LAST_ANSWERS, OpenLoop, Schedule};
use super::place::{self, Place, Share, deal};
use super::report::{Report, plural};
use super::talk::{self, Talk};
use super::tally::{Clock, Counter, Open, Window};
use super::watch::{Watch, wait_for};
use super::wire::{Answer, Answers, PATIENCE, Socket};
use crate::failure::Failure;

/// How long the broker may hold a pull: as official consumers ask.
const HOLD_MS: i64 = 15_000;
/// Brokers count delays in whole ms of their clock.
const CLOCK_STEP_US: u64 = 1_000;
/// Most messages of one answer, as official consumers ask.
const PULL_MAX: i32 = 32;

pub(super) fn run(arguments: &E2eArguments) -> Result<Report, Failure> {
    arguments.check()?;
    let place = Place::new(&arguments.target)?;
    let shares = place.found_or_created(arguments.load.queues)?;
    let hands = deal(&place.found()?, arguments.readers);
    if shares.is_empty() || hands.is_empty() {
        return Err(Failure::new(format!(
            "topic {} has no queue that may be written and read",
            arguments.target.topic
        )));
    }
    let run = RandomState::new().build_hasher().finish();
    let readers = hands.iter().map(|hand| listen(&place, hand)).collect::<Result<Vec<_>, _>>()?;
    let sockets = place::connect(&shares, arguments.load.connections)?;
    let (clock, window) = (Clock::start(), Window::new(arguments.load.warmup(), arguments.load.seconds()));
    let mut arrivals = Arrivals::start(readers, &arguments.target.topic, run, (clock, window))?;
    let mut load = OpenLoop::start(&shares, sockets, shape(arguments, run), schedule(arguments), (clock, window))?;
    let acks = load.counters.clone();
    let watch = Watch {
        clock,
        window,
        counters: &arrivals.counters,
        output: &arguments.output,
    };
    let used = watch.until_the_end(load.lanes())?;
    let ended = load.end()?;
    let counters = arrivals.end(&acks)?;
    let readers = plural(hands.len() as u64, "reader");
    let what = format!(
        "e2e {} B, {} a second, {}, {readers}",
        arguments.load.size,
        arguments.rate,
        queues(&shares)
    );
    let report = Report::new(what, &counters, window.seconds(), used);
    Ok(report
        .with_acknowledgements(&acks)
        .with_late(&ended.late)
        .with_unanswered(ended.unanswered))
}

type Timing = (Clock, Window);

fn shape(arguments: &E2eArguments, run: u64) -> Shape<'_> {
    Shape {
        size: arguments.load.size as usize,
        batch: 1,
        run: Some(run),
        delays_ms: arguments.delays.as_ref().map_or(&[], |levels| levels.delays_ms()),
    }
}

fn schedule(arguments: &E2eArguments) -> Schedule {
    Schedule {
        rate: u64::from(arguments.rate),
        batch: 1,
    }
}

/// Numbers and ends of queues, and a connection to read them.
type Listening = (Socket, Vec<(i32, i64)>);

fn listen(place: &Place, hand: &[Queue]) -> Result<Listening, Failure> {
    let ends = hand.iter().map(|queue| Ok((queue.id, place.bounds(queue)?.1)));
    Ok((Socket::connect(&hand[0].address)?, ends.collect::<Result<_, Failure>>()?))
}

fn queues(shares: &[Share]) -> String {
    plural(shares.iter().map(|share| share.queues.len() as u64).sum(), "queue")
}

/// The readers.
struct Arrivals {
    lanes: Lanes,
    counters: Vec<Arc<Counter>>,
    sockets: Vec<Socket>,
    state: Arc<State>,
}

struct State {
    stopping: AtomicBool,
    arrived: AtomicU64,
}

impl Arrivals {
    fn start(readers: Vec<Listening>, topic: &str, run: u64, (clock, window): Timing) -> Result<Self, Failure> {
        let state = Arc::new(State {
            stopping: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
        });
        let (mut lanes, mut counters, mut sockets, mut talks) = (Lanes::default(), Vec::new(), Vec::new(), Vec::new());
        for (socket, tracks) in readers {
            let counter = Arc::new(Counter::new(window));
            sockets.push(socket.clone());
            counters.push(Arc::clone(&counter));
            let reader = Reader {
                wanted: (0..tracks.len()).collect(),
                tracks,
                topic: topic.to_owned(),
                run,
                counter,
                clock,
                state: Arc::clone(&state),
            };
            talks.push((socket, reader));
        }
        let limit = Duration::from_micros(window.end_us) + LAST_ANSWERS * 2 + PATIENCE;
        talk::start(&mut lanes, "bench-reader", limit, talks)?;
        Ok(Self {
            lanes,
            counters,
            sockets,
            state,
        })
    }

    /// Waits until all that was acknowledged in the window has arrived, but not for ever, and ends.
    fn end(&mut self, acks: &[Arc<Counter>]) -> Result<Vec<Arc<Counter>>, Failure> {
        let sum = |counters: &[Arc<Counter>]| counters.iter().map(|counter| counter.measured().0.messages).sum::<u64>();
        let wanted = sum(acks);
        let state = &self.state;
        let mut seen = u64::MAX;
        wait_for(LAST_ANSWERS, || {
            let arrived = state.arrived.load(Ordering::Acquire);
            // Adding up histograms is not for free, so only when something has come.
            let done = arrived != seen && sum(&self.counters) >= wanted;
            seen = arrived;
            done || self.lanes.are_over()
        });
        self.state.stopping.store(true, Ordering::Release);
        self.sockets.iter().for_each(Socket::shut);
        std::mem::take(&mut self.lanes).join()?;
        Ok(std::mem::take(&mut self.counters))
    }
}

/// One connection with a held pull for each of its queues.
struct Reader {
    /// Queue and next offset.
    tracks: Vec<(i32, i64)>,
    /// Tracks that have no pull in flight.
    wanted: Vec<usize>,
    topic: String,
    run: u64,
    counter: Arc<Counter>,
    clock: Clock,
    state: Arc<State>,
}

impl Talk for Reader {
    fn say(&mut self, out: &mut Vec<u8>) -> bool {
        for place in std::mem::take(&mut self.wanted) {
            self.ask(place, out);
        }
        true
    }

    fn hear(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let (now_us, counter) = (self.clock.now_us(), Arc::clone(&self.counter));
        let mut counts = counter.open();
        while let Some(answer) = answers.next()? {
            let place = self.take(&mut counts, &answer, now_us)?;
            self.wanted.push(place);
        }
        Ok(())
    }

    fn broken(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.state.stopping.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(failure)
        }
    }
}

impl Reader {
    fn ask(&self, place: usize, out: &mut Vec<u8>) {
        let (id, next) = self.tracks[place];
        frames::pull(&self.topic, id, next, PULL_MAX, HOLD_MS, place as u32, out);
    }

    /// Counts the messages of this run; returns whose answer it is.
    fn take(&mut self, counts: &mut Open<'_>, answer: &Answer<'_>, now_us: u64) -> Result<usize, Failure> {
        let place = answer.opaque() as usize;
        let stray = || Failure::new("an answer to something that was not asked");
        let (_, next) = self.tracks.get_mut(place).ok_or_else(stray)?;
        match answer.code() {
            0 => {
                let arrived = count(counts, answer.body, self.run, now_us);
                self.state.arrived.fetch_add(arrived, Ordering::AcqRel);
            }
            19..=21 => {}
            _ => return Err(Failure::new(format!("a pull was refused: {}", answer.remark()))),
        }
        *next = answer.next_offset().unwrap_or(*next);
        Ok(place)
    }
}

fn count(counts: &mut Open<'_>, body: &[u8], run: u64, now_us: u64) -> u64 {
    let mut arrived = 0;
    for record in client::records(body).flatten() {
        if let Some(due_us) = frames::stamp(record.body, run) {
            if now_us + CLOCK_STEP_US < due_us {
                counts.failure(due_us, || format!("a message arrived {} µs before it was due", due_us - now_us));
            } else {
                counts.success(due_us, now_us, 1, record.body.len() as u64);
            }
            arrived += 1;
        }
    }
    arrived
}
