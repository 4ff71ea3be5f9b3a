//! The check of compacted messages: each entry has its record, and offsets grow.

use super::InspectOptions;
use super::report::{CompactionSummary, Findings, Part, Severity};
use crate::compaction::examine::{Examined, examine, queues};
use crate::disk::Disk;
use crate::error::StoreError;
use message::QueueOffset;
use message::record::Record;
use std::ops::ControlFlow;

const DAMAGED: &str = "compacted messages whose record is damaged";
const ORDER: &str = "compacted messages whose offset is not above the one before";
const NO_ENTRIES: &str = "files of compacted messages without their entries; the next start makes them again from the records";
const NO_RECORDS: &str = "entries of compacted messages whose file does not exist";
const UNFINISHED: &str = "passes of compaction that were interrupted; the next start completes or discards them";

/// Checks the files of all compacted queues.
pub(super) fn check(disk: &dyn Disk, options: &InspectOptions, findings: &mut Findings) -> Result<CompactionSummary, StoreError> {
    let mut summary = CompactionSummary::default();
    for (topic, queue_id) in queues(disk, &options.root)? {
        summary.queues += 1;
        let (mut last, mut is_unfinished) = (-1, false);
        let mut see = |seen: Examined<'_>| {
            // Files of a pass that is being completed are a mixture.
            let severity = if is_unfinished { Severity::Recovery } else { Severity::Damage };
            match seen {
                Examined::Message(entry, record) => {
                    summary.messages += 1;
                    summary.bytes += entry.size.unsigned_abs() as u64;
                    let place = || format!("{topic}/{queue_id}, offset {}, position {}", entry.queue_offset, entry.position);
                    if record.is_none() {
                        findings.add(severity, Part::Compaction, DAMAGED, place);
                    }
                    if entry.queue_offset <= last {
                        findings.add(severity, Part::Compaction, ORDER, place);
                    }
                    last = entry.queue_offset;
                }
                Examined::NoEntries(path) => findings.add(Severity::Recovery, Part::Compaction, NO_ENTRIES, || path.display().to_string()),
                Examined::NoRecords(path) => findings.add(severity, Part::Compaction, NO_RECORDS, || path.display().to_string()),
                Examined::Unfinished(path) => {
                    is_unfinished = true;
                    findings.add(Severity::Recovery, Part::Compaction, UNFINISHED, || path.display().to_string());
                }
            }
            ControlFlow::Continue(())
        };
        examine(disk, &options.root, &topic, queue_id, &mut see)?;
    }
    Ok(summary)
}

/// Reads the compacted messages of a queue from an offset on; damaged ones are skipped.
///
/// # Errors
/// `StoreError::Io` if files cannot be read. `StoreError::Layout` if the queue has none.
pub fn compacted(
    disk: &dyn Disk,
    options: &InspectOptions,
    topic: &str,
    queue_id: i32,
    from: QueueOffset,
    visit: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    if !queues(disk, &options.root)?
        .iter()
        .any(|(name, id)| name == topic && *id == queue_id)
    {
        return Err(StoreError::Layout(format!(
            "queue {topic}/{queue_id} has no compacted messages in {}",
            options.root.display()
        )));
    }
    examine(disk, &options.root, topic, queue_id, &mut |seen| match seen {
        Examined::Message(entry, Some(bytes)) if entry.queue_offset >= from.0 => match Record::parse(bytes) {
            Ok(record) => visit(&record),
            Err(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    })
}
