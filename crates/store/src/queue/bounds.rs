//! Moves a queue's bounds: its maximum back in a recovery or truncation, its minimum forward in retention.
//!
//! Not here: where in files the written part ends (`files`), and why a bound is moved.

use std::io;
use std::sync::Arc;

use message::{LogOffset, QueueOffset};

use crate::sync::atomic::Ordering;

use super::consume_queue::{ConsumeQueue, LEN, OnDisk};
use super::files::{Extent, partition};

impl ConsumeQueue {
    /// Recovery and truncation: drops the entries of records that start at `log_end` or after it, in memory and in files, and all
    /// traces of later writes that a crash left in the files.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's files cannot be changed; the queue must not be used then.
    pub(crate) fn truncate_to_log(self: &Arc<Self>, log_end: LogOffset) -> io::Result<()> {
        let mut on_disk = self.on_disk.lock();
        let (written, left) = self.truncate_tail(log_end.0);
        if on_disk.extent == Extent::default() {
            if left == 0 {
                self.set_bounds(self.min().0.min(written), written, 0);
            }
            return Ok(());
        }
        if left > 0 {
            // All entries in files are below; above may be parts of a write that failed.
            return self.cut_files(&mut on_disk, written * LEN);
        }
        let limit = if log_end.0 <= self.files.shared.synced_log_end {
            on_disk.limit
        } else {
            i64::MAX
        };
        let end = self.files.written_end(on_disk.extent, log_end.0, limit.saturating_mul(LEN))?;
        self.cut_files(&mut on_disk, end)?;
        on_disk.limit = i64::MAX;
        self.settle(&mut on_disk, end)
    }

    /// Drops entries from memory. Returns the first queue offset that was in memory, and how many entries are left there.
    pub(super) fn truncate_tail(&self, log_end: i64) -> (i64, usize) {
        let mut tail = self.tail.lock();
        let kept = tail.entries.partition_point(|entry| entry.log_offset < log_end);
        let dropped = tail.entries.len() - kept;
        tail.entries.truncate(kept);
        self.files.shared.pending.fetch_sub(dropped as i64, Ordering::Relaxed);
        if let Some(last) = tail.entries.back() {
            let max = tail.written + kept as i64;
            self.set_bounds(self.min().0.min(max), max, last.log_end());
        }
        (tail.written, kept)
    }

    /// Removes the files after the byte and erases what is after it in its file.
    fn cut_files(self: &Arc<Self>, on_disk: &mut OnDisk, end: i64) -> io::Result<()> {
        let file_len = self.files.shared.file_len;
        while on_disk.extent.end - file_len >= end.max(on_disk.extent.first + 1) {
            self.files.renew();
            self.files.remove(on_disk.extent.end - file_len)?;
            on_disk.extent.end -= file_len;
            // Before the next one is removed: files behind a gap would be taken for the whole queue.
            self.files.sync_names()?;
        }
        if end < on_disk.extent.end {
            // Of a million queues that were not written since their last sync, no file is changed.
            if !self.files.is_blank_from(end)? {
                self.files.blank_from(end)?;
            }
            on_disk.unsynced_from = on_disk.unsynced_from.min(end);
        }
        self.list_for_sync(on_disk);
        Ok(())
    }

    /// Drops the entries from a queue offset on, which is published next. All of them are published.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's files cannot be changed; the queue must not be used then.
    pub(crate) fn rewind(self: &Arc<Self>, to: QueueOffset) -> io::Result<()> {
        if to <= self.min() {
            return self.restart(to.0);
        }
        let mut on_disk = self.on_disk.lock();
        let mut tail = self.tail.lock();
        if let Ok(kept) = usize::try_from(to.0 - tail.written)
            && kept > 0
        {
            let dropped = tail.entries.len().saturating_sub(kept);
            tail.entries.truncate(kept);
            self.files.shared.pending.fetch_sub(dropped as i64, Ordering::Relaxed);
            let log_end = tail.entries.back().map_or(0, |last| last.log_end());
            self.set_bounds(self.min().0, to.0, log_end);
            return Ok(());
        }
        self.forget_tail(&mut tail);
        drop(tail);
        if self.is_light() {
            return self.rewind_light(to);
        }
        self.cut_files(&mut on_disk, to.0 * LEN)?;
        self.settle(&mut on_disk, to.0 * LEN)
    }

