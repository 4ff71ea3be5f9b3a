//! The lenient parser: what strict JSON refuses of fastjson's, Go's and C++'s output.
//!
//! Beyond JSON it takes bare integer keys and object keys (kept as the object's JSON text), and leaves null members out.
//! Bounded in depth and in values, since a value costs far more memory than the bytes it was written in.

use serde_json::{Map, Number, Value};

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most values, names and elements together.
pub(super) const MAX_NODES: usize = 1 << 20;

/// Why parsing stopped; the strict reader's error says it better.
#[derive(Debug)]
pub(super) struct Refused;

pub(super) fn parse(body: &[u8]) -> Result<Value, Refused> {
    let mut parser = Parser { rest: body, nodes: 0 };
    let value = parser.value(0)?;
    if parser.peek().is_some() { Err(Refused) } else { Ok(value) }
}

struct Parser<'a> {
    rest: &'a [u8],
    nodes: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Refused> {
        self.nodes += 1;
        if depth == MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(Refused);
        }
        match self.peek().ok_or(Refused)? {
            b'{' => self.object(depth).map(Value::Object),
            b'[' => self.array(depth).map(Value::Array),
            b'"' => self.string().map(Value::String),
            _ => self.literal(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Map<String, Value>, Refused> {
        let mut members = Map::new();
        self.take(b'{')?;
        while !self.took(b'}') {
            let key = self.key(depth)?;
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            if !value.is_null() {
                members.insert(key, value);
            }
            if self.peek() != Some(b'}') {
                self.take(b',')?;
            }
        }
        Ok(members)
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value>, Refused> {
        let mut elements = Vec::new();
        self.take(b'[')?;
        while !self.took(b']') {
            elements.push(self.value(depth + 1)?);
            if self.peek() != Some(b']') {
                self.take(b',')?;
            }
        }
        Ok(elements)
    }

    fn key(&mut self, depth: usize) -> Result<String, Refused> {
        match self.peek().ok_or(Refused)? {
            b'"' => self.string(),
            b'{' => Ok(self.value(depth + 1)?.to_string()),
            _ => Ok(String::from_utf8_lossy(self.bare()?).into_owned()),
        }
    }

    /// Finds the closing quote; serde_json undoes the escapes.
    fn string(&mut self) -> Result<String, Refused> {
        let mut at = 1;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.rest.get(at..).ok_or(Refused)?).ok_or(Refused)?;
            if self.rest[at] == b'"' {
                break;
            }
            at += 2;
        }
        let (quoted, rest) = self.rest.split_at(at + 1);
        self.rest = rest;
        serde_json::from_slice(quoted).map_err(|_| Refused)
    }

    fn literal(&mut self) -> Result<Value, Refused> {
        match self.bare()? {
            b"null" => Ok(Value::Null),
            b"true" => Ok(Value::Bool(true)),
            b"false" => Ok(Value::Bool(false)),
            number => serde_json::from_slice::<Number>(number).map(Value::Number).map_err(|_| Refused),
        }
    }

    fn bare(&mut self) -> Result<&[u8], Refused> {
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_' | b'$');
        self.peek();
        let len = self.rest.iter().take_while(is_part).count();
        if len == 0 {
            return Err(Refused);
        }
        let (bare, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(bare)
    }

    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
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
