//! Timer messages and their recall: codes 60, 61, 370 and 5001.

use crate::header::header;
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

header! {
    /// Code 370: a message that waits is not to be delivered.
    pub struct RecallMessageHeader<'a> {
        /// The group that sent the message.
        pub producer_group: Option<&'a str> = "producerGroup",
        /// The topic it was sent to.
        pub topic: &'a str = "topic",
        /// What the answer to its send said; see [`RecallHandle`].
        pub recall_handle: Option<&'a str> = "recallHandle",
    }
}

header! {
    /// Code 5001: timers are to be driven by another engine.
    pub struct SwitchTimerEngineHeader<'a> {
        /// [`ENGINE_FILES`] or [`ENGINE_ROCKSDB`].
        pub engine: Option<&'a str> = "E_T",
    }
}

/// The time wheel in files.
pub const ENGINE_FILES: &str = "F";
/// RocksDB.
pub const ENGINE_ROCKSDB: &str = "R";

/// Names a message that waits.
///
/// Compat: Apache's version 1, five words separated by a space, in the URL-safe alphabet of Base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle<T = String> {
    /// The topic it was sent to.
    pub topic: T,
    /// The broker that has it.
    pub broker_name: T,
    /// When it is due, epoch ms.
    pub due_ms: i64,
    /// Its unique key.
    pub uniq_key: T,
}

/// Longest handle that is decoded: names and keys are shorter.
const MAX_LEN: usize = 4096;

impl RecallHandle<&str> {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self {
            topic,
            broker_name,
            due_ms,
            uniq_key,
        } = self;
        URL_SAFE.encode(format!("v1 {topic} {broker_name} {due_ms} {uniq_key}"))
    }
}

impl RecallHandle {
    /// From text; `None` if it is no handle. Compat: a time that is no number counts as -1, words behind the fifth are passed over.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut words = text.split(' ');
        if words.next() != Some("v1") {
            return None;
        }
        let mut word = || words.next().map(str::to_owned);
        Some(Self {
            topic: word()?,
            broker_name: word()?,
            due_ms: word()?.parse().unwrap_or(-1),
            uniq_key: word()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_apaches() {
        let handle = RecallHandle {
            topic: "t",
            broker_name: "broker-a",
            due_ms: 1_700_000_000_001,
            uniq_key: "7F0001",
        };
        let text = handle.encode();
        assert_eq!(text, "djEgdCBicm9rZXItYSAxNzAwMDAwMDAwMDAxIDdGMDAwMQ==");
        for text in [&*text, text.trim_end_matches('=')] {
            let read = RecallHandle::decode(text).unwrap();
            assert_eq!(
                (&*read.topic, &*read.broker_name, read.due_ms, &*read.uniq_key),
                ("t", "broker-a", 1_700_000_000_001, "7F0001")
            );
        }
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        for (words, is_one) in [
            ("v1 t b 5 k", true),
            ("v1 t b soon k more", true),
            ("v2 t b 5 k", false),
            ("v1 t b 5", false),
            ("", false),
        ] {
            assert_eq!(RecallHandle::decode(&URL_SAFE.encode(words)).is_some(), is_one, "{words}");
        }
        assert_eq!(RecallHandle::decode("no base64!"), None);
        assert_eq!(
            RecallHandle::decode(&URL_SAFE.encode("v1 t b 5 ".to_owned() + &"k".repeat(5_000))),
            None
        );
        assert_eq!(RecallHandle::decode(&URL_SAFE.encode(b"v1 t b 5 \xff")), None);
    }
}
