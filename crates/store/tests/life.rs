//! Basic operation: messages are appended, read by queue, key and log offset, and are there after a shutdown or a kill.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::BytesMut;
use common::{OLD_ENOUGH, PLENTY, bodies, open, send, send_all};
use message::record::{Draft, Placement, Record};
use message::{LogOffset, QueueOffset};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::disk::real::RealDisk;
use store::disk::simulated::{Fault, Lasts, SimulatedDisk};
use store::disk::{Disk, OpenMode};
use store::{
    AppendError, Arrival, Arrivals, Boundary, FlushMode, IndexedBy, Limits, ReadSource, ReadStatus, Store, StoreError, StoreOptions,
};

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("message-{n:05}")).collect()
}

fn texts(bodies: &[String]) -> Vec<&str> {
    bodies.iter().map(String::as_str).collect()
}

#[test]
fn what_is_sent_is_read_in_order_across_files_and_after_a_stop() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(Arc::new(RealDisk), StoreOptions::small(dir.path(), mode)).unwrap();
        for body in numbered(0..200) {
            send(&store, "t", 1, &body).unwrap();
        }
        assert!(store.log_range().1.0 > 5 * 4096, "several log files");
        assert_eq!(bodies(&store, "t", 1, 0), numbered(0..200));
        store.close().unwrap();
        drop(store);
        let (store, recovery) = Store::open(Arc::new(RealDisk), StoreOptions::small(dir.path(), mode)).unwrap();
        assert!(recovery.clean && recovery.messages == 0, "{recovery:?}");
        assert_eq!(bodies(&store, "t", 1, 150), numbered(150..200));
        for body in numbered(200..250) {
            send(&store, "t", 1, &body).unwrap();
        }
        assert_eq!(bodies(&store, "t", 1, 0), numbered(0..250));
        store.close().unwrap();
    }
}

#[test]
fn what_is_written_survives_a_kill_with_no_checkpoint() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    for body in numbered(0..100) {
        send(&store, "t", 0, &body).unwrap();
        send(&store, "u", 3, &body).unwrap();
    }
    let killed = disk.process_killed();
    let (after, recovery) = Store::open(Arc::new(killed), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    assert!(!recovery.clean);
    assert_eq!(recovery.messages, 200);
    assert_eq!(bodies(&after, "t", 0, 0), numbered(0..100));
    assert_eq!(bodies(&after, "u", 3, 0), numbered(0..100));
    assert_eq!(after.query("t", "kmessage-0004", 0, i64::MAX, 64).unwrap().records.len(), 10);
    let next = send(&after, "t", 0, "next").unwrap();
    assert_eq!(next.queue_offset, QueueOffset(100), "offsets go on where the queue ends");
    assert_eq!(bodies(&after, "t", 0, 99), ["message-00099", "next"]);
    assert_eq!(after.max_offset("t", 0), QueueOffset(101));
    store.close().unwrap();
    after.close().unwrap();
}

#[test]
fn a_read_says_what_became_of_it() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    let limits = Limits { messages: 2, ..PLENTY };
    let status = |from, takes: &dyn Fn(i64) -> bool| {
        let r = store.read("t", 0, QueueOffset(from), limits, takes, ReadSource::PageCache).unwrap();
        (r.status, r.next.0, r.records.len())
    };
    assert_eq!(status(0, &|_| true), (ReadStatus::NoMatchedLogicQueue, 0, 0));
    send_all(&store, "t", 0, &["a", "b", "c"]).unwrap();
    assert_eq!(status(0, &|_| true), (ReadStatus::Found, 2, 2));
    assert_eq!(status(0, &|_| false), (ReadStatus::NoMatchedMessage, 3, 0));
    assert_eq!(status(3, &|_| true), (ReadStatus::OffsetOverflowOne, 3, 0));
    assert_eq!(status(9, &|_| true), (ReadStatus::OffsetOverflowBadly, 3, 0));
    assert_eq!(status(-1, &|_| true), (ReadStatus::OffsetTooSmall, 0, 0));
    let tight = Limits { bytes: 1, ..PLENTY };
    let one = store.read("t", 0, QueueOffset(0), tight, &|_| true, ReadSource::Memory).unwrap();
    assert_eq!(one.records.len(), 1, "the first message is returned whatever its size");
    store.close().unwrap();
}

