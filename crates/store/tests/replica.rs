//! What replication needs of a store: raw records of another log, truncation, and a log that begins above 0.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{PLENTY, ROOT, bodies, open, send, send_all};
use message::record::{FILLER_LEN, Peek, Record, peek};
use message::{LogOffset, QueueOffset};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::inspect::{InspectOptions, check};
use store::{Completion, FlushMode, RawAppendError, ReadSource, Store, StoreError, StoreOptions};

const FILE: i64 = 4096;

fn options(mode: FlushMode) -> StoreOptions {
    StoreOptions::small(ROOT, mode)
}

/// Sends messages to three queues, so that they fill some files; returns the log offset of each, and the end of the log.
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

/// The log of a directory between two offsets, in chunks of whole records of one file, with the beginnings of the fillers.
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

/// The same bytes in chunks that go over the ends of files: each has the end of a file, its filler and the beginning of the next
/// file.
fn chunks_over_file_ends(disk: &SimulatedDisk, from: i64, to: i64) -> Vec<(LogOffset, Bytes)> {
    let mut joined: Vec<(LogOffset, Vec<u8>)> = Vec::new();
    for (at, bytes) in chunks(disk, from, to, 3) {
        match joined.last_mut() {
            // The last chunk goes on up to the first one of a file, that included.
            Some((begin, last)) if (begin.0 + last.len() as i64) % FILE != 0 && begin.0 / FILE == at.0 / FILE => last.extend(&bytes),
            Some((begin, last)) if (begin.0 / FILE + 1) == at.0 / FILE => {
                last.resize((at.0 - begin.0) as usize, 0);
                last.extend(&bytes);
            }
            _ => joined.push((at, bytes.to_vec())),
        }
    }
    joined.into_iter().map(|(at, bytes)| (at, Bytes::from(bytes))).collect()
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
fn raw_records_go_on_in_the_next_file() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
        let master = open(Arc::new(master_disk.clone()), options(mode)).unwrap();
        let end = fill(&master, 60).last().unwrap().0;
        let replica = open(Arc::new(replica_disk.clone()), options(mode)).unwrap();
        let chunks = chunks_over_file_ends(&master_disk, 0, end);
        let goes_over = |(at, bytes): &(LogOffset, Bytes)| at.0 / FILE < (at.0 + bytes.len() as i64 - 1) / FILE;
        assert!(chunks.iter().any(goes_over));
        for chunk in &chunks {
            copy(&replica, chunk).unwrap();
        }
        assert_eq!(all(&replica), all(&master));
        same_log(&master_disk, &replica_disk, end);
        let left = replica_disk.process_killed();
        let back = open(Arc::new(left.clone()), options(mode)).unwrap();
        assert_eq!(all(&back), all(&master));
        back.close().unwrap();
        must_be_whole(&left, mode, "a replica");
        replica.close().unwrap();
        master.close().unwrap();
    }
}

#[test]
fn raw_records_over_two_ends_of_files_and_bad_fillers_are_refused() {
    let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Async)).unwrap();
    let end = fill(&master, 60).last().unwrap().0;
    assert!(end > 3 * FILE);
    let file = |base: i64| master_disk.read(&Path::new(ROOT).join(format!("commitlog/{base:020}"))).unwrap();
    let three = [file(0), file(FILE), file(2 * FILE)].concat();
    let replica = open(Arc::new(replica_disk), options(FlushMode::Async)).unwrap();
    let refused = |bytes: &[u8]| {
        replica
            .append_raw(LogOffset(0), &Bytes::copy_from_slice(bytes))
            .map(drop)
            .unwrap_err()
    };
    assert!(refused(&three[..2 * FILE as usize + 8]).to_string().contains("append less at once"));
    let filler = chunks(&master_disk, 0, FILE, 1).last().unwrap().0.0 as usize;
    let mut bad = three[..FILE as usize + 100].to_vec();
    bad[filler + 3] ^= 1;
    assert!(refused(&bad).to_string().contains("does not fill its file"));
    // Neither the beginning of a filler nor all of it.
    assert!(refused(&three[..FILE as usize - 1]).to_string().contains("does not fill its file"));
    assert_eq!(replica.log_range().1, LogOffset(0));
    assert_eq!(replica.topics().len(), 0, "a refusal creates no queue");
    // The bytes that an old broker leaves in a filler do not matter.
    let mut old = three[..2 * FILE as usize].to_vec();
    old[filler + 8..FILE as usize].fill(0xAB);
    copy(&replica, &(LogOffset(0), Bytes::from(old))).unwrap();
    assert_eq!(replica.log_range().1, LogOffset(2 * FILE));
    replica.close().unwrap();
    master.close().unwrap();
}

