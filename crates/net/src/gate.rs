//! Rate limit for warnings that a peer can provoke as often as it likes: one a second from each place in the code.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::uptime_ms;

/// Lets one warning a second pass and counts those that it suppressed.
#[derive(Debug, Default)]
pub struct Gate {
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl Gate {
    /// Creates a gate that lets the first warning pass.
    pub const fn new() -> Self {
        Self {
            next_ms: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Returns `Some(n)` if a warning may be logged now, n having been suppressed before it, and `None` if it is suppressed.
    pub fn open(&self) -> Option<u64> {
        self.open_at(uptime_ms())
    }

    fn open_at(&self, now_ms: u64) -> Option<u64> {
        let next = self.next_ms.load(Ordering::Relaxed);
        let mine = now_ms >= next
            && self
                .next_ms
                .compare_exchange(next, now_ms.saturating_add(1_000), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn a_gate_passes_one_warning_a_second_and_counts_the_others() {
        let gate = Gate::new();
        assert_eq!(gate.open_at(5_000), Some(0));
        assert_eq!(gate.open_at(5_001), None);
        assert_eq!(gate.open_at(5_999), None);
        assert_eq!(gate.open_at(6_000), Some(2));
    }
}
