//! What users of POP reported of Apache's broker, each as what must hold here.

use super::popping::*;
use super::support::{left_by_crash, send_to};
use super::*;
use std::collections::BTreeMap;

/// Check points are written as soon as they are made.
fn written_at_once(settings: &mut BrokerSettings) {
    named(settings);
    settings.pop_stay = Duration::ZERO;
}

async fn deleted(peer: &Peer, topic: &str) {
    let delete = request(RequestCode::DeleteTopicInBroker, &[("topic", topic)], "");
    assert_eq!(ask(peer, delete).await, ResponseCode::Success);
}

async fn more_time(peer: &Peer, message: &Popped, invisible_ms: &str) -> Popped {
    let fields = [("invisibleTime", invisible_ms)];
    let change = of_message(RequestCode::ChangeMessageInvisibletime, message, &fields);
    let answer = peer.request(change, SOON).await.unwrap();
    assert_eq!(answer.code, 0);
    let of = |name| answer.ext.text(name).unwrap().to_owned();
    let Popped { offset, queue_id, .. } = message;
    Popped {
        handle: format!(
            "{offset} {} {} {} 0 b {queue_id} {offset}",
            of("popTime"),
            of("invisibleTime"),
            of("reviveQid")
        ),
        ..message.clone()
    }
}

/// Report 7914.
#[test]
fn whatever_is_acknowledged_at_random_the_rest_comes_again_until_it_is() {
    let broker = start(&SimulatedDisk::new(1), written_at_once);
    block_on(async {
        let peer = connect(&broker).await;
        let sent: Vec<String> = (0..60).map(|n| n.to_string()).collect();
        send_bodies(&peer, "t", &sent.iter().map(|body| &**body).collect::<Vec<_>>()).await;
        let mut acked = BTreeMap::new();
        let mut random = 7u32;
        while acked.len() < sent.len() {
            for message in pop_later(&peer, "t", &[("invisibleTime", "100"), ("maxMsgNums", "7")]).await {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // The later a try, the more likely: none becomes a dead letter.
                if random >> 24 < 60 + 40 * message.reconsume_times as u32 {
                    assert_eq!(ack(&peer, &message).await, ResponseCode::Success);
                    acked.insert(message.body, ());
                }
            }
        }
        assert_eq!(
            acked
                .into_keys()
                .map(|body| body.parse().unwrap())
                .collect::<std::collections::BTreeSet<u32>>(),
            (0..60).collect()
        );
    });
    broker.stop().unwrap();
}

/// Report 3787.
#[test]
fn a_slow_consumer_that_is_in_time_gets_nothing_twice() {
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk, written_at_once);
    block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1", "2", "3", "4"]).await;
        let (_, all) = pop(&peer, "t", &[]).await;
        let revive_records = || {
            let core = &broker.routes.core;
            (0..8)
                .map(|queue| core.store.max_offset("rmq_sys_REVIVE_LOG_DefaultCluster", queue).0)
                .sum::<i64>()
        };
        until("the check point is in the log", || revive_records() == 1);
        for message in &all {
            assert_eq!(ack(&peer, message).await, ResponseCode::Success);
        }
        until("all is done", || {
            broker.routes.pops.in_flight() == 0 && committed(&broker, "t") == Some(4)
        });
        assert!(!broker.routes.core.topics.contains("%RETRY%g_t"));
    });
    broker.stop().unwrap();
    let broker = start(&disk, written_at_once);
    assert_eq!(broker.routes.pops.in_flight(), 0, "nothing comes again after a restart");
    broker.stop().unwrap();
}

/// Report 8479.
#[test]
fn what_was_in_flight_of_a_deleted_topic_touches_no_message_of_its_successor() {
    for crash in [false, true] {
        let disk = SimulatedDisk::new(1);
        let broker = start(&disk, written_at_once);
        block_on(async {
            let peer = connect(&broker).await;
            send_bodies(&peer, "t", &["1", "2", "3"]).await;
            send_bodies(&peer, "u", &["other"]).await;
            assert_eq!(pop(&peer, "t", &[("invisibleTime", "2000")]).await.1.len(), 3);
            assert_eq!(pop(&peer, "u", &[("invisibleTime", "2000")]).await.1.len(), 1);
            let revive = |queue| broker.routes.core.store.max_offset("rmq_sys_REVIVE_LOG_DefaultCluster", queue).0;
            until("the check points are in the log", || (0..8).map(revive).sum::<i64>() == 2);
            let popped_before = now_ms();
            deleted(&peer, "t").await;
            until("the clock has moved", || now_ms() > popped_before);
            send_bodies(&peer, "t", &["new"]).await;
        });
        let (broker, _old) = if crash {
            let left = left_by_crash(&disk, None);
            (start(&left, written_at_once), Some(broker.stop()))
        } else {
            (broker, None)
        };
        block_on(async {
            let peer = connect(&broker).await;
            let new = pop_later(&peer, "t", &[]).await;
            assert_eq!((bodies(&new), new[0].reconsume_times), (vec!["new"], 0), "crash: {crash}");
            assert_eq!(ack(&peer, &new[0]).await, ResponseCode::Success);
            let other = pop_later(&peer, "u", &[]).await;
            assert_eq!(
                (bodies(&other), other[0].reconsume_times),
                (vec!["other"], 1),
                "what is due later is not stuck"
            );
            assert!(!broker.routes.core.topics.contains("%RETRY%g_t"), "crash: {crash}");
        });
        broker.stop().unwrap();
    }
}

