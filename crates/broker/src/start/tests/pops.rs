//! POP of a whole broker.

use super::popping::*;
use super::*;
use protocol::pop::handle::Handle;

#[test]
fn messages_are_invisible_until_they_are_acknowledged_or_their_time_has_passed() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1", "2", "3"]).await;
        let (code, first) = pop(&peer, "t", &[("maxMsgNums", "2"), ("invisibleTime", "700")]).await;
        assert_eq!((code, bodies(&first)), (ResponseCode::Success, vec!["1", "2"]));
        let (_, second) = pop(&peer, "t", &[]).await;
        assert_eq!(bodies(&second), ["3"]);
        assert_eq!(pop(&peer, "t", &[]).await.0, ResponseCode::PollingTimeout);
        assert_eq!(ack(&peer, &first[0]).await, ResponseCode::Success);
        assert_eq!(ack(&peer, &second[0]).await, ResponseCode::Success);
        assert_eq!(committed(&broker, "t"), Some(0), "the second message holds back the offset");
        let again = pop_later(&peer, "t", &[]).await;
        assert_eq!((bodies(&again), again[0].reconsume_times), (vec!["2"], 1));
        assert_eq!(again[0].topic, "%RETRY%g_t");
        assert_eq!(ack(&peer, &first[1]).await, ResponseCode::Success, "late, without effect");
        assert_eq!(ack(&peer, &again[0]).await, ResponseCode::Success);
        until("what was handed out again is on the device", || committed(&broker, "t") == Some(3));
        until("the retry is acknowledged", || committed(&broker, "%RETRY%g_t") == Some(1));
        assert_eq!(broker.routes.pops.in_flight(), 0);
    });
    broker.stop().unwrap();
}

#[test]
fn a_parked_pop_gets_the_next_message_and_a_group_gets_it_once() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let (peer, other, sender) = (connect(&broker).await, connect(&broker).await, connect(&broker).await);
        send_bodies(&sender, "t", &["old"]).await;
        pop(&peer, "t", &[]).await;
        let wait = [("pollTime", "20000")];
        let first = peer.request(pop_frame("t", &wait), SOON);
        let second = other.request(pop_frame("t", &wait), SOON);
        let send = async {
            until("both are parked", || {
                broker.routes.pops.polling(&protocol::pop::PollingInfoHeader {
                    consumer_group: "g",
                    topic: "t",
                    queue_id: -1,
                }) == 2
            });
            send_bodies(&sender, "t", &["a"]).await;
            send_bodies(&sender, "t", &["b"]).await;
        };
        let (first, second, ()) = tokio::join!(first, second, send);
        let mut got: Vec<String> = [first, second]
            .into_iter()
            .flat_map(|answer| popped(&answer.unwrap()).1)
            .map(|message| message.body)
            .collect();
        got.sort();
        assert_eq!(got, ["a", "b"]);
        let (code, found) = pop(&peer, "t", &[("pollTime", "300")]).await;
        assert_eq!((code, found.len()), (ResponseCode::PollingTimeout, 0));
    });
    broker.stop().unwrap();
}

#[test]
fn what_is_in_flight_survives_a_restart() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, named);
    let first = block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1", "2", "3"]).await;
        let (_, first) = pop(&peer, "t", &[("invisibleTime", "3000")]).await;
        assert_eq!(ack(&peer, &first[0]).await, ResponseCode::Success);
        first
    });
    broker.stop().unwrap();
    let broker = start(&disk, named);
    block_on(async {
        let peer = connect(&broker).await;
        assert_eq!(committed(&broker, "t"), Some(3));
        assert_eq!(ack(&peer, &first[1]).await, ResponseCode::Success, "an old handle");
        assert_eq!(pop(&peer, "t", &[]).await.0, ResponseCode::PollingTimeout, "still invisible");
        assert_eq!(bodies(&pop_later(&peer, "t", &[]).await), ["3"]);
    });
    broker.stop().unwrap();
    let broker = start(&disk, named);
    until("nothing is in flight but the retry", || broker.routes.pops.in_flight() == 1);
    broker.stop().unwrap();
}

