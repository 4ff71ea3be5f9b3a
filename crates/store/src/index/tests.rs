//! The index equals a list of what was added; after a power cut it equals the list's beginning.

use proptest::prelude::*;

use super::*;
use crate::disk::simulated::{Fault, Lasts, SimulatedDisk};

const DIR: &str = "/s/index";
/// Few slots, so that keys share them, and small files.
const OPTIONS: IndexOptions = IndexOptions { slots: 7, items: 60 };
const START: i64 = 1_700_000_000_000;

fn open(disk: &SimulatedDisk) -> KeyIndex {
    KeyIndex::open(Arc::new(disk.clone()), Path::new(DIR), OPTIONS).unwrap()
}

/// The record at a log offset: its keys and its time. No key's hash is 0: with log offset 0 that makes an item of zeros only,
/// which recovery takes for none.
fn record(log_offset: i64) -> (Vec<i32>, i64) {
    let at = log_offset / 100;
    let keys = (0..1 + at % 3).map(|key| ((at * 31 + key * 17) % 40 + 1) as i32).collect();
    (keys, START + at * 1_500)
}

fn put(index: &KeyIndex, log_offset: i64) -> io::Result<()> {
    let (keys, time) = record(log_offset);
    index.put_record(&keys, LogOffset(log_offset), time)
}

fn expected(records: impl Iterator<Item = i64>, key: i32) -> Vec<LogOffset> {
    let mut found: Vec<_> = records.filter(|at| record(*at).0.contains(&key)).map(LogOffset).collect();
    found.reverse();
    found
}

fn check(index: &KeyIndex, end: i64) {
    for key in 1..=40 {
        let all = index.query_hash(key, 0, i64::MAX, usize::MAX).unwrap().log_offsets;
        assert_eq!(all, expected((0..end).step_by(100), key), "key {key}, records to {end}");
        let few = index.query_hash(key, 0, i64::MAX, 3).unwrap().log_offsets;
        assert_eq!(few, all[..all.len().min(3)]);
    }
    if end > 0 {
        assert_eq!(index.last().0, LogOffset(end - 100));
    }
}

#[test]
fn name_of_a_file_is_its_time() {
    assert_eq!(time_number(0), 19_700_101_000_000_000);
    assert_eq!(time_number(951_782_400_000), 20_000_229_000_000_000);
    assert_eq!(time_number(1_700_000_000_123), 20_231_114_221_320_123);
    assert_eq!(time_number(4_102_444_799_999), 20_991_231_235_959_999);
    assert_eq!(time_number(i64::MAX), 99_991_231_235_959_999);
}

