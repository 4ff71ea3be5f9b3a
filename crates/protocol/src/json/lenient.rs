//! The lenient parser: accepts the output of fastjson, Go, C++ and hand-written clients that strict JSON refuses.
//!
//! It accepts what fastjson2 (Apache 5.5) accepts, measured form by form: single quotes, trailing and missing commas,
//! comments, raw control characters, its escapes, numbers with a plus sign, leading zeros, a bare point or a type suffix; of
//! equal keys the last one counts. Beyond that, names without quotes, as fastjson 1 (Apache 4). Bytes that are not UTF-8 are
//! the text that Java reads. Conversion to the type of a field is in `coerce.rs`.
//!
//! Depth and number of values are limited, because a value takes far more memory than its text.

use message::text;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Maximum nesting.
const MAX_DEPTH: usize = 64;
/// Maximum number of values, names and elements together.
pub(super) const MAX_NODES: usize = 1 << 20;

/// Parsing failed. The error of the strict parser is reported, because it is more precise.
#[derive(Debug)]
pub(crate) struct Refused;

/// A parsed value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    /// A number's text, without a type suffix.
    Number(&'a str),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// Members by name; a number or object as name is its text.
    Object(BTreeMap<Cow<'a, str>, Node<'a>>),
}

pub(crate) fn parse(body: &[u8]) -> Result<Node<'_>, Refused> {
    let mut parser = Parser { rest: body, nodes: 0 };
    let value = parser.value(0)?;
    parser.took(b',');
    if parser.peek().is_some() { Err(Refused) } else { Ok(value) }
}

struct Parser<'a> {
    rest: &'a [u8],
    nodes: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Node<'a>, Refused> {
        self.nodes += 1;
        if depth == MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(Refused);
        }
        match self.peek().ok_or(Refused)? {
            b'{' => self.object(depth).map(Node::Object),
            b'[' => self.array(depth).map(Node::Array),
            quote @ (b'"' | b'\'') => self.string(quote).map(Node::Text),
            _ => self.literal(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<BTreeMap<Cow<'a, str>, Node<'a>>, Refused> {
        let mut members = BTreeMap::new();
        self.take(b'{')?;
        while !self.took(b'}') {
            let key = self.key(depth)?;
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            members.insert(key, value);
            self.took(b',');
        }
        Ok(members)
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node<'a>>, Refused> {
        let mut elements = Vec::new();
        self.take(b'[')?;
        while !self.took(b']') {
            elements.push(self.value(depth + 1)?);
            self.took(b',');
        }
        Ok(elements)
    }

    fn key(&mut self, depth: usize) -> Result<Cow<'a, str>, Refused> {
        match self.peek().ok_or(Refused)? {
            quote @ (b'"' | b'\'') => self.string(quote),
            b'{' => {
                let from = self.rest;
                self.value(depth + 1)?;
                Ok(text::as_java_reads(&from[..from.len() - self.rest.len()]))
            }
            _ => self.bare().map(Cow::Borrowed),
        }
    }

    fn string(&mut self, quote: u8) -> Result<Cow<'a, str>, Refused> {
        let body = &self.rest[1..];
        let end = memchr::memchr2(quote, b'\\', body).ok_or(Refused)?;
        if body[end] == quote {
            self.rest = &body[end + 1..];
            return Ok(text::as_java_reads(&body[..end]));
        }
        let mut plain = Vec::with_capacity(end + 32);
        self.rest = body;
        loop {
            let end = memchr::memchr2(quote, b'\\', self.rest).ok_or(Refused)?;
            plain.extend_from_slice(&self.rest[..end]);
            let is_end = self.rest[end] == quote;
            self.rest = &self.rest[end + 1..];
            if is_end {
                return Ok(Cow::Owned(text::as_java_reads(&plain).into_owned()));
            }
            self.escape(&mut plain)?;
        }
    }

    /// Reads an escape, from its kind on.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Refused> {
        let (kind, rest) = self.rest.split_first().ok_or(Refused)?;
        self.rest = rest;
        let byte = match kind {
            b'u' => return self.unit(out),
            b'x' => self.hex(2)? as u8,
            b'0'..=b'7' => kind - b'0',
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 11,
            b'f' | b'F' => 12,
            b'r' => b'\r',
            b'"' | b'\'' | b'\\' | b'/' | b'#' | b'&' | b'(' | b')' | b'[' | b']' | b'@' | b',' | b'.' | b'_' | b'~' => *kind,
            _ => return Err(Refused),
        };
        // A byte of `\x` is a character, not a part of one.
        out.extend_from_slice(char::from(byte).encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// Reads a UTF-16 unit, or a surrogate pair. A lone surrogate becomes a question mark, as in Java.
    fn unit(&mut self, out: &mut Vec<u8>) -> Result<(), Refused> {
        let unit = self.hex(4)?;
        let mut point = unit;
        if (0xd800..0xdc00).contains(&unit) && self.rest.starts_with(b"\\u") {
            let behind = self.rest;
            self.rest = &behind[2..];
            let low = self.hex(4)?;
            if (0xdc00..0xe000).contains(&low) {
                point = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            } else {
                self.rest = behind;
            }
        }
        let plain = char::from_u32(point).unwrap_or('?');
        out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn hex(&mut self, digits: usize) -> Result<u32, Refused> {
        let (own, rest) = self.rest.split_at_checked(digits).ok_or(Refused)?;
        self.rest = rest;
        own.iter().try_fold(0, |unit, &digit| {
            let digit = char::from(digit).to_digit(16).ok_or(Refused)?;
            Ok(unit << 4 | digit)
        })
    }

    fn literal(&mut self) -> Result<Node<'a>, Refused> {
        match self.bare()? {
            "null" => Ok(Node::Null),
            "true" => Ok(Node::Bool(true)),
            "false" => Ok(Node::Bool(false)),
            number => without_suffix(number).map(Node::Number).ok_or(Refused),
        }
    }

    fn bare(&mut self) -> Result<&'a str, Refused> {
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_' | b'$');
        self.peek();
        let len = self.rest.iter().take_while(is_part).count();
        if len == 0 {
            return Err(Refused);
        }
        let (bare, rest) = self.rest.split_at(len);
        self.rest = rest;
        std::str::from_utf8(bare).map_err(|_| Refused)
    }

    /// The next byte that is neither blank nor part of a comment.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 8 | 12 | 0);
            self.rest = &self.rest[self.rest.iter().take_while(is_blank).count()..];
            let end = match self.rest {
                [b'/', b'/', ..] => memchr::memchr(b'\n', self.rest),
                [b'/', b'*', comment @ ..] => memchr::memmem::find(comment, b"*/").map(|at| at + 3),
                _ => return self.rest.first().copied(),
            };
            self.rest = end.map_or(&[], |end| &self.rest[end + 1..]);
        }
    }

    fn took(&mut self, byte: u8) -> bool {
        let took = self.peek() == Some(byte);
        if took {
            self.rest = &self.rest[1..];
        }
        took
    }

    fn take(&mut self, byte: u8) -> Result<(), Refused> {
        if self.took(byte) { Ok(()) } else { Err(Refused) }
    }
}

/// A number without the suffix that fastjson writes for its type; `None` if it is not a number. fastjson reads a lone minus
/// sign as zero.
fn without_suffix(word: &str) -> Option<&str> {
    let number = word.strip_suffix(['L', 'S', 'B', 'D', 'F']).unwrap_or(word);
    let is_number =
        number == "-" || number == "NaN" || number.starts_with(|first: char| !first.is_alphabetic()) && number.parse::<f64>().is_ok();
    is_number.then_some(number)
}
