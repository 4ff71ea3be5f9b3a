//! A disk that fills up and is freed again: sends are refused with numbers, reads continue, and the store recovers by itself.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ROOT, bodies, open, send};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::inspect::{InspectOptions, check};
use store::{FlushMode, Store, StoreOptions};

const PATIENCE: Duration = Duration::from_secs(30);

fn sent(n: usize) -> String {
    format!("{n:04}-message")
}

/// Whether each of the messages is found by its key.
fn all_keys(store: &Store, count: usize) -> bool {
    (0..count).all(|n| {
        store
            .query("a", &format!("k{}", &sent(n)[..12]), 0, i64::MAX, 8)
            .unwrap()
            .records
            .len()
            == 1
    })
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn must_be_whole(disk: &SimulatedDisk, options: &StoreOptions) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = check(&disk, &InspectOptions::of(options), &mut |_| {}).unwrap();
    assert!(!report.is_damaged(), "{:#?}", report.findings);
}

/// The log has space in its files for all messages, the index for one file.
fn with_large_log_files() -> StoreOptions {
    let mut options = StoreOptions::small(ROOT, FlushMode::Sync);
    options.log.segment_bytes = 128 << 10;
    options.max_index_backlog = 50;
    options
}

/// A store with so many messages that the index needs files for which there is no space.
fn behind(disk: &SimulatedDisk, options: &StoreOptions) -> Arc<Store> {
    let store = open(Arc::new(disk.clone()), options.clone()).unwrap();
    send(&store, "a", 0, &sent(0)).unwrap();
    store.run_background_work().unwrap();
    assert!(all_keys(&store, 1));
    disk.set_no_room_in(Some(options.root.join("index")));
    for n in 1..60 {
        send(&store, "a", 0, &sent(n)).unwrap();
    }
    assert!(store.run_background_work().is_err(), "the index cannot go on");
    for n in 60..300 {
        send(&store, "a", 0, &sent(n)).expect("sends do not wait for the index");
    }
    assert!(!all_keys(&store, 300));
    // What was indexed before is still found.
    assert!(all_keys(&store, 20));
    store
}

#[test]
fn without_room_for_the_index_sends_go_on_and_keys_are_indexed_later_from_the_log() {
    let (disk, options) = (SimulatedDisk::new(1), with_large_log_files());
    let store = behind(&disk, &options);
    disk.set_no_room_in(None);
    wait_for("the keeper indexes what was missed", || all_keys(&store, 300));
    for n in 300..350 {
        send(&store, "a", 0, &sent(n)).unwrap();
    }
    wait_for("what comes after that is indexed too", || all_keys(&store, 350));
    store.close().unwrap();
    must_be_whole(&disk, &options);
}

#[test]
fn an_index_that_is_behind_at_a_stop_in_order_goes_on_after_the_start() {
    let (disk, options) = (SimulatedDisk::new(1), with_large_log_files());
    behind(&disk, &options).close().unwrap();
    must_be_whole(&disk, &options);
    disk.set_no_room_in(None);
    let store = open(Arc::new(disk.clone()), options.clone()).unwrap();
    wait_for("the keeper indexes what was missed", || all_keys(&store, 300));
    store.close().unwrap();
    must_be_whole(&disk, &options);
}

#[test]
fn an_index_that_is_behind_at_a_crash_is_whole_after_recovery() {
    let (disk, options) = (SimulatedDisk::new(1), with_large_log_files());
    let store = behind(&disk, &options);
    // A checkpoint while it is behind.
    store.delete_topic("none").unwrap();
    for n in 300..310 {
        send(&store, "a", 0, &sent(n)).unwrap();
    }
    let (killed, cut) = (disk.process_killed(), (0..10).map(|seed| disk.power_cut(seed)));
    for found in cut.chain([killed]) {
        // First without space, then with space.
        let again = open(Arc::new(found.clone()), options.clone()).unwrap();
        assert_eq!(bodies(&again, "a", 0, 0).len(), 310);
        found.set_no_room_in(None);
        wait_for("the keeper indexes what was missed", || all_keys(&again, 310));
        again.close().unwrap();
        must_be_whole(&found, &options);
    }
    store.close().unwrap();
}

