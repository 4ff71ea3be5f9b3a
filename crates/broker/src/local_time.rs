//! Timestamps as text in local time, in Apache's formats.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `yyyy-MM-dd#HH:mm:ss:SSS`, which tools parse. Empty after the year 9999.
#[must_use]
pub fn with_hash(ms: i64) -> String {
    formatted(ms, "%Y-%m-%d#%H:%M:%S:%3f", &TimeZone::system())
}

/// `yyyy-MM-dd HH:mm:ss,SSS`, for people. Empty after the year 9999.
#[must_use]
pub fn for_people(ms: i64) -> String {
    formatted(ms, "%Y-%m-%d %H:%M:%S,%3f", &TimeZone::system())
}

/// The hour of the day, 0 to 23. 0 after the year 9999.
#[must_use]
pub fn hour(ms: i64) -> u8 {
    let time = Timestamp::from_millisecond(ms).map(|time| time.to_zoned(TimeZone::system()));
    time.map_or(0, |time| time.hour().unsigned_abs())
}

fn formatted(ms: i64, format: &str, zone: &TimeZone) -> String {
    let time = Timestamp::from_millisecond(ms).map(|time| time.to_zoned(zone.clone()));
    time.map_or_else(|_| String::new(), |time| time.strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_as_by_java() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let hash = |ms| formatted(ms, "%Y-%m-%d#%H:%M:%S:%3f", &zone);
        assert_eq!(hash(1_700_000_000_007), "2023-11-15#06:13:20:007");
        assert_eq!(hash(-1), "1970-01-01#07:59:59:999");
        assert_eq!(hash(i64::MAX), "");
        assert_eq!(with_hash(3).len(), "1970-01-01#00:00:00:003".len());
        assert_eq!(&for_people(3)[20..], "003", "milliseconds have three digits");
    }
}
