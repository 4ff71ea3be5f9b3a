//! Times and durations of protobuf in milliseconds. Values that do not fit are the nearest that do.

use prost_types::{Duration, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock, epoch ms.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn duration_ms(duration: &Duration) -> i64 {
    ms(duration.seconds, duration.nanos)
}

pub(crate) fn timestamp_ms(timestamp: &Timestamp) -> i64 {
    ms(timestamp.seconds, timestamp.nanos)
}

fn ms(seconds: i64, nanos: i32) -> i64 {
    seconds.saturating_mul(1_000).saturating_add(i64::from(nanos / 1_000_000))
}

pub(crate) fn to_duration(ms: i64) -> Duration {
    Duration {
        seconds: ms / 1_000,
        nanos: (ms % 1_000) as i32 * 1_000_000,
    }
}

pub(crate) fn to_timestamp(ms: i64) -> Timestamp {
    Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: ms.rem_euclid(1_000) as i32 * 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_read_back_and_absurd_values_do_not_overflow() {
        for ms in [0, 1, 999, 1_700_000_000_123] {
            assert_eq!(timestamp_ms(&to_timestamp(ms)), ms);
            assert_eq!(duration_ms(&to_duration(ms)), ms);
        }
        assert_eq!(timestamp_ms(&to_timestamp(-1)), -1);
        let absurd = Duration {
            seconds: i64::MAX,
            nanos: i32::MAX,
        };
        assert_eq!(duration_ms(&absurd), i64::MAX);
    }
}
