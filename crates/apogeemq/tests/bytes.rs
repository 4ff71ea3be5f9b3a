//! Unusual bytes through the program: text of clients that is not UTF-8, other JSON notations, long text.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use client::{PullOptions, Puller};
use common::wire::Wire;
use common::{DEADLINE, Home, block_on};
use message::properties;
use protocol::Encoding;
use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel};
use std::time::{Duration, Instant};

/// "Order" in Chinese, as a client on a GBK system writes it.
const GBK: &[u8] = b"\xb6\xa9\xb5\xa5";
/// Another tag of such a client.
const OTHER: &[u8] = b"\xbb\xf5";
const TOPIC: &str = "orders";
const SETTINGS: &str = "messageDelayLevel=0s 0s\n";

/// A client's tag, keys and its own property, with these separators.
fn own(separators: [&[u8]; 2]) -> Vec<u8> {
    let pairs: [(&[u8], &[u8]); 4] = [
        (b"TAGS", GBK),
        (b"KEYS", b"k1 \xbb\xf5"),
        (b"\xc3\xfb", b"\xff\xfe"),
        (b"UNIQ_KEY", b"unique"),
    ];
    let pair = |(name, value): &(&[u8], &[u8])| [*name, separators[0], *value, separators[1]].concat();
    pairs.iter().flat_map(pair).collect()
}

