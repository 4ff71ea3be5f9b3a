//! A queue equals a list after any operations; after a power cut it equals the list's beginning.

use std::path::Path;
use std::sync::Arc;

use message::{LogOffset, QueueOffset};
use proptest::prelude::*;

use super::consume_queue::Skipped;
use super::*;
use crate::disk::simulated::{Fault, Lasts, SimulatedDisk};
use crate::disk::{Disk, OpenMode, real::RealDisk};

const DIR: &str = "/s/consumequeue";
/// Small files, so that tests cross many of them, and not a multiple of a sector, so that entries are torn.
const OPTIONS: QueueOptions = QueueOptions {
    light_file_bytes: None,
    file_len: 60 * 20,
    open_files_max: 2,
    synced_alone_max: 2,
};
const RECORD: i64 = 100;

fn open(disk: &SimulatedDisk) -> QueueTable {
    QueueTable::open(Arc::new(disk.clone()), Path::new(DIR), OPTIONS, DueTopic::default()).unwrap()
}

fn entry(log_offset: i64) -> Entry {
    Entry {
        log_offset,
        size: RECORD as i32,
        tags_code: log_offset * 7 - 3,
    }
}

fn publish(queue: &Arc<ConsumeQueue>, log_offset: i64) {
    let offset = queue.assign();
    assert_eq!(offset, queue.max());
    queue.publish(entry(log_offset));
}

fn read_all(queue: &ConsumeQueue) -> Vec<Entry> {
    let mut out = Vec::new();
    queue.read(queue.min(), usize::MAX, &mut out).unwrap();
    out
}

/// The expected queue.
#[derive(Debug, Default, Clone)]
struct Model {
    entries: Vec<Entry>,
    min: usize,
}

impl Model {
    fn check(&self, queue: &ConsumeQueue) {
        assert_eq!(queue.max().0, self.entries.len() as i64);
        assert_eq!(queue.min().0, self.min as i64);
        assert_eq!(read_all(queue), self.entries[self.min..]);
        assert_eq!(queue.assigned(), queue.max());
        if let Some(last) = self.entries[self.min..].last() {
            assert_eq!(queue.max_log_end().0, last.log_end());
        }
        for from in (self.min..self.entries.len()).step_by(17) {
            let mut part = Vec::new();
            queue.read(QueueOffset(from as i64), 5, &mut part).unwrap();
            assert_eq!(part, self.entries[from..(from + 5).min(self.entries.len())]);
        }
        let mut none = Vec::new();
        queue.read(QueueOffset(self.min as i64 - 1), 5, &mut none).unwrap();
        queue.read(queue.max(), 5, &mut none).unwrap();
        assert!(none.is_empty());
    }

    fn raise_min(&mut self, log_min: i64) {
        let live = self.entries.partition_point(|entry| entry.log_offset < log_min);
        self.min = self.min.max(live);
    }

    fn truncate(&mut self, log_end: i64) {
        self.entries.retain(|entry| entry.log_offset < log_end);
        self.min = self.min.min(self.entries.len());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Write,
    Sync,
    Reopen,
    Kill,
    Truncate(u8),
    RaiseMin(u8),
    FailNext(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..80).prop_map(Step::Publish),
        4 => Just(Step::Write),
        2 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => any::<u8>().prop_map(Step::Truncate),
        2 => any::<u8>().prop_map(Step::RaiseMin),
        1 => (1u64..8).prop_map(Step::FailNext),
    ]
}

fn write_all(table: &QueueTable) {
    for _ in 0..100 {
        if table.write_pending().is_ok_and(|left| left == 0) {
            return;
        }
    }
    panic!("still something to write after 100 rounds");
}

