//! Messages of a compacted topic are copied, compacted and deleted from the log while they are sent and read.

use super::{BEGIN_MS, OLD_ENOUGH, options};
use message::QueueOffset;
use message::record::{Draft, Record};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Arc, Mutex, mpsc};
use shuttle::thread;
use std::collections::BTreeMap;
use std::time::Duration;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::{CompactionOptions, FlushMode, Limits, ReadSource, Store, StoreOptions, TopicRule, TopicRules};

const TOPIC: &str = "latest";

struct OneTopic;

impl TopicRules for OneTopic {
    fn topics(&self) -> Vec<(String, TopicRule)> {
        let rule = TopicRule {
            is_compacted: true,
            ..TopicRule::default()
        };
        vec![(TOPIC.to_owned(), rule)]
    }
}

/// Three messages a file; the thread `cleanup` always has something to do.
fn open(disk: &SimulatedDisk, mode: FlushMode) -> std::sync::Arc<Store> {
    let options = StoreOptions {
        compaction: Some(CompactionOptions {
            log_file_bytes: 4096,
            index_file_bytes: 46 * 4,
            interval: Duration::from_nanos(1),
            key_map_bytes: 0,
        }),
        ..options(mode)
    };
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk.clone());
    let store = Store::open(disk, options).expect("the store opens").0;
    store.set_topic_rules(Box::new(OneTopic)).unwrap();
    store
}

/// Sends a message and returns its offset.
fn send(store: &Store, key: usize, body: &str) -> i64 {
    let properties = format!("KEYS\u{1}k{key}\u{2}").into_bytes();
    let draft = Draft {
        properties: &properties,
        ..Draft::new(TOPIC, 0, body.as_bytes())
    };
    let mut placed = Vec::new();
    let ticket = store.append(&[draft], &[store.queue(TOPIC, 0)], BEGIN_MS, &mut placed).unwrap();
    let (done, outcome) = mpsc::channel();
    store.complete_then(ticket, true, move |outcome| done.send(outcome.is_ok()).unwrap());
    assert!(outcome.recv().unwrap());
    placed[0].queue_offset.0
}

/// Offset and body of all that is read, and the last offset of each key.
fn read(store: &Store) -> (Vec<(i64, String)>, BTreeMap<String, i64>) {
    let limits = Limits {
        messages: 4,
        bytes: 1 << 20,
        scan: 8,
    };
    let (mut at, mut all, mut last) = (0, Vec::new(), BTreeMap::new());
    loop {
        let result = store.read(TOPIC, 0, QueueOffset(at), limits, &|_| true, ReadSource::Disk).unwrap();
        assert_eq!(result.damaged, None);
        for bytes in &result.records {
            let record = Record::parse(bytes).unwrap();
            let key = message::properties::text(record.properties, "KEYS").unwrap().into_owned();
            all.push((record.queue_offset.0, String::from_utf8(record.body.to_vec()).unwrap()));
            last.insert(key, record.queue_offset.0);
        }
        if result.next.0 <= at {
            assert!(all.is_sorted_by(|a, b| a.0 < b.0), "{all:?}");
            return (all, last);
        }
        at = result.next.0;
    }
}

/// Lets retention delete log files, and does the work of the background threads on this one.
fn clean(disk: &SimulatedDisk, store: &Store) {
    disk.advance_clock(OLD_ENOUGH);
    store.delete_expired();
    store.run_background_work().unwrap();
}

pub(crate) fn compaction(mode: FlushMode) {
    let disk = SimulatedDisk::new(thread_rng().r#gen());
    let store = open(&disk, mode);
    let acknowledged: Arc<Mutex<BTreeMap<String, i64>>> = Arc::default();
    let has_all = |store: &Store, before: &BTreeMap<String, i64>| {
        let (_, last) = read(store);
        let is_there = |(key, offset): (&String, &i64)| last.get(key).is_some_and(|found| found >= offset);
        assert!(before.iter().all(is_there), "{before:?} were acknowledged, {last:?} are read");
    };
    let sender = {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        thread::spawn(move || {
            for n in 0..14 {
                let offset = send(&store, n % 3, &format!("{n:0300}"));
                acknowledged.lock().unwrap().insert(format!("k{}", n % 3), offset);
            }
        })
    };
    let cleaner = {
        let (disk, store) = (disk.clone(), store.clone());
        thread::spawn(move || (0..2).for_each(|_| clean(&disk, &store)))
    };
    for _ in 0..3 {
        let before = acknowledged.lock().unwrap().clone();
        has_all(&store, &before);
    }
    sender.join().unwrap();
    cleaner.join().unwrap();
    clean(&disk, &store);
    let acknowledged = acknowledged.lock().unwrap().clone();
    has_all(&store, &acknowledged);
    let killed = disk.process_killed();
    store.close().unwrap();
    drop(store);
    for disk in [disk, killed] {
        let store = open(&disk, mode);
        has_all(&store, &acknowledged);
        store.close().unwrap();
    }
}

pub(crate) fn deletion_of_a_compacted_topic(mode: FlushMode) {
    let disk = SimulatedDisk::new(thread_rng().r#gen());
    let store = open(&disk, mode);
    for n in 0..7 {
        send(&store, n % 2, &format!("old-{n:0200}"));
    }
    let cleaner = {
        let (disk, store) = (disk.clone(), store.clone());
        thread::spawn(move || (0..2).for_each(|_| clean(&disk, &store)))
    };
    store.delete_topic(TOPIC).unwrap();
    for n in 0..4 {
        send(&store, n % 2, &format!("new-{n:0200}"));
    }
    let has_successor = |store: &Store| {
        let (all, last) = read(store);
        assert!(all.iter().all(|(_, body)| body.starts_with("new")), "{all:?}");
        assert_eq!(last.into_values().collect::<Vec<_>>(), [2, 3]);
    };
    has_successor(&store);
    cleaner.join().unwrap();
    has_successor(&store);
    store.close().unwrap();
    drop(store);
    let store = open(&disk, mode);
    has_successor(&store);
    store.close().unwrap();
}