fn send(wire: &mut Wire, encoding: Encoding, code: i32, own: &[u8], body: &[u8]) {
    let fields: [(&[u8], &[u8]); 9] = [
        (b"a", b"pg"),
        (b"b", TOPIC.as_bytes()),
        (b"d", b"4"),
        (b"e", b"0"),
        (b"f", b"0"),
        (b"g", b"5"),
        (b"h", b"0"),
        (b"i", own),
        (b"m", if code == 320 { b"true" } else { b"false" }),
    ];
    let answer = wire.ask(encoding, code, &fields, body);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// Properties and log offset of the message at an offset, once it is there.
async fn stored(home: &Home, topic: &str, offset: i64) -> (Vec<u8>, i64) {
    let client = home.client();
    let puller = Puller::new(&client, "readers");
    let wish = PullOptions {
        wait: DEADLINE,
        ..PullOptions::default()
    };
    let pulled = puller.pull(&home.queue(topic, 0), offset, &wish).await.unwrap();
    let record = pulled.records().next().expect("a message").unwrap();
    (record.properties.to_vec(), record.log_offset.0)
}

/// Number of messages that a pull with this filter finds.
fn filtered(wire: &mut Wire, tag: &[u8]) -> usize {
    let fields: [(&[u8], &[u8]); 9] = [
        (b"consumerGroup", b"cg"),
        (b"topic", TOPIC.as_bytes()),
        (b"queueId", b"0"),
        (b"queueOffset", b"0"),
        (b"maxMsgNums", b"32"),
        (b"sysFlag", b"4"),
        (b"commitOffset", b"0"),
        (b"suspendTimeoutMillis", b"0"),
        (b"subscription", tag),
    ];
    let answer = wire.ask(Encoding::Binary, 11, &fields, b"");
    client::records(&answer.body).count()
}

/// The pairs of a property string that `own` made, in their order.
fn pairs_of_own(stored: &[u8]) -> Vec<u8> {
    let names: [&[u8]; 4] = [b"TAGS", b"KEYS", b"\xc3\xfb", b"UNIQ_KEY"];
    let own = properties::iter(stored).filter(|(name, _)| names.contains(name));
    own.flat_map(|(name, value)| [name, b"\x01", value, b"\x02"].concat()).collect()
}

#[test]
fn properties_that_are_not_utf8_are_kept_to_the_byte_on_every_way_of_a_message() {
    let home = Home::new();
    let running = home.start_small("ASYNC_FLUSH", SETTINGS);
    let plain = own([b"\x01", b"\x02"]);
    block_on(async {
        home.create_topic(TOPIC, 1).await;
        let mut wire = Wire::to(&home.broker());
        send(
            &mut wire,
            Encoding::Json,
            310,
            &own([b"\\u0001", b"\\u0002"]),
            b"escaped separators",
        );
        send(&mut wire, Encoding::Json, 310, &plain, b"raw separators");
        send(&mut wire, Encoding::Binary, 310, &plain, b"binary header");
        let again = [&plain[..], b"CLUSTER\x01old\x02MSG_REGION\x01old\x02"].concat();
        send(&mut wire, Encoding::Binary, 310, &again, b"with what the broker adds");
        let mut batch = Vec::new();
        message::batch::push(
            &mut batch,
            message::batch::Item {
                flag: 0,
                body: b"in a batch",
                properties: &plain,
            },
        );
        send(&mut wire, Encoding::Binary, 320, b"", &batch);
        let delayed = [&plain[..], b"DELAY\x012\x02"].concat();
        send(&mut wire, Encoding::Binary, 310, &delayed, b"delayed");
        let mut first = 0;
        for offset in 0..6 {
            let (stored, log_offset) = stored(&home, TOPIC, offset).await;
            assert_eq!(pairs_of_own(&stored), plain, "message {offset}: {}", stored.escape_ascii());
            first = first.max(log_offset);
        }
        assert_eq!(filtered(&mut wire, GBK), 6);
        assert_eq!(filtered(&mut wire, OTHER), 0);

        let back: [(&[u8], &[u8]); 4] = [
            (b"offset", &first.to_string().into_bytes()),
            (b"group", b"cg"),
            (b"delayLevel", b"1"),
            (b"originTopic", TOPIC.as_bytes()),
        ];
        let given_back = wire.ask(Encoding::Json, 36, &back, b"");
        assert_eq!(given_back.code, 0, "{given_back:?}");
        let (retried, _) = stored(&home, "%RETRY%cg", 0).await;
        assert_eq!(pairs_of_own(&retried), plain, "{}", retried.escape_ascii());
    });
    // Rebuilt queues and index find the same.
    running.kill();
    let _running = home.start_small("ASYNC_FLUSH", SETTINGS);
    let mut wire = Wire::to(&home.broker());
    assert_eq!(filtered(&mut wire, GBK), 6);
    assert_eq!(filtered(&mut wire, OTHER), 0);
    let found = |wire: &mut Wire, key: &[u8]| {
        let fields: [(&[u8], &[u8]); 5] = [
            (b"topic", TOPIC.as_bytes()),
            (b"key", key),
            (b"maxNum", b"32"),
            (b"beginTimestamp", b"0"),
            (b"endTimestamp", b"9223372036854775807"),
        ];
        client::records(&wire.ask(Encoding::Json, 12, &fields, b"").body).count()
    };
    let begun = Instant::now();
    while found(&mut wire, OTHER) < 6 {
        assert!(begun.elapsed() < DEADLINE, "the key that is not UTF-8 is not found");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(found(&mut wire, b"k2"), 0);
}

/// The connected consumers of a group.
async fn connected(home: &Home, group: &str) -> protocol::stats::ConsumerConnection {
    home.client().consumer_connections(&home.broker(), group).await.unwrap()
}

#[test]
fn heartbeats_are_accepted_in_the_notations_and_types_of_fastjson() {
    let home = Home::new();
    let _running = home.start();
    // Groups with the same content in other forms.
    let consumer = |group: &str, model: &str, kind: &str, odd: &str| {
        format!(
            r#"{{"groupName":"{group}","messageModel":{model},"consumeType":{kind},"consumeFromWhere":"4",{odd}
                "subscriptionDataSet":{{"topic":"orders","subString":"A || B","subVersion":"5.0","tagsSet":"A","codeSet":["65",66.0,]}},}}"#
        )
    };
    let consumers = [
        consumer("by_name", r#""clustering""#, r#""consume_passively""#, ""),
        consumer("by_ordinal", "1.0", "1", r#""unitMode":0,"#),
        consumer("by_text", r#""1""#, r#"'1'"#, r#""unitMode":"false","#),
        consumer("unknown", r#""no such model""#, "null", r#""unitMode":"","unknown":[{}, 'x', 1L],"#),
    ];
    let body = format!(
        "{{'clientID':'odd\u{1}\\ud83d','heartbeatFingerprint':'','withoutSub':null,'producerDataSet':{{'groupName':5}},
          'consumerDataSet':[null,{}]}}",
        consumers.join(" ")
    );
    let mut wire = Wire::to(&home.broker());
    let answer = wire.ask(Encoding::Json, 34, &[], body.as_bytes());
    assert_eq!(answer.code, 0, "{answer:?}");
    block_on(async {
        for group in ["by_name", "by_ordinal", "by_text", "unknown"] {
            let told = connected(&home, group).await;
            assert_eq!(told.message_model, Some(MessageModel::Clustering), "{group}");
            assert_eq!(told.consume_type, Some(ConsumeType::Passively), "{group}");
            assert_eq!(told.consume_from_where, Some(ConsumeFromWhere::FirstOffset), "{group}");
            let subscription = &told.subscription_table["orders"];
            assert_eq!((&*subscription.sub_string, subscription.sub_version), ("A || B", 5));
            assert_eq!(told.connection_set[0].client_id, "odd\u{1}?");
        }
    });
    let refused = wire.ask(Encoding::Json, 34, &[], br#"{"clientID":"x","heartbeatFingerprint":"abc"}"#);
    assert_eq!(refused.code, 1);
    assert!(refused.remark.unwrap().contains(r#""abc" is not an integer"#));
}

/// A client that is in a group, over a connection of its own.
fn member(home: &Home, client: &str, group: &str) -> Wire {
    let mut wire = Wire::to(&home.broker());
    let body = format!(
        r#"{{"clientID":"{client}","producerDataSet":[{{"groupName":"{group}"}}],"consumerDataSet":[{{"groupName":"{group}",
            "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionDataSet":[{{"topic":"t","subString":"*"}}]}}]}}"#
    );
    let answer = wire.ask(Encoding::Json, 34, &[], body.as_bytes());
    assert_eq!(answer.code, 0, "{answer:?}");
    wire
}