#[test]
fn a_read_goes_no_farther_than_it_may() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    let sent = numbered(0..400);
    let texts: Vec<&str> = sent.iter().map(String::as_str).collect();
    texts
        .chunks(10)
        .for_each(|ten| assert_eq!(send_all(&store, "t", 0, ten).unwrap().len(), 10));
    store.run_background_work().unwrap();
    let is_in_reach = |from, reach| {
        let read = store.read("t", 0, QueueOffset(from), PLENTY, &|_| true, reach).unwrap();
        let bodies = || read.records.iter().map(|record| Record::parse(record).unwrap().body.to_vec());
        assert!(read.cold || bodies().eq(sent[from as usize..].iter().take(32).map(|body| body.as_bytes().to_vec())));
        !read.cold
    };
    assert!(is_in_reach(368, ReadSource::Memory), "the end of the log is kept");
    assert!(!is_in_reach(0, ReadSource::Memory) && is_in_reach(0, ReadSource::PageCache));
    disk.evict();
    assert!(!is_in_reach(0, ReadSource::PageCache) && is_in_reach(0, ReadSource::Disk));
    store.close().unwrap();
}

#[test]
fn a_damaged_record_ends_a_read_before_it_and_the_next_read_passes_it() {
    let disk = SimulatedDisk::new(1);
    let mut options = StoreOptions::small(common::ROOT, FlushMode::Async);
    options.log.tail_bytes = 0;
    let store = open(Arc::new(disk.clone()), options).unwrap();
    let sent = numbered(0..10);
    let placed: Vec<_> = sent.iter().map(|body| send(&store, "t", 0, body).unwrap()).collect();
    store.run_background_work().unwrap();
    let log = disk
        .open(
            &Path::new(common::ROOT).join("commitlog").join(format!("{:020}", 0)),
            OpenMode::Write,
        )
        .unwrap();
    for at in [4, 5] {
        log.write_at(b"no record", placed[at].log_offset.0 as u64).unwrap();
    }
    for reach in [ReadSource::PageCache, ReadSource::Disk] {
        let read = |from| store.read("t", 0, QueueOffset(from), PLENTY, &|_| true, reach).unwrap();
        let before = read(0);
        assert_eq!((before.status, before.next.0, before.records.len()), (ReadStatus::Found, 4, 4));
        assert!(before.damaged.is_none());
        for at in [4, 5] {
            let on_it = read(at as i64);
            let damaged = on_it.damaged.unwrap();
            assert_eq!((on_it.status, on_it.next.0), (ReadStatus::MessageWasRemoving, at as i64 + 1));
            assert_eq!((damaged.queue_offset.0, damaged.log_offset), (at as i64, placed[at].log_offset));
        }
        let behind = read(6);
        assert_eq!((behind.status, behind.next.0, behind.records.len()), (ReadStatus::Found, 10, 4));
    }
    store.close().unwrap();
}

/// A store that reads everything from its files.
fn without_tail() -> Arc<Store> {
    without_tail_on(&SimulatedDisk::new(1))
}

fn without_tail_on(disk: &SimulatedDisk) -> Arc<Store> {
    let mut options = StoreOptions::small(common::ROOT, FlushMode::Async);
    options.log.tail_bytes = 0;
    open(Arc::new(disk.clone()), options).unwrap()
}

