//! Lite topics of a whole broker.

use super::*;
use crate::attributes;
use crate::topic::Spec;
use message::record::Record;
use message::{names, properties};
use protocol::lite::{LiteAction, LiteSubscription, LiteSubscriptionBody, OffsetKind, OffsetOption};

/// A popped message of a lite topic.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    lite: String,
    body: String,
    offset: i64,
    count: i32,
    handle: String,
}

fn with_lites(settings: &mut BrokerSettings) {
    settings.broker_name = "b".to_owned();
    settings.enable_lmq = true;
    settings.enable_multi_dispatch = true;
    settings.min_lite_ttl = Duration::from_millis(1);
}

fn make_parent(broker: &Broker, name: &str, more: &str) {
    let changes = attributes::parse(&format!("+message.type=LITE{more}")).unwrap();
    broker
        .routes
        .core
        .topics
        .update(vec![(Spec::new(name, 2), changes)], now_ms())
        .unwrap();
}

fn make_group(broker: &Broker, name: &str, more: &[(&str, &str)]) {
    let bind = ("+lite.bind.topic", "p");
    let attributes = std::iter::once(&bind).chain(more);
    let rule = crate::group::Rule {
        group_name: name.to_owned(),
        attributes: attributes.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..crate::group::Rule::default()
    };
    broker.routes.core.groups.update(vec![rule], now_ms()).unwrap();
}

fn lites(disk: &SimulatedDisk) -> Broker {
    let broker = start(disk, with_lites);
    make_parent(&broker, "p", "");
    make_group(&broker, "g", &[]);
    broker
}

async fn send_lite(peer: &Peer, lite: &str, body: &str) {
    let properties = format!("WAIT\u{1}true\u{2}{}\u{1}{lite}\u{2}", properties::LITE_TOPIC);
    let mut frame = send("p", true);
    frame.ext.remove("properties");
    frame.ext.push("properties", properties.as_str());
    frame.body = body.as_bytes().to_vec().into();
    let answer = peer.request(frame, SOON).await.unwrap();
    assert_eq!(answer.code, 0, "{:?}", answer.remark);
}

fn change(action: LiteAction, client: &str, lites: &[&str]) -> LiteSubscription {
    LiteSubscription {
        action,
        client_id: client.to_owned(),
        group: "g".to_owned(),
        topic: "p".to_owned(),
        lite_topic_set: lites.iter().map(|lite| (*lite).to_owned()).collect(),
        ..LiteSubscription::default()
    }
}

async fn subscribe_with(peer: &Peer, change: LiteSubscription) -> ResponseCode {
    let body = LiteSubscriptionBody {
        subscription_set: vec![change],
    };
    let text = String::from_utf8(protocol::json::write(&body)).unwrap();
    ask(peer, request(RequestCode::LiteSubscriptionCtl, &[], &text)).await
}

async fn subscribe(peer: &Peer, client: &str, lites: &[&str]) {
    let code = subscribe_with(peer, change(LiteAction::PartialAdd, client, lites)).await;
    assert_eq!(code, ResponseCode::Success);
}

fn pop_frame(client: &str, fields: &[(&str, &str)]) -> Frame {
    let mut frame = testing::frame(
        RequestCode::PopLiteMessage,
        &[
            ("clientId", client),
            ("consumerGroup", "g"),
            ("topic", "p"),
            ("maxMsgNum", "32"),
            ("invisibleTime", "60000"),
            ("pollTime", "0"),
            ("bornTime", "0"),
        ],
    );
    for (name, value) in fields {
        frame.ext.remove(name);
        frame.ext.push(name, *value);
    }
    frame
}

