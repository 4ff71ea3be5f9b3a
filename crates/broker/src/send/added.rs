//! The properties a broker adds to every message it stores: region, trace switch, cluster.
//!
//! They are the same for all messages, so they are encoded once and appended as bytes. A message that brings one of them
//! already (one that was stored before and is sent again) is rebuilt without it first.

use crate::dedup::Identity;
use crate::timer::when::TimerProperties;
use message::properties::{self, Builder};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The properties, encoded once.
#[derive(Debug)]
pub(super) struct Added {
    region: Box<str>,
    trace_on: &'static str,
    /// Begins with a separator, for properties without one at their end.
    bytes: Box<[u8]>,
}

/// Properties of a message that matter to a send, found in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SendProperties<'a> {
    pub(super) uniq_key: &'a [u8],
    /// The keys, as one text.
    pub(super) keys: &'a [u8],
    /// `WAIT=false`.
    pub(super) does_not_wait: bool,
    /// The delay level, unparsed.
    pub(super) delay: Option<&'a [u8]>,
    /// When it asks to be delivered.
    pub(super) timer: TimerProperties<'a>,
    /// `TRAN_MSG=true`.
    pub(super) is_transaction: bool,
    /// Names of light queues that it is sent to, comma-separated; empty for none.
    pub(super) light_queues: &'a [u8],
    /// The lite topic that it is sent to; empty for none.
    pub(super) lite_topic: &'a [u8],
    /// Belongs to a message group (FIFO).
    pub(super) is_ordered: bool,
    /// The priority, from 0, which names the queue; `None` on messages of another type.
    pub(super) priority: Option<i32>,
    /// Has a priority that is ignored.
    drops_priority: bool,
    /// Has the properties of an inner batch.
    pub(super) is_inner_batch: bool,
    /// Has a POP receipt handle (POP_CK).
    pub(super) has_handle: bool,
    /// Has properties that the broker replaces or removes, or pairs without name or value, which are not stored.
    to_rebuild: bool,
}

impl<'a> SendProperties<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let mut seen = Self::default();
        let mut whole = 0;
        properties::for_each(bytes, |name, value| {
            whole += name.len() + value.len() + 2;
            match std::str::from_utf8(name).unwrap_or_default() {
                properties::UNIQ_KEY => seen.uniq_key = value,
                properties::KEYS => seen.keys = value,
                properties::WAIT => seen.does_not_wait = value.eq_ignore_ascii_case(b"false"),
                properties::CLUSTER | properties::MSG_REGION | properties::TRACE_ON => seen.to_rebuild = true,
                properties::DELAY => seen.delay = Some(value),
                name @ (properties::TIMER_DELAY_SEC
                | properties::TIMER_DELAY_MS
                | properties::TIMER_DELIVER_MS
                | properties::TIMER_OUT_MS) => {
                    seen.timer.see(name, value);
                }
                properties::TRANSACTION_PREPARED => seen.is_transaction = value.eq_ignore_ascii_case(b"true"),
                properties::INNER_MULTI_DISPATCH => seen.light_queues = value,
                properties::LITE_TOPIC => seen.lite_topic = value,
                properties::SHARDING_KEY => seen.is_ordered = true,
                properties::PRIORITY => seen.priority = priority(value),
                properties::INNER_NUM | properties::INNER_BASE => seen.is_inner_batch = true,
                properties::POP_CK => seen.has_handle = true,
                _ => {}
            }
        });
        // Compat: a message has one type; that of a transaction, a delay and a message group come before that of a priority.
        if seen.is_transaction || seen.delay.is_some() || seen.timer.ask() || seen.is_ordered {
            seen.drops_priority = seen.priority.take().is_some();
        }
        let ends_open = bytes.last().is_some_and(|last| *last != properties::PROPERTY_SEPARATOR);
        seen.to_rebuild |= whole != bytes.len() + usize::from(ends_open) || seen.has_handle || seen.drops_priority;
        seen
    }
}

impl<'a> SendProperties<'a> {
    /// Whether it has keys that are not blank.
    pub(super) fn has_keys(&self) -> bool {
        !self.keys.trim_ascii().is_empty()
    }

    /// What the message can be recognised by.
    pub(super) fn identity(&self) -> Identity<'a> {
        Identity {
            uniq_key: self.uniq_key,
            keys: self.keys,
        }
    }
}

/// Compat: what is not a 32-bit number counts as no priority, like a negative number, and is stored unchanged.
fn priority(value: &[u8]) -> Option<i32> {
    let number = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number >= 0).then_some(number)
}

/// A UNIQ_KEY for a message whose client gave it none.
pub(super) fn fresh_uniq_key() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "7F000001{:04X}{:08X}{:08X}{:04X}",
        std::process::id() as u16,
        now.as_secs() as u32,
        now.subsec_nanos(),
        count as u16
    )
}

