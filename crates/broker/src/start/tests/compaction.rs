//! Compacted topics, and limits of topics.

use super::*;
use crate::attributes::parse;
use crate::topic::Spec;

/// Nine messages a file, and a pass each 100 ms.
fn quick(settings: &mut BrokerSettings) {
    settings.compaction_mapped_file_size = 46_000;
    settings.compaction_cq_mapped_file_size = 460;
    settings.compaction_schedule_internal = Duration::from_millis(100);
    settings.clean_resource_interval = Duration::from_millis(100);
}

fn make(broker: &Broker, attributes: &str) {
    let spec = Spec::new("t", 1);
    let changes = parse(attributes).unwrap();
    broker.routes.core.topics.update(vec![(spec, changes)], now_ms()).unwrap();
}

fn send_with(properties: &str, body: &str) -> Frame {
    let mut frame = send("t", true);
    frame.ext.push("properties", properties);
    frame.body = body.as_bytes().to_vec().into();
    frame
}

fn keyed(n: usize) -> String {
    format!("KEYS\u{1}k{}\u{2}", n % 5)
}

/// Offsets of the messages of an answer.
fn offsets(answer: &Frame) -> Vec<i64> {
    let (mut rest, mut offsets) = (&answer.body[..], Vec::new());
    while let Ok(record) = message::record::Record::parse(rest) {
        offsets.push(record.queue_offset.0);
        rest = &rest[record.size..];
    }
    offsets
}

fn pull_from(offset: i64) -> Frame {
    let mut frame = pull("g", "4");
    frame.ext.push("queueOffset", offset.to_string().as_str());
    frame.ext.push("maxMsgNums", "32");
    frame.ext.push("subscription", "*");
    frame
}

async fn everything(peer: &Peer) -> Vec<i64> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let answer = peer.request(pull_from(at), SOON).await.unwrap();
        if ResponseCode::try_from(answer.code).unwrap() != ResponseCode::Success {
            return found;
        }
        found.extend(offsets(&answer));
        at = answer.ext.text("nextBeginOffset").unwrap().parse().unwrap();
    }
}

#[test]
fn a_compacted_topic_keeps_the_last_of_each_key_through_a_restart() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, quick);
    make(&broker, "+cleanup.policy=COMPACTION");
    block_on(async {
        let peer = connect(&broker).await;
        for n in 0..30 {
            assert_eq!(ask(&peer, send_with(&keyed(n), "value")).await, ResponseCode::Success);
        }
        let begun = Instant::now();
        while everything(&peer).await != (22..30).collect::<Vec<i64>>() {
            assert!(begun.elapsed() < SOON, "{:?}", everything(&peer).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    broker.stop().unwrap();
    let broker = start(&disk, quick);
    block_on(async {
        let peer = connect(&broker).await;
        assert_eq!(everything(&peer).await, (22..30).collect::<Vec<i64>>());
    });
    broker.stop().unwrap();
}

#[test]
fn a_compacted_topic_takes_keys_without_a_body_and_no_body_without_a_key() {
    let broker = start(&SimulatedDisk::new(1), |_| ());
    make(&broker, "+cleanup.policy=COMPACTION");
    block_on(async {
        let peer = connect(&broker).await;
        for (properties, body, expected) in [
            ("", "value", ResponseCode::MessageIllegal),
            ("KEYS\u{1}  \u{2}", "value", ResponseCode::MessageIllegal),
            ("KEYS\u{1}k\u{2}", "value", ResponseCode::Success),
            ("KEYS\u{1}k\u{2}", "", ResponseCode::Success),
        ] {
            assert_eq!(ask(&peer, send_with(properties, body)).await, expected, "{properties:?} {body}");
        }
        for (properties, expected) in [("KEYS\u{1}k\u{2}", ResponseCode::Success), ("", ResponseCode::MessageIllegal)] {
            let mut batch = Vec::new();
            let item = message::batch::Item {
                flag: 0,
                body: b"value",
                properties: properties.as_bytes(),
            };
            message::batch::push(&mut batch, item);
            let fields = [
                ("a", "p"),
                ("b", "t"),
                ("c", "TBW102"),
                ("d", "1"),
                ("e", "0"),
                ("f", "0"),
                ("g", "1"),
                ("h", "0"),
                ("m", "true"),
            ];
            let mut frame = request(RequestCode::SendBatchMessage, &fields, "");
            frame.body = batch.into();
            assert_eq!(ask(&peer, frame).await, expected, "in a batch: {properties:?}");
        }
    });
    broker.stop().unwrap();
}

#[test]
fn a_limit_of_bytes_moves_the_first_offset_up() {
    let broker = start(&SimulatedDisk::new(1), quick);
    make(&broker, "+retention.bytes=1000");
    block_on(async {
        let peer = connect(&broker).await;
        for n in 0..40 {
            assert_eq!(ask(&peer, send_with(&keyed(n), "value")).await, ResponseCode::Success);
        }
        until("messages are hidden", || broker.store.min_offset("t", 0).0 > 20);
        let first = broker.store.min_offset("t", 0).0;
        let answer = peer.request(pull_from(0), SOON).await.unwrap();
        assert_eq!(
            answer.ext.text("nextBeginOffset").unwrap().parse(),
            Ok(first),
            "the reader continues at the first"
        );
    });
    broker.stop().unwrap();
}
