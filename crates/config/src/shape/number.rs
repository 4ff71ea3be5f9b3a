//! Whole numbers between two bounds.
//!
//! A number beyond a bound counts as the bound, as in Apache's getters, unless the shape is strict: there is no nearest value for a port
//! or for the size of existing files. Negative numbers are refused unless the shape allows them, and so is 0 where 1 is the minimum.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Refused, Shape};

/// Integer types that a [`Whole`] can hold.
pub trait Integer: Copy + Ord + Display + FromStr + TryInto<i128> {}
impl Integer for u8 {}
impl Integer for u16 {}
impl Integer for u32 {}
impl Integer for u64 {}
impl Integer for usize {}
impl Integer for i32 {}
impl Integer for i64 {}

/// An integer between two bounds.
#[derive(Debug, Clone)]
pub struct Whole<T> {
    range: RangeInclusive<T>,
    kind: &'static str,
    beyond: Beyond,
}

/// How a number beyond the bounds is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// It is refused.
    Refused,
    /// It counts as the nearer bound, unless it is negative, or 0 where 1 is the minimum.
    Counts,
    /// It always counts as the nearer bound.
    Clamped,
}

impl<T> Whole<T> {
    /// Refuses a number beyond the bounds: the nearest value would be wrong.
    pub fn strict(self) -> Self {
        Self {
            beyond: Beyond::Refused,
            ..self
        }
    }

    /// Negative numbers and 0 count as the minimum, too, as in Apache's getter of this key.
    pub fn clamped(self) -> Self {
        Self {
            beyond: Beyond::Clamped,
            ..self
        }
    }
}

/// A whole number in `range`.
pub fn whole<T: Integer>(range: RangeInclusive<T>) -> Whole<T> {
    Whole {
        range,
        kind: "integer",
        beyond: Beyond::Counts,
    }
}

/// A number of bytes in `range`.
pub fn bytes<T: Integer>(range: RangeInclusive<T>) -> Whole<T> {
    Whole {
        range,
        kind: "bytes",
        beyond: Beyond::Counts,
    }
}

impl<T: Integer> Shape<T> for Whole<T> {
    fn kind(&self) -> String {
        self.kind.to_owned()
    }

    fn allowed(&self) -> String {
        let (least, most) = (self.range.start(), self.range.end());
        if least == most {
            format!("only {least}")
        } else {
            format!("{least} to {most}")
        }
    }

    fn parse(&self, text: &str) -> Result<T, Refused> {
        let value = text.parse().map_err(|_| Refused::NotAllowed)?;
        if self.range.contains(&value) {
            Ok(value)
        } else {
            Err(Refused::NotAllowed)
        }
    }

    fn fit(&self, text: &str) -> Option<T> {
        let value: i128 = text.parse().ok()?;
        let (least, most) = (*self.range.start(), *self.range.end());
        if value > most.try_into().ok()? {
            return (self.beyond != Beyond::Refused).then_some(most);
        }
        let least_number: i128 = least.try_into().ok()?;
        let counts = match self.beyond {
            Beyond::Refused => false,
            Beyond::Counts => value > 0 || (value == 0 && least_number > 1),
            Beyond::Clamped => true,
        };
        (counts && value < least_number).then_some(least)
    }

