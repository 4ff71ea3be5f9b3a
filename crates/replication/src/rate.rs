//! Bytes of the last whole second.

use parking_lot::Mutex;
use std::time::Instant;

/// Counts bytes per second.
#[derive(Debug)]
pub(crate) struct Rate(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    begun: Instant,
    /// The second that is counted, since `begun`.
    second: u64,
    counted: i64,
    last: i64,
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Counts {
            begun: now,
            second: 0,
            counted: 0,
            last: 0,
        }))
    }

    pub(crate) fn add(&self, bytes: usize, now: Instant) {
        let mut counts = self.0.lock();
        counts.advance(now);
        counts.counted += bytes as i64;
    }

    /// Bytes of the last whole second.
    pub(crate) fn last_second(&self, now: Instant) -> i64 {
        let mut counts = self.0.lock();
        counts.advance(now);
        counts.last
    }
}

impl Counts {
    fn advance(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.begun).as_secs();
        if second > self.second {
            let counted = std::mem::take(&mut self.counted);
            self.last = if second == self.second + 1 { counted } else { 0 };
            self.second = second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_whole_second_counts() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let rate = Rate::new(begun);
        rate.add(5, at(0));
        rate.add(7, at(999));
        assert_eq!(rate.last_second(at(999)), 0);
        rate.add(1, at(1_500));
        assert_eq!(rate.last_second(at(1_999)), 12);
        assert_eq!(rate.last_second(at(2_000)), 1);
        assert_eq!(rate.last_second(at(4_000)), 0);
    }
}
