//! Bytes of others as text: what a Java program reads where bytes are not UTF-8.
//!
//! Clients whose system uses another charset (C++ clients on GBK) send tags and keys in it. The bytes are stored as they are;
//! hashes and comparisons use the text that the Java broker and Java consumers see, so that both find the same messages.

use std::borrow::Cow;

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

    proptest::proptest! {
        #[test]
        fn text_stays_as_it_is_and_other_bytes_become_text(text in ".*", bytes: Vec<u8>) {
            assert_eq!(as_java_reads(text.as_bytes()), text.as_str());
            let _ = as_java_reads(&bytes);
        }
    }
}
