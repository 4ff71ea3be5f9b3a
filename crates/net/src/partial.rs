//! State of a connection's incomplete frame: its memory, its age, and how fast it arrives. Written by the connection's task, read by the scans
//! over all connections. Times are in `clock::uptime_ms`.
//!
//! Two rules use it. A frame has to be complete in time (`Limits::frame_timeout`). While other connections wait for memory, a frame that
//! holds memory has to arrive at [`RATE_BYTES`] a second, except for pauses of [`GRACE_MS`], and may wait for memory for [`WAIT_MS`]
//! ([`Partial::slow_bytes`]).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Minimum bytes per second: a fifth of 10 Mbit/s.
const RATE_BYTES: u64 = 256 << 10;
/// Maximum pause, and the initial time of a frame.
const GRACE_MS: u64 = 1_500;
/// How long a frame that holds memory may wait for more.
const WAIT_MS: u64 = 15_000;

#[derive(Debug, Default)]
pub(crate) struct Partial {
    /// Charged memory.
    held_bytes: AtomicUsize,
    /// When the frame began; 0 if there is none, or its clock is stopped.
    begun_ms: AtomicU64,
    /// There is a frame whose clock is stopped.
    stopped: AtomicBool,
    /// When more bytes have to have arrived.
    due_ms: AtomicU64,
}

impl Partial {
    /// Age of the incomplete frame, if there is one whose clock runs.
    pub(crate) fn age_ms(&self, now_ms: u64) -> Option<u64> {
        match self.begun_ms.load(Ordering::Relaxed) {
            0 => None,
            begun_ms => Some(now_ms.saturating_sub(begun_ms)),
        }
    }

    /// Charged memory, if there is some and the frame arrives too slowly or waits too long.
    pub(crate) fn slow_bytes(&self, now_ms: u64) -> Option<usize> {
        let held_bytes = self.held_bytes.load(Ordering::Relaxed);
        (held_bytes > 0 && self.due_ms.load(Ordering::Relaxed) < now_ms).then_some(held_bytes)
    }

    /// Sets the charged memory.
    pub(crate) fn hold(&self, bytes: usize) {
        self.held_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Notes a read of `bytes` that ends with the incomplete frame, which `begins` in this read or began in an earlier one.
    pub(crate) fn advance(&self, bytes: usize, begins: bool, now_ms: u64) {
        if begins || self.begun_ms.load(Ordering::Relaxed) == 0 {
            self.begun_ms.store(now_ms.max(1), Ordering::Relaxed);
            self.due_ms.store(now_ms + GRACE_MS, Ordering::Relaxed);
            return;
        }
        let earned_ms = bytes as u64 * 1_000 / RATE_BYTES;
        let due_ms = self.due_ms.load(Ordering::Relaxed).max(now_ms) + earned_ms;
        self.due_ms.store(due_ms.min(now_ms + GRACE_MS), Ordering::Relaxed);
    }

    /// Notes that no incomplete frame is left.
    pub(crate) fn complete(&self) {
        if self.begun_ms.load(Ordering::Relaxed) > 0 {
            self.begun_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the connection is not read until it gets memory.
    pub(crate) fn wait(&self, now_ms: u64) {
        self.due_ms.store(now_ms + WAIT_MS, Ordering::Relaxed);
    }

    /// Notes that the connection got memory.
    pub(crate) fn resume(&self, now_ms: u64) {
        self.due_ms.store(now_ms + GRACE_MS, Ordering::Relaxed);
    }

    /// Stops the frame's clock: the connection is not read because its peer does not read.
    pub(crate) fn stop_clock(&self) {
        if self.begun_ms.load(Ordering::Relaxed) > 0 {
            self.begun_ms.store(0, Ordering::Relaxed);
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// Starts the frame's clock again: the connection is read again.
    pub(crate) fn restart_clock(&self, now_ms: impl FnOnce() -> u64) {
        if self.stopped.load(Ordering::Relaxed) {
            self.stopped.store(false, Ordering::Relaxed);
            self.begun_ms.store(now_ms().max(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_below_the_minimum_rate_is_slow() {
        let partial = Partial::default();
        let is_slow = |now_ms| partial.slow_bytes(now_ms).is_some();
        partial.advance(64 << 10, true, 1_000);
        assert!(!is_slow(2_501), "it holds nothing");
        partial.hold(64 << 10);
        assert!(!is_slow(2_500));
        assert_eq!(partial.slow_bytes(2_501), Some(64 << 10));
        // 10 Mbit/s in small steps.
        for now_ms in (3_001..20_000).step_by(10) {
            partial.advance(12_500, false, now_ms);
            assert!(!is_slow(now_ms + 40), "{now_ms}");
        }
        assert!(!is_slow(21_000));
        // Much at once earns no more than the pause that everybody may make.
        partial.advance(8 << 20, false, 21_000);
        assert!(is_slow(22_501));
        // A byte now and then earns nothing.
        for now_ms in (24_000..30_000).step_by(500) {
            partial.advance(1, false, now_ms);
            assert!(is_slow(now_ms + 1), "{now_ms}");
        }
        partial.wait(30_000);
        assert!(!is_slow(45_000) && is_slow(45_001));
        partial.resume(100_000);
        assert!(!is_slow(101_500) && is_slow(101_501));
    }

    #[test]
    fn a_frame_ages_until_it_is_complete_or_another_begins() {
        let partial = Partial::default();
        assert_eq!(partial.age_ms(500), None);
        partial.advance(10, true, 1_000);
        partial.advance(10, false, 2_000);
        assert_eq!(partial.age_ms(5_000), Some(4_000));
        partial.advance(10, true, 8_000);
        assert_eq!(partial.age_ms(8_500), Some(500));
        partial.complete();
        assert_eq!(partial.age_ms(9_000), None);
    }

    #[test]
    fn a_frame_does_not_age_while_its_clock_is_stopped() {
        let partial = Partial::default();
        partial.stop_clock();
        partial.restart_clock(|| panic!("there is no frame"));
        partial.advance(10, true, 1_000);
        partial.stop_clock();
        partial.stop_clock();
        assert_eq!(partial.age_ms(5_000), None);
        partial.restart_clock(|| 6_000);
        assert_eq!(partial.age_ms(7_000), Some(1_000));
    }
}
