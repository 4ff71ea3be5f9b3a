//! Warnings that a peer can provoke at will, held to one a second and place.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::uptime_ms;

/// A gate that opens at most once a second and counts what it held back.
#[derive(Debug, Default)]
pub struct Gate {
    next_ms: AtomicU64,
    held: AtomicU64,
}

impl Gate {
    /// Open.
    pub const fn new() -> Self {
        Self {
            next_ms: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// `Some(n)`: speak now, n earlier occurrences were not spoken of. `None`: stay quiet.
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
            return Some(self.held.swap(0, Ordering::Relaxed));
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn a_gate_opens_once_a_second_and_tells_what_it_held() {
        let gate = Gate::new();
        assert_eq!(gate.open_at(5_000), Some(0));
        assert_eq!(gate.open_at(5_001), None);
        assert_eq!(gate.open_at(5_999), None);
        assert_eq!(gate.open_at(6_000), Some(2));
    }
}
