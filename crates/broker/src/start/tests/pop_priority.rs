//! POP of topics whose messages have priorities.

use super::popping::*;
use super::*;
use crate::attributes::{Changes, PRIORITY_FACTOR};
use crate::topic::Spec;

/// A topic of three queues with priorities.
fn with_priorities(broker: &Broker) {
    let changes = Changes::from([("+message.type".to_owned(), "PRIORITY".to_owned())]);
    broker.routes.core.topics.update(vec![(Spec::new("t", 3), changes)], 1).unwrap();
}

async fn send_priorities(peer: &Peer, priorities: &[&str]) {
    for priority in priorities {
        let mut frame = send("t", true);
        frame.ext.remove("properties");
        frame
            .ext
            .push("properties", format!("_SYS_MSG_PRIORITY_\u{1}{priority}\u{2}").as_str());
        frame.body = priority.as_bytes().to_vec().into();
        assert_eq!(ask(peer, frame).await, ResponseCode::Success);
    }
}

/// What single pops of one message each get, until there is nothing left.
async fn one_by_one(peer: &Peer, fields: &[(&str, &str)]) -> Vec<String> {
    let mut got = Vec::new();
    let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("maxMsgNums", "1")]).collect();
    while let (ResponseCode::Success, found) = pop(peer, "t", &fields).await {
        got.extend(found.into_iter().map(|message| message.body));
    }
    got
}

#[test]
fn the_highest_priority_is_popped_first() {
    for (is_ascending, expected) in [(true, ["2", "2", "1", "1", "0", "0"]), (false, ["0", "0", "1", "1", "2", "2"])] {
        let broker = start(&SimulatedDisk::new(1), |settings| {
            named(settings);
            settings.priority_order_asc = is_ascending;
        });
        with_priorities(&broker);
        block_on(async {
            let peer = connect(&broker).await;
            send_priorities(&peer, &["0", "1", "2", "0", "1", "2"]).await;
            assert_eq!(one_by_one(&peer, &[]).await, expected);
            let (_, together) = pop(&peer, "t", &[("consumerGroup", "h")]).await;
            assert_eq!(bodies(&together), expected, "in one answer, too");
        });
        broker.stop().unwrap();
    }
}

#[test]
fn a_group_without_a_priority_factor_reads_all_queues_in_turn() {
    let broker = start(&SimulatedDisk::new(1), named);
    with_priorities(&broker);
    block_on(async {
        let peer = connect(&broker).await;
        let group = format!(r#"{{"groupName":"g","attributes":{{"+{PRIORITY_FACTOR}":"0"}}}}"#);
        let update = request(RequestCode::UpdateAndCreateSubscriptiongroup, &[], &group);
        assert_eq!(ask(&peer, update).await, ResponseCode::Success);
        send_priorities(&peer, &["0", "1", "2", "0", "1", "2"]).await;
        let got = one_by_one(&peer, &[]).await;
        assert_eq!(got.len(), 6);
        assert_ne!(got[..2], ["2", "2"], "the second pop starts at another queue");
    });
    broker.stop().unwrap();
}

#[test]
fn retried_messages_come_last_and_by_their_priority_if_they_keep_their_queues() {
    for is_separate in [false, true] {
        let broker = start(&SimulatedDisk::new(1), |settings| {
            named(settings);
            settings.use_separate_retry_queue = is_separate;
        });
        with_priorities(&broker);
        block_on(async {
            let peer = connect(&broker).await;
            send_priorities(&peer, &["0", "2", "1"]).await;
            let short = [("invisibleTime", "50")];
            assert_eq!(bodies(&pop(&peer, "t", &short).await.1), ["2", "1", "0"]);
            let core = &broker.routes.core;
            let stored = || (0..3).map(|queue| core.store.max_offset("%RETRY%g_t", queue).0).collect::<Vec<_>>();
            until("all are in the retry topic", || stored().iter().sum::<i64>() == 3);
            assert_eq!(stored(), if is_separate { [1, 1, 1] } else { [3, 0, 0] });
            send_priorities(&peer, &["0"]).await;
            let got = one_by_one(&peer, &[]).await;
            assert_eq!(got[0], "0", "what was not retried is first");
            let expected: &[&str] = if is_separate { &["2", "1", "0"] } else { &[] };
            assert!(got.len() == 4 && (expected.is_empty() || got[1..] == *expected), "{got:?}");
            assert_eq!(core.topics.find("%RETRY%g_t").unwrap().read_queues, if is_separate { 3 } else { 1 });
        });
        broker.stop().unwrap();
    }
}

#[test]
fn a_retry_topic_gets_queues_when_they_become_separate() {
    let disk = SimulatedDisk::new(1);
    for (is_separate, priority, expected) in [(false, "2", [1, 0, 0]), (true, "1", [1, 1, 0])] {
        let broker = start(&disk, |settings| {
            named(settings);
            settings.use_separate_retry_queue = is_separate;
        });
        with_priorities(&broker);
        block_on(async {
            let peer = connect(&broker).await;
            send_priorities(&peer, &[priority]).await;
            assert_eq!(
                bodies(&pop(&peer, "t", &[("maxMsgNums", "1"), ("invisibleTime", "50")]).await.1),
                [priority]
            );
            let core = &broker.routes.core;
            until("it is in the retry topic", || {
                (0..3).map(|queue| core.store.max_offset("%RETRY%g_t", queue).0).collect::<Vec<_>>() == expected
            });
            let rest = pop_later(&peer, "t", &[]).await;
            assert_eq!(
                (bodies(&rest), rest[0].queue_id),
                (vec![priority], priority.parse().unwrap_or(0) * i32::from(is_separate))
            );
            assert_eq!(ack(&peer, &rest[0]).await, ResponseCode::Success);
        });
        broker.stop().unwrap();
    }
}
