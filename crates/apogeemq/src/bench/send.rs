//! `bench send`: producers in a closed loop (each answer triggers the next request) or an open loop (`--rate`).

use super::arguments::{EndWith, SendArguments};
use super::closed::{self, Pace};
use super::exchange::Exchange;
use super::frames::{self, Sends, Shape, Wait};
use super::open::{OpenLoop, Schedule, count_answer};
use super::progress::Progress;
use super::report::{Report, plural};
use super::target::{LoadTarget, Share};
use super::totals::{Clock, Window};
use super::wire::{Answers, Socket};
use crate::failure::Failure;
use protocol::transaction::{COMMIT, ROLLBACK};

pub(super) fn run(arguments: &SendArguments) -> Result<Report, Failure> {
    arguments.check()?;
    let load_target = LoadTarget::new(&arguments.target)?.with_topics(arguments.topics);
    let shares = load_target.find_or_create(arguments.load.queues)?;
    if shares.is_empty() {
        return Err(Failure::new(format!("topic {} has no writable queue", arguments.target.topic)));
    }
    let shape = Shape {
        lite_topics: arguments.lite_topics.unwrap_or(0),
        size: arguments.load.size as usize,
        batch: arguments.batch as usize,
        run: None,
        wait: match (arguments.after, arguments.at) {
            (Some(ms), _) => Wait::After(ms),
            (None, Some(ms)) => Wait::At(ms),
            (None, None) => Wait::Not,
        },
        are_half: arguments.transactions.is_some(),
    };
    let sockets = load_target.connect_all(&shares, arguments.load.connections)?;
    match arguments.rate {
        Some(rate) => open(arguments, &shares, sockets, shape, u64::from(rate)),
        None => closed(arguments, &shares, sockets, shape),
    }
}

fn describe(arguments: &SendArguments, shares: &[Share]) -> String {
    let queues = shares.iter().map(|share| share.queues.len()).sum::<usize>();
    let connections = plural(u64::from(arguments.load.connections), "connection");
    let batch = if arguments.batch > 1 {
        format!(" in batches of {}", arguments.batch)
    } else {
        String::new()
    };
    let pace = match arguments.rate {
        Some(rate) => format!("{rate} a second"),
        None => format!("{} in flight on each", arguments.window),
    };
    format!(
        "send {} B{batch}, {connections}, {pace}, {}",
        arguments.load.size,
        plural(queues as u64, "queue")
    )
}

fn open(arguments: &SendArguments, shares: &[Share], sockets: Vec<Socket>, shape: Shape<'_>, rate: u64) -> Result<Report, Failure> {
    let window = Window::new(arguments.load.warmup(), arguments.load.seconds());
    let clock = Clock::start();
    let schedule = Schedule {
        rate,
        batch: shape.batch as u64,
    };
    let mut load = OpenLoop::start(shares, sockets, shape, schedule, clock, window)?;
    let counters = load.counters.clone();
    let progress = Progress {
        clock,
        window,
        counters: &counters,
        output: &arguments.output,
    };
    let used = progress.until_the_end(load.threads())?;
    let ended = load.end()?;
    let report = Report::new(describe(arguments, shares), &counters, window.seconds(), used);
    Ok(report.with_late(&ended.late).with_unanswered(ended.unanswered))
}

fn closed(arguments: &SendArguments, shares: &[Share], sockets: Vec<Socket>, shape: Shape<'_>) -> Result<Report, Failure> {
    let window = Window::new(arguments.load.warmup(), arguments.load.seconds());
    let connections = sockets.into_iter().zip(0..).collect();
    let ended = closed::run("bench-sender", window, &arguments.output, connections, |connection: usize, pace| {
        Sender {
            sends: Sends::new(shape, &shares[connection % shares.len()].queues, connection),
            pace,
            ends_with: match arguments.transactions {
                Some(EndWith::Commit) => Some(COMMIT),
                Some(EndWith::Rollback) => Some(ROLLBACK),
                Some(EndWith::Nothing) | None => None,
            },
            ends: Vec::new(),
            room: arguments.window,
            in_flight: 0,
            messages: shape.batch as u64,
            bytes: (shape.batch * shape.size) as u64,
        }
    })?;
    Ok(Report::new(
        describe(arguments, shares),
        &ended.counters,
        window.seconds(),
        ended.used,
    ))
}

/// One connection of a closed loop.
struct Sender {
    sends: Sends,
    pace: Pace,
    /// How the transaction of each half message ends.
    ends_with: Option<i32>,
    /// Ends to send.
    ends: Vec<u8>,
    /// Number of requests that may be sent now.
    room: u32,
    in_flight: u32,
    messages: u64,
    bytes: u64,
}

impl Exchange for Sender {
    fn write_requests(&mut self, out: &mut Vec<u8>) -> bool {
        let now_us = self.pace.clock.now_us();
        out.append(&mut self.ends);
        if now_us < self.pace.end_us {
            (0..self.room).for_each(|_| self.sends.push(now_us, out));
            self.in_flight += self.room;
            self.room = 0;
        }
        self.in_flight > 0
    }

    fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let now_us = self.pace.clock.now_us();
        let mut counts = self.pace.counter.open();
        while let Some(answer) = answers.next()? {
            if let Some(outcome) = self.ends_with
                && answer.code() == 0
                && let Some(half) = answer.decode().filter(|half| half.ext.text("queueOffset").is_some())
                && frames::end_transaction(&half, outcome, &mut self.ends).is_some()
            {
                continue;
            }
            count_answer(&mut counts, &answer, now_us, self.messages, self.bytes);
            self.room += 1;
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        Ok(())
    }
}