proptest! {

    #[test]
    fn queue_equals_a_list_over_any_steps(steps in prop::collection::vec(step(), 1..40)) {
        let mut disk = SimulatedDisk::new(1);
        let mut table = open(&disk);
        let mut queue = table.find_or_create("T", 3);
        let mut model = Model::default();
        let mut log = 0;
        for step in steps {
            match step {
                Step::Publish(count) => for _ in 0..count {
                    publish(&queue, log);
                    model.entries.push(entry(log));
                    log += RECORD * (1 + log % 3);
                },
                Step::Write => {
                    let _ = table.write_pending();
                    // The second file of a new queue syncs the first. Failing syncs have a test of their own: they end the use of the table.
                    if table.has_failed_sync() {
                        return Ok(());
                    }
                }
                Step::Sync => { disk.heal(); table.sync().unwrap(); }
                Step::Reopen | Step::Kill => {
                    disk.heal();
                    write_all(&table);
                    if matches!(step, Step::Reopen) { table.sync().unwrap(); } else { disk = disk.process_killed(); }
                    table = open(&disk);
                    queue = table.find_or_create("T", 3);
                    // The minimum is not stored: it is set again from the log's.
                    let live = model.entries.get(model.min).map_or(log, |entry| entry.log_offset);
                    prop_assert!(queue.min().0 <= model.min as i64);
                    table.raise_min(LogOffset(live)).unwrap();
                }
                Step::Truncate(part) => {
                    disk.heal();
                    let end = log * i64::from(part) / 255;
                    let end = end.max(model.entries.get(model.min).map_or(log, |entry| entry.log_offset));
                    table.truncate_to_log(LogOffset(end)).unwrap();
                    model.truncate(end);
                    log = log.max(end);
                }
                Step::RaiseMin(part) => {
                    disk.heal();
                    let min = log * i64::from(part) / 255;
                    table.raise_min(LogOffset(min)).unwrap();
                    model.raise_min(min);
                }
                Step::FailNext(after) => disk.fail_at(disk.calls() + after, if after % 2 == 0 { Fault::NoSpace } else { Fault::Broken }, Lasts::Once),
            }
            model.check(&queue);
        }
        disk.heal();
        write_all(&table);
        prop_assert_eq!(table.pending_entries(), 0);
    }

    #[test]
    fn power_cut_leaves_what_was_synced_and_recovery_makes_the_rest_again(
        synced in 0usize..200, written in 0usize..200, in_memory in 0usize..10, rounds in 1usize..5, seed: u64, high in 0usize..3
    ) {
        let disk = SimulatedDisk::new(1);
        let table = open(&disk);
        let queue = table.find_or_create("T", 0);
        let mut model = Model::default();
        // Above 4 GiB a torn log offset looks like a low one, and like a good one where the last synced one is low.
        let starts = [(0i64, 0i64), ((1 << 32) + 12_345, 0), (0, 1 << 32)][high];
        let mut log = starts.0;
        let put = |queue: &Arc<ConsumeQueue>, model: &mut Model, log: &mut i64, count: usize| for _ in 0..count {
            publish(queue, *log);
            model.entries.push(entry(*log));
            *log += RECORD;
        };
        put(&queue, &mut model, &mut log, synced);
        // A message of another queue, so that the checkpoint is beyond this one's last.
        publish(&table.find_or_create("U", 0), log + 900);
        let dispatched = LogOffset(log + 1_000);
        write_all(&table);
        table.sync().unwrap();
        log += if starts.1 == 0 { 1_000 } else { starts.1 };
        for _ in 0..rounds {
            put(&queue, &mut model, &mut log, written / rounds);
            write_all(&table);
        }
        put(&queue, &mut model, &mut log, in_memory);

        let disk = disk.power_cut(seed);
        let table = open(&disk);
        table.truncate_to_log(dispatched).unwrap();
        let queue = table.find_or_create("T", 0);
        let mut found = model.clone();
        found.truncate(dispatched.0);
        found.check(&queue);
        for entry in &model.entries[synced..] {
            queue.assign();
            queue.publish(*entry);
        }
        model.check(&queue);
        write_all(&table);
        let table = open(&disk.process_killed());
        model.check(&table.find("T", 0).unwrap());
    }
}

#[test]
fn torn_entry_that_looks_like_a_good_one_is_not_taken_for_one() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    // Entry 51 starts four bytes before the end of a sector: without them its log offset loses 4 GiB.
    for at in 0..51 {
        publish(&queue, at * RECORD);
    }
    publish(&table.find_or_create("U", 0), 60 * RECORD);
    let dispatched = LogOffset(61 * RECORD);
    write_all(&table);
    table.sync().unwrap();
    publish(&queue, (1 << 32) + 55 * RECORD);
    write_all(&table);
    let torn = (0..2_000).filter(|seed| {
        let table = open(&disk.power_cut(*seed));
        let queue = table.find("T", 0).unwrap();
        let was_torn = queue.max().0 == 52 && read_all(&queue)[51].log_offset == 55 * RECORD;
        table.truncate_to_log(dispatched).unwrap();
        assert_eq!((queue.max().0, queue.max_log_end().0), (51, 51 * RECORD), "seed {seed}");
        was_torn
    });
    assert!(torn.count() > 0, "no seed made the case");
}

