//! The writer: serde_json with Java's map keys.
//!
//! serde_json writes every key as a string. With [`Keys::Java`] the opening quote is delayed until the kind of the
//! key is known: digits are written without quotes, an [`ObjectKey`] is JSON and written unchanged.
//!
//! serde cannot express "this key is an object", and a marker within the text could also be a client's key. So an
//! [`ObjectKey`] sets a thread-local flag, which the formatter takes with the same key.

use crate::number::Decimal;
use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use std::cell::Cell;
use std::io::{self, Write};

thread_local! {
    static NEXT_KEY_IS_OBJECT: Cell<bool> = const { Cell::new(false) };
}

/// A key that is the JSON of an object.
pub(super) struct ObjectKey(pub(super) String);

impl Serialize for ObjectKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        NEXT_KEY_IS_OBJECT.set(true);
        serializer.serialize_str(&self.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Java,
    Standard,
}

pub(super) fn write<T: Serialize + ?Sized>(value: &T, keys: Keys) -> Vec<u8> {
    // A serializer that failed may have left it set.
    NEXT_KEY_IS_OBJECT.set(false);
    let mut out = Vec::with_capacity(256);
    let formatter = Fastjson {
        keys,
        state: WriterState::Value,
    };
    // Writing to a Vec cannot fail, and every body type can be written (map keys are strings, integers or queues).
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, formatter));
    debug_assert!(written.is_ok(), "a body could not be written");
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterState {
    /// Not within a key.
    Value,
    /// A key begins; nothing of it was written.
    Key,
    /// A string key begins; its quote is delayed.
    Opened,
    /// A quoted key.
    Quoted,
    /// Digits: no quotes.
    Bare,
    /// JSON as key: no quotes and no escapes.
    Raw,
}

struct Fastjson {
    keys: Keys,
    state: WriterState,
}

impl Fastjson {
    /// Writes the delayed quote: the key is text.
    fn quote<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.state == WriterState::Opened {
            self.state = WriterState::Quoted;
            writer.write_all(b"\"")?;
        }
        Ok(())
    }

    fn number<W: ?Sized + Write>(&mut self, writer: &mut W, digits: &[u8]) -> io::Result<()> {
        if self.state == WriterState::Opened {
            match self.keys {
                Keys::Java => self.state = WriterState::Bare,
                Keys::Standard => self.quote(writer)?,
            }
        }
        writer.write_all(digits)
    }
}

impl Formatter for Fastjson {
    fn write_i32<W: ?Sized + Write>(&mut self, writer: &mut W, value: i32) -> io::Result<()> {
        self.number(writer, Decimal::new(i64::from(value)).as_bytes())
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.number(writer, Decimal::new(value).as_bytes())
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.number(writer, value.to_string().as_bytes())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.state = WriterState::Key;
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.state = WriterState::Value;
        Ok(())
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.state {
            WriterState::Value => writer.write_all(b"\""),
            _ => {
                let raw = NEXT_KEY_IS_OBJECT.take() && self.keys == Keys::Java;
                self.state = if raw { WriterState::Raw } else { WriterState::Opened };
                Ok(())
            }
        }
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.quote(writer)?; // the empty key
        match self.state {
            WriterState::Bare | WriterState::Raw => Ok(()),
            _ => writer.write_all(b"\""),
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !fragment.is_empty() {
            self.quote(writer)?;
        }
        writer.write_all(fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match (self.state, escape) {
            // An object key is JSON already; its quotes and backslashes are written without another escape.
            (WriterState::Raw, CharEscape::Quote) => writer.write_all(b"\""),
            (WriterState::Raw, CharEscape::ReverseSolidus) => writer.write_all(b"\\"),
            (_, escape) => {
                self.quote(writer)?;
                CompactFormatter.write_char_escape(writer, escape)
            }
        }
    }
}
