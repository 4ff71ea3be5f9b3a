//! A topic whose queue entries have delivery times, also after they are rebuilt.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ROOT;
use message::QueueOffset;
use message::record::Draft;
use std::sync::Arc;
use store::disk::simulated::SimulatedDisk;
use store::queue::Entry;
use store::{DueTopic, FlushMode, Store, StoreOptions};

const LATER: &str = "later";
const DELAYS_MS: [i64; 2] = [1_000, 60_000];
const NOW_MS: i64 = 1_700_000_000_000;

fn with_levels(mode: FlushMode) -> StoreOptions {
    let mut options = StoreOptions::small(ROOT, mode);
    options.due = DueTopic {
        name: LATER.into(),
        delays_ms: DELAYS_MS.to_vec(),
    };
    options
}

fn send(store: &Store, topic: &str, properties: &str, now_ms: i64) {
    let draft = Draft {
        properties: properties.as_bytes(),
        ..Draft::new(topic, 0, b"x")
    };
    let ticket = store.append(&[draft], &[store.queue(topic, 0)], now_ms, &mut Vec::new()).unwrap();
    let (done, outcome) = std::sync::mpsc::channel();
    store.complete_then(ticket, true, move |o| done.send(o).unwrap());
    outcome.recv().unwrap().unwrap();
}

fn codes(store: &Store, topic: &str) -> Vec<i64> {
    let mut entries: Vec<Entry> = Vec::new();
    store.find_queue(topic, 0).unwrap().read(QueueOffset(0), 100, &mut entries).unwrap();
    entries.iter().map(|entry| entry.tags_code).collect()
}

#[test]
fn entries_derived_again_say_the_same_time() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let disk = SimulatedDisk::new(7);
        let (store, _) = Store::open(Arc::new(disk.clone()), with_levels(mode)).unwrap();
        send(&store, LATER, "TAGS\u{1}a\u{2}DELAY\u{1}1\u{2}", NOW_MS);
        send(&store, LATER, "DELAY\u{1}2\u{2}TAGS\u{1}a\u{2}", NOW_MS + 5);
        send(&store, LATER, "DELAY\u{1}99\u{2}", NOW_MS + 6);
        send(&store, LATER, "TAGS\u{1}a\u{2}", NOW_MS + 7);
        send(&store, "other", "TAGS\u{1}a\u{2}DELAY\u{1}1\u{2}", NOW_MS);
        let tag = message::hash::tags_code("a");
        let expected = [NOW_MS + 1_000, NOW_MS + 60_005, NOW_MS + 60_006, tag];
        assert_eq!(codes(&store, LATER), expected);
        assert_eq!(codes(&store, "other"), [tag]);
        let disks = match mode {
            FlushMode::Async => vec![disk.process_killed()],
            FlushMode::Sync => vec![disk.process_killed(), disk.power_cut(1), disk.power_cut(2)],
        };
        for disk in disks {
            let (after, recovery) = Store::open(Arc::new(disk), with_levels(mode)).unwrap();
            assert_eq!(recovery.messages, 5, "queues were derived again");
            assert_eq!(codes(&after, LATER), expected);
            assert_eq!(codes(&after, "other"), [tag]);
            after.close().unwrap();
        }
        store.close().unwrap();
    }
}
