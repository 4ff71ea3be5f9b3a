//! Numbers as Java reads them, without allocation.

use super::program::Node;
use protocol::number::Integer;
use std::cmp::Ordering;

/// A literal of digits, maybe with `L` behind them: 32 bits if it fits, else 64; `None` if it does not fit there.
pub(super) fn integer_literal(text: &str) -> Option<Node> {
    let value = i64::parse(text.trim_end_matches(['l', 'L']).as_bytes())?;
    Some(i32::try_from(value).map_or(Node::Long(value), Node::Int))
}

/// A literal with a point or an exponent. Compat: `None` for 0.
pub(super) fn double_literal(text: &str) -> Option<f64> {
    parse_double(text.as_bytes()).filter(|value| value.is_finite() && *value > 0.0)
}

/// The order of two literals; `None` unless both are numbers.
pub(super) fn compare_literals(left: Node, right: Node) -> Option<Ordering> {
    Some(match (left, right) {
        (Node::Double(l), _) => compare_doubles(l, as_double(right)?),
        (_, Node::Double(r)) => compare_doubles(as_double(left)?, r),
        _ => as_long(left)?.cmp(&as_long(right)?),
    })
}

fn as_long(node: Node) -> Option<i64> {
    match node {
        Node::Int(value) => Some(value.into()),
        Node::Long(value) => Some(value),
        _ => None,
    }
}

fn as_double(node: Node) -> Option<f64> {
    match node {
        Node::Double(value) => Some(value),
        _ => as_long(node).map(|value| value as f64),
    }
}

/// As `Double.compareTo`: NaN is the greatest and equal to itself, -0.0 is less than 0.0.
pub(super) fn compare_doubles(left: f64, right: f64) -> Ordering {
    let plain = |value: f64| if value.is_nan() { f64::NAN } else { value };
    plain(left).total_cmp(&plain(right))
}

/// As `Integer.valueOf`.
pub(super) fn parse_int(text: &[u8]) -> Option<i32> {
    i32::parse(text).or_else(|| parse_other_scripts(text).and_then(|value| value.try_into().ok()))
}

/// As `Long.valueOf`.
pub(super) fn parse_long(text: &[u8]) -> Option<i64> {
    i64::parse(text).or_else(|| parse_other_scripts(text))
}

/// Zeros of the decimal digits that Java knows beside ASCII, of those that are one `char`.
const ZEROS: [u32; 36] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0,
    0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
];

fn digit(c: char) -> Option<i64> {
    if let Some(digit) = c.to_digit(10) {
        return Some(digit.into());
    }
    let code = u32::from(c);
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    (code - zero < 10).then(|| i64::from(code - zero))
}

/// Integers with digits beyond ASCII.
#[cold]
fn parse_other_scripts(text: &[u8]) -> Option<i64> {
    if text.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // Below zero, because i64::MIN has no positive counterpart.
    let value = digits
        .chars()
        .try_fold(0i64, |value, c| value.checked_mul(10)?.checked_sub(digit(c)?))?;
    match (digits.is_empty(), text.starts_with('-')) {
        (true, _) => None,
        (false, true) => Some(value),
        (false, false) => value.checked_neg(),
    }
}

/// As `Double.valueOf`: blanks around it, a sign, `NaN`, `Infinity`, decimal or hexadecimal digits, one of `fFdD` behind them.
pub(super) fn parse_double(text: &[u8]) -> Option<f64> {
    // The usual case: an integer that a double has exactly.
    if text.len() <= 15
        && text.first().is_some_and(u8::is_ascii_digit)
        && let Some(value) = i64::parse(text)
    {
        return Some(value as f64);
    }
    let text = trim(text);
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let value = match text {
        b"NaN" => f64::NAN,
        b"Infinity" => f64::INFINITY,
        [b'0', b'x' | b'X', hex @ ..] => parse_hex(without_suffix(hex))?,
        _ => parse_decimal(without_suffix(text))?,
    };
    Some(if negative { -value } else { value })
}

fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| *byte <= b' ';
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn without_suffix(text: &[u8]) -> &[u8] {
    match text {
        [rest @ .., b'f' | b'F' | b'd' | b'D'] => rest,
        _ => text,
    }
}

/// Splits the leading bytes that `wanted` says from the rest.
fn span(text: &[u8], wanted: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !wanted(byte)).unwrap_or(text.len()))
}

/// Digits before and after a point, and what follows them.
fn mantissa(text: &[u8], is_digit: impl Fn(&u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let (whole, rest) = span(text, &is_digit);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => span(rest, &is_digit),
        _ => (&[][..], rest),
    };
    (whole.len() + fraction.len() > 0).then_some((whole, fraction, rest))
}

/// Sign and digits of an exponent, to the end of the text.
fn exponent(text: &[u8]) -> Option<(bool, &[u8])> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some((negative, digits))
}

