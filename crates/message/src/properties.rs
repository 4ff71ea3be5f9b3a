//! The property string of a record: `name 0x01 value 0x02`, repeated.
//!
//! It stays in its encoded form and is searched in place: a send needs two or three properties and must not build a map. Values need
//! not be UTF-8 (clients whose system uses another charset), and are kept to the byte; as text they are what Java reads.
//!
//! Compat: the last separator may be missing (clients from 5.0 on leave it out); a pair without name or value is skipped; of
//! several properties of one name the last one counts, as in the map that Java makes of them.

use crate::text;
use memchr::memchr;
use std::borrow::Cow;

/// Between a name and its value.
pub const NAME_VALUE_SEPARATOR: u8 = 1;
/// Between two properties.
pub const PROPERTY_SEPARATOR: u8 = 2;
/// Maximum length of an encoded property string in bytes: the length field on disk is a signed 16-bit integer.
pub const MAX_BYTES: usize = i16::MAX as usize;

/// Blank-separated keys of the message, indexed.
pub const KEYS: &str = "KEYS";
/// The message's tag.
pub const TAGS: &str = "TAGS";
/// `false`: the producer does not wait for the flush or the replica.
pub const WAIT: &str = "WAIT";
/// Delay level, 1 to 18.
pub const DELAY: &str = "DELAY";
/// Destination topic of a message that is stored in a system topic.
pub const REAL_TOPIC: &str = "REAL_TOPIC";
/// Destination queue of a message that is stored in a system topic.
pub const REAL_QID: &str = "REAL_QID";
/// Topic of the first send of a message that is now in a retry topic.
pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
/// Offset message id of the first send.
pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
/// `true` on a transactional half message.
pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
/// How often the producer of a half message was asked how its transaction ends.
pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
/// For how many seconds from its creation a half message is not checked.
pub const CHECK_IMMUNITY_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// Queue offset of the half message that this one repeats, written by Apache's broker for half messages that are not checked yet.
pub const TRANSACTION_PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
/// Queue offset of the first half message of the transaction, on those that this broker wrote again. Not Apache's.
pub const TRANSACTION_FIRST_QUEUE_OFFSET: &str = "APOGEE_TRAN_FIRST_QUEUE_OFFSET";
/// Id of the transaction.
pub const TRANSACTION_ID: &str = "__transactionId__";
/// Producer group.
pub const PRODUCER_GROUP: &str = "PGROUP";
/// The id the client gave the message, indexed.
pub const UNIQ_KEY: &str = "UNIQ_KEY";
/// Region of the broker.
pub const MSG_REGION: &str = "MSG_REGION";
/// Whether the trace is on.
pub const TRACE_ON: &str = "TRACE_ON";
/// Cluster the message was sent to.
pub const CLUSTER: &str = "CLUSTER";
/// How many times the message was consumed before.
pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
/// Maximum number of consumption attempts of the group, set by the client.
pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
/// Seconds until delivery (5.x timer).
pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
/// Milliseconds until delivery (5.x timer).
pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
/// Time of delivery in epoch milliseconds (5.x timer).
pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
/// Delivery time in epoch milliseconds of a message stored in the timer topic.
pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
/// When a timer message was taken into the index of those that wait, epoch milliseconds.
pub const TIMER_ENQUEUE_MS: &str = "TIMER_ENQUEUE_MS";
/// When it was taken out to be delivered, epoch milliseconds.
pub const TIMER_DEQUEUE_MS: &str = "TIMER_DEQUEUE_MS";
/// How often it was written again because it waits for long.
pub const TIMER_ROLL_TIMES: &str = "TIMER_ROLL_TIMES";
/// On a message that recalls another one: the unique key of that.
pub const TIMER_DEL_UNIQKEY: &str = "TIMER_DEL_UNIQKEY";
/// When a message was made that a broker writes, epoch ms.
pub const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
/// Handle of a POP delivery.
pub const POP_CK: &str = "POP_CK";
/// Queues of a multi-dispatch (light message queue) send.
pub const INNER_MULTI_DISPATCH: &str = "INNER_MULTI_DISPATCH";
/// The message's offset in each of them, in the same order, comma-separated. The broker sets it.
pub const INNER_MULTI_QUEUE_OFFSET: &str = "INNER_MULTI_QUEUE_OFFSET";
/// Number of messages of an inner batch.
pub const INNER_NUM: &str = "INNER_NUM";
/// Offset of the first message of an inner batch.
pub const INNER_BASE: &str = "INNER_BASE";
/// The lite topic of a topic of lite topics (5.5) that the message is for.
pub const LITE_TOPIC: &str = "__LITE_TOPIC";
/// Priority of the message, from 0 (5.4).
pub const PRIORITY: &str = "_SYS_MSG_PRIORITY_";
/// Message group: messages with the same value are delivered in the order they were sent.
pub const SHARDING_KEY: &str = "__SHARDINGKEY";
/// Kind of message for request-reply.
pub const MSG_TYPE: &str = "MSG_TYPE";
/// Topic a dead letter came from.
pub const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
/// Message id of the dead letter's origin.
pub const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";

