//! Checks of a directory: whole data is no finding, each kind of damage is one, and nothing is changed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ROOT, bodies, open, send, send_all};
use message::record::{Peek, peek};
use message::{LogOffset, QueueOffset};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::IndexOptions;
use store::disk::real::RealDisk;
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};
use store::inspect::{
    InspectOptions, LogItem, Part, Report, Severity, check, index_items, indexed_under, queue_entries, records, waiting_timers,
};
use store::timer::{TimerIndex, TimerOptions, Unit};
use store::{FlushMode, StoreOptions};

fn small() -> StoreOptions {
    StoreOptions::small(ROOT, FlushMode::Sync)
}

fn report(disk: &SimulatedDisk) -> Report {
    let (report, calls) = looked_at(disk);
    assert_eq!(calls, 0, "a check changes nothing");
    report
}

/// A report, and how often the disk was changed meanwhile.
fn looked_at(disk: &SimulatedDisk) -> (Report, u64) {
    let before = disk.calls();
    let look: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = check(&look, &InspectOptions::of(&small()), &mut |_| {}).unwrap();
    (report, disk.calls() - before)
}

/// The findings with their counts, as `severity: what`.
fn found(disk: &SimulatedDisk) -> Vec<(Severity, &'static str, u64)> {
    report(disk)
        .findings
        .into_iter()
        .map(|found| (found.severity, found.what, found.count))
        .collect()
}

/// A store of two topics over several log files, shut down cleanly.
fn stopped() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), small()).unwrap();
    for n in 0..40 {
        send(
            &store,
            ["a", "b"][n % 2],
            (n % 3) as i32,
            &format!("body-{n:03}-{}", "x".repeat(n * 13 % 300)),
        )
        .unwrap();
    }
    send_all(&store, "a", 0, &["batch-1", "batch-2", "batch-3"]).unwrap();
    store.close().unwrap();
    disk
}

fn content(disk: &SimulatedDisk, path: &Path) -> Vec<u8> {
    disk.read(path).unwrap()
}

fn change(disk: &SimulatedDisk, path: &Path, at: u64, bytes: &[u8]) {
    disk.open(path, OpenMode::Write).unwrap().write_at(bytes, at).unwrap();
}

fn flip(disk: &SimulatedDisk, path: &Path, at: u64) {
    let byte = content(disk, path)[at as usize];
    change(disk, path, at, &[byte ^ 0x55]);
}

fn in_root(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

fn log_file(base: i64) -> PathBuf {
    in_root(&format!("commitlog/{base:020}"))
}

fn queue_file(queue: &str) -> PathBuf {
    in_root(&format!("consumequeue/{queue}/{:020}", 0))
}

fn index_file(disk: &SimulatedDisk) -> PathBuf {
    let names: BTreeSet<String> = disk.list(&in_root("index")).unwrap().into_iter().map(|entry| entry.name).collect();
    in_root("index").join(names.first().unwrap())
}

/// Where the second record of the first log file begins, and its length.
fn second_record(disk: &SimulatedDisk) -> (usize, usize) {
    let bytes = content(disk, &log_file(0));
    let size = |at: usize| match peek(&bytes[at..]) {
        Peek::Record { size } => size,
        other => panic!("{other:?} at {at}"),
    };
    let second = size(0);
    (second, size(second))
}

#[test]
fn a_store_that_stopped_in_order_has_no_findings_and_all_is_counted() {
    let disk = stopped();
    let report = report(&disk);
    assert_eq!(report.findings, []);
    assert_eq!((report.log.records, report.queues.entries), (43, 43));
    assert_eq!((report.queues.topics, report.queues.queues), (2, 6));
    assert_eq!(report.index.items, 86, "a key and a tag of each");
    assert!(report.stopped_in_order && !report.in_use && report.log.files > 2);
    assert_eq!(report.queue_ends[&("a".to_owned(), 0)].max, 10);
    let checkpoint = report.checkpoint.unwrap();
    assert_eq!(checkpoint.dispatched, Some(report.log.end_offset));
}

#[test]
fn a_store_in_use_is_looked_at_beside_its_process() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), small()).unwrap();
    for n in 0..20 {
        send(&store, "a", 0, &format!("body-{n}")).unwrap();
    }
    // The store's background work ends first.
    let quiet = (0..1_000).map(|_| looked_at(&disk)).find(|(_, calls)| *calls == 0);
    let (report, _) = quiet.expect("a check changes nothing");
    assert!(report.in_use && !report.is_damaged(), "{:?}", report.findings);
    assert!(report.log.records >= 20);
    store.close().unwrap();
}

