//! The two steps of compaction: copying messages of a queue out of the commit log, and dropping those that a later one of their key
//! supersedes.
//!
//! A pass notes the latest offset of each key that came since the last pass, then writes all full files again without what those
//! supersede. Only as many keys are noted as memory is allowed for; the rest is for the next pass. The file that is being filled is
//! never compacted, as in Apache's broker.

use super::files::{CompactedQueue, finish_replacement};
use super::keys::LatestOffsets;
use super::layout::CompactedEntry;
use super::part::{Part, PartWriter};
use super::positions::Positions;
use crate::error::StoreError;
use crate::log::{CommitLog, RecordPlace};
use crate::queue::{ConsumeQueue, Entry};
use crate::read::ReadSource;
use crate::store::queue_error;
use bytes::Bytes;
use message::properties::Indexed;
use message::record::Record;
use message::{LogOffset, QueueOffset};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Queue entries that are copied at once.
const ENTRIES_A_STEP: usize = 256;
/// A pass is worth its writing when what came since the last one is at least this part of what was compacted before.
const WORTH_ONE_IN: i64 = 4;

/// Copies the synced messages of a queue that were not copied. `go_on` is asked now and then; its error ends the work.
///
/// # Errors
/// `StoreError::Io` if files cannot be read or written; what was copied before counts.
pub(super) fn copy(
    log: &CommitLog,
    queue: &ConsumeQueue,
    to: &CompactedQueue,
    go_on: &dyn Fn() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let before = to.copied().0;
    let mut writer = PartWriter::new(to.disk(), to.dirs(), to.sizes(), 0, to.parts().to_vec());
    let copied = copy_with(&mut writer, log, queue, before.max(queue.min().0), go_on);
    // Also after an error: what is published is not to be copied again.
    let published = writer.parts().iter().map(|part| part.last() + 1).max().unwrap_or(0);
    to.set_parts(writer.parts().to_vec());
    to.set_copied(before.max(published).max(*copied.as_ref().unwrap_or(&0)));
    copied.map(drop)
}

/// Returns the first queue offset that was not copied.
fn copy_with(
    writer: &mut PartWriter<'_>,
    log: &CommitLog,
    queue: &ConsumeQueue,
    from: i64,
    go_on: &dyn Fn() -> Result<(), StoreError>,
) -> Result<i64, StoreError> {
    let synced = log.flushed();
    let mut at = from;
    let mut entries: Vec<Entry> = Vec::with_capacity(ENTRIES_A_STEP);
    let mut without_key = 0u64;
    loop {
        go_on()?;
        entries.clear();
        queue
            .read(QueueOffset(at), ENTRIES_A_STEP, &mut entries)
            .map_err(|e| queue_error("read", queue, e))?;
        let ready = entries
            .iter()
            .take_while(|entry| entry.is_blank() || entry.log_end() <= synced.0)
            .count();
        if ready == 0 {
            break;
        }
        for (n, record) in records(log, &entries[..ready])? {
            let offset = at + n as i64;
            let Some(record) = record else {
                tracing::error!(
                    topic = queue.topic(),
                    queue = queue.queue_id(),
                    offset,
                    "a message is damaged and cannot be compacted"
                );
                continue;
            };
            let Ok(parsed) = Record::parse(&record) else { continue };
            let keys = Indexed::of(parsed.properties).keys;
            if keys.trim().is_empty() || parsed.queue_offset.0 != offset {
                without_key += 1;
                continue;
            }
            let entry = CompactedEntry {
                position: 0,
                size: 0,
                tags_code: entries[n].tags_code,
                stored_ms: parsed.store_timestamp,
                queue_offset: offset,
            };
            writer.append(&entry, &record)?;
        }
        at += ready as i64;
    }
    writer.commit()?;
    if without_key > 0 {
        tracing::warn!(
            topic = queue.topic(),
            queue = queue.queue_id(),
            count = without_key,
            "messages without a key (KEYS) are not kept by compaction"
        );
    }
    Ok(at)
}

/// The records of entries that the log still has, each with its number; `None` for a damaged one.
fn records(log: &CommitLog, entries: &[Entry]) -> Result<Vec<(usize, Option<Bytes>)>, StoreError> {
    let first = log.first_offset().0;
    let there = |(_, entry): &(usize, &Entry)| !entry.is_blank() && entry.log_offset >= first;
    let (numbers, places): (Vec<usize>, Vec<RecordPlace>) = entries
        .iter()
        .enumerate()
        .filter(there)
        .map(|(n, entry)| (n, entry.place()))
        .unzip();
    let mut found: Vec<(usize, Option<Bytes>)> = Vec::with_capacity(numbers.len());
    while found.len() < places.len() {
        let done = found.len();
        let mut read = Vec::new();
        let outcome = log.read_all(&places[done..], ReadSource::Disk, &mut read);
        found.extend(numbers[done..].iter().copied().zip(read.into_iter().map(Some)));
        match outcome {
            Ok(_) if found.len() > done || places.is_empty() => {}
            Err(error) if !matches!(error, StoreError::Corrupt(_)) => return Err(error),
            _ => found.push((numbers[found.len()], None)),
        }
    }
    Ok(found)
}