#[test]
fn a_refused_append_moves_no_queue() {
    let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Async)).unwrap();
    let begin = fill(&master, 20);
    let end = begin.last().unwrap().0;
    let replica = open(Arc::new(replica_disk), options(FlushMode::Async)).unwrap();
    copy(&replica, &chunks(&master_disk, 0, end, 1)[0]).unwrap();
    let before = all(&replica);
    // Each would make queues skip offsets.
    for chunk in &chunks(&master_disk, 0, end, 3)[2..] {
        replica.append_raw(chunk.0, &chunk.1).map(drop).unwrap_err();
    }
    assert_eq!(all(&replica), before);
    for (topic, queue) in QUEUES {
        assert_eq!(replica.min_offset(topic, queue).0, 0);
    }
    replica.close().unwrap();
    master.close().unwrap();
}

/// The messages of each queue from log offset `from` on, with the first queue offset.
fn from_offset(store: &Store, from: i64) -> Vec<(i64, Vec<String>)> {
    QUEUES
        .iter()
        .map(|(topic, queue)| {
            let max = store.max_offset(topic, *queue).0;
            let is_kept = |at: &i64| {
                let read = store
                    .read(topic, *queue, QueueOffset(*at), PLENTY, &|_| true, ReadSource::Disk)
                    .unwrap();
                Record::parse(&read.records[0]).unwrap().log_offset.0 >= from
            };
            let first = (store.min_offset(topic, *queue).0..max).find(is_kept).unwrap_or(max);
            (first, bodies(store, topic, *queue, first))
        })
        .collect()
}

#[test]
fn a_replica_may_begin_where_the_masters_log_begins() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
        let master = open(Arc::new(master_disk.clone()), options(mode)).unwrap();
        let end = fill(&master, 60).last().unwrap().0;
        let expected = from_offset(&master, 2 * FILE);
        let mut replica = open(Arc::new(replica_disk.clone()), options(mode)).unwrap();
        for wrong in [-FILE, 1, FILE + 8] {
            assert!(matches!(replica.begin_at(LogOffset(wrong)), Err(StoreError::Layout(_))));
        }
        // It may be called more than once, and the store restarted before its first record.
        replica.begin_at(LogOffset(FILE)).unwrap();
        replica.begin_at(LogOffset(2 * FILE)).unwrap();
        assert_eq!(replica.log_range(), (LogOffset(2 * FILE), LogOffset(2 * FILE)));
        replica.close().unwrap();
        drop(replica);
        replica = open(Arc::new(replica_disk.clone()), options(mode)).unwrap();
        assert_eq!(replica.log_range(), (LogOffset(2 * FILE), LogOffset(2 * FILE)));
        for chunk in chunks_over_file_ends(&master_disk, 2 * FILE, end) {
            copy(&replica, &chunk).unwrap();
        }
        assert!(matches!(replica.begin_at(LogOffset(FILE)), Err(StoreError::Layout(_))));
        let kept = |store: &Store| -> Vec<(i64, Vec<String>)> { from_offset(store, 0) };
        assert_eq!(kept(&replica), expected);
        assert_eq!(send(&replica, "a", 0, "after"), send(&master, "a", 0, "after"));
        let expected = from_offset(&master, 2 * FILE);
        replica.sync().unwrap();
        for left in [replica_disk.process_killed(), replica_disk.power_cut(7)] {
            let back = open(Arc::new(left.clone()), options(mode)).unwrap();
            assert_eq!(kept(&back), expected, "{mode:?}");
            back.close().unwrap();
            must_be_whole(&left, mode, "a replica that began late");
        }
        replica.close().unwrap();
        master.close().unwrap();
    }
}

#[test]
fn power_cut_at_every_call_while_a_replica_moves_its_beginning_leaves_one_that_can_do_so_again() {
    let master_disk = SimulatedDisk::new(1);
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Sync)).unwrap();
    let end = fill(&master, 30).last().unwrap().0;
    let expected = from_offset(&master, FILE);
    for n in 1.. {
        assert!(n < 500, "moving the beginning does not end");
        let disk = SimulatedDisk::new(n);
        let replica = open(Arc::new(disk.clone()), options(FlushMode::Sync)).unwrap();
        replica.run_background_work().unwrap();
        disk.cut_at(disk.calls() + n);
        let moved = replica.begin_at(LogOffset(FILE)).is_ok();
        let was_cut = disk.first_failure().is_some();
        for seed in 0..5 {
            let left = disk.power_cut(seed);
            let back = open(Arc::new(left.clone()), options(FlushMode::Sync)).unwrap();
            let begin = back.log_range().0.0;
            assert!(begin == FILE || (begin == 0 && !moved), "cut {n}: begins at {begin}");
            back.begin_at(LogOffset(FILE)).unwrap();
            for chunk in chunks(&master_disk, FILE, end, 3) {
                copy(&back, &chunk).unwrap_or_else(|error| panic!("cut {n}: {error}"));
            }
            assert_eq!(from_offset(&back, 0), expected, "cut {n}");
            back.close().unwrap();
            must_be_whole(&left, FlushMode::Sync, &format!("cut {n}, seed {seed}"));
        }
        let _ = replica.close();
        if !was_cut {
            break;
        }
    }
    master.close().unwrap();
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
            RawAppendError::NotAtEnd { .. } | RawAppendError::OutOfSequence { .. }
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

