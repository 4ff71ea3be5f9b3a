//! Whole numbers between two bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Refused, Shape};

/// Integer types that a [`Whole`] can hold.
pub trait Integer: Copy + Ord + Display + FromStr {}
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
    why: Option<&'static str>,
}

impl<T> Whole<T> {
    /// Says why no other number is allowed.
    pub fn because(self, why: &'static str) -> Self {
        Self { why: Some(why), ..self }
    }
}

/// A whole number in `range`.
pub fn whole<T: Integer>(range: RangeInclusive<T>) -> Whole<T> {
    Whole {
        range,
        kind: "integer",
        why: None,
    }
}

/// A number of bytes in `range`.
pub fn bytes<T: Integer>(range: RangeInclusive<T>) -> Whole<T> {
    Whole {
        range,
        kind: "bytes",
        why: None,
    }
}

/// A percentage in `range`.
pub fn percent<T: Integer>(range: RangeInclusive<T>) -> Whole<T> {
    Whole {
        range,
        kind: "percent",
        why: None,
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
            return Ok(value);
        }
        Err(self.why.map_or(Refused::NotAllowed, |why| Refused::Because(why.to_owned())))
    }

    fn print(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A number of bytes that holds whole units.
#[derive(Debug, Clone)]
pub struct RoundedUp {
    unit: u64,
    range: RangeInclusive<u64>,
}

/// A number of bytes in `range`, rounded up to a multiple of `unit`, as Apache does it for files of fixed-size records.
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
    fn the_only_number_allowed_comes_with_its_reason() {
        let id = whole(0..=0u64).because("there is only one yet");
        assert_eq!(id.allowed(), "only 0");
        assert_eq!(id.parse("1"), Err(Refused::Because("there is only one yet".to_owned())));
        assert_eq!(id.parse("x"), Err(Refused::NotAllowed));
    }

    #[test]
    fn files_of_records_hold_whole_records() {
        assert_eq!(bytes_in_units_of(20, 20..=1000).parse("41"), Ok(60));
        assert_eq!(bytes_in_units_of(20, 20..=1000).parse("60"), Ok(60));
    }
}
