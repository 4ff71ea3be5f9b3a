//! Text forms of times: `now`, epoch milliseconds, `yyyy-MM-dd#HH:mm:ss:SSS` in the local time zone.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::Error;

/// The format of `mqadmin`.
const WRITTEN: &str = "%Y-%m-%d#%H:%M:%S";

/// Epoch milliseconds.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// Parses a time to epoch milliseconds.
///
/// # Errors
/// [`Error::Invalid`] if it has none of the three forms.
pub fn parse(text: &str) -> Result<i64, Error> {
    parse_in(text, &TimeZone::system())
}

fn parse_in(text: &str, zone: &TimeZone) -> Result<i64, Error> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_ms());
    }
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    written(text, zone).ok_or_else(|| {
        Error::Invalid(format!(
            "{text} is not a time; expected: now, epoch milliseconds or yyyy-MM-dd#HH:mm:ss:SSS"
        ))
    })
}

/// The milliseconds follow a colon, which no format directive reads.
fn written(text: &str, zone: &TimeZone) -> Option<i64> {
    let (seconds, millis) = match text.match_indices(':').nth(2) {
        Some((at, _)) => (&text[..at], text[at + 1..].parse::<i16>().ok().filter(|ms| (0..1000).contains(ms))?),
        None => (text, 0),
    };
    let at = DateTime::strptime(WRITTEN, seconds).ok()?;
    let local = at.to_zoned(zone.clone()).ok()?;
    Some(local.timestamp().as_millisecond() + i64::from(millis))
}

/// Local time to the second; `-` for times that are not set.
pub fn shown(ms: i64) -> String {
    shown_in(ms, "%Y-%m-%d %H:%M:%S", &TimeZone::system())
}

/// Local time to the millisecond.
pub fn shown_exactly(ms: i64) -> String {
    shown_in(ms, "%Y-%m-%d %H:%M:%S.%3f", &TimeZone::system())
}

fn shown_in(ms: i64, format: &str, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) if ms > 0 => time.to_zoned(zone.clone()).strftime(format).to_string(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_mqadmin_reads_them() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(parse_in("1700000000123", &zone).unwrap(), 1_700_000_000_123);
        assert_eq!(parse_in("-1", &zone).unwrap(), -1);
        assert_eq!(parse_in("2023-11-15#00:13:20:123", &zone).unwrap(), 1_700_000_000_123);
        assert_eq!(parse_in("2023-11-15#00:13:20", &zone).unwrap(), 1_700_000_000_000);
        assert!(parse("now").unwrap() > 1_700_000_000_000);
        for wrong in ["", "yesterday", "2023-13-01#00:00:00:000", "2023-11-15#00:13:20:9999"] {
            assert!(parse_in(wrong, &zone).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_shown_in_the_local_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            shown_in(1_700_000_000_123, "%Y-%m-%d %H:%M:%S.%3f", &zone),
            "2023-11-15 00:13:20.123"
        );
        assert_eq!(shown(0), "-");
        assert_eq!(shown(-1), "-");
    }
}
