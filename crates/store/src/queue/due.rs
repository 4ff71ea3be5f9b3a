//! In the queues of one topic the last field of an entry is the delivery time, not the tag hash.
//!
//! A message has its delivery time as a property (`TIMER_DELIVER_MS`), so that a queue that is rebuilt from the log is the same as
//! before, even if the delay levels were changed. Apache's records have only the level: for them the time is computed from the
//! current levels and the store timestamp, as Apache does. Not here: delivery.

use message::{hash, properties};

/// The topic whose entries have delivery times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueTopic {
    /// Its name; empty if there is none.
    pub name: Box<str>,
    /// Delays in ms, that of level 1 first. A level above them counts as the last.
    pub delays_ms: Vec<i64>,
}

impl DueTopic {
    /// The last field of a message's queue entry.
    pub(crate) fn code(&self, topic: &str, properties: &[u8], tags: &str, stored_ms: i64) -> Code {
        if topic != &*self.name {
            return Code::Tag(hash::tags_code(tags));
        }
        if let Some(due_ms) = properties::text(properties, properties::TIMER_DELIVER_MS).and_then(|time| time.parse().ok()) {
            return Code::Due(due_ms);
        }
        let Some(level) = level(properties) else {
            return Code::Tag(hash::tags_code(tags));
        };
        // Compat: a level above the last is the last.
        let at = (level as usize).min(self.delays_ms.len()).checked_sub(1);
        match at.and_then(|at| self.delays_ms.get(at)) {
            Some(delay_ms) => Code::Computed {
                level,
                due_ms: stored_ms.saturating_add(*delay_ms),
            },
            None => Code::Tag(hash::tags_code(tags)),
        }
    }
}

/// The delay level of a message, above 0.
fn level(properties: &[u8]) -> Option<i32> {
    let level = properties::text(properties, properties::DELAY)?.parse().ok()?;
    (level > 0).then_some(level)
}

/// The last field of a queue entry, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The hash of the message's tag.
    Tag(i64),
    /// The delivery time in the message, epoch ms.
    Due(i64),
    /// The message has only a level: the delivery time by the current levels, epoch ms.
    Computed { level: i32, due_ms: i64 },
}

impl Code {
    /// The value that is written into the entry.
    pub(crate) fn value(self) -> i64 {
        match self {
            Self::Tag(value) | Self::Due(value) | Self::Computed { due_ms: value, .. } => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_topic_says_when_its_message_is_due() {
        let topic = DueTopic {
            name: "later".into(),
            delays_ms: vec![1_000, 5_000],
        };
        let code = |name, properties: &str| topic.code(name, properties.as_bytes(), "TagA", 100).value();
        assert_eq!(
            code("later", "TIMER_DELIVER_MS\u{1}77\u{2}DELAY\u{1}1\u{2}"),
            77,
            "what it says itself"
        );
        assert_eq!(code("other", "TIMER_DELIVER_MS\u{1}77\u{2}"), hash::tags_code("TagA"));
        assert_eq!(code("later", "TIMER_DELIVER_MS\u{1}x\u{2}DELAY\u{1}1\u{2}"), 1_100);
        assert_eq!(code("later", "DELAY\u{1}1\u{2}"), 1_100);
        assert_eq!(code("later", "DELAY\u{1}2\u{2}"), 5_100);
        assert_eq!(code("later", "DELAY\u{1}99\u{2}"), 5_100, "above the last level");
        for without in ["", "DELAY\u{1}0\u{2}", "DELAY\u{1}-1\u{2}", "DELAY\u{1}x\u{2}"] {
            assert_eq!(code("later", without), hash::tags_code("TagA"), "{without}");
        }
        assert_eq!(code("other", "DELAY\u{1}1\u{2}"), hash::tags_code("TagA"));
        let none = DueTopic::default();
        assert_eq!(none.code("", b"DELAY\x011\x02", "", 100), Code::Tag(0), "no levels");
    }
}
