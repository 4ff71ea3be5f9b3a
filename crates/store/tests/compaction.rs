//! Compacted topics: what is read, folded by key, equals what was sent, folded by key, whatever was deleted meanwhile.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{OLD_ENOUGH, PLENTY, ROOT};
use message::QueueOffset;
use message::record::{Draft, Record};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use store::disk::simulated::{Fault, Lasts, SimulatedDisk};
use store::disk::{Disk, OpenMode};
use store::inspect::{InspectOptions, Part, Severity, check, compacted};
use store::{
    Boundary, CompactionOptions, FlushMode, ReadResult, ReadSource, ReadStatus, Store, StoreError, StoreOptions, TopicRule, TopicRules,
};

const TOPIC: &str = "latest";
const OTHER: &str = "other";
/// Store timestamps begin here.
const BEGIN: i64 = 1_700_000_000_000;

/// The topic that is compacted.
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

/// Eleven messages a file; `key_map_bytes` 0 is a table of 112 keys.
fn options(mode: FlushMode) -> StoreOptions {
    StoreOptions {
        compaction: Some(CompactionOptions {
            log_file_bytes: 4096,
            index_file_bytes: 46 * 12,
            interval: Duration::from_secs(3600),
            key_map_bytes: 0,
        }),
        ..StoreOptions::small(ROOT, mode)
    }
}

fn open(disk: &SimulatedDisk, mode: FlushMode) -> Result<Arc<Store>, StoreError> {
    let store = common::open(Arc::new(disk.clone()), options(mode))?;
    let ready = store.set_topic_rules(Box::new(OneTopic));
    if ready.is_err() {
        let _ = store.close();
    }
    ready.map(|()| store)
}

/// Closes a store, and gives its directory free.
fn end(store: Arc<Store>) {
    store.close().unwrap();
}

/// A message: its key, and its body; none deletes the key.
type Sent = (String, Option<String>);

fn send(store: &Store, topic: &str, key: &str, body: Option<&str>, stored_ms: i64) -> Result<i64, String> {
    let properties = if key.is_empty() {
        Vec::new()
    } else {
        format!("KEYS\u{1}{key}\u{2}TAGS\u{1}t{}\u{2}", key.len() % 2).into_bytes()
    };
    let draft = Draft {
        properties: &properties,
        ..Draft::new(topic, 0, body.unwrap_or_default().as_bytes())
    };
    let mut placed = Vec::new();
    let ticket = store
        .append(&[draft], &[store.queue(topic, 0)], stored_ms, &mut placed)
        .map_err(|error| error.to_string())?;
    let (done, outcome) = mpsc::channel();
    store.complete_then(ticket, true, move |o| done.send(o).unwrap_or(()));
    let outcome = outcome.recv_timeout(Duration::from_secs(20)).expect("no completion in 20 s");
    outcome.map(|()| placed[0].queue_offset.0).map_err(|reason| reason.to_string())
}

fn read(store: &Store, from: i64) -> ReadResult {
    store
        .read(TOPIC, 0, QueueOffset(from), PLENTY, &|_| true, ReadSource::Disk)
        .unwrap()
}

/// Offset, key and body of all messages that a reader finds from `from` on.
fn all(store: &Store, from: i64) -> Vec<(i64, Sent)> {
    let (mut at, mut found) = (from, Vec::new());
    loop {
        let result = read(store, at);
        assert_eq!(result.damaged, None);
        for bytes in &result.records {
            let record = Record::parse(bytes).unwrap();
            assert!(record.crc_matches());
            let key = message::properties::text(record.properties, "KEYS")
                .unwrap_or_default()
                .into_owned();
            let body = String::from_utf8(record.body.to_vec()).unwrap();
            found.push((record.queue_offset.0, (key, Some(body).filter(|body| !body.is_empty()))));
        }
        if result.next.0 <= at {
            return found;
        }
        at = result.next.0;
    }
}

fn folded<'a>(messages: impl Iterator<Item = &'a Sent>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for (key, body) in messages {
        match body {
            Some(body) => map.insert(key.clone(), body.clone()),
            None => map.remove(key),
        };
    }
    map
}

