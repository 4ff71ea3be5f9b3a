//! A data directory with one of its files changed: a check of it and a start on it.
//!
//! Input: which file (1 byte), where (2 bytes), what stands there from then on. A start may refuse; it must not panic, and when it
//! opens, all that it says is there can be asked for.

use crate::Target;
use message::{Draft, LogOffset, QueueOffset};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};
use store::inspect::{InspectOptions, check, waiting_timers};
use store::timer::{TimerIndex, TimerOptions, Unit};
use store::{CompactionOptions, DueTopic, FlushMode, IndexOptions, Limits, ReadSource, Store, StoreOptions, TopicRule, TopicRules};

/// See the module.
pub const TARGET: Target = Target {
    name: "directory",
    run,
    seeds,
};

const ROOT: &str = "/s";

fn options() -> StoreOptions {
    let mut options = StoreOptions {
        queue_file_bytes: 200,
        index: Some(IndexOptions { slots: 16, items: 32 }),
        compaction: Some(CompactionOptions {
            log_file_bytes: 2048,
            index_file_bytes: 46 * 6,
            interval: Duration::from_secs(3600),
            key_map_bytes: 0,
        }),
        ..StoreOptions::small(ROOT, FlushMode::Sync)
    };
    options.log.segment_bytes = 2048;
    options.log.tail_bytes = 1024;
    options.due = DueTopic {
        name: "T".into(),
        delays_ms: vec![1_000, 5_000],
    };
    options
}

/// The topic that is compacted.
struct OneTopic;

impl TopicRules for OneTopic {
    fn topics(&self) -> Vec<(String, TopicRule)> {
        let rule = TopicRule {
            is_compacted: true,
            ..TopicRule::default()
        };
        vec![("t".to_owned(), rule)]
    }
}

fn timer_options() -> TimerOptions {
    TimerOptions {
        slots_in_file: 64,
        ..TimerOptions::new(Path::new(ROOT), 1_000, 10 * 52 + 20)
    }
}

/// Units over several files, most of them saved.
fn add_timers(disk: &SimulatedDisk) -> Option<()> {
    let (mut index, _) = TimerIndex::open(Arc::new(disk.clone()), timer_options(), &|_| true).ok()?;
    for n in 0..30 {
        let unit = Unit {
            value_ms: 1_700_000_010_000 + n * 300,
            flags: 0,
            written_ms: 1_700_000_000_000,
            log_offset: n * 100,
            size: 100,
            topic_hash: 1,
        };
        index.add(&[unit], &mut Vec::new()).ok()?;
        if n == 20 {
            index.snapshot(1_700_000_000_000, n, LogOffset(0), 1_700_000_000_000).write().ok()?;
        }
    }
    Some(())
}

/// A store that was killed: the checkpoint is old, so a start reads much.
fn killed() -> Option<SimulatedDisk> {
    static DISK: OnceLock<Option<SimulatedDisk>> = OnceLock::new();
    DISK.get_or_init(make).as_ref().map(SimulatedDisk::process_killed)
}

fn make() -> Option<SimulatedDisk> {
    let disk = SimulatedDisk::new(1);
    let (store, _) = Store::open(Arc::new(disk.clone()), options()).ok()?;
    store.set_topic_rules(Box::new(OneTopic)).ok()?;
    for n in 0..30u8 {
        let body = vec![n; usize::from(n) * 7];
        let light: &[u8] = b"KEYS\x01key\x02TAGS\x01tag\x02INNER_MULTI_DISPATCH\x01%LMQ%a,%LMQ%b\x02";
        let draft = Draft {
            properties: if n % 3 == 0 { light } else { b"KEYS\x01key\x02TAGS\x01tag\x02" },
            ..Draft::new("t", i32::from(n % 2), &body)
        };
        let queue = store.queue(draft.topic, draft.queue_id);
        let ticket = store.append(&[draft], &[queue], 1_700_000_000_000, &mut Vec::new()).ok()?;
        store.complete_then(ticket, false, |_| {});
        if n % 10 == 5 {
            store.run_background_work().ok()?;
        }
        if n == 10 {
            store.delete_topic("none").ok()?;
        }
    }
    store.run_background_work().ok()?;
    add_timers(&disk)?;
    let killed = disk.process_killed();
    store.close().ok()?;
    Some(killed)
}

/// Files of the directory, in order of their names.
fn files(disk: &SimulatedDisk, dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in disk.list(dir).unwrap_or_default() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            found.extend(files(disk, &path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn seeds() -> Vec<Vec<u8>> {
    let Some(disk) = killed() else { return Vec::new() };
    let paths = files(&disk, Path::new(ROOT));
    let mut seeds = Vec::new();
    for (number, path) in (0u8..).zip(&paths) {
        let content = disk.read(path).unwrap_or_default();
        for (at, part) in (0u16..).step_by(256).zip(content.chunks(256)) {
            let head = [number, (at >> 8) as u8, at as u8];
            seeds.push([&head[..], part].concat());
        }
    }
    seeds
}

fn run(data: &[u8]) {
    let ([number, high, low, content @ ..], Some(disk)) = (data, killed()) else {
        return;
    };
    let paths = files(&disk, Path::new(ROOT));
    let path = &paths[usize::from(*number) % paths.len()];
    let at = u64::from(u16::from_be_bytes([*high, *low]));
    let written = disk.open(path, OpenMode::Write).and_then(|file| {
        // A file keeps its length, or is cut.
        let len = file.len()?;
        let part = &content[..content.len().min(len.saturating_sub(at) as usize)];
        file.write_at(part, at.min(len))?;
        if content.is_empty() { file.set_len(at.min(len)) } else { Ok(()) }
    });
    assert!(written.is_ok());
    look(&disk);
    start(&disk);
}

fn look(disk: &SimulatedDisk) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = InspectOptions {
        timer: timer_options(),
        ..InspectOptions::of(&options())
    };
    let _ = check(&disk, &options, &mut |_| {});
    let _ = waiting_timers(&disk, &options, 0, &mut |_| ControlFlow::Continue(()));
}

fn start(disk: &SimulatedDisk) {
    start_timers(disk);
    let Ok((store, _)) = Store::open(Arc::new(disk.clone()), options()) else {
        return;
    };
    if store.set_topic_rules(Box::new(OneTopic)).is_err() {
        let _ = store.close();
        return;
    }
    let limits = Limits {
        messages: 32,
        bytes: 1 << 16,
        scan: 100,
    };
    let light = store.light_queues();
    let light = light.iter().map(|queue| queue.topic().into());
    for topic in store.topics().into_iter().chain(light) {
        for queue in 0..2 {
            let from = store.min_offset(&topic, queue).0;
            for at in from..store.max_offset(&topic, queue).0.min(from + 50) {
                let _ = store.read(&topic, queue, QueueOffset(at), limits, &|_| true, ReadSource::Disk);
            }
        }
        let _ = store.query(&topic, "key", 0, i64::MAX, 64);
    }
    let _ = store.run_background_work();
    let _ = store.close();
}

/// Takes all that waits out of the index, as far as it can be read.
fn start_timers(disk: &SimulatedDisk) {
    let Ok((mut index, _)) = TimerIndex::open(Arc::new(disk.clone()), timer_options(), &|_| true) else {
        return;
    };
    let _ = index.oldest();
    let mut units = Vec::new();
    while let Some(slot_ms) = index.first_slot() {
        if index.read_slot(slot_ms, (i64::MIN, i64::MIN), 8, &mut units).is_err() {
            let _ = index.begin_anew();
        }
        index.remove_slot(slot_ms);
    }
}