    /// Sets the bounds from the files, of which all before `end` is written. Memory is empty.
    pub(super) fn settle(&self, on_disk: &mut OnDisk, end: i64) -> io::Result<()> {
        let log_end = if end > on_disk.extent.first {
            self.files.entry(end - LEN)?.log_end()
        } else {
            0
        };
        let max = end / LEN;
        let mut tail = self.tail.lock();
        (tail.written, tail.written_log_end) = (max, log_end);
        on_disk.synced = tail.synced_after();
        drop(tail);
        self.set_bounds(self.min().0.min(max), max, log_end);
        Ok(())
    }

    /// Retention: moves the minimum to the first entry whose record starts at or after `log_min`, and removes the files that are
    /// completely below it, except the last one, which keeps the queue's offset. Returns how many were removed.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be read or removed. The minimum may have been raised then; the next call removes the files
    /// that are left.
    pub(crate) fn raise_min(self: &Arc<Self>, log_min: LogOffset) -> io::Result<usize> {
        let mut on_disk = self.on_disk.lock();
        if self.min_log_offset.load(Ordering::Acquire) < log_min.0 {
            self.settle_min(self.min().0, log_min.0)?;
        }
        let file_len = self.files.shared.file_len;
        let mut removed = self.remove_strays(&mut on_disk, log_min.0)?;
        while on_disk.extent.first + 2 * file_len <= on_disk.extent.end && on_disk.extent.first + file_len <= self.min().0 * LEN {
            self.files.remove(on_disk.extent.first)?;
            on_disk.extent.first += file_len;
            on_disk.names_unsynced = true;
            removed += 1;
        }
        if removed > 0 {
            self.list_for_sync(&mut on_disk);
        }
        Ok(removed)
    }

    /// Hides the entries before `first`, for a limit of the topic. In memory only: the next start hides them again. Files stay until
    /// the log's retention reaches their messages.
    ///
    /// # Errors
    /// [`io::Error`] if the queue's files cannot be read; nothing is hidden then.
    pub(crate) fn raise_min_to(&self, first: QueueOffset) -> io::Result<()> {
        // Held by whoever moves the minimum.
        let _on_disk = self.on_disk.lock();
        let (min, max) = (self.min().0, self.max().0);
        let first = first.0.min(max);
        if first <= min {
            return Ok(());
        }
        let log_offset = if first < max { self.entry(first)?.log_offset } else { i64::MAX };
        // A message published meanwhile at `max` set its own log offset.
        if first < max {
            self.min_log_offset.store(log_offset, Ordering::Release);
        }
        self.min.store(first, Ordering::Release);
        Ok(())
    }

    /// Finishes a removal of files that a power cut partly undid. Files that name messages still in the log stay: an operator has
    /// to find out how they came to be separated.
    fn remove_strays(&self, on_disk: &mut OnDisk, log_min: i64) -> io::Result<usize> {
        let mut removed = 0;
        while let Some(base) = on_disk.strays.last().copied() {
            if self.files.entry(base + self.files.shared.file_len - LEN)?.log_offset >= log_min {
                tracing::error!(queue = %self.files.dir().display(), before = base, "queue files are missing; messages before them cannot be consumed");
                on_disk.strays.clear();
                break;
            }
            self.files.remove(base)?;
            on_disk.strays.pop();
            on_disk.names_unsynced = true;
            removed += 1;
        }
        Ok(removed)
    }

    pub(super) fn settle_min(&self, from: i64, log_min: i64) -> io::Result<()> {
        let max = self.max().0;
        let min = self.first_live(from, max, log_min)?;
        let log_offset = if min < max { self.entry(min)?.log_offset } else { i64::MAX };
        // A message published meanwhile is live whatever the search found; its publisher set its own log offset.
        if min < max {
            self.min_log_offset.store(log_offset, Ordering::Release);
        }
        self.min.store(min, Ordering::Release);
        Ok(())
    }

    fn first_live(&self, from: i64, max: i64, log_min: i64) -> io::Result<i64> {
        let is_dead = |at| {
            let entry = self.entry(at)?;
            Ok(!entry.is_written() || entry.is_blank() || entry.log_offset < log_min)
        };
        // Usually the first one is live, or none is: a queue without producers.
        if from >= max || !is_dead(from)? {
            return Ok(from.min(max));
        }
        if is_dead(max - 1)? {
            return Ok(max);
        }
        partition(from, max, is_dead)
    }
}
