//! `bench e2e`: an open loop of sends, and readers whose pulls the broker parks until messages arrive.
//!
//! The latency of a message is the time from its intended send to its arrival at a reader. The latency of its
//! acknowledgement is reported, too. Readers pull, or pop and acknowledge what they got. With `--delays` or `--after` latency starts when the message is due: the lateness of delivery.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::Queue;

use super::arguments::{Consume, E2eArguments};
use super::exchange::{self, Exchange};
use super::frames::{self, Shape, Wait};
use super::open::{LAST_ANSWERS, OpenLoop, Schedule, wait_for_arrivals};
use super::pop::Pops;
use super::progress::Progress;
use super::report::{Report, plural};
use super::target::{LoadTarget, Share, distribute};
use super::threads::Threads;
use super::totals::{Clock, Counter, CounterGuard, Window};
use super::wire::{Answer, Answers, Socket, TIMEOUT};
use crate::failure::Failure;

/// How long the broker may park a pull, as official consumers request.
const HOLD_MS: i64 = 15_000;
/// Brokers compute delays in whole ms of their clock.
const CLOCK_STEP_US: u64 = 1_000;
/// Maximum number of messages per answer, as official consumers request.
const PULL_MAX: i32 = 32;

pub(super) fn run(arguments: &E2eArguments) -> Result<Report, Failure> {
    arguments.check()?;
    let load_target = LoadTarget::new(&arguments.target)?;
    let shares = load_target.find_or_create(arguments.load.queues)?;
    let assigned = distribute(&load_target.find()?, arguments.readers);
    if shares.is_empty() || assigned.is_empty() {
        return Err(Failure::new(format!(
            "topic {} has no queue that is writable and readable",
            arguments.target.topic
        )));
    }
    let run = RandomState::new().build_hasher().finish();
    let readers = assigned
        .iter()
        .map(|queues_of_reader| listen(&load_target, queues_of_reader))
        .collect::<Result<Vec<_>, _>>()?;
    let sockets = load_target.connect_all(&shares, arguments.load.connections)?;
    let (clock, window) = (Clock::start(), Window::new(arguments.load.warmup(), arguments.load.seconds()));
    let mut arrivals = Arrivals::start(readers, &way(arguments, run), run, (clock, window))?;
    let mut load = OpenLoop::start(&shares, sockets, shape(arguments, run), schedule(arguments), clock, window)?;
    let acks = load.counters.clone();
    let progress = Progress {
        clock,
        window,
        counters: &arrivals.counters,
        output: &arguments.output,
    };
    let used = progress.until_the_end(load.threads())?;
    let ended = load.end()?;
    let counters = arrivals.end(&acks)?;
    let readers = plural(assigned.len() as u64, "reader");
    let what = format!(
        "e2e {} B, {} a second, {}, {}{readers}",
        arguments.load.size,
        arguments.rate,
        queues(&shares),
        if arguments.consumption.consume == Consume::Pop {
            "popped by "
        } else {
            ""
        },
    );
    let report = Report::new(what, &counters, window.seconds(), used);
    Ok(report
        .with_acknowledgements(&acks)
        .with_late(&ended.late)
        .with_unanswered(ended.unanswered))
}

type Timing = (Clock, Window);

/// How readers get messages.
#[derive(Clone)]
enum Way {
    /// They pull from this topic.
    Pull(Arc<str>),
    Pop(Arc<Pops>),
}

fn way(arguments: &E2eArguments, run: u64) -> Way {
    let (topic, of) = (&arguments.target.topic, &arguments.consumption);
    match of.consume {
        Consume::Pull => Way::Pull(topic.as_str().into()),
        Consume::Pop => Way::Pop(Arc::new(Pops::new(topic, run, of.acknowledge, of.invisible))),
    }
}

fn shape(arguments: &E2eArguments, run: u64) -> Shape<'_> {
    Shape {
        lite_topics: 0,
        size: arguments.load.size as usize,
        batch: 1,
        run: Some(run),
        wait: match (&arguments.delays, arguments.after) {
            (Some(levels), _) => Wait::Levels(levels.delays_ms()),
            (None, Some(ms)) => Wait::After(ms),
            (None, None) => Wait::Not,
        },
        are_half: false,
    }
}

fn schedule(arguments: &E2eArguments) -> Schedule {
    Schedule {
        rate: u64::from(arguments.rate),
        batch: 1,
    }
}

/// A connection, and ids and ends of the queues that it reads.
type Listening = (Socket, Vec<(i32, i64)>);

fn listen(load_target: &LoadTarget, queues_of_reader: &[Queue]) -> Result<Listening, Failure> {
    let ends = queues_of_reader.iter().map(|queue| Ok((queue.id, load_target.bounds(queue)?.1)));
    Ok((
        load_target.connect(&queues_of_reader[0].address)?,
        ends.collect::<Result<_, Failure>>()?,
    ))
}

