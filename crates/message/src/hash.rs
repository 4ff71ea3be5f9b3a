//! Java's `String.hashCode`, which Apache stores as a tag's code and uses for key index slots.

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
#[must_use]
pub fn java_string_hash(text: &str) -> i32 {
    extend(0, text)
}

/// Continues a hash with more text: `extend(extend(0, a), b)` is the hash of `a + b`.
#[must_use]
pub fn extend(hash: i32, text: &str) -> i32 {
    if text.is_ascii() {
        text.bytes().fold(hash, |h, b| h.wrapping_mul(31).wrapping_add(i32::from(b)))
    } else {
        text.encode_utf16()
            .fold(hash, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)))
    }
}

/// The tag code of a queue entry: the tag's hash, widened to 64 bits; 0 for no tag.
#[must_use]
pub fn tags_code(tags: &str) -> i64 {
    if tags.is_empty() { 0 } else { i64::from(java_string_hash(tags)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_equal_javas() {
        assert_eq!(java_string_hash(""), 0);
        assert_eq!(java_string_hash("TagA"), 2_598_919);
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_string_hash("消息😀"), {
            let units = [0x6d88u16, 0x606f, 0xd83d, 0xde00];
            units.iter().fold(0i32, |h, u| h.wrapping_mul(31).wrapping_add(i32::from(*u)))
        });
    }

    #[test]
    fn a_hash_can_be_continued() {
        assert_eq!(extend(extend(0, "topic"), "#key"), java_string_hash("topic#key"));
    }
}
