//! Unit tests of the topic table. Its concurrency tests are in `tests/interleavings.rs`.

use super::{CreateOnSend, PERM_INHERIT, PERM_READ, PERM_WRITE, Spec, TopicError, TopicLimits, Topics};
use crate::attributes::{self, Changes};
use crate::stats::BrokerStats;
use std::sync::Arc;

fn topics() -> Topics {
    let template = Spec {
        perm: PERM_READ | PERM_WRITE | PERM_INHERIT,
        ..Spec::new("TBW102", 8)
    };
    let limits = TopicLimits { topics: 4, queues: 64 };
    let stats = Arc::new(BrokerStats::new("c", 1000));
    Topics::new(vec![template], limits, stats, Arc::default(), 0)
}

fn send<'a>(topic: &'a str, template: &'a str, queues: i32) -> CreateOnSend<'a> {
    CreateOnSend {
        topic,
        template,
        queues,
        sys_flag: 0,
        message_type: None,
    }
}

#[test]
fn a_first_message_creates_its_topic_from_the_template() {
    let topics = topics();
    let made = topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap().unwrap();
    assert_eq!((made.write_queues, made.read_queues, made.perm), (4, 4, PERM_READ | PERM_WRITE));
    assert_eq!(topics.version().counter, 1);
    let again = topics.create_on_send(&send("a", "TBW102", 1), true, 6).unwrap().unwrap();
    assert!(Arc::ptr_eq(&made, &again));
    assert_eq!(topics.version().counter, 1);
    let many = topics.create_on_send(&send("b", "TBW102", 99), true, 7).unwrap().unwrap();
    assert_eq!(many.write_queues, 8);
    let few = topics.create_on_send(&send("c", "TBW102", -1), true, 7).unwrap().unwrap();
    assert_eq!(few.write_queues, 0);
}

#[test]
fn a_topic_is_not_created_without_an_inheritable_template() {
    let topics = topics();
    assert!(topics.create_on_send(&send("a", "absent", 4), true, 5).unwrap().is_none());
    assert!(topics.create_on_send(&send("a", "TBW102", 4), false, 5).unwrap().is_none());
    topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap();
    assert!(
        topics.create_on_send(&send("b", "a", 4), true, 5).unwrap().is_none(),
        "created topics are not templates"
    );
    assert_eq!(topics.version().counter, 1);
}

#[test]
fn a_topic_is_settled_once_a_table_with_it_is_settled() {
    let topics = topics();
    let changed = topics.changed().clone();
    assert!(topics.find("TBW102").unwrap().is_settled(&changed), "it existed at the start");
    topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap();
    topics.create_on_send(&send("b", "TBW102", 4), true, 5).unwrap();
    let is_settled = |name| topics.find(name).unwrap().is_settled(&changed);
    assert!(!is_settled("a") && !is_settled("b"));
    changed.settle(1, &Ok(()));
    assert!(is_settled("a") && !is_settled("b"));
    topics.mark_ordered(["a"].into_iter(), 6);
    assert!(is_settled("a"), "it was only changed since");
    changed.settle(3, &Ok(()));
    assert!(is_settled("b"));
}

#[test]
fn an_operator_creates_and_changes_topics() {
    let topics = topics();
    let changes = attributes::parse("+message.type=FIFO").unwrap();
    topics.update(vec![(Spec::new("a", 4), changes)], 1).unwrap();
    topics.update(vec![(Spec::new("a", 9), Changes::new())], 2).unwrap();
    let topic = topics.find("a").unwrap();
    assert_eq!((topic.read_queues, topic.attributes["message.type"].as_str()), (9, "FIFO"));
    assert_eq!(topics.version().counter, 2);
    topics.update(vec![(Spec::new("a", 9), Changes::new())], 3).unwrap();
    assert_eq!(topics.version().counter, 2, "nothing changed");
}

#[test]
fn retry_and_dead_letter_topics_recognise_no_repeats() {
    let topics = topics();
    let update = |name: &str, text: &str| topics.update(vec![(Spec::new(name, 1), attributes::parse(text).unwrap())], 1);
    for name in ["%RETRY%g", "%DLQ%g"] {
        let refused = update(name, "+dedup.window.seconds=60").unwrap_err().to_string();
        assert!(refused.starts_with("dedup.window.seconds cannot be set on topic["), "{refused}");
        assert!(topics.find(name).is_none());
    }
    update("%RETRY%g", "+dedup.window.seconds=0").unwrap();
    update("t", "+dedup.window.seconds=60").unwrap();
    assert_eq!(topics.find("t").unwrap().dedup.map(|rule| rule.window_ms), Some(60_000));
    update("t", "+dedup.window.seconds=0").unwrap();
    assert_eq!(topics.find("t").unwrap().dedup, None);
}