#[test]
fn a_full_disk_refuses_with_numbers_reads_go_on_and_room_is_noticed() {
    let disk = SimulatedDisk::new(1);
    let mut options = StoreOptions::small(ROOT, FlushMode::Sync);
    options.retention.clean_forcibly = false;
    disk.set_capacity(100_000);
    let store = open(Arc::new(disk.clone()), options.clone()).unwrap();
    let body = |n: usize| format!("{n:04}-{}", "x".repeat(400));
    let mut taken = Vec::new();
    let refusal = loop {
        match send(&store, "a", 0, &body(taken.len())) {
            Ok(_) => taken.push(body(taken.len())),
            Err(reason) => break reason,
        }
        let _ = store.run_background_work();
        assert!(taken.len() < 1000, "the disk is never full");
    };
    assert!(
        refusal.contains("% used") && refusal.contains("diskSpaceWarningLevelRatio")
            || refusal.contains("no room for the next commit log file of 4096 bytes"),
        "{refusal}"
    );
    assert!(taken.len() > 20);
    assert_eq!(bodies(&store, "a", 0, 0), taken);
    disk.set_capacity(200_000);
    let _ = store.run_background_work();
    send(&store, "a", 0, &body(taken.len())).unwrap();
    taken.push(body(taken.len()));
    // Full to the last byte: messages that fit into the existing files are stored, then one is refused.
    disk.set_capacity(disk.used());
    let last = loop {
        match send(&store, "a", 0, &body(taken.len())) {
            Ok(_) => taken.push(body(taken.len())),
            Err(reason) => break reason,
        }
    };
    assert!(last.contains("no room for the next commit log file of 4096 bytes"), "{last}");
    assert_eq!(bodies(&store, "a", 0, 0), taken);
    disk.set_capacity(1 << 30);
    send(&store, "a", 0, &body(taken.len())).expect("taken again without a restart");
    taken.push(body(taken.len()));
    store.run_background_work().unwrap();
    store.close().unwrap();
    must_be_whole(&disk, &options);
    drop(store);
    let store = open(Arc::new(disk), options).unwrap();
    assert_eq!(bodies(&store, "a", 0, 0), taken);
    store.close().unwrap();
}

#[test]
fn forced_deletion_makes_room_and_leaves_what_recovery_and_the_newest_readers_need() {
    let disk = SimulatedDisk::new(1);
    let options = StoreOptions::small(ROOT, FlushMode::Sync);
    disk.set_capacity(80_000);
    let store = open(Arc::new(disk.clone()), options.clone()).unwrap();
    let body = |n: usize| format!("{n:04}-{}", "x".repeat(400));
    for n in 0..2000 {
        // Sends are refused at times, until the keeper has made space.
        if send(&store, "a", 0, &body(n)).is_err() {
            store.run_background_work().unwrap();
            send(&store, "a", 0, &body(n)).expect("there is room again");
        }
        if n % 5 == 0 {
            store.run_background_work().unwrap();
            let names = |dir: &str| {
                disk.list(&Path::new(ROOT).join(dir))
                    .unwrap()
                    .into_iter()
                    .map(|e| e.name)
                    .collect::<BTreeSet<_>>()
            };
            assert!(!names("commitlog").is_empty());
            let (first, end) = store.log_range();
            assert!(end.0 - first.0 > 0, "the newest stays");
            if n % 200 == 0 {
                let killed = disk.process_killed();
                let again = open(Arc::new(killed.clone()), options.clone()).unwrap();
                let min = again.min_offset("a", 0).0;
                assert_eq!((min, again.max_offset("a", 0).0), (store.min_offset("a", 0).0, n as i64 + 1));
                let all: Vec<String> = (min as usize..=n).map(body).collect();
                assert_eq!(bodies(&again, "a", 0, min), all);
                again.close().unwrap();
                must_be_whole(&killed, &options);
            }
        }
    }
    let (first, _) = store.log_range();
    assert!(first.0 > 0, "old files went");
    store.close().unwrap();
}