fn parse_decimal(text: &[u8]) -> Option<f64> {
    let (_, _, rest) = mantissa(text, u8::is_ascii_digit)?;
    match rest {
        [] => {}
        [b'e' | b'E', rest @ ..] => drop(exponent(rest)?),
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What follows `0x`: `1.8p3` is 12.
fn parse_hex(text: &[u8]) -> Option<f64> {
    let (whole, fraction, rest) = mantissa(text, u8::is_ascii_hexdigit)?;
    let [b'p' | b'P', rest @ ..] = rest else { return None };
    let (negative, digits) = exponent(rest)?;
    // Sixty bits of digits; a last bit stands for all that follow, which decides only whether something is exactly half.
    let (mut bits, mut scale, mut sticky) = (0u64, 0i64, false);
    for (place, byte) in whole.iter().chain(fraction).enumerate() {
        let digit = u64::from(char::from(*byte).to_digit(16)?);
        let is_whole = place < whole.len();
        if bits >> 56 == 0 {
            bits = bits << 4 | digit;
            scale -= if is_whole { 0 } else { 4 };
        } else {
            sticky |= digit != 0;
            scale += if is_whole { 4 } else { 0 };
        }
    }
    if bits == 0 {
        return Some(0.0);
    }
    // Beyond this no mantissa of a property makes a difference.
    let exponent = digits
        .iter()
        .fold(0i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(1 << 40));
    Some(scaled(bits, sticky, scale + if negative { -exponent } else { exponent }))
}

/// `bits` times two to the power of `scale`, rounded to the nearest double, to the even one of two.
fn scaled(bits: u64, sticky: bool, scale: i64) -> f64 {
    let length = i64::from(u64::BITS - bits.leading_zeros());
    // Exponent of the highest bit.
    let top = length - 1 + scale;
    if top > 1023 {
        return f64::INFINITY;
    }
    if top < -1075 {
        return 0.0;
    }
    // Exponent of the lowest bit that is kept: 53 bits, fewer for a subnormal number.
    let lowest = (top - 52).max(-1074);
    let drop = lowest - scale;
    let kept = if drop <= 0 {
        bits << -drop
    } else if drop >= 64 {
        // Less than half of the lowest bit, or its half with more behind it.
        u64::from(drop == 64 && (bits > 1 << 63 || (bits == 1 << 63 && sticky)))
    } else {
        let (kept, rest, half) = (bits >> drop, bits & ((1 << drop) - 1), 1u64 << (drop - 1));
        let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
        kept + u64::from(up)
    };
    // A mantissa that became one bit longer continues in the exponent, as the layout of a double has it.
    let biased = if lowest == -1074 && kept < 1 << 52 {
        0
    } else {
        (lowest + 1075) as u64
    };
    let value = if biased == 0 { kept } else { (biased << 52) + (kept - (1 << 52)) };
    f64::from_bits(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_read_as_java_reads_them() {
        for (text, value) in [
            ("5", 5.0),
            (" \t5.\n", 5.0),
            ("-.5e1", -5.0),
            ("+1e3f", 1000.0),
            ("7D", 7.0),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e999999999999999999999", f64::INFINITY),
            ("0x1.8p3", 12.0),
            ("-0XA.p-1d", -5.0),
            ("0x.8p1", 1.0),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.000001p-1075", 5e-324),
            ("0x1p1024", f64::INFINITY),
            ("0x1.fffffffffffff8p1023", f64::INFINITY),
            ("0x1.fffffffffffff7p1023", f64::MAX),
            ("0x0.fffffffffffff8p-1022", f64::MIN_POSITIVE),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000000000001p0", 1.0 + f64::EPSILON),
            ("0x1p99999999999999999999999", f64::INFINITY),
            ("0x0p99999999999999999999999", 0.0),
        ] {
            assert_eq!(parse_double(text.as_bytes()), Some(value), "{text}");
        }
        assert!(parse_double(b"-NaN").is_some_and(f64::is_nan));
        for text in [
            "", " ", ".", "e5", "1e", "1e+", "inf", "nan", "infinity", "1_0", "0x1", "0xp1", "0x.p1", "0x1p", "1ff", "1 2", "--1", "NaNd",
            "١",
        ] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn integers_of_other_scripts_are_read() {
        assert_eq!(parse_int("١٢".as_bytes()), Some(12));
        assert_eq!(parse_int("-１5".as_bytes()), Some(-15));
        assert_eq!(parse_int("٤٢٩٤٩٦٧٢٩٦".as_bytes()), None, "more than 32 bits");
        assert_eq!(parse_long("-9223372036854775８08".as_bytes()), Some(i64::MIN));
        assert_eq!(parse_long("9223372036854775８08".as_bytes()), None);
        for text in ["²", "𝟎", "-", "é", "１.0", "\u{66a}"] {
            assert_eq!(parse_long(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_long(b"\xd9"), None);
    }

    #[test]
    fn doubles_have_javas_order() {
        assert_eq!(compare_doubles(f64::NAN, f64::INFINITY), Ordering::Greater);
        assert_eq!(compare_doubles(-f64::NAN, f64::NAN), Ordering::Equal);
        assert_eq!(compare_doubles(-0.0, 0.0), Ordering::Less);
    }
}