fn queues(shares: &[Share]) -> String {
    plural(shares.iter().map(|share| share.queues.len() as u64).sum(), "queue")
}

/// The readers.
struct Arrivals {
    threads: Threads,
    counters: Vec<Arc<Counter>>,
    sockets: Vec<Socket>,
    state: Arc<ArrivalState>,
}

struct ArrivalState {
    stopping: AtomicBool,
    arrived: AtomicU64,
}

impl Arrivals {
    fn start(readers: Vec<Listening>, way: &Way, run: u64, (clock, window): Timing) -> Result<Self, Failure> {
        let state = Arc::new(ArrivalState {
            stopping: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
        });
        let (mut threads, mut counters, mut sockets, mut exchanges) = (Threads::default(), Vec::new(), Vec::new(), Vec::new());
        for (socket, tracks) in readers {
            let counter = Arc::new(Counter::new(window));
            sockets.push(socket.clone());
            counters.push(Arc::clone(&counter));
            let reader = Reader {
                wanted: (0..tracks.len()).collect(),
                tracks,
                way: way.clone(),
                acks: Vec::new(),
                run,
                counter,
                clock,
                state: Arc::clone(&state),
            };
            exchanges.push((socket, reader));
        }
        let limit = Duration::from_micros(window.end_us) + LAST_ANSWERS * 2 + TIMEOUT;
        exchange::start(&mut threads, "bench-reader", limit, exchanges)?;
        Ok(Self {
            threads,
            counters,
            sockets,
            state,
        })
    }

    /// Waits until all messages acknowledged in the window have arrived, or a time-out, and ends.
    fn end(&mut self, acks: &[Arc<Counter>]) -> Result<Vec<Arc<Counter>>, Failure> {
        wait_for_arrivals(&self.counters, acks, &self.state.arrived, &mut self.threads);
        self.state.stopping.store(true, Ordering::Release);
        self.sockets.iter().for_each(Socket::shut_down);
        std::mem::take(&mut self.threads).join()?;
        Ok(std::mem::take(&mut self.counters))
    }
}

/// One connection with a parked pull for each of its queues.
struct Reader {
    /// Queue and next offset.
    tracks: Vec<(i32, i64)>,
    /// Indexes of queues without a pull in flight.
    wanted: Vec<usize>,
    way: Way,
    /// Acknowledgements to write with the next pops.
    acks: Vec<u8>,
    run: u64,
    counter: Arc<Counter>,
    clock: Clock,
    state: Arc<ArrivalState>,
}

impl Exchange for Reader {
    fn write_requests(&mut self, out: &mut Vec<u8>) -> bool {
        out.append(&mut self.acks);
        for index in std::mem::take(&mut self.wanted) {
            self.ask(index, out);
        }
        true
    }

    fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let (now_us, counter) = (self.clock.now_us(), Arc::clone(&self.counter));
        let mut counts = counter.open();
        while let Some(answer) = answers.next()? {
            if let Some(index) = self.take(&mut counts, &answer, now_us)? {
                self.wanted.push(index);
            }
        }
        Ok(())
    }

    fn connection_lost(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.state.stopping.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(failure)
        }
    }
}

impl Reader {
    fn ask(&self, index: usize, out: &mut Vec<u8>) {
        let (id, next) = self.tracks[index];
        match &self.way {
            Way::Pull(topic) => frames::pull(topic, id, next, PULL_MAX, HOLD_MS, index as u32, out),
            Way::Pop(pops) => pops.pop(id, PULL_MAX, HOLD_MS, index as u32, out),
        }
    }

    /// Counts the messages of this run; returns the index of the queue that is to be read again.
    fn take(&mut self, counts: &mut CounterGuard<'_>, answer: &Answer<'_>, now_us: u64) -> Result<Option<usize>, Failure> {
        let opaque = answer.opaque();
        if Pops::is_ack(opaque) {
            if answer.code() != 0 {
                counts.failure(now_us, || format!("an acknowledgement was refused: {}", answer.remark()));
            }
            return Ok(None);
        }
        let index = opaque as usize;
        let unexpected = || Failure::new("an answer without a request");
        let (id, next) = self.tracks.get_mut(index).ok_or_else(unexpected)?;
        match answer.code() {
            0 => {
                let arrived = count(counts, answer.body, self.run, now_us);
                self.state.arrived.fetch_add(arrived, Ordering::AcqRel);
                if let Way::Pop(pops) = &self.way {
                    pops.acknowledge(*id, answer, &mut self.acks)?;
                }
            }
            19..=21 | 209 | 210 => {}
            _ => return Err(Failure::new(format!("a reader was refused: {}", answer.remark()))),
        }
        *next = answer.next_offset().unwrap_or(*next);
        Ok(Some(index))
    }
}

fn count(counts: &mut CounterGuard<'_>, body: &[u8], run: u64, now_us: u64) -> u64 {
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
