//! When a message is due, on a machine whose wall clock may be set while it waits.
//!
//! A queue entry says when its message is due by the wall clock of the moment it was stored. As long as that clock only moves
//! forward, that is all there is to it. When it was set back, messages stored before seem to be due too late by as much as it
//! was set back: they are told by having been stored *after* now. How far the clock was set back is known from the monotonic
//! clock beside it, if it happened in this run; then they are still not delivered before their whole delay has passed, and late by
//! no more than the clock was set back. If it happened before this run, nobody knows how long they have waited, and they are delivered at once, as Apache
//! does.
//!
//! Pure state: both clocks are given.

/// A store timestamp at most this far in the future, in ms, comes from a clock that was slewed, not set.
const SLEW_MS: i64 = 1_000;

/// One moment by both clocks, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970, by the wall clock.
    pub wall_ms: i64,
    /// By the monotonic clock, since some moment of this run.
    pub steady_ms: i64,
}

/// Notices when the wall clock is set back.
#[derive(Debug)]
pub struct WallClock {
    /// Largest difference seen between the wall clock and the monotonic clock.
    highest_lead_ms: i64,
}

impl WallClock {
    /// Begins at this moment.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            highest_lead_ms: now.wall_ms - now.steady_ms,
        }
    }

    /// Reads the clocks; to be called at least every [`crate::delay::LONGEST_SLEEP`] while messages wait.
    pub fn look(&mut self, now: Moment) {
        self.highest_lead_ms = self.highest_lead_ms.max(now.wall_ms - now.steady_ms);
    }

    /// Milliseconds until a message is due that was stored with `delay_ms` and the due time `due_ms`; 0 or less when it is due.
    #[must_use]
    pub fn due_in_ms(&self, due_ms: i64, delay_ms: i64, now: Moment) -> i64 {
        let left = due_ms.saturating_sub(now.wall_ms);
        if left <= delay_ms.saturating_add(SLEW_MS) {
            return left;
        }
        let set_back_ms = self.highest_lead_ms - (now.wall_ms - now.steady_ms);
        if set_back_ms <= SLEW_MS {
            return 0;
        }
        left.saturating_sub(set_back_ms).clamp(0, delay_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(wall_ms: i64, steady_ms: i64) -> Moment {
        Moment { wall_ms, steady_ms }
    }

    #[test]
    fn with_a_clock_that_runs_a_message_waits_for_its_time() {
        let clock = WallClock::new(at(1_000_000, 0));
        assert_eq!(clock.due_in_ms(1_060_000, 60_000, at(1_000_000, 0)), 60_000);
        assert_eq!(clock.due_in_ms(1_060_000, 60_000, at(1_059_999, 59_999)), 1);
        assert_eq!(clock.due_in_ms(1_060_000, 60_000, at(1_060_000, 60_000)), 0);
        assert!(clock.due_in_ms(1_060_000, 60_000, at(1_070_000, 70_000)) < 0);
    }

    #[test]
    fn a_clock_set_forward_makes_messages_due() {
        let mut clock = WallClock::new(at(0, 0));
        clock.look(at(HOUR, 1));
        assert!(clock.due_in_ms(60_000, 60_000, at(HOUR, 1)) <= 0);
    }

    #[test]
    fn a_clock_set_back_neither_delays_nor_hurries_what_waits() {
        // Stored at 10 h, to wait a minute. Ten seconds later the clock is set back by an hour.
        let mut clock = WallClock::new(at(10 * HOUR, 0));
        let due = 10 * HOUR + 60_000;
        let now = at(9 * HOUR + 10_000, 10_000);
        clock.look(now);
        assert_eq!(clock.due_in_ms(due, 60_000, now), 50_000);
        assert_eq!(clock.due_in_ms(due, 60_000, at(9 * HOUR + 60_000, 60_000)), 0);
        // What is stored now waits as always.
        assert_eq!(clock.due_in_ms(9 * HOUR + 70_000, 60_000, now), 60_000);
    }

    #[test]
    fn a_clock_set_forward_and_back_again_leaves_no_trace() {
        let mut clock = WallClock::new(at(HOUR, 0));
        clock.look(at(20 * HOUR, 1_000));
        let stored_meanwhile = 20 * HOUR + 60_000;
        clock.look(at(HOUR + 2_000, 2_000));
        let now = at(HOUR + 2_000, 2_000);
        assert_eq!(clock.due_in_ms(stored_meanwhile, 60_000, now), 59_000);
        assert_eq!(clock.due_in_ms(HOUR + 60_000, 60_000, now), 58_000);
    }

    #[test]
    fn what_was_stored_in_the_future_of_another_run_is_due_now() {
        let clock = WallClock::new(at(HOUR, 0));
        assert_eq!(clock.due_in_ms(30 * HOUR, 60_000, at(HOUR, 0)), 0);
    }

    proptest::proptest! {
        /// The clock is set back once, at any time before or after the message is stored.
        #[test]
        fn nothing_is_early_and_nothing_is_stuck(
            delay in 1..100_000i64, stored in 0..50_000i64, set_back_at in 0..200_000i64, by in 0..10_000_000i64, polls in 1..700i64,
        ) {
            let wall = |steady: i64| HOUR * 1_000 + steady - if steady >= set_back_at { by } else { 0 };
            let at = |steady: i64| at(wall(steady), steady);
            let mut clock = WallClock::new(at(0));
            let due = wall(stored) + delay;
            let mut now = stored;
            (0..now).step_by(1_000).for_each(|earlier| clock.look(at(earlier)));
            loop {
                clock.look(at(now));
                if clock.due_in_ms(due, delay, at(now)) <= 0 {
                    break;
                }
                now += polls;
            }
            let waited = now - stored;
            let late = by.min(delay) + SLEW_MS + polls;
            proptest::prop_assert!(waited >= delay.min(delay + by), "after {waited} ms");
            proptest::prop_assert!(waited <= delay + late, "after {waited} ms");
        }
    }

    #[test]
    fn a_slewed_clock_hurries_nothing() {
        let clock = WallClock::new(at(HOUR, 0));
        let stored_20_ms_after_now = HOUR + 20;
        assert_eq!(clock.due_in_ms(stored_20_ms_after_now + 60_000, 60_000, at(HOUR, 20)), 60_020);
    }
}
