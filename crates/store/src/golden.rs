//! Files of a Java broker: queues and index that we derive from its log are the same byte for byte, and we read its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::CheckpointFile;
use crate::disk::Disk;
use crate::disk::real::RealDisk;
use crate::index::{IndexOptions, KeyIndex, key_hash, key_hashes, tag_hash};
use crate::queue::{DueTopic, Entry, QueueOptions, QueueTable};
use message::LogOffset;
use message::properties::Indexed;
use message::record::{Peek, Record, peek};

const SEGMENT: i64 = 40_960;
const QUEUES: QueueOptions = QueueOptions {
    light_file_bytes: None,
    file_len: 1_200,
    open_files_max: 4,
    synced_alone_max: 2,
};
const INDEX: IndexOptions = IndexOptions { slots: 50, items: 100 };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The log's files from an offset on.
fn log(from: i64) -> Vec<(i64, Vec<u8>)> {
    let file = |base: i64| (base, std::fs::read(golden("clean/commitlog").join(format!("{base:020}"))).unwrap());
    [0, SEGMENT].into_iter().filter(|base| *base >= from).map(file).collect()
}

/// Calls `each` with the log's records in order.
fn records(log: &[(i64, Vec<u8>)], mut each: impl FnMut(&Record<'_>)) {
    for (base, bytes) in log {
        let mut at = 0;
        while let Peek::Record { size } = peek(&bytes[at..]) {
            let record = Record::parse(&bytes[at..at + size]).unwrap();
            assert!(record.crc_matches());
            assert_eq!(record.log_offset.0, base + at as i64);
            each(&record);
            at += size;
        }
        assert_ne!(peek(&bytes[at..]), Peek::Corrupt);
    }
}

fn entry_of(record: &Record<'_>) -> Entry {
    Entry {
        log_offset: record.log_offset.0,
        size: record.size as i32,
        tags_code: message::hash::tags_code(&Indexed::of(record.properties).tags),
    }
}

/// All files below a directory, by their path in it.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(tree(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in tree(from) {
        std::fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
        std::fs::write(to.join(&name), bytes).unwrap();
    }
}

fn open(dir: &Path) -> (QueueTable, KeyIndex) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let queues = QueueTable::open(Arc::clone(&disk), &dir.join("consumequeue"), QUEUES, DueTopic::default()).unwrap();
    (queues, KeyIndex::open(disk, &dir.join("index"), INDEX).unwrap())
}

/// Derives queues and index in a directory from the log.
fn derive(log: &[(i64, Vec<u8>)], dir: &Path) {
    let (queues, index) = open(dir);
    records(log, |record| {
        let queue = queues.find_or_create(record.topic, record.queue_id);
        queue.skip_to(record.queue_offset).unwrap();
        assert_eq!(queue.assign(), record.queue_offset);
        queue.publish(entry_of(record));
        let keys = Indexed::of(record.properties);
        let mut hashes = Vec::new();
        key_hashes(record.topic, &keys.uniq_key, &keys.keys, &keys.tags, |hash| hashes.push(hash));
        index.put_record(&hashes, record.log_offset, record.store_timestamp).unwrap();
    });
    while queues.write_pending().unwrap() > 0 {}
    queues.sync().unwrap();
    index.write().unwrap();
    index.sync().unwrap();
}

fn derived_equals(name: &str, log_from: i64) {
    let dir = tempfile::tempdir().unwrap();
    derive(&log(log_from), dir.path());
    let ours = tree(&dir.path().join("consumequeue"));
    let javas = tree(&golden(name).join("consumequeue"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), javas.keys().collect::<Vec<_>>());
    for (file, bytes) in &javas {
        assert!(ours[file] == *bytes, "queue file {file} differs");
    }
    // Files are named by times, ours by the record's and Java's by the current one.
    let ours: Vec<_> = tree(&dir.path().join("index")).into_values().collect();
    let javas: Vec<_> = tree(&golden(name).join("index")).into_values().collect();
    assert_eq!(ours.len(), javas.len());
    for (at, (ours, javas)) in ours.iter().zip(&javas).enumerate() {
        let first = ours.iter().zip(javas).position(|(a, b)| a != b);
        assert_eq!(first, None, "byte of index file {at} that differs");
    }
}