/// What is read are some of the messages that were sent, in order, and has the last one of each key.
fn must_have(store: &Store, sent: &[Sent]) {
    let found = all(store, 0);
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "offsets grow: {found:?}");
    for (offset, message) in &found {
        assert_eq!(sent.get(*offset as usize), Some(message), "the message at offset {offset}");
    }
    assert_eq!(folded(found.iter().map(|(_, message)| message)), folded(sent.iter()));
    assert_eq!(store.max_offset(TOPIC, 0).0, sent.len() as i64);
}

/// Lets retention delete the log files that are full.
fn delete_log_files(disk: &SimulatedDisk, store: &Store) -> Result<(), StoreError> {
    disk.advance_clock(OLD_ENOUGH);
    store.delete_expired();
    store.run_background_work()
}

fn value(n: usize) -> Sent {
    // A few keys come once, early.
    let key = if n % 29 == 7 {
        format!("early{n}")
    } else {
        format!("k{}", n * n % 7)
    };
    let body = (n % 11 != 10).then(|| format!("v{n}-{}", "x".repeat(n * 5 % 60)));
    (key, body)
}

fn fill(store: &Store, sent: &mut Vec<Sent>, count: usize) {
    for _ in 0..count {
        let message = value(sent.len());
        let offset = send(store, TOPIC, &message.0, message.1.as_deref(), BEGIN + sent.len() as i64).unwrap();
        assert_eq!(offset, sent.len() as i64);
        sent.push(message);
    }
}

/// A store on a new disk, and as many messages as were sent to it.
fn filled(messages: usize) -> (SimulatedDisk, Arc<Store>, Vec<Sent>) {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk, FlushMode::Sync).unwrap();
    let mut sent = Vec::new();
    fill(&store, &mut sent, messages);
    (disk, store, sent)
}

#[test]
fn last_value_of_each_key_is_kept_although_the_log_is_deleted() {
    let (disk, store, mut sent) = filled(100);
    must_have(&store, &sent);
    assert_eq!(all(&store, 0).len(), 100, "nothing is compacted before it is time");
    store.run_background_work().unwrap();
    let kept = all(&store, 0);
    assert!(kept.len() < 40, "{}", kept.len());
    must_have(&store, &sent);
    let before = store.log_range().0;
    delete_log_files(&disk, &store).unwrap();
    assert!(store.log_range().0 > before, "log files were deleted");
    assert_eq!(all(&store, 0), kept);
    fill(&store, &mut sent, 3);
    must_have(&store, &sent);
    end(store);
    let store = open(&disk, FlushMode::Sync).unwrap();
    must_have(&store, &sent);
    store.close().unwrap();
}

#[test]
fn log_is_not_deleted_before_its_messages_are_copied() {
    let (disk, store, sent) = filled(60);
    // No file can be created below the directory, so nothing is copied.
    disk.set_no_room_in(Some(format!("{ROOT}/compaction").into()));
    let _ = delete_log_files(&disk, &store);
    assert_eq!(store.log_range().0.0, 0);
    must_have(&store, &sent);
    disk.set_no_room_in(None);
    delete_log_files(&disk, &store).unwrap();
    assert!(store.log_range().0.0 > 0);
    must_have(&store, &sent);
    store.close().unwrap();
}

#[test]
fn offsets_times_and_filters_are_those_of_what_is_kept() {
    let (disk, store, _) = filled(100);
    delete_log_files(&disk, &store).unwrap();
    let kept = all(&store, 0);
    let first = kept[0].0;
    assert!(first > 0);
    let result = read(&store, 0);
    assert_eq!((result.status, result.min.0, result.max.0), (ReadStatus::Found, first, 100));
    assert_eq!(store.min_offset(TOPIC, 0).0, first);
    assert_eq!(store.store_time(TOPIC, 0, QueueOffset(first)), Some(BEGIN + first));
    let by_time = |time| store.offset_by_time(TOPIC, 0, time, Boundary::Lower).unwrap().0;
    assert_eq!(by_time(0), first);
    assert_eq!(by_time(BEGIN + kept[3].0), kept[3].0);
    assert_eq!(by_time(BEGIN + 99), 99);
    // From an offset in a gap the next one that is left is read.
    let gap = (first..).find(|offset| !kept.iter().any(|(kept, _)| kept == offset)).unwrap();
    assert_eq!(all(&store, gap)[0].0, kept.iter().find(|(kept, _)| *kept > gap).unwrap().0);
    let end = read(&store, 100);
    assert_eq!((end.status, end.next.0), (ReadStatus::OffsetOverflowOne, 100));
    let beyond = read(&store, 150);
    assert_eq!((beyond.status, beyond.next.0), (ReadStatus::OffsetOverflowBadly, 100));
    let tag = message::hash::tags_code("t0");
    let none = store
        .read(TOPIC, 0, QueueOffset(0), PLENTY, &|code| code == tag + 7, ReadSource::Disk)
        .unwrap();
    assert_eq!(
        (none.records.len(), none.next.0),
        (0, 100),
        "a filter that selects nothing comes to the end"
    );
    for source in [ReadSource::Memory, ReadSource::PageCache] {
        let result = store.read(TOPIC, 0, QueueOffset(0), PLENTY, &|_| true, source).unwrap();
        assert!(result.cold, "files are read where it may block");
    }
    store.close().unwrap();
}

