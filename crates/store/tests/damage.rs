//! Damage to the small files beside log, queues and index: a start rebuilds their content, and reports it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ROOT, bodies, open, send};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};
use store::{FlushMode, StoreOptions};

const FILES: [&str; 3] = ["checkpoint", "consumequeue.synced", "abort"];

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("message-{n:05}")).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn put(disk: &SimulatedDisk, name: &str, content: Option<&[u8]>) {
    let Some(content) = content else {
        return disk.remove_file(&path(name)).unwrap();
    };
    let file = disk.open(&path(name), OpenMode::WriteOrCreate).unwrap();
    file.set_len(0).unwrap();
    file.write_at(content, 0).unwrap();
}

/// What crashes, full disks and operators leave of a file; `None`: nothing.
fn kinds(whole: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut kinds = vec![
        ("missing".to_owned(), None),
        ("empty".to_owned(), Some(Vec::new())),
        ("NUL".to_owned(), Some(vec![0; whole.len()])),
        ("ones".to_owned(), Some(vec![0xff; whole.len()])),
        ("text".to_owned(), Some(b"what is this".repeat(400))),
        ("NUL behind".to_owned(), Some([whole, &[0; 512]].concat())),
    ];
    for cut in [1, 7, 8, 40, 2048, 2060, whole.len().saturating_sub(1)]
        .into_iter()
        .filter(|cut| *cut < whole.len())
    {
        kinds.push((format!("cut at {cut}"), Some(whole[..cut].to_vec())));
    }
    // Where the fields of the checkpoint are, and within the list of queues.
    for at in [0, 7, 8, 16, 2048, 2056, 2063, 2071, 2079]
        .into_iter()
        .filter(|at| *at < whole.len())
    {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 0x80;
        kinds.push((format!("bit at {at}"), Some(flipped)));
    }
    kinds
}

/// A store with checkpoints and messages after the last of them, as a stop of this kind leaves it.
fn left(stop: &str, mode: FlushMode) -> SimulatedDisk {
    let disk = SimulatedDisk::new(7);
    let options = StoreOptions {
        checkpoint_bytes: 8 << 10,
        ..StoreOptions::small(ROOT, mode)
    };
    let store = open(Arc::new(disk.clone()), options).unwrap();
    let send_some = |range| {
        for body in numbered(range) {
            send(&store, "t", 0, &body).unwrap();
            send(&store, "u", 3, &body).unwrap();
        }
    };
    send_some(0..60);
    let begun = Instant::now();
    while !disk.exists(&path("consumequeue.synced")).unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    send_some(60..120);
    let left = match stop {
        "killed" => disk.process_killed(),
        "power cut" => disk.power_cut(3),
        _ => disk.clone(),
    };
    store.close().unwrap();
    left
}

/// All acknowledged messages are there after a start, and the store continues.
fn check(disk: &SimulatedDisk, what: &str) {
    let options = StoreOptions::small(ROOT, FlushMode::Sync);
    let store = open(Arc::new(disk.clone()), options.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (topic, queue) in [("t", 0), ("u", 3)] {
        assert_eq!(bodies(&store, topic, queue, 0), numbered(0..120), "{what}: {topic}");
    }
    assert_eq!(
        store.query("t", "kmessage-0004", 0, i64::MAX, 64).unwrap().records.len(),
        10,
        "{what}"
    );
    assert_eq!(send(&store, "t", 0, "next").unwrap().queue_offset.0, 120, "{what}");
    store.close().unwrap();
    drop(store);
    let store = open(Arc::new(disk.clone()), options).unwrap();
    assert_eq!(bodies(&store, "t", 0, 119), ["message-00119", "next"], "{what}");
    store.close().unwrap();
}

#[test]
fn whatever_becomes_of_the_small_files_is_derived_again() {
    for stop in ["clean", "killed", "power cut"] {
        let whole = left(stop, FlushMode::Sync);
        for name in FILES {
            let Ok(content) = whole.read(&path(name)) else {
                assert_eq!((stop, name), ("clean", "abort"));
                continue;
            };
            for (kind, damaged) in kinds(&content) {
                // Without the `abort` file a kill looks like a clean shutdown.
                if name == "abort" && damaged.is_none() {
                    continue;
                }
                let disk = whole.process_killed();
                put(&disk, name, damaged.as_deref());
                check(&disk, &format!("{stop}, {name} {kind}"));
            }
        }
    }
}

#[test]
fn all_small_files_may_be_damaged_at_once() {
    for stop in ["killed", "power cut"] {
        for content in [&b""[..], &[0; 4096]] {
            let disk = left(stop, FlushMode::Sync);
            for name in FILES {
                put(&disk, name, Some(content));
            }
            check(&disk, &format!("{stop}, {} bytes", content.len()));
        }
    }
}

type Damage = fn(&SimulatedDisk);

/// The last entry of a queue names a log offset without a log file.
fn name_a_far_place(disk: &SimulatedDisk) {
    let file = disk.open(&path("consumequeue/t/0/00000000000000002000"), OpenMode::Write).unwrap();
    file.write_at(&(1i64 << 40).to_be_bytes(), 19 * 20).unwrap();
    put(disk, "consumequeue.synced", None);
}

fn remove_the_log(disk: &SimulatedDisk) {
    disk.remove_dir_all(&path("commitlog")).unwrap();
}

/// Neither a damaged entry nor a checkpoint sets the end of a log that is missing: otherwise messages would count as written before
/// they are.
#[test]
fn a_place_beyond_all_log_files_is_not_the_end_of_the_log() {
    for (stop, damage) in [
        ("clean", name_a_far_place as Damage),
        ("clean", remove_the_log),
        ("killed", remove_the_log),
    ] {
        let disk = left(stop, FlushMode::Sync).process_killed();
        damage(&disk);
        let options = StoreOptions::small(ROOT, FlushMode::Sync);
        let store = open(Arc::new(disk.clone()), options.clone()).unwrap();
        send(&store, "w", 0, "next").unwrap();
        let killed = disk.process_killed();
        store.close().unwrap();
        let store = open(Arc::new(killed), options).unwrap();
        assert_eq!(bodies(&store, "w", 0, 0), ["next"], "{stop}");
        store.close().unwrap();
    }
}
