//! Writing blocks at the end of the light log.

use super::Chain;
use super::block::{HEADER_LEN, Header, Kind, jump_depth};
use super::log::{FileStart, LightLog, SERIAL, WriteState};
use crate::disk::{Allocate, if_exists};
use crate::queue::ConsumeQueue;
use crate::queue::entry::{ENTRY_LEN, Entry};
use crate::sync::MutexGuard;
use std::io;
use std::sync::Arc;

/// Maximum entries of a block.
const BLOCK_ENTRIES: usize = 4_096;

/// Blocks that are being written.
pub(super) struct Round<'a> {
    log: &'a LightLog,
    state: MutexGuard<'a, WriteState>,
    pub(super) buffer: Vec<u8>,
    /// Position of the buffer's first byte.
    start: i64,
    /// Queues whose entries are in the buffer, how many, and their chain when it is written.
    written: Vec<(Arc<ConsumeQueue>, usize, Chain)>,
}

impl<'a> Round<'a> {
    pub(super) fn begin(log: &'a LightLog) -> Self {
        let state = log.state.lock();
        Self {
            log,
            start: state.end,
            state,
            buffer: Vec::new(),
            written: Vec::new(),
        }
    }

    fn end(&self) -> i64 {
        self.start + self.buffer.len() as i64
    }

    /// Adds a block. Returns its position.
    pub(super) fn put(&mut self, header: Header, body: &[u8]) -> io::Result<i64> {
        let len = (HEADER_LEN + body.len()) as i64;
        let has_room = self
            .state
            .files
            .back()
            .is_some_and(|file| self.end() + len <= file.base + self.log.file_bytes);
        if !has_room {
            self.flush()?;
            self.begin_file()?;
        }
        let position = self.end();
        Header { position, ..header }.encode(body, &mut self.buffer);
        Ok(position)
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let (log, state) = (self.log, &mut *self.state);
        let base = state.files.back().map_or(log.base(state.end), |last| last.base + log.file_bytes);
        if state.files.is_empty() {
            log.disk.create_dir_all(&log.dir)?;
        }
        let path = log.path(base);
        // Left by an attempt that failed.
        log.files.close(SERIAL, |open| open == base);
        if_exists(log.disk.remove_file(&path))?;
        let file = log
            .disk
            .create(&path, 0, Allocate::Sparse)
            .map_err(|error| log.named(base, &error))?;
        let header = Header {
            position: base,
            prev: state.end,
            ..Header::plain(Kind::File, state.bound)
        };
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        header.encode(&[], &mut bytes);
        file.write_at(&bytes, 0).map_err(|error| log.named(base, &error))?;
        state.files.push_back(FileStart { base, bound: state.bound });
        state.unsynced_from = state.unsynced_from.min(base);
        state.end = base + HEADER_LEN as i64;
        self.start = state.end;
        Ok(())
    }

    /// Adds a block of a queue's entries. True if the queue has more.
    pub(super) fn put_entries(&mut self, queue: &Arc<ConsumeQueue>) -> io::Result<bool> {
        let fits = (self.log.file_bytes as usize - 2 * HEADER_LEN) / ENTRY_LEN;
        let (from, entries, has_more) = queue.unwritten(BLOCK_ENTRIES.min(fits));
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(false);
        };
        let Some(mut chain) = queue.light_chain() else { return Ok(false) };
        if chain.number == 0 {
            chain.number = self.state.next_number;
            self.state.next_number = self.state.next_number.saturating_add(1);
            let name = Header {
                number: chain.number,
                ..Header::plain(Kind::Name, 0)
            };
            self.put(name, queue.topic().as_bytes())?;
        }
        let (prev, jump, depth) = self.links(chain)?;
        let header = Header {
            kind: Kind::Entries,
            number: chain.number,
            position: 0,
            first: from,
            log_offset: first.log_offset,
            prev,
            jump,
            depth,
            count: entries.len() as u32,
        };
        let body: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
        let position = self.put(header, &body)?;
        self.state.bound = self.state.bound.max(last.log_end());
        let chain = Chain {
            last: position,
            first: from,
            jump,
            depth,
            ..chain
        };
        self.written.push((Arc::clone(queue), entries.len(), chain));
        Ok(has_more)
    }

    /// What the next block of a chain names: the block before, an older one, and how many are before.
    fn links(&self, chain: Chain) -> io::Result<(i64, i64, u32)> {
        let first = self.log.first();
        if chain.last < first || chain.last < 0 {
            return Ok((-1, -1, 0));
        }
        let depth = chain.depth.saturating_add(1);
        let jump = if jump_depth(depth) == chain.depth {
            chain.last
        } else if chain.jump < first {
            chain.jump
        } else {
            self.log.header_at(chain.jump, chain.number, false)?.jump
        };
        Ok((chain.last, jump, depth))
    }

    /// Writes the blocks that were added.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let base = self.log.base(self.start);
        let at = (self.start - base) as u64;
        let written = self.log.open(base)?.write_at(&self.buffer, at);
        written.map_err(|error| self.log.named(base, &error))?;
        self.state.unsynced_from = self.state.unsynced_from.min(self.start);
        self.state.end = self.end();
        self.start = self.state.end;
        self.buffer.clear();
        for (queue, count, chain) in self.written.drain(..) {
            queue.light_written(count, chain);
        }
        Ok(())
    }
}
