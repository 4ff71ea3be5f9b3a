use super::*;
use crate::queue::MessageQueue;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
struct Body {
    ints: BTreeMap<i64, String>,
    names: BTreeMap<String, i64>,
    #[serde(with = "object_keys")]
    queues: BTreeMap<MessageQueue, i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn keys_are_written_as_java_writes_them() {
    let body = Body {
        ints: [(0, "a".to_owned()), (-1, "b".to_owned())].into(),
        names: [("5".to_owned(), 1), ("\"q\\".to_owned(), 2), (String::new(), 3)].into(),
        queues: [(MessageQueue::new("t\"", "b\\", 0), 9)].into(),
        text: None,
    };
    let java = r#"{"ints":{-1:"b",0:"a"},"names":{"":3,"\"q\\":2,"5":1},"queues":{{"brokerName":"b\\","queueId":0,"topic":"t\""}:9}}"#;
    assert_eq!(text(write(&body)), java);
    assert_eq!(read::<Body>(java.as_bytes()), Ok(body));
    assert_eq!(
        text(write_standard(&Body {
            ints: [(7, "a".to_owned())].into(),
            ..Body::default()
        })),
        r#"{"ints":{"7":"a"},"names":{},"queues":{}}"#
    );
}

#[test]
fn null_members_and_loose_whitespace_are_read() {
    let body = read::<Body>(b" { \"ints\" : null, \"text\" : \"x\" , \"unknown\": [null, 1, {}] } ").expect("read");
    assert_eq!(
        body,
        Body {
            text: Some("x".to_owned()),
            ..Body::default()
        }
    );
}

#[test]
fn what_is_no_json_is_refused() {
    for bad in ["", "{", "{0:1", "{0:1}}", "{,}", "[1,2", "{\"a\"1}", "{{}:1", "x"] {
        assert!(read::<Body>(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(read::<serde_json::Value>("[".repeat(1 << 20).as_bytes()).is_err());
    assert!(read::<serde_json::Value>(format!("{{0:[{}0]}}", "0,".repeat(2 << 20)).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn reading_undoes_writing(
        ints in proptest::collection::btree_map(any::<i64>(), ".*", 0..5),
        names in proptest::collection::btree_map(".*", any::<i64>(), 0..5),
        queues in proptest::collection::btree_map((".*", ".*", any::<i32>()), any::<i64>(), 0..5),
        text in proptest::option::of(".*"),
    ) {
        let queues = queues.into_iter().map(|((topic, broker, id), offset)| (MessageQueue::new(topic, broker, id), offset)).collect();
        let body = Body { ints, names, queues, text };
        prop_assert_eq!(read::<Body>(&write(&body)), Ok(body));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), like in r#"[\{\}\[\]":,0-9a-c\\un. -]{0,60}"#) {
        let _ = read::<Body>(&bytes);
        let _ = read::<serde_json::Value>(like.as_bytes());
    }
}