#[test]
fn in_order_a_queue_hands_out_nothing_before_all_is_acknowledged() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, named);
    let order = [("order", "true"), ("maxMsgNums", "2")];
    let first = block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1", "2", "3"]).await;
        let (_, first) = pop(&peer, "t", &order).await;
        assert_eq!(bodies(&first), ["1", "2"]);
        assert_eq!(pop(&peer, "t", &order).await.0, ResponseCode::PollingTimeout);
        assert_eq!(ack(&peer, &first[0]).await, ResponseCode::Success);
        first
    });
    broker.stop().unwrap();
    let broker = start(&disk, named);
    block_on(async {
        let (peer, other) = (connect(&broker).await, connect(&broker).await);
        assert_eq!(
            pop(&peer, "t", &order).await.0,
            ResponseCode::PollingTimeout,
            "blocked after a restart, too"
        );
        let change = of_message(RequestCode::ChangeMessageInvisibletime, &first[1], &[("invisibleTime", "200")]);
        assert_eq!(ask(&peer, change).await, ResponseCode::Success);
        let again = pop_later(&peer, "t", &order).await;
        assert_eq!(bodies(&again), ["2", "3"], "from the same queue");
        let wait = [("order", "true"), ("pollTime", "20000")];
        let (parked, ()) = tokio::join!(other.request(pop_frame("t", &wait), SOON), async {
            send_bodies(&peer, "t", &["4"]).await;
            assert_eq!(ack(&peer, &again[0]).await, ResponseCode::Success);
            assert_eq!(ack(&peer, &again[1]).await, ResponseCode::Success);
        });
        assert_eq!(bodies(&popped(&parked.unwrap()).1), ["4"]);
        assert_eq!(committed(&broker, "t"), Some(3));
        assert!(!broker.routes.core.topics.contains("%RETRY%g_t"));
    });
    broker.stop().unwrap();
}

#[test]
fn in_order_a_message_with_more_time_comes_again_with_all_that_follow_it() {
    let broker = start(&SimulatedDisk::new(1), named);
    let order = [("order", "true"), ("maxMsgNums", "3")];
    block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1", "2", "3", "4"]).await;
        let (_, first) = pop(&peer, "t", &order).await;
        assert_eq!(bodies(&first), ["1", "2", "3"]);
        assert_eq!(ack(&peer, &first[0]).await, ResponseCode::Success);
        let change = of_message(RequestCode::ChangeMessageInvisibletime, &first[1], &[("invisibleTime", "300")]);
        assert_eq!(ask(&peer, change).await, ResponseCode::Success);
        assert_eq!(ack(&peer, &first[2]).await, ResponseCode::Success);
        assert_eq!(pop(&peer, "t", &order).await.0, ResponseCode::PollingTimeout);
        assert_eq!(bodies(&pop_later(&peer, "t", &order).await), ["2", "3", "4"]);
    });
    broker.stop().unwrap();
}

#[test]
fn a_notification_in_order_looks_again_when_its_time_is_over() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let (peer, other, sender) = (connect(&broker).await, connect(&broker).await, connect(&broker).await);
        send_bodies(&sender, "t", &["old"]).await;
        assert_eq!(ack(&sender, &pop(&sender, "t", &[]).await.1[0]).await, ResponseCode::Success);
        let note = |attempt: &'static str, poll_time: &'static str| {
            let fields = [
                ("consumerGroup", "g"),
                ("topic", "t"),
                ("queueId", "-1"),
                ("pollTime", poll_time),
                ("bornTime", "0"),
                ("order", "true"),
                ("attemptId", attempt),
            ];
            testing::frame(RequestCode::Notification, &fields)
        };
        let has_messages = |answer: Frame| answer.ext.text("hasMsg") == Some("true");
        let (first, second, ()) = tokio::join!(
            peer.request(note("mine", "2000"), SOON),
            other.request(note("mine", "2000"), SOON),
            async {
                until("both are parked", || broker.routes.pops.parked_notices() == 2);
                send_bodies(&sender, "t", &["1"]).await;
                let mine = [("order", "true"), ("attemptId", "mine")];
                assert_eq!(pop(&sender, "t", &mine).await.1.len(), 1);
            }
        );
        assert!(
            has_messages(first.unwrap()) && has_messages(second.unwrap()),
            "a pop with this id gets the message again"
        );
        assert!(
            !has_messages(peer.request(note("other", "1"), SOON).await.unwrap()),
            "the queue is blocked for others"
        );
    });
    broker.stop().unwrap();
}