/// Report 7208.
#[test]
fn a_deleted_topic_leaves_no_retry_topic_of_pop() {
    for (is_v2, between) in [(false, '_'), (true, '+')] {
        let broker = start(&SimulatedDisk::new(1), |settings| {
            named(settings);
            settings.retry_topic_v2 = is_v2;
        });
        block_on(async {
            let peer = connect(&broker).await;
            let topics = &broker.routes.core.topics;
            for topic in ["t", "other_t"] {
                send_bodies(&peer, topic, &["1"]).await;
                assert_eq!(pop(&peer, topic, &[("invisibleTime", "50")]).await.1.len(), 1);
                until("it is retried", || topics.contains(&format!("%RETRY%g{between}{topic}")));
            }
            deleted(&peer, "t").await;
            assert!(!topics.contains(&format!("%RETRY%g{between}t")));
            let other = pop_later(&peer, "other_t", &[]).await;
            assert_eq!(other[0].reconsume_times, 1, "that of a topic with a longer name stays");
        });
        broker.stop().unwrap();
    }
}

/// Report 6681.
#[test]
fn a_parked_pop_gets_a_message_as_soon_as_it_is_retried() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let peer = connect(&broker).await;
        send_bodies(&peer, "t", &["1"]).await;
        for times in 0..4 {
            // A pop that waits until its deadline is answered without messages.
            let found = pop_later(&peer, "t", &[("invisibleTime", "100")]).await;
            assert_eq!((bodies(&found), found[0].reconsume_times), (vec!["1"], times));
        }
    });
    broker.stop().unwrap();
}

/// Report 9583.
#[test]
fn one_message_of_many_with_more_time_is_acknowledged_by_its_new_handle() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let peer = connect(&broker).await;
        let sent: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        send_bodies(&peer, "t", &sent.iter().map(|body| &**body).collect::<Vec<_>>()).await;
        let (_, all) = pop(&peer, "t", &[("invisibleTime", "500")]).await;
        let renewed = more_time(&peer, &all[4], "500").await;
        assert_eq!(ack(&peer, &renewed).await, ResponseCode::Success);
        let mut again = Vec::new();
        while again.len() < 9 {
            again.extend(pop_later(&peer, "t", &[]).await);
        }
        until("only these are in flight", || {
            let topics = &broker.routes.core;
            topics.store.max_offset("%RETRY%g_t", 0).0 == 9 && committed(&broker, "t") == Some(10)
        });
        assert!(again.iter().all(|message| message.body != "4"), "{:?}", bodies(&again));
    });
    broker.stop().unwrap();
}

/// Report 10278.
#[test]
fn more_time_holds_without_the_connection_that_asked_for_it() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let (proxy, other) = (connect(&broker).await, connect(&broker).await);
        send_bodies(&other, "t", &["1", "2"]).await;
        let (_, all) = pop(&proxy, "t", &[("invisibleTime", "300")]).await;
        let first = more_time(&proxy, &all[0], "60000").await;
        more_time(&proxy, &all[1], "700").await;
        drop(proxy);
        let again = pop_later(&other, "t", &[]).await;
        assert_eq!(
            (bodies(&again), again[0].reconsume_times),
            (vec!["2"], 1),
            "once, when its new time has passed"
        );
        assert_eq!(
            ack(&other, &first).await,
            ResponseCode::Success,
            "whoever has the handle acknowledges"
        );
        assert_eq!(ack(&other, &again[0]).await, ResponseCode::Success);
        until("both are done", || {
            broker.routes.pops.in_flight() == 0 && committed(&broker, "t") == Some(2)
        });
    });
    broker.stop().unwrap();
}

/// Report 7999.
#[test]
fn order_is_kept_by_consumers_side_by_side_also_in_a_group_that_was_not_made_for_it() {
    let broker = start(&SimulatedDisk::new(1), named);
    block_on(async {
        let peers = [connect(&broker).await, connect(&broker).await];
        for n in 0..6u8 {
            send_to(&broker, "t", 0, format!("KEYS\u{1}{n}\u{2}").as_bytes());
        }
        let (mut order, mut failed) = (Vec::new(), false);
        while order.len() < 6 {
            for peer in &peers {
                let fields = [("order", "true"), ("maxMsgNums", "2"), ("invisibleTime", "60000")];
                let (_, found) = pop(peer, "t", &fields).await;
                let Some(message) = found.first() else { continue };
                // The other consumer gets nothing of the queue meanwhile.
                for other in &peers {
                    assert_eq!(pop(other, "t", &fields).await.0, ResponseCode::PollingTimeout);
                }
                if message.offset == 2 && !failed {
                    failed = true;
                    let again = [("invisibleTime", "1")];
                    for message in &found {
                        let change = of_message(RequestCode::ChangeMessageInvisibletime, message, &again);
                        assert_eq!(ask(peer, change).await, ResponseCode::Success);
                    }
                    continue;
                }
                for message in &found {
                    order.push(message.offset);
                    assert_eq!(ack(peer, message).await, ResponseCode::Success);
                }
            }
        }
        assert!(failed);
        assert_eq!(order, (0..6).collect::<Vec<i64>>());
    });
    broker.stop().unwrap();
}
