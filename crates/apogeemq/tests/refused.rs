//! Missing features are refused with their name: nothing is stored without the effect that it asks for.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::wire::Wire;
use common::{Home, block_on};
use message::properties;
use protocol::Encoding;

/// Response codes.
const SYSTEM_ERROR: i32 = 1;
const NOT_SUPPORTED: i32 = 3;
const ILLEGAL: i32 = 13;

/// A send.
struct Sent<'a> {
    topic: &'a str,
    queue: i32,
    sys_flag: i32,
    properties: &'a str,
}

/// A send without special properties to a topic with queues.
const PLAIN: Sent<'_> = Sent {
    topic: "orders",
    queue: 0,
    sys_flag: 0,
    properties: "",
};

impl Sent<'_> {
    /// Code and text of the answer.
    fn answer(&self, wire: &mut Wire, is_batch: bool) -> (i32, String) {
        let properties = self.properties.replace('=', "\u{1}").replace(';', "\u{2}");
        let mut batch = Vec::new();
        for properties in ["", &properties] {
            let item = message::batch::Item {
                flag: 0,
                body: b"body",
                properties: properties.as_bytes(),
            };
            message::batch::push(&mut batch, item);
        }
        let (queue, sys_flag) = (self.queue.to_string(), self.sys_flag.to_string());
        let fields: [(&[u8], &[u8]); 9] = [
            (b"a", b"pg"),
            (b"b", self.topic.as_bytes()),
            (b"d", b"4"),
            (b"e", queue.as_bytes()),
            (b"f", sys_flag.as_bytes()),
            (b"g", b"5"),
            (b"h", b"0"),
            (b"i", if is_batch { b"" } else { properties.as_bytes() }),
            (b"m", if is_batch { b"true" } else { b"false" }),
        ];
        let (code, body) = if is_batch { (320, &batch[..]) } else { (310, &b"body"[..]) };
        let answer = wire.ask(Encoding::Binary, code, &fields, body);
        (answer.code, answer.remark.unwrap_or_default().to_string())
    }
}

/// Property strings of all messages of the topic's queue.
fn stored(wire: &mut Wire, topic: &str) -> Vec<Vec<u8>> {
    let fields: [(&[u8], &[u8]); 9] = [
        (b"consumerGroup", b"cg"),
        (b"topic", topic.as_bytes()),
        (b"queueId", b"0"),
        (b"queueOffset", b"0"),
        (b"maxMsgNums", b"32"),
        (b"sysFlag", b"4"),
        (b"commitOffset", b"0"),
        (b"suspendTimeoutMillis", b"0"),
        (b"subscription", b"*"),
    ];
    let answer = wire.ask(Encoding::Binary, 11, &fields, b"");
    client::records(&answer.body)
        .map(|record| record.unwrap().properties.to_vec())
        .collect()
}

#[test]
fn a_message_that_needs_a_missing_feature_is_refused_by_name() {
    let home = Home::new();
    let _running = home.start_small("ASYNC_FLUSH", "");
    block_on(home.create_topic(PLAIN.topic, 1));
    let mut wire = Wire::to(&home.broker());
    let by_property = [
        ("__LITE_TOPIC=a", NOT_SUPPORTED, "lite topics"),
        ("INNER_MULTI_DISPATCH=%LMQ%a", NOT_SUPPORTED, "light message queues"),
        ("INNER_NUM=2", ILLEGAL, "INNER_NUM"),
        ("INNER_BASE=0", ILLEGAL, "INNER_BASE"),
    ];
    for (properties, code, text) in by_property {
        for is_batch in [false, true] {
            // Light queues in a batch are refused whether there are any or not.
            let (code, text) = match (is_batch, code) {
                (true, NOT_SUPPORTED) => (ILLEGAL, "cannot be in light queues"),
                _ => (code, text),
            };
            let (got, remark) = Sent { properties, ..PLAIN }.answer(&mut wire, is_batch);
            assert!(
                got == code && remark.contains(text),
                "{properties} (batch: {is_batch}): {got} {remark}"
            );
        }
    }
    for (sys_flag, code, text) in [
        (0x80, ILLEGAL, "inner batch"),
        (0xC0, ILLEGAL, "inner batch"),
        (0x4, ILLEGAL, "part of a transaction"),
        (0xC, ILLEGAL, "part of a transaction"),
    ] {
        for is_batch in [false, true] {
            let (got, remark) = Sent { sys_flag, ..PLAIN }.answer(&mut wire, is_batch);
            assert!(
                got == code && remark.contains(text),
                "flag {sys_flag} (batch: {is_batch}): {got} {remark}"
            );
        }
    }
    assert!(stored(&mut wire, PLAIN.topic).is_empty(), "a refused message was stored");
}

#[test]
fn properties_without_meaning_are_not_stored() {
    let home = Home::new();
    let _running = home.start_small("ASYNC_FLUSH", "");
    block_on(home.create_topic(PLAIN.topic, 1));
    let mut wire = Wire::to(&home.broker());
    for properties in ["A=1;POP_CK=0 1 2 3 4 5 6 7", "A=1;_SYS_MSG_PRIORITY_=3;__SHARDINGKEY=g"] {
        let (code, remark) = Sent { properties, ..PLAIN }.answer(&mut wire, false);
        assert_eq!(code, 0, "{properties}: {remark}");
    }
    let properties = "A=1;POP_CK=0 1 2 3 4 5 6 7;B=2";
    assert_eq!(Sent { properties, ..PLAIN }.answer(&mut wire, true).0, 0);
    let stored = stored(&mut wire, PLAIN.topic);
    assert_eq!(stored.len(), 4);
    for bytes in &stored {
        for name in [properties::POP_CK, properties::PRIORITY] {
            assert_eq!(properties::find(bytes, name), None, "{}", bytes.escape_ascii());
        }
    }
    let with_own = stored.iter().filter(|bytes| properties::find(bytes, "A") == Some(b"1"));
    assert_eq!(with_own.count(), 3, "the others are kept");
}

#[test]
fn a_topic_without_write_queues_accepts_nothing() {
    let home = Home::new();
    let _running = home.start_small("ASYNC_FLUSH", "autoCreateTopicEnable=true\n");
    let mut wire = Wire::to(&home.broker());
    let create = |wire: &mut Wire, write: &[u8], read: &[u8]| {
        let fields: [(&[u8], &[u8]); 8] = [
            (b"topic", PLAIN.topic.as_bytes()),
            (b"defaultTopic", b"TBW102"),
            (b"readQueueNums", read),
            (b"writeQueueNums", write),
            (b"perm", b"6"),
            (b"topicFilterType", b"SINGLE_TAG"),
            (b"topicSysFlag", b"0"),
            (b"order", b"false"),
        ];
        let answer = wire.ask(Encoding::Json, 17, &fields, b"");
        assert_eq!(answer.code, 0, "{answer:?}");
    };
    for read in [b"0", b"2"] {
        create(&mut wire, b"0", read);
        for is_batch in [false, true] {
            let (code, remark) = Sent { queue: -1, ..PLAIN }.answer(&mut wire, is_batch);
            assert!(code == SYSTEM_ERROR && remark.contains("no queues to write to"), "{code} {remark}");
        }
    }
    create(&mut wire, b"1", b"1");
    assert!(stored(&mut wire, PLAIN.topic).is_empty());
    assert_eq!(Sent { queue: -1, ..PLAIN }.answer(&mut wire, false).0, 0);
}
