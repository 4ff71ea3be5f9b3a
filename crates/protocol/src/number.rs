//! Decimal integers in header text: parsing and formatting without allocation.
//!
//! Reading follows Java's `Integer.parseInt`/`Long.parseLong`: an optional sign of either kind, digits only, no blanks,
//! overflow refused. Digits are ASCII; Java accepts those of other scripts, too.

/// Maximum length of a 64-bit integer as text: a sign and nineteen digits.
pub(crate) const MAX_DECIMAL: usize = 20;

/// All two-digit numbers, so that each division yields two digits.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[number * 2] = b'0' + (number / 10) as u8;
        pairs[number * 2 + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};

/// An integer as ASCII digits on the stack.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    digits: [u8; MAX_DECIMAL],
    len: usize,
}

impl Decimal {
    /// The text of `value`.
    #[inline]
    pub fn new(value: i64) -> Self {
        let mut digits = [0u8; MAX_DECIMAL];
        let len = write_decimal(value, &mut digits);
        Self { digits, len }
    }

    /// The digits, sign first.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

/// Writes the text of `value` to the beginning of `out` and returns its length, at most [`MAX_DECIMAL`].
///
/// # Panics
/// If `out` is shorter than the text.
#[inline]
pub(crate) fn write_decimal(value: i64, out: &mut [u8]) -> usize {
    if let digit @ 0..10 = value {
        out[0] = b'0' + digit as u8;
        return 1;
    }
    let mut rest = value.unsigned_abs();
    let len = usize::from(value < 0) + rest.checked_ilog10().map_or(1, |log| log as usize + 1);
    let out = &mut out[..len];
    out[0] = b'-';
    let mut at = len;
    while rest >= 10 {
        at -= 2;
        let pair = (rest % 100) as usize * 2;
        out[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        rest /= 100;
    }
    // One digit is left after pairs, or none: a hundred and more have a first digit that is not 0.
    if rest > 0 {
        out[at - 1] = b'0' + rest as u8;
    }
    len
}

/// Parses the whole text as a 64-bit integer; `None` if it is not one.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    if digits.len() <= 18 {
        return parse_short(digits).map(|magnitude| if negative { -magnitude } else { magnitude });
    }
    parse_long(digits, negative)
}

/// Up to 18 digits cannot overflow.
#[inline]
fn parse_short(digits: &[u8]) -> Option<i64> {
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

#[cold]
fn parse_long(digits: &[u8], negative: bool) -> Option<i64> {
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Accumulated below zero, because i64::MIN has no positive counterpart.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Integer types of header fields.
pub trait Integer: Copy + Sized {
    /// Parses the whole text; `None` when it is not an integer of this type.
    fn parse(text: &[u8]) -> Option<Self>;
}

impl Integer for i64 {
    #[inline]
    fn parse(text: &[u8]) -> Option<Self> {
        parse_i64(text)
    }
}

impl Integer for i32 {
    #[inline]
    fn parse(text: &[u8]) -> Option<Self> {
        parse_i64(text).and_then(|value| Self::try_from(value).ok())
    }
}

/// Parses as Java's `Boolean.parseBoolean`: "true" in any case is true, all else false.
#[inline]
pub fn parse_bool(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimum_and_maximum_are_read_back() {
        for value in [
            0,
            1,
            -1,
            9,
            10,
            99,
            100,
            101,
            -1000,
            12345,
            i64::MAX,
            i64::MIN,
            999_999_999_999_999_999,
            1_000_000_000_000_000_000,
        ] {
            assert_eq!(parse_i64(Decimal::new(value).as_bytes()), Some(value));
            assert_eq!(Decimal::new(value).as_bytes(), value.to_string().as_bytes());
        }
    }

    #[test]
    fn what_java_refuses_is_refused() {
        for text in [
            "",
            "-",
            "+",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "1e3",
            "5L",
            "1_000",
            "1,000",
            "+-1",
            "--1",
            "+ 1",
            "\t1",
            "1\0",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(i32::parse(b"2147483648"), None);
        assert_eq!(i32::parse(b"-2147483648"), Some(i32::MIN));
        assert_eq!(
            (i64::parse(b"+7"), i32::parse(b"-0"), i32::parse(b"+2147483647")),
            (Some(7), Some(0), Some(i32::MAX))
        );
        assert_eq!(i64::parse(b"0000000000000000000000007"), Some(7));
    }
}
