//! The ext fields of a frame: a flat list of text pairs, kept as ranges of the header's own bytes.
//!
//! A decoded frame copies nothing: keys and values are ranges into the header. Only values that were written with JSON
//! escapes or are not UTF-8, and fields a caller adds, live in a second buffer. A key that occurs twice means its last value,
//! as in a map.
//!
//! All fields of a decoded frame are text, but for the properties of a message, which are stored and are kept to the byte.
//! There is no hashing: a request has about a dozen fields and most handlers walk them once.
//!
//! Field names and types of each request are in the feature modules, not here.

use crate::header::HeaderError;
use crate::number::{Decimal, Integer, parse_bool};
use bytes::Bytes;
use message::text;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

/// Most ext fields a frame may carry; more is refused as malformed. Real requests have fewer than 25.
pub const MAX_FIELDS: usize = 512;

/// Fields that may hold anything: the properties of a message to send, in both spellings.
const RAW_FIELDS: [&[u8]; 2] = [b"i", b"properties"];

/// Most bytes of text that takes the place of fields that are not UTF-8.
const MAX_REPLACED: usize = 1 << 20;

/// Set in a range's start when it points into the owned buffer.
const OWNED: u32 = 1 << 31;

#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// A range of the header. Frames end far below 2^31 bytes, so the casts are exact.
    #[inline]
    pub(crate) fn header(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            len: (end - start) as u32,
        }
    }

    #[inline]
    pub(crate) fn owned(start: usize, end: usize) -> Self {
        Self {
            start: start as u32 | OWNED,
            len: (end - start) as u32,
        }
    }
}

#[derive(Clone, Copy)]
struct Field {
    key: Span,
    value: Span,
}

/// A value on its way into a header. All values are text on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A decimal integer.
    Int(i64),
    /// Text as it is.
    Text(&'a str),
    /// `true` or `false`.
    Bool(bool),
}

impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

/// The ext fields of one frame.
#[derive(Clone, Default)]
pub struct Ext {
    header: Bytes,
    owned: Vec<u8>,
    fields: SmallVec<[Field; 16]>,
}