/// The messages of an answer, with the handles that a client makes.
fn got(answer: &Frame) -> (ResponseCode, Vec<Got>) {
    let code = ResponseCode::try_from(answer.code).unwrap();
    let text = |name: &str| answer.ext.text(name).unwrap_or_default().to_owned();
    let counts = text("orderCountInfo");
    let mut counts = counts.split(';').filter(|count| !count.is_empty());
    let (mut rest, mut found) = (&answer.body[..], Vec::new());
    while !rest.is_empty() {
        let record = Record::parse(rest).unwrap();
        let own = |name: &str| properties::text(record.properties, name).unwrap().into_owned();
        let offset = own(properties::INNER_MULTI_QUEUE_OFFSET);
        let handle = format!(
            "0 {} {} {} 0 b 0 {offset}",
            text("popTime"),
            text("invisibleTime"),
            text("reviveQid")
        );
        found.push(Got {
            lite: own(properties::LITE_TOPIC),
            body: String::from_utf8(record.body.to_vec()).unwrap(),
            offset: offset.parse().unwrap(),
            count: counts.next().unwrap().parse().unwrap(),
            handle,
        });
        rest = &rest[record.size..];
    }
    assert_eq!(counts.next(), None);
    (code, found)
}

async fn pop(peer: &Peer, client: &str, fields: &[(&str, &str)]) -> Vec<Got> {
    let (code, found) = got(&peer.request(pop_frame(client, fields), SOON).await.unwrap());
    let expected = if found.is_empty() {
        ResponseCode::PollingTimeout
    } else {
        ResponseCode::Success
    };
    assert_eq!(code, expected);
    found
}

fn of(code: RequestCode, message: &Got, more: &[(&str, &str)]) -> Frame {
    let offset = message.offset.to_string();
    let mut frame = testing::frame(
        code,
        &[
            ("consumerGroup", "g"),
            ("topic", "p"),
            ("queueId", "0"),
            ("offset", &offset),
            ("extraInfo", &message.handle),
            ("liteTopic", &message.lite),
        ],
    );
    for (name, value) in more {
        frame.ext.push(name, *value);
    }
    frame
}

async fn ack(peer: &Peer, message: &Got) {
    assert_eq!(ask(peer, of(RequestCode::AckMessage, message, &[])).await, ResponseCode::Success);
}

fn bodies(messages: &[Got]) -> Vec<&str> {
    messages.iter().map(|message| &*message.body).collect()
}

fn committed(broker: &Broker, lite: &str) -> Option<i64> {
    broker.routes.core.offsets.committed(&names::lite_queue("p", lite), "g", 0)
}

#[test]
fn a_client_gets_the_messages_of_its_lite_topics_in_their_order() {
    let broker = lites(&SimulatedDisk::new(1));
    block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a", "b"]).await;
        for (lite, body) in [("a", "1"), ("b", "2"), ("other", "3"), ("a", "4")] {
            send_lite(&peer, lite, body).await;
        }
        let first = pop(&peer, "c", &[]).await;
        assert_eq!(bodies(&first), ["1", "4", "2"], "those of a lite topic are together");
        assert!(first.iter().all(|message| message.count == 0));
        send_lite(&peer, "a", "5").await;
        assert_eq!(pop(&peer, "c", &[]).await, [], "in flight");
        ack(&peer, &first[0]).await;
        assert_eq!(committed(&broker, "a"), Some(1));
        assert_eq!(pop(&peer, "c", &[]).await, [], "4 is in flight");
        ack(&peer, &first[1]).await;
        assert_eq!(bodies(&pop(&peer, "c", &[]).await), ["5"]);
        ack(&peer, &first[2]).await;
        assert_eq!((committed(&broker, "b"), broker.routes.lites.in_flight()), (Some(1), 1));
    });
    broker.stop().unwrap();
}

