//! Spans of time with a unit, hours of the day.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Refused, Shape, Whole, list, whole};

/// A span of time written as a number of one unit.
#[derive(Debug, Clone)]
pub struct Span {
    unit: Duration,
    kind: &'static str,
    count: Whole<u32>,
    zero: Zero,
}

/// What 0 counts as if it is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zero {
    /// The shortest time.
    Least,
    /// The longest: no limit.
    Most,
}

impl Span {
    /// 0 and negative numbers mean no limit and count as the longest time, as Apache treats this key.
    pub fn zero_is_no_limit(self) -> Self {
        Self { zero: Zero::Most, ..self }
    }

    /// Negative numbers and 0 count as the minimum, too, as Apache treats this key.
    pub fn clamped(self) -> Self {
        Self {
            count: self.count.clamped(),
            ..self
        }
    }
}

/// A number of milliseconds in `range`.
pub fn milliseconds(range: RangeInclusive<u32>) -> Span {
    Span {
        unit: Duration::from_millis(1),
        kind: "milliseconds",
        count: whole(range),
        zero: Zero::Least,
    }
}

/// A number of seconds in `range`.
pub fn seconds(range: RangeInclusive<u32>) -> Span {
    Span {
        unit: Duration::from_secs(1),
        kind: "seconds",
        count: whole(range),
        zero: Zero::Least,
    }
}

/// A number of hours in `range`.
pub fn hours(range: RangeInclusive<u32>) -> Span {
    Span {
        unit: Duration::from_secs(3600),
        kind: "hours",
        count: whole(range),
        zero: Zero::Least,
    }
}

impl Shape<Duration> for Span {
    fn kind(&self) -> String {
        self.kind.to_owned()
    }

    fn allowed(&self) -> String {
        format!("{} {}", self.count.allowed(), self.kind)
    }

    fn parse(&self, text: &str) -> Result<Duration, Refused> {
        self.count.parse(text).map(|count| self.unit * count)
    }

    fn fit(&self, text: &str) -> Option<Duration> {
        let number: Option<i128> = text.parse().ok();
        let count = match (self.zero, number) {
            (Zero::Least, Some(0)) => self.count.clone().clamped().fit("0"),
            (Zero::Most, Some(..=0)) => self.count.fit(&i128::MAX.to_string()),
            _ => self.count.fit(text),
        };
        count.map(|count| self.unit * count)
    }

    fn print(&self, value: &Duration) -> String {
        (value.as_millis() / self.unit.as_millis()).to_string()
    }
}

/// Hours of the day, such as those at which files may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoursOfDay(u32);

impl HoursOfDay {
    /// These hours, 0 to 23; others are ignored.
    pub fn new(hours: impl IntoIterator<Item = u8>) -> Self {
        Self(hours.into_iter().filter(|&hour| hour < 24).fold(0, |set, hour| set | 1 << hour))
    }

    /// Whether this hour, 0 to 23, is one of them.
    pub fn contains(self, hour: u8) -> bool {
        hour < 24 && self.0 & 1 << hour != 0
    }

    /// All of them, ascending.
    pub fn hours(self) -> impl Iterator<Item = u8> {
        (0..24).filter(move |&hour| self.contains(hour))
    }
}

/// Shape of [`HoursOfDay`].
#[derive(Debug, Clone, Copy)]
pub struct HoursText;

/// Hours as `04` or `04;16`.
pub fn hours_of_day() -> HoursText {
    HoursText
}

impl Shape<HoursOfDay> for HoursText {
    fn kind(&self) -> String {
        "hours of the day".to_owned()
    }

    fn allowed(&self) -> String {
        "hours 00 to 23 separated by ';'".to_owned()
    }

    fn parse(&self, text: &str) -> Result<HoursOfDay, Refused> {
        let hours: Vec<u8> = list(whole(0..=23u8), ';', 24).parse(text)?;
        if hours.is_empty() {
            Err(Refused::NotAllowed)
        } else {
            Ok(HoursOfDay::new(hours))
        }
    }

    fn print(&self, value: &HoursOfDay) -> String {
        let hours: Vec<_> = (0..24)
            .filter(|&hour| value.contains(hour))
            .map(|hour| format!("{hour:02}"))
            .collect();
        hours.join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_carry_their_unit_into_the_type() {
        assert_eq!(milliseconds(1..=60_000).parse("500"), Ok(Duration::from_millis(500)));
        assert_eq!(hours(1..=100).parse("72"), Ok(Duration::from_secs(72 * 3600)));
        assert_eq!(hours(1..=100).print(&Duration::from_secs(72 * 3600)), "72");
        assert_eq!(milliseconds(10..=60_000).fit("5"), Some(Duration::from_millis(10)));
        assert_eq!(milliseconds(10..=60_000).fit("-5"), None);
        assert_eq!(milliseconds(1..=60_000).fit("0"), Some(Duration::from_millis(1)));
        for none in ["0", "-1"] {
            assert_eq!(seconds(1..=60).zero_is_no_limit().fit(none), Some(Duration::from_secs(60)));
        }
        assert_eq!(seconds(1..=60).zero_is_no_limit().fit("61"), Some(Duration::from_secs(60)));
        assert_eq!(milliseconds(10..=60_000).clamped().fit("-5"), Some(Duration::from_millis(10)));
    }

    #[test]
    fn hours_of_the_day_are_a_set() {
        let hours = hours_of_day().parse("04;16").unwrap();
        assert!(hours.contains(4) && hours.contains(16) && !hours.contains(5));
        assert_eq!(hours_of_day().print(&hours), "04;16");
        for text in ["", "24", "4;x", ";"] {
            assert_eq!(hours_of_day().parse(text), Err(Refused::NotAllowed), "{text:?}");
        }
    }
}
