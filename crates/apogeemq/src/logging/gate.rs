//! Rate limit for warnings: a client that provokes a warning must not fill the log with it.
//!
//! Each call site that logs at WARN or ERROR may write [`BURST`] lines at once and then [`RATE`] per second. Suppressed lines are
//! counted, and the count is logged once a second. Lines below WARN are requested by the operator and not limited.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

use super::queue::Queue;

/// Lines that a call site may log at once: enough for a start with many unusual settings or damaged records.
pub(super) const BURST: u32 = 100;
/// Lines per second after that.
pub(super) const RATE: u32 = 10;
/// Interval between two reports of suppressed lines.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The gates of all call sites, about a hundred.
pub(super) struct Gates {
    by_place: Mutex<HashMap<Identifier, Gate>>,
    /// Lines were suppressed and not reported yet.
    is_due: AtomicBool,
    /// The queue whose thread reports them.
    queue: Arc<Queue>,
}

struct Gate {
    site: &'static Metadata<'static>,
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

    /// Whether a line of this call site is written.
    pub(super) fn admits(&self, site: &'static Metadata<'static>) -> bool {
        if *site.level() > Level::WARN {
            return true;
        }
        let now = Instant::now();
        let admitted = {
            let mut gates = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || Gate {
                site,
                lines: f64::from(BURST),
                at: now,
                held: 0,
            };
            gates.entry(site.callsite()).or_insert_with(fresh).admits(now)
        };
        if !admitted && !self.is_due.swap(true, Ordering::Relaxed) {
            self.queue.wake();
        }
        admitted
    }

    /// Whether [`Gates::reports`] has something to report.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    /// The suppressed lines since the last call, one text per call site.
    pub(super) fn reports(&self) -> Vec<String> {
        self.is_due.store(false, Ordering::Relaxed);
        let mut gates = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
        let held = gates.values_mut().filter(|gate| gate.held > 0);
        held.map(|gate| {
            let (level, target, line) = (gate.site.level(), gate.site.target(), gate.site.line().unwrap_or(0));
            let count = std::mem::take(&mut gate.held);
            format!(
                "{level:>5} {target}: {count} more lines like those from line {line} of this module were suppressed: over {RATE} per second"
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Callsite;

    #[test]
    fn a_gate_admits_a_burst_and_then_its_rate() {
        let begun = Instant::now();
        let mut gate = Gate {
            site: tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, level: Level::WARN, fields: ).metadata(),
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
        assert_eq!(passed(&mut gate, 100_000, BURST + 50), BURST, "at most a burst is accumulated");
        assert_eq!(gate.held, 50 + 50 - u64::from(RATE) + 50);
    }
}