#[test]
fn what_is_not_acknowledged_in_time_is_handed_out_again_and_counted() {
    let broker = lites(&SimulatedDisk::new(1));
    block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a"]).await;
        for body in ["1", "2", "3"] {
            send_lite(&peer, "a", body).await;
        }
        let first = pop(&peer, "c", &[("invisibleTime", "300")]).await;
        assert_eq!(bodies(&first), ["1", "2", "3"]);
        ack(&peer, &first[1]).await;
        assert_eq!(committed(&broker, "a"), Some(0), "1 holds it back");
        let again = pop(&peer, "c", &[("pollTime", "20000")]).await;
        assert_eq!(bodies(&again), ["1", "3"], "2 is acknowledged");
        assert_eq!((again[0].count, again[1].count), (1, 1));
        ack(&peer, &first[0]).await;
        assert_eq!(committed(&broker, "a"), Some(0), "too late: it was handed out again");
        let more = of(
            RequestCode::ChangeMessageInvisibletime,
            &again[0],
            &[("invisibleTime", "100"), ("suspend", "true")],
        );
        assert_eq!(ask(&peer, more).await, ResponseCode::Success);
        let third = pop(&peer, "c", &[("pollTime", "20000")]).await;
        assert_eq!(
            (bodies(&third), third[0].count),
            (vec!["1", "3"], 1),
            "a suspension is not a delivery"
        );
        let late = of(RequestCode::ChangeMessageInvisibletime, &again[0], &[("invisibleTime", "100")]);
        assert_eq!(ask(&peer, late).await, ResponseCode::NoMessage);
        ack(&peer, &third[0]).await;
        ack(&peer, &third[1]).await;
        assert_eq!((committed(&broker, "a"), broker.routes.lites.in_flight()), (Some(3), 0));
    });
    broker.stop().unwrap();
}

#[test]
fn a_parked_pop_is_woken_by_a_message_and_by_an_acknowledgement() {
    let broker = lites(&SimulatedDisk::new(1));
    block_on(async {
        let (peer, sender) = (connect(&broker).await, connect(&broker).await);
        subscribe(&peer, "c", &["a"]).await;
        let wait = [("pollTime", "20000"), ("maxMsgNum", "1")];
        let parked = peer.request(pop_frame("c", &wait), SOON);
        let send = async {
            until("it is parked", || broker.routes.lites.parked() == 1);
            send_lite(&sender, "a", "1").await;
            send_lite(&sender, "a", "2").await;
        };
        let (first, ()) = tokio::join!(parked, send);
        let (_, first) = got(&first.unwrap());
        assert_eq!(bodies(&first), ["1"]);
        let parked = peer.request(pop_frame("c", &wait), SOON);
        let acked = async {
            until("it is parked", || broker.routes.lites.parked() == 1);
            ack(&sender, &first[0]).await;
        };
        let (second, ()) = tokio::join!(parked, acked);
        assert_eq!(bodies(&got(&second.unwrap()).1), ["2"]);
    });
    broker.stop().unwrap();
}

#[test]
fn a_message_goes_to_one_client_of_a_shared_group_and_a_client_that_leaves_frees_it() {
    let broker = lites(&SimulatedDisk::new(1));
    block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a"]).await;
        subscribe(&peer, "d", &["a"]).await;
        assert_eq!(broker.routes.lites.subscriptions(), 2);
        send_lite(&peer, "a", "1").await;
        let first = pop(&peer, "c", &[]).await;
        assert_eq!(bodies(&first), ["1"]);
        assert_eq!(pop(&peer, "d", &[]).await, []);
        let soon = of(RequestCode::ChangeMessageInvisibletime, &first[0], &[("invisibleTime", "10")]);
        assert_eq!(ask(&peer, soon).await, ResponseCode::Success);
        assert_eq!(
            subscribe_with(&peer, change(LiteAction::CompleteRemove, "c", &[])).await,
            ResponseCode::Success
        );
        let again = pop(&peer, "d", &[("pollTime", "20000")]).await;
        assert_eq!((bodies(&again), again[0].count), (vec!["1"], 1));
        assert_eq!(broker.routes.lites.subscriptions(), 1);
        broker.routes.lites.remove_client("g", "d");
        assert_eq!(broker.routes.lites.subscriptions(), 0);
    });
    broker.stop().unwrap();
}