#[test]
fn a_request_cannot_close_the_connection_of_the_client_it_is_forwarded_to() {
    let home = Home::new();
    let _running = home.start();
    let mut victim = member(&home, "victim", "vg");
    let mut asker = Wire::to(&home.broker());
    // As read: below the longest frame. Escaped: 90 MiB.
    let long = vec![1; 15 << 20];
    for (code, group) in [(307, &b"consumerGroup"[..]), (309, b"consumerGroup"), (223, b"group")] {
        let fields: [(&[u8], &[u8]); 6] = [
            (group, b"vg"),
            (b"clientId", b"victim"),
            (b"topic", b"t"),
            (b"msgId", b"7F00000100002A9F0000000000000000"),
            (b"jstackEnable", b"false"),
            (b"x", &long),
        ];
        let answer = asker.ask(Encoding::Json, code, &fields, b"");
        let remark = answer.remark.unwrap_or_default();
        // 309 has no message to forward.
        assert!(
            answer.code == 29 && remark.contains("too long to be forwarded") || code == 309,
            "{code}: {remark}"
        );
    }
    let properties = b"REPLY_TO_CLIENT\\u0001victim\\u0002TAGS\\u0001\xb6\xa9\\u0002";
    let reply = |group| {
        let fields: [(&[u8], &[u8]); 9] = [
            (b"a", group),
            (b"b", b"vg_REPLY_TOPIC"),
            (b"c", b"TBW102"),
            (b"d", b"4"),
            (b"e", b"0"),
            (b"f", b"0"),
            (b"g", b"5"),
            (b"h", b"0"),
            (b"i", properties),
        ];
        common::wire::request(Encoding::Json, (325, 7), &fields, b"answer")
    };
    asker.write(&reply(&long)).unwrap();
    let refused = asker.next().unwrap();
    assert_eq!((refused.opaque, refused.code), (7, 13), "{:?}", refused.remark);
    // The next one is forwarded, as text that a JSON header can have.
    asker.write(&reply(b"g")).unwrap();
    let forwarded = std::iter::from_fn(|| victim.next())
        .find(|frame| frame.code == 326)
        .expect("the reply");
    let told = protocol::request_reply::PushReplyHeader::decode(&forwarded.ext).unwrap();
    assert!(told.properties.contains("TAGS\u{1}\u{fffd}\u{fffd}\u{2}"), "{}", told.properties);
    assert_eq!(&forwarded.body[..], b"answer");
}