/// The log offset of the first message that was not copied; `None` if all are.
///
/// # Errors
/// `StoreError::Io` if the queue cannot be read.
pub(super) fn uncopied_from(queue: &ConsumeQueue, copied: QueueOffset) -> Result<Option<LogOffset>, StoreError> {
    let at = copied.max(queue.min());
    let entry = queue.entry_at(at).map_err(|e| queue_error("read", queue, e))?;
    Ok(entry.map(|entry| LogOffset(entry.log_offset)))
}

/// Does one pass over the full files of a queue, if one is due. True if one was done.
///
/// # Errors
/// `StoreError::Io` if files cannot be read or written. `StoreError::Layout` if the lengths of the files do not fit together.
pub(super) fn compact(
    of: &CompactedQueue,
    name: (&str, i32),
    positions: &Positions,
    key_map_bytes: usize,
    go_on: &dyn Fn() -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let parts = of.parts();
    let Some((filling, full)) = parts.split_last().filter(|(_, full)| !full.is_empty()) else {
        return Ok(false);
    };
    let position = positions.of(name.0, name.1);
    let (fresh, done): (Vec<_>, Vec<_>) = full.iter().cloned().partition(|part| part.last() > position);
    let bytes = |parts: &[Arc<Part>]| parts.iter().map(|part| part.bytes()).sum::<i64>();
    if fresh.is_empty() || bytes(&fresh) * WORTH_ONE_IN < bytes(&done) {
        return Ok(false);
    }
    let latest = latest_offsets(&fresh, position, key_map_bytes, go_on)?;
    if latest.last() <= position {
        return Ok(false);
    }
    finish_replacement(of.disk(), of.dirs())?;
    let written = rewrite(of, full, &latest, go_on)?;
    if written.last().is_some_and(|last| last.base + last.log_len > filling.base) {
        return Err(StoreError::Layout(format!(
            "compacted files of {}/{} would take more space than before; their lengths differ from each other",
            name.0, name.1
        )));
    }
    let (before, after) = (bytes(full), bytes(&written));
    of.replace(full, written, std::slice::from_ref(filling))?;
    positions.set(name.0, name.1, Some(latest.last()))?;
    tracing::info!(topic = name.0, queue = name.1, before, after, "compacted");
    Ok(true)
}

/// The latest offset of each key after `position`, as many as there is room for.
fn latest_offsets(
    parts: &[Arc<Part>],
    position: i64,
    key_map_bytes: usize,
    go_on: &dyn Fn() -> Result<(), StoreError>,
) -> Result<LatestOffsets, StoreError> {
    let keys: i64 = parts.iter().map(|part| part.count()).sum();
    let mut latest = LatestOffsets::new(key_map_bytes, usize::try_from(keys).unwrap_or(usize::MAX));
    for part in parts {
        let flow = part.for_each(|entry, record| {
            go_on()?;
            if entry.queue_offset <= position.max(latest.last()) {
                return Ok(ControlFlow::Continue(()));
            }
            let record = record.and_then(|record| Record::parse(record).ok());
            let has_room = match record {
                Some(record) => latest.put(Indexed::of(record.properties).keys.as_bytes(), entry.queue_offset),
                None => {
                    latest.pass(entry.queue_offset);
                    true
                }
            };
            Ok(if has_room {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        if flow.is_break() {
            break;
        }
    }
    Ok(latest)
}

/// Writes what is kept of the files into `compacting/`.
fn rewrite(
    of: &CompactedQueue,
    full: &[Arc<Part>],
    latest: &LatestOffsets,
    go_on: &dyn Fn() -> Result<(), StoreError>,
) -> Result<Vec<Arc<Part>>, StoreError> {
    let dirs = of.dirs().compacting();
    for dir in [&dirs.log, &dirs.index] {
        of.disk().create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
    }
    let first_base = full.first().map_or(0, |part| part.base);
    let mut writer = PartWriter::new(of.disk(), &dirs, of.sizes(), first_base, Vec::new());
    let mut last = -1;
    for part in full {
        let _ = part.for_each(|entry, record| {
            go_on()?;
            if entry.queue_offset <= last {
                return Ok(ControlFlow::Continue(()));
            }
            last = entry.queue_offset;
            let parsed = record.and_then(|record| Some((record, Record::parse(record).ok()?)));
            let Some((record, parsed)) = parsed else {
                tracing::error!(
                    dir = %of.dirs().log.display(),
                    position = entry.position,
                    offset = entry.queue_offset,
                    "a compacted message is damaged, and is dropped"
                );
                return Ok(ControlFlow::Continue(()));
            };
            let keys = Indexed::of(parsed.properties).keys;
            if latest.keeps(keys.as_bytes(), entry.queue_offset, !parsed.body.is_empty()) {
                writer.append(entry, record)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    writer.seal()?;
    Ok(writer.parts().to_vec())
}
