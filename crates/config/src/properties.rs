//! Java's properties format, in which Apache's configuration files and request bodies are written.
//!
//! The grammar, complete:
//! * A line ends at LF, CR or CRLF. Blanks, tabs and form feeds before the first other character do not count.
//! * A line whose first character is `#` or `!` is a comment, to its end; a backslash does not continue it.
//! * A line that ends in an odd number of backslashes continues on the next one, whose leading blanks do not count.
//! * The key ends at the first unescaped `=`, `:` or blank. Blanks around it and one `=` or `:` are skipped; the rest is the value.
//! * `\t \n \r \f \uXXXX` are those characters (`\u` in UTF-16 units); a backslash before anything else disappears.
//!
//! Every entry knows its line, so that a refusal can name it. The text is read as UTF-8, or as ISO 8859-1 (Java's choice) if it
//! is not UTF-8. Not here: what keys mean.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// Maximum length of a text in bytes; a configuration has a few pages.
pub const MAX_BYTES: usize = 1 << 20;

/// One key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key, unescaped.
    pub key: String,
    /// Value, unescaped; blanks at its end are kept.
    pub value: String,
    /// Line of the key, from 1.
    pub line: usize,
}

/// Why a text cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Larger than [`MAX_BYTES`].
    #[error("the configuration has {0} bytes, at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// A `\u` without four hexadecimal digits.
    #[error("line {0}: \\u needs four hexadecimal digits")]
    BadEscape(usize),
}

/// Parses the bytes of a file or body.
///
/// # Errors
/// [`ParseError`] if it is too long or an escape is malformed.
pub fn parse_bytes(bytes: &[u8]) -> Result<Vec<Entry>, ParseError> {
    if bytes.len() > MAX_BYTES {
        return Err(ParseError::TooLong(bytes.len()));
    }
    parse(&decode(bytes))
}

fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// Parses text. Entries are in the order of the text; a repeated key has several entries, of which the last one counts.
///
/// # Errors
/// [`ParseError`] if an escape is malformed.
pub fn parse(text: &str) -> Result<Vec<Entry>, ParseError> {
    logical_lines(text).into_iter().map(|(line, text)| entry(&text, line)).collect()
}

/// Lines with continuations joined, without comments and empty lines, each with its number.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, natural) in natural_lines(text).enumerate() {
        let trimmed = natural.trim_start_matches(BLANKS);
        if open.is_none() && (trimmed.is_empty() || trimmed.starts_with(['#', '!'])) {
            continue;
        }
        let (_, joined) = open.get_or_insert_with(|| (number + 1, String::new()));
        joined.push_str(trimmed);
        if ends_in_odd_backslashes(joined) {
            joined.pop();
        } else {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn entry(text: &str, line: usize) -> Result<Entry, ParseError> {
    let mut chars = text.chars().peekable();
    let key = unescape_until(&mut chars, line, |c| BLANKS.contains(&c) || c == '=' || c == ':')?;
    skip_blanks(&mut chars);
    if chars.next_if(|&c| c == '=' || c == ':').is_some() {
        skip_blanks(&mut chars);
    }
    let value = unescape_until(&mut chars, line, |_| false)?;
    Ok(Entry { key, value, line })
}

fn skip_blanks(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| BLANKS.contains(c)).is_some() {}
}

