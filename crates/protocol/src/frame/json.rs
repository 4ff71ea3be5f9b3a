//! The JSON header, read in one walk.
//!
//! A general JSON reader would build a map of strings for what the broker reads once. This one notes where keys and
//! values stand and copies only what has escapes. It is as lenient as clients need: unknown keys of any shape are
//! skipped, numbers may be quoted, ext values may be bare numbers and booleans, null means absent. Raw control
//! characters within strings are let through. Invalid UTF-8 is found where a field is used as text, not here.
//!
//! Nesting is followed to [`MAX_DEPTH`]; deeper is malformed.

use super::{Encoding, Frame, FrameError};
use crate::ext::{Ext, Span};
use crate::language::Language;
use crate::number::{Integer, parse_i64};

/// Deepest nesting of values that are skipped.
const MAX_DEPTH: usize = 32;

const TRUNCATED: FrameError = FrameError::Header("JSON ends early");
const SYNTAX: FrameError = FrameError::Header("not JSON");
const NUMBER: FrameError = FrameError::Header("a number was expected");

pub(super) fn decode(header: &[u8]) -> Result<Frame, FrameError> {
    let mut scan = Scanner { bytes: header, at: 0 };
    let mut frame = Frame {
        encoding: Encoding::Json,
        ..Frame::blank()
    };
    let mut more = scan.open(b'{', b'}')?;
    while more {
        let key = scan.key()?;
        scan.member(key, &mut frame)?;
        more = scan.next(b'}')?;
    }
    scan.space();
    if scan.at == header.len() { Ok(frame) } else { Err(SYNTAX) }
}

/// A string between its quotes.
#[derive(Clone, Copy)]
struct Text {
    start: usize,
    end: usize,
    escaped: bool,
}

/// A value that fits into one ext field.
enum Scalar {
    Text(Text),
    Bare(usize, usize),
    Null,
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn member(&mut self, key: Text, frame: &mut Frame) -> Result<(), FrameError> {
        if key.escaped {
            return self.skip(0); // none of our keys needs an escape
        }
        match &self.bytes[key.start..key.end] {
            b"code" => frame.code = self.number()?,
            b"flag" => frame.flag = self.number()?,
            b"opaque" => frame.opaque = self.number()?,
            b"version" => frame.version = self.number()?,
            b"language" => frame.language = self.language()?,
            b"remark" => frame.remark = self.remark()?,
            b"extFields" => self.fields(&mut frame.ext)?,
            _ => self.skip(0)?,
        }
        Ok(())
    }

    fn fields(&mut self, ext: &mut Ext) -> Result<(), FrameError> {
        if self.peek()? == b'n' {
            return self.skip(0);
        }
        let mut more = self.open(b'{', b'}')?;
        while more {
            let key = self.key()?;
            let value = self.scalar()?;
            self.field(key, &value, ext)?;
            more = self.next(b'}')?;
        }
        Ok(())
    }

    #[inline]
    fn field(&self, key: Text, value: &Scalar, ext: &mut Ext) -> Result<(), FrameError> {
        let value = match *value {
            Scalar::Null => return Ok(()),
            Scalar::Bare(start, end) => Span::header(start, end),
            Scalar::Text(text) => self.span(text, ext)?,
        };
        let key = self.span(key, ext)?;
        if ext.push_span(key, value) {
            Ok(())
        } else {
            Err(FrameError::Header("too many ext fields"))
        }
    }

    #[inline]
    fn span(&self, text: Text, ext: &mut Ext) -> Result<Span, FrameError> {
        if !text.escaped {
            return Ok(Span::header(text.start, text.end));
        }
        let owned = ext.owned_mut();
        let start = owned.len();
        unescape(&self.bytes[text.start..text.end], owned)?;
        Ok(Span::owned(start, owned.len()))
    }

    fn number(&mut self) -> Result<i32, FrameError> {
        let text = match self.scalar()? {
            Scalar::Null => return Ok(0),
            Scalar::Bare(start, end) => &self.bytes[start..end],
            Scalar::Text(text) => &self.bytes[text.start..text.end],
        };
        i32::parse(text).ok_or(NUMBER)
    }

    /// By name; by number too, as its byte in binary headers.
    fn language(&mut self) -> Result<Language, FrameError> {
        Ok(match self.scalar()? {
            Scalar::Null => Language::Java,
            Scalar::Text(text) => Language::from_name(&self.bytes[text.start..text.end]),
            Scalar::Bare(start, end) => parse_i64(&self.bytes[start..end])
                .and_then(|code| u8::try_from(code).ok())
                .map_or(Language::Other, Language::from_code),
        })
    }

    fn remark(&mut self) -> Result<Option<String>, FrameError> {
        let bytes = match self.scalar()? {
            Scalar::Null => return Ok(None),
            Scalar::Bare(start, end) => self.bytes[start..end].to_vec(),
            Scalar::Text(text) => {
                let mut plain = Vec::new();
                unescape(&self.bytes[text.start..text.end], &mut plain)?;
                plain
            }
        };
        Ok(Some(
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ))
    }

    /// A key and its colon.
    #[inline]
    fn key(&mut self) -> Result<Text, FrameError> {
        if self.peek()? != b'"' {
            return Err(SYNTAX);
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return Err(SYNTAX);
        }
        self.at += 1;
        Ok(key)
    }