#[test]
fn readers_of_queues_between_each_other_get_the_same_from_shared_blocks() {
    for block_bytes in [0, 256 << 10, 1 << 20] {
        let disk = SimulatedDisk::new(1);
        let mut options = StoreOptions::small(common::ROOT, FlushMode::Async);
        (options.log.tail_bytes, options.log.block_bytes, options.log.segment_bytes) = (0, block_bytes, 600_000);
        options.queue_file_bytes = 20_000;
        let store = open(Arc::new(disk), options).unwrap();
        let body = |queue: usize, n: usize| format!("{queue}-{n}-{}", "x".repeat(n * 37 % 3_000));
        for n in 0..200 {
            for queue in 0..4 {
                send(&store, "t", queue as i32, &body(queue, n)).unwrap();
            }
        }
        store.run_background_work().unwrap();
        let mut from_memory = 0;
        for from in (0..200).step_by(20) {
            for queue in 0..4 {
                let limits = Limits { messages: 20, ..PLENTY };
                let read_from = |source| {
                    store
                        .read("t", queue as i32, QueueOffset(from as i64), limits, &|_| true, source)
                        .unwrap()
                };
                // Nothing but blocks is in memory: the tail keeps nothing.
                let mut read = read_from(ReadSource::Memory);
                from_memory += usize::from(!read.cold);
                if read.cold {
                    read = read_from(ReadSource::PageCache);
                }
                assert!(!read.cold && read.damaged.is_none());
                let found = read.records.iter().map(|record| Record::parse(record).unwrap());
                let found: Vec<_> = found.map(|record| String::from_utf8(record.body.to_vec()).unwrap()).collect();
                assert_eq!(
                    found,
                    (from..from + 20).map(|n| body(queue, n)).collect::<Vec<_>>(),
                    "{block_bytes} {queue} {from}"
                );
            }
        }
        assert_eq!(
            from_memory > 0,
            block_bytes > 0,
            "{from_memory} of 40 reads were from blocks that others had read"
        );
        store.close().unwrap();
    }
}

#[test]
fn of_places_in_the_log_those_before_a_wrong_one_are_read() {
    let store = without_tail();
    // Some are contiguous, some are not, and they are in several files.
    let sent = numbered(0..60);
    for (n, body) in sent.iter().enumerate() {
        send(&store, "t", 0, body).unwrap();
        if n % 5 == 0 {
            send(&store, "other", 0, "between").unwrap();
        }
    }
    let mut entries = Vec::new();
    store.find_queue("t", 0).unwrap().read(QueueOffset(0), 60, &mut entries).unwrap();
    let mut found = Vec::new();
    store.records_of(&entries, &mut found).unwrap();
    let body_of = |record| String::from_utf8(Record::parse(record).unwrap().body.to_vec()).unwrap();
    assert!(found.iter().map(|record| body_of(record)).eq(sent));
    for (n, change) in [(0, 1), (1, -1), (30, 8), (42, i32::MIN / 2), (59, 1 << 30)] {
        let mut wrong = entries.clone();
        wrong[n].size += change;
        found.clear();
        assert!(matches!(store.records_of(&wrong, &mut found), Err(StoreError::Corrupt(_))), "{n}");
        assert_eq!(found.len(), n, "{change}");
    }
    store.close().unwrap();
}

#[test]
fn places_of_a_queue_that_have_no_message_are_passed_over() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    send_all(&store, "t", 0, &["a", "b"]).unwrap();
    // As on a replica whose master has lost the messages between.
    let end = store.log_range().1;
    let placement = Placement {
        queue_offset: QueueOffset(5),
        log_offset: end,
        store_timestamp: 1_700_000_000_000,
    };
    let mut record = BytesMut::new();
    Draft::new("t", 0, b"c").encode(placement, &mut record);
    let ticket = store.append_raw(end, &record.freeze()).unwrap();
    store.complete_then(ticket, true, |outcome| outcome.unwrap());
    for (from, count) in [(0, 3), (1, 2), (2, 1), (4, 1), (5, 1)] {
        let read = store.read("t", 0, QueueOffset(from), PLENTY, &|_| true, ReadSource::Disk).unwrap();
        assert_eq!(
            (read.status, read.records.len(), read.next.0),
            (ReadStatus::Found, count, 6),
            "{from}"
        );
    }
    store.close().unwrap();
}

/// A listener with a bug, called on the thread that syncs.
struct Panics;

impl Arrivals for Panics {
    fn arrived(&self, _: &mut dyn Iterator<Item = Arrival<'_>>) {
        panic!("a listener fails");
    }
}