proptest! {

    #[test]
    fn index_finds_all_that_was_put_over_files_and_openings(counts in prop::collection::vec(0i64..80, 1..6)) {
        let disk = SimulatedDisk::new(1);
        let mut end = 0;
        for count in counts {
            let index = open(&disk);
            // Adds again what is there, as recovery does.
            for at in (end - 500).max(0) / 100..end / 100 + count {
                put(&index, at * 100).unwrap();
            }
            end += count * 100;
            check(&index, end);
            index.write().unwrap();
        }
    }

    #[test]
    fn query_keeps_to_its_time(count in 1i64..120, from in 0i64..200, len in 0i64..200, key in 1i32..41) {
        let index = open(&SimulatedDisk::new(1));
        for at in 0..count {
            put(&index, at * 100).unwrap();
        }
        // Items keep whole seconds since their file's first one, so the ends are fuzzy by a file's first offset.
        let (begin, end) = (START + from * 1_000, START + (from + len) * 1_000);
        let found = index.query_hash(key, begin, end, usize::MAX).unwrap().log_offsets;
        let sure = expected((0..count * 100).step_by(100).filter(|at| record(*at).1 >= begin + 2_500 && record(*at).1 <= end), key);
        prop_assert!(sure.iter().all(|at| found.contains(at)), "{:?} of {:?}", found, sure);
        prop_assert!(found.iter().all(|at| record(at.0).1 >= begin - 2_500 && record(at.0).1 <= end + 2_500));
    }

    #[test]
    fn power_cut_leaves_what_was_synced_and_recovery_makes_the_rest_again(synced in 0i64..150, more in 0i64..150, seed: u64, shift: bool) {
        // Above 4 GiB a torn log offset looks like a low one; the records' own numbers stay what they are.
        let base = if shift { 1i64 << 32 } else { 0 };
        let disk = SimulatedDisk::new(1);
        let index = open(&disk);
        let put = |index: &KeyIndex, at: i64| {
            let (keys, time) = record(at * 100);
            index.put_record(&keys, LogOffset(base + at * 100), time).unwrap();
        };
        (0..synced).for_each(|at| put(&index, at));
        index.write().unwrap();
        index.sync().unwrap();
        (synced..synced + more).for_each(|at| put(&index, at));

        let disk = disk.power_cut(seed);
        let index = open(&disk);
        index.cut(LogOffset(base + synced * 100), false).unwrap();
        let check = |index: &KeyIndex, count: i64| for key in 1..=40 {
            let found: Vec<_> = index.query_hash(key, 0, i64::MAX, usize::MAX).unwrap().log_offsets.iter().map(|at| LogOffset(at.0 - base)).collect();
            assert_eq!(found, expected((0..count * 100).step_by(100), key), "key {key}");
        };
        check(&index, synced);
        (synced..synced + more).for_each(|at| put(&index, at));
        check(&index, synced + more);
        index.write().unwrap();
        index.sync().unwrap();
        check(&open(&disk.power_cut(seed)), synced + more);
    }

    #[test]
    fn a_kill_leaves_what_was_written_and_recovery_puts_the_rest_again(
        // Records added, and whether they are written then; the last that is written is the checkpoint.
        lives in prop::collection::vec(prop::collection::vec((0i64..40, any::<bool>()), 1..6), 1..4),
        steps in 0usize..4,
    ) {
        let mut disk = SimulatedDisk::new(1);
        let (mut end, mut checkpoint) = (0, 0);
        for life in lives {
            let index = open(&disk);
            index.cut(LogOffset(checkpoint), true).unwrap();
            check(&index, checkpoint);
            end = checkpoint;
            for (count, is_written) in life {
                for at in end / 100..end / 100 + count {
                    put(&index, at * 100).unwrap();
                }
                end += count * 100;
                if is_written {
                    index.write().unwrap();
                    checkpoint = end;
                }
            }
            check(&index, end);
            // The kill interrupts the next write.
            if let Some(filling) = &mut index.state.write().filling {
                let all = [Filling::write_items, Filling::write_header, Filling::write_slots];
                all[..steps].iter().for_each(|step| step(filling).unwrap());
            }
            disk = disk.process_killed();
        }
        let index = open(&disk);
        index.cut(LogOffset(checkpoint), true).unwrap();
        for at in checkpoint / 100..end / 100 {
            put(&index, at * 100).unwrap();
        }
        check(&index, end);
        drop(index);
        // A power cut after that finds no item from before.
        let index = open(&disk.power_cut(3));
        index.cut(LogOffset(0), false).unwrap();
        check(&index, 0);
    }

    #[test]
    fn query_ends_on_any_bytes(seed: u64, key: i32) {
        let disk = SimulatedDisk::new(1);
        disk.create_dir_all(Path::new(DIR)).unwrap();
        let path = Path::new(DIR).join("20231114221320123");
        let file = disk.create(&path, OPTIONS.file_len(), Allocate::Reserved).unwrap();
        let mut state = seed;
        let bytes: Vec<u8> = (0..OPTIONS.file_len()).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Mostly zeros, so that numbers are small enough to be followed.
            if state >> 62 == 0 { (state >> 40) as u8 } else { 0 }
        }).collect();
        file.write_at(&bytes, 0).unwrap();
        let index = open(&disk);
        let found = index.query_hash(key, i64::MIN, i64::MAX, usize::MAX).unwrap();
        prop_assert!(found.log_offsets.len() <= 60);
        index.cut(LogOffset(1 << 40), seed % 2 == 0).unwrap();
        put(&index, 1 << 41).unwrap();
    }
}

