//! What replication needs of a store: whole records taken from another log as they are, and an end that is dropped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{ROOT, bodies, open, send, send_all};
use message::LogOffset;
use message::record::{FILLER_LEN, Peek, peek};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::inspect::{InspectOptions, check};
use store::{FlushMode, RawAppendError, Store, StoreOptions};

const FILE: i64 = 4096;

fn options(mode: FlushMode) -> StoreOptions {
    StoreOptions::small(ROOT, mode)
}

/// Sends messages to three queues, so that they fill some files; returns where each begins in the log, and where the log ends.
fn fill(store: &Store, messages: usize) -> Vec<LogOffset> {
    let mut begin: Vec<LogOffset> = Vec::new();
    for n in 0..messages {
        let body = format!("{n:03}-{}", "b".repeat(n * 37 % 400));
        let placed = if n % 4 == 0 {
            send_all(store, "a", 0, &[&body, "batched"]).unwrap()
        } else {
            vec![send(store, ["a", "b", "c"][n % 3], (n % 2) as i32, &body).unwrap()]
        };
        begin.extend(placed.iter().map(|placed| placed.log_offset));
    }
    begin.push(store.log_range().1);
    begin
}

const QUEUES: [(&str, i32); 6] = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("c", 1)];

fn all(store: &Store) -> Vec<Vec<String>> {
    QUEUES.iter().map(|(topic, queue)| bodies(store, topic, *queue, 0)).collect()
}

/// The log of a directory from an offset to another, in chunks of whole records of one file, with the files' fillers.
fn chunks(disk: &SimulatedDisk, from: i64, to: i64, records: usize) -> Vec<(LogOffset, Bytes)> {
    let mut chunks = Vec::new();
    let (mut at, mut begin, mut count) = (from, from, 0);
    while at < to {
        let base = at - at % FILE;
        let file = Bytes::from(disk.read(&Path::new(ROOT).join(format!("commitlog/{base:020}"))).unwrap());
        let slice = |from: i64, to: i64| file.slice((from - base) as usize..(to - base) as usize);
        let rest = &file[(at - base) as usize..];
        match peek(rest) {
            Peek::Record { size } => {
                at += size as i64;
                count += 1;
                if count == records || at >= to {
                    chunks.push((LogOffset(begin), slice(begin, at)));
                    (begin, count) = (at, 0);
                }
            }
            Peek::Filler => {
                chunks.push((LogOffset(begin), slice(begin, at + FILLER_LEN as i64)));
                at = base + FILE;
                (begin, count) = (at, 0);
            }
            other => panic!("{other:?} at {at}"),
        }
    }
    chunks
}

fn copy(store: &Store, chunk: &(LogOffset, Bytes)) -> Result<(), String> {
    let ticket = store.append_raw(chunk.0, &chunk.1).map_err(|e| e.to_string())?;
    let (done, outcome) = mpsc::channel();
    store.complete_then(ticket, true, move |told| done.send(told).unwrap_or(()));
    let told = outcome.recv_timeout(Duration::from_secs(20)).expect("no completion in 20 s");
    told.map_err(|reason| reason.to_string())
}

fn must_be_whole(disk: &SimulatedDisk, mode: FlushMode, what: &str) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = check(&disk, &InspectOptions::of(&options(mode)), &mut |_| {}).unwrap();
    assert!(!report.is_damaged(), "{what}: {:#?}", report.findings);
}

fn same_log(one: &SimulatedDisk, other: &SimulatedDisk, end: i64) {
    for base in (0..end).step_by(FILE as usize) {
        let path = Path::new(ROOT).join(format!("commitlog/{base:020}"));
        assert!(
            one.read(&path).unwrap() == other.read(&path).unwrap(),
            "file {base} is not the same"
        );
    }
}

#[test]
fn a_replica_that_takes_raw_records_has_the_same_log_queues_and_keys() {
    for (mode, records) in [(FlushMode::Async, 1), (FlushMode::Sync, 3), (FlushMode::Async, 100)] {
        let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
        let master = open(Arc::new(master_disk.clone()), options(mode)).unwrap();
        let end = fill(&master, 60).last().unwrap().0;
        let replica = open(Arc::new(replica_disk.clone()), options(mode)).unwrap();
        for chunk in chunks(&master_disk, 0, end, records) {
            copy(&replica, &chunk).unwrap();
        }
        assert_eq!(replica.log_range().1.0, end);
        assert_eq!(all(&replica), all(&master));
        same_log(&master_disk, &replica_disk, end);
        let keys = |store: &Store| store.query("a", "kbatched", 0, i64::MAX, 64).unwrap().records;
        assert_eq!((keys(&replica).len(), keys(&replica)), (15, keys(&master)));
        // It can become the master.
        let body = "after";
        assert_eq!(send(&replica, "a", 0, body), send(&master, "a", 0, body));
        replica.close().unwrap();
        drop(replica);
        must_be_whole(&replica_disk, mode, "a replica");
        let replica = open(Arc::new(replica_disk.clone()), options(mode)).unwrap();
        assert_eq!(all(&replica), all(&master));
        replica.close().unwrap();
        master.close().unwrap();
    }
}

