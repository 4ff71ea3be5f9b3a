//! What a light queue does with the light log, where another queue has files.

use super::Chain;
use super::log::LightLog;
use super::snapshot::Saved;
use crate::queue::consume_queue::ConsumeQueue;
use crate::queue::entry::{ENTRY_LEN, Entry};
use crate::queue::files::partition;
use crate::sync::atomic::Ordering;
use message::{LogOffset, QueueOffset};
use std::io;
use std::sync::Arc;

impl ConsumeQueue {
    /// Whether this is a light queue.
    #[must_use]
    pub fn is_light(&self) -> bool {
        self.light.is_some()
    }

    pub(super) fn light_chain(&self) -> Option<Chain> {
        self.light.as_ref().map(|chain| *chain.lock())
    }

    fn set_light_chain(&self, chain: Chain) {
        if let Some(own) = &self.light {
            *own.lock() = chain;
        }
    }

    pub(super) fn set_light_number(&self, number: u32) {
        if let Some(chain) = &self.light {
            chain.lock().number = number;
        }
    }

    /// A queue that starts again has no blocks.
    pub(in crate::queue) fn forget_light_blocks(&self) {
        if let Some(chain) = &self.light {
            let mut chain = chain.lock();
            *chain = Chain {
                number: chain.number,
                ..Chain::NEW
            };
        }
    }

    /// The entries that are only in memory, at most `most`: the offset of the first, and whether there are more.
    pub(super) fn unwritten(&self, most: usize) -> (i64, Vec<Entry>, bool) {
        let tail = self.tail.lock();
        let entries: Vec<Entry> = tail.entries.iter().take(most).copied().collect();
        let has_more = tail.entries.len() > entries.len();
        (tail.written, entries, has_more)
    }

    /// The first `count` entries in memory are in the block at the end of `chain`.
    pub(super) fn light_written(&self, count: usize, chain: Chain) {
        // First: a reader that does not find an entry in memory looks for it in the blocks.
        self.set_light_chain(chain);
        let mut tail = self.tail.lock();
        // Fewer if the queue was abandoned meanwhile.
        let count = count.min(tail.entries.len());
        let last = tail.entries.drain(..count).next_back();
        tail.written += count as i64;
        tail.written_log_end = last.map_or(tail.written_log_end, |last| last.log_end());
        drop(tail);
        self.files.shared.pending.fetch_sub(count as i64, Ordering::Relaxed);
    }

    /// A start: takes a block. One that begins before the maximum replaces what is behind.
    pub(super) fn take_light_block(&self, chain: Chain, max: i64, log_offset: i64, log_end: i64) {
        let (min, before) = (self.min().0, self.max().0);
        let restarts = chain.first > before || chain.first <= min;
        self.set_light_chain(chain);
        self.set_written(if restarts { chain.first } else { min }, max, log_end);
        if restarts {
            self.min_log_offset.store(log_offset, Ordering::Release);
        }
    }

    fn set_written(&self, min: i64, max: i64, log_end: i64) {
        let mut tail = self.tail.lock();
        (tail.written, tail.written_log_end) = (max, log_end);
        drop(tail);
        self.set_bounds(min, max, log_end);
    }

    pub(super) fn restore_light(&self, saved: &Saved) {
        self.set_light_chain(saved.chain);
        self.set_written(saved.min, saved.max, saved.log_end);
        self.min_log_offset.store(saved.min_log_offset, Ordering::Release);
    }

    /// The state of what is written.
    pub(super) fn saved_light(&self) -> Option<Saved> {
        let chain = self.light_chain()?;
        let tail = self.tail.lock();
        let (max, log_end) = (tail.written, tail.written_log_end);
        drop(tail);
        let min = self.min().0;
        Some(Saved {
            min: min.min(max),
            max,
            log_end,
            min_log_offset: if min < max {
                self.min_log_offset.load(Ordering::Acquire)
            } else {
                i64::MAX
            },
            chain,
        })
    }

    /// Reads up to `buffer` entries that are written.
    pub(in crate::queue) fn read_light(&self, at: i64, buffer: &mut [[u8; ENTRY_LEN]], cached_only: bool) -> io::Result<usize> {
        let (Some(chain), Some(log)) = (self.light_chain(), &self.files.shared.light) else {
            return Ok(0);
        };
        log.read(chain, at, buffer, cached_only)
    }

