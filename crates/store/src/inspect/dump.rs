//! Reads parts of a directory: records, queue entries, index items, the checkpoint.
//!
//! Each function calls `visit` until that ends the dump, so the caller bounds what is shown.

use super::InspectOptions;
use super::index::{Items, files};
use super::log::{LogFiles, Seen};
use super::queues::list;
use super::report::CheckpointSummary;
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;
use crate::index::{IndexOptions, STEPS_MAX, Wanted, find_in, key_hash};
use crate::queue::light_files::entries_of;
use crate::queue::{ENTRY_LEN, Entry};
use crate::timer::{self, TimerFiles, Unit, Waiting};
use message::record::Record;
use message::{LogOffset, QueueOffset, names, properties};
use rustc_hash::FxHashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Entries read at once.
const CHUNK: usize = 4096;

/// An item of the log.
#[derive(Debug)]
pub enum LogItem<'a> {
    /// A whole record.
    Record(&'a Record<'a>),
    /// A part without a whole record.
    Hole {
        /// Where it begins.
        from: LogOffset,
        /// Where it ends; `from` if nothing is written behind it.
        to: LogOffset,
        /// What is wrong.
        why: String,
    },
}

/// One key of one record in an index file.
#[derive(Clone, Copy, Debug)]
pub struct IndexItem<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Number of the item in its file.
    pub number: u32,
    /// Hash of the key.
    pub key_hash: i32,
    /// Log offset of the record.
    pub log_offset: LogOffset,
    /// Store timestamp of the record, epoch ms, to the second.
    pub stored_ms: i64,
    /// Number of the item before in the same slot, 0 for none.
    pub before: i32,
}

