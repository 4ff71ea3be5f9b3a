//! Brokers that cannot be reached are left out for a while: their addresses, and until when.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// After the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);
/// Addresses that are noted. Beyond it all are forgotten: they are tried again.
const MAX_ADDRESSES: usize = 10_000;

#[derive(Clone, Copy)]
struct Failed {
    times: u32,
    until: Instant,
}

/// Addresses of brokers that could not be reached.
#[derive(Default)]
pub(super) struct Down(Mutex<FxHashMap<Box<str>, Failed>>);

impl Down {
    /// Whether requests should go to another broker.
    pub(super) fn contains(&self, address: &str, now: Instant) -> bool {
        let table = self.0.lock();
        !table.is_empty() && table.get(address).is_some_and(|failed| now < failed.until)
    }

    /// Whether one of these could not be reached a moment ago.
    pub(super) fn contains_any<'a>(&self, addresses: impl IntoIterator<Item = &'a str>, now: Instant) -> bool {
        let table = self.0.lock();
        let is_down = |address| table.get(address).is_some_and(|failed: &Failed| now < failed.until);
        !table.is_empty() && addresses.into_iter().any(is_down)
    }

    /// It could not be reached.
    pub(super) fn failed(&self, address: &str, now: Instant) {
        let mut table = self.0.lock();
        if table.len() >= MAX_ADDRESSES {
            table.clear();
        }
        let failed = table.entry(address.into()).or_insert(Failed { times: 0, until: now });
        // Requests that were under way together fail together.
        if failed.times > 0 && now < failed.until {
            return;
        }
        let wait = FIRST.saturating_mul(1 << failed.times.min(16)).min(LONGEST);
        *failed = Failed {
            times: failed.times + 1,
            until: now + wait,
        };
    }

    /// It has answered.
    pub(super) fn answered(&self, address: &str) {
        let mut table = self.0.lock();
        if !table.is_empty() {
            table.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_left_out_for_longer_and_longer_until_it_answers() {
        let (down, start) = (Down::default(), Instant::now());
        assert!(!down.contains("a", start));
        down.failed("a", start);
        down.failed("a", start);
        assert!(down.contains_any(["b", "a"], start) && !down.contains_any(["b"], start));
        assert!(down.contains("a", start) && !down.contains("a", start + FIRST) && !down.contains("b", start));
        down.failed("a", start + FIRST);
        assert!(down.contains("a", start + 2 * FIRST) && !down.contains("a", start + 3 * FIRST));
        down.answered("a");
        assert!(!down.contains("a", start + 2 * FIRST));
    }
}