/// All pairs with a name and a value, in order.
pub fn iter(properties: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = properties;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr(PROPERTY_SEPARATOR, rest).unwrap_or(rest.len());
            let pair = &rest[..end];
            rest = &rest[(end + 1).min(rest.len())..];
            if let Some(at) = memchr(NAME_VALUE_SEPARATOR, pair)
                && at > 0
                && at + 1 < pair.len()
            {
                return Some((&pair[..at], &pair[at + 1..]));
            }
        }
        None
    })
}

/// Calls `visit` with name and value of each pair that [`iter`] has. Faster for whoever looks at all of them: finds the separators of
/// eight bytes at once.
#[inline]
pub fn for_each<'a>(properties: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8])) {
    let mut pair = Pair::default();
    let (words, rest) = properties.as_chunks::<WORD>();
    for (n, word) in words.iter().enumerate() {
        pair.pass(properties, n * WORD, *word, &mut visit);
    }
    let mut last = [0; WORD];
    last[..rest.len()].copy_from_slice(rest);
    pair.pass(properties, words.len() * WORD, last, &mut visit);
    pair.end(properties, properties.len(), &mut visit);
}

/// Bytes that [`for_each`] looks at together.
const WORD: usize = 8;

/// A word in which each byte is this one.
const fn repeated(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

/// The highest bit of each byte that is 0.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = repeated(0x7f);
    !(((word & LOW) + LOW) | word | LOW)
}

/// A pair whose end was not seen yet.
#[derive(Default)]
struct Pair {
    start: usize,
    name_end: Option<usize>,
}

impl Pair {
    /// Passes the separators of a word that begins at `base`.
    #[inline]
    fn pass<'a>(&mut self, properties: &'a [u8], base: usize, word: [u8; WORD], visit: &mut impl FnMut(&'a [u8], &'a [u8])) {
        let bytes = u64::from_le_bytes(word);
        let ends = zero_bytes(bytes ^ repeated(PROPERTY_SEPARATOR));
        let mut separators = ends | zero_bytes(bytes ^ repeated(NAME_VALUE_SEPARATOR));
        while separators != 0 {
            let at = base + separators.trailing_zeros() as usize / 8;
            if ends & separators & separators.wrapping_neg() == 0 {
                self.name_end = self.name_end.or(Some(at));
            } else {
                self.end(properties, at, visit);
            }
            separators &= separators - 1;
        }
    }

    #[inline]
    fn end<'a>(&mut self, properties: &'a [u8], end: usize, visit: &mut impl FnMut(&'a [u8], &'a [u8])) {
        if let Some(at) = self.name_end.take()
            && at > self.start
            && at + 1 < end
        {
            visit(&properties[self.start..at], &properties[at + 1..end]);
        }
        self.start = end + 1;
    }
}

/// All pairs as text.
pub fn texts(properties: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    iter(properties).map(|(name, value)| (text::as_java_reads(name), text::as_java_reads(value)))
}