#[test]
fn messages_without_a_key_are_not_kept_and_other_topics_do_as_before() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk, FlushMode::Sync).unwrap();
    for n in 0..40 {
        send(&store, TOPIC, "", Some(&format!("nothing {n}")), BEGIN).unwrap();
        send(&store, OTHER, "k", Some(&format!("other {n}")), BEGIN).unwrap();
    }
    send(&store, TOPIC, "k", Some("value"), BEGIN).unwrap();
    store.run_background_work().unwrap();
    let found = all(&store, 0);
    assert_eq!(found, [(40, ("k".to_owned(), Some("value".to_owned())))]);
    assert_eq!(common::bodies(&store, OTHER, 0, 0).len(), 40);
    store.close().unwrap();
}

#[test]
fn more_keys_than_the_table_takes_need_more_passes() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk, FlushMode::Sync).unwrap();
    let mut sent: Vec<Sent> = Vec::new();
    for n in 0..900 {
        let message = (format!("k{}", n % 300), Some(format!("v{n}")));
        send(&store, TOPIC, &message.0, message.1.as_deref(), BEGIN).unwrap();
        sent.push(message);
    }
    store.run_background_work().unwrap();
    must_have(&store, &sent);
    let kept = all(&store, 0).len();
    assert!(
        (300..320).contains(&kept),
        "{kept} of 300 values are left, and those of the file that is being filled"
    );
    store.close().unwrap();
}

#[test]
fn deleted_topic_leaves_nothing_to_its_successor() {
    let (disk, store, _) = filled(50);
    store.run_background_work().unwrap();
    store.delete_topic(TOPIC).unwrap();
    assert_eq!(all(&store, 0), []);
    let mut sent = Vec::new();
    fill(&store, &mut sent, 30);
    store.run_background_work().unwrap();
    must_have(&store, &sent);
    end(store);
    let store = open(&disk.process_killed(), FlushMode::Sync).unwrap();
    must_have(&store, &sent);
    store.close().unwrap();
}

#[test]
fn truncation_of_the_log_takes_what_was_copied_with_it() {
    let (_, store, mut sent) = filled(30);
    let to = store.log_range().1;
    fill(&store, &mut sent, 8);
    store.run_background_work().unwrap();
    store.truncate(to).unwrap();
    sent.truncate(30);
    assert!(all(&store, 0).iter().all(|(offset, _)| *offset < 30));
    fill(&store, &mut sent, 20);
    store.run_background_work().unwrap();
    let found = all(&store, 30);
    assert!(found.iter().all(|(offset, message)| sent[*offset as usize] == *message));
    store.close().unwrap();
}

#[test]
fn missing_entries_are_made_again_from_the_records() {
    let (disk, store, _) = filled(100);
    delete_log_files(&disk, &store).unwrap();
    let kept = all(&store, 0);
    end(store);
    disk.remove_dir_all(format!("{ROOT}/compaction/compactionCq").as_ref()).unwrap();
    let store = open(&disk, FlushMode::Sync).unwrap();
    assert_eq!(all(&store, 0), kept);
    store.close().unwrap();
}

#[test]
fn queue_that_was_lost_continues_behind_its_compacted_messages() {
    let (disk, store, mut sent) = filled(50);
    end(store);
    for dir in ["commitlog", "consumequeue", "index"] {
        disk.remove_dir_all(format!("{ROOT}/{dir}").as_ref()).unwrap();
    }
    disk.remove_file(format!("{ROOT}/checkpoint").as_ref()).unwrap();
    let store = open(&disk, FlushMode::Sync).unwrap();
    must_have(&store, &sent);
    fill(&store, &mut sent, 20);
    must_have(&store, &sent);
    end(store);
    let store = open(&disk, FlushMode::Sync).unwrap();
    must_have(&store, &sent);
    store.close().unwrap();
}

