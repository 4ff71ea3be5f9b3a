//! The check of the light log: each light queue has the entries of the messages that name it.
//!
//! Entries are not in log order, so they are not met by the pass over the log. Both sides are summed up for each queue instead: how many, and
//! a sum of hashes of offset and place. Memory: about 100 bytes for each light queue.

use super::report::{Findings, LightSummary, Part, Severity};
use super::{InspectOptions, Judge};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::queue::light_files::Examined;
use crate::queue::places;
use message::properties::Indexed;
use message::record::Record;
use rustc_hash::FxHashMap;
use std::sync::Arc;

const TORN: &str = "a torn end of the light log; the next start reads the rest of the light queues from the commit log";
const UNUSABLE: &str = "a light log that cannot be used; the next start reads the light queues from the commit log";
const DIFFERENT: &str = "light queues whose entries differ from the records that name them";

/// A sum of entries, the same in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    hashes: u64,
}

impl Sum {
    fn add(&mut self, offset: i64, log_offset: i64) {
        // SplitMix64: neighbours must not cancel out each other.
        let mut mixed = (offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ log_offset as u64;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(mixed ^ mixed >> 31);
    }
}

/// A light queue.
#[derive(Debug)]
struct Queue {
    /// Log offset of its first entry: earlier records were of a deleted queue of that name.
    begins: i64,
    entries: Sum,
    records: Sum,
    max: i64,
}

/// The light queues of a directory.
#[derive(Debug, Default)]
pub(super) struct Light {
    queues: FxHashMap<Arc<str>, Queue>,
    /// Below this log offset entries must be complete.
    trusted: i64,
    summary: LightSummary,
}

impl Light {
    /// Reads the light log. Below `trusted` it has to be complete, if it says so.
    pub(super) fn open(
        disk: &dyn Disk,
        options: &InspectOptions,
        log_first: i64,
        trusted: i64,
        findings: &mut Findings,
    ) -> Result<Self, StoreError> {
        let dir = options.root.join("lightqueue");
        let failed = |e| StoreError::io("read", &dir, e);
        if !disk.exists(&dir).map_err(failed)? {
            return Ok(Self::default());
        }
        let Some(found) = Examined::of(disk, &dir).map_err(failed)? else {
            if !disk.list(&dir).map_err(failed)?.is_empty() {
                findings.add(Severity::Recovery, Part::LightQueues, UNUSABLE, || dir.display().to_string());
            }
            return Ok(Self::default());
        };
        if found.is_torn {
            findings.add(Severity::Recovery, Part::LightQueues, TORN, || {
                format!("{}, position {}", dir.display(), found.end)
            });
        }
        let mut this = Self {
            trusted: if found.is_torn {
                0
            } else {
                trusted.min(found.covered.unwrap_or(0))
            },
            ..Self::default()
        };
        this.summary.bytes = found.bytes;
        for name in found.names() {
            let none = Queue {
                begins: i64::MAX,
                entries: Sum::default(),
                records: Sum::default(),
                max: 0,
            };
            this.queues.insert(Arc::clone(name), none);
        }
        this.summary.queues = this.queues.len();
        found
            .entries(disk, &mut |block| {
                let Some(queue) = this.queues.get_mut(block.name) else { return };
                for (offset, entry) in block.entries() {
                    if entry.is_blank() || entry.log_offset < log_first {
                        continue;
                    }
                    this.summary.entries += 1;
                    queue.begins = queue.begins.min(entry.log_offset);
                    queue.max = queue.max.max(offset + 1);
                    if entry.log_offset < this.trusted {
                        queue.entries.add(offset, entry.log_offset);
                    }
                }
            })
            .map_err(failed)?;
        Ok(this)
    }

    /// A record of the log.
    pub(super) fn meet(&mut self, record: &Record<'_>) {
        let at = record.log_offset.0;
        if self.queues.is_empty() || at >= self.trusted {
            return;
        }
        let indexed = Indexed::of(record.properties);
        if indexed.light_offsets.is_empty() {
            return;
        }
        let mut known: Vec<&str> = Vec::new();
        for (name, offset) in places(record.topic, &indexed) {
            // A name that occurs twice is one entry.
            if !known.contains(&name)
                && let Some(queue) = self.queues.get_mut(name)
                && at >= queue.begins
            {
                queue.records.add(offset, at);
                known.push(name);
            }
        }
    }

    /// Compares.
    pub(super) fn finish(self, judge: &Judge, findings: &mut Findings) -> LightSummary {
        for (name, queue) in &self.queues {
            if queue.entries != queue.records {
                // A damaged part of the log may have had the records.
                let severity = if judge.holes.is_empty() { Severity::Damage } else { Severity::Note };
                findings.add(severity, Part::LightQueues, DIFFERENT, || {
                    format!("{name}: {} entries, {} records", queue.entries.count, queue.records.count)
                });
            }
        }
        self.summary
    }
}