#[test]
fn what_a_kill_leaves_is_work_for_the_next_start_and_no_damage() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), small()).unwrap();
    send(&store, "a", 0, "first").unwrap();
    store.delete_topic("none").unwrap();
    for n in 0..30 {
        send(&store, "a", n % 2, &format!("body-{n}")).unwrap();
    }
    let killed = disk.process_killed();
    store.close().unwrap();
    let report = report(&killed);
    assert!(!report.is_damaged() && !report.stopped_in_order, "{:?}", report.findings);
    open(Arc::new(killed.clone()), small()).unwrap().close().unwrap();
    assert_eq!(found(&killed), []);
}

#[test]
fn a_rotten_body_hides_one_record_and_says_which_message_it_was() {
    let disk = stopped();
    let (at, size) = second_record(&disk);
    flip(&disk, &log_file(0), (at + size - 40) as u64);
    let report = report(&disk);
    assert_eq!(report.log.records, 42);
    let told: Vec<_> = report.findings.iter().map(|found| (found.severity, found.count)).collect();
    assert_eq!(told, [(Severity::Damage, 1), (Severity::Damage, 1), (Severity::Damage, 2)]);
    let hole = &report.findings[0];
    assert!(hole.examples[0].starts_with(&format!("{at} to {} ", at + size)), "{hole:?}");
    assert!(
        report.findings[1].examples[0].starts_with("b/1 offset 0 names"),
        "{:?}",
        report.findings[1]
    );
}

#[test]
fn a_missing_log_file_is_found() {
    let disk = stopped();
    disk.remove_file(&log_file(4096)).unwrap();
    let kinds = found(&disk);
    assert!(
        kinds.contains(&(Severity::Damage, "log files missing between others", 1)),
        "{kinds:?}"
    );
}

#[test]
fn a_torn_end_is_damage_after_a_stop_in_order_and_work_for_the_next_start_after_a_crash() {
    let disk = stopped();
    let end = report(&disk).log.end_offset;
    let base = end / 4096 * 4096;
    // The beginning of a record that was never finished.
    let torn = content(&disk, &log_file(0))[..60].to_vec();
    change(&disk, &log_file(base), (end - base) as u64, &torn);
    assert_eq!(found(&disk), [], "nobody reads behind the end that queues and checkpoint name");
    disk.open(&in_root("abort"), OpenMode::WriteOrCreate).unwrap();
    let after = found(&disk);
    assert_eq!(after[0], (Severity::Recovery, "a torn end of the log", 1), "{after:?}");
    open(Arc::new(disk.clone()), small()).unwrap().close().unwrap();
    assert_eq!(found(&disk), []);
}

#[test]
fn whole_records_behind_a_torn_place_are_told_before_a_start_cuts_them_off() {
    let disk = stopped();
    disk.open(&in_root("abort"), OpenMode::WriteOrCreate).unwrap();
    disk.remove_file(&in_root("checkpoint")).unwrap();
    let (at, size) = second_record(&disk);
    flip(&disk, &log_file(0), (at + size - 40) as u64);
    let damage = report(&disk).findings.remove(0);
    assert!(damage.what.contains("the whole records behind are lost"), "{damage:?}");
}