/// Queues of two topics, of which a sync leaves the entries below `synced` of each.
fn check_after_power_cuts(disk: &SimulatedDisk, queue_ids: i32, synced: i64) {
    for seed in 0..200 {
        let table = open(&disk.power_cut(seed));
        table
            .truncate_to_log(LogOffset(i64::from(2 * queue_ids) * synced * RECORD))
            .unwrap();
        for topic in ["T", "U"] {
            for queue_id in 0..queue_ids {
                let queue = table.find(topic, queue_id).unwrap();
                assert_eq!(queue.max().0, synced, "{topic}/{queue_id} with seed {seed}");
                assert_eq!(read_all(&queue).len() as i64, synced);
            }
        }
    }
}

#[test]
fn new_queues_that_were_synced_survive_a_power_cut_few_as_well_as_many() {
    // Up to two are synced file by file.
    for queue_ids in [1, 5] {
        let disk = SimulatedDisk::new(1);
        let table = open(&disk);
        let mut log = 0;
        let mut publish_to_all = |count: i64| {
            for _ in 0..count {
                for (topic, queue_id) in ["T", "U"].into_iter().flat_map(|topic| (0..queue_ids).map(move |id| (topic, id))) {
                    publish(&table.find_or_create(topic, queue_id), log);
                    log += RECORD;
                }
            }
        };
        publish_to_all(3);
        write_all(&table);
        table.sync().unwrap();
        check_after_power_cuts(&disk, queue_ids, 3);
        // More files, of which nothing is synced.
        publish_to_all(90);
        write_all(&table);
        check_after_power_cuts(&disk, queue_ids, 3);
    }
}

#[test]
fn second_file_of_a_new_queue_does_not_outlast_the_first() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    // A file has 60 entries.
    (0..100).for_each(|at| publish(&queue, at * RECORD));
    write_all(&table);
    for seed in 0..200 {
        let table = open(&disk.power_cut(seed));
        table.truncate_to_log(LogOffset(60 * RECORD)).unwrap();
        let queue = table.find("T", 0).unwrap();
        assert_eq!(queue.min().0, 0, "seed {seed}");
        assert!(queue.max().0 <= 60, "seed {seed}");
        for at in queue.max().0..100 {
            publish(&queue, at * RECORD);
        }
        assert_eq!(read_all(&queue).len(), 100, "seed {seed}");
    }
}

#[test]
fn failed_sync_of_the_file_system_ends_the_use_of_the_table() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    (0..3).for_each(|id| publish(&table.find_or_create("T", id), i64::from(id) * RECORD));
    write_all(&table);
    disk.fail_at(disk.calls() + 1, Fault::Broken, Lasts::Once);
    assert!(table.sync().is_err() && table.sync().is_err());
    assert!(table.has_failed_sync());
}

#[test]
fn end_of_the_queues_is_searched_when_it_could_not_be_noted() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    publish(&queue, 0);
    write_all(&table);
    table.sync().unwrap();
    publish(&queue, RECORD);
    write_all(&table);
    // The sync of the file is the first call, then `consumequeue.synced` is written.
    disk.fail_at(disk.calls() + 2, Fault::NoSpace, Lasts::Once);
    table.sync().unwrap();
    assert!(!disk.exists(Path::new("/s/consumequeue.synced")).unwrap());
    let table = open(&disk.power_cut(1));
    table.truncate_to_log(LogOffset(2 * RECORD)).unwrap();
    assert_eq!(table.find("T", 0).unwrap().max().0, 2);
}

#[test]
fn queue_that_another_broker_went_on_with_is_found_with_what_it_wrote() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    for at in 0..70 {
        publish(&queue, at * RECORD);
    }
    write_all(&table);
    table.sync().unwrap();
    let file = disk
        .open(&Path::new(DIR).join("T/0/00000000000000001200"), crate::disk::OpenMode::Write)
        .unwrap();
    for at in 70..90 {
        file.write_at(&entry(at * RECORD).encode(), (at as u64 - 60) * 20).unwrap();
    }
    let table = open(&disk);
    assert_eq!(table.find("T", 0).unwrap().max().0, 90);
    // Nor does `consumequeue.synced` prevent a recovery from behind it.
    table.truncate_to_log(LogOffset(85 * RECORD)).unwrap();
    assert_eq!(table.find("T", 0).unwrap().max().0, 85);
}

