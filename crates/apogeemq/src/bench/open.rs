//! The open loop: requests are sent at times that the rate alone determines, independent of answers.
//!
//! One thread writes for all connections, because it mostly sleeps; others read the answers. Requests due within
//! [`QUANTUM_US`] share a write, so a high rate costs at most one write per connection and quantum. If the
//! writer is delayed, by the server or by the machine, it catches up, and the requests keep their intended times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::exchange::{self, Exchange};
use super::frames::{Sends, Shape, due_us};
use super::progress::wait_for;
use super::target::Share;
use super::threads::Threads;
use super::totals::{Clock, Counter, CounterGuard, Window, histogram};
use super::usage::make_sleeps_precise;
use super::wire::{Answer, Answers, Socket, TIMEOUT};
use crate::failure::Failure;

/// The shortest sleep of the writer.
const QUANTUM_US: u64 = 100;
/// Maximum number of bytes per write.
const MAX_BURST_BYTES: usize = 256 << 10;
/// How long to wait for answers after the last send.
pub(super) const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The send times of requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Messages per second.
    pub(super) rate: u64,
    /// Messages per request.
    pub(super) batch: u64,
}

impl Schedule {
    /// When a request is sent, in µs from the first.
    pub(super) fn due_us(&self, request: u64) -> u64 {
        request * self.batch * 1_000_000 / self.rate
    }
}

/// Waits until all messages that were acknowledged in the window have arrived, or for [`LAST_ANSWERS`], or until a reader fails. `arrived`
/// counts all arrivals.
pub(super) fn wait_for_arrivals(counters: &[Arc<Counter>], acks: &[Arc<Counter>], arrived: &AtomicU64, readers: &mut Threads) {
    let sum = |counters: &[Arc<Counter>]| counters.iter().map(|counter| counter.measured().0.messages).sum::<u64>();
    let wanted = sum(acks);
    let mut seen = u64::MAX;
    wait_for(LAST_ANSWERS, || {
        let now = arrived.load(Ordering::Acquire);
        // Merging histograms is expensive, so it is done only when messages have arrived.
        let is_done = now != seen && sum(counters) >= wanted;
        seen = now;
        is_done || readers.are_over()
    });
}

/// The requests of one connection, in order.
pub(super) trait Requests: Send {
    /// Appends the next request, due at `due_us`; its opaque is [`super::frames::opaque`] of that time.
    fn push(&mut self, due_us: u64, out: &mut Vec<u8>);
}

impl Requests for Sends {
    fn push(&mut self, due_us: u64, out: &mut Vec<u8>) {
        Self::push(self, due_us, out);
    }
}

/// What a successful answer counts as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A running open loop.
pub(super) struct OpenLoop {
    writers: Threads,
    readers: Threads,
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    pub(super) counters: Vec<Arc<Counter>>,
}

struct Shared {
    clock: Clock,
    stopping: AtomicBool,
    sent: AtomicU64,
    answered: AtomicU64,
    late: Mutex<Histogram<u64>>,
}

/// Result of an open loop.
pub(super) struct Ended {
    /// Delay of writes after their intended time in µs: the generator's part of the latency.
    pub(super) late: Histogram<u64>,
    /// Number of requests without an answer in time.
    pub(super) unanswered: u64,
}

impl OpenLoop {
    /// Starts sending messages, on the connections in turn.
    pub(super) fn start(
        shares: &[Share],
        sockets: Vec<Socket>,
        shape: Shape<'_>,
        schedule: Schedule,
        clock: Clock,
        window: Window,
    ) -> Result<Self, Failure> {
        let weight = Weight {
            messages: shape.batch as u64,
            bytes: (shape.batch * shape.size) as u64,
        };
        let sends = |(connection, socket): (usize, Socket)| {
            let queues: &[_] = &shares[connection % shares.len()].queues;
            (socket, Sends::new(shape, queues, connection))
        };
        let sends = sockets.into_iter().enumerate().map(sends).collect();
        Self::of(sends, weight, schedule, clock, window)
    }

