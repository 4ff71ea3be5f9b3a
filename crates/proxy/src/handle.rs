//! Handles of received messages: what a client says to acknowledge one.
//!
//! Apache's eight parts, with more: the message's log offset, as Apache's proxy has it, and a check of group and topic, so that a
//! handle cannot acknowledge a message of another group; then the lite topic, if it is of one. `h` before the check says that the broker
//! holds the message for its client: the handle is good for as long as the message is in flight, which the broker knows.

use crate::codes::Refused;
use crate::v2::Code;
use ::message::names;
use broker::lite::LiteAck;
use broker::pop::AckRequest;
use protocol::pop::handle::{Handle, Origin};
use std::borrow::Cow;

/// Clocks of a proxy and a broker may differ by so much, in ms.
const GRACE_MS: i64 = 1_000;

/// A handle that a client sent, with the topic that its message is in.
#[derive(Debug)]
pub(crate) struct Receipt<'a> {
    pub(crate) handle: Handle<'a>,
    text: &'a str,
    group: &'a str,
    /// The topic that the client named, or the queue of its lite topic.
    own: &'a str,
    topic: Cow<'a, str>,
    offset: i64,
    /// The message's offset in the log, if the handle has it.
    pub(crate) log_offset: Option<i64>,
    /// The broker holds the message for its client.
    is_held: bool,
    /// The message's own time has passed: the broker says whether it is still held.
    pub(crate) is_late: bool,
}

/// Before the check of the handle of a message that is held.
const HELD: &str = "h";

/// The text for a message; `topic` is the queue of the lite topic, for a message of one. `is_held`: its broker holds it for its client.
pub(crate) fn write(handle: &Handle<'_>, log_offset: i64, group: &str, topic: &str, is_held: bool) -> String {
    let held = if is_held { HELD } else { "" };
    let mut text = format!("{handle} {log_offset} {held}{:x}", check(group, topic));
    if let Some((_, lite_topic)) = names::lite_topic_of(topic) {
        text.push(' ');
        text.push_str(lite_topic);
    }
    text
}

/// The lite topic of the message. Compat: the Java SDK 5.2.0 does not name it when a message failed.
pub(crate) fn lite_topic(text: &str) -> Option<&str> {
    text.splitn(11, ' ').nth(10)
}