#[test]
fn queue_that_starts_late_has_blanks_before_its_first_message() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    assert_eq!(queue.skip_to(QueueOffset(150)).unwrap(), Skipped::Restarted);
    assert_eq!((queue.min().0, queue.max().0, queue.assigned().0), (150, 150, 150));
    publish(&queue, 5_000);
    write_all(&table);
    let file = disk.read(&Path::new(DIR).join("T/0/00000000000000002400")).unwrap();
    assert_eq!(file.len(), 1200);
    assert_eq!(&file[..600], Entry::BLANK.encode().repeat(30));
    assert_eq!(file[600..620], entry(5_000).encode());
    assert!(file[620..].iter().all(|byte| *byte == 0));
    let table = open(&disk);
    let queue = table.find("T", 0).unwrap();
    assert_eq!((queue.min().0, queue.max().0, queue.max_log_end().0), (150, 151, 5_100));
    assert_eq!(read_all(&queue), [entry(5_000)]);
}

#[test]
fn queue_that_starts_late_is_made_again_after_a_fault_or_a_cut_at_any_call() {
    let script = |disk: &SimulatedDisk, publish_one: bool| {
        let table = open(disk);
        let queue = table.find_or_create("T", 0);
        let truncated = table.truncate_to_log(LogOffset(5_000));
        truncated.or_else(|_| table.truncate_to_log(LogOffset(5_000))).unwrap();
        let _ = queue.skip_to(QueueOffset(150)).unwrap();
        if publish_one {
            publish(&queue, 5_000);
        }
        let _ = table.write_pending();
        (table, queue)
    };
    let whole = SimulatedDisk::new(1);
    script(&whole, true);
    for n in 1..=whole.calls() {
        let disk = SimulatedDisk::new(1);
        open(&disk);
        disk.fail_at(disk.calls() + n, Fault::NoSpace, Lasts::Once);
        let (table, queue) = script(&disk, true);
        write_all(&table);
        assert_eq!(read_all(&queue), [entry(5_000)], "fault {n}");
        assert_eq!(read_all(&open(&disk).find("T", 0).unwrap()), [entry(5_000)], "fault {n}");

        let disk = SimulatedDisk::new(1);
        open(&disk);
        disk.cut_at(disk.calls() + n);
        let table = open(&disk);
        let queue = table.find_or_create("T", 0);
        let _ = queue.skip_to(QueueOffset(150));
        publish(&queue, 5_000);
        let _ = table.write_pending();
        for seed in 0..30 {
            let (table, queue) = script(&disk.power_cut(seed), true);
            write_all(&table);
            assert_eq!(
                (queue.min().0, queue.max().0),
                (150, 151),
                "cut {n}, seed {seed}: {:?}",
                disk.first_failure()
            );
            assert_eq!(read_all(&queue), [entry(5_000)]);
        }
    }
}

#[test]
fn gap_in_a_queue_with_messages_is_filled_with_places_without_a_message() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    publish(&queue, 0);
    assert_eq!(queue.skip_to(QueueOffset(1)).unwrap(), Skipped::Nothing);
    assert_eq!(queue.skip_to(QueueOffset(0)).unwrap(), Skipped::Behind);
    assert_eq!(queue.skip_to(QueueOffset(4)).unwrap(), Skipped::Blanks(3));
    publish(&queue, 500);
    let blanks: Vec<bool> = read_all(&queue).iter().map(Entry::is_blank).collect();
    assert_eq!(blanks, [false, true, true, true, false]);
    table.raise_min(LogOffset(400)).unwrap();
    assert_eq!(queue.min().0, 4);
}

#[test]
fn retention_removes_whole_files_and_keeps_the_last_for_its_offset() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    for at in 0..150 {
        publish(&queue, at * RECORD);
    }
    write_all(&table);
    assert_eq!(table.raise_min(LogOffset(59 * RECORD)).unwrap(), 0);
    assert_eq!(table.raise_min(LogOffset(60 * RECORD - 1)).unwrap(), 1);
    assert_eq!(queue.min().0, 60);
    assert_eq!(table.raise_min(LogOffset(1_000_000)).unwrap(), 1);
    assert_eq!((queue.min().0, queue.max().0), (150, 150));
    table.sync().unwrap();
    let table = open(&disk.power_cut(3));
    let queue = table.find("T", 0).unwrap();
    assert_eq!(queue.max().0, 150);
    table.raise_min(LogOffset(1_000_000)).unwrap();
    assert_eq!(queue.min().0, 150);
    publish(&queue, 1_000_000);
    assert_eq!(read_all(&queue), [entry(1_000_000)]);
    assert_eq!(table.raise_min(LogOffset(1_000_000)).unwrap(), 0);
    assert_eq!(queue.min().0, 150);
}

