//! What stands where a tag's code stands, in the queues of one topic: the time at which a message is due.
//!
//! The store is told the topic's name and its levels, and computes the time from a message alone (its level and its store
//! time), so that a queue that is derived again after a crash is the same as before. When the time has come is for others.

use message::{hash, properties};

/// A topic whose entries carry a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueTopic {
    /// Its name; empty when there is none.
    pub name: Box<str>,
    /// Delays in ms, that of level 1 first. A level above them counts as the last.
    pub delays_ms: Vec<i64>,
}

impl DueTopic {
    /// What the queue entry of a message says: when it is due, in this topic, if it has a level; else its tag's code.
    pub(crate) fn code(&self, topic: &str, properties: &[u8], tags: &str, stored_ms: i64) -> i64 {
        let delay = (topic == &*self.name).then(|| self.delay_ms(properties)).flatten();
        delay.map_or_else(|| hash::tags_code(tags), |delay| stored_ms.saturating_add(delay))
    }

    fn delay_ms(&self, properties: &[u8]) -> Option<i64> {
        let level: i32 = properties::find(properties, properties::DELAY)?.parse().ok()?;
        let level = usize::try_from(level).ok()?.min(self.delays_ms.len());
        self.delays_ms.get(level.checked_sub(1)?).copied()
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
        let code = |name, properties: &str| topic.code(name, properties.as_bytes(), "TagA", 100);
        assert_eq!(code("later", "DELAY\u{1}1\u{2}"), 1_100);
        assert_eq!(code("later", "DELAY\u{1}2\u{2}"), 5_100);
        assert_eq!(code("later", "DELAY\u{1}99\u{2}"), 5_100, "above the last level");
        for without in ["", "DELAY\u{1}0\u{2}", "DELAY\u{1}-1\u{2}", "DELAY\u{1}x\u{2}"] {
            assert_eq!(code("later", without), hash::tags_code("TagA"), "{without}");
        }
        assert_eq!(code("other", "DELAY\u{1}1\u{2}"), hash::tags_code("TagA"));
        let none = DueTopic::default();
        assert_eq!(none.code("", b"DELAY\x011\x02", "", 100), 0, "no levels");
    }
}