#[test]
fn an_invalid_update_changes_nothing() {
    let topics = topics();
    for (queues, perm) in [(65, 6), (-1, 6), (4, 16), (4, -1)] {
        let spec = Spec {
            perm,
            ..Spec::new("a", queues)
        };
        assert!(
            topics
                .update(vec![(Spec::new("b", 1), Changes::new()), (spec, Changes::new())], 1)
                .is_err()
        );
    }
    let four = ["a", "b", "c", "d"].map(|name| (Spec::new(name, 1), Changes::new()));
    assert_eq!(topics.update(four.into(), 1), Err(TopicError::Full(4)));
    assert_eq!(topics.len(), 1);
    assert_eq!(topics.version().counter, 0);
}

#[test]
fn counters_survive_a_change_of_the_topic() {
    let topics = topics();
    let before = topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap().unwrap();
    topics.mark_ordered(["a", "absent"].into_iter(), 6);
    let after = topics.find("a").unwrap();
    assert!(after.order && !before.order);
    assert!(Arc::ptr_eq(&before.counters, &after.counters));
}

#[test]
fn a_retry_topic_follows_the_order_of_its_group() {
    let topics = topics();
    let spec = |order| Spec {
        order,
        ..Spec::new("%RETRY%g", 1)
    };
    topics.create_for_group(spec(false), 1).unwrap();
    topics.create_for_group(spec(false), 2).unwrap();
    assert_eq!(topics.version().counter, 1);
    assert!(topics.create_for_group(spec(true), 3).unwrap().order);
}

#[test]
fn a_deleted_topic_is_not_found() {
    let topics = topics();
    topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap();
    drop(topics.begin_deletion("a", 6));
    assert!(topics.find("a").is_none());
    let version = topics.version();
    drop(topics.begin_deletion("a", 7));
    assert_eq!(topics.version(), version, "deleting a missing topic changes nothing");
    assert!(topics.is_system("TBW102") && topics.is_system("rmq_sys_x") && !topics.is_system("a"));
}

#[test]
fn a_recreated_topic_rejects_offsets_of_connections_older_than_it() {
    let topics = topics();
    let first = topics.create_on_send(&send("a", "TBW102", 4), true, 5).unwrap().unwrap();
    assert!(!first.may_have_stale_offsets(0));
    drop(topics.begin_deletion("a", 6));
    assert!(first.is_deleted());
    let again = topics.create_on_send(&send("a", "TBW102", 4), true, 7).unwrap().unwrap();
    assert!(again.is_recreated() && !again.is_deleted());
    let next = net::Connection::next_id();
    assert!(again.may_have_stale_offsets(next - 1) && !again.may_have_stale_offsets(next));
    topics.mark_ordered(["a"].into_iter(), 8);
    assert!(
        topics.find("a").unwrap().may_have_stale_offsets(next - 1),
        "a change does not recreate the topic"
    );
}

#[test]
fn no_topic_is_created_while_queues_of_its_name_are_deleted() {
    let topics = topics();
    topics.create_on_send(&send("a", "TBW102", 4), true, 1).unwrap();
    assert!(topics.begin_cleaning("a").is_none());
    let made = || {
        let on_send = topics.create_on_send(&send("a", "TBW102", 4), true, 2).map(drop);
        let for_group = topics.create_for_group(Spec::new("a", 1), 2).map(drop);
        let two = ["b", "a"].map(|name| (Spec::new(name, 1), Changes::new()));
        [on_send, for_group, topics.update(two.into(), 2)]
    };
    let (first, second) = (topics.begin_deletion("a", 2), topics.begin_deletion("a", 2));
    let cleaning = topics.begin_cleaning("a").unwrap();
    for deletion in [first, cleaning, second] {
        assert!(made().iter().all(|made| *made == Err(TopicError::BeingDeleted("a".to_owned()))));
        assert_eq!(topics.len(), 1, "all or none");
        drop(deletion);
    }
    assert!(made().iter().all(Result::is_ok));
    let _other = topics.begin_deletion("b", 3);
    topics.update(vec![(Spec::new("c", 9), Changes::new())], 4).unwrap();
}