#[test]
fn in_an_exclusive_group_the_last_subscriber_has_the_lite_topic() {
    let broker = lites(&SimulatedDisk::new(1));
    make_group(
        &broker,
        "g",
        &[("+lite.sub.model", "Exclusive"), ("+lite.sub.reset.offset.exclusive", "true")],
    );
    block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a", "b"]).await;
        send_lite(&peer, "a", "1").await;
        let first = pop(&peer, "c", &[]).await;
        ack(&peer, &first[0]).await;
        subscribe(&peer, "d", &["a"]).await;
        assert_eq!(pop(&peer, "c", &[]).await, []);
        assert_eq!(bodies(&pop(&peer, "d", &[]).await), ["1"], "from the first message");
        // Who has lost it does not get it back by repeating what it had.
        let all = change(LiteAction::CompleteAdd, "c", &["a", "b"]);
        assert_eq!(subscribe_with(&peer, all).await, ResponseCode::Success);
        assert_eq!(broker.routes.lites.subscriptions(), 2);
    });
    broker.stop().unwrap();
}

#[test]
fn a_wildcard_group_gets_messages_of_all_lite_topics() {
    let broker = lites(&SimulatedDisk::new(1));
    make_group(&broker, "g", &[("+lite.sub.wildcard", "true")]);
    block_on(async {
        let (peer, sender) = (connect(&broker).await, connect(&broker).await);
        send_lite(&peer, "a", "1").await;
        let partial = change(LiteAction::PartialAdd, "c", &["a"]);
        assert_eq!(subscribe_with(&peer, partial).await, ResponseCode::IllegalOperation);
        assert_eq!(
            subscribe_with(&peer, change(LiteAction::CompleteAdd, "c", &[])).await,
            ResponseCode::Success
        );
        assert_eq!(bodies(&pop(&peer, "c", &[]).await), ["1"]);
        let parked = peer.request(pop_frame("c", &[("pollTime", "20000")]), SOON);
        let send = async {
            until("it is parked", || broker.routes.lites.parked() == 1);
            send_lite(&sender, "new", "2").await;
        };
        let (answer, ()) = tokio::join!(parked, send);
        let (_, second) = got(&answer.unwrap());
        assert_eq!(bodies(&second), ["2"]);
        ack(&peer, &second[0]).await;
        broker.routes.lites.remove_client("g", "c");
        assert_eq!(broker.routes.lites.subscriptions(), 0);
    });
    broker.stop().unwrap();
}

#[test]
fn what_was_in_flight_is_handed_out_again_after_a_restart_and_nothing_else() {
    let disk = SimulatedDisk::new(1);
    let broker = lites(&disk);
    let first = block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a", "b"]).await;
        for (lite, body) in [("a", "1"), ("a", "2"), ("b", "3")] {
            send_lite(&peer, lite, body).await;
        }
        let first = pop(&peer, "c", &[]).await;
        assert_eq!(bodies(&first), ["1", "2", "3"]);
        ack(&peer, &first[0]).await;
        first
    });
    broker.stop().unwrap();
    let broker = start(&disk, with_lites);
    block_on(async {
        let peer = connect(&broker).await;
        send_lite(&peer, "b", "4").await;
        ack(&peer, &first[2]).await;
        assert_eq!(committed(&broker, "b"), Some(1), "the handle of the last run");
        let all = change(LiteAction::CompleteAdd, "c", &["a", "b"]);
        assert_eq!(subscribe_with(&peer, all).await, ResponseCode::Success);
        let mut again = pop(&peer, "c", &[]).await;
        again.sort_by_key(|message| message.lite.clone());
        assert_eq!(bodies(&again), ["2", "4"]);
    });
    broker.stop().unwrap();
}

