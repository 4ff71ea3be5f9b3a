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
        extend_ascii(hash, text.as_bytes())
    } else {
        text.encode_utf16().fold(hash, |h, unit| step(h, i32::from(unit)))
    }
}

fn step(hash: i32, unit: i32) -> i32 {
    hash.wrapping_mul(31).wrapping_add(unit)
}

/// Eight bytes at a time: their products do not wait for each other, as those of one byte after the other do.
fn extend_ascii(hash: i32, text: &[u8]) -> i32 {
    const POWERS: [i32; 9] = {
        let mut powers = [1i32; 9];
        let mut at = 1;
        while at < powers.len() {
            powers[at] = powers[at - 1].wrapping_mul(31);
            at += 1;
        }
        powers
    };
    let (chunks, rest) = text.as_chunks::<8>();
    let hash = chunks.iter().fold(hash, |hash, chunk| {
        let sum = (0..8).fold(0i32, |sum, at| sum.wrapping_add(POWERS[7 - at].wrapping_mul(i32::from(chunk[at]))));
        POWERS[8].wrapping_mul(hash).wrapping_add(sum)
    });
    rest.iter().fold(hash, |hash, byte| step(hash, i32::from(*byte)))
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
    fn a_long_hash_equals_the_hash_of_one_unit_after_the_other() {
        let text: String = ('!'..='~').cycle().take(200).collect();
        for (from, to) in (0..9)
            .flat_map(|from| (from..40).map(move |to| (from, to)))
            .chain([(0, 200), (3, 199)])
        {
            let units = text[from..to].encode_utf16();
            let one_by_one = units.fold(7, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
            assert_eq!(extend(7, &text[from..to]), one_by_one, "{from}..{to}");
        }
    }

    #[test]
    fn a_hash_can_be_continued() {
        assert_eq!(extend(extend(0, "topic"), "#key"), java_string_hash("topic#key"));
    }
}
