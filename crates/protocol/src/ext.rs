//! The ext fields of a frame: a flat list of pairs, stored as ranges of the header's bytes.
//!
//! Decoding copies nothing: keys and values are ranges of the header. Only values that were written with JSON
//! escapes, and fields that a caller adds, are in a second buffer. If a key occurs twice, its last value counts, as in a map.
//!
//! Fields are bytes. A text field that is not UTF-8 is the text that Java reads. This is computed only when a header turns out to be
//! malformed ([`Ext::as_text`]), so that other headers do not pay for it. The properties of a message are not converted: they are stored.
//! There is no hash table: a request has about a dozen fields and most handlers read them in one pass.
//!
//! Not here: field names and types of each request, which are in the feature modules.

use crate::header::HeaderError;
use crate::number::{Decimal, Integer, parse_bool};
use crate::reused::Reused;
use bytes::Bytes;
use message::text;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

/// Maximum number of ext fields of a frame; a frame with more is malformed. Real requests have fewer than 25.
pub const MAX_FIELDS: usize = 512;

/// Fields with arbitrary bytes: the properties of a message to send, under both names.
const RAW_FIELDS: [&[u8]; 2] = [b"i", b"properties"];

/// Maximum number of bytes of text that replaces fields that are not UTF-8.
const MAX_REPLACED: usize = 1 << 20;

/// Set in the start of a range that refers to the owned buffer.
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

/// A value to write into a header. All values are text on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A decimal integer.
    Int(i64),
    /// Text.
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
    owned: Reused,
    fields: SmallVec<[Field; 16]>,
    /// See [`Ext::as_text`].
    as_text: OnceLock<Option<Box<Ext>>>,
}

impl Ext {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of fields; repeated keys count repeatedly.
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

    /// A field's text; `None` when it is absent.
    #[inline]
    pub fn text(&self, key: &str) -> Option<&str> {
        let value = self.bytes(key)?;
        std::str::from_utf8(value).ok().or_else(|| self.as_text()?.text(key))
    }

    /// A field as integer; `None` if it is absent or not an integer. Use [`Ext::optional_int`] to tell these apart.
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

    /// A required text field.
    ///
    /// # Errors
    /// [`HeaderError`] if it is absent or not UTF-8: see [`Ext::as_text`].
    pub fn require_text(&self, key: &'static str) -> Result<&str, HeaderError> {
        self.optional_text(key)?.ok_or(HeaderError::Missing(key))
    }

    /// An optional text field.
    ///
    /// # Errors
    /// [`HeaderError::Malformed`] if it is present but not UTF-8.
    pub fn optional_text(&self, key: &'static str) -> Result<Option<&str>, HeaderError> {
        self.bytes(key).map(|value| text_of(value, key)).transpose()
    }

    /// A required integer field.
    ///
    /// # Errors
    /// [`HeaderError`] if it is absent or not an integer of this type.
    pub fn require_int<T: Integer>(&self, key: &'static str) -> Result<T, HeaderError> {
        self.optional_int(key)?.ok_or(HeaderError::Missing(key))
    }

    /// An optional integer field.
    ///
    /// # Errors
    /// [`HeaderError::Malformed`] if it is present but not an integer of this type.
    pub fn optional_int<T: Integer>(&self, key: &'static str) -> Result<Option<T>, HeaderError> {
        self.bytes(key)
            .map(|value| T::parse(value).ok_or(HeaderError::Malformed(key)))
            .transpose()
    }

    /// Adds a field. If a key is added twice, the later value counts.
    pub fn push<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        let key = self.own(key.as_bytes());
        let value = match value.into() {
            Value::Int(number) => self.own(Decimal::new(number).as_bytes()),
            Value::Text(text) => self.own(text.as_bytes()),
            Value::Bool(flag) => self.own(if flag { b"true" } else { b"false" }),
        };
        self.fields.push(Field { key, value });
        self.as_text.take();
    }

    /// [`Ext::push`] as a builder.
    #[must_use]
    pub fn with<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.push(key, value);
        self
    }

    /// Removes all fields of this name.
    pub fn remove(&mut self, key: &str) {
        let (header, owned) = (&self.header, &self.owned);
        self.fields.retain(|field| resolve(header, owned, field.key) != key.as_bytes());
        self.as_text.take();
    }

    /// A copy of the fields in memory of their own: a frame that is stored must not keep the read buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            header: Bytes::copy_from_slice(&self.header),
            owned: self.owned.clone(),
            fields: self.fields.clone(),
            as_text: self.as_text.clone(),
        }
    }

    /// Bytes of memory that the fields occupy.
    pub fn memory(&self) -> usize {
        self.header.len() + self.owned.len() + self.fields.len() * size_of::<Field>()
    }

    fn own(&mut self, bytes: &[u8]) -> Span {
        let start = self.owned.len();
        self.owned.writable().extend_from_slice(bytes);
        Span::owned(start, self.owned.len())
    }

    /// The header that was read, with all of its bytes; empty if it had no fields.
    pub(crate) fn header(&self) -> &Bytes {
        &self.header
    }

    /// Sets the header that ranges refer to. The decoder calls it once all fields are added.
    pub(crate) fn set_header(&mut self, header: Bytes) {
        self.header = header;
    }

    /// The same fields with values that are not UTF-8 replaced by the text that Java reads. `None` if all are UTF-8 or
    /// the text would take more than [`MAX_REPLACED`] bytes. For headers that turned out to be malformed.
    #[cold]
    pub(crate) fn as_text(&self) -> Option<&Self> {
        let make = || {
            let (mut text, mut bytes) = (Self::new(), 0);
            for (key, value) in self.iter() {
                let value = if RAW_FIELDS.contains(&key) {
                    Cow::Borrowed(value)
                } else {
                    replaced(value)
                };
                if let Cow::Owned(value) = &value {
                    bytes += value.len();
                }
                let (key, value) = (text.own(key), text.own(&value));
                text.fields.push(Field { key, value });
            }
            (1..=MAX_REPLACED).contains(&bytes).then(|| Box::new(text))
        };
        self.as_text.get_or_init(make).as_deref()
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
        self.owned.writable()
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

fn replaced(bytes: &[u8]) -> Cow<'_, [u8]> {
    match text::as_java_reads(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
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

/// Equal if both have the same pairs in the same order.
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
    fn missing_and_malformed_are_distinguished() {
        let ext = Ext::new().with("n", "x1");
        assert_eq!(ext.require_int::<i32>("n"), Err(HeaderError::Malformed("n")));
        assert_eq!(ext.require_int::<i32>("m"), Err(HeaderError::Missing("m")));
        assert_eq!(ext.optional_int::<i32>("m"), Ok(None));
    }

    #[test]
    fn detached_fields_do_not_keep_the_read_buffer() {
        let read = Bytes::from(vec![b'x'; 1_000]);
        let mut ext = Ext::new();
        ext.set_header(read.slice(100..120));
        ext.push_span(Span::header(0, 3), Span::header(3, 8));
        ext.push("own", 7);
        let detached = ext.detached();
        assert_eq!(detached, ext);
        drop(ext);
        assert!(read.is_unique());
        assert_eq!(detached.bytes("xxx"), Some(&b"xxxxx"[..]));
        assert!((20..500).contains(&detached.memory()));
    }

    #[test]
    fn a_removed_field_is_gone() {
        let mut ext = Ext::new().with("a", 1).with("b", 2).with("a", 3);
        ext.remove("a");
        assert_eq!(ext, Ext::new().with("b", 2));
    }
}