    #[inline]
    fn scalar(&mut self) -> Result<Scalar, FrameError> {
        match self.peek()? {
            b'"' => self.string().map(Scalar::Text),
            b'{' | b'[' => {
                let start = self.at;
                self.skip(0)?;
                Ok(Scalar::Bare(start, self.at))
            }
            _ => self.literal(),
        }
    }

    /// A number, true, false or null.
    fn literal(&mut self) -> Result<Scalar, FrameError> {
        let start = self.at;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        self.at += self.bytes[start..].iter().take_while(|byte| is_part(byte)).count();
        match &self.bytes[start..self.at] {
            b"null" => Ok(Scalar::Null),
            b"true" | b"false" => Ok(Scalar::Bare(start, self.at)),
            [b'-' | b'0'..=b'9', rest @ ..] if !rest.iter().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E')) => {
                Ok(Scalar::Bare(start, self.at))
            }
            _ => Err(SYNTAX),
        }
    }

    /// A string; the scanner stands on its opening quote.
    #[inline]
    fn string(&mut self) -> Result<Text, FrameError> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = quote_or_backslash(self.bytes, at).ok_or(TRUNCATED)?;
            if self.bytes[at] == b'"' {
                break;
            }
            escaped = true;
            at += 2;
        }
        self.at = at + 1;
        Ok(Text { start, end: at, escaped })
    }

    fn skip(&mut self, depth: usize) -> Result<(), FrameError> {
        if depth == MAX_DEPTH {
            return Err(FrameError::Header("JSON nested too deep"));
        }
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.skip_object(depth),
            b'[' => self.skip_array(depth),
            _ => self.literal().map(drop),
        }
    }

    fn skip_object(&mut self, depth: usize) -> Result<(), FrameError> {
        let mut more = self.open(b'{', b'}')?;
        while more {
            self.key()?;
            self.skip(depth + 1)?;
            more = self.next(b'}')?;
        }
        Ok(())
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), FrameError> {
        let mut more = self.open(b'[', b']')?;
        while more {
            self.skip(depth + 1)?;
            more = self.next(b']')?;
        }
        Ok(())
    }

    /// Steps into an object or array; false when it is empty.
    fn open(&mut self, opening: u8, closing: u8) -> Result<bool, FrameError> {
        if self.peek()? != opening {
            return Err(SYNTAX);
        }
        self.at += 1;
        let empty = self.peek()? == closing;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// Steps over what follows a member: true after a comma, false after the closing bracket.
    #[inline]
    fn next(&mut self, closing: u8) -> Result<bool, FrameError> {
        let byte = self.peek()?;
        if byte != b',' && byte != closing {
            return Err(SYNTAX);
        }
        self.at += 1;
        Ok(byte == b',')
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Result<u8, FrameError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => {
                self.space();
                self.bytes.get(self.at).copied().ok_or(TRUNCATED)
            }
        }
    }

    fn space(&mut self) {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.at += self.bytes.get(self.at..).unwrap_or_default().iter().take_while(blank).count();
    }
}

/// Where the next quote or backslash stands. Most strings are short, so eight bytes at a time beat a vector search;
/// only long ones are handed to it.
#[inline]
fn quote_or_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    const SHORT: usize = 32;
    let mut at = from;
    while at < from + SHORT {
        let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
            return bytes
                .get(at..)?
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\'))
                .map(|found| at + found);
        };
        let word = u64::from_le_bytes(*word);
        let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', bytes.get(at..)?).map(|found| at + found)
}

/// The high bit of the lowest byte of `word` that equals `byte` is set; higher bytes may be marked wrongly, lower not.
#[inline]
fn bytes_equal(word: u64, byte: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zeros_where_equal = word ^ (ONES * u64::from(byte));
    zeros_where_equal.wrapping_sub(ONES) & !zeros_where_equal & HIGHS
}

/// Appends what `raw` stands for. A surrogate without its half becomes U+FFFD.
fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    out.reserve(raw.len());
    let mut rest = raw;
    while let Some(found) = rest.iter().position(|&byte| byte == b'\\') {
        out.extend_from_slice(&rest[..found]);
        let (&kind, after) = rest[found + 1..].split_first().ok_or(TRUNCATED)?;
        rest = after;
        match kind {
            b'"' | b'\\' | b'/' => out.push(kind),
            b'b' => out.push(8),
            b't' => out.push(b'\t'),
            b'n' => out.push(b'\n'),
            b'f' => out.push(12),
            b'r' => out.push(b'\r'),
            b'u' => rest = unescape_unit(rest, out)?,
            _ => return Err(FrameError::Header("unknown JSON escape")),
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// After `\u`: four hex digits, and the second half of a pair when these were the first.
fn unescape_unit<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], FrameError> {
    let (unit, rest) = hex_unit(rest)?;
    if unit < 0x80 {
        out.push(unit as u8);
        return Ok(rest);
    }
    let (point, rest) = match rest.strip_prefix(b"\\u") {
        Some(second) if (0xd800..0xdc00).contains(&unit) => {
            let (low, after) = hex_unit(second)?;
            if (0xdc00..0xe000).contains(&low) {
                (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), after)
            } else {
                (unit, rest)
            }
        }
        _ => (unit, rest),
    };
    let plain = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(rest)
}

#[inline]
fn hex_unit(bytes: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    let (digits, rest) = bytes.split_first_chunk::<4>().ok_or(TRUNCATED)?;
    let mut unit = 0;
    for &digit in digits {
        unit = unit << 4 | (digit as char).to_digit(16).ok_or(SYNTAX)?;
    }
    Ok((unit, rest))
}
