//! The JSON header, read in one pass.
//!
//! A general JSON parser would build a map of strings that the broker reads once. This one records the positions of keys and
//! values and copies only text with escapes. It is as lenient as clients need: unknown keys of any shape are
//! skipped, numbers may be quoted, ext values may be bare numbers and booleans, null means absent. Raw control
//! characters and bytes that are not UTF-8 within strings are accepted. A header that this parser refuses is parsed again as
//! fastjson would ([`crate::json`]), which accepts other notations and types.
//!
//! Nesting deeper than [`MAX_DEPTH`] is malformed.

use super::{Frame, FrameError};
use crate::ext::{Ext, MAX_FIELDS, Span};
use crate::json::lenient::{self, Node};
use crate::language::Language;
use crate::number::{Integer, parse_i64};
use std::borrow::Cow;

/// Maximum length of a header that is parsed as fastjson would, which takes more memory than the header. The longest properties,
/// escaped, fit.
const MAX_LENIENT: usize = 256 * 1024;

/// Maximum nesting of skipped values.
const MAX_DEPTH: usize = 32;

const TRUNCATED: FrameError = FrameError::Header("JSON ends early");
const SYNTAX: FrameError = FrameError::Header("not JSON");
const TOO_MANY: FrameError = FrameError::Header("too many ext fields");
const NUMBER: FrameError = FrameError::Header("a number was expected");

pub(super) fn decode(header: &[u8], frame: &mut Frame) -> Result<(), FrameError> {
    walk(header, frame).or_else(|refused| {
        *frame = decode_leniently(header).ok_or(refused)?;
        Ok(())
    })
}

/// Decodes the header as fastjson would; `None` if that fails, too.
#[cold]
fn decode_leniently(header: &[u8]) -> Option<Frame> {
    if header.len() > MAX_LENIENT {
        return None;
    }
    let Node::Object(members) = lenient::parse(header).ok()? else {
        return None;
    };
    let text = |name: &str| members.get(name).filter(|value| **value != Node::Null).map(Node::text);
    let integer = |name: &str| members.get(name).map_or(Some(0), Node::integer_32);
    let mut frame = Frame {
        code: integer("code")?,
        flag: integer("flag")?,
        opaque: integer("opaque")?,
        version: integer("version")?,
        language: text("language").map_or(Language::Java, |name| Language::from_name(name.as_bytes())),
        remark: text("remark").map(Cow::into_owned),
        ..Frame::blank()
    };
    let fields = match members.get("extFields") {
        Some(Node::Object(fields)) if fields.len() <= MAX_FIELDS => fields,
        Some(Node::Null) | None => return Some(frame),
        Some(Node::Text(text)) if text.is_empty() => return Some(frame),
        Some(_) => return None,
    };
    for (name, value) in fields.iter().filter(|(_, value)| **value != Node::Null) {
        frame.ext.push(name, &*value.text());
    }
    Some(frame)
}

fn walk(header: &[u8], frame: &mut Frame) -> Result<(), FrameError> {
    let mut scan = Scanner { bytes: header, at: 0 };
    let mut more = scan.open(b'{', b'}')?;
    while more {
        let key = scan.key()?;
        scan.member(key, frame)?;
        more = scan.next(b'}')?;
    }
    scan.space();
    if scan.at == header.len() { Ok(()) } else { Err(SYNTAX) }
}