#[test]
fn a_repeated_request_gets_the_same_messages_again() {
    let broker = lites(&SimulatedDisk::new(1));
    block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a"]).await;
        send_lite(&peer, "a", "1").await;
        let first = pop(&peer, "c", &[("attemptId", "x")]).await;
        let again = pop(&peer, "c", &[("attemptId", "x")]).await;
        assert_eq!((bodies(&first), bodies(&again), again[0].count), (vec!["1"], vec!["1"], 0));
        assert_eq!(pop(&peer, "c", &[("attemptId", "y")]).await, []);
        ack(&peer, &again[0]).await;
        assert_eq!(pop(&peer, "c", &[("attemptId", "x")]).await, []);
    });
    broker.stop().unwrap();
}

#[test]
fn a_client_chooses_where_its_group_continues() {
    let broker = lites(&SimulatedDisk::new(1));
    block_on(async {
        let peer = connect(&broker).await;
        for body in ["1", "2", "3", "4"] {
            send_lite(&peer, "a", body).await;
        }
        for (kind, value, expected) in [
            (OffsetKind::Policy, OffsetOption::MAX, vec![]),
            (OffsetKind::Policy, OffsetOption::LAST, vec![]),
            (OffsetKind::TailN, 1, vec!["4"]),
            (OffsetKind::Offset, 1, vec!["2", "3", "4"]),
            (OffsetKind::Timestamp, 0, vec!["1", "2", "3", "4"]),
            (OffsetKind::Policy, OffsetOption::MIN, vec!["1", "2", "3", "4"]),
        ] {
            let with = LiteSubscription {
                offset_option: Some(OffsetOption { kind, value }),
                ..change(LiteAction::PartialAdd, "c", &["a"])
            };
            assert_eq!(subscribe_with(&peer, with).await, ResponseCode::Success);
            let found = pop(&peer, "c", &[]).await;
            assert_eq!(bodies(&found), expected, "{kind:?} {value}");
            for message in &found {
                ack(&peer, message).await;
            }
        }
    });
    broker.stop().unwrap();
}

#[test]
fn limits_are_kept_and_named() {
    let broker = start(&SimulatedDisk::new(1), |settings| {
        with_lites(settings);
        settings.max_lite_subscription_count = 3;
        settings.max_lite_subscribers = 1;
    });
    make_parent(&broker, "p", "");
    make_group(&broker, "g", &[("+lite.sub.client.quota", "2")]);
    block_on(async {
        let peer = connect(&broker).await;
        let refused = async |change: LiteSubscription| {
            let body = LiteSubscriptionBody {
                subscription_set: vec![change],
            };
            let text = String::from_utf8(protocol::json::write(&body)).unwrap();
            let answer = peer
                .request(request(RequestCode::LiteSubscriptionCtl, &[], &text), SOON)
                .await
                .unwrap();
            (ResponseCode::try_from(answer.code).unwrap(), answer.remark.unwrap_or_default())
        };
        subscribe(&peer, "c", &["a", "b"]).await;
        for (change, code, why) in [
            (
                change(LiteAction::PartialAdd, "c", &["x"]),
                ResponseCode::LiteSubscriptionQuotaExceeded,
                "lite.sub.client.quota",
            ),
            (
                change(LiteAction::PartialAdd, "d", &["a"]),
                ResponseCode::LiteSubscriptionQuotaExceeded,
                "apogeeMaxLiteSubscribers",
            ),
            (
                change(LiteAction::CompleteAdd, "d", &["x", "y"]),
                ResponseCode::LiteSubscriptionQuotaExceeded,
                "maxLiteSubscriptionCount",
            ),
            (
                change(LiteAction::PartialAdd, "c", &["x$y"]),
                ResponseCode::InvalidParameter,
                "cannot be a lite topic",
            ),
            (
                change(LiteAction::PartialAdd, "", &["x"]),
                ResponseCode::IllegalOperation,
                "clientId",
            ),
            (
                change(LiteAction::Unknown, "c", &["x"]),
                ResponseCode::IllegalOperation,
                "PARTIAL_ADD",
            ),
            (
                LiteSubscription {
                    group: "other".to_owned(),
                    ..change(LiteAction::PartialAdd, "c", &["x"])
                },
                ResponseCode::SubscriptionGroupNotExist,
                "updateSubGroup",
            ),
        ] {
            let (refused, text) = refused(change).await;
            assert!(refused == code && text.contains(why), "{refused:?} {text}");
        }
        assert_eq!(broker.routes.lites.subscriptions(), 2);
        for (fields, code) in [
            ([("topic", "none"), ("maxMsgNum", "1")], ResponseCode::TopicNotExist),
            (
                [("consumerGroup", "none"), ("maxMsgNum", "1")],
                ResponseCode::SubscriptionGroupNotExist,
            ),
            ([("consumerGroup", "g"), ("maxMsgNum", "33")], ResponseCode::InvalidParameter),
        ] {
            let answer = peer.request(pop_frame("c", &fields), SOON).await.unwrap();
            assert_eq!(ResponseCode::try_from(answer.code), Ok(code), "{fields:?}");
        }
    });
    broker.stop().unwrap();
}

