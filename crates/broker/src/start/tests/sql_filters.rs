//! Pulls that are filtered by SQL expressions.

use super::*;
use protocol::heartbeat;

/// Messages to queue 0 of topic `t`, with the property `a` of these values.
async fn send_values(peer: &Peer, values: impl Iterator<Item = usize>) {
    for value in values {
        let mut frame = send("t", true);
        let properties = format!("a\u{1}{value}\u{2}k\u{1}v\u{2}");
        frame.ext.push("properties", properties.as_str());
        assert_eq!(ask(peer, frame).await, ResponseCode::Success);
    }
}

/// A pull of group `g`; with an expression of its own, or of the heartbeat's version.
fn pull_by(expression: Option<&str>, version: i64, offset: i64, waits: bool) -> Frame {
    let flags = if waits { 2 } else { 0 } + if expression.is_some() { 4 } else { 0 };
    let mut frame = pull("g", &flags.to_string());
    frame.ext.push("queueOffset", offset.to_string().as_str());
    frame.ext.push("maxMsgNums", "32");
    frame.ext.push("subVersion", version.to_string().as_str());
    frame.ext.push("expressionType", "SQL92");
    frame.ext.push("subscription", expression.unwrap_or_default());
    frame
}

fn beat(expression: &str, version: i64) -> Frame {
    let subscription = format!(r#"{{"topic":"t","subString":"{expression}","subVersion":{version},"expressionType":"SQL92"}}"#);
    let body = format!(r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"g","subscriptionDataSet":[{subscription}]}}]}}"#);
    request(RequestCode::HeartBeat, &[], &body)
}

/// Code, next offset and values of `a` in an answer.
fn seen(answer: &Frame) -> (ResponseCode, i64, Vec<String>) {
    let (mut rest, mut values) = (&answer.body[..], Vec::new());
    while let Ok(record) = message::record::Record::parse(rest) {
        values.push(message::properties::text(record.properties, "a").unwrap().into_owned());
        rest = &rest[record.size..];
    }
    let next = answer.ext.text("nextBeginOffset").and_then(|text| text.parse().ok()).unwrap_or(-1);
    (ResponseCode::try_from(answer.code).unwrap(), next, values)
}

async fn seen_by(peer: &Peer, frame: Frame) -> (ResponseCode, i64, Vec<String>) {
    seen(&peer.request(frame, SOON).await.unwrap())
}

fn texts(values: impl Iterator<Item = usize>) -> Vec<String> {
    values.map(|value| value.to_string()).collect()
}

#[test]
fn a_pull_gets_what_its_expression_selects() {
    let broker = start(&SimulatedDisk::new(1), |settings| settings.max_filter_message_size = 20 * 100);
    block_on(async {
        let peer = connect(&broker).await;
        send_values(&peer, 0..300).await;
        let few = "a = 3 OR a BETWEEN 40 AND 42";
        let found = seen_by(&peer, pull_by(Some(few), 0, 0, false)).await;
        assert_eq!(found, (ResponseCode::Success, 64, texts([3, 40, 41, 42].into_iter())));
        let all = seen_by(&peer, pull_by(Some("a >= 10"), 0, 0, false)).await;
        assert_eq!(all, (ResponseCode::Success, 42, texts(10..42)), "32 messages");
        // What is over the limits of one pull is left to the next.
        let (none, mut at) = ("a > 1000 OR b IS NOT NULL", 0);
        let mut steps = Vec::new();
        while at < 300 {
            let (code, next, values) = seen_by(&peer, pull_by(Some(none), 0, at, true)).await;
            assert_eq!((code, values.len()), (ResponseCode::PullRetryImmediately, 0));
            assert!(next > at && next - at <= 200);
            steps.push(next);
            at = next;
        }
        assert!(steps.len() > 1, "{steps:?}");
        let refused = peer.request(pull_by(Some("a = "), 0, 0, false), SOON).await.unwrap();
        assert_eq!(refused.code, i32::from(ResponseCode::SubscriptionParseFailed));
        assert!(refused.remark.unwrap().contains("at character 5: expected a property"));
    });
    broker.stop().unwrap();
}

#[test]
fn a_parked_pull_sleeps_through_what_it_does_not_select() {
    let broker = start(&SimulatedDisk::new(1), |_| ());
    let puller = &broker.routes.puller;
    block_on(async {
        let (sender, peer) = (connect(&broker).await, connect(&broker).await);
        send_values(&sender, 0..1).await;
        let (told, answer) = std::sync::mpsc::channel();
        let done = move |answer: Result<Frame, _>| told.send(answer.unwrap()).unwrap();
        let parked = pull_by(Some("a = 150"), 0, 1, true);
        peer.connection().request(parked, SOON, done).unwrap();
        until("the pull is parked", || puller.parked() == 1);
        send_values(&sender, 1..150).await;
        until("it looked at all and is parked again", || puller.parked() == 1);
        assert!(answer.try_recv().is_err());
        send_values(&sender, 150..151).await;
        let answer = tokio::task::spawn_blocking(move || answer.recv_timeout(SOON).unwrap())
            .await
            .unwrap();
        assert_eq!(seen(&answer), (ResponseCode::Success, 151, texts(150..151)));
    });
    until("nothing is parked", || puller.is_clean());
    broker.stop().unwrap();
}