fn unescape_until(chars: &mut Peekable<Chars<'_>>, line: usize, ends: impl Fn(char) -> bool) -> Result<String, ParseError> {
    let mut out = String::new();
    while let Some(c) = chars.next_if(|&c| !ends(c)) {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => out.push(utf16_escape(chars, line)?),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// One character from `\uXXXX`, or from a surrogate pair of two of them. A lone surrogate becomes U+FFFD.
fn utf16_escape(chars: &mut Peekable<Chars<'_>>, line: usize) -> Result<char, ParseError> {
    let first = four_hex_digits(chars, line)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Ok(char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    let mut ahead = chars.clone();
    if ahead.next() != Some('\\') || ahead.next() != Some('u') {
        return Ok(char::REPLACEMENT_CHARACTER);
    }
    let second = four_hex_digits(&mut ahead, line)?;
    let decoded = char::decode_utf16([first, second]).next();
    match decoded {
        Some(Ok(c)) => {
            *chars = ahead;
            Ok(c)
        }
        _ => Ok(char::REPLACEMENT_CHARACTER),
    }
}

fn four_hex_digits(chars: &mut Peekable<Chars<'_>>, line: usize) -> Result<u16, ParseError> {
    let mut value = 0u16;
    for _ in 0..4 {
        let digit = chars
            .next()
            .and_then(|c| c.to_digit(16))
            .and_then(|digit| u16::try_from(digit).ok());
        value = value << 4 | digit.ok_or(ParseError::BadEscape(line))?;
    }
    Ok(value)
}

/// Appends `key=value` and a line feed, escaped so that [`parse`] and Java read the same values. Characters outside ASCII become `\uXXXX`.
pub fn write_line(out: &mut String, key: &str, value: &str) {
    escape(out, key, true);
    out.push('=');
    escape(out, value, false);
    out.push('\n');
}

fn escape(out: &mut String, text: &str, is_key: bool) {
    for (position, c) in text.chars().enumerate() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            '\\' => out.push_str("\\\\"),
            ' ' if is_key || position == 0 => out.push_str("\\ "),
            '=' | ':' | '#' | '!' if is_key => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ => escape_utf16(out, c),
        }
    }
}

fn escape_utf16(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{unit:04X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn equals_colon_and_blank_all_separate() {
        for text in ["a=b", "a:b", "a b", "  a \t=  b", "a : b", "a\tb", "a\u{c}=b"] {
            assert_eq!(pairs(text), [pair("a", "b")], "{text:?}");
        }
    }

    #[test]
    fn only_one_separator_is_skipped() {
        assert_eq!(pairs("a == b"), [pair("a", "= b")]);
        assert_eq!(pairs("namesrvAddr=h1:9876;h2:9876"), [pair("namesrvAddr", "h1:9876;h2:9876")]);
    }

    #[test]
    fn a_key_without_value_is_empty() {
        assert_eq!(pairs("a\nb=\n  c  "), [pair("a", ""), pair("b", ""), pair("c", "")]);
    }

    #[test]
    fn comments_and_empty_lines_are_skipped_and_do_not_continue() {
        assert_eq!(pairs("# a=b\\\n  ! c=d\n\n \t\nx=y"), [pair("x", "y")]);
    }

    #[test]
    fn a_backslash_at_the_end_continues_without_leading_blanks() {
        assert_eq!(pairs("a=b\\\n   c\\\n\td"), [pair("a", "bcd")]);
        assert_eq!(pairs("a=b\\\\\nc=d"), [pair("a", "b\\"), pair("c", "d")]);
        assert_eq!(pairs("a=b\\"), [pair("a", "b")]);
        assert_eq!(pairs("a=b\\\n# not a comment"), [pair("a", "b# not a comment")]);
    }

    #[test]
    fn escapes_are_undone_in_keys_and_values() {
        assert_eq!(pairs(r"a\=b\ c=\t\n\u00e9\q"), [pair("a=b c", "\t\n\u{e9}q")]);
        assert_eq!(pairs(r"a=\uD83D\uDE00"), [pair("a", "\u{1f600}")]);
        assert_eq!(pairs(r"a=\uD83Dx"), [pair("a", "\u{fffd}x")]);
    }

    #[test]
    fn a_malformed_escape_names_its_line() {
        assert_eq!(parse("a=1\nb=\\u12"), Err(ParseError::BadEscape(2)));
    }

    #[test]
    fn lines_are_counted_from_the_key() {
        let entries = parse("# one\r\n\r\na=b\\\r\n c\r\nd=e").unwrap();
        assert_eq!(entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_latin1_as_java_reads_them() {
        assert_eq!(parse_bytes(b"a=\xe9").unwrap()[0].value, "\u{e9}");
        assert_eq!(parse_bytes("a=\u{e9}".as_bytes()).unwrap()[0].value, "\u{e9}");
    }

    #[test]
    fn too_long_a_text_is_refused() {
        assert!(matches!(parse_bytes(&vec![b'a'; MAX_BYTES + 1]), Err(ParseError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(key in "\\PC{1,12}", value in any::<String>()) {
            let mut text = String::new();
            write_line(&mut text, &key, &value);
            prop_assert_eq!(pairs(&text), [pair(&key, &value)]);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_bytes(&bytes);
        }
    }
}
