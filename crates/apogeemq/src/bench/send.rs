//! `bench send`: producers in a closed loop (each answer makes room for the next request) or an open one (`--rate`).

use std::sync::Arc;

use super::arguments::SendArguments;
use super::frames::{Sends, Shape};
use super::lanes::Lanes;
use super::open::{OpenLoop, Schedule, judge};
use super::place::{Place, Share};
use super::report::{Report, plural};
use super::tally::{Clock, Counter, Window};
use super::watch::Watch;
use super::wire::{Answers, Socket};
use crate::failure::Failure;

pub(super) fn run(arguments: &SendArguments) -> Result<Report, Failure> {
    arguments.check()?;
    let shares = Place::new(&arguments.target)?.found_or_created(arguments.load.queues)?;
    if shares.is_empty() {
        return Err(Failure::new(format!("no queue of topic {} may be written", arguments.target.topic)));
    }
    let shape = Shape {
        topic: &arguments.target.topic,
        size: arguments.load.size as usize,
        batch: arguments.batch as usize,
        run: None,
    };
    match arguments.rate {
        Some(rate) => open(arguments, &shares, shape, u64::from(rate)),
        None => closed(arguments, &shares, shape),
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

fn open(arguments: &SendArguments, shares: &[Share], shape: Shape<'_>, rate: u64) -> Result<Report, Failure> {
    let window = Window::new(arguments.load.warmup(), arguments.load.seconds());
    let (clock, connections) = (Clock::start(), arguments.load.connections as usize);
    let schedule = Schedule {
        rate,
        batch: shape.batch as u64,
    };
    let mut load = OpenLoop::start(shares, connections, shape, schedule, (clock, window))?;
    let counters = load.counters.clone();
    let watch = Watch {
        clock,
        window,
        counters: &counters,
        output: &arguments.output,
    };
    let used = watch.until_the_end(load.lanes())?;
    let ended = load.end()?;
    let report = Report::new(describe(arguments, shares), &counters, window.seconds(), used);
    Ok(report.with_late(&ended.late).with_unanswered(ended.unanswered))
}

fn closed(arguments: &SendArguments, shares: &[Share], shape: Shape<'_>) -> Result<Report, Failure> {
    let window = Window::new(arguments.load.warmup(), arguments.load.seconds());
    let connections = arguments.load.connections as usize;
    let sockets: Vec<_> = (0..connections)
        .map(|lane| Socket::connect(&shares[lane % shares.len()].address))
        .collect::<Result<_, _>>()?;
    let (clock, mut lanes, mut counters) = (Clock::start(), Lanes::default(), Vec::new());
    for (lane, socket) in sockets.into_iter().enumerate() {
        let counter = Arc::new(Counter::new(window));
        counters.push(Arc::clone(&counter));
        let sender = Sender {
            socket,
            sends: Sends::new(shape, &shares[lane % shares.len()].queues, lane),
            counter,
            clock,
            end_us: window.end_us,
            window: arguments.window,
            messages: shape.batch as u64,
            bytes: (shape.batch * shape.size) as u64,
        };
        lanes.spawn("bench-sender", move || sender.run())?;
    }
    let watch = Watch {
        clock,
        window,
        counters: &counters,
        output: &arguments.output,
    };
    let used = watch.until_the_end(&mut lanes)?;
    lanes.join()?;
    Ok(Report::new(describe(arguments, shares), &counters, window.seconds(), used))
}

/// One connection of a closed loop.
struct Sender {
    socket: Socket,
    sends: Sends,
    counter: Arc<Counter>,
    clock: Clock,
    end_us: u64,
    /// Requests in flight at most.
    window: u32,
    messages: u64,
    bytes: u64,
}

impl Sender {
    fn run(mut self) -> Result<(), Failure> {
        let (mut answers, mut out) = (Answers::new(), Vec::new());
        let (mut room, mut in_flight) = (self.window, 0);
        loop {
            let now_us = self.clock.now_us();
            if now_us < self.end_us {
                (0..room).for_each(|_| self.sends.push(now_us, &mut out));
                self.socket.send(&out)?;
                out.clear();
                in_flight += room;
            }
            if in_flight == 0 {
                return Ok(());
            }
            room = self.answered(&mut answers)?;
            in_flight -= room;
        }
    }

    /// Waits for answers and counts all that one read brings.
    fn answered(&mut self, answers: &mut Answers) -> Result<u32, Failure> {
        if !answers.read(&mut self.socket)? {
            return Err(self.socket.closed());
        }
        let now_us = self.clock.now_us();
        let (mut counts, mut taken) = (self.counter.open(), 0);
        while let Some(answer) = answers.next()? {
            judge(&mut counts, &answer, now_us, self.messages, self.bytes);
            taken += 1;
        }
        Ok(taken)
    }
}