#[test]
fn lite_topics_expire_with_their_offsets_and_those_of_a_deleted_topic_are_deleted() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, with_lites);
    make_parent(&broker, "p", ",+lite.topic.expiration=1");
    make_group(&broker, "g", &[]);
    block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a", "b"]).await;
        send_lite(&peer, "a", "1").await;
        send_lite(&peer, "b", "2").await;
        let found = pop(&peer, "c", &[]).await;
        ack(&peer, &found[0]).await;
        let lites = Arc::clone(&broker.routes.lites);
        lites.expire_now(now_ms());
        assert_eq!(broker.store.light_queue_count(), 2, "they are young");
        lites.expire_now(now_ms() + 61_000);
        assert_eq!(broker.store.light_queue_count(), 0);
        assert_eq!((lites.subscriptions(), lites.in_flight()), (0, 0));
        assert_eq!((committed(&broker, "a"), committed(&broker, "b")), (None, None));
        subscribe(&peer, "c", &["a"]).await;
        send_lite(&peer, "a", "3").await;
        assert_eq!(bodies(&pop(&peer, "c", &[]).await), ["3"], "it begins again");
    });
    broker.stop().unwrap();
    let broker = start(&disk, with_lites);
    assert_eq!(broker.store.light_queue_count(), 1);
    block_on(async {
        let peer = connect(&broker).await;
        let delete = request(RequestCode::DeleteTopicInBroker, &[("topic", "p")], "");
        assert_eq!(ask(&peer, delete).await, ResponseCode::Success);
        assert_eq!(broker.store.light_queue_count(), 0);
    });
    broker.stop().unwrap();
}

#[test]
fn a_client_that_is_gone_frees_its_subscriptions() {
    let broker = start(&SimulatedDisk::new(1), |settings| {
        with_lites(settings);
        settings.lite_subscription_check_timeout = Duration::from_millis(1_000);
        settings.lite_subscription_check_interval = Duration::from_millis(100);
    });
    make_parent(&broker, "p", "");
    make_group(&broker, "g", &[]);
    block_on(async {
        let peer = connect(&broker).await;
        subscribe(&peer, "c", &["a", "b"]).await;
        until("its subscriptions are gone", || broker.routes.lites.subscriptions() == 0);
    });
    broker.stop().unwrap();
}