/// A topic that was deleted and created again before the replica heard of it.
#[test]
fn a_queue_that_begins_again_on_the_master_does_so_on_the_replica() {
    let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Async)).unwrap();
    let replica = open(Arc::new(replica_disk.clone()), options(FlushMode::Async)).unwrap();
    let missing = |records| chunks(&master_disk, replica.log_range().1.0, master.log_range().1.0, records);
    let follow = || missing(1).iter().for_each(|chunk| copy(&replica, chunk).unwrap());
    for life in ["first", "second", "third"] {
        for n in 0..if life == "second" { 9 } else { 5 } {
            send(&master, "a", 0, &format!("{life} {n}")).unwrap();
            send(&master, "b", 0, "stays").unwrap();
        }
        follow();
        assert_eq!(all(&replica), all(&master), "{life}");
        master.delete_topic("a").unwrap();
    }
    // In one append with messages of the life before: those before it are to be appended alone.
    send(&master, "a", 0, "fourth").unwrap();
    master.delete_topic("a").unwrap();
    send(&master, "a", 0, "fifth").unwrap();
    let together = missing(2).remove(0);
    let refused = replica.append_raw(together.0, &together.1).map(drop).unwrap_err();
    assert!(matches!(refused, RawAppendError::OutOfSequence { .. }), "{refused}");
    follow();
    assert_eq!(bodies(&replica, "a", 0, 0), ["fifth"]);
    // After a kill, and after a stop in order.
    let killed = open(Arc::new(replica_disk.process_killed()), options(FlushMode::Async)).unwrap();
    assert_eq!(all(&killed), all(&master));
    killed.close().unwrap();
    replica.close().unwrap();
    drop(replica);
    let again = open(Arc::new(replica_disk), options(FlushMode::Async)).unwrap();
    assert_eq!(all(&again), all(&master));
    again.close().unwrap();
    master.close().unwrap();
}

/// The messages of each queue in a log that ends at `to`.
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
            // Some messages are in memory only, and some are indexed.
            send(&store, "a", 0, "newest").unwrap();
            if n % 2 == 0 {
                store.run_background_work().unwrap();
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

/// The log is cut behind messages that are written, and that readers may not see yet.
#[test]
fn messages_that_wait_to_be_confirmed_keep_their_offsets_through_a_truncation() {
    let (master_disk, replica_disk) = (SimulatedDisk::new(1), SimulatedDisk::new(2));
    let master = open(Arc::new(master_disk.clone()), options(FlushMode::Async)).unwrap();
    let mut bounded = options(FlushMode::Async);
    bounded.log.is_bounded = true;
    let replica = open(Arc::new(replica_disk), bounded).unwrap();
    let ends: Vec<LogOffset> = (0..6)
        .map(|n| {
            send(&master, "a", 0, &format!("{n}")).unwrap();
            master.log_range().1
        })
        .collect();
    let take = |(at, bytes): &(LogOffset, Bytes)| {
        let ticket = replica.append_raw(*at, bytes).unwrap();
        let (done, outcome) = mpsc::channel();
        let later = || -> Completion { Box::new(move |told| done.send(told).unwrap()) };
        let told = replica.complete_here(ticket, false, later);
        told.unwrap_or_else(|| outcome.recv_timeout(Duration::from_secs(20)).unwrap())
            .unwrap();
    };
    let records = chunks(&master_disk, 0, ends[5].0, 1);
    records[..5].iter().for_each(take);
    replica.raise_bound(ends[1]);
    assert_eq!(bodies(&replica, "a", 0, 0), ["0", "1"]);
    // 2 and 3 wait, 4 is cut off.
    replica.truncate(ends[3]).unwrap();
    assert_eq!(bodies(&replica, "a", 0, 0), ["0", "1"]);
    records[4..].iter().for_each(take);
    replica.raise_bound(ends[5]);
    assert_eq!(bodies(&replica, "a", 0, 0), ["0", "1", "2", "3", "4", "5"]);
    replica.close().unwrap();
    master.close().unwrap();
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
        store.run_background_work().unwrap();
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
