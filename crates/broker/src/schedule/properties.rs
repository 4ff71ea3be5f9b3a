//! Properties and queue of a delayed message.

use crate::errors::Refusal;
use message::properties::{self, Builder};
use message::text;
use protocol::number::Integer;
use std::borrow::Cow;

/// The delay level of a message; 0 or less if it has none.
///
/// # Errors
/// Compat: `SystemError` if it is not a number, the code of Apache's exception.
pub fn level_of(value: Option<&[u8]>) -> Result<i32, Refusal> {
    value.map_or(Ok(0), |bytes| {
        i32::parse(bytes).ok_or_else(|| {
            let text = text::as_java_reads(bytes);
            Refusal::system(format!("property {} is not a delay level: {text:?}", properties::DELAY))
        })
    })
}

/// The queue of the schedule topic for a level.
#[must_use]
pub fn queue_of(level: i32) -> i32 {
    level - 1
}

/// The level of a queue of the schedule topic.
#[must_use]
pub fn level_of_queue(queue_id: i32) -> i32 {
    queue_id.saturating_add(1)
}

/// The properties of a message in the schedule topic: its level, its target topic and queue, and its delivery time (`due_ms`, since
/// 1970), so that later changes of `messageDelayLevel` do not affect it. A level takes precedence over the timer properties, which
/// are removed.
///
/// Compat: the time comes first, under a name that Apache's broker removes on delivery. Apache computes the time from the level.
#[must_use]
pub fn waiting_properties(properties: &[u8], level: i32, due_ms: i64, topic: &str, queue_id: i32) -> Vec<u8> {
    const REPLACED: [&str; 6] = [
        properties::DELAY,
        properties::REAL_TOPIC,
        properties::REAL_QID,
        properties::TIMER_DELAY_SEC,
        properties::TIMER_DELAY_MS,
        properties::TIMER_DELIVER_MS,
    ];
    Builder::new()
        .with(properties::TIMER_DELIVER_MS, &due_ms.to_string())
        .with_all_but(properties, &REPLACED)
        .with(properties::DELAY, &level.to_string())
        .with(properties::REAL_TOPIC, topic)
        .with(properties::REAL_QID, &queue_id.to_string())
        .build()
}

/// The properties with which a delayed message is delivered: without the time that [`waiting_properties`] added.
///
/// Compat: if Apache's broker stored the message, the timer property of its client is removed as well, at any position.
#[must_use]
pub fn delivered_properties(properties: &[u8]) -> Cow<'_, [u8]> {
    const TIME: &str = properties::TIMER_DELIVER_MS;
    let is_time = |(name, _): (&[u8], &[u8])| name == TIME.as_bytes();
    let mut pairs = properties::iter(properties);
    if pairs.next().is_some_and(is_time)
        && let Some(end) = properties.iter().position(|byte| *byte == properties::PROPERTY_SEPARATOR)
    {
        return Cow::Borrowed(&properties[end + 1..]);
    }
    if pairs.any(is_time) {
        return Cow::Owned(Builder::from_bytes_without(properties, &[TIME]).build());
    }
    Cow::Borrowed(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delayed_message_has_its_target_in_its_properties() {
        let built = waiting_properties(
            b"TAGS\x01a\x02REAL_TOPIC\x01forged\x02DELAY\x0199\x02TIMER_DELAY_SEC\x015",
            18,
            1_700_000_000_000,
            "orders",
            3,
        );
        let waits = b"TAGS\x01a\x02DELAY\x0118\x02REAL_TOPIC\x01orders\x02REAL_QID\x013\x02";
        assert_eq!(built, [b"TIMER_DELIVER_MS\x011700000000000\x02", &waits[..]].concat());
        assert_eq!(delivered_properties(&built), Cow::Borrowed(&waits[..]));
        // Properties that the broker appends, such as a unique key.
        let more = [&built, &b"UNIQ_KEY\x01u\x02"[..]].concat();
        assert_eq!(*delivered_properties(&more), *[&waits[..], b"UNIQ_KEY\x01u\x02"].concat());
    }

    #[test]
    fn only_the_delivery_time_is_removed() {
        for kept in ["", "\u{2}", "A\u{1}b\u{2}", "TIMER_DELIVER_MSX\u{1}5\u{2}", "TIMER_DELIVER_MS", "A"] {
            assert_eq!(*delivered_properties(kept.as_bytes()), *kept.as_bytes(), "{kept:?}");
        }
        assert_eq!(*delivered_properties(b"A\x01b\x02TIMER_DELIVER_MS\x015"), *b"A\x01b\x02");
        assert_eq!(
            *delivered_properties(b"A\x01b\x02TIMER_DELIVER_MS\x015\x02TAGS\x01d\x02"),
            *b"A\x01b\x02TAGS\x01d\x02"
        );
        assert_eq!(*delivered_properties(b"TIMER_DELIVER_MS\x015\x02"), *b"");
        assert_eq!(
            *delivered_properties(b"TIMER_DELIVER_MS\x015"),
            *b"TIMER_DELIVER_MS\x015",
            "Java writes separators"
        );
    }

    #[test]
    fn levels_are_numbers() {
        assert_eq!(level_of(None).unwrap(), 0);
        assert_eq!((level_of(Some(b"-1")).unwrap(), level_of(Some(b"+19")).unwrap()), (-1, 19));
        for bad in [&b"x"[..], b" 1", b"", b"\xff", b"1.0", b"2147483648"] {
            assert!(level_of(Some(bad)).unwrap_err().text.contains("DELAY"), "{bad:?}");
        }
    }
}