#[test]
fn power_cut_at_every_call_leaves_a_replica_that_can_go_on() {
    let master_disk = SimulatedDisk::new(1);
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Sync)).unwrap();
    let end = fill(&master, 24).last().unwrap().0;
    for n in 1.. {
        assert!(n < 2_000, "copying does not end");
        let disk = SimulatedDisk::new(n);
        disk.cut_at(n);
        let mut acknowledged = 0;
        if let Ok(replica) = open(Arc::new(disk.clone()), options(FlushMode::Sync)) {
            for chunk in chunks(&master_disk, 0, end, 2) {
                if copy(&replica, &chunk).is_err() {
                    break;
                }
                acknowledged = replica.log_range().1.0;
            }
            let _ = replica.close();
        }
        let was_cut = disk.first_failure().is_some();
        let found = disk.power_cut(n);
        let replica = open(Arc::new(found.clone()), options(FlushMode::Sync)).unwrap();
        let has = replica.log_range().1.0;
        assert!(has >= acknowledged, "cut {n}: {has} of {acknowledged}");
        for chunk in chunks(&master_disk, has, end, 2) {
            copy(&replica, &chunk).unwrap_or_else(|error| panic!("cut {n}: {error}"));
        }
        assert_eq!(all(&replica), all(&master), "cut {n}");
        replica.close().unwrap();
        same_log(&master_disk, &found, end);
        if !was_cut {
            break;
        }
    }
    master.close().unwrap();
}

#[test]
fn bytes_that_are_not_the_next_whole_records_are_refused_and_change_nothing() {
    let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Async)).unwrap();
    let end = fill(&master, 20).last().unwrap().0;
    let replica = open(Arc::new(replica_disk.clone()), options(FlushMode::Async)).unwrap();
    let chunks = chunks(&master_disk, 0, end, 3);
    for chunk in &chunks {
        let (at, bytes) = chunk;
        let refused = |at: LogOffset, bytes: &Bytes| replica.append_raw(at, bytes).map(drop).unwrap_err();
        for elsewhere in [at.0 - 1, at.0 + 1, at.0 + FILE, -1] {
            let error = refused(LogOffset(elsewhere), bytes);
            assert!(
                matches!(error, RawAppendError::NotAtEnd { .. } | RawAppendError::NotWhole { .. }),
                "{error}"
            );
        }
        for len in [0, 1, 7, bytes.len() - 1] {
            let error = refused(*at, &bytes.slice(..len));
            assert!(matches!(error, RawAppendError::NotWhole { .. }), "{len}: {error}");
        }
        // Length, magic, CRC, and its own place in the log; of a filler there are the first two only.
        for flipped in [0, 5, 9, 30].into_iter().filter(|at| *at < bytes.len()) {
            let mut bad = bytes.to_vec();
            bad[flipped] ^= 0x40;
            let error = refused(*at, &Bytes::from(bad));
            assert!(matches!(error, RawAppendError::NotWhole { .. }), "{flipped}: {error}");
        }
        assert_eq!(replica.log_range().1, *at, "nothing was taken");
        copy(&replica, chunk).unwrap();
        assert!(matches!(
            refused(*at, bytes),
            RawAppendError::NotAtEnd { .. } | RawAppendError::OutOfStep { .. }
        ));
    }
    assert_eq!(all(&replica), all(&master));
    replica.close().unwrap();
    master.close().unwrap();
}

#[test]
fn a_replica_that_begins_a_queue_late_goes_on_at_its_offset() {
    let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Async)).unwrap();
    for _ in 0..5 {
        send(&master, "a", 0, "of a life before").unwrap();
    }
    let replica = open(Arc::new(replica_disk), options(FlushMode::Async)).unwrap();
    let end = master.log_range().1.0;
    for chunk in chunks(&master_disk, 0, end, 100) {
        copy(&replica, &chunk).unwrap();
    }
    replica.delete_topic("a").unwrap();
    send(&master, "a", 0, "next").unwrap();
    for chunk in chunks(&master_disk, end, master.log_range().1.0, 100) {
        copy(&replica, &chunk).unwrap();
    }
    assert_eq!((replica.min_offset("a", 0).0, replica.max_offset("a", 0).0), (5, 6));
    assert_eq!(bodies(&replica, "a", 0, 5), ["next"]);
    replica.close().unwrap();
    master.close().unwrap();
}