    /// The entry at an offset, which must be written.
    pub(in crate::queue) fn light_entry(&self, at: i64) -> io::Result<Entry> {
        let mut bytes = [[0; ENTRY_LEN]];
        self.read_light(at, &mut bytes, false)?;
        Ok(Entry::decode(&bytes[0]))
    }

    /// As [`ConsumeQueue::truncate_to_log`], without a note of it in the light log.
    pub(in crate::queue) fn truncate_light(&self, log: &LightLog, to: i64) -> io::Result<()> {
        if self.max_log_end().0 <= to {
            return Ok(());
        }
        let (written, left) = self.truncate_tail(to);
        if left > 0 {
            return Ok(());
        }
        let Some(chain) = self.light_chain() else { return Ok(()) };
        let (below, after) = log.newest(chain, false, |block| block.log_offset < to)?;
        let Some(block) = below else {
            let max = after.map_or(written, |after| after.first);
            self.forget_light_blocks();
            self.set_written(self.min().0.min(max), max, 0);
            return Ok(());
        };
        let max = partition(block.first, block.end(), |at| {
            log.entry_of(&block, at).map(|entry| entry.log_offset < to)
        })?;
        self.cut_light(log, chain, max)
    }

    /// Drops the entries from `max` on, which must be written and not the first of the queue.
    pub(in crate::queue) fn cut_light(&self, log: &LightLog, chain: Chain, max: i64) -> io::Result<()> {
        let (block, _) = log.newest(chain, false, |block| block.first < max)?;
        let Some(block) = block else {
            self.forget_light_blocks();
            self.set_written(self.min().0.min(max), max, 0);
            return Ok(());
        };
        let log_end = log.entry_of(&block, max.min(block.end()) - 1)?.log_end();
        self.set_light_chain(Chain {
            number: chain.number,
            last: block.position,
            first: block.first,
            jump: block.jump,
            depth: block.depth,
        });
        self.set_written(self.min().0.min(max), max, log_end);
        Ok(())
    }

    /// As [`ConsumeQueue::rewind`], for what is written.
    pub(in crate::queue) fn rewind_light(&self, to: QueueOffset) -> io::Result<()> {
        let (Some(chain), Some(log)) = (self.light_chain(), &self.files.shared.light) else {
            return Ok(());
        };
        self.cut_light(log, chain, to.0)
    }

    /// Retention: moves the minimum to the first entry whose message is in the log.
    pub(in crate::queue) fn raise_light_min(self: &Arc<Self>, log: &LightLog, log_min: LogOffset) -> io::Result<()> {
        if self.min_log_offset.load(Ordering::Acquire) >= log_min.0 {
            return Ok(());
        }
        let written = self.tail.lock().written;
        let is_live_in_memory = |this: &Self| {
            let tail = this.tail.lock();
            let dead = tail.entries.partition_point(|entry| entry.log_offset < log_min.0);
            (tail.written + dead as i64, tail.entries.get(dead).map(|entry| entry.log_offset))
        };
        let min = self.min().0;
        let mut found = None;
        if min < written {
            let Some(chain) = self.light_chain() else { return Ok(()) };
            let (below, after) = log.newest(chain, false, |block| block.log_offset < log_min.0)?;
            let first = match &below {
                Some(block) => {
                    let first = partition(block.first, block.end(), |at| {
                        log.entry_of(block, at).map(|entry| entry.log_offset < log_min.0)
                    })?;
                    if first < block.end() {
                        found = Some((first, log.entry_of(block, first)?.log_offset));
                    }
                    first
                }
                None => min,
            };
            if let (None, Some(after)) = (&found, &after) {
                found = Some((first.max(after.first), after.log_offset));
            }
        }
        let (min, log_offset) = match found {
            Some((first, log_offset)) if first < written => (first.max(min), Some(log_offset)),
            _ => is_live_in_memory(self),
        };
        // A message published meanwhile at the maximum set its own log offset.
        if let Some(log_offset) = log_offset {
            self.min_log_offset.store(log_offset, Ordering::Release);
        }
        self.min.store(min, Ordering::Release);
        Ok(())
    }
}
