//! Unique keys: the id that a client gives each message before it is sent, the same for every copy that is stored.
//!
//! ```text
//! bytes   4  address of the client     (here: 127.0.0.1)
//!         2  process id, low bits
//!         4  distinguishes clients of one process
//!         4  milliseconds since the month began (UTC): tools derive the send time from it
//!         2  counter
//! ```
//! as 32 upper-case hex digits.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: u64 = 86_400_000;

/// The counter has 32 bits although 16 are written: the overflow is added to the bytes of the process.
static COUNTER: AtomicU32 = AtomicU32::new(0);
static PROCESS: LazyLock<u32> = LazyLock::new(|| now().1);

/// A key that no other call returns, in this process or another.
pub fn unique_key() -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let process = PROCESS.wrapping_add(count >> 16);
    key(std::process::id() as u16, process, ms_of_month(now().0), count as u16)
}

fn key(pid: u16, process: u32, ms: u32, count: u16) -> String {
    format!("7F000001{pid:04X}{process:08X}{ms:08X}{count:04X}")
}

/// Milliseconds since 1970, and nanoseconds within the second.
fn now() -> (u64, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_millis() as u64, now.subsec_nanos())
}

fn ms_of_month(now_ms: u64) -> u32 {
    let day_of_month = day_of_month(now_ms / DAY_MS);
    (day_of_month * DAY_MS + now_ms % DAY_MS) as u32
}

/// Days since the month began, from days since 1970. Years begin in March here, in eras of 400 years, so that leap days come last.
fn day_of_month(days: u64) -> u64 {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_OF_ERA: u64 = 146_097;
    let day = (days + DAYS_TO_1970) % DAYS_OF_ERA;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    day_of_year - (153 * month + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_even_when_the_counter_overflows() {
        let keys: std::collections::HashSet<_> = (0..70_000).map(|_| unique_key()).collect();
        assert_eq!(keys.len(), 70_000);
        assert!(keys.iter().all(|key| key.len() == 32));
    }

    #[test]
    fn the_start_of_the_month_follows_the_calendar() {
        // 2024-02-29T00:00:01Z and 2026-03-01T00:00:00Z.
        assert_eq!(ms_of_month(1_709_164_801_000), 28 * 86_400_000 + 1_000);
        assert_eq!(ms_of_month(1_772_323_200_000), 0);
        assert_eq!(key(0x12, 0x34, 0x56, 0x78), "7F000001001200000034000000560078");
    }
}