/// What is left of each queue when the log ends at `to`.
fn kept(disk: &SimulatedDisk, to: i64) -> Vec<Vec<String>> {
    let other = open(Arc::new(SimulatedDisk::new(9)), options(FlushMode::Async)).unwrap();
    for chunk in chunks(disk, 0, to, 100) {
        copy(&other, &chunk).unwrap();
    }
    let kept = all(&other);
    other.close().unwrap();
    kept
}

#[test]
fn a_truncated_store_ends_at_any_record_and_goes_on_there() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let whole = SimulatedDisk::new(1);
        let store = open(Arc::new(whole.clone()), options(mode)).unwrap();
        let begin = fill(&store, 40);
        store.close().unwrap();
        for (n, to) in begin.iter().enumerate().step_by(3) {
            let disk = whole.process_killed();
            let store = open(Arc::new(disk.clone()), options(mode)).unwrap();
            // Some of it in memory only, and some indexed.
            send(&store, "a", 0, "newest").unwrap();
            if n % 2 == 0 {
                store.keep_now().unwrap();
            }
            let expected = kept(&whole, to.0);
            store.truncate(*to).unwrap();
            assert_eq!(all(&store), expected, "{mode:?}, {to}");
            assert_eq!(store.log_range().1, *to);
            assert!(store.record_at(*to).is_err());
            let found = store.query("a", "kbatched", 0, i64::MAX, 64).unwrap().records.len();
            assert_eq!(
                found,
                expected[0].iter().filter(|body| *body == "batched").count(),
                "{mode:?}, {to}"
            );
            let placed = send(&store, "a", 0, "again").unwrap();
            assert_eq!(placed.queue_offset.0, expected[0].len() as i64);
            let mut with_again = expected.clone();
            with_again[0].push("again".to_owned());
            assert_eq!(all(&store), with_again);
            store.sync().unwrap();
            for left in [disk.process_killed(), disk.power_cut(n as u64)] {
                let back = open(Arc::new(left.clone()), options(mode)).unwrap();
                assert_eq!(all(&back), with_again, "{mode:?}, {to}");
                back.close().unwrap();
                must_be_whole(&left, mode, &format!("{mode:?}, {to}"));
            }
            store.close().unwrap();
            must_be_whole(&disk, mode, &format!("{mode:?}, {to}, closed"));
        }
    }
}

#[test]
fn power_cut_at_every_call_of_a_truncation_leaves_an_end_between() {
    let whole = SimulatedDisk::new(1);
    let store = open(Arc::new(whole.clone()), options(FlushMode::Sync)).unwrap();
    let begin = fill(&store, 24);
    store.close().unwrap();
    let (to, end) = (begin[begin.len() / 3], *begin.last().unwrap());
    for n in 1.. {
        assert!(n < 2_000, "a truncation does not end");
        let disk = whole.process_killed();
        let store = open(Arc::new(disk.clone()), options(FlushMode::Sync)).unwrap();
        store.keep_now().unwrap();
        disk.cut_at(disk.calls() + n);
        let truncated = store.truncate(to);
        let was_cut = disk.first_failure().is_some();
        for seed in 0..5 {
            let left = disk.power_cut(seed);
            let back = open(Arc::new(left.clone()), options(FlushMode::Sync)).unwrap();
            let ends = back.log_range().1;
            assert!(to <= ends && ends <= end && (truncated.is_err() || ends == to), "cut {n}: {ends}");
            assert_eq!(all(&back), kept(&whole, ends.0), "cut {n}, seed {seed}");
            back.truncate(to).unwrap();
            assert_eq!(all(&back), kept(&whole, to.0), "cut {n}, seed {seed}");
            back.close().unwrap();
            must_be_whole(&left, FlushMode::Sync, &format!("cut {n}, seed {seed}"));
        }
        let _ = store.close();
        if !was_cut {
            break;
        }
    }
}

#[test]
fn a_truncation_to_no_record_changes_nothing() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk), options(FlushMode::Async)).unwrap();
    let begin = fill(&store, 12);
    let before = all(&store);
    for to in [begin[1].0 + 1, begin[2].0 - 8, begin.last().unwrap().0 + 1, -1, i64::MAX] {
        store.truncate(LogOffset(to)).unwrap_err();
    }
    assert_eq!(all(&store), before);
    send(&store, "a", 0, "next").unwrap();
    store.close().unwrap();
}