impl Ext {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many fields there are, double keys counted twice.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// All fields in wire order as bytes.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let (header, owned) = (&self.header[..], &self.owned[..]);
        self.fields
            .iter()
            .map(move |field| (resolve(header, owned, field.key), resolve(header, owned, field.value)))
    }

    /// The bytes of a field's value.
    #[inline]
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.iter().rev().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
    }

    /// A field's text; `None` when it is absent or not UTF-8.
    #[inline]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.bytes(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// A field as integer; `None` when it is absent or not one. Where the difference matters use [`Ext::optional_int`].
    #[inline]
    pub fn int<T: Integer>(&self, key: &str) -> Option<T> {
        self.bytes(key).and_then(T::parse)
    }

    /// [`Ext::int`] for 64 bits.
    #[inline]
    pub fn long(&self, key: &str) -> Option<i64> {
        self.int(key)
    }

    /// A field as boolean: "true" in any case is true, other text false; `None` when absent.
    #[inline]
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.bytes(key).map(parse_bool)
    }

    /// A text field that has to be there.
    ///
    /// # Errors
    /// Absent, or not UTF-8.
    pub fn require_text(&self, key: &'static str) -> Result<&str, HeaderError> {
        self.optional_text(key)?.ok_or(HeaderError::Missing(key))
    }

    /// A text field that may be absent.
    ///
    /// # Errors
    /// Present but not UTF-8.
    pub fn optional_text(&self, key: &'static str) -> Result<Option<&str>, HeaderError> {
        self.bytes(key).map(|value| text_of(value, key)).transpose()
    }

    /// An integer field that has to be there.
    ///
    /// # Errors
    /// Absent, or not an integer of this type.
    pub fn require_int<T: Integer>(&self, key: &'static str) -> Result<T, HeaderError> {
        self.optional_int(key)?.ok_or(HeaderError::Missing(key))
    }

    /// An integer field that may be absent.
    ///
    /// # Errors
    /// Present but not an integer of this type.
    pub fn optional_int<T: Integer>(&self, key: &'static str) -> Result<Option<T>, HeaderError> {
        self.bytes(key)
            .map(|value| T::parse(value).ok_or(HeaderError::Malformed(key)))
            .transpose()
    }

    /// Adds a field. A key added twice means the later value.
    pub fn push<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        let key = self.own(key.as_bytes());
        let value = match value.into() {
            Value::Int(number) => self.own(Decimal::new(number).as_bytes()),
            Value::Text(text) => self.own(text.as_bytes()),
            Value::Bool(flag) => self.own(if flag { b"true" } else { b"false" }),
        };
        self.fields.push(Field { key, value });
    }

    /// [`Ext::push`] for building in one expression.
    #[must_use]
    pub fn with<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.push(key, value);
        self
    }

    /// Drops all fields of this name.
    pub fn remove(&mut self, key: &str) {
        let (header, owned) = (&self.header, &self.owned);
        self.fields.retain(|field| resolve(header, owned, field.key) != key.as_bytes());
    }

    fn own(&mut self, bytes: &[u8]) -> Span {
        let start = self.owned.len();
        self.owned.extend_from_slice(bytes);
        Span::owned(start, self.owned.len())
    }

    /// Ranges refer to `header` from here on; the decoder sets it once all fields are in.
    pub(crate) fn set_header(&mut self, header: Bytes) {
        self.header = header;
    }

    /// Makes text of what is not UTF-8, as a Java server reads it; false when that would take too much memory.
    pub(crate) fn replace_malformed(&mut self) -> bool {
        let own = self.owned.len();
        for at in 0..self.fields.len() {
            let Field { key, value } = self.fields[at];
            let is_raw = RAW_FIELDS.contains(&resolve(&self.header, &self.owned, key));
            let key = self.replaced(key);
            let value = if is_raw { value } else { self.replaced(value) };
            self.fields[at] = Field { key, value };
            if self.owned.len() - own > MAX_REPLACED {
                return false;
            }
        }
        true
    }

    fn replaced(&mut self, span: Span) -> Span {
        let Cow::Owned(text) = text::as_java_reads(resolve(&self.header, &self.owned, span)) else {
            return span;
        };
        self.own(text.as_bytes())
    }

    #[inline]
    pub(crate) fn push_span(&mut self, key: Span, value: Span) -> bool {
        if self.fields.len() == MAX_FIELDS {
            return false;
        }
        self.fields.push(Field { key, value });
        true
    }

    pub(crate) fn owned_mut(&mut self) -> &mut Vec<u8> {
        &mut self.owned
    }
}

#[inline]
fn resolve<'a>(header: &'a [u8], owned: &'a [u8], span: Span) -> &'a [u8] {
    let (buffer, start) = match span.start & OWNED {
        0 => (header, span.start as usize),
        _ => (owned, (span.start & !OWNED) as usize),
    };
    &buffer[start..start + span.len as usize]
}

#[inline]
pub(crate) fn text_of<'a>(value: &'a [u8], key: &'static str) -> Result<&'a str, HeaderError> {
    std::str::from_utf8(value).map_err(|_| HeaderError::Malformed(key))
}

impl fmt::Debug for Ext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .iter()
            .map(|(key, value)| (String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
        out.debug_map().entries(pairs).finish()
    }
}

/// Equal when the same pairs stand in the same order.
impl PartialEq for Ext {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Ext {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let ext = Ext::new().with("a", 1).with("b", "x").with("a", 2i64).with("c", true);
        assert_eq!(ext.int::<i32>("a"), Some(2));
        assert_eq!(ext.text("b"), Some("x"));
        assert_eq!(ext.bool("c"), Some(true));
        assert_eq!(ext.text("d"), None);
        assert_eq!(ext.len(), 4);
    }

    #[test]
    fn missing_and_malformed_are_told_apart() {
        let ext = Ext::new().with("n", "x1");
        assert_eq!(ext.require_int::<i32>("n"), Err(HeaderError::Malformed("n")));
        assert_eq!(ext.require_int::<i32>("m"), Err(HeaderError::Missing("m")));
        assert_eq!(ext.optional_int::<i32>("m"), Ok(None));
    }

    #[test]
    fn a_removed_field_is_gone() {
        let mut ext = Ext::new().with("a", 1).with("b", 2).with("a", 3);
        ext.remove("a");
        assert_eq!(ext, Ext::new().with("b", 2));
    }
}