/// The bytes of the property of that name; of the last one, if there are several.
#[must_use]
pub fn find<'a>(properties: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let of_name = iter(properties).filter(|(n, _)| *n == name.as_bytes());
    of_name.last().map(|(_, value)| value)
}

/// [`find`] as text.
#[must_use]
pub fn text<'a>(properties: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    find(properties, name).map(text::as_java_reads)
}

/// The properties that the log and its indexes need, found in one pass, as text, because Java's hashes are of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexed<'a> {
    /// The tag, empty for none.
    pub tags: Cow<'a, str>,
    /// Blank-separated keys, empty for none.
    pub keys: Cow<'a, str>,
    /// The client's unique id, empty for none.
    pub uniq_key: Cow<'a, str>,
    /// Names of light queues, comma-separated; empty for none.
    pub light_queues: Cow<'a, str>,
    /// The offsets in them, in the same order; empty before they are assigned.
    pub light_offsets: Cow<'a, str>,
}

impl<'a> Indexed<'a> {
    /// Reads tag, keys, unique key and light queues.
    #[must_use]
    pub fn of(properties: &'a [u8]) -> Self {
        let mut found = Self::default();
        for_each(properties, |name, value| {
            let place = match name {
                b"TAGS" => &mut found.tags,
                b"KEYS" => &mut found.keys,
                b"UNIQ_KEY" => &mut found.uniq_key,
                b"INNER_MULTI_DISPATCH" => &mut found.light_queues,
                b"INNER_MULTI_QUEUE_OFFSET" => &mut found.light_offsets,
                _ => return,
            };
            *place = text::as_java_reads(value);
        });
        found
    }

    /// Whether this is one of the keys, or the unique key.
    #[must_use]
    pub fn has_key(&self, key: &str) -> bool {
        self.uniq_key == key || self.keys.split(' ').any(|own| own == key)
    }
}

/// Builds a property string.
#[derive(Clone, Debug, Default)]
pub struct Builder(Vec<u8>);

