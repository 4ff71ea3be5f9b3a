//! What peers do all the time: an open loop of their requests, measured.

use std::sync::Arc;

use protocol::Frame;

use super::super::arguments::Output;
use super::super::frames;
use super::super::open::{OpenLoop, Requests, Schedule, Weight};
use super::super::progress::{Progress, Used};
use super::super::totals::{Clock, Counter, Window};
use super::super::wire::Socket;
use super::figures::Figures;
use crate::failure::Failure;

/// Requests that a function makes.
pub(super) struct Made<F>(pub(super) F);

impl<F: FnMut() -> Frame + Send> Requests for Made<F> {
    fn push(&mut self, due_us: u64, out: &mut Vec<u8>) {
        let mut request = (self.0)();
        request.opaque = frames::opaque(due_us) as i32;
        out.extend_from_slice(&request.to_bytes());
    }
}

/// `peers` requests in `interval_s` seconds, evenly.
pub(super) fn every(interval_s: u32, peers: u64) -> Schedule {
    Schedule {
        rate: peers.max(1),
        batch: u64::from(interval_s),
    }
}

/// A running load.
pub(super) struct Load {
    open: OpenLoop,
    counters: Vec<Arc<Counter>>,
}

impl Load {
    /// Starts sending, on the connections in turn.
    pub(super) fn start<F>(connections: Vec<(Socket, F)>, schedule: Schedule, clock: Clock, window: Window) -> Result<Self, Failure>
    where
        F: FnMut() -> Frame + Send + 'static,
    {
        let weight = Weight { messages: 1, bytes: 0 };
        let connections = connections.into_iter().map(|(socket, make)| (socket, Made(make))).collect();
        let open = OpenLoop::of(connections, weight, schedule, clock, window)?;
        let counters = open.counters.clone();
        Ok(Self { open, counters })
    }

    /// Shows progress until the window ends.
    pub(super) fn until_the_end(&mut self, clock: Clock, window: Window, output: &Output) -> Result<Used, Failure> {
        let progress = Progress {
            clock,
            window,
            counters: &self.counters,
            output,
        };
        progress.until_the_end(self.open.threads())
    }

    /// Waits for the last answers and reports the latencies under this name.
    pub(super) fn end(self, figures: &mut Figures, name: &str) -> Result<u64, Failure> {
        let ended = self.open.end()?;
        let count = figures.answers(name, &self.counters);
        figures.late(name, &ended.late);
        figures.unanswered(name, ended.unanswered);
        Ok(count)
    }
}