fn check(group: &str, topic: &str) -> u32 {
    // FNV-1a: it tells names apart, and is no secret.
    let bytes = group.bytes().chain([0]).chain(topic.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl<'a> Receipt<'a> {
    /// Reads the handle of a message that this group received from this topic.
    ///
    /// # Errors
    /// `InvalidReceiptHandle` if it is none, or is one of another group or topic.
    pub(crate) fn parse(text: &'a str, group: &'a str, topic: &'a str) -> Result<Self, Refused> {
        let invalid = |why: &str| {
            let what = "use the handle with which the message was received, or the one of the last change of its invisible duration";
            Refused::new(Code::InvalidReceiptHandle, format!("the receipt handle is invalid: {why}; {what}"))
        };
        let handle = Handle::parse(text).map_err(|error| invalid(&error.to_string()))?;
        let offset = handle.offset.ok_or_else(|| invalid("it names no message"))?;
        let mut more = text.split(' ').skip(8);
        let log_offset = more.next().and_then(|part| part.parse().ok());
        let told = more.next();
        let unheld = told.and_then(|told| told.strip_prefix(HELD));
        if let Some(told) = unheld.or(told)
            && u32::from_str_radix(told, 16).ok() != Some(check(group, topic))
        {
            return Err(invalid(&format!("it is not one of group {group} for topic {topic}")));
        }
        let own = topic;
        let topic = match Origin::parse(handle.origin).ok_or_else(|| invalid("it names no kind of topic"))? {
            Origin::Topic => Cow::Borrowed(topic),
            Origin::RetryV1 => names::pop_retry_topic(topic, group).into(),
            Origin::RetryV2 => names::pop_retry_topic_v2(topic, group).into(),
        };
        Ok(Self {
            handle,
            text,
            group,
            own,
            topic,
            offset,
            log_offset,
            is_held: unheld.is_some(),
            is_late: false,
        })
    }

    /// As [`Self::parse`], of a message that is still invisible, as far as the handle says.
    ///
    /// # Errors
    /// `InvalidReceiptHandle` also if the message is visible again.
    pub(crate) fn parse_in_time(text: &'a str, group: &'a str, topic: &'a str, now_ms: i64) -> Result<Self, Refused> {
        let mut receipt = Self::parse(text, group, topic)?;
        receipt.check_time(now_ms)?;
        Ok(receipt)
    }

    fn check_time(&mut self, now_ms: i64) -> Result<(), Refused> {
        let until = self.handle.pop_time.saturating_add(self.handle.invisible_time);
        if until.saturating_add(GRACE_MS) > now_ms {
            return Ok(());
        }
        if self.is_held {
            self.is_late = true;
            return Ok(());
        }
        let text = format!(
            "the receipt handle has expired {} ms ago: the message is delivered again; process messages within their invisible duration, or change it in time",
            now_ms.saturating_sub(until)
        );
        Err(Refused::new(Code::InvalidReceiptHandle, text))
    }

    /// The message, if it is one of a lite topic, whose queue the handle is for.
    pub(crate) fn of_lite_topic(&self) -> Option<LiteAck<'_>> {
        let request = self.request();
        let (topic, lite_topic) = names::lite_topic_of(request.topic)?;
        Some(LiteAck {
            group: request.group,
            topic,
            lite_topic,
            queue_id: request.queue_id,
            offset: request.offset,
            handle: request.handle,
            is_in_flight: self.is_late,
        })
    }

    /// The topic that has a route: of a retried message its own topic, of one of a lite topic the parent topic.
    pub(crate) fn own_topic(&self) -> &'a str {
        names::lite_topic_of(self.own).map_or(self.own, |(parent, _)| parent)
    }

    /// The message, for the broker.
    pub(crate) fn request(&self) -> AckRequest<'_> {
        AckRequest {
            group: self.group,
            topic: &self.topic,
            queue_id: self.handle.queue_id,
            offset: self.offset,
            handle: self.text,
            is_in_flight: self.is_late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: Handle<'static> = Handle {
        start: 5,
        pop_time: 1_000,
        invisible_time: 60_000,
        revive_queue: 2,
        origin: "1",
        broker: "b",
        queue_id: 3,
        offset: Some(7),
    };

    #[test]
    fn a_handle_is_one_of_its_group_and_topic() {
        let text = write(&HANDLE, 99, "g", "t", false);
        let receipt = Receipt::parse(&text, "g", "t").unwrap();
        assert_eq!((receipt.handle, receipt.log_offset), (HANDLE, Some(99)));
        let request = receipt.request();
        assert_eq!((request.topic, request.queue_id, request.offset), ("%RETRY%g_t", 3, 7));
        for (group, topic) in [("h", "t"), ("g", "u"), ("gt", "")] {
            let refused = Receipt::parse(&text, group, topic).unwrap_err();
            assert_eq!(refused.code, Code::InvalidReceiptHandle, "{group} {topic}");
        }
        // Of Apache's proxy, which does not say the group.
        assert!(Receipt::parse("5 1000 60000 2 0 b 3 7 99", "h", "t").is_ok());
    }

    #[test]
    fn a_handle_names_the_lite_topic() {
        let queue = names::lite_queue("t", "one");
        let text = write(&HANDLE, 99, "g", &queue, true);
        assert_eq!(
            (lite_topic(&text), lite_topic(&write(&HANDLE, 99, "g", "t", true))),
            (Some("one"), None)
        );
        assert!(Receipt::parse(&text, "g", &queue).is_ok() && Receipt::parse(&text, "g", "t").is_err());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "x",
            "1 2 3 4 0 b 3",
            "1 2 3 4 9 b 3 7",
            "1 2 3 4 0 b 3 x",
            "1 2 3 4 0 b 3 7 8 zz",
        ] {
            let refused = Receipt::parse(text, "g", "t").unwrap_err();
            assert_eq!(refused.code, Code::InvalidReceiptHandle, "{text}");
        }
    }

    #[test]
    fn a_handle_expires() {
        let held = write(&HANDLE, 99, "g", "t", true);
        let late = |now_ms| Receipt::parse_in_time(&held, "g", "t", now_ms).unwrap().is_late;
        assert!(!late(61_000) && late(100_000), "the broker knows");
        assert!(Receipt::parse(&held, "h", "t").is_err() && Handle::parse(&held).is_ok());
        let text = write(&HANDLE, 99, "g", "t", false);
        let mut receipt = Receipt::parse(&text, "g", "t").unwrap();
        assert!(receipt.check_time(61_000).is_ok());
        let refused = receipt.check_time(100_000).unwrap_err();
        assert!(refused.code == Code::InvalidReceiptHandle && refused.text.contains("expired 39000 ms ago"));
    }
}