    fn print(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A percentage between two bounds.
#[derive(Debug, Clone)]
pub struct Percent(Whole<u8>);

/// A percentage in `range`; one beyond it, also a negative one, counts as the nearer bound.
pub fn percent(range: RangeInclusive<u8>) -> Percent {
    Percent(
        Whole {
            kind: "percent",
            ..whole(range)
        }
        .clamped(),
    )
}

impl Shape<u8> for Percent {
    fn kind(&self) -> String {
        Shape::<u8>::kind(&self.0)
    }

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn parse(&self, text: &str) -> Result<u8, Refused> {
        self.0.parse(text)
    }

    /// `0.85` and `85%` mean 85: Apache's system properties of the same names are fractions.
    fn fit(&self, text: &str) -> Option<u8> {
        if let Some(number) = text.strip_suffix('%') {
            return self.parse(number.trim_end()).ok().or_else(|| self.0.fit(number.trim_end()));
        }
        let fraction = text
            .parse::<f64>()
            .ok()
            .filter(|value| text.contains('.') && (0.0..=1.0).contains(value));
        match fraction {
            Some(fraction) => {
                let percent = format!("{:.0}", fraction * 100.0);
                self.parse(&percent).ok().or_else(|| self.0.fit(&percent))
            }
            None => self.0.fit(text),
        }
    }

    fn print(&self, value: &u8) -> String {
        value.to_string()
    }
}

/// A number of bytes that holds whole units.
#[derive(Debug, Clone)]
pub struct RoundedUp {
    unit: u64,
    range: RangeInclusive<u64>,
}

/// A number of bytes in `range`, rounded up to a multiple of `unit`, as Apache does it for files of fixed-size records. Strict, since
/// the files of a store exist already.
pub fn bytes_in_units_of(unit: u64, range: RangeInclusive<u64>) -> RoundedUp {
    RoundedUp { unit, range }
}

impl Shape<u64> for RoundedUp {
    fn kind(&self) -> String {
        "bytes".to_owned()
    }

    fn allowed(&self) -> String {
        format!(
            "{} to {}, rounded up to a multiple of {}",
            self.range.start(),
            self.range.end(),
            self.unit
        )
    }

    fn parse(&self, text: &str) -> Result<u64, Refused> {
        bytes(self.range.clone()).parse(text).map(|value| value.next_multiple_of(self.unit))
    }

    fn print(&self, value: &u64) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_their_bounds() {
        let port = whole(1..=65_535u16);
        assert_eq!(port.parse("10911"), Ok(10_911));
        for text in ["0", "65536", "-1", "", "1.5", "0x10", "1 2"] {
            assert_eq!(port.parse(text), Err(Refused::NotAllowed), "{text:?}");
        }
        assert_eq!(port.allowed(), "1 to 65535");
    }

    #[test]
    fn a_number_beyond_a_bound_counts_as_the_bound_unless_it_is_strict() {
        let (counts, clamped, strict) = (whole(1..=128u32), whole(30..=85u8).clamped(), whole(1..=65_535u16).strict());
        for (text, as_count, as_clamped, as_strict) in [
            ("129", Some(128), Some(85), None),
            ("99999999999999999999", Some(128), Some(85), None),
            ("0", None, Some(30), None),
            ("-1", None, Some(30), None),
            ("x", None, None, None),
            ("1.5", None, None, None),
        ] {
            let got = (counts.fit(text), clamped.fit(text), strict.fit(text));
            assert_eq!(got, (as_count, as_clamped, as_strict), "{text}");
        }
        assert_eq!(
            (bytes(1024..=9000u32).fit("0"), bytes(1024..=9000u32).fit("-1")),
            (Some(1024), None)
        );
        assert_eq!(bytes(1..=u64::MAX).fit("999999999999999999999999"), Some(u64::MAX));
    }

    #[test]
    fn a_percentage_may_be_written_as_a_fraction() {
        let ratio = percent(10..=95);
        assert_eq!(ratio.parse("88"), Ok(88));
        for (text, expected) in [
            ("99", Some(95)),
            ("0", Some(10)),
            ("-5", Some(10)),
            ("0.85", Some(85)),
            ("0.99", Some(95)),
            ("1.0", Some(95)),
            ("85%", Some(85)),
            ("99 %", Some(95)),
            ("1.5", None),
            ("x%", None),
            ("NaN", None),
        ] {
            assert_eq!(ratio.fit(text), expected, "{text}");
        }
    }

    #[test]
    fn files_of_records_hold_whole_records() {
        assert_eq!(bytes_in_units_of(20, 20..=1000).parse("41"), Ok(60));
        assert_eq!(bytes_in_units_of(20, 20..=1000).parse("60"), Ok(60));
    }
}
