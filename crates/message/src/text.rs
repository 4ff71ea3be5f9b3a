//! Untrusted text: how Java reads bytes that are not UTF-8, and which characters may be printed.
//!
//! Clients whose system uses another charset (C++ clients on GBK) send tags and keys in it. The bytes are stored as they are;
//! hashes and comparisons use the text that the Java broker and Java consumers see, so that both find the same messages.
//!
//! Names, addresses, bodies and remarks reach logs and terminals. With a line end, an escape sequence or a character that reverses or
//! hides text, their authors could forge what is read there. So all code that prints them escapes them: [`line`],
//! [`lines`], [`json`] and [`brief`].

use std::borrow::Cow;
use std::fmt::Write;

/// The text that Java's `new String(bytes, UTF_8)` gives: each malformed sequence is one U+FFFD. Allocates only for bytes
/// that are not UTF-8.
#[must_use]
#[inline]
pub fn as_java_reads(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(replaced(bytes)),
    }
}

#[cold]
fn replaced(mut bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    while let Err(error) = std::str::from_utf8(bytes) {
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(valid).unwrap_or_default());
        text.push(char::REPLACEMENT_CHARACTER);
        // Java counts an encoded surrogate as one malformed sequence; Rust counts each of its bytes.
        let malformed = match rest {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            [0xed, 0xa0..=0xbf, ..] => 2,
            _ => error.error_len().unwrap_or(rest.len()),
        };
        bytes = &rest[malformed..];
    }
    text.push_str(std::str::from_utf8(bytes).unwrap_or_default());
    text
}

/// The text in one line without hidden characters: control characters, line ends, and
/// characters that have no width or change the direction of text are escaped as in Rust (`\\n`, `\\u{1b}`).
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, as_in_rust)
}

/// [`line`] of each line: line ends and tabs stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'), as_in_rust)
}

/// Maximum length of [`brief`] text in bytes, without its ellipsis.
const MAX_BRIEF: usize = 8 << 10;

/// [`line`], cut to a readable length: for remarks, which repeat what clients sent.
#[must_use]
pub fn brief(text: &str) -> Cow<'_, str> {
    let shown = line(&text[..text.floor_char_boundary(MAX_BRIEF)]);
    if shown.len() <= MAX_BRIEF && text.len() <= MAX_BRIEF {
        return shown;
    }
    Cow::Owned(format!("{}…", &shown[..shown.floor_char_boundary(MAX_BRIEF)]))
}

/// Equivalent JSON with hidden characters escaped. White space between its values stays.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t' | '\r'), as_in_json)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let Some((first, _)) = text.char_indices().find(|(_, c)| is_escaped(*c)) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len() + 32);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_escaped(c) {
            escape(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn as_in_rust(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Writing to a String cannot fail.
        other => drop(write!(out, "\\u{{{:x}}}", u32::from(other))),
    }
}

fn as_in_json(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// Control characters, and those that Unicode calls format characters, separators of lines, fillers and selectors.
fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        c,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured with Java 17 (`new String(bytes, StandardCharsets.UTF_8)`).
    #[test]
    fn malformed_bytes_become_what_java_makes_of_them() {
        let cases: [(&[u8], &str); 12] = [
            (b"", ""),
            ("消息😀".as_bytes(), "消息😀"),
            (b"\xb6\xa9\xb5\xa5", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xe8\xae\xa2\xb6\xa9z", "订\u{fffd}\u{fffd}z"),
            (b"ab\xe8\xae", "ab\u{fffd}"),
            (b"ab\xe8\xaeQ", "ab\u{fffd}Q"),
            (b"\xf0\x9f\x98Q", "\u{fffd}Q"),
            (b"\xc0\xafx", "\u{fffd}\u{fffd}x"),
            (b"\xf8\x88\x80\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xed\xa0\xbdx", "\u{fffd}x"),
            (b"\xed\xa0x", "\u{fffd}x"),
            (b"a\x80b", "a\u{fffd}b"),
        ];
        for (bytes, text) in cases {
            assert_eq!(as_java_reads(bytes), text, "{bytes:x?}");
        }
    }

    #[test]
    fn visible_characters_stay_and_the_rest_is_escaped() {
        let plain = "orders_1|%RETRY%g 消息 😀 é \u{fffd}\u{a0}";
        for shown in [line(plain), lines(plain), json(plain)] {
            assert!(matches!(shown, Cow::Borrowed(text) if text == plain));
        }
        let forged = "a\n2026 ERROR \u{1b}[2J\u{1b}]0;t\u{7}\r\tb\0\u{7f}\u{9b}31m\u{202e}exe.\u{200b}\u{2028}\u{feff}\u{e0041}";
        assert_eq!(
            line(forged),
            "a\\n2026 ERROR \\u{1b}[2J\\u{1b}]0;t\\u{7}\\r\\tb\\u{0}\\u{7f}\\u{9b}31m\\u{202e}exe.\\u{200b}\\u{2028}\\u{feff}\\u{e0041}"
        );
        assert_eq!(lines("a\n\tb\r\u{1b}[m"), "a\n\tb\\r\\u{1b}[m");
        assert_eq!(
            json("{\"a\":\"\\u001b\u{9b}\u{202e}\u{e0041}\"}\n"),
            "{\"a\":\"\\u001b\\u009b\\u202e\\udb40\\udc41\"}\n"
        );
    }

    #[test]
    fn brief_text_is_limited_after_escaping() {
        assert!(matches!(brief("topic[x] not exist"), Cow::Borrowed("topic[x] not exist")));
        for long in ["x".repeat(1 << 20), "\u{1}".repeat(MAX_BRIEF), "é".repeat(MAX_BRIEF)] {
            let text = brief(&long);
            assert!(text.ends_with('…') && text.len() <= MAX_BRIEF + '…'.len_utf8(), "{}", text.len());
        }
        assert_eq!(brief(&"x".repeat(MAX_BRIEF)).len(), MAX_BRIEF);
    }

    proptest::proptest! {
        #[test]
        fn nothing_hidden_is_left(text in "(.|[\\x00-\\x1f\\x7f-\\u{a0}\u{2000}-\u{206f}]){0,40}") {
            assert!(!line(&text).chars().any(is_hidden));
            assert!(!lines(&text).chars().any(|c| is_hidden(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn text_stays_as_it_is_and_other_bytes_become_text(text in ".*", bytes: Vec<u8>) {
            assert_eq!(as_java_reads(text.as_bytes()), text.as_str());
            let _ = as_java_reads(&bytes);
        }
    }
}
