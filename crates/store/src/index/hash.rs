//! The hashes under which keys are indexed: Java's hash of `topic#key`, without the sign; of `topic#T#tag` for a tag.
//!
//! Nothing is allocated: the hash of a string continues from the hash of its beginning.

use message::hash::extend;

/// The hash under which a key of a topic is indexed.
#[must_use]
pub(crate) fn key_hash(topic: &str, key: &str) -> i32 {
    positive(extend(of_topic(topic), key))
}

/// The hash under which a tag of a topic is indexed (since Apache 5.5).
#[must_use]
pub(crate) fn tag_hash(topic: &str, tag: &str) -> i32 {
    positive(extend(extend(of_topic(topic), "T#"), tag))
}

/// Calls `each` with the hashes under which a record is indexed, in Apache's order: the unique key, each word of the keys, the tag.
/// Empty strings are skipped. The caller skips records that roll a transaction back, which are not indexed.
pub(crate) fn key_hashes(topic: &str, unique_key: &str, keys: &str, tags: &str, mut each: impl FnMut(i32)) {
    let topic = of_topic(topic);
    if !unique_key.is_empty() {
        each(positive(extend(topic, unique_key)));
    }
    keys.split(' ')
        .filter(|key| !key.is_empty())
        .for_each(|key| each(positive(extend(topic, key))));
    if !tags.is_empty() {
        each(positive(extend(extend(topic, "T#"), tags)));
    }
}

fn of_topic(topic: &str) -> i32 {
    extend(extend(0, topic), "#")
}

/// Java's `abs`, with 0 for its one negative result.
fn positive(hash: i32) -> i32 {
    hash.checked_abs().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::hash::java_string_hash;

    #[test]
    fn hashes_are_those_of_the_joined_text() {
        let mut hashes = Vec::new();
        key_hashes("topic", "C0A8", " a  主 ", "tag", |hash| hashes.push(hash));
        let texts = ["topic#C0A8", "topic#a", "topic#主", "topic#T#tag"];
        assert_eq!(hashes, texts.map(|text| java_string_hash(text).abs()));
        assert_eq!((key_hash("topic", "a"), tag_hash("topic", "tag")), (hashes[1], hashes[3]));
        key_hashes("t", "", "", "", |_| panic!("nothing to index"));
    }

    #[test]
    fn hash_without_a_positive_counterpart_is_zero() {
        assert_eq!(positive(i32::MIN), 0);
        assert_eq!(positive(-5), 5);
    }
}
