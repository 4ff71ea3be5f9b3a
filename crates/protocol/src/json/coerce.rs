//! Conversion of a value to a field of another type, as fastjson does it.
//!
//! A [`Node`] is a deserializer that follows the type that the field asks for, so every body type has these conversions
//! without further code. Measured with fastjson2 2.0.59, the version of Apache 5.5; each row of the tables in `tests.rs` is a
//! measured form.
//!
//! | Type of the field | Accepted values |
//! |---|---|
//! | integer | numbers, fractions truncated; text of a number, with commas between digits; `true` 1, `false` 0; null and no text 0; a list of one |
//! | boolean | `true`, `false` in any case, also as text; 1 and -1 true, other numbers false; `"1"` `"Y"` `"0"` `"N"`; null and no text false |
//! | text | numbers and booleans; lists and objects as JSON; a list of one text; null is no text |
//! | list | a lone value is a list of one; null and no text an empty list; nulls within are left out |
//! | map, object | null and no text are empty; members of a map that are null are left out |
//!
//! Not accepted, although Java does: times as text for an integer.

use super::lenient::Node;
use crate::number;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::borrow::Cow;
use std::fmt::Write;

/// Why a value cannot be converted to the type of the field.
#[derive(Debug)]
pub(crate) struct Mismatch(String);

impl std::fmt::Display for Mismatch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: std::fmt::Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

impl<'a> Node<'a> {
    fn mismatch(&self, wanted: &str) -> Mismatch {
        const SHOWN: usize = 32;
        let found = match self {
            Self::Text(text) => match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{:?}…", &text[..end]),
                None => format!("{text:?}"),
            },
            Self::Array(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
            Self::Number(text) => text.chars().take(SHOWN).collect(),
            Self::Null | Self::Bool(_) => self.json(),
        };
        Mismatch(format!("{found} is not {wanted}"))
    }

    /// As a whole number.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Null => Some(0),
            Self::Bool(flag) => Some(i64::from(*flag)),
            Self::Number(text) => whole(text),
            Self::Text(text) => integer_of(text),
            Self::Array(list) => match &list[..] {
                [one] => one.integer(),
                _ => None,
            },
            Self::Object(members) => members.is_empty().then_some(0),
        }
    }

    /// As 32 bits. Compat: a larger integer is refused; of a fraction the low bits count, as in Java's `intValue`.
    pub(crate) fn integer_32(&self) -> Option<i32> {
        let value = self.integer()?;
        let is_fraction = matches!(self, Self::Number(text) if text.contains(['.', 'e', 'E']));
        if is_fraction {
            Some(value as i32)
        } else {
            i32::try_from(value).ok()
        }
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            Self::Null => Some(false),
            Self::Bool(flag) => Some(*flag),
            Self::Number(text) => Some(matches!(number::parse_i64(text.as_bytes()), Some(1 | -1))),
            Self::Text(text) => match &**text {
                "1" | "Y" => Some(true),
                "" | "0" | "N" | "null" => Some(false),
                text if text.eq_ignore_ascii_case("true") => Some(true),
                text if text.eq_ignore_ascii_case("false") => Some(false),
                _ => None,
            },
            Self::Array(_) | Self::Object(_) => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Self::Null => Some(0.0),
            Self::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Self::Number("-") => Some(0.0),
            Self::Number(text) => text.parse().ok(),
            Self::Text(text) if text.is_empty() || text == "null" => Some(0.0),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Array(list) => match &list[..] {
                [one] => one.float(),
                _ => None,
            },
            Self::Object(_) => None,
        }
    }

    /// As text.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::Text(text) => text.clone(),
            Self::Array(list) if matches!(&list[..], [Self::Text(_) | Self::Null]) => list[0].text(),
            other => Cow::Owned(other.json()),
        }
    }

    /// As JSON without white space.
    fn json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Number(text) => write_number(text, out),
            Self::Text(text) => write_quoted(text, out),
            Self::Array(list) => {
                out.push('[');
                for (at, one) in list.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    one.write_json(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    write_quoted(name, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// Null, or empty text, which means null unless the field is a text.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Null) || matches!(self, Self::Text(text) if text.is_empty())
    }
}

fn write_quoted(text: &str, out: &mut String) {
    let quoted = serde_json::to_string(text);
    out.push_str(quoted.as_deref().unwrap_or("\"\""));
}

/// A number as Java writes it: whole numbers without sign or leading zeros, fractions as written, exponents computed.
fn write_number(text: &str, out: &mut String) {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text.contains(['e', 'E']) || text == "NaN" {
        out.push_str(&float_text(text.parse().unwrap_or(f64::NAN)));
    } else if text.contains('.') {
        out.push_str(text);
    } else {
        let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
        match digits.trim_start_matches('0') {
            "" => out.push('0'),
            digits => out.extend([sign, digits]),
        }
    }
}

/// `Double.toString`, for floats of JSON.
fn float_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = if value.is_nan() || value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        write!(text, "{value:?}")
    } else {
        write!(text, "{value:E}")
    };
    match text.split_once('E') {
        Some((digits, power)) if !digits.contains('.') => format!("{digits}.0E{power}"),
        _ => text,
    }
}