#[test]
fn failed_write_keeps_entries_in_memory_and_readable_until_it_succeeds() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    let other = table.find_or_create("U", 0);
    for at in 0..100 {
        publish(&queue, at * RECORD);
    }
    disk.fail_at(disk.calls() + 1, Fault::NoSpace, Lasts::ForEver);
    publish(&other, 100 * RECORD);
    for _ in 0..3 {
        assert_eq!(table.write_pending().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert_eq!((read_all(&queue).len(), read_all(&other).len()), (100, 1));
        assert_eq!(table.pending_entries(), 101);
    }
    disk.heal();
    write_all(&table);
    assert_eq!(table.pending_entries(), 0);
    assert_eq!(read_all(&open(&disk).find("T", 0).unwrap()).len(), 100);
}

#[test]
fn failed_sync_is_never_followed_by_a_successful_one() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    publish(&table.find_or_create("T", 0), 0);
    write_all(&table);
    disk.fail_at(disk.calls() + 1, Fault::Broken, Lasts::Once);
    assert!(table.sync().is_err());
    assert!(table.sync().is_err());
}

fn delete(table: &QueueTable, topic: &str) -> bool {
    let mut deletion = table.begin_deletion(topic);
    deletion.retire();
    deletion.remove_files().unwrap()
}

#[test]
fn deleted_topic_can_be_used_again_and_old_handles_find_nothing() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let old = table.find_or_create("T", 0);
    publish(&old, 0);
    write_all(&table);
    publish(&old, 100);
    assert!(delete(&table, "T"));
    assert!(!delete(&table, "T"));
    assert!(old.is_retired());
    assert!(read_all(&old).is_empty());
    publish_to_nowhere(&old);
    assert!(table.find("T", 0).is_none());
    let new = table.find_or_create("T", 0);
    publish(&new, 200);
    write_all(&table);
    assert_eq!(read_all(&new), [entry(200)]);
    assert_eq!(table.pending_entries(), 0);
    assert_eq!(read_all(&open(&disk).find("T", 0).unwrap()), [entry(200)]);
}

fn publish_to_nowhere(queue: &Arc<ConsumeQueue>) {
    queue.publish(entry(1));
    assert!(read_all(queue).is_empty());
}

/// A topic with two queues, the first of them in three files, whose deletion failed at its `n`-th call; `None` if it makes fewer.
fn deletion_failed_at(n: u64) -> Option<(SimulatedDisk, QueueTable)> {
    let disk = SimulatedDisk::new(n);
    let table = open(&disk);
    for (queue_id, count) in [(0, 150), (1, 5)] {
        let queue = table.find_or_create("T", queue_id);
        (0..count).for_each(|at| publish(&queue, at * RECORD));
    }
    write_all(&table);
    table.sync().unwrap();
    publish(&table.find_or_create("T", 1), 200 * RECORD);
    disk.fail_at(disk.calls() + n, Fault::Broken, Lasts::Once);
    let mut deletion = table.begin_deletion("T");
    deletion.retire();
    let failed = deletion.remove_files().is_err();
    assert_eq!(failed, disk.first_failure().is_some());
    disk.heal();
    failed.then_some((disk, table))
}

#[test]
fn a_deletion_that_failed_is_finished_when_it_is_repeated() {
    let mut n = 1;
    while let Some((disk, table)) = deletion_failed_at(n) {
        assert!(table.find("T", 0).is_none());
        delete(&table, "T");
        for found in [disk.process_killed(), disk.power_cut(n)] {
            assert!(open(&found).topics().is_empty(), "failed at call {n}: T is there again");
        }
        assert!(!delete(&table, "T"), "nothing is left to delete");
        assert_eq!(table.pending_entries(), 0);
        n += 1;
    }
    assert!(n > 5, "{n}");
}