/// Name of the damage, how to cause it, and the finding.
type Case<'a> = (&'a str, &'a dyn Fn(&SimulatedDisk), &'a [(&'a str, u64)]);

#[test]
fn queues_that_differ_from_the_log_are_found_in_both_directions() {
    let wrong = "entries that differ from their records";
    let missing = "records without an entry in their queue";
    let dangling = "entries that name no record of their queue";
    let beyond = "entries beyond the log's end";
    let hole = "unwritten entries with written ones behind them";
    let cases: [Case<'_>; 6] = [
        ("size", &|disk| flip(disk, &queue_file("a/0"), 20 + 11), &[(wrong, 1)]),
        ("tag", &|disk| flip(disk, &queue_file("a/0"), 20 + 19), &[(wrong, 1)]),
        (
            "place",
            &|disk| flip(disk, &queue_file("a/0"), 20 + 7),
            &[(dangling, 1), (missing, 1)],
        ),
        (
            "zeros",
            &|disk| change(disk, &queue_file("a/0"), 40, &[0; 40]),
            &[(hole, 2), (missing, 2)],
        ),
        (
            "beyond",
            &|disk| {
                change(
                    disk,
                    &queue_file("a/1"),
                    6 * 20,
                    &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0],
                )
            },
            &[(beyond, 1)],
        ),
        ("gone", &|disk| disk.remove_file(&queue_file("b/2")).unwrap(), &[(missing, 6)]),
    ];
    for (name, damage, expected) in cases {
        let disk = stopped();
        damage(&disk);
        // The file with the synced ends of queues, which is not tested here.
        let mut kinds: Vec<_> = found(&disk);
        kinds.sort_unstable();
        let mut expected: Vec<_> = expected.iter().map(|(what, count)| (Severity::Damage, *what, *count)).collect();
        expected.sort_unstable();
        assert_eq!(kinds, expected, "{name}");
    }
}

#[test]
fn an_index_that_differs_from_the_log_or_from_itself_is_found() {
    let chain = "index items or slots that do not lead to the previous item: keys behind them are not found";
    let missing = "keys of records that are not indexed: they are not found by key";
    let foreign = "index items under a key that their record does not have";
    let numbers = small();
    let first_item = 40 + 4 * u64::from(numbers.index.unwrap().slots) + 20;
    let whats = |disk: &SimulatedDisk| {
        found(disk)
            .into_iter()
            .map(|(severity, what, _)| (severity, what))
            .collect::<BTreeSet<_>>()
    };
    let damage = |list: &[&'static str]| list.iter().map(|what| (Severity::Damage, *what)).collect::<BTreeSet<_>>();

    let disk = stopped();
    // A slot that is in use leads nowhere.
    let bytes = content(&disk, &index_file(&disk));
    let used = bytes[40..].chunks(4).position(|slot| slot != [0; 4]).unwrap();
    change(&disk, &index_file(&disk), 40 + 4 * used as u64, &[0; 4]);
    assert_eq!(whats(&disk), damage(&[chain]));

    let disk = stopped();
    // Another hash in the same slot.
    let at = first_item as usize;
    let bytes = content(&disk, &index_file(&disk));
    let hash = i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let other = if hash > i32::MAX - 16 { hash - 16 } else { hash + 16 };
    change(&disk, &index_file(&disk), first_item, &other.to_be_bytes());
    assert_eq!(whats(&disk), damage(&[missing, foreign]));

    let disk = stopped();
    let other = InspectOptions {
        index: Some(IndexOptions { slots: 17, items: 64 }),
        ..InspectOptions::of(&numbers)
    };
    let look: Arc<dyn Disk> = Arc::new(disk.clone());
    let findings = check(&look, &other, &mut |_| {}).unwrap().findings;
    assert!(findings[0].what.contains("maxHashSlotNum"), "{findings:?}");
    assert_eq!(findings.len(), 1, "what could not be read is not called missing: {findings:?}");
}

#[test]
fn a_checkpoint_ahead_of_the_log_is_found() {
    let disk = stopped();
    let end = report(&disk).log.end_offset;
    let mut checkpoint = content(&disk, &in_root("checkpoint"));
    checkpoint[2060..2068].copy_from_slice(&(end + 100).to_be_bytes());
    let crc = crc32fast::hash(&checkpoint[2048..2076]);
    checkpoint[2076..2080].copy_from_slice(&crc.to_be_bytes());
    change(&disk, &in_root("checkpoint"), 0, &checkpoint);
    assert_eq!(found(&disk), [(Severity::Damage, "the checkpoint is ahead of the log's end", 1)]);
}

#[test]
fn records_of_a_deleted_topic_are_no_damage() {
    let disk = SimulatedDisk::new(1);
    let store = open(Arc::new(disk.clone()), small()).unwrap();
    for topic in ["a", "b"] {
        send_all(&store, topic, 0, &["one", "two", "three"]).unwrap();
        store.delete_topic(topic).unwrap();
    }
    send(&store, "a", 0, "again").unwrap();
    store.close().unwrap();
    drop(store);
    let kinds = found(&disk);
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    assert_eq!((kinds[0].0, kinds[0].2), (Severity::Note, 6));
}

#[test]
fn what_is_no_store_cannot_be_looked_at() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
    let error = check(&disk, &InspectOptions::of(&small()), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("is no store"), "{error}");
}

#[test]
fn pieces_are_shown_one_after_the_other_from_a_place_on() {
    let disk = stopped();
    let look: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = InspectOptions::of(&small());
    let mut places = Vec::new();
    let mut note = |item: LogItem<'_>| {
        if let LogItem::Record(record) = item {
            places.push((record.log_offset, record.topic.to_owned(), record.queue_id, record.queue_offset));
        }
        if places.len() == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    // From within the first record on the second one is the first.
    records(&look, &options, LogOffset(1), &mut note).unwrap();
    let (second, _) = second_record(&disk);
    assert_eq!(places[0], (LogOffset(second as i64), "b".to_owned(), 1, QueueOffset(0)));
    assert_eq!(places.len(), 5);

    let mut entries = Vec::new();
    let mut note = |offset: QueueOffset, entry: store::queue::Entry| {
        entries.push((offset, entry.log_offset));
        ControlFlow::Continue(())
    };
    queue_entries(&look, &options, "b", 1, QueueOffset(0), &mut note).unwrap();
    assert_eq!(entries[0], (QueueOffset(0), second as i64));
    assert_eq!(entries.len(), 7);
    assert!(queue_entries(&look, &options, "c", 1, QueueOffset(0), &mut |_, _| ControlFlow::Break(())).is_err());

    let mut items = 0;
    let mut count = |_: store::inspect::IndexItem<'_>| {
        items += 1;
        ControlFlow::Continue(())
    };
    index_items(&look, &options, None, 1, &mut count).unwrap();
    assert_eq!(items, 86);
    let under = indexed_under(&look, &options, "b", "kbody-001-xxx", 10).unwrap();
    assert_eq!(under, [LogOffset(second as i64)]);
}

