//! What a start finds: the snapshot, and the blocks after it.

use super::block::{self, HEADER_LEN, Header, Kind};
use super::log::{FileStart, LightLog, WriteState};
use super::{Chain, snapshot};
use crate::disk::if_exists;
use crate::queue::ConsumeQueue;
use crate::sync::atomic::Ordering;
use message::names;
use rustc_hash::FxHashMap;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// What a start found in the files.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) queues: HashMap<Arc<str>, Arc<ConsumeQueue>>,
    by_number: FxHashMap<u32, Arc<ConsumeQueue>>,
}

impl Loaded {
    pub(super) fn add(&mut self, queue: Arc<ConsumeQueue>, number: u32) {
        if number > 0 {
            self.by_number.insert(number, Arc::clone(&queue));
        }
        self.queues.insert(Arc::clone(queue.name()), queue);
    }
}

impl LightLog {
    /// Reads what is there. `make` makes a queue of a name.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be read, cut or removed.
    pub(super) fn load(&self, make: &dyn Fn(&str) -> Arc<ConsumeQueue>) -> io::Result<Loaded> {
        match self.try_load(make)? {
            Some(loaded) => Ok(loaded),
            None => {
                tracing::error!(
                    dir = %self.dir.display(),
                    "the files of the light queues are damaged; the queues are read from the commit log again"
                );
                self.reset()?;
                Ok(Loaded::default())
            }
        }
    }

    /// `None` if the files cannot be used.
    fn try_load(&self, make: &dyn Fn(&str) -> Arc<ConsumeQueue>) -> io::Result<Option<Loaded>> {
        let mut bases = self.bases()?;
        let snapshot_path = self.dir.join(snapshot::NAME);
        let snapshot = if_exists(self.disk.read(&snapshot_path))?;
        let mut state = WriteState::default();
        let mut loaded = Loaded::default();
        if let Some(bytes) = &snapshot {
            let Some(read) = snapshot::decode(bytes, make, &mut loaded) else {
                return Ok(None);
            };
            state = read;
            state.snapshot = (state.end, bytes.len() as i64);
        }
        let Some(first) = bases.first().copied() else {
            return Ok((snapshot.is_none()).then_some(loaded));
        };
        let is_row = bases.iter().zip(0..).all(|(base, n)| *base == first + n * self.file_bytes);
        if !is_row || first % self.file_bytes != 0 || first > state.end || snapshot.is_none() && first != 0 {
            return Ok(None);
        }
        self.first.store(first, Ordering::Release);
        let before = bases.partition_point(|base| base + self.file_bytes <= state.end);
        for base in bases.drain(..before) {
            let Some(bound) = self.file_start(base)? else { return Ok(None) };
            state.files.push_back(FileStart { base, bound });
        }
        let from = state.end;
        if !self.replay(&bases, &mut state, make, &mut loaded)? {
            return Ok(None);
        }
        self.cut(&bases, state.end)?;
        // The process before may not have synced them.
        state.unsynced_from = self.base(from);
        state.names_unsynced = true;
        *self.state.lock() = state;
        Ok(Some(loaded))
    }

    fn bases(&self) -> io::Result<Vec<i64>> {
        let listed = if_exists(self.disk.list(&self.dir))?.unwrap_or_default();
        let files = listed.iter().filter(|found| !found.is_dir && found.name.len() == 20);
        let mut bases: Vec<i64> = files.filter_map(|found| found.name.parse().ok()).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn file_start(&self, base: i64) -> io::Result<Option<i64>> {
        let mut bytes = [0; HEADER_LEN];
        let read = self.open(base)?.read_at(&mut bytes, 0)?;
        let header = Header::whole(&bytes[..read], base);
        Ok(header
            .filter(|(header, ..)| header.kind == Kind::File)
            .map(|(header, ..)| header.log_offset))
    }

    /// Applies the blocks from the state's end on, in files that begin at `bases`. False if the state's end is behind the files.
    fn replay(
        &self,
        bases: &[i64],
        state: &mut WriteState,
        make: &dyn Fn(&str) -> Arc<ConsumeQueue>,
        loaded: &mut Loaded,
    ) -> io::Result<bool> {
        let mut is_first = true;
        for base in bases {
            let bytes = self.disk.read(&self.path(*base))?;
            let start = Header::whole(&bytes, *base).filter(|(header, ..)| header.kind == Kind::File);
            let Some((start, ..)) = start else {
                // Created, and not written; unless the snapshot says that there is more.
                return Ok(!is_first || state.end <= *base);
            };
            if is_first && state.end > *base + bytes.len() as i64 {
                return Ok(false);
            }
            if !is_first && start.prev != state.end {
                return Ok(true);
            }
            state.files.push_back(FileStart {
                base: *base,
                bound: start.log_offset,
            });
            if !is_first || state.end <= *base {
                state.end = *base + HEADER_LEN as i64;
            }
            is_first = false;
            while let Some((header, body, len)) = Header::whole(&bytes[(state.end - base) as usize..], state.end) {
                if !self.apply(&header, body, state, make, loaded)? {
                    return Ok(true);
                }
                state.end += len as i64;
            }
        }
        Ok(true)
    }

    /// Applies a block. False if it cannot be one: its queue is unknown.
    fn apply(
        &self,
        header: &Header,
        body: &[u8],
        state: &mut WriteState,
        make: &dyn Fn(&str) -> Arc<ConsumeQueue>,
        loaded: &mut Loaded,
    ) -> io::Result<bool> {
        match header.kind {
            Kind::File => return Ok(false),
            Kind::Name => {
                let name = std::str::from_utf8(body).ok().filter(|name| names::can_be_light_queue(name));
                let Some(name) = name.filter(|_| header.number > 0) else {
                    return Ok(false);
                };
                let queue = loaded.queues.get(name).cloned().unwrap_or_else(|| make(name));
                queue.set_light_number(header.number);
                loaded.add(queue, header.number);
                state.next_number = state.next_number.max(header.number.saturating_add(1));
            }
            Kind::Entries => {
                let Some(queue) = loaded.by_number.get(&header.number) else {
                    return Ok(false);
                };
                let Some(last) = block::entries(body).next_back() else {
                    return Ok(false);
                };
                let chain = Chain {
                    number: header.number,
                    last: header.position,
                    first: header.first,
                    jump: header.jump,
                    depth: header.depth,
                };
                queue.take_light_block(chain, header.end(), header.log_offset, last.log_end());
                state.bound = state.bound.max(last.log_end());
            }
            Kind::Delete => {
                if let Some(queue) = loaded.by_number.remove(&header.number) {
                    loaded.queues.remove(queue.name());
                }
            }
            Kind::Truncate => {
                for queue in loaded.queues.values() {
                    queue.truncate_light(self, header.log_offset)?;
                }
                state.covered = state.covered.map(|covered| covered.min(header.log_offset));
                state.bound = state.bound.min(header.log_offset);
            }
            Kind::Covered => state.covered = Some(header.log_offset),
        }
        Ok(true)
    }

    /// Removes what is behind the end.
    fn cut(&self, bases: &[i64], end: i64) -> io::Result<()> {
        for base in bases.iter().rev() {
            if *base >= end {
                self.disk.remove_file(&self.path(*base))?;
                continue;
            }
            let file = self.open(*base)?;
            let len = (end - base) as u64;
            if file.len()? > len {
                file.set_len(len)?;
            }
            break;
        }
        Ok(())
    }
}