#[test]
fn a_topic_made_again_after_a_failed_deletion_meets_no_file_of_the_old_one() {
    let mut n = 1;
    while let Some((disk, table)) = deletion_failed_at(n) {
        let queue = table.find_or_create("T", 0);
        let new: Vec<Entry> = (300..370).map(|at| entry(at * RECORD)).collect();
        new.iter().for_each(|entry| publish(&queue, entry.log_offset));
        disk.fail_at(disk.calls() + 1, Fault::Broken, Lasts::ForEver);
        assert!(table.write_pending().is_err());
        assert_eq!(read_all(&queue), new, "they wait in memory");
        disk.heal();
        write_all(&table);
        table.sync().unwrap();
        assert_eq!((read_all(&queue), table.pending_entries()), (new.clone(), 0));
        for found in [disk.process_killed(), disk.power_cut(n)] {
            let table = open(&found);
            assert_eq!(table.all().len(), 1, "failed at call {n}: queues of the old topic are there again");
            assert_eq!(read_all(&table.find("T", 0).unwrap()), new, "failed at call {n}");
        }
        n += 1;
    }
}

#[test]
fn cold_file_is_not_waited_for_when_the_reader_may_not_wait() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    for at in 0..70 {
        publish(&queue, at * RECORD);
    }
    write_all(&table);
    publish(&queue, 70 * RECORD);
    disk.evict();
    let mut out = Vec::new();
    assert_eq!(
        queue.read_cached(QueueOffset(0), 100, &mut out).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    queue.read_cached(QueueOffset(70), 100, &mut out).unwrap();
    assert_eq!(out.len(), 1);
    out.clear();
    queue.read(QueueOffset(0), 1, &mut out).unwrap();
    out.clear();
    queue.read_cached(QueueOffset(0), 100, &mut out).unwrap();
    assert_eq!(out.len(), 60, "the second file is still cold");
}

#[test]
fn moment_is_found_as_apache_finds_it() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let queue = table.find_or_create("T", 0);
    let times = [10, 10, 10, 30, 30, 50];
    for at in 0..times.len() as i64 {
        publish(&queue, at * RECORD);
    }
    let find = |time, boundary| {
        let stored = |entry: &Entry| Ok(StoreTime::At(times[(entry.log_offset / RECORD) as usize]));
        queue.search_by_time(time, boundary, stored).unwrap().0
    };
    let lower: Vec<i64> = [5, 10, 20, 30, 40, 50, 60]
        .iter()
        .map(|time| find(*time, Boundary::Lower))
        .collect();
    let upper: Vec<i64> = [5, 10, 20, 30, 40, 50, 60]
        .iter()
        .map(|time| find(*time, Boundary::Upper))
        .collect();
    assert_eq!(lower, [0, 0, 3, 3, 5, 5, 6]);
    assert_eq!(upper, [0, 2, 2, 4, 4, 5, 5]);
    table.raise_min(LogOffset(2 * RECORD)).unwrap();
    assert_eq!((find(5, Boundary::Lower), find(5, Boundary::Upper)), (2, 2));
}

#[test]
fn a_search_by_time_passes_over_damaged_messages_and_takes_removed_ones_for_old() {
    let disk = SimulatedDisk::new(1);
    let queue = open(&disk).find_or_create("T", 0);
    (0..9).for_each(|at| publish(&queue, at * RECORD));
    let find = |time, boundary, damaged: &[i64]| {
        let stored = |entry: &Entry| {
            let at = entry.log_offset / RECORD;
            Ok(match at {
                0 | 1 => StoreTime::Removed,
                _ if damaged.contains(&at) => StoreTime::Unknown,
                _ => StoreTime::At(at * 10),
            })
        };
        queue.search_by_time(time, boundary, stored).unwrap().0
    };
    for damaged in [&[4][..], &[3, 4, 5], &[4, 5, 6, 7], &[6], &[2], &[8]] {
        for time in 0..100 {
            for boundary in [Boundary::Lower, Boundary::Upper] {
                let (found, right) = (find(time, boundary, damaged), find(time, boundary, &[]));
                let behind = i64::from(boundary == Boundary::Upper);
                let mut passed = found.min(right) + behind..found.max(right) + behind;
                assert!(
                    passed.all(|at| damaged.contains(&at)),
                    "{time} {boundary:?} without {damaged:?}: {found}, not {right}"
                );
            }
        }
    }
    let all = queue.search_by_time(20, Boundary::Lower, |_| Ok(StoreTime::Unknown)).unwrap();
    assert_eq!(all.0, 0);
}