/// A number's whole part.
fn whole(text: &str) -> Option<i64> {
    if text == "-" {
        return Some(0);
    }
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().ok()?;
        return value.is_finite().then_some(value as i64);
    }
    match text.split_once('.') {
        Some(("" | "-" | "+", _)) => Some(0),
        Some((whole, _)) => number::parse_i64(whole.as_bytes()),
        None => number::parse_i64(text.as_bytes()),
    }
}

/// The integer that fastjson reads in a text.
pub(super) fn integer_of(text: &str) -> Option<i64> {
    match text {
        "" | "null" | "false" => Some(0),
        "true" => Some(1),
        _ if text.contains(',') => number::parse_i64(text.replace(',', "").as_bytes()),
        // Rust accepts more forms of floats than digits, sign, point and exponent.
        _ if text.contains(['.', 'e', 'E']) && !text.contains(['i', 'n', 'I', 'N']) => text.parse::<f64>().ok().and(whole(text)),
        _ => number::parse_i64(text.as_bytes()),
    }
}

impl<'de> IntoDeserializer<'de, Mismatch> for Node<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(flag) => visitor.visit_bool(flag),
            Self::Number(text) => match number::parse_i64(text.as_bytes()) {
                Some(integer) => visitor.visit_i64(integer),
                None => visitor.visit_f64(self.float().unwrap_or(f64::NAN)),
            },
            Self::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Self::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Self::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter())),
            Self::Object(members) => visitor.visit_map(MapDeserializer::new(members.into_iter().map(named))),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.integer() {
            Some(integer) => visitor.visit_i64(integer),
            None => Err(self.mismatch("an integer of 64 bits")),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.integer_32() {
            Some(integer) => visitor.visit_i32(integer),
            None => Err(self.mismatch("an integer of 32 bits")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.boolean() {
            Some(flag) => visitor.visit_bool(flag),
            None => Err(self.mismatch("true or false")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.float() {
            Some(value) => visitor.visit_f64(value),
            None => Err(self.mismatch("a number")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.text() {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Self::Null => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let list = match self {
            Self::Array(list) => list,
            lone if lone.is_nothing() => Vec::new(),
            lone => vec![lone],
        };
        visitor.visit_seq(SeqDeserializer::new(list.into_iter().filter(|one| *one != Self::Null)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let members = self.members()?.into_iter().filter(|(_, value)| *value != Self::Null);
        visitor.visit_map(MapDeserializer::new(members.map(named)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_map(MapDeserializer::new(self.members()?.into_iter().map(named)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

impl<'a> Node<'a> {
    fn members(self) -> Result<std::collections::BTreeMap<Cow<'a, str>, Self>, Mismatch> {
        match self {
            Self::Object(members) => Ok(members),
            nothing if nothing.is_nothing() => Ok(Default::default()),
            other => Err(other.mismatch("an object")),
        }
    }
}

/// Names are nodes, too, because maps may be keyed by integers.
fn named<'a>((name, value): (Cow<'a, str>, Node<'a>)) -> (Node<'a>, Node<'a>) {
    (Node::Text(name), value)
}