/// A copy of what a Java broker wrote, with the log from a file on.
fn javas(name: &str, log_from: i64) -> (tempfile::TempDir, InspectOptions) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("commitlog");
    std::fs::create_dir(&log_dir).unwrap();
    for base in [0i64, 40_960].into_iter().filter(|base| *base >= log_from) {
        let file = format!("{base:020}");
        std::fs::copy(golden.join("clean/commitlog").join(&file), log_dir.join(&file)).unwrap();
    }
    let options = InspectOptions {
        root: golden.join(name),
        log_dir,
        queue_file_bytes: 1_200,
        index: Some(IndexOptions { slots: 50, items: 100 }),
        check_crc: true,
        timer: TimerOptions::new(&golden.join(name), 1_000, 100 << 20),
    };
    (dir, options)
}

#[test]
fn directories_of_a_java_broker_have_no_damage() {
    for (name, log_from) in [("clean", 0), ("late", 40_960)] {
        let (_dir, options) = javas(name, log_from);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let report = check(&disk, &options, &mut |_| {}).unwrap();
        assert_eq!(report.findings, [], "{name}");
        assert_eq!(report.queues.entries, report.log.records);
        assert!(report.log.records > 20 && report.index.items > 20, "{:?}", report.log);
    }
}

#[test]
fn the_store_opens_what_a_check_calls_whole() {
    let disk = stopped();
    assert_eq!(found(&disk), []);
    let store = open(Arc::new(disk.clone()), small()).unwrap();
    assert_eq!(bodies(&store, "a", 0, 0).len(), 10);
    store.close().unwrap();
}

/// When the timers of a test were saved, epoch ms.
const SAVED_MS: i64 = 1_700_000_000_000;

/// With timers for the first messages of [`stopped`]: one a second, from ten seconds after the save on.
fn with_timers(messages: i64) -> (SimulatedDisk, InspectOptions) {
    let disk = stopped();
    let options = InspectOptions {
        timer: TimerOptions {
            slots_in_file: 64,
            ..TimerOptions::new(Path::new(ROOT), 1_000, 10 * 52 + 20)
        },
        ..InspectOptions::of(&small())
    };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut units = Vec::new();
    let mut see = |item: LogItem<'_>| {
        let LogItem::Record(record) = item else {
            return ControlFlow::Continue(());
        };
        units.push(Unit {
            value_ms: SAVED_MS + 10_500 + 1_000 * units.len() as i64,
            flags: 0,
            written_ms: SAVED_MS,
            log_offset: record.log_offset.0,
            size: record.size as i32,
            topic_hash: 1,
        });
        ControlFlow::Continue(())
    };
    records(&shared, &options, LogOffset(0), &mut see).unwrap();
    units.truncate(messages as usize);
    let (mut index, _) = TimerIndex::open(shared, options.timer.clone(), &|_| true).unwrap();
    index.add(&units, &mut Vec::new()).unwrap();
    index.snapshot(SAVED_MS, messages, LogOffset(0), SAVED_MS).write().unwrap();
    (disk, options)
}