#[test]
fn operators_see_topics_groups_and_clients() {
    use protocol::lite::{BrokerLiteInfo, LiteClientInfo, LiteGroupInfo, LiteTopicInfo, ParentTopicInfo};
    let broker = start(&SimulatedDisk::new(1), with_lites);
    make_parent(&broker, "p", ",+lite.topic.expiration=7");
    make_group(&broker, "g", &[]);
    block_on(async {
        let peer = connect(&broker).await;
        let asked = async |code, fields: &[(&str, &str)]| {
            let answer = peer.request(testing::frame(code, fields), SOON).await.unwrap();
            assert_eq!(answer.code, 0, "{:?}", answer.remark);
            answer.body
        };
        subscribe(&peer, "c", &["a", "b"]).await;
        for (lite, body) in [("b", "1"), ("a", "2"), ("a", "3")] {
            send_lite(&peer, lite, body).await;
        }
        let first = pop(&peer, "c", &[("maxMsgNum", "1")]).await;
        assert_eq!(bodies(&first), ["1"]);
        let info: BrokerLiteInfo = protocol::json::read(&asked(RequestCode::GetBrokerLiteInfo, &[]).await).unwrap();
        assert_eq!(
            (info.current_lmq_num, info.lite_subscription_count, info.order_info_count),
            (2, 2, 1)
        );
        assert_eq!((info.event_map_size, info.topic_meta["p"]), (1, 7));
        assert!(info.group_meta["p"].contains("g"));
        let info: ParentTopicInfo = protocol::json::read(&asked(RequestCode::GetParentTopicInfo, &[("topic", "p")]).await).unwrap();
        assert_eq!((info.lite_topic_count, info.ttl, info.groups.unwrap().len()), (2, 7, 1));
        let of_lite = [("parentTopic", "p"), ("liteTopic", "a")];
        let info: LiteTopicInfo = protocol::json::read(&asked(RequestCode::GetLiteTopicInfo, &of_lite).await).unwrap();
        assert_eq!((info.topic_offset.max_offset, info.subscriber.len()), (2, 1));
        assert!(info.topic_offset.last_update_timestamp > 0 && info.sharding_to_broker);
        let of_client = [("parentTopic", "p"), ("group", "g"), ("clientId", "c")];
        let info: LiteClientInfo = protocol::json::read(&asked(RequestCode::GetLiteClientInfo, &of_client).await).unwrap();
        assert!(info.lite_topic_count == 2 && info.last_consume_time > now_ms() - 60_000, "{info:?}");
        assert!(info.lite_topic_set.unwrap().contains("%LMQ%$p$a"));
        let of_nobody = [("parentTopic", "p"), ("group", "g"), ("clientId", "nobody")];
        let info: LiteClientInfo = protocol::json::read(&asked(RequestCode::GetLiteClientInfo, &of_nobody).await).unwrap();
        assert_eq!((info.lite_topic_count, info.last_access_time), (-1, -1));
        let of_group = [("group", "g"), ("topK", "1")];
        let info: LiteGroupInfo = protocol::json::read(&asked(RequestCode::GetLiteGroupInfo, &of_group).await).unwrap();
        let most = &info.lag_count_top_k.as_ref().unwrap()[0];
        assert_eq!((info.total_lag_count, most.lag_count, &*most.lite_topic), (3, 2, "a"));
        let oldest = &info.lag_timestamp_top_k.as_ref().unwrap()[0];
        assert_eq!(
            (&*oldest.lite_topic, oldest.earliest_unconsumed_timestamp),
            ("b", info.earliest_unconsumed_timestamp)
        );
        ack(&peer, &first[0]).await;
        let of_lite = [("group", "g"), ("liteTopic", "b")];
        let info: LiteGroupInfo = protocol::json::read(&asked(RequestCode::GetLiteGroupInfo, &of_lite).await).unwrap();
        let wrapper = info.lite_topic_offset_wrapper.unwrap();
        assert_eq!((info.total_lag_count, wrapper.broker_offset, wrapper.consumer_offset), (0, 1, 1));
        asked(RequestCode::TriggerLiteDispatch, &[("group", "g")]).await;
        let refused = testing::frame(RequestCode::GetParentTopicInfo, &[("topic", "none")]);
        assert_eq!(ask(&peer, refused).await, ResponseCode::TopicNotExist);
    });
    broker.stop().unwrap();
}
