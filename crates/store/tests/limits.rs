//! Limits of a topic that are lower than those of the log.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{PLENTY, ROOT, bodies, send};
use message::QueueOffset;
use message::record::Draft;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::{FlushMode, ReadSource, ReadStatus, Store, StoreOptions, TopicRule, TopicRules};

const TOPIC: &str = "limited";

/// Rules that a test changes.
#[derive(Clone)]
struct Rules(Arc<Mutex<TopicRule>>);

impl TopicRules for Rules {
    fn topics(&self) -> Vec<(String, TopicRule)> {
        vec![(TOPIC.to_owned(), *self.0.lock().unwrap())]
    }
}

fn rules(rule: TopicRule) -> Rules {
    Rules(Arc::new(Mutex::new(rule)))
}

fn open(disk: &SimulatedDisk, rules: &Rules) -> Arc<Store> {
    let store = common::open(Arc::new(disk.clone()), StoreOptions::small(ROOT, FlushMode::Sync)).unwrap();
    store.set_topic_rules(Box::new(rules.clone())).unwrap();
    store
}

/// Sends a message that is stored at the disk's time.
fn send_now(disk: &SimulatedDisk, store: &Store, body: &str) {
    let now = disk.now_ms();
    let mut placed = Vec::new();
    let draft = Draft::new(TOPIC, 0, body.as_bytes());
    let ticket = store.append(&[draft], &[store.queue(TOPIC, 0)], now, &mut placed).unwrap();
    let (done, outcome) = std::sync::mpsc::channel();
    store.complete_then(ticket, true, move |o| done.send(o).unwrap_or(()));
    outcome.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
}

#[test]
fn messages_older_than_the_topic_keeps_them_are_hidden() {
    let disk = SimulatedDisk::new(1);
    disk.advance_clock(Duration::from_secs(1_000_000));
    let hour = rules(TopicRule {
        reserved_ms: Some(3_600_000),
        ..TopicRule::default()
    });
    let store = open(&disk, &hour);
    for n in 0..6 {
        send_now(&disk, &store, &format!("body {n}"));
        disk.advance_clock(Duration::from_secs(1_200));
    }
    assert_eq!(store.min_offset(TOPIC, 0).0, 0);
    store.run_background_work().unwrap();
    assert_eq!(store.min_offset(TOPIC, 0).0, 3);
    let result = store.read(TOPIC, 0, QueueOffset(0), PLENTY, &|_| true, ReadSource::Disk).unwrap();
    assert_eq!((result.status, result.next.0), (ReadStatus::OffsetTooSmall, 3));
    assert_eq!(bodies(&store, TOPIC, 0, 3), ["body 3", "body 4", "body 5"]);
    store.close().unwrap();
    drop(store);
    let store = open(&disk, &hour);
    assert_eq!(store.min_offset(TOPIC, 0).0, 3, "they are hidden from the start");
    disk.advance_clock(Duration::from_secs(100_000));
    store.run_background_work().unwrap();
    assert_eq!(
        (store.min_offset(TOPIC, 0).0, store.max_offset(TOPIC, 0).0),
        (6, 6),
        "all are older"
    );
    send_now(&disk, &store, "body 6");
    store.run_background_work().unwrap();
    assert_eq!(bodies(&store, TOPIC, 0, 6), ["body 6"]);
    store.close().unwrap();
}

#[test]
fn newest_messages_within_the_bytes_of_the_topic_are_visible() {
    let disk = SimulatedDisk::new(1);
    let limit = rules(TopicRule {
        max_bytes: Some(1_000),
        ..TopicRule::default()
    });
    let store = open(&disk, &limit);
    let visible = || {
        store.run_background_work().unwrap();
        let found = bodies(&store, TOPIC, 0, store.min_offset(TOPIC, 0).0);
        let read = store
            .read(TOPIC, 0, store.min_offset(TOPIC, 0), PLENTY, &|_| true, ReadSource::Disk)
            .unwrap();
        (found.len(), read.bytes)
    };
    for n in 0..40 {
        send(&store, TOPIC, 0, &format!("{n:050}")).unwrap();
    }
    let (count, bytes) = visible();
    let each = bytes / count;
    assert_eq!(count, 1_000 / each);
    assert_eq!(visible(), (count, bytes));
    for n in 0..3 {
        send(&store, TOPIC, 0, &format!("{n:050}")).unwrap();
    }
    assert_eq!(visible(), (count, bytes));
    send(&store, TOPIC, 0, &"x".repeat(2_000)).unwrap();
    assert_eq!(visible().0, 1, "the newest message stays whatever its size");
    store.close().unwrap();
}

#[test]
fn topics_without_limits_keep_everything() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk, &rules(TopicRule::default()));
    for n in 0..30 {
        send(&store, TOPIC, 0, &format!("{n:050}")).unwrap();
    }
    disk.advance_clock(Duration::from_secs(10_000_000));
    store.run_background_work().unwrap();
    assert_eq!(bodies(&store, TOPIC, 0, 0).len(), 30);
    store.close().unwrap();
}