#[test]
fn a_group_pulls_by_the_expression_of_its_heartbeat_also_after_a_restart() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, |_| ());
    block_on(async {
        let peer = connect(&broker).await;
        send_values(&peer, 0..10).await;
        assert_eq!(ask(&peer, beat("a > 7", 5)).await, ResponseCode::Success);
        let found = seen_by(&peer, pull_by(None, 5, 0, false)).await;
        assert_eq!(found, (ResponseCode::Success, 10, texts(8..10)));
        assert_eq!(ask(&peer, pull_by(None, 6, 0, false)).await, ResponseCode::SubscriptionNotLatest);
        // Who is parked is sent back for the new expression.
        let (told, answer) = std::sync::mpsc::channel();
        let done = move |answer: Result<Frame, _>| told.send(answer.unwrap()).unwrap();
        peer.connection().request(pull_by(None, 5, 10, true), SOON, done).unwrap();
        until("the pull is parked", || broker.routes.puller.parked() == 1);
        assert_eq!(ask(&peer, beat("a > 8", 6)).await, ResponseCode::Success);
        let answer = tokio::task::spawn_blocking(move || answer.recv_timeout(SOON).unwrap())
            .await
            .unwrap();
        assert_eq!(seen(&answer).0, ResponseCode::PullRetryImmediately);
        // One that cannot be compiled.
        assert_eq!(ask(&peer, beat("a >", 7)).await, ResponseCode::Success);
        let refused = peer.request(pull_by(None, 7, 0, false), SOON).await.unwrap();
        assert_eq!(refused.code, i32::from(ResponseCode::FilterDataNotExist));
        assert!(refused.remark.unwrap().contains("at character 4"));
        assert_eq!(ask(&peer, beat("a > 6", 8)).await, ResponseCode::Success);
    });
    broker.stop().unwrap();
    let broker = start(&disk, |_| ());
    let restored = broker.routes.online.consumers.filters().find("g", "t").unwrap();
    assert_eq!((&*restored.text, restored.version), ("a > 6", 8));
    block_on(async {
        let peer = connect(&broker).await;
        // As by tags: nobody of the group is here yet.
        assert_eq!(ask(&peer, pull_by(None, 8, 0, false)).await, ResponseCode::SubscriptionNotExist);
        assert_eq!(ask(&peer, beat("a > 6", 8)).await, ResponseCode::Success);
        let found = seen_by(&peer, pull_by(None, 8, 0, false)).await;
        assert_eq!(found, (ResponseCode::Success, 10, texts(7..10)));
    });
    broker.stop().unwrap();
}

#[test]
fn messages_of_a_retry_topic_are_filtered_as_those_of_their_first_topic() {
    let broker = start(&SimulatedDisk::new(1), |settings| settings.filter_support_retry = true);
    block_on(async {
        let peer = connect(&broker).await;
        send_values(&peer, 0..1).await;
        let by_sql = |topic: &str, text: &str| heartbeat::Subscription {
            topic: topic.to_owned(),
            sub_string: text.to_owned(),
            sub_version: 1,
            expression_type: heartbeat::SQL92.to_owned(),
            ..Default::default()
        };
        let told = heartbeat::HeartbeatData {
            client_id: "c".to_owned(),
            consumers: vec![heartbeat::ConsumerData {
                group_name: "g".to_owned(),
                subscriptions: vec![by_sql("t", "a > 5"), by_sql("%RETRY%g", "TRUE")],
                ..Default::default()
            }],
            ..Default::default()
        };
        let body = String::from_utf8(protocol::json::write(&told)).unwrap();
        assert_eq!(ask(&peer, request(RequestCode::HeartBeat, &[], &body)).await, ResponseCode::Success);
        for (value, first) in [("5", "t"), ("6", "t"), ("4", "other")] {
            let mut frame = send("%RETRY%g", true);
            let properties = format!("a\u{1}{value}\u{2}RETRY_TOPIC\u{1}{first}\u{2}");
            frame.ext.push("properties", properties.as_str());
            assert_eq!(ask(&peer, frame).await, ResponseCode::Success);
        }
        let mut frame = pull_by(None, 1, 0, false);
        frame.ext.push("topic", "%RETRY%g");
        assert_eq!(
            seen_by(&peer, frame).await,
            (ResponseCode::Success, 3, vec!["6".to_owned(), "4".to_owned()])
        );
    });
    broker.stop().unwrap();
}
