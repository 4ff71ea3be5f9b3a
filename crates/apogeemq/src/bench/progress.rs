//! Progress of a run: one line per second, and the resources used in the window.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use super::arguments::Output;
use super::threads::Threads;
use super::totals::{Clock, Counter, Totals, Window};
use super::usage::{self, Memory};
use crate::failure::Failure;
use crate::number::grouped;

const SECOND_US: u64 = 1_000_000;
/// Interval between checks whether the threads still run.
const LOOK_US: u64 = 10_000;

/// Resources used in the window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// CPU seconds of the server.
    pub(super) server_cpu: Option<f64>,
    /// The server's memory at the end.
    pub(super) server_memory: Option<Memory>,
    /// CPU seconds of this process.
    pub(super) own_cpu: Option<f64>,
}

/// Shows the progress of a run.
pub(super) struct Progress<'a> {
    pub(super) clock: Clock,
    pub(super) window: Window,
    pub(super) counters: &'a [Arc<Counter>],
    pub(super) output: &'a Output,
}

impl Progress<'_> {
    /// Shows progress until the window or the threads end.
    pub(super) fn until_the_end(&self, threads: &mut Threads) -> Result<Used, Failure> {
        self.until(self.window.begin_us, threads)?;
        let (server, own) = (self.server_cpu(), usage::cpu_seconds(std::process::id()));
        self.until(self.window.end_us, threads)?;
        let since = |now: Option<f64>, then: Option<f64>| Some((now? - then?).max(0.0));
        let used = Used {
            server_cpu: since(self.server_cpu(), server),
            server_memory: self.output.pid.and_then(usage::memory),
            own_cpu: since(usage::cpu_seconds(std::process::id()), own),
        };
        self.end_line();
        Ok(used)
    }

    fn server_cpu(&self) -> Option<f64> {
        self.output.pid.and_then(usage::cpu_seconds)
    }

    fn until(&self, end_us: u64, threads: &mut Threads) -> Result<(), Failure> {
        loop {
            let now_us = self.clock.now_us();
            if now_us >= end_us || threads.are_over() {
                return threads.check();
            }
            let next_second = (now_us / SECOND_US + 1) * SECOND_US;
            self.clock.sleep_until(next_second.min(now_us + LOOK_US).min(end_us));
            if self.clock.now_us() >= next_second {
                self.print_line(next_second);
            }
        }
    }

    fn print_line(&self, now_us: u64) {
        let mut second = Totals::new();
        self.counters.iter().for_each(|counter| second.add(&counter.take_recent()));
        if self.output.quiet {
            return;
        }
        let mut err = std::io::stderr().lock();
        let (begin, end) = if err.is_terminal() { ("\r", "\x1b[K") } else { ("", "\n") };
        let phase = if now_us <= self.window.begin_us { "  warming up" } else { "" };
        // Without stderr there is no progress to show.
        let _ = write!(err, "{begin}{}{phase}{end}", line(now_us / SECOND_US, &second));
        let _ = err.flush();
    }

    fn end_line(&self) {
        if !self.output.quiet && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(second: u64, totals: &Totals) -> String {
    let ms = |quantile| totals.latency.value_at_quantile(quantile) as f64 / 1e3;
    format!(
        "{second:>4} s {:>11}/s {:>8.1} MB/s   p50 {:>8.3} ms   p99 {:>8.3} ms   {} errors",
        grouped(totals.messages),
        totals.bytes as f64 / 1e6,
        ms(0.5),
        ms(0.99),
        totals.errors
    )
}

/// Waits until `done` or the time limit. Returns false at the time limit.
pub(super) fn wait_for(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let clock = Clock::start();
    while !done() {
        if clock.now_us() > limit.as_micros() as u64 {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_second_has_rate_latency_and_errors() {
        let counter = Counter::new(Window::new(Duration::ZERO, Duration::from_secs(1)));
        (0..1_500).for_each(|_| counter.open().success(0, 250, 1, 1_000));
        counter.open().failure(0, String::new);
        let line = line(7, &counter.take_recent());
        assert_eq!(
            line,
            "   7 s       1,500/s      1.5 MB/s   p50    0.250 ms   p99    0.250 ms   1 errors"
        );
    }

    #[test]
    fn waiting_has_a_time_limit() {
        assert!(wait_for(Duration::from_secs(9), || true));
        assert!(!wait_for(Duration::from_millis(5), || false));
    }
}