impl Builder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with an existing string and makes sure that it ends in a separator.
    #[must_use]
    pub fn from_bytes(properties: &[u8]) -> Self {
        let mut bytes = properties.to_vec();
        if bytes.last().is_some_and(|b| *b != PROPERTY_SEPARATOR) {
            bytes.push(PROPERTY_SEPARATOR);
        }
        Self(bytes)
    }

    /// Starts with an existing string without the pairs of these names, which are about to get another value or none.
    #[must_use]
    pub fn from_bytes_without(properties: &[u8], names: &[&str]) -> Self {
        Self::new().with_all_but(properties, names)
    }

    /// Adds the pairs of an existing string without those of these names.
    #[must_use]
    pub fn with_all_but(mut self, properties: &[u8], names: &[&str]) -> Self {
        self.0.reserve(properties.len() + 128);
        for (name, value) in iter(properties) {
            if names.iter().all(|gone| gone.as_bytes() != name) {
                self.0.extend_from_slice(name);
                self.0.push(NAME_VALUE_SEPARATOR);
                self.0.extend_from_slice(value);
                self.0.push(PROPERTY_SEPARATOR);
            }
        }
        self
    }

    /// Adds a pair; separators inside name or value would break the string, so they are left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        let plain = |b: &&u8| **b != NAME_VALUE_SEPARATOR && **b != PROPERTY_SEPARATOR;
        self.0.extend(name.as_bytes().iter().filter(plain));
        self.0.push(NAME_VALUE_SEPARATOR);
        self.0.extend(value.as_ref().iter().filter(plain));
        self.0.push(PROPERTY_SEPARATOR);
        self
    }

    /// The finished string.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GBK: &[u8] = b"TAGS\x01\xb6\xa9\xb5\xa5\x02KEYS\x01k\xb6 k2\x02my\x01\xff\x02";

    fn pairs(properties: &[u8]) -> Vec<(String, String)> {
        texts(properties)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }

    fn owned<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn pairs_are_found_with_and_without_a_last_separator() {
        for bytes in [&b"A\x011\x02B\x012\x02"[..], b"A\x011\x02B\x012"] {
            assert_eq!(pairs(bytes), owned([("A", "1"), ("B", "2")]));
            assert_eq!(find(bytes, "B"), Some(&b"2"[..]));
        }
        assert_eq!(find(b"", "A"), None);
    }

    #[test]
    fn pairs_without_name_or_value_are_skipped() {
        assert_eq!(pairs(b"\x01x\x02A\x01\x02nothing\x02B\x012\x02"), owned([("B", "2")]));
    }

    #[test]
    fn the_last_of_several_properties_of_one_name_counts() {
        let twice = b"TAGS\x01a\x02KEYS\x01k\x02UNIQ_KEY\x01u\x02TAGS\x01b\x02KEYS\x01l\x02UNIQ_KEY\x01v\x02";
        assert_eq!((find(twice, "TAGS"), text(twice, "KEYS")), (Some(&b"b"[..]), Some("l".into())));
        let indexed = Indexed::of(twice);
        assert_eq!((&*indexed.tags, &*indexed.keys, &*indexed.uniq_key), ("b", "l", "v"));
        assert_eq!(find(b"A\x011\x02A\x01\x02", "A"), Some(&b"1"[..]), "a pair without a value is none");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept_and_read_as_java_reads_them() {
        assert_eq!(find(GBK, "TAGS"), Some(&b"\xb6\xa9\xb5\xa5"[..]));
        assert_eq!(iter(GBK).count(), 3);
        let indexed = Indexed::of(GBK);
        assert_eq!(indexed.tags, "\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
        assert!(indexed.has_key("k\u{fffd}") && indexed.has_key("k2"));
        let rebuilt = Builder::from_bytes_without(GBK, &["KEYS"]).with("KEYS", b"\xff").build();
        assert_eq!(rebuilt, b"TAGS\x01\xb6\xa9\xb5\xa5\x02my\x01\xff\x02KEYS\x01\xff\x02");
    }

    #[test]
    fn a_builder_replaces_and_escapes_nothing_but_separators() {
        let built = Builder::from_bytes_without(b"A\x011", &["A"]).with("B", "x\u{1}\u{2}y").build();
        assert_eq!(pairs(&built), owned([("B", "xy")]));
    }

    #[test]
    fn pairs_that_get_another_value_are_left_out_whatever_the_others_hold() {
        let built = Builder::from_bytes_without(b"A\x011\x02B\x01\xff\x02A\x012", &["A", "C"])
            .with("A", "3")
            .build();
        assert_eq!(built, b"B\x01\xff\x02A\x013\x02");
    }

    #[test]
    fn a_message_has_each_of_its_keys_and_its_unique_key() {
        let indexed = Indexed::of(b"KEYS\x01one two\x02UNIQ_KEY\x01U\x02TAGS\x01tag");
        assert!(["one", "two", "U"].iter().all(|key| indexed.has_key(key)));
        assert!(!["one two", "on", "u", "tag"].iter().any(|key| indexed.has_key(key)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut pairs = Vec::new();
            for_each(&bytes, |name, value| pairs.push((name, value)));
            assert_eq!(pairs, iter(&bytes).collect::<Vec<_>>());
            let _ = Indexed::of(&bytes);
        }

        #[test]
        fn each_separator_is_seen_wherever_it_stands(bytes in proptest::collection::vec(0u8..5, 0..60)) {
            let mut pairs = Vec::new();
            for_each(&bytes, |name, value| pairs.push((name, value)));
            assert_eq!(pairs, iter(&bytes).collect::<Vec<_>>());
        }

        #[test]
        fn what_is_built_is_found(built in proptest::collection::vec(("[a-zA-Z_]{1,8}", "[^\u{1}\u{2}]{1,12}"), 0..8)) {
            let bytes = built.iter().fold(Builder::new(), |b, (n, v)| b.with(n, v)).build();
            assert_eq!(pairs(&bytes), built);
        }
    }
}