/// Where the value of the opaque is in a header, as its last member of this name says; `None` if it has none, or is not plain JSON.
pub(super) fn opaque_of(header: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut scan = Scanner { bytes: header, at: 0 };
    let mut found = None;
    let mut more = scan.open(b'{', b'}').ok()?;
    while more {
        let key = scan.key().ok()?;
        scan.peek().ok()?;
        let start = scan.at;
        scan.skip(0).ok()?;
        if &header[key.start..key.end] == b"opaque" {
            found = Some(start..scan.at);
        }
        more = scan.next(b'}').ok()?;
    }
    found
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
            if self.plain_fields(ext)? {
                return Ok(());
            }
            let key = self.key()?;
            let value = self.scalar()?;
            self.field(key, &value, ext)?;
            more = self.next(b'}')?;
        }
        Ok(())
    }

    /// Fast path: reads pairs of strings without white space between them, as all clients write them. Returns true if the object
    /// ended with them. Anything else is left, from its key on, to the general path.
    fn plain_fields(&mut self, ext: &mut Ext) -> Result<bool, FrameError> {
        let bytes = self.bytes;
        let mut at = self.at;
        while bytes.get(at) == Some(&b'"') {
            let key = at + 1;
            let Some(key_end) = plain_key_end(bytes, key) else { break };
            let value = key_end + 3;
            let Some(mut end) = quote_or_backslash(bytes, value) else { break };
            let mut span = Span::header(value, end);
            if bytes[end] == b'\\' {
                let owned = ext.owned_mut();
                let start = owned.len();
                end = unescape(bytes, value, owned)?;
                span = Span::owned(start, owned.len());
            }
            // Before anything is stored, so that the general path starts from a clean state.
            let closed = match bytes.get(end + 1) {
                Some(b',') => false,
                Some(b'}') => true,
                _ => break,
            };
            if !ext.push_span(Span::header(key, key_end), span) {
                return Err(TOO_MANY);
            }
            at = end + 2;
            self.at = at;
            if closed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[inline]
    fn field(&self, key: Text, value: &Scalar, ext: &mut Ext) -> Result<(), FrameError> {
        let value = match *value {
            Scalar::Null => return Ok(()),
            Scalar::Bare(start, end) => Span::header(start, end),
            Scalar::Text(text) => self.span(text, ext)?,
        };
        let key = self.span(key, ext)?;
        if ext.push_span(key, value) { Ok(()) } else { Err(TOO_MANY) }
    }

    #[inline]
    fn span(&self, text: Text, ext: &mut Ext) -> Result<Span, FrameError> {
        if !text.escaped {
            return Ok(Span::header(text.start, text.end));
        }
        let owned = ext.owned_mut();
        let start = owned.len();
        unescape(self.bytes, text.start, owned)?;
        Ok(Span::owned(start, owned.len()))
    }

    #[inline]
    fn number(&mut self) -> Result<i32, FrameError> {
        match self.plain_number() {
            Some(number) => Ok(number),
            None => self.unusual_number(),
        }
    }

    /// Fast path: up to nine digits followed by a comma or bracket, as every client writes numbers.
    #[inline]
    fn plain_number(&mut self) -> Option<i32> {
        let digits = self.bytes.get(self.at..)?;
        let mut number = 0;
        for (len, byte) in digits.iter().take(10).enumerate() {
            match byte {
                b'0'..=b'9' if len < 9 => number = number * 10 + i32::from(byte - b'0'),
                b',' | b'}' if len > 0 => {
                    self.at += len;
                    return Some(number);
                }
                _ => return None,
            }
        }
        None
    }

    fn unusual_number(&mut self) -> Result<i32, FrameError> {
        let text = match self.scalar()? {
            Scalar::Null => return Ok(0),
            Scalar::Bare(start, end) => &self.bytes[start..end],
            Scalar::Text(text) => &self.bytes[text.start..text.end],
        };
        i32::parse(text).ok_or(NUMBER)
    }

    /// By name, or by the number that binary headers use.
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
                unescape(self.bytes, text.start, &mut plain)?;
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

    /// A string; the scanner is at its opening quote.
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

    /// Enters an object or array; returns false if it is empty.
    fn open(&mut self, opening: u8, closing: u8) -> Result<bool, FrameError> {
        if self.peek()? != opening {
            return Err(SYNTAX);
        }
        self.at += 1;
        let empty = self.peek()? == closing;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// Consumes what follows a member: returns true after a comma, false after the closing bracket.
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

/// End of a key without escapes whose value is a string, without white space around the colon.
#[inline]
fn plain_key_end(bytes: &[u8], key: usize) -> Option<usize> {
    const BETWEEN: &[u8; 3] = b"\":\"";
    // A letter is nearly always the whole key: sends have such keys. (A quote is not: that key is empty.)
    if let [letter, between @ ..] = bytes.get(key..)?.first_chunk::<4>()?
        && between == BETWEEN
        && !matches!(letter, b'"' | b'\\')
    {
        return Some(key + 1);
    }
    let end = quote_or_backslash(bytes, key)?;
    (bytes.get(end..)?.first_chunk::<3>()? == BETWEEN).then_some(end)
}

/// Position of the next quote or backslash. Most strings are short, so eight bytes at a time are faster than `memchr`,
/// which is used for long ones.
#[inline]
fn quote_or_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    const SHORT: usize = 48;
    let mut at = from;
    while at < from + SHORT {
        let Some(word) = word_at(bytes, at) else {
            return bytes
                .get(at..)?
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\'))
                .map(|found| at + found);
        };
        let marks = marks(word);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', bytes.get(at..)?).map(|found| at + found)
}

#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..at + 8)
        .and_then(<[u8]>::first_chunk::<8>)
        .map(|word| u64::from_le_bytes(*word))
}

/// The high bit of the lowest byte that is a quote or backslash is set; higher bytes may be marked wrongly, lower not.
#[inline]
pub(super) fn marks(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    ((quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash)) & HIGHS
}

/// Appends the unescaped string from `at` to its closing quote; returns the position of that quote. A lone surrogate
/// becomes a question mark, as Java stores it.
///
/// Every send passes its properties through here, so plain bytes are copied a word at a time.
fn unescape(bytes: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, FrameError> {
    const USUAL: usize = 1024;
    out.reserve((bytes.len() - at).min(USUAL));
    loop {
        at = copy_plain(bytes, at, out)?;
        if bytes[at] == b'"' {
            return Ok(at);
        }
        at = match bytes.get(at + 1..).and_then(<[u8]>::first_chunk::<5>) {
            // Property separators: by far the most frequent escapes.
            Some(b"u0001") => push(out, 1, at + 6),
            Some(b"u0002") => push(out, 2, at + 6),
            _ => unescape_one(bytes, at + 1, out)?,
        };
    }
}

#[inline]
fn push(out: &mut Vec<u8>, byte: u8, next: usize) -> usize {
    out.push(byte);
    next
}

/// Copies up to the next quote or backslash and returns its position.
#[inline]
fn copy_plain(bytes: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, FrameError> {
    while let Some(word) = word_at(bytes, at) {
        let marks = marks(word);
        out.extend_from_slice(&word.to_le_bytes());
        if marks != 0 {
            let plain = marks.trailing_zeros() as usize / 8;
            out.truncate(out.len() - 8 + plain);
            return Ok(at + plain);
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(TRUNCATED)?;
    out.extend_from_slice(&rest[..plain]);
    Ok(at + plain)
}

/// Reads the escape whose kind is at `at`; returns where it ends.
fn unescape_one(bytes: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, FrameError> {
    let plain = match bytes.get(at).ok_or(TRUNCATED)? {
        b'u' => return unescape_unit(bytes, at + 1, out),
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'f' => 12,
        b'r' => b'\r',
        kind @ (b'"' | b'\\' | b'/') => *kind,
        _ => return Err(FrameError::Header("unknown JSON escape")),
    };
    Ok(push(out, plain, at + 1))
}

/// After `\u`: four hex digits, and the second half of a pair when these were the first.
fn unescape_unit(bytes: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, FrameError> {
    let unit = hex_unit(bytes, at)?;
    let (mut point, mut next) = (unit, at + 4);
    if (0xd800..0xdc00).contains(&unit) && bytes.get(next..next + 2) == Some(b"\\u") {
        let low = hex_unit(bytes, next + 2)?;
        if (0xdc00..0xe000).contains(&low) {
            point = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            next += 6;
        }
    }
    let plain = char::from_u32(point).unwrap_or('?');
    out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(next)
}

fn hex_unit(bytes: &[u8], at: usize) -> Result<u32, FrameError> {
    let digits = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(TRUNCATED)?;
    let mut unit = 0;
    for &digit in digits {
        unit = unit << 4 | (digit as char).to_digit(16).ok_or(SYNTAX)?;
    }
    Ok(unit)
}