#[test]
fn a_message_gets_more_time_under_a_new_handle() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1"]).await;
        let (_, first) = pop(&peer, "t", &[]).await;
        let change = |message: &Popped, fields: &[(&str, &str)]| of_message(RequestCode::ChangeMessageInvisibletime, message, fields);
        let fields = [("invisibleTime", "500"), ("suspend", "true")];
        let answer = peer.request(change(&first[0], &fields), SOON).await.unwrap();
        assert_eq!((answer.code, answer.ext.text("invisibleTime")), (0, Some("500")));
        assert_eq!(
            ask(&peer, change(&first[0], &fields)).await,
            ResponseCode::NoMessage,
            "the old handle is void"
        );
        assert_eq!(ack(&peer, &first[0]).await, ResponseCode::Success, "without effect");
        let again = pop_later(&peer, "t", &[]).await;
        assert_eq!(
            (bodies(&again), again[0].reconsume_times),
            (vec!["1"], 0),
            "a suspension is no retry"
        );
        let bad = Popped {
            handle: "1 2 3".to_owned(),
            ..first[0].clone()
        };
        assert_eq!(ack(&peer, &bad).await, ResponseCode::SystemError);
        let outside = Popped {
            offset: 9,
            ..first[0].clone()
        };
        assert_eq!(ack(&peer, &outside).await, ResponseCode::NoMessage);
    });
    broker.stop().unwrap();
}

#[test]
fn a_message_that_fails_too_often_is_a_dead_letter() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1"]).await;
        let group = request(
            RequestCode::UpdateAndCreateSubscriptiongroup,
            &[],
            r#"{"groupName":"g","retryMaxTimes":1}"#,
        );
        assert_eq!(ask(&peer, group).await, ResponseCode::Success);
        let short = [("invisibleTime", "50")];
        assert_eq!(pop(&peer, "t", &short).await.1[0].reconsume_times, 0);
        assert_eq!(pop_later(&peer, "t", &short).await[0].reconsume_times, 1);
        let store = &broker.routes.core.store;
        until("it is in the dead letter topic", || store.max_offset("%DLQ%g", 0).0 == 1);
        assert_eq!(pop(&peer, "t", &[("pollTime", "200")]).await.0, ResponseCode::PollingTimeout);
        assert_eq!(broker.routes.pops.in_flight(), 0);
    });
    broker.stop().unwrap();
}

#[test]
fn batches_of_acknowledgements_notifications_and_peeks() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let (peer, sender) = (connect(&broker).await, connect(&broker).await);
        send_bodies(&sender, "t", &["1", "2", "3"]).await;
        let peek = [("consumerGroup", "g"), ("topic", "t"), ("queueId", "0"), ("maxMsgNums", "9")];
        let answer = peer.request(testing::frame(RequestCode::PeekMessage, &peek), SOON).await.unwrap();
        assert_eq!((answer.code, answer.ext.text("restNum")), (0, Some("3")));
        let (_, all) = pop(&peer, "t", &[]).await;
        let handle = Handle::parse(&all[0].handle).unwrap();
        let (pop_time, revive) = (handle.pop_time, handle.revive_queue);
        let acks = format!(
            r#"{{"brokerName":"b","acks":[{{"c":"g","t":"t","r":"0","so":0,"q":0,"rq":{revive},"pt":{pop_time},"it":60000,"b":"Bw=="}}]}}"#
        );
        assert_eq!(
            ask(&peer, request(RequestCode::BatchAckMessage, &[], &acks)).await,
            ResponseCode::Success
        );
        assert_eq!((committed(&broker, "t"), broker.routes.pops.in_flight()), (Some(3), 0));
        assert_eq!(
            ask(&peer, request(RequestCode::BatchAckMessage, &[], "{}")).await,
            ResponseCode::NoMessage
        );
        let wait = [
            ("consumerGroup", "g"),
            ("topic", "t"),
            ("queueId", "-1"),
            ("pollTime", "20000"),
            ("bornTime", "0"),
        ];
        let (notified, ()) = tokio::join!(
            peer.request(testing::frame(RequestCode::Notification, &wait), SOON),
            send_bodies(&sender, "t", &["4"])
        );
        assert_eq!(notified.unwrap().ext.text("hasMsg"), Some("true"));
        assert_eq!(bodies(&pop(&peer, "t", &[]).await.1), ["4"]);
        let none = [
            ("consumerGroup", "g"),
            ("topic", "t"),
            ("queueId", "0"),
            ("pollTime", "0"),
            ("bornTime", "0"),
        ];
        let answer = peer.request(testing::frame(RequestCode::Notification, &none), SOON).await.unwrap();
        assert_eq!(answer.ext.text("hasMsg"), Some("false"));
    });
    broker.stop().unwrap();
}