#[test]
fn files_of_another_length_are_refused_with_the_setting_to_change() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    publish(&table.find_or_create("T", 0), 0);
    write_all(&table);
    let other = QueueOptions { file_len: 400, ..OPTIONS };
    let error = QueueTable::open(Arc::new(disk), Path::new(DIR), other, DueTopic::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("mappedFileSizeConsumeQueue is 400"), "{error}");
}

#[test]
fn queue_at_rest_is_small() {
    assert!(size_of::<ConsumeQueue>() + 16 < 300, "{}", size_of::<ConsumeQueue>());
    let table = open(&SimulatedDisk::new(1));
    let queue = table.find_or_create("T", 0);
    publish(&queue, 0);
    assert_eq!(table.write_pending().unwrap(), 1, "visited once more");
    assert_eq!(table.write_pending().unwrap(), 0);
    assert!(queue.has_no_buffer());
}

#[test]
fn thousands_of_queues_open_fast_with_few_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    for topic in 0..500 {
        for queue in 0..4 {
            let path = dir.path().join(format!("cq/topic{topic}/{queue}"));
            std::fs::create_dir_all(&path).unwrap();
            let mut file = vec![0; 1200];
            file[..20].copy_from_slice(&entry(topic * 40 + queue).encode());
            std::fs::write(path.join(format!("{:020}", 0)), file).unwrap();
        }
    }
    let started = std::time::Instant::now();
    let table = QueueTable::open(Arc::new(RealDisk), &dir.path().join("cq"), OPTIONS, DueTopic::default()).unwrap();
    println!("2,000 queues in {:?}", started.elapsed());
    assert_eq!(table.all().len(), 2_000);
    assert_eq!(table.max_log_end().0, 499 * 40 + 3 + RECORD);
    assert!(table.open_files() <= 2);
}

/// The file of values that a Java broker makes beside the queues, with units of some length.
fn write_units(disk: &SimulatedDisk, dir: &str, begin: i64, units: &[(i64, usize)]) -> Vec<i64> {
    let dir = Path::new("/s/consumequeue_ext").join(dir);
    disk.create_dir_all(&dir).unwrap();
    let mut bytes = Vec::new();
    let mut places = Vec::new();
    for (value, bit_map_len) in units {
        places.push(i64::MIN + begin + bytes.len() as i64);
        bytes.extend_from_slice(&((20 + bit_map_len) as i16).to_be_bytes());
        bytes.extend_from_slice(&value.to_be_bytes());
        bytes.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
        bytes.extend_from_slice(&(*bit_map_len as i16).to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, *bit_map_len));
    }
    let file = disk.open(&dir.join(format!("{begin:020}")), OpenMode::WriteOrCreate).unwrap();
    file.write_at(&bytes, 0).unwrap();
    places
}

#[test]
fn values_that_stand_beside_the_entries_are_found() {
    let disk = SimulatedDisk::new(1);
    let table = open(&disk);
    let mut places = write_units(&disk, "t/0", 0, &[(77, 0), (-5, 3)]);
    places.extend(write_units(&disk, "t/0", 1000, &[(i64::MAX, 32), (0, 0)]));
    places.pop();
    let behind = [i64::MIN + 40, i64::MIN + 1001, i64::MIN + 5_000, i64::from(i32::MIN) - 1];
    let queue = table.find_or_create("t", 0);
    let plain = [i64::from(i32::MIN), 3];
    let values = places.iter().chain(&behind).chain(&plain);
    for (at, tags_code) in values.enumerate() {
        queue.assign();
        queue.publish(Entry {
            tags_code: *tags_code,
            ..entry(at as i64 * RECORD)
        });
    }
    table.write_pending().unwrap();
    table.sync().unwrap();
    drop((queue, table));
    let table = open(&disk);
    let queue = table.find("t", 0).unwrap();
    let codes: Vec<i64> = read_all(&queue).iter().map(|entry| entry.tags_code).collect();
    let kept = behind.iter().chain(&plain).copied();
    assert_eq!(codes, [77, -5, i64::MAX].into_iter().chain(kept).collect::<Vec<_>>());
    let has_value: Vec<bool> = read_all(&queue).iter().map(Entry::has_value).collect();
    assert_eq!(has_value, [true, true, true, false, false, false, false, true, true]);
    // The rest is as in other queues.
    publish(&queue, 9 * RECORD);
    assert_eq!(read_all(&queue).len(), 10);
}
