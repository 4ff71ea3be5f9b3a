//! The files of the light log: what is read, synced and removed.
//!
//! Not here: how blocks are written (`round`), and what a start finds (`load`).

use super::block::{HEADER_LEN, Header, Kind};
use super::round::Round;
use super::{Chain, snapshot};
use crate::disk::{Disk, DiskFile, OpenMode, if_exists};
use crate::queue::ConsumeQueue;
use crate::queue::entry::{ENTRY_LEN, Entry};
use crate::queue::files::fill;
use crate::queue::open_files::OpenFiles;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicI64, Ordering};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of blocks that are written at once.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes of blocks after the last snapshot before the next one, at least.
const SNAPSHOT_BYTES: i64 = 64 << 20;
/// Open files are not told apart by queue.
pub(super) const SERIAL: u64 = 0;

/// Options of the light log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LightOptions {
    /// Bytes of a file.
    pub file_bytes: i64,
    /// Maximum files kept open.
    pub open_files_max: usize,
}

/// The log of blocks that all light queues share.
#[derive(Debug)]
pub(crate) struct LightLog {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) file_bytes: i64,
    pub(super) files: OpenFiles,
    /// Position where the first file begins: what is before is removed.
    pub(super) first: AtomicI64,
    pub(super) state: Mutex<WriteState>,
}

