//! Writing frames straight into a connection's output buffer.
//!
//! JSON headers have their keys in alphabetical order and no white space, as the Java broker writes them.

use super::json::marks;
use super::{Encoding, FLAG_RESPONSE, Frame, MAX_HEADER_LEN, PREFIX_LEN};
use crate::ext::Value;
use crate::language::Language;
use crate::number::{MAX_DECIMAL, write_decimal};
use crate::version;
use bytes::BytesMut;

/// Maximum bytes of a JSON header without fields and remark: keys, numbers, the longest language name.
const JSON_FRAME: usize = 192;
/// Bytes of a JSON field beside key and value.
const JSON_FIELD: usize = 6;
/// Maximum bytes of one escaped byte of text (`\u001f`).
const JSON_ESCAPE: usize = 6;

/// Writes the head of a response (lengths and header) for a body of `body_len` bytes, which the caller appends or sends
/// as the next buffer. Allocates only in `out`.
pub fn encode_response_head(
    out: &mut BytesMut,
    encoding: Encoding,
    opaque: i32,
    code: impl Into<i32>,
    remark: Option<&str>,
    fields: &[(&str, Value<'_>)],
    body_len: usize,
) {
    let head = Head {
        code: code.into(),
        language: Language::Java,
        version: version::CURRENT,
        opaque,
        flag: FLAG_RESPONSE,
        remark,
    };
    framed(out, encoding, body_len, &head, fields.iter().copied());
}

/// Maximum number of bytes of the encoded header of a frame, whatever text it has. Does not allocate.
pub(super) fn most_header_bytes(frame: &Frame) -> usize {
    // A byte that is not UTF-8 becomes a character of at most three bytes, which needs no escape.
    let field = |(key, value): (&[u8], &[u8])| JSON_FIELD + JSON_ESCAPE * (key.len() + value.len());
    JSON_FRAME + JSON_ESCAPE * frame.remark.as_deref().map_or(0, str::len) + frame.ext.iter().map(field).sum::<usize>()
}

/// Writes lengths and header of a frame with this opaque.
pub(super) fn frame_head(frame: &Frame, opaque: i32, out: &mut BytesMut) {
    let head = Head {
        code: frame.code,
        language: frame.language,
        version: frame.version,
        opaque,
        flag: frame.flag,
        remark: frame.remark.as_deref(),
    };
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // Decoded fields may be no UTF-8; fields of our own requests are, and these are few.
    let fields: Vec<(String, String)> = frame.ext.iter().map(|(key, value)| (lossy(key), lossy(value))).collect();
    let fields = fields.iter().map(|(key, value)| (key.as_str(), Value::Text(value)));
    framed(out, frame.encoding, frame.body.len(), &head, fields);
}

struct Head<'a> {
    code: i32,
    language: Language,
    version: i32,
    opaque: i32,
    flag: i32,
    remark: Option<&'a str>,
}

/// Reserves space for the maximum length at once, writes without further checks, and truncates.
fn framed<'f>(
    out: &mut BytesMut,
    encoding: Encoding,
    body_len: usize,
    head: &Head<'_>,
    fields: impl Iterator<Item = (&'f str, Value<'f>)> + Clone,
) {
    let start = out.len();
    out.resize(start + PREFIX_LEN + longest(head, fields.clone()), 0);
    let mut cursor = Cursor {
        room: &mut out[start..],
        at: PREFIX_LEN,
    };
    let mark = match encoding {
        Encoding::Json => {
            cursor.json_head(head, fields);
            0
        }
        Encoding::Binary => {
            cursor.binary_head(head, fields);
            1u32 << 24
        }
    };
    let header_len = cursor.at - PREFIX_LEN;
    debug_assert!(
        header_len <= MAX_HEADER_LEN,
        "a header of ours is longer than its 24-bit length field allows"
    );
    cursor.patch(0, (4 + header_len + body_len) as u32);
    cursor.patch(4, mark | header_len as u32);
    out.truncate(start + PREFIX_LEN + header_len);
}

/// Maximum length of the header in either encoding.
fn longest<'f>(head: &Head<'_>, fields: impl Iterator<Item = (&'f str, Value<'f>)>) -> usize {
    let field = |(key, value): (&str, Value<'_>)| {
        JSON_FIELD
            + JSON_ESCAPE * key.len()
            + match value {
                Value::Text(text) => JSON_ESCAPE * text.len(),
                Value::Int(_) | Value::Bool(_) => MAX_DECIMAL,
            }
    };
    JSON_FRAME + JSON_ESCAPE * head.remark.map_or(0, str::len) + fields.map(field).sum::<usize>()
}