#[test]
fn a_panic_on_a_thread_of_the_store_ends_writing_and_is_told() {
    let store = open(Arc::new(SimulatedDisk::new(1)), StoreOptions::small(common::ROOT, FlushMode::Sync)).unwrap();
    store.set_arrivals(Box::new(Panics));
    assert!(!store.has_broken_invariant());
    send(&store, "t", 0, "a").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.not_writable().is_none() {
        assert!(Instant::now() < deadline, "the store still takes messages");
        std::thread::yield_now();
    }
    assert!(store.has_broken_invariant());
    assert!(
        send(&store, "t", 0, "b")
            .unwrap_err()
            .contains("an invariant of the store does not hold")
    );
    assert_eq!(bodies(&store, "t", 0, 0), ["a"]);
    store.close().unwrap_err();
}

#[test]
fn log_files_are_deleted_when_their_last_change_is_longer_ago_than_the_reserved_time() {
    let disk = SimulatedDisk::new(1);
    let mut options = StoreOptions::small(common::ROOT, FlushMode::Async);
    options.retention.delete_hours = (0..24).collect();
    let hour = Duration::from_secs(3600);
    let store = open(Arc::new(disk.clone()), options).unwrap();
    let first_half = numbered(0..60);
    first_half.iter().for_each(|body| assert!(send(&store, "t", 0, body).is_ok()));
    disk.advance_clock(50 * hour);
    let file_of_first_change = store.log_range().1;
    numbered(60..120)
        .iter()
        .for_each(|body| assert!(send(&store, "t", 0, body).is_ok()));
    store.run_background_work().unwrap();
    assert_eq!(store.log_range().0.0, 0, "all were changed less than 72 hours ago");
    disk.advance_clock(22 * hour);
    store.run_background_work().unwrap();
    let begin = store.log_range().0;
    assert!(begin.0 > 0 && begin <= file_of_first_change, "begins at {begin}");
    disk.advance_clock(50 * hour);
    store.run_background_work().unwrap();
    let (begin, end) = store.log_range();
    assert!(end.0 - begin.0 <= 4096, "only the newest file is left");
    store.close().unwrap();
}

#[test]
fn what_retention_takes_while_it_is_read_is_passed_over() {
    let disk = SimulatedDisk::new(1);
    let store = without_tail_on(&disk);
    let sent = numbered(0..100);
    sent.iter().for_each(|body| assert!(send(&store, "t", 0, body).is_ok()));
    let retain_once = std::sync::Once::new();
    let between_choosing_and_reading = |_| {
        retain_once.call_once(|| {
            disk.advance_clock(OLD_ENOUGH);
            store.delete_expired();
            store.run_background_work().unwrap();
        });
        true
    };
    let read = store
        .read("t", 0, QueueOffset(0), PLENTY, &between_choosing_and_reading, ReadSource::Disk)
        .unwrap();
    assert_eq!((read.status, read.next.0), (ReadStatus::MessageWasRemoving, 0));
    let min = store.min_offset("t", 0).0;
    assert!(min > 32, "all that was chosen is gone");
    assert_eq!(bodies(&store, "t", 0, min), sent[min as usize..]);
    store.close().unwrap();
}

#[test]
fn a_message_is_found_by_place_key_and_time() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    let placed = send_all(&store, "t", 0, &["a", "b"]).unwrap();
    let bytes = store.message_at(placed[1].log_offset).unwrap();
    assert_eq!(Record::parse(&bytes).unwrap().body, b"b");
    assert!(store.message_at(placed[1].log_offset.plus(1)).is_err());
    assert!(store.message_at(LogOffset(1 << 40)).is_err());
    let found = store.query("t", "ka", 0, i64::MAX, 64).unwrap();
    assert_eq!(Record::parse(&found.records[0]).unwrap().body, b"a");
    assert!(store.query("t", "nothing", 0, i64::MAX, 64).unwrap().records.is_empty());
    let by_tag = |tag| store.query_by("t", IndexedBy::Tag(tag), 0, i64::MAX, 64).unwrap().records.len();
    assert_eq!((by_tag("t"), by_tag("ka")), (2, 0), "a key is no tag");
    let at = placed[0].store_timestamp;
    assert_eq!(store.offset_by_time("t", 0, at, Boundary::Lower).unwrap(), QueueOffset(0));
    assert_eq!(store.offset_by_time("t", 0, at + 1, Boundary::Lower).unwrap(), QueueOffset(2));
    assert_eq!(store.earliest_store_time("t", 0), Some(at));
    store.close().unwrap();
}