    /// Starts sending these requests, on the connections in turn.
    pub(super) fn of<R: Requests + 'static>(
        connections: Vec<(Socket, R)>,
        weight: Weight,
        schedule: Schedule,
        clock: Clock,
        window: Window,
    ) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            clock,
            stopping: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            late: Mutex::new(histogram()),
        });
        let mut this = Self {
            writers: Threads::default(),
            readers: Threads::default(),
            shared,
            sockets: Vec::new(),
            counters: Vec::new(),
        };
        let (mut outputs, mut exchanges) = (Vec::new(), Vec::new());
        for (socket, requests) in connections {
            socket.wait_without_end()?;
            exchanges.push((socket.clone(), this.reader(weight, window)));
            this.sockets.push(socket.clone());
            outputs.push(Output {
                socket,
                requests,
                bytes: Vec::new(),
            });
        }
        let limit = Duration::from_micros(window.end_us) + LAST_ANSWERS + TIMEOUT;
        exchange::start(&mut this.readers, "bench-acks", limit, exchanges)?;
        let writer = Writer {
            outputs,
            schedule,
            window,
            shared: Arc::clone(&this.shared),
        };
        this.writers.spawn("bench-writer", move || writer.run())?;
        Ok(this)
    }

    /// The reader that counts the answers of one connection.
    fn reader(&mut self, weight: Weight, window: Window) -> Reader {
        let counter = Arc::new(Counter::new(window));
        self.counters.push(Arc::clone(&counter));
        Reader {
            counter,
            weight,
            shared: Arc::clone(&self.shared),
        }
    }

    /// The sending threads.
    pub(super) fn threads(&mut self) -> &mut Threads {
        &mut self.writers
    }

    /// Waits for the writer and for the last answers, and ends.
    pub(super) fn end(mut self) -> Result<Ended, Failure> {
        self.writers.join()?;
        let shared = &self.shared;
        let open = || {
            shared
                .sent
                .load(Ordering::Acquire)
                .saturating_sub(shared.answered.load(Ordering::Acquire))
        };
        wait_for(LAST_ANSWERS, || open() == 0 || self.readers.are_over());
        let unanswered = open();
        shared.stopping.store(true, Ordering::Release);
        self.sockets.iter().for_each(Socket::shut_down);
        self.readers.join()?;
        let late = shared.late.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Ended { late, unanswered })
    }
}

/// One connection of the writer.
struct Output<R> {
    socket: Socket,
    requests: R,
    bytes: Vec<u8>,
}

struct Writer<R> {
    outputs: Vec<Output<R>>,
    schedule: Schedule,
    window: Window,
    shared: Arc<Shared>,
}

impl<R: Requests> Writer<R> {
    fn run(mut self) -> Result<(), Failure> {
        make_sleeps_precise();
        let (mut next, mut late) = (0, histogram());
        while self.schedule.due_us(next) < self.window.end_us {
            let now_us = self.shared.clock.now_us();
            next = self.prepare(next, now_us, &mut late);
            for output in self.outputs.iter_mut().filter(|output| !output.bytes.is_empty()) {
                output.socket.send(&output.bytes)?;
                output.bytes.clear();
            }
            self.shared.sent.store(next, Ordering::Release);
            self.shared.clock.sleep_until(self.next_wake(next, now_us));
        }
        *self.shared.late.lock().unwrap_or_else(PoisonError::into_inner) = late;
        Ok(())
    }

    /// Encodes the requests that are due for the connections in turn; returns the first that is not due.
    fn prepare(&mut self, mut next: u64, now_us: u64, late: &mut Histogram<u64>) -> u64 {
        let count = self.outputs.len() as u64;
        loop {
            let due_us = self.schedule.due_us(next);
            let output = &mut self.outputs[(next % count) as usize];
            if due_us > now_us || due_us >= self.window.end_us || output.bytes.len() >= MAX_BURST_BYTES {
                return next;
            }
            if self.window.holds(due_us) {
                late.saturating_record((now_us - due_us).max(1));
            }
            output.requests.push(due_us, &mut output.bytes);
            next += 1;
        }
    }

    /// When to wake up next: at once if the writer is behind schedule.
    fn next_wake(&self, next: u64, now_us: u64) -> u64 {
        let due_us = self.schedule.due_us(next);
        if due_us <= now_us {
            now_us
        } else {
            due_us.max(now_us + QUANTUM_US)
        }
    }
}

struct Reader {
    counter: Arc<Counter>,
    weight: Weight,
    shared: Arc<Shared>,
}

impl Exchange for Reader {
    /// The writer thread sends all requests.
    fn write_requests(&mut self, _out: &mut Vec<u8>) -> bool {
        true
    }

    fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let now_us = self.shared.clock.now_us();
        let (mut counts, mut taken) = (self.counter.open(), 0);
        while let Some(answer) = answers.next()? {
            if answer.is_request() {
                continue;
            }
            count_answer(&mut counts, &answer, now_us, self.weight.messages, self.weight.bytes);
            taken += 1;
        }
        self.shared.answered.fetch_add(taken, Ordering::AcqRel);
        Ok(())
    }

    fn connection_lost(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.shared.stopping.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(failure)
        }
    }
}

/// Counts the answer of a send. Every code except success is an error, also a flush time-out.
#[inline]
pub(super) fn count_answer(counts: &mut CounterGuard<'_>, answer: &Answer<'_>, now_us: u64, messages: u64, bytes: u64) {
    let due_us = due_us(answer.opaque(), now_us);
    match answer.code() {
        0 => counts.success(due_us, now_us, messages, bytes),
        _ => counts.failure(due_us, || answer.remark()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_its_rate_for_any_length() {
        let schedule = Schedule { rate: 3, batch: 1 };
        assert_eq!(
            (0..4).map(|n| schedule.due_us(n)).collect::<Vec<_>>(),
            [0, 333_333, 666_666, 1_000_000]
        );
        let day = Schedule {
            rate: 10_000_000,
            batch: 1,
        };
        assert_eq!(day.due_us(10_000_000 * 86_400), 86_400 * 1_000_000);
        let batches = Schedule { rate: 100, batch: 10 };
        assert_eq!(batches.due_us(1), 100_000);
    }
}