/// Writes into reserved space that is known to suffice.
struct Cursor<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    /// Bytes whose number is known at compile time, so that they are copied without a call.
    #[inline]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.room[self.at..self.at + N].copy_from_slice(bytes);
        self.at += N;
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.room[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    #[inline]
    fn put_int(&mut self, value: i64) {
        self.at += write_decimal(value, &mut self.room[self.at..]);
    }

    fn patch(&mut self, at: usize, value: u32) {
        self.room[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    #[inline]
    fn json_head<'f>(&mut self, head: &Head<'_>, fields: impl Iterator<Item = (&'f str, Value<'f>)>) {
        self.put(b"{\"code\":");
        self.put_int(i64::from(head.code));
        let mut any = false;
        for (key, value) in fields {
            if any {
                self.put(b",\"");
            } else {
                self.put(b",\"extFields\":{\"");
            }
            any = true;
            self.json_text(key);
            self.put(b"\":\"");
            match value {
                Value::Text(text) => self.json_text(text),
                plain => self.plain(plain),
            }
            self.put(b"\"");
        }
        if any {
            self.put(b"}");
        }
        self.put(b",\"flag\":");
        self.put_int(i64::from(head.flag));
        self.put(b",\"language\":\"");
        self.json_text(head.language.name());
        self.put(b"\",\"opaque\":");
        self.put_int(i64::from(head.opaque));
        if let Some(remark) = head.remark {
            self.put(b",\"remark\":\"");
            self.json_text(remark);
            self.put(b"\"");
        }
        self.put(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
        self.put_int(i64::from(head.version));
        self.put(b"}");
    }

    #[inline]
    fn plain(&mut self, value: Value<'_>) {
        match value {
            Value::Int(number) => self.put_int(number),
            Value::Bool(true) => self.put(b"true"),
            Value::Bool(false) => self.put(b"false"),
            Value::Text(text) => self.put_slice(text.as_bytes()),
        }
    }

    /// Text between JSON quotes.
    #[inline]
    fn json_text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let plain = self.put_plain(bytes);
        if plain < bytes.len() {
            self.put_escaped(&bytes[plain..]);
        }
    }

    /// Copies text that needs no escape, and looks for such bytes, in one pass. Returns how much was copied: all of it, or less if a
    /// byte behind that needs an escape.
    #[inline]
    fn put_plain(&mut self, bytes: &[u8]) -> usize {
        let (words, rest) = bytes.as_chunks::<8>();
        for (at, word) in words.iter().enumerate() {
            if specials(*word) != 0 {
                return at * 8;
            }
            self.put(word);
        }
        let clean = words.len() * 8;
        match bytes.last_chunk::<8>() {
            // Copied together with what is before it and copied already.
            Some(last) if !rest.is_empty() => {
                if specials(*last) != 0 {
                    return clean;
                }
                self.at += rest.len();
                self.room[self.at - 8..self.at].copy_from_slice(last);
            }
            _ => {
                for (at, byte) in rest.iter().enumerate() {
                    if is_special(byte) {
                        return at;
                    }
                    self.put(&[*byte]);
                }
            }
        }
        bytes.len()
    }

    #[cold]
    fn put_escaped(&mut self, mut bytes: &[u8]) {
        while let Some(found) = bytes.iter().position(is_special) {
            self.put_slice(&bytes[..found]);
            self.json_escape(bytes[found]);
            bytes = &bytes[found + 1..];
        }
        self.put_slice(bytes);
    }

    fn json_escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' | b'\\' => self.put(&[b'\\', byte]),
            b'\n' => self.put(b"\\n"),
            b'\r' => self.put(b"\\r"),
            b'\t' => self.put(b"\\t"),
            8 => self.put(b"\\b"),
            12 => self.put(b"\\f"),
            _ => self.put(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }

    fn binary_head<'f>(&mut self, head: &Head<'_>, fields: impl Iterator<Item = (&'f str, Value<'f>)>) {
        self.put(&(head.code as i16).to_be_bytes());
        self.put(&[head.language.code()]);
        self.put(&(head.version as i16).to_be_bytes());
        self.put(&head.opaque.to_be_bytes());
        self.put(&head.flag.to_be_bytes());
        self.sized(|cursor| cursor.put_slice(head.remark.unwrap_or_default().as_bytes()));
        self.sized(|cursor| {
            for (key, value) in fields {
                // Our keys are short names; a key whose length does not fit two bytes cannot be sent.
                let Ok(key_len) = u16::try_from(key.len()) else { continue };
                cursor.put(&key_len.to_be_bytes());
                cursor.put_slice(key.as_bytes());
                cursor.sized(|cursor| cursor.plain(value));
            }
        });
    }

    /// Writes the length of what `content` writes, in four bytes, before it.
    fn sized(&mut self, content: impl FnOnce(&mut Self)) {
        let start = self.at;
        self.put(&[0; 4]);
        content(self);
        self.patch(start, (self.at - start - 4) as u32);
    }
}

/// Whether a byte needs an escape in JSON.
#[inline]
fn is_special(byte: &u8) -> bool {
    *byte < b' ' || matches!(byte, b'"' | b'\\')
}

/// Not 0 if one of eight bytes needs an escape in JSON.
#[inline]
fn specials(word: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    marks(word) | (word.wrapping_sub(ONES * 0x20) & !word & HIGHS)
}