/// What a check finds in the timer files, and how many messages wait.
fn timers_found(disk: &SimulatedDisk, options: &InspectOptions) -> (Vec<(Severity, u64)>, u64) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = check(&shared, options, &mut |_| {}).unwrap();
    let of_timers = report.findings.iter().filter(|found| found.part == Part::Timers);
    (
        of_timers.map(|found| (found.severity, found.count)).collect(),
        report.timers.waiting,
    )
}

#[test]
fn timers_that_wait_are_counted_and_listed() {
    let (disk, options) = with_timers(25);
    assert_eq!(timers_found(&disk, &options), (vec![], 25));
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let mut due = Vec::new();
    let mut see = |one: &store::timer::Waiting| {
        due.push(one.due_ms);
        ControlFlow::Continue(())
    };
    waiting_timers(&shared, &options, SAVED_MS + 20_000, &mut see).unwrap();
    let expected: Vec<i64> = (10..25).map(|n| SAVED_MS + 10_501 + 1_000 * n).collect();
    assert_eq!(due, expected);
}

#[test]
fn timers_behind_the_last_save_are_listed() {
    let (disk, options) = with_timers(25);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut index, found) = TimerIndex::open(shared.clone(), options.timer.clone(), &|_| true).unwrap();
    let mut units = Vec::new();
    index.read_slot(SAVED_MS + 10_000, (i64::MIN, i64::MIN), 1, &mut units).unwrap();
    let first = units[0];
    let later = [100_500, 101_500].map(|after_ms| Unit {
        value_ms: SAVED_MS + after_ms,
        flags: 0,
        written_ms: SAVED_MS,
        log_offset: first.log_offset,
        // The second one names no record.
        size: first.size + i32::from(after_ms == 101_500),
        topic_hash: 1,
    });
    index.add(&later, &mut Vec::new()).unwrap();
    drop((index, found));
    let mut due = Vec::new();
    let mut see = |one: &store::timer::Waiting| {
        due.push(one.due_ms);
        ControlFlow::Continue(())
    };
    waiting_timers(&shared, &options, SAVED_MS + 30_000, &mut see).unwrap();
    assert_eq!(due[due.len() - 1], SAVED_MS + 100_501);
    assert_eq!(due.len(), 5 + 1);
}

#[test]
fn damage_of_timer_files_is_found() {
    let wheel = in_root("timerwheel");
    // A slot that was erased: its message would never be delivered.
    let (disk, options) = with_timers(25);
    let place = (SAVED_MS + 15_500) / 1_000 % 64 * 32;
    change(&disk, &wheel, place as u64, &[0; 32]);
    assert_eq!(timers_found(&disk, &options), (vec![(Severity::Damage, 1)], 24));
    // A slot that leads to no unit.
    let (disk, options) = with_timers(25);
    change(&disk, &wheel, place as u64 + 23, &[77]);
    assert_eq!(timers_found(&disk, &options), (vec![(Severity::Recovery, 1)], 25));
    // A unit whose message is somewhere else.
    let (disk, options) = with_timers(25);
    change(&disk, &in_root(&format!("timerlog/{:020}", 0)), 35, &[9]);
    assert_eq!(timers_found(&disk, &options), (vec![(Severity::Damage, 1)], 25));
    // A file that is lost.
    let (disk, options) = with_timers(25);
    disk.remove_file(&in_root(&format!("timerlog/{:020}", 0))).unwrap();
    assert_eq!(timers_found(&disk, &options), (vec![(Severity::Recovery, 1)], 0));
    let (disk, options) = with_timers(25);
    disk.remove_file(&wheel).unwrap();
    assert_eq!(timers_found(&disk, &options), (vec![(Severity::Recovery, 1)], 0));
}