#[test]
fn a_deleted_topic_starts_again_at_zero_even_after_a_kill() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    send_all(&store, "t", 0, &["old-1", "old-2", "old-3"]).unwrap();
    store.delete_topic("t").unwrap();
    send(&store, "t", 0, "new").unwrap();
    assert_eq!(bodies(&store, "t", 0, 0), ["new"]);
    let after = open(Arc::new(disk.process_killed()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    assert_eq!(bodies(&after, "t", 0, 0), ["new"]);
    store.close().unwrap();
    after.close().unwrap();
}

#[test]
fn a_queue_of_a_deleted_topic_takes_nothing_more() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    send(&store, "t", 0, "old").unwrap();
    let looked_up = store.queue("t", 0);
    store.delete_topic("t").unwrap();
    send(&store, "t", 0, "new").unwrap();
    let late = store.append(&[Draft::new("t", 0, b"late")], &[looked_up], 1, &mut Vec::new());
    assert!(matches!(late, Err(AppendError::QueueRetired { topic, queue_id: 0 }) if topic == "t"));
    assert_eq!(bodies(&store, "t", 0, 0), ["new"]);
    let after = open(Arc::new(disk.process_killed()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    assert_eq!(bodies(&after, "t", 0, 0), ["new"]);
    store.close().unwrap();
    after.close().unwrap();
}

#[test]
fn a_deletion_that_was_acknowledged_holds_after_a_kill_and_a_power_cut() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        for seed in 0..10 {
            let disk = SimulatedDisk::new(seed);
            let store = open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, mode)).unwrap();
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    numbered(0..100)
                        .iter()
                        .take_while(|body| send(&store, "t", 0, body).is_ok())
                        .count()
                });
                while store.max_offset("t", 0).0 < 5 {
                    std::thread::yield_now();
                }
                store.delete_topic("t").unwrap();
                let left = [disk.process_killed(), disk.power_cut(seed)];
                sender.join().unwrap();
                for disk in left {
                    let after = open(Arc::new(disk), StoreOptions::small(common::ROOT, mode)).unwrap();
                    let left = bodies(&after, "t", 0, 0);
                    assert!(!left.contains(&numbered(0..1)[0]), "seed {seed}: {left:?}");
                    assert_eq!(after.min_offset("t", 0), QueueOffset(0), "what came later begins at 0");
                    after.close().unwrap();
                }
            });
            store.close().unwrap();
        }
    }
}

#[test]
fn a_deletion_that_is_repeated_until_it_succeeds_holds() {
    let (old, new) = (numbered(0..20), numbered(100..120));
    let mut repeated = 0;
    for n in 1.. {
        let disk = SimulatedDisk::new(n);
        let options = || StoreOptions::small(common::ROOT, FlushMode::Sync);
        let store = open(Arc::new(disk.clone()), options()).unwrap();
        for queue_id in [0, 1] {
            (0..3).for_each(|_| _ = send_all(&store, "t", queue_id, &texts(&old)).unwrap());
        }
        store.run_background_work().unwrap();
        disk.fail_at(disk.calls() + n, Fault::Broken, Lasts::Once);
        let first = store.delete_topic("t").is_ok();
        if disk.first_failure().is_none() {
            disk.heal();
            store.close().unwrap();
            break;
        }
        // A sync may have failed: then nothing succeeds before a restart.
        if first || store.delete_topic("t").is_ok() {
            repeated += usize::from(!first);
            assert!(store.topics().is_empty());
            let (killed, cut) = (disk.process_killed(), disk.power_cut(n));
            let sent = send_all(&store, "t", 0, &texts(&new)).is_ok();
            let _ = store.close();
            for (disk, left) in [(killed, &[][..]), (cut, &[]), (disk.process_killed(), &new)] {
                let after = open(Arc::new(disk), options()).unwrap();
                let found = bodies(&after, "t", 0, after.min_offset("t", 0).0);
                assert!(
                    found.iter().all(|body| new.contains(body)),
                    "call {n}: {} old messages",
                    found.len()
                );
                assert!(found == left || !sent, "call {n}: {} new messages", found.len());
                assert!(bodies(&after, "t", 1, after.min_offset("t", 1).0).is_empty(), "call {n}");
                after.close().unwrap();
            }
        }
    }
    assert!(repeated > 3, "{repeated}");
}