#[test]
fn pops_select_by_tag_and_by_expression() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let (peer, sender) = (connect(&broker).await, connect(&broker).await);
        let send_value = |value: &'static str| {
            let mut frame = send("t", true);
            let properties = format!("a\u{1}{value}\u{2}TAGS\u{1}tag{value}\u{2}");
            frame.ext.push("properties", properties.as_str());
            frame.body = value.as_bytes().to_vec().into();
            frame
        };
        for value in ["1", "2", "3", "4"] {
            assert_eq!(ask(&sender, send_value(value)).await, ResponseCode::Success);
        }
        let by_tag = [("expType", "TAG"), ("exp", "tag2 || tag4")];
        assert_eq!(bodies(&pop(&peer, "t", &by_tag).await.1), ["2", "4"]);
        let by_sql = [("expType", "SQL92"), ("exp", "a > 1 AND a < 4"), ("consumerGroup", "h")];
        assert_eq!(bodies(&pop(&peer, "t", &by_sql).await.1), ["2", "3"]);
        let parked = by_sql.iter().copied().chain([("pollTime", "20000")]).collect::<Vec<_>>();
        let (answer, ()) = tokio::join!(peer.request(pop_frame("t", &parked), SOON), async {
            for value in ["9", "3"] {
                assert_eq!(ask(&sender, send_value(value)).await, ResponseCode::Success);
            }
        });
        assert_eq!(bodies(&popped(&answer.unwrap()).1), ["3"]);
        let bad = [("expType", "SQL92"), ("exp", "a >")];
        assert_eq!(pop(&peer, "t", &bad).await.0, ResponseCode::SubscriptionParseFailed);
        assert_eq!(pop(&peer, "missing", &[]).await.0, ResponseCode::TopicNotExist);
        assert_eq!(pop(&peer, "t", &[("maxMsgNums", "33")]).await.0, ResponseCode::InvalidParameter);
    });
    broker.stop().unwrap();
}

#[test]
fn a_queue_with_too_much_in_flight_hands_out_no_more() {
    let broker = start(&SimulatedDisk::new(1), |settings| {
        named(settings);
        settings.pop_threshold_enable = true;
        settings.pop_inflight_threshold = 1;
    });
    block_on(async {
        let (peer, other) = (connect(&broker).await, connect(&broker).await);
        send_bodies(&peer, "t", &["1", "2", "3"]).await;
        let (_, first) = pop(&peer, "t", &[("maxMsgNums", "2")]).await;
        assert_eq!(pop(&peer, "t", &[]).await.0, ResponseCode::PollingTimeout);
        let (parked, ()) = tokio::join!(other.request(pop_frame("t", &[("pollTime", "20000")]), SOON), async {
            assert_eq!(ack(&peer, &first[0]).await, ResponseCode::Success);
        });
        assert_eq!(bodies(&popped(&parked.unwrap()).1), ["3"]);
    });
    broker.stop().unwrap();
}

#[test]
fn a_reset_by_an_operator_is_applied_by_a_parked_pop() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let (peer, other) = (connect(&broker).await, connect(&broker).await);
        send_bodies(&peer, "t", &["1", "2"]).await;
        assert_eq!(bodies(&pop(&peer, "t", &[]).await.1), ["1", "2"]);
        let fields = [
            ("topic", "t"),
            ("group", "g"),
            ("timestamp", "0"),
            ("isForce", "true"),
            ("offset", "0"),
            ("queueId", "0"),
        ];
        let (parked, code) = tokio::join!(other.request(pop_frame("t", &[("pollTime", "20000")]), SOON), async {
            until("it is parked", || !broker.routes.pops.is_idle());
            ask(&peer, request(RequestCode::InvokeBrokerToResetOffset, &fields, "")).await
        });
        assert_eq!(code, ResponseCode::Success);
        assert_eq!(
            bodies(&popped(&parked.unwrap()).1),
            ["1", "2"],
            "from the new offset, although they are in flight"
        );
    });
    broker.stop().unwrap();
}