#[test]
fn full_disk_pauses_the_index_and_the_record_is_put_whole_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    let index = open(&disk);
    let mut at = 0;
    disk.fail_at(disk.calls() + 7, Fault::NoSpace, Lasts::ForEver);
    let error = loop {
        match put(&index, at * 100) {
            Ok(()) => at += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("the key index waits for disk space"), "{error}");
    assert!(put(&index, at * 100).is_err());
    check(&index, at * 100);
    disk.heal();
    for at in at..at + 50 {
        put(&index, at * 100).unwrap();
    }
    check(&index, (at + 50) * 100);
}

#[test]
fn retention_removes_files_below_the_log_and_keeps_the_newest() {
    let disk = SimulatedDisk::new(1);
    let index = open(&disk);
    for at in 0..150 {
        put(&index, at * 100).unwrap();
    }
    let files = || disk.list(Path::new(DIR)).unwrap().len();
    let before = files();
    assert_eq!(index.remove_below(LogOffset(0)).unwrap(), 0);
    assert_eq!(index.remove_below(LogOffset(9_000)).unwrap(), 3);
    assert_eq!(files(), before - 3);
    index.remove_below(LogOffset(i64::MAX)).unwrap();
    assert_eq!(files(), 1);
    assert_eq!(index.last().0, LogOffset(14_900));
    let found = index.query_hash(record(14_900).0[0], 0, i64::MAX, 1).unwrap();
    assert_eq!(found.log_offsets, [LogOffset(14_900)]);
}

#[test]
fn file_of_a_java_broker_is_continued_and_a_full_disk_costs_nothing() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    // Without reserved blocks, as Java makes files.
    let path = Path::new(DIR).join("20231114221320123");
    disk.create(&path, OPTIONS.file_len(), Allocate::Sparse).unwrap();
    let index = open(&disk);
    (0..10).for_each(|at| put(&index, at * 100).unwrap());
    disk.fail_at(disk.calls() + 1, Fault::NoSpace, Lasts::ForEver);
    assert_eq!(index.write().unwrap_err().kind(), io::ErrorKind::StorageFull);
    (10..20).for_each(|at| put(&index, at * 100).unwrap());
    check(&index, 2_000);
    disk.heal();
    index.write().unwrap();
    index.sync().unwrap();
    let index = open(&disk.power_cut(1));
    check(&index, 2_000);
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 1);
}

#[test]
fn file_of_other_numbers_is_kept_and_not_read() {
    let disk = SimulatedDisk::new(1);
    put(&open(&disk), 0).unwrap();
    let other = IndexOptions { slots: 9, items: 60 };
    let index = KeyIndex::open(Arc::new(disk.clone()), Path::new(DIR), other).unwrap();
    assert!(index.query_hash(record(0).0[0], 0, i64::MAX, 9).unwrap().log_offsets.is_empty());
    put(&index, 100).unwrap();
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 2);
    index.remove_below(LogOffset(50)).unwrap();
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 1);
}

#[test]
fn beside_a_file_that_was_never_written_the_first_record_is_put() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.create(&Path::new(DIR).join("20231114221320000"), 0, Allocate::Sparse).unwrap();
    let index = open(&disk);
    put(&index, 0).unwrap();
    check(&index, 100);
}

#[test]
fn failed_sync_is_never_followed_by_a_successful_one() {
    let disk = SimulatedDisk::new(1);
    let index = open(&disk);
    put(&index, 0).unwrap();
    index.write().unwrap();
    disk.fail_at(disk.calls() + 1, Fault::Broken, Lasts::Once);
    assert!(index.sync().is_err());
    put(&index, 100).unwrap();
    assert!(index.sync().is_err());
}