#[test]
fn a_topic_deleted_while_it_is_sent_to_costs_no_other_topic_a_message() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let store = open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for body in numbered(0..150) {
                    while let Err(refused) = send(&store, "deleted", 0, &body) {
                        assert!(refused.contains("was deleted while"), "{refused}");
                    }
                }
            });
            scope.spawn(|| (0..4).for_each(|_| store.delete_topic("deleted").unwrap()));
            for body in numbered(0..150) {
                send(&store, "kept", 0, &body).unwrap();
            }
        });
        let after = open(Arc::new(disk.process_killed()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
        assert_eq!(bodies(&after, "kept", 0, 0), numbered(0..150));
        let left = bodies(&after, "deleted", 0, after.min_offset("deleted", 0).0);
        assert!(
            numbered(0..150).ends_with(&left),
            "no more than what came after the last deletion: {left:?}"
        );
        store.close().unwrap();
        after.close().unwrap();
    }
}

#[test]
fn a_second_process_is_refused_and_another_file_size_too() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    assert!(matches!(
        open(Arc::new(disk), StoreOptions::small(common::ROOT, FlushMode::Async)),
        Err(StoreError::Locked(_))
    ));
    store.close().unwrap();
    let store = open(Arc::new(RealDisk), StoreOptions::small(dir.path(), FlushMode::Async)).unwrap();
    send(&store, "t", 0, "a").unwrap();
    store.close().unwrap();
    drop(store);
    let mut other = StoreOptions::small(dir.path(), FlushMode::Async);
    other.log.segment_bytes = 8192;
    assert!(matches!(open(Arc::new(RealDisk), other), Err(StoreError::Layout(_))));
}

#[test]
fn senders_on_many_threads_keep_the_order_of_each_queue() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let store = open(Arc::new(RealDisk), StoreOptions::small(dir.path().join(format!("{mode:?}")), mode)).unwrap();
        std::thread::scope(|scope| {
            for queue in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    numbered(0..300)
                        .iter()
                        .for_each(|body| assert!(send(store, "t", queue, body).is_ok()))
                });
            }
        });
        for queue in 0..4 {
            assert_eq!(bodies(&store, "t", queue, 0), numbered(0..300));
        }
        store.close().unwrap();
    }
}

#[test]
fn what_looks_like_a_record_inside_a_body_is_no_message() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk), StoreOptions::small(common::ROOT, FlushMode::Async)).unwrap();
    let real = send_all(&store, "t", 0, &["real"]).unwrap()[0];
    let mut forged = store.record_at(real.log_offset).unwrap().to_vec();
    let topic_at = forged.len() - Record::parse(&forged).unwrap().properties.len() - 3;
    let append = |body: &[u8]| {
        let draft = Draft::new("t", 0, body);
        let mut placed = Vec::new();
        let ticket = store.append(&[draft], &[store.queue("t", 0)], 1, &mut placed).unwrap();
        store.complete(ticket, true, || unreachable!("nobody else writes"));
        placed[0]
    };
    // As it would be in the log, behind the fields before the body.
    for (topic, claimed_size) in [(b't', None), (b'u', None), (b't', Some(40_000)), (b't', Some(i32::MAX))] {
        let (_, end) = store.log_range();
        let at = end.plus(88);
        forged[28..36].copy_from_slice(&at.0.to_be_bytes());
        forged[topic_at] = topic;
        if let Some(size) = claimed_size {
            forged[..4].copy_from_slice(&i32::to_be_bytes(size));
        }
        let outer = append(&forged);
        assert_eq!(outer.log_offset, end);
        if claimed_size.is_none() {
            assert!(store.record_at(at).is_ok(), "the bytes are a record but for their place");
        }
        assert!(store.message_at(at).is_err());
        assert!(store.message_at(outer.log_offset).is_ok());
    }
}