/// Reads the log from the first record at or after `from` on.
///
/// # Errors
/// `StoreError::Io` if the directory or the log cannot be read.
pub fn records(
    disk: &Arc<dyn Disk>,
    options: &InspectOptions,
    from: LogOffset,
    visit: &mut dyn FnMut(LogItem<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let files = LogFiles::list(disk, &options.log_dir)?;
    let Some(from) = files.record_from(from.0)? else { return Ok(()) };
    files.walk(from, options.check_crc, None, &mut |seen| {
        Ok(match seen {
            Seen::Record(record) => visit(LogItem::Record(record)),
            Seen::Hole(hole) => visit(LogItem::Hole {
                from: LogOffset(hole.from),
                to: LogOffset(hole.to),
                why: hole.reason(),
            }),
            Seen::Missing { from, to } => visit(LogItem::Hole {
                from: LogOffset(from),
                to: LogOffset(to),
                why: "the file is missing".to_owned(),
            }),
            Seen::FileDone(_) => ControlFlow::Continue(()),
        })
    })
}

/// Reads the entries of a queue from an offset on, up to the first that is not written. Entries without a message are skipped.
///
/// # Errors
/// `StoreError::Io` if the queue cannot be read. `StoreError::Layout` if there is no such queue.
pub fn queue_entries(
    disk: &Arc<dyn Disk>,
    options: &InspectOptions,
    topic: &str,
    queue_id: i32,
    from: QueueOffset,
    visit: &mut dyn FnMut(QueueOffset, Entry) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    if queue_id == 0 && names::is_light_queue(topic) {
        let light_dir = options.root.join("lightqueue");
        let entries = entries_of(&**disk, &light_dir, topic, from.0).map_err(|e| StoreError::io("read", &light_dir, e))?;
        // Without it, the queue is one of a Java broker.
        if let Some(entries) = entries {
            for (offset, entry) in entries {
                if !entry.is_blank() && visit(QueueOffset(offset), entry).is_break() {
                    break;
                }
            }
            return Ok(());
        }
    }
    let dir = options.root.join("consumequeue").join(topic).join(queue_id.to_string());
    let mut files: Vec<(i64, String)> = list(&**disk, &dir)?
        .into_iter()
        .filter_map(|entry| Some((entry.name.parse().ok()?, entry.name)))
        .collect();
    if files.is_empty() {
        return Err(StoreError::Layout(format!(
            "there is no queue {topic}/{queue_id}: {} has no files",
            dir.display()
        )));
    }
    files.sort_unstable();
    let mut bytes = vec![0; CHUNK * ENTRY_LEN];
    let entry_len = ENTRY_LEN as i64;
    for (base, name) in files {
        let path = dir.join(name);
        let failed = |e| StoreError::io("read", &path, e);
        let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
        let len = i64::try_from(file.len().map_err(failed)?).unwrap_or(i64::MAX);
        let mut at = from.0.max(0).saturating_mul(entry_len).saturating_sub(base).max(0);
        while at < len {
            let read = file.read_at(&mut bytes, at.unsigned_abs()).map_err(failed)?;
            let (entries, _) = bytes[..read].as_chunks::<ENTRY_LEN>();
            if entries.is_empty() {
                break;
            }
            for (number, entry) in (0i64..).zip(entries.iter().map(Entry::decode)) {
                let offset = QueueOffset((base + at) / entry_len + number);
                if !entry.is_written() || (!entry.is_blank() && visit(offset, entry).is_break()) {
                    return Ok(());
                }
            }
            at += entries.len() as i64 * entry_len;
        }
    }
    Ok(())
}

/// Reads the items of the index in the order in which they were added: of the named file, or of all from the oldest on, from item
/// `from` of each.
///
/// # Errors
/// `StoreError::Io` if the index cannot be read. `StoreError::Layout` if there is no such file, or files have other slot or item
/// counts than configured.
pub fn index_items(
    disk: &Arc<dyn Disk>,
    options: &InspectOptions,
    file: Option<&str>,
    from: u32,
    visit: &mut dyn FnMut(IndexItem<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let numbers = numbers(options)?;
    let mut is_there = false;
    for found in files(&**disk, &options.root.join("index"), numbers)? {
        let name = found.name();
        if file.is_some_and(|file| file != name) {
            continue;
        }
        is_there = true;
        if !found.is_readable {
            return Err(other_numbers(&name, numbers));
        }
        let mut items = Items::open(&**disk, &found, numbers, from)?;
        while let Some((number, item)) = items.peek()? {
            let item = IndexItem {
                file: &name,
                number,
                key_hash: item.key_hash,
                log_offset: LogOffset(item.log_offset),
                stored_ms: found.header.stored(&item),
                before: item.before,
            };
            if visit(item).is_break() {
                return Ok(());
            }
            items.take();
        }
    }
    match file.filter(|_| !is_there) {
        Some(file) => Err(StoreError::Layout(format!(
            "there is no index file {file} in {}",
            options.root.join("index").display()
        ))),
        None => Ok(()),
    }
}

/// Log offsets of the records that the index has under a key, newest first, at most `max`. Hashes collide: the caller checks
/// whether a record has the key.
///
/// # Errors
/// `StoreError::Io` if the index cannot be read. `StoreError::Layout` if files have other slot or item counts than configured.
pub fn indexed_under(
    disk: &Arc<dyn Disk>,
    options: &InspectOptions,
    topic: &str,
    key: &str,
    max: usize,
) -> Result<Vec<LogOffset>, StoreError> {
    let numbers = numbers(options)?;
    let wanted = Wanted {
        key_hash: key_hash(topic, key),
        begin: i64::MIN,
        end: i64::MAX,
        max,
    };
    let mut places = Vec::new();
    let mut steps = STEPS_MAX;
    for found in files(&**disk, &options.root.join("index"), numbers)?.iter().rev() {
        let failed = |e| StoreError::io("read", &found.path, e);
        if !found.is_readable {
            return Err(other_numbers(&found.name(), numbers));
        }
        let file = disk.open(&found.path, OpenMode::Read).map_err(failed)?;
        find_in(&*file, numbers, &found.header, wanted, &mut steps, &mut places).map_err(failed)?;
    }
    Ok(places.into_iter().map(LogOffset).collect())
}

fn numbers(options: &InspectOptions) -> Result<IndexOptions, StoreError> {
    let numbers = options.index.map(IndexOptions::checked);
    numbers.ok_or_else(|| StoreError::Layout("the key index is disabled: messageIndexEnable=false".to_owned()))
}

fn other_numbers(name: &str, numbers: IndexOptions) -> StoreError {
    StoreError::Layout(format!(
        "index file {name} does not have the {} bytes that maxHashSlotNum={} and maxIndexNum={} give: give its configuration with -c FILE",
        numbers.file_len(),
        numbers.slots,
        numbers.items
    ))
}

/// The timer files, with what was appended to them after the last save, and the log offsets of that.
fn timer_files(disk: &Arc<dyn Disk>, options: &InspectOptions) -> Result<(TimerFiles, FxHashSet<i64>), StoreError> {
    let mut files = TimerFiles::open(disk, &options.timer)?;
    let is_sound = |unit: &Unit| {
        let mut is_there = false;
        let looked = records(disk, options, LogOffset(unit.log_offset), &mut |item| {
            is_there = matches!(item, LogItem::Record(record) if record.log_offset.0 == unit.log_offset && record.size as i64 == i64::from(unit.size));
            ControlFlow::Break(())
        });
        looked.is_ok() && is_there
    };
    let known = files.take_tail(&is_sound)?;
    Ok((files, known))
}

/// Visits what waits in the timer files, in order of due time, from `from_ms` (epoch ms) on.
///
/// # Errors
/// `StoreError::Io` if the directory cannot be read.
pub fn timers(
    disk: &Arc<dyn Disk>,
    options: &InspectOptions,
    from_ms: i64,
    visit: &mut dyn FnMut(&Waiting) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    timer_files(disk, options)?.0.waiting(from_ms, visit)
}

/// Visits the messages of the timer topic that are not in the timer files yet, in the order in which they were stored, with the value of
/// their `TIMER_OUT_MS` as a due time, epoch ms.
///
/// # Errors
/// `StoreError::Io` if the directory cannot be read.
pub fn timers_to_come(
    disk: &Arc<dyn Disk>,
    options: &InspectOptions,
    visit: &mut dyn FnMut(i64, &Record<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let (files, known) = timer_files(disk, options)?;
    let from = QueueOffset(files.check.queue_offset);
    let mut outcome = Ok(());
    let mut look = |_, entry: Entry| {
        if known.contains(&entry.log_offset) {
            return ControlFlow::Continue(());
        }
        let mut next = ControlFlow::Continue(());
        outcome = records(disk, options, LogOffset(entry.log_offset), &mut |item| {
            if let LogItem::Record(record) = item
                && record.log_offset.0 == entry.log_offset
            {
                let value = properties::text(record.properties, properties::TIMER_OUT_MS);
                let value_ms = value.and_then(|value| value.parse().ok()).unwrap_or_default();
                next = visit(timer::due_ms(value_ms, options.timer.precision_ms), record);
            }
            ControlFlow::Break(())
        });
        if outcome.is_err() { ControlFlow::Break(()) } else { next }
    };
    match queue_entries(disk, options, names::TIMER_TOPIC, 0, from, &mut look) {
        // Nobody has sent one.
        Err(StoreError::Layout(_)) => Ok(()),
        read => read.and(outcome),
    }
}

/// Reads the file `checkpoint`; `None` if there is none.
///
/// # Errors
/// `StoreError::Io` if the directory or the log cannot be read.
pub fn checkpoint(disk: &dyn Disk, options: &InspectOptions) -> Result<Option<CheckpointSummary>, StoreError> {
    let path = options.root.join("checkpoint");
    let known = Checkpoint::read(disk, &path).map_err(|e| StoreError::io("read", &path, e))?;
    Ok(known.as_ref().map(told))
}

pub(super) fn told(known: &Checkpoint) -> CheckpointSummary {
    CheckpointSummary {
        log_timestamp: known.log_timestamp,
        queue_timestamp: known.queue_timestamp,
        index_timestamp: known.index_timestamp,
        master_flushed: known.master_flushed.0,
        confirmed: known.confirmed.0,
        dispatched: known.dispatched().map(|at| at.0),
        indexed: known.progress.map(|progress| progress.indexed.0),
    }
}