#[test]
fn queues_and_index_derived_from_javas_log_are_javas_byte_for_byte() {
    derived_equals("clean", 0);
}

#[test]
fn queues_that_start_late_are_javas_byte_for_byte() {
    derived_equals("late", SEGMENT);
}

/// Opens a copy of Java's files and compares it with the log of `count` records.
fn read_as_the_log(name: &str, log_from: i64, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(name), dir.path());
    let (queues, index) = open(dir.path());
    queues.raise_min(LogOffset(log_from)).unwrap();
    let mut seen = 0;
    let mut last = (LogOffset(0), LogOffset(0), 0);
    records(&log(log_from), |record| {
        let queue = queues.find(record.topic, record.queue_id).unwrap();
        let mut out = Vec::new();
        queue.read(record.queue_offset, 1, &mut out).unwrap();
        assert_eq!(out, [entry_of(record)]);
        assert!(record.queue_offset >= queue.min() && record.queue_offset < queue.max());
        let keys = Indexed::of(record.properties);
        let words = keys.keys.split(' ').chain([&*keys.uniq_key]).filter(|key| !key.is_empty());
        for key in words {
            let stored = record.store_timestamp;
            let found = index
                .query_hash(key_hash(record.topic, key), stored - 1_000, stored + 1_000, 1_000)
                .unwrap();
            assert!(found.log_offsets.contains(&record.log_offset), "{key} at {}", record.log_offset);
        }
        if !keys.tags.is_empty() {
            let hash = tag_hash(record.topic, &keys.tags);
            let found = index.query_hash(hash, 0, i64::MAX, usize::MAX).unwrap();
            assert!(found.log_offsets.contains(&record.log_offset));
        }
        seen += 1;
        last = (record.log_offset, record.log_offset.plus(record.size), record.store_timestamp);
    });
    assert_eq!(seen, count);
    assert_eq!(queues.max_log_end(), last.1);
    assert_eq!(index.last(), (last.0, last.2));
    let (_, checkpoint) = CheckpointFile::open(&RealDisk, &dir.path().join("checkpoint")).unwrap();
    assert_eq!(checkpoint.progress, None);
    // Java sets one or the other, as it last stored or last recovered.
    assert_eq!(checkpoint.log_timestamp.max(checkpoint.queue_timestamp), last.2);
    assert!(checkpoint.safe_timestamp() <= last.2 && checkpoint.index_timestamp > 0 && checkpoint.index_timestamp < last.2);
}

#[test]
fn store_of_a_java_broker_is_read_as_its_log_says() {
    let mut count = 0;
    records(&log(0), |_| count += 1);
    assert!(count >= 230, "{count}");
    read_as_the_log("clean", 0, count);
}

#[test]
fn store_of_a_java_broker_whose_log_starts_late_is_read_as_its_log_says() {
    let mut count = 0;
    records(&log(SEGMENT), |_| count += 1);
    read_as_the_log("late", SEGMENT, count);
}

#[test]
fn store_of_a_java_broker_goes_on_with_ours() {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden("clean"), dir.path());
    let (queues, index) = open(dir.path());
    let queue = queues.find("golden-a", 0).unwrap();
    let (max, end) = (queue.max(), queues.max_log_end());
    let last = index.last().1;
    assert_eq!(queue.assign(), max);
    queue.publish(Entry {
        log_offset: end.0,
        size: 200,
        tags_code: 0,
    });
    index.put_record(&[key_hash("golden-a", "ours")], end, last + 500).unwrap();
    while queues.write_pending().unwrap() > 0 {}
    index.write().unwrap();
    drop((queues, index));
    let (queues, index) = open(dir.path());
    assert_eq!(queues.find("golden-a", 0).unwrap().max(), max.plus(1));
    assert_eq!(queues.max_log_end(), end.plus(200));
    assert_eq!(
        index.query_hash(key_hash("golden-a", "ours"), 0, i64::MAX, 10).unwrap().log_offsets,
        [end]
    );
}
