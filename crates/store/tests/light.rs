//! Light queues: messages that name them are there too, through kills, power cuts, truncations, retention and moves to a Java broker's
//! files and back.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{OLD_ENOUGH, PLENTY, ROOT, open};
use message::QueueOffset;
use message::properties;
use message::record::{Draft, Record};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};
use store::inspect::{self, InspectOptions, Part, Severity};
use store::queue::Entry;
use store::{FlushMode, RawAppendError, ReadSource, Store, StoreOptions};

const NAMES: [&str; 4] = ["%LMQ%a", "%LMQ%$p$b", "%LMQ%c", "%LMQ%d"];

fn options(mode: FlushMode) -> StoreOptions {
    StoreOptions::small(ROOT, mode)
}

fn disk_of(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Sends messages that name these queues, in one append. Whether they were confirmed.
fn send(store: &Store, topic: &str, messages: &[&[&str]], fill: usize) -> bool {
    let properties: Vec<String> = messages
        .iter()
        .map(|names| match names {
            [] => String::new(),
            names => format!("TAGS\u{1}x\u{2}INNER_MULTI_DISPATCH\u{1}{}", names.join(",")),
        })
        .collect();
    let body = vec![b'f'; fill];
    let drafts: Vec<Draft<'_>> = properties
        .iter()
        .map(|properties| Draft {
            properties: properties.as_bytes(),
            ..Draft::new(topic, 0, &body)
        })
        .collect();
    let queues = vec![store.queue(topic, 0); drafts.len()];
    let Ok(ticket) = store.append(&drafts, &queues, 1_700_000_000_000, &mut Vec::new()) else {
        return false;
    };
    let (done, outcome) = mpsc::channel();
    store.complete_then(ticket, true, move |o| done.send(o).unwrap_or(()));
    outcome
        .recv_timeout(Duration::from_secs(20))
        .expect("no completion in 20 s")
        .is_ok()
}

/// The records of a queue with their offsets.
fn records(store: &Store, queue: &str) -> BTreeMap<i64, Vec<u8>> {
    let mut found = BTreeMap::new();
    let (mut at, max) = (store.min_offset(queue, 0), store.max_offset(queue, 0));
    while at < max {
        let read = store.read(queue, 0, at, PLENTY, &|_| true, ReadSource::Disk).unwrap();
        assert!(!read.records.is_empty(), "{queue}: nothing at {at} of {max}: {:?}", read.status);
        for (offset, bytes) in (at.0..).zip(&read.records) {
            found.insert(offset, bytes.to_vec());
        }
        at = read.next;
    }
    found
}

/// The light queues of a record and its offsets there.
fn places(record: &[u8]) -> Vec<(String, i64)> {
    let record = Record::parse(record).unwrap();
    let text = |name| properties::text(record.properties, name).unwrap_or_default().into_owned();
    let (names, offsets) = (text(properties::INNER_MULTI_DISPATCH), text(properties::INNER_MULTI_QUEUE_OFFSET));
    let pairs = names.split(',').zip(offsets.split(',')).filter(|(name, _)| !name.is_empty());
    pairs.map(|(name, offset)| (name.to_owned(), offset.parse().unwrap())).collect()
}

/// Each message is in the light queues that it names, at its offset, and nothing else is there. Returns their maxima.
fn check(store: &Store) -> BTreeMap<String, i64> {
    let mut expected: BTreeMap<String, BTreeMap<i64, Vec<u8>>> = BTreeMap::new();
    for record in records(store, "t").values() {
        for (name, offset) in places(record) {
            expected.entry(name).or_default().insert(offset, record.clone());
        }
    }
    for name in NAMES {
        let expected = expected.remove(name).unwrap_or_default();
        let found = records(store, name);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        assert!(found == expected, "{name} has other messages");
        if let Some((last, _)) = expected.last_key_value() {
            assert_eq!(store.max_offset(name, 0), QueueOffset(last + 1), "{name}");
        }
        let middle = found.len() as i64 / 2;
        if let Some((offset, record)) = found.iter().nth(middle as usize) {
            let read = store
                .read(name, 0, QueueOffset(*offset), PLENTY, &|_| true, ReadSource::Disk)
                .unwrap();
            assert_eq!(read.records[0], record[..], "{name} in the middle");
        }
    }
    let queues = store.light_queues();
    queues.iter().map(|queue| (queue.topic().to_owned(), queue.max().0)).collect()
}

/// What senders do: messages in none, one and several queues, in one append and in many.
fn play(store: &Store) {
    send(store, "t", &[&[NAMES[0]]], 10);
    send(
        store,
        "t",
        &[&[], &[NAMES[0], NAMES[1]], &[NAMES[0], NAMES[0]], &[NAMES[1], NAMES[0]]],
        10,
    );
    let _ = store.run_background_work();
    for turn in 0..14 {
        send(store, "t", &[&[NAMES[turn % 2]], &[NAMES[0]]], 60);
        if turn % 4 == 3 {
            let _ = store.run_background_work();
        }
    }
    // Makes a checkpoint.
    let _ = store.delete_topic("none");
    send(store, "t", &[&[NAMES[2]], &[NAMES[2], NAMES[0]]], 10);
    let _ = store.run_background_work();
    send(store, "t", &[&[NAMES[3]]], 10);
    let _ = store.delete_topic("none");
    send(store, "t", &[&[NAMES[0], NAMES[3]]], 10);
}

/// What a check of the directory finds damaged in the light queues.
fn damage(disk: &SimulatedDisk) -> Vec<String> {
    let options = InspectOptions::of(&options(FlushMode::Async));
    // Before there is a log there is nothing to check.
    let Ok(report) = inspect::check(&disk_of(disk), &options, &mut |_| {}) else {
        return Vec::new();
    };
    let of_light = report.findings.into_iter().filter(|found| found.part == Part::LightQueues);
    let damage = of_light.filter(|found| found.severity == Severity::Damage);
    damage.map(|found| format!("{}: {:?}", found.what, found.examples)).collect()
}

#[test]
fn a_check_compares_light_queues_with_the_log_and_a_dump_shows_them() {
    let stopped = |names: [&str; 2]| {
        let disk = SimulatedDisk::new(1);
        let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
        play(&store);
        let _ = store.run_background_work();
        play(&store);
        send(&store, "t", &[&[names[0]]], 10);
        send(&store, "t", &[&[names[1]]], 10);
        store.delete_topic(NAMES[1]).unwrap();
        let records = records(&store, NAMES[0]);
        store.close().unwrap();
        (disk, records)
    };
    let (disk, records) = stopped([NAMES[0], NAMES[2]]);
    let files = disk.list(Path::new("/store/lightqueue")).unwrap();
    assert!(files.len() > 3, "several files, and the snapshot in one of the last: {files:?}");
    assert_eq!(damage(&disk), Vec::<String>::new());
    let options = InspectOptions::of(&options(FlushMode::Async));
    let report = inspect::check(&disk_of(&disk), &options, &mut |_| {}).unwrap();
    assert_eq!((report.light.queues, report.findings), (3, Vec::new()));
    let mut dumped = Vec::new();
    let mut note = |offset: QueueOffset, entry: Entry| {
        dumped.push((offset.0, entry.size as usize));
        ControlFlow::Continue(())
    };
    inspect::queue_entries(&disk_of(&disk), &options, NAMES[0], 0, QueueOffset(2), &mut note).unwrap();
    let expected: Vec<(i64, usize)> = records.iter().skip(2).map(|(offset, record)| (*offset, record.len())).collect();
    assert_eq!(dumped, expected);

    // The light log of another store: whole, and wrong.
    let (other, _) = stopped([NAMES[2], NAMES[0]]);
    let dir = Path::new("/store/lightqueue");
    for file in other.list(dir).unwrap() {
        let bytes = other.read(&dir.join(&file.name)).unwrap();
        let copy = disk.open(&dir.join(&file.name), OpenMode::WriteOrCreate).unwrap();
        copy.set_len(0).unwrap();
        copy.write_at(&bytes, 0).unwrap();
    }
    let found = damage(&disk);
    assert!(
        found.len() == 1 && found[0].contains("%LMQ%a:") && found[0].contains("%LMQ%c:"),
        "{found:?}"
    );
    let file = disk.open(&dir.join("00000000000000000000"), OpenMode::Write).unwrap();
    file.write_at(&[0xff; 40], 200).unwrap();
    assert_eq!(damage(&disk), Vec::<String>::new(), "the next start reads them from the commit log");
    let report = inspect::check(&disk_of(&disk), &options, &mut |_| {}).unwrap();
    assert!(
        report
            .findings
            .iter()
            .any(|found| found.severity == Severity::Recovery && found.what.contains("torn end"))
    );
}

#[test]
fn many_light_queues_are_deleted_at_once_but_those_with_a_new_message() {
    let disk = SimulatedDisk::new(1);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    play(&store);
    let ends = store.light_ends(&|name, _| name != NAMES[1]);
    assert!(send(&store, "t", &[&[NAMES[2]]], 10));
    let max = store.max_offset(NAMES[2], 0);
    let deleted = std::cell::RefCell::new(Vec::new());
    let note = |name: &str| deleted.borrow_mut().push(name.to_owned());
    assert_eq!(store.delete_light_queues(&ends, &note).unwrap(), 2);
    deleted.borrow_mut().sort();
    assert_eq!(*deleted.borrow(), [NAMES[0], NAMES[3]]);
    assert_eq!((store.light_queue_count(), store.max_offset(NAMES[2], 0)), (2, max));
    assert_eq!(store.delete_light_queues(&ends, &|_| panic!("it is gone")).unwrap(), 0);
    assert!(send(&store, "t", &[&[NAMES[0]]], 10));
    assert_eq!(records(&store, NAMES[0]).len(), 1);
    for found in [disk.process_killed(), disk.power_cut(3)] {
        let again = open(disk_of(&found), options(FlushMode::Async)).unwrap();
        assert!(again.max_offset(NAMES[0], 0).0 <= 1 && again.max_offset(NAMES[3], 0).0 == 0);
    }
}

#[test]
fn messages_are_in_the_light_queues_that_they_name() {
    let disk = SimulatedDisk::new(1);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    assert!(send(&store, "t", &[&[NAMES[0], NAMES[1]], &[NAMES[0]]], 10));
    let first = records(&store, NAMES[0]);
    let property = |n: i64| {
        let record = Record::parse(&first[&n]).unwrap();
        String::from_utf8(record.properties.to_vec()).unwrap()
    };
    assert_eq!(
        property(0),
        "TAGS\u{1}x\u{2}INNER_MULTI_DISPATCH\u{1}%LMQ%a,%LMQ%$p$b\u{2}INNER_MULTI_QUEUE_OFFSET\u{1}0,0\u{2}"
    );
    assert_eq!(
        property(1),
        "TAGS\u{1}x\u{2}INNER_MULTI_DISPATCH\u{1}%LMQ%a\u{2}INNER_MULTI_QUEUE_OFFSET\u{1}1\u{2}"
    );
    play(&store);
    let before = check(&store);
    assert_eq!(before.len(), 4);
    assert!(
        !store.topics().iter().any(|topic| topic.starts_with("%LMQ%")),
        "light queues are no topics"
    );
    assert!(
        send(&store, "%RETRY%g", &[&[NAMES[0]]], 10),
        "a retried message is not dispatched again"
    );
    store.close().unwrap();
    drop(store);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    assert_eq!(check(&store), before);
}

#[test]
fn a_power_cut_or_a_kill_at_any_call_leaves_light_queues_as_the_log_has_them() {
    for mode in [FlushMode::Sync, FlushMode::Async] {
        let mut calls = 0;
        for n in 1.. {
            let disk = SimulatedDisk::new(n);
            disk.cut_at(n);
            if let Ok(store) = open(disk_of(&disk), options(mode)) {
                play(&store);
                let _ = store.close();
            }
            for (way, found) in [disk.power_cut(n), disk.process_killed()].into_iter().enumerate() {
                let case = format!("{mode:?}, call {n}, way {way}");
                if way == 1 {
                    assert_eq!(damage(&found), Vec::<String>::new(), "{case}");
                }
                let store = open(disk_of(&found), options(mode)).unwrap_or_else(|error| panic!("{case}: {error}"));
                let before = check(&store);
                assert!(send(&store, "t", &[&[NAMES[0], NAMES[3]], &[NAMES[2]]], 10), "{case}");
                let after = check(&store);
                assert_eq!(after[NAMES[0]], before.get(NAMES[0]).copied().unwrap_or(0) + 1, "{case}");
                store.close().unwrap();
                drop(store);
                let again = open(disk_of(&found), options(mode)).unwrap();
                assert_eq!(check(&again), after, "{case}");
            }
            if disk.first_failure().is_none() {
                break;
            }
            calls = n;
        }
        assert!(calls > 50, "the script does next to nothing");
    }
}

#[test]
fn retention_deletes_from_light_queues_and_keeps_their_offsets() {
    let disk = SimulatedDisk::new(1);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    assert!(send(&store, "t", &[&[NAMES[3]]], 10));
    for _ in 0..60 {
        assert!(send(&store, "t", &[&[NAMES[0]], &[NAMES[1], NAMES[0]]], 200));
        store.run_background_work().unwrap();
    }
    disk.advance_clock(OLD_ENOUGH);
    assert!(send(&store, "t", &[&[NAMES[0]]], 3_000) && send(&store, "t", &[&[NAMES[0]]], 3_000));
    store.delete_expired();
    for _ in 0..20 {
        store.run_background_work().unwrap();
    }
    let before = check(&store);
    assert!(store.min_offset(NAMES[0], 0) > QueueOffset(20), "old messages are hidden");
    assert_eq!(store.min_offset(NAMES[3], 0), QueueOffset(1), "an empty queue keeps its offset");
    let files = |disk: &SimulatedDisk| disk.list(Path::new("/store/lightqueue")).unwrap().len();
    assert!(files(&disk) <= 5, "{} files of the light log are left", files(&disk));
    for end in ["close", "kill"] {
        if end == "close" {
            store.close().unwrap();
        }
        let found = disk.process_killed();
        let again = open(disk_of(&found), options(FlushMode::Async)).unwrap();
        assert_eq!(check(&again), before);
        assert_eq!(again.min_offset(NAMES[3], 0), QueueOffset(1));
        assert!(send(&again, "t", &[&[NAMES[3], NAMES[0]]], 10));
        assert_eq!(check(&again)[NAMES[3]], 2);
    }
}

#[test]
fn a_truncation_of_the_log_truncates_light_queues() {
    let disk = SimulatedDisk::new(1);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    play(&store);
    let kept = check(&store);
    let end = store.log_range().1;
    send(&store, "t", &[&[NAMES[0], NAMES[1]], &[NAMES[0]]], 10);
    store.run_background_work().unwrap();
    assert!(send(&store, "t", &[&[NAMES[2]]], 10));
    store.truncate(end).unwrap();
    assert_eq!(check(&store), kept);
    // Nothing is sent to them after the truncation: its own note must survive.
    store.close().unwrap();
    drop(store);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    assert_eq!(check(&store), kept);
    assert!(send(&store, "t", &[&[NAMES[0]]], 10));
    check(&store);
}

#[test]
fn light_queues_move_to_the_files_of_a_java_broker_and_back() {
    let disk = SimulatedDisk::new(1);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    play(&store);
    let before = check(&store);
    assert_eq!(store.export_light_queues().unwrap(), 4);
    drop(store);
    assert!(
        disk.exists(Path::new("/store/consumequeue/%LMQ%$p$b/0/00000000000000000000"))
            .unwrap()
    );
    assert!(!disk.exists(Path::new("/store/lightqueue")).unwrap());
    // As on a Java broker, where they are consume queues like others.
    let java = StoreOptions {
        light_file_bytes: None,
        ..options(FlushMode::Async)
    };
    let store = open(disk_of(&disk), java).unwrap();
    for (name, max) in &before {
        assert_eq!(store.max_offset(name, 0), QueueOffset(*max), "{name}");
        assert_eq!(records(&store, name).len() as i64, *max, "{name}");
    }
    store.close().unwrap();
    drop(store);
    for _ in 0..2 {
        let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
        assert_eq!(check(&store), before);
        store.run_background_work().unwrap();
        store.close().unwrap();
    }
    assert!(
        !disk.exists(Path::new("/store/consumequeue/%LMQ%a")).unwrap(),
        "they were taken over"
    );
}

#[test]
fn an_interrupted_export_leaves_the_light_queues_as_they_were() {
    for n in 1.. {
        let disk = SimulatedDisk::new(n);
        let store = open(disk_of(&disk), options(FlushMode::Sync)).unwrap();
        play(&store);
        let before = check(&store);
        store.close().unwrap();
        drop(store);
        let disk = disk.process_killed();
        disk.cut_at(n);
        if let Ok(store) = open(disk_of(&disk), options(FlushMode::Sync)) {
            let _ = store.export_light_queues();
        }
        let found = disk.power_cut(n);
        let store = open(disk_of(&found), options(FlushMode::Sync)).unwrap();
        assert_eq!(check(&store), before, "call {n}");
        if disk.first_failure().is_none() {
            return;
        }
    }
}

#[test]
fn a_deleted_light_queue_starts_again_at_the_beginning() {
    let disk = SimulatedDisk::new(1);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    play(&store);
    store.delete_topic(NAMES[0]).unwrap();
    assert!(!store.has_topic(NAMES[0]));
    assert_eq!(store.max_offset(NAMES[0], 0), QueueOffset(0));
    assert!(send(&store, "t", &[&[NAMES[0]]], 10));
    for found in [disk.process_killed(), disk.power_cut(3)] {
        let again = open(disk_of(&found), options(FlushMode::Async)).unwrap();
        assert!(again.max_offset(NAMES[0], 0).0 <= 1, "{}", again.max_offset(NAMES[0], 0));
    }
    assert_eq!(records(&store, NAMES[0]).len(), 1);
}

#[test]
fn a_light_queue_that_begins_again_on_the_master_does_so_on_a_replica() {
    let disk = SimulatedDisk::new(1);
    let master = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    let replica = open(disk_of(&SimulatedDisk::new(2)), options(FlushMode::Async)).unwrap();
    let missing = || {
        let (from, to) = (replica.log_range().1, master.log_range().1);
        let file = disk.read(&Path::new(ROOT).join(format!("commitlog/{:020}", 0))).unwrap();
        (from, Bytes::from(file[from.0 as usize..to.0 as usize].to_vec()))
    };
    let copy = |at, bytes: &Bytes| {
        let ticket = replica.append_raw(at, bytes)?;
        let (done, outcome) = mpsc::channel();
        replica.complete_then(ticket, true, move |o| done.send(o).unwrap_or(()));
        outcome.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
        Ok(())
    };
    assert!(send(&master, "t", &[&[NAMES[0]], &[NAMES[0], NAMES[2]]], 10));
    let (at, bytes) = missing();
    copy(at, &bytes).unwrap();
    // One more message of its first life and the first one of its second life come together.
    assert!(send(&master, "t", &[&[NAMES[0]]], 10));
    let second_life = master.log_range().1;
    master.delete_topic(NAMES[0]).unwrap();
    assert!(send(&master, "t", &[&[NAMES[0], NAMES[2]]], 10));
    let (at, mut bytes) = missing();
    let refused = copy(at, &bytes).unwrap_err();
    assert!(
        matches!(refused, RawAppendError::OutOfSequence { at, .. } if at == second_life),
        "{refused}"
    );
    let before = bytes.split_to((second_life.0 - at.0) as usize);
    copy(at, &before).unwrap();
    copy(second_life, &bytes).unwrap();
    for name in [NAMES[0], NAMES[2], "t"] {
        assert!(records(&replica, name) == records(&master, name), "{name}");
    }
    assert_eq!(records(&replica, NAMES[0]).len(), 1);
}

#[test]
fn damage_of_the_light_log_costs_a_reading_of_the_log_and_no_message() {
    let disk = SimulatedDisk::new(1);
    let store = open(disk_of(&disk), options(FlushMode::Async)).unwrap();
    play(&store);
    let before = check(&store);
    store.close().unwrap();
    drop(store);
    for base in [0, 1_024] {
        let found = disk.process_killed();
        let path = format!("/store/lightqueue/{base:020}");
        let file = found.open(Path::new(&path), store::disk::OpenMode::Write).unwrap();
        file.write_at(&[0xff; 40], 200).unwrap();
        let store = open(disk_of(&found), options(FlushMode::Async)).unwrap();
        assert_eq!(check(&store), before, "file {base}");
    }
    let found = disk.process_killed();
    found.remove_file(Path::new("/store/lightqueue/00000000000000000000")).unwrap();
    let store = open(disk_of(&found), options(FlushMode::Async)).unwrap();
    assert_eq!(check(&store), before);
}
