//! Spans of time with a unit, hours of the day.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Refused, Shape, list, whole};

/// A span of time written as a number of one unit.
#[derive(Debug, Clone)]
pub struct Span {
    unit: Duration,
    kind: &'static str,
    range: RangeInclusive<u32>,
}

/// A number of milliseconds in `range`.
pub fn milliseconds(range: RangeInclusive<u32>) -> Span {
    Span {
        unit: Duration::from_millis(1),
        kind: "milliseconds",
        range,
    }
}

/// A number of seconds in `range`.
pub fn seconds(range: RangeInclusive<u32>) -> Span {
    Span {
        unit: Duration::from_secs(1),
        kind: "seconds",
        range,
    }
}

/// A number of hours in `range`.
pub fn hours(range: RangeInclusive<u32>) -> Span {
    Span {
        unit: Duration::from_secs(3600),
        kind: "hours",
        range,
    }
}

impl Shape<Duration> for Span {
    fn kind(&self) -> String {
        self.kind.to_owned()
    }

    fn allowed(&self) -> String {
        format!("{} to {} {}", self.range.start(), self.range.end(), self.kind)
    }

    fn parse(&self, text: &str) -> Result<Duration, Refused> {
        whole(self.range.clone()).parse(text).map(|count| self.unit * count)
    }

    fn print(&self, value: &Duration) -> String {
        (value.as_millis() / self.unit.as_millis()).to_string()
    }
}

/// Hours of the day, such as those at which files may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoursOfDay(u32);

impl HoursOfDay {
    /// These hours, 0 to 23; others do not count.
    pub fn new(hours: impl IntoIterator<Item = u8>) -> Self {
        Self(hours.into_iter().filter(|&hour| hour < 24).fold(0, |set, hour| set | 1 << hour))
    }

    /// Whether this hour, 0 to 23, is one of them.
    pub fn contains(self, hour: u8) -> bool {
        hour < 24 && self.0 & 1 << hour != 0
    }

    /// All of them, in order.
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
