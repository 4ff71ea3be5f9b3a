//! Counters of answers, errors and latencies.
//!
//! Each thread has its own [`Counter`] and takes its lock once for all answers of one read, so reading counters for progress does not
//! slow the load.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Maximum latency in µs; longer ones count as this.
const LONGEST_US: u64 = 600_000_000;
/// Maximum number of stored error texts.
const MAX_TEXTS: usize = 3;

/// The clock of a run: microseconds since its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    begun: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { begun: Instant::now() }
    }

    #[inline]
    pub(super) fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Sleeps until a time of this clock; returns at once if it has passed.
    pub(super) fn sleep_until(&self, us: u64) {
        let left = us.saturating_sub(self.now_us());
        if left > 0 {
            std::thread::sleep(Duration::from_micros(left));
        }
    }
}

/// The measured part of a run, by intended send time, in µs of its [`Clock`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) begin_us: u64,
    pub(super) end_us: u64,
}

impl Window {
    pub(super) fn new(warmup: Duration, length: Duration) -> Self {
        let begin_us = warmup.as_micros() as u64;
        Self {
            begin_us,
            end_us: begin_us + length.as_micros() as u64,
        }
    }

    /// Whether a request due at this time is measured.
    #[inline]
    pub(super) fn holds(&self, us: u64) -> bool {
        self.begin_us <= us && us < self.end_us
    }

    pub(super) fn seconds(&self) -> f64 {
        (self.end_us - self.begin_us) as f64 / 1e6
    }
}

/// Sums and a histogram.
#[derive(Debug, Clone)]
pub(super) struct Totals {
    /// Successful messages.
    pub(super) messages: u64,
    /// Bytes of their bodies or records.
    pub(super) bytes: u64,
    /// Failed requests.
    pub(super) errors: u64,
    /// Time of the last success.
    pub(super) last_us: u64,
    /// Latency in µs of each request or arrival.
    pub(super) latency: Histogram<u64>,
}

impl Totals {
    pub(super) fn new() -> Self {
        Self {
            messages: 0,
            bytes: 0,
            errors: 0,
            last_us: 0,
            latency: histogram(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.last_us = self.last_us.max(other.last_us);
        // Histograms with the same bounds can always be added.
        let _ = self.latency.add(&other.latency);
    }
}

/// An empty histogram of µs with three digits.
#[allow(clippy::expect_used, reason = "constant bounds, tried by every test")]
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds are valid")
}

struct Counts {
    /// Everything since the last progress line.
    recent: Totals,
    /// Everything in the window.
    measured: Totals,
    texts: Vec<String>,
}

/// One thread's counts.
pub(super) struct Counter {
    window: Window,
    counts: Mutex<Counts>,
}

impl Counter {
    pub(super) fn new(window: Window) -> Self {
        let counts = Counts {
            recent: Totals::new(),
            measured: Totals::new(),
            texts: Vec::new(),
        };
        Self {
            window,
            counts: Mutex::new(counts),
        }
    }

    /// Locks the counter for several answers.
    pub(super) fn open(&self) -> CounterGuard<'_> {
        CounterGuard {
            window: self.window,
            counts: self.lock(),
        }
    }

    /// The counts since the last call.
    pub(super) fn take_recent(&self) -> Totals {
        let fresh = Totals::new();
        std::mem::replace(&mut self.lock().recent, fresh)
    }

    /// The counts in the window so far, and texts of errors.
    pub(super) fn measured(&self) -> (Totals, Vec<String>) {
        let counts = self.lock();
        (counts.measured.clone(), counts.texts.clone())
    }

    /// A panic while counting leaves the sums valid.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A locked counter.
pub(super) struct CounterGuard<'a> {
    window: Window,
    counts: MutexGuard<'a, Counts>,
}

impl CounterGuard<'_> {
    /// Counts a successful request that was due at `due_us`, had `messages` and was answered at `now_us`.
    #[inline]
    pub(super) fn success(&mut self, due_us: u64, now_us: u64, messages: u64, bytes: u64) {
        let took = now_us.saturating_sub(due_us).max(1);
        self.each(due_us, |totals| {
            totals.messages += messages;
            totals.bytes += bytes;
            totals.last_us = totals.last_us.max(now_us);
            totals.latency.saturating_record(took);
        });
    }

    /// Counts a failed request. The first few texts are stored.
    pub(super) fn failure(&mut self, due_us: u64, text: impl FnOnce() -> String) {
        self.each(due_us, |totals| totals.errors += 1);
        if self.counts.texts.len() < MAX_TEXTS {
            self.counts.texts.push(text());
        }
    }

    #[inline]
    fn each(&mut self, due_us: u64, mut change: impl FnMut(&mut Totals)) {
        change(&mut self.counts.recent);
        if self.window.holds(due_us) {
            change(&mut self.counts.measured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_due_in_the_window_are_measured() {
        let counter = Counter::new(Window::new(Duration::from_millis(1), Duration::from_millis(1)));
        for due_us in [999, 1_000, 1_999, 2_000] {
            counter.open().success(due_us, 5_000, 2, 10);
        }
        counter.open().failure(1_500, || "no".to_owned());
        let (measured, texts) = counter.measured();
        assert_eq!((measured.messages, measured.bytes, measured.errors), (4, 20, 1));
        assert_eq!(texts, ["no"]);
        assert_eq!(measured.latency.len(), 2);
        assert_eq!(measured.latency.max(), measured.latency.highest_equivalent(4_000));
        assert_eq!(counter.take_recent().messages, 8);
        assert_eq!(counter.take_recent().messages, 0, "the recent counts were taken");
    }

    #[test]
    fn a_stall_is_charged_to_every_message_that_had_to_wait() {
        // Ten messages due 1 ms apart, all answered when a stall of 10 ms ends.
        let counter = Counter::new(Window::new(Duration::ZERO, Duration::from_secs(1)));
        (0..10).for_each(|n| counter.open().success(n * 1_000, 10_000, 1, 1));
        let (measured, _) = counter.measured();
        assert_eq!(measured.latency.value_at_quantile(0.6) / 100, 60);
    }

    #[test]
    fn the_number_of_error_texts_is_limited() {
        let counter = Counter::new(Window::new(Duration::ZERO, Duration::from_secs(1)));
        (0..100).for_each(|n| counter.open().failure(n, || n.to_string()));
        assert_eq!(counter.measured().1.len(), MAX_TEXTS);
    }
}
