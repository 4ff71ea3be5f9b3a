//! Warnings that come too often: a peer that provokes one at will must not fill the log with it.
//!
//! Each place that logs at WARN or ERROR has [`BURST`] lines, of which [`RATE`] a second come back. What is held back is
//! counted and told once a second. What is logged below WARN was asked for and is not held.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

use super::queue::Queue;

/// Lines that a place may log at once: what a start with many odd settings or damaged records has to say.
pub(super) const BURST: u32 = 100;
/// Lines a second after that.
pub(super) const RATE: u32 = 10;
/// Time between two counts of what was held back.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(1);

/// The gates of all places. There are as many as places in the program, about a hundred.
pub(super) struct Gates {
    by_place: Mutex<HashMap<Identifier, Gate>>,
    /// Something was held back and not told yet.
    is_due: AtomicBool,
    /// Whoever tells.
    queue: Arc<Queue>,
}

struct Gate {
    place: &'static Metadata<'static>,
    lines: f64,
    at: Instant,
    held: u64,
}

impl Gate {
    fn admits(&mut self, now: Instant) -> bool {
        let come_back = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(RATE);
        self.lines = (self.lines + come_back).min(f64::from(BURST));
        self.at = now;
        let admitted = self.lines >= 1.0;
        if admitted {
            self.lines -= 1.0;
        } else {
            self.held += 1;
        }
        admitted
    }
}

impl Gates {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self {
            by_place: Mutex::default(),
            is_due: AtomicBool::new(false),
            queue,
        }
    }

    /// Whether a line of this place is written.
    pub(super) fn admits(&self, place: &'static Metadata<'static>) -> bool {
        if *place.level() > Level::WARN {
            return true;
        }
        let now = Instant::now();
        let admitted = {
            let mut gates = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || Gate {
                place,
                lines: f64::from(BURST),
                at: now,
                held: 0,
            };
            gates.entry(place.callsite()).or_insert_with(fresh).admits(now)
        };
        if !admitted && !self.is_due.swap(true, Ordering::Relaxed) {
            self.queue.wake();
        }
        admitted
    }

    /// Whether [`Gates::told`] has something to tell.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    /// What was held back since the last time, a text for each place.
    pub(super) fn told(&self) -> Vec<String> {
        self.is_due.store(false, Ordering::Relaxed);
        let mut gates = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
        let held = gates.values_mut().filter(|gate| gate.held > 0);
        held.map(|gate| {
            let (level, target, line) = (gate.place.level(), gate.place.target(), gate.place.line().unwrap_or(0));
            let count = std::mem::take(&mut gate.held);
            format!("{level:>5} {target}: {count} more lines like those from line {line} of this module, left out: over {RATE} a second")
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Callsite;

    #[test]
    fn a_gate_lets_a_burst_pass_and_then_its_rate() {
        let begun = Instant::now();
        let mut gate = Gate {
            place: tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, level: Level::WARN, fields: ).metadata(),
            lines: f64::from(BURST),
            at: begun,
            held: 0,
        };
        let passed = |gate: &mut Gate, after_ms: u64, tries: u32| {
            let now = begun + Duration::from_millis(after_ms);
            (0..tries).filter(|_| gate.admits(now)).count() as u32
        };
        assert_eq!(passed(&mut gate, 0, BURST + 50), BURST);
        assert_eq!(passed(&mut gate, 1_000, 50), RATE);
        assert_eq!(passed(&mut gate, 100_000, BURST + 50), BURST, "no more than a burst is saved up");
        assert_eq!(gate.held, 50 + 50 - u64::from(RATE) + 50);
    }
}