/// What only the thread that writes needs.
#[derive(Debug)]
pub(super) struct WriteState {
    /// Where the next block is written.
    pub(super) end: i64,
    pub(super) next_number: u32,
    /// All entries name messages that end at this log offset or before it.
    pub(super) bound: i64,
    /// The entries of all messages below this log offset are here; `None` if that is unknown.
    pub(super) covered: Option<i64>,
    /// Position from which blocks are not synced; `i64::MAX` if all are.
    pub(super) unsynced_from: i64,
    pub(super) names_unsynced: bool,
    pub(super) files: VecDeque<FileStart>,
    /// The position of the last snapshot, and its size.
    pub(super) snapshot: (i64, i64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FileStart {
    pub(super) base: i64,
    /// All entries in the files before name messages that end at this log offset or before it.
    pub(super) bound: i64,
}

impl Default for WriteState {
    fn default() -> Self {
        Self {
            end: 0,
            next_number: 1,
            bound: 0,
            covered: None,
            unsynced_from: i64::MAX,
            names_unsynced: false,
            files: VecDeque::new(),
            snapshot: (0, 0),
        }
    }
}

impl LightLog {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, options: LightOptions) -> Self {
        Self {
            disk,
            dir,
            // A block with the longest name fits.
            file_bytes: options.file_bytes.max(1_024),
            files: OpenFiles::new(options.open_files_max),
            first: AtomicI64::new(0),
            state: Mutex::default(),
        }
    }

    /// Removes everything: the queues are read from the log again.
    pub(crate) fn reset(&self) -> io::Result<()> {
        self.disk.remove_dir_all(&self.dir)?;
        self.disk.sync_dir(crate::disk::parent(&self.dir))?;
        *self.state.lock() = WriteState::default();
        self.first.store(0, Ordering::Release);
        Ok(())
    }

    fn export_mark(&self) -> PathBuf {
        self.dir.join("export")
    }

    /// Notes that the queues are being written to files of their own: until that is done the light log counts.
    pub(super) fn mark_export(&self) -> io::Result<()> {
        self.disk.create_dir_all(&self.dir)?;
        self.disk.open(&self.export_mark(), OpenMode::WriteOrCreate)?;
        self.disk.sync_dir(&self.dir)
    }

    pub(super) fn is_export_interrupted(&self) -> io::Result<bool> {
        self.disk.exists(&self.export_mark())
    }

    pub(super) fn unmark_export(&self) -> io::Result<()> {
        self.disk.remove_file(&self.export_mark())?;
        self.disk.sync_dir(&self.dir)
    }

    /// Writes again what a start found after the last snapshot: if a sync failed in the process before, the page cache may have bytes
    /// that are not on the device and that no later sync would write.
    pub(crate) fn write_again(&self) -> io::Result<()> {
        let state = self.state.lock();
        let from = self.base(state.snapshot.0);
        for start in state.files.iter().filter(|start| start.base >= from) {
            let bytes = self.disk.read(&self.path(start.base))?;
            self.open(start.base)?.write_at(&bytes, 0)?;
        }
        Ok(())
    }

    pub(super) fn base(&self, position: i64) -> i64 {
        position - position.rem_euclid(self.file_bytes)
    }

    pub(super) fn path(&self, base: i64) -> PathBuf {
        self.dir.join(format!("{base:020}"))
    }

    pub(super) fn open(&self, base: i64) -> io::Result<Arc<dyn DiskFile>> {
        let open = || self.disk.open(&self.path(base), OpenMode::Write);
        self.files.take((SERIAL, base), open).map_err(|error| self.named(base, &error))
    }

    pub(super) fn named(&self, base: i64, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path(base).display()))
    }

    pub(super) fn first(&self) -> i64 {
        self.first.load(Ordering::Acquire)
    }

    /// The log offset up to which all messages are entered; `None` if that is unknown.
    pub(crate) fn covered(&self) -> Option<i64> {
        self.state.lock().covered
    }

    /// Writes the entries that these queues have in memory.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be written. Entries that were not written stay in memory.
    pub(crate) fn write(&self, queues: &[Arc<ConsumeQueue>]) -> io::Result<()> {
        if queues.is_empty() {
            return Ok(());
        }
        let mut round = Round::begin(self);
        for queue in queues {
            while round.put_entries(queue)? {
                // The next block names this one.
                round.flush()?;
            }
            if round.buffer.len() >= WRITE_BYTES {
                round.flush()?;
            }
        }
        round.flush()
    }

    /// Notes that a queue was deleted.
    pub(crate) fn delete(&self, queue: &ConsumeQueue) -> io::Result<()> {
        let number = queue.light_chain().map_or(0, |chain| chain.number);
        if number == 0 {
            return Ok(());
        }
        let header = Header {
            number,
            ..Header::plain(Kind::Delete, 0)
        };
        self.put(header)
    }

    /// Notes that all entries at a log offset or above it were dropped.
    pub(crate) fn truncate(&self, to: i64) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            state.covered = state.covered.map(|covered| covered.min(to));
            if state.files.is_empty() {
                return Ok(());
            }
        }
        self.put(Header::plain(Kind::Truncate, to))
    }

    /// Notes that the entries of all messages below a log offset are here.
    pub(crate) fn cover(&self, to: i64) -> io::Result<()> {
        if self.state.lock().covered == Some(to) {
            return Ok(());
        }
        self.put(Header::plain(Kind::Covered, to))?;
        self.state.lock().covered = Some(to);
        Ok(())
    }

    fn put(&self, header: Header) -> io::Result<()> {
        let mut round = Round::begin(self);
        round.put(header, &[])?;
        round.flush()
    }

    /// Syncs what was written. Writes a snapshot if there is enough after the last one.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be synced or the snapshot cannot be written.
    pub(in crate::queue) fn sync(&self, queues: &dyn Fn() -> Vec<Arc<ConsumeQueue>>) -> io::Result<()> {
        let mut state = self.state.lock();
        self.sync_blocks(&mut state)?;
        let (at, len) = state.snapshot;
        if state.end - at > SNAPSHOT_BYTES.max(2 * len) {
            // The next start reads the blocks instead.
            if let Err(error) = self.write_snapshot(&mut state, &queues()) {
                tracing::warn!(%error, "the state of the light queues could not be written; the next checkpoint tries again");
            }
        }
        Ok(())
    }

    fn sync_blocks(&self, state: &mut WriteState) -> io::Result<()> {
        let from = std::mem::replace(&mut state.unsynced_from, i64::MAX);
        for start in state.files.iter().filter(|start| start.base + self.file_bytes > from) {
            self.open(start.base)?.sync_data()?;
        }
        if std::mem::take(&mut state.names_unsynced) && !state.files.is_empty() {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Writes a snapshot.
    pub(super) fn snapshot_now(&self, queues: &[Arc<ConsumeQueue>]) -> io::Result<()> {
        let mut state = self.state.lock();
        self.disk.create_dir_all(&self.dir)?;
        self.sync_blocks(&mut state)?;
        self.write_snapshot(&mut state, queues)
    }

    fn write_snapshot(&self, state: &mut WriteState, queues: &[Arc<ConsumeQueue>]) -> io::Result<()> {
        let len = snapshot::write(&*self.disk, &self.dir, state, queues)?;
        state.snapshot = (state.end, len);
        Ok(())
    }

    /// Removes files whose entries name only messages below `log_min`. `queues` must not read them any more.
    ///
    /// # Errors
    /// [`io::Error`] if a snapshot cannot be written or files cannot be removed; the next call tries again.
    pub(super) fn remove_before(&self, log_min: i64, queues: &dyn Fn() -> Vec<Arc<ConsumeQueue>>) -> io::Result<usize> {
        let mut state = self.state.lock();
        let may_go = |state: &WriteState| state.files.get(1).filter(|next| next.bound <= log_min).map(|next| next.base);
        let mut removed = 0;
        while let Some(next) = may_go(&state) {
            if state.snapshot.0 < next {
                self.sync_blocks(&mut state)?;
                self.write_snapshot(&mut state, &queues())?;
            }
            self.first.store(next, Ordering::Release);
            self.files.close(SERIAL, |base| base < next);
            let Some(gone) = state.files.pop_front() else { break };
            if_exists(self.disk.remove_file(&self.path(gone.base)))?;
            // Before the next one is removed: files behind a gap would be taken for damage.
            self.disk.sync_dir(&self.dir)?;
            removed += 1;
        }
        Ok(removed)
    }

    pub(super) fn header_at(&self, position: i64, number: u32, cached_only: bool) -> io::Result<Header> {
        let mut bytes = [0; HEADER_LEN];
        self.read_bytes(position, &mut bytes, cached_only)?;
        let header = Header::decode(&bytes, position).map(|(header, _)| header);
        let header = header.filter(|header| header.kind == Kind::Entries && header.number == number);
        header.ok_or_else(|| {
            let base = self.base(position);
            let path = self.path(base);
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: no block of the light queue at {}", path.display(), position - base),
            )
        })
    }

    fn read_bytes(&self, position: i64, out: &mut [u8], cached_only: bool) -> io::Result<()> {
        let base = self.base(position);
        if position < self.first() {
            return Err(self.named(base, &io::ErrorKind::NotFound.into()));
        }
        let file = self.open(base)?;
        let at = (position - base) as u64;
        fill(&*file, at, out, cached_only, |error| self.named(base, error))
    }

    /// The newest block of a chain that is old enough, and the one after it. If a block is old enough, so are those before it.
    pub(super) fn newest(
        &self,
        chain: Chain,
        cached_only: bool,
        is_old: impl Fn(&Header) -> bool,
    ) -> io::Result<(Option<Header>, Option<Header>)> {
        let (mut at, mut after) = (chain.last, None);
        while at >= self.first() && at >= 0 {
            let header = self.header_at(at, chain.number, cached_only)?;
            if is_old(&header) {
                return Ok((Some(header), after));
            }
            after = Some(header);
            at = header.prev;
            if header.jump != header.prev && header.jump >= self.first() {
                let jump = self.header_at(header.jump, chain.number, cached_only)?;
                if !is_old(&jump) {
                    at = header.jump;
                }
            }
        }
        Ok((None, after))
    }

    /// Reads entries of one block, from a queue offset on, at most as many as `buffer` holds. Returns how many.
    pub(super) fn read(&self, chain: Chain, at: i64, buffer: &mut [[u8; ENTRY_LEN]], cached_only: bool) -> io::Result<usize> {
        let (block, _) = self.newest(chain, cached_only, |header| header.first <= at)?;
        let block = block.filter(|block| at < block.end());
        let Some(block) = block else {
            return Err(self.named(self.base(chain.last.max(0)), &io::ErrorKind::NotFound.into()));
        };
        let count = buffer.len().min((block.end() - at) as usize);
        let bytes = block.bytes_of(at..at + count as i64);
        self.read_bytes(bytes.start, buffer[..count].as_flattened_mut(), cached_only)?;
        Ok(count)
    }

    /// The entries of a block.
    pub(super) fn entry_of(&self, block: &Header, at: i64) -> io::Result<Entry> {
        let mut bytes = [0; ENTRY_LEN];
        self.read_bytes(block.bytes_of(at..at + 1).start, &mut bytes, false)?;
        Ok(Entry::decode(&bytes))
    }
}
