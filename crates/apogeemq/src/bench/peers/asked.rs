//! A closed loop of given requests: how peers appear.

use std::sync::Arc;
use std::time::Duration;

use protocol::Frame;

use super::super::exchange::{self, Exchange};
use super::super::frames;
use super::super::open::count_answer;
use super::super::threads::Threads;
use super::super::totals::{Clock, Counter, Window};
use super::super::wire::{Answers, Socket};
use crate::failure::Failure;

/// Limit on a whole phase.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Result of a phase.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) seconds: f64,
    /// One per connection.
    pub(super) counters: Vec<Arc<Counter>>,
}

impl Asked {
    /// Adds another part of the same phase.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.seconds += other.seconds;
        self.counters.extend(other.counters);
        self
    }
}

/// Sends the requests of each connection, at most `window` in flight on each, until all are answered. An answer other than success is
/// counted as an error.
///
/// # Errors
/// [`Failure`] if a connection is lost.
pub(super) fn ask_all<I>(connections: Vec<(Socket, I)>, window: usize) -> Result<Asked, Failure>
where
    I: Iterator<Item = Frame> + Send + 'static,
{
    let clock = Clock::start();
    let (mut threads, mut counters, mut exchanges) = (Threads::default(), Vec::new(), Vec::new());
    for (socket, requests) in connections {
        let counter = Arc::new(Counter::new(Window::new(Duration::ZERO, LIMIT)));
        counters.push(Arc::clone(&counter));
        let asking = Asking {
            requests,
            window,
            in_flight: 0,
            clock,
            counter,
        };
        exchanges.push((socket, asking));
    }
    exchange::start(&mut threads, "bench-peers", LIMIT, exchanges)?;
    threads.join()?;
    Ok(Asked {
        seconds: clock.now_us() as f64 / 1e6,
        counters,
    })
}

/// Sends requests on one connection, each when the last one is answered.
///
/// # Errors
/// As [`ask_all`].
pub(super) fn ask_in_turn<I>(socket: &Socket, requests: I) -> Result<Asked, Failure>
where
    I: Iterator<Item = Frame> + Send + 'static,
{
    ask_all(vec![(socket.clone(), requests)], 1)
}

struct Asking<I> {
    requests: I,
    window: usize,
    in_flight: usize,
    clock: Clock,
    counter: Arc<Counter>,
}

impl<I: Iterator<Item = Frame> + Send + 'static> Exchange for Asking<I> {
    fn write_requests(&mut self, out: &mut Vec<u8>) -> bool {
        while self.in_flight < self.window {
            let Some(mut request) = self.requests.next() else { break };
            request.opaque = frames::opaque(self.clock.now_us()) as i32;
            out.extend_from_slice(&request.to_bytes());
            self.in_flight += 1;
        }
        self.in_flight > 0
    }

    fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure> {
        let now_us = self.clock.now_us();
        let mut counts = self.counter.open();
        while let Some(answer) = answers.next()? {
            if !answer.is_request() {
                count_answer(&mut counts, &answer, now_us, 1, 0);
                self.in_flight -= 1;
            }
        }
        Ok(())
    }
}