#[test]
fn damaged_compacted_message_is_reported_and_the_others_are_read() {
    let (disk, store, _) = filled(8);
    end(store);
    let path = format!("{ROOT}/compaction/compactionLog/{TOPIC}/0/{:020}", 0);
    let file = disk.open(path.as_ref(), OpenMode::Write).unwrap();
    file.write_at(b"\xff\xff\xff", 93).unwrap();
    let store = open(&disk, FlushMode::Sync).unwrap();
    let result = read(&store, 0);
    assert_eq!(result.damaged.map(|damaged| damaged.queue_offset.0), Some(0));
    assert_eq!(result.next.0, 1);
    assert_eq!(all(&store, 1).len(), 7);
    store.close().unwrap();
}

/// What a check finds in the directory, and how many compacted messages it sees.
fn checked(disk: &SimulatedDisk) -> (Vec<(Severity, &'static str)>, u64) {
    let look: Arc<dyn Disk> = Arc::new(disk.clone());
    let before = disk.calls();
    let report = check(&look, &InspectOptions::of(&options(FlushMode::Sync)), &mut |_| {}).unwrap();
    assert_eq!(disk.calls(), before, "a check changes nothing");
    let found = report.findings.iter().filter(|found| found.part == Part::Compaction);
    (
        found.map(|found| (found.severity, found.what)).collect(),
        report.compaction.messages,
    )
}

#[test]
fn check_and_dump_know_the_files() {
    let (disk, store, _) = filled(60);
    store.run_background_work().unwrap();
    end(store);
    let store = open(&disk, FlushMode::Sync).unwrap();
    let kept = all(&store, 0);
    end(store);
    assert_eq!(checked(&disk), (Vec::new(), kept.len() as u64));
    let mut dumped = Vec::new();
    compacted(
        &disk,
        &InspectOptions::of(&options(FlushMode::Sync)),
        TOPIC,
        0,
        QueueOffset(kept[2].0),
        &mut |record| {
            dumped.push(record.queue_offset.0);
            std::ops::ControlFlow::Continue(())
        },
    )
    .unwrap();
    assert_eq!(dumped, kept[2..].iter().map(|(offset, _)| *offset).collect::<Vec<_>>());
    let of = |dir: &str| format!("{ROOT}/compaction/{dir}/{TOPIC}/0");
    let first = format!("{}/{:020}", of("compactionLog"), 0);
    disk.open(first.as_ref(), OpenMode::Write)
        .unwrap()
        .write_at(b"\xff\xff", 93)
        .unwrap();
    let (found, _) = checked(&disk);
    assert!(
        matches!(found[..], [(Severity::Damage, what)] if what.contains("damaged")),
        "{found:?}"
    );
    disk.create_dir_all(format!("{}/compacting", of("compactionLog")).as_ref()).unwrap();
    let (found, _) = checked(&disk);
    assert!(found.iter().all(|(severity, _)| *severity == Severity::Recovery), "{found:?}");
    disk.remove_dir_all(of("compactionCq").as_ref()).unwrap();
    let (found, _) = checked(&disk);
    assert!(found.iter().any(|(_, what)| what.contains("without their entries")), "{found:?}");
}

/// Sends, compacts, deletes log files and starts again, until the disk fails. Returns how many messages were acknowledged.
fn script(disk: &SimulatedDisk, mode: FlushMode) -> usize {
    let mut acknowledged = 0;
    for part in 0..3 {
        let Ok(store) = open(disk, mode) else { return acknowledged };
        for n in 0..36 {
            let (key, body) = value(acknowledged);
            if send(&store, TOPIC, &key, body.as_deref(), BEGIN + acknowledged as i64).is_err() {
                let _ = store.close();
                return acknowledged;
            }
            acknowledged += 1;
            if n % 14 == 13 {
                let _ = store.run_background_work();
            }
        }
        if part != 1 {
            let _ = delete_log_files(disk, &store);
        }
        if store.close().is_err() {
            return acknowledged;
        }
    }
    acknowledged
}

fn promised(disk: SimulatedDisk, mode: FlushMode, acknowledged: usize, what: &str) {
    let store = open(&disk, mode).unwrap_or_else(|error| panic!("{what}: {error}"));
    let max = store.max_offset(TOPIC, 0).0 as usize;
    assert!(
        max >= acknowledged && max <= acknowledged + 1,
        "{what}: {acknowledged} acknowledged, {max} there"
    );
    let mut sent: Vec<Sent> = (0..max).map(value).collect();
    must_have(&store, &sent);
    fill(&store, &mut sent, 15);
    store.run_background_work().unwrap();
    must_have(&store, &sent);
    delete_log_files(&disk, &store).unwrap();
    must_have(&store, &sent);
    end(store);
    let store = open(&disk, mode).unwrap();
    must_have(&store, &sent);
    store.close().unwrap();
}

#[test]
fn power_cut_and_kill_at_every_call_lose_no_value() {
    let mut n = 1;
    loop {
        let disk = SimulatedDisk::new(n);
        disk.cut_at(n);
        let acknowledged = script(&disk, FlushMode::Sync);
        let Some(call) = disk.first_failure() else { break };
        let what = format!("cut at call {n}: {call}");
        promised(disk.power_cut(n), FlushMode::Sync, acknowledged, &what);
        promised(disk.process_killed(), FlushMode::Sync, acknowledged, &what);
        // Again, while the next start repairs what the first has left.
        let again = disk.power_cut(n + 1);
        again.cut_at(1 + n * 5 % 60);
        if let Ok(store) = open(&again, FlushMode::Sync) {
            let _ = store.run_background_work();
            let _ = store.close();
        }
        promised(again.power_cut(n), FlushMode::Sync, acknowledged, &what);
        n += 3;
    }
    assert!(n > 200, "the script does next to nothing");
}

#[test]
fn failed_call_loses_no_value() {
    for fault in [Fault::Broken, Fault::NoSpace] {
        let mut n = 1;
        loop {
            let disk = SimulatedDisk::new(n);
            disk.fail_at(n, fault, Lasts::Once);
            let acknowledged = script(&disk, FlushMode::Sync);
            let Some(call) = disk.first_failure() else { break };
            let what = format!("{fault:?} at call {n}: {call}");
            promised(disk.process_killed(), FlushMode::Sync, acknowledged, &what);
            promised(disk.power_cut(n), FlushMode::Sync, acknowledged, &what);
            n += 13;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Key, and whether it has a body.
    Send(u8, bool),
    Other,
    Compact,
    DeleteLog,
    DeleteTopic,
    Reopen,
    Kill,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..8u8, prop::bool::weighted(0.85)).prop_map(|(key, has_body)| Step::Send(key, has_body)),
        10 => Just(Step::Other),
        4 => Just(Step::Compact),
        3 => Just(Step::DeleteLog),
        1 => Just(Step::DeleteTopic),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compacted_topic_equals_a_map(steps in prop::collection::vec(step(), 1..200)) {
        let mut disk = SimulatedDisk::new(5);
        let mode = FlushMode::Sync;
        let mut store = open(&disk, mode).unwrap();
        let mut sent: Vec<Sent> = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            let again = match *step {
                Step::Send(key, has_body) => {
                    let message = (format!("k{key}"), has_body.then(|| format!("v{n}-{}", "y".repeat(n % 90))));
                    send(&store, TOPIC, &message.0, message.1.as_deref(), BEGIN + n as i64).unwrap();
                    sent.push(message);
                    None
                }
                Step::Other => {
                    send(&store, OTHER, "k", Some(&"z".repeat(300)), BEGIN).unwrap();
                    None
                }
                Step::Compact => {
                    store.run_background_work().unwrap();
                    None
                }
                Step::DeleteLog => {
                    delete_log_files(&disk, &store).unwrap();
                    None
                }
                Step::DeleteTopic => {
                    store.delete_topic(TOPIC).unwrap();
                    sent.clear();
                    None
                }
                Step::Reopen => Some(disk.clone()),
                Step::Kill => Some(disk.process_killed()),
                Step::PowerCut(seed) => Some(disk.power_cut(seed)),
            };
            if let Some(left) = again {
                store.close().unwrap();
                disk = left;
                drop(store);
                store = open(&disk, mode).unwrap();
                must_have(&store, &sent);
            }
        }
        must_have(&store, &sent);
        store.close().unwrap();
    }
}