impl Added {
    pub(super) fn new(region: &str, trace_on: bool, cluster: &str) -> Self {
        let trace_on = if trace_on { "true" } else { "false" };
        let mut bytes = vec![properties::PROPERTY_SEPARATOR];
        bytes.extend(
            Builder::new()
                .with(properties::MSG_REGION, region)
                .with(properties::TRACE_ON, trace_on)
                .with(properties::CLUSTER, cluster)
                .build(),
        );
        Self {
            region: region.into(),
            trace_on,
            bytes: bytes.into(),
        }
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    pub(super) fn trace_on(&self) -> &str {
        self.trace_on
    }

    /// A message's own properties as they are stored, before the added ones.
    ///
    /// Compat: a POP receipt handle is not stored, nor is a priority that is ignored because the message has another type.
    pub(super) fn base<'a>(&self, bytes: &'a [u8], seen: &SendProperties<'_>) -> Cow<'a, [u8]> {
        if !seen.to_rebuild {
            return Cow::Borrowed(bytes);
        }
        let replaced = [
            properties::CLUSTER,
            properties::MSG_REGION,
            properties::TRACE_ON,
            properties::POP_CK,
            properties::PRIORITY,
        ];
        let without = if seen.drops_priority { &replaced[..] } else { &replaced[..4] };
        Cow::Owned(Builder::from_bytes_without(bytes, without).build())
    }

    /// The added properties, with a separator before them if these properties need one.
    pub(super) fn behind(&self, base: &[u8]) -> &[u8] {
        match base.last() {
            None | Some(&properties::PROPERTY_SEPARATOR) => &self.bytes[1..],
            Some(_) => &self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: &[u8]) -> Vec<(String, String)> {
        let added = Added::new("R", true, "C");
        let base = added.base(bytes, &SendProperties::of(bytes)).into_owned();
        let whole = [&base[..], added.behind(&base)].concat();
        let pairs = properties::texts(&whole);
        pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn every_message_gets_region_trace_switch_and_cluster() {
        let added = [("MSG_REGION", "R"), ("TRACE_ON", "true"), ("CLUSTER", "C")];
        assert_eq!(stored(b""), pairs(&added));
        for end in ["", "\u{2}"] {
            let bytes = format!("TAGS\u{1}a{end}");
            assert_eq!(stored(bytes.as_bytes()), pairs(&[&[("TAGS", "a")][..], &added].concat()));
        }
    }

    #[test]
    fn a_message_sent_again_does_not_collect_them() {
        let once = b"MSG_REGION\x01old\x02TAGS\x01a\x02CLUSTER\x01old\x02";
        assert_eq!(
            stored(once),
            pairs(&[("TAGS", "a"), ("MSG_REGION", "R"), ("TRACE_ON", "true"), ("CLUSTER", "C")])
        );
    }

    #[test]
    fn properties_that_are_not_utf8_are_stored_as_they_are() {
        const GBK: &[u8] = b"TAGS\x01\xb6\xa9\xb5\xa5\x02KEYS\x01k\xff\x02\xd0\x01\xc3\xfb\x02UNIQ_KEY\x01\xfe\x02";
        const ADDED: &[u8] = b"MSG_REGION\x01R\x02TRACE_ON\x01true\x02CLUSTER\x01C\x02";
        let added = Added::new("R", true, "C");
        for more in [&b""[..], b"CLUSTER\x01old\x02", b"A\x01\x02"] {
            let bytes = [GBK, more].concat();
            let seen = SendProperties::of(&bytes);
            assert_eq!((seen.uniq_key, seen.to_rebuild), (&b"\xfe"[..], !more.is_empty()));
            let base = added.base(&bytes, &seen);
            assert_eq!([&base[..], added.behind(&base)].concat(), [GBK, ADDED].concat());
        }
    }

    #[test]
    fn the_last_of_several_properties_of_one_name_counts() {
        let seen = SendProperties::of(b"DELAY\x013\x02UNIQ_KEY\x01a\x02WAIT\x01false\x02WAIT\x01true\x02DELAY\x014\x02UNIQ_KEY\x01b\x02");
        assert_eq!((seen.delay, seen.uniq_key, seen.does_not_wait), (Some(&b"4"[..]), &b"b"[..], false));
    }

    #[test]
    fn pairs_without_a_value_are_not_stored() {
        assert_eq!(stored(b"A\x01\x02B\x01b\x02"), stored(b"B\x01b\x02"));
    }

    #[test]
    fn a_receipt_handle_and_a_priority_of_another_message_type_are_not_stored() {
        let kept = stored(b"B\x01b\x02");
        assert_eq!(stored(b"POP_CK\x011 2 3\x02B\x01b\x02"), kept);
        for other_type in ["DELAY\x011", "TIMER_DELAY_SEC\x011", "TRAN_MSG\x01true", "__SHARDINGKEY\x01g"] {
            let bytes = format!("{other_type}\x02_SYS_MSG_PRIORITY_\x013\x02");
            assert_eq!(SendProperties::of(bytes.as_bytes()).priority, None);
            assert_eq!(stored(bytes.as_bytes()), stored(other_type.as_bytes()));
        }
        assert_eq!(SendProperties::of(b"_SYS_MSG_PRIORITY_\x013").priority, Some(3));
        assert_eq!(stored(b"_SYS_MSG_PRIORITY_\x013").len(), kept.len());
        for none in ["-1", "x", "2147483648"] {
            let bytes = format!("B\u{1}b\u{2}_SYS_MSG_PRIORITY_\u{1}{none}\u{2}CLUSTER\u{1}old\u{2}");
            assert!(
                stored(bytes.as_bytes()).contains(&("_SYS_MSG_PRIORITY_".to_owned(), none.to_owned())),
                "{none}"
            );
        }
    }

    #[test]
    fn what_a_message_asks_for_is_noticed() {
        let seen = SendProperties::of(b"DELAY\x013\x02TRAN_MSG\x01True\x02");
        assert!(seen.delay == Some(b"3") && seen.is_transaction && !seen.timer.ask() && seen.light_queues.is_empty());
        let seen = SendProperties::of(b"TIMER_DELAY_MS\x010\x02TRAN_MSG\x01false\x02");
        assert!(seen.timer.ask() && !seen.is_transaction && seen.delay.is_none());
    }
}
