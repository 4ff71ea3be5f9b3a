//! The timer log: units in files of one length below `timerlog/`, named by the position at which they begin.
//!
//! Compat: a file ends with a filler where no unit fits: 4 bytes with the length that is left, 8 of 0, and a mark of 4; the rest of the
//! last file is zeros.

use super::unit::{self, Unit};
use crate::disk::{Allocate, Disk, DiskFile, OpenMode, if_exists};
use crate::error::StoreError;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Mark of the filler (`TimerLog.BLANK_MAGIC_CODE`).
const FILLER_MARK: i32 = 0xCBD4_3194_u32 as i32;
const FILLER_LEN: usize = 16;
/// Bytes read at once on the way forward, and backward.
const AHEAD: usize = 52 << 10;
const BACK: usize = 4 << 10;

/// Whether a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    Next,
    /// Not behind this unit.
    Stop,
}

#[derive(Debug)]
pub(super) struct TimerLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: i64,
    /// By the position at which each begins, without gaps.
    files: BTreeMap<i64, Arc<dyn DiskFile>>,
    end: i64,
    /// Files with units that are not synced.
    unsynced: BTreeMap<i64, Arc<dyn DiskFile>>,
}

/// Units that are to be appended.
#[derive(Debug)]
pub(super) struct Run {
    file_bytes: i64,
    /// By position, each within one file.
    parts: Vec<(i64, Vec<u8>)>,
    end: i64,
}

impl Run {
    /// Adds a unit; its position.
    pub(super) fn push(&mut self, unit: &Unit, prev: i64) -> i64 {
        let left = self.file_bytes - self.end % self.file_bytes;
        if left < (unit::LEN + FILLER_LEN) as i64 {
            let mut filler = [0; FILLER_LEN];
            filler[..4].copy_from_slice(&(left as i32).to_be_bytes());
            filler[12..].copy_from_slice(&FILLER_MARK.to_be_bytes());
            self.bytes().extend_from_slice(&filler);
            self.end += left;
        }
        let at = self.end;
        if at % self.file_bytes == 0 {
            self.parts.push((at, Vec::new()));
        }
        self.bytes().extend_from_slice(&unit.encode(prev));
        self.end += unit::LEN as i64;
        at
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        if self.parts.is_empty() {
            self.parts.push((self.end, Vec::new()));
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last].1
    }
}

impl TimerLog {
    /// Without files.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, file_bytes: u64) -> Self {
        Self {
            disk,
            dir,
            file_bytes: file_bytes as i64,
            files: BTreeMap::new(),
            end: 0,
            unsynced: BTreeMap::new(),
        }
    }

    /// Opens the files; `None` if there are gaps between them or one has another length. It ends where [`Self::end_at`] says.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf, file_bytes: u64, mode: OpenMode) -> Result<Option<Self>, StoreError> {
        let names = if_exists(disk.list(&dir)).map_err(|e| StoreError::io("list", &dir, e))?;
        let mut log = Self::new(disk, dir, file_bytes);
        for entry in names.unwrap_or_default() {
            let Ok(start) = entry.name.parse::<i64>() else { continue };
            if start < 0 || start % log.file_bytes != 0 || entry.len != file_bytes {
                return Ok(None);
            }
            let path = log.dir.join(&entry.name);
            let file = log.disk.open(&path, mode).map_err(|e| StoreError::io("open", &path, e))?;
            log.files.insert(start, file);
        }
        let has_gap = log
            .files
            .keys()
            .zip(log.files.keys().skip(1))
            .any(|(a, b)| a + log.file_bytes != *b);
        log.end = log.capacity_end();
        Ok((!has_gap).then_some(log))
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.len() as u64 * self.file_bytes as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Position of the first unit that is kept.
    pub(super) fn begin(&self) -> i64 {
        self.files.keys().next().copied().unwrap_or(self.end)
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// End of the last file.
    pub(super) fn capacity_end(&self) -> i64 {
        self.files.keys().next_back().map_or(self.end, |start| start + self.file_bytes)
    }

    /// Where the file begins that is before the one with this position, if it is there.
    pub(super) fn file_before(&self, at: i64) -> i64 {
        (at / self.file_bytes * self.file_bytes - self.file_bytes).max(self.begin())
    }

    fn error(&self, action: &'static str, start: i64, error: io::Error) -> StoreError {
        let path = self.dir.join(format!("{start:020}"));
        if error.kind() == io::ErrorKind::StorageFull {
            return StoreError::DiskFull(format!("cannot {action} {}: {error}", path.display()));
        }
        StoreError::io(action, &path, error)
    }

    /// The units end here: what follows is erased. Those from `synced` on may be in the page cache only.
    pub(super) fn end_at(&mut self, end: i64, synced: i64) -> Result<(), StoreError> {
        self.end = end;
        let behind: Vec<i64> = self
            .files
            .range(end..)
            .map(|(start, _)| *start)
            .filter(|start| *start > end)
            .collect();
        for start in behind {
            self.remove(start)?;
        }
        if let Some((start, file)) = self.files.range(..=end).next_back() {
            let from = (end - start).min(self.file_bytes) as u64;
            file.make_zeros(from..self.file_bytes as u64)
                .map_err(|e| self.error("erase the end of", *start, e))?;
        }
        let ends_behind = |(start, _): &(&i64, &Arc<dyn DiskFile>)| **start + self.file_bytes >= synced;
        self.unsynced = self
            .files
            .iter()
            .filter(ends_behind)
            .map(|(start, file)| (*start, file.clone()))
            .collect();
        Ok(())
    }

    fn remove(&mut self, start: i64) -> Result<(), StoreError> {
        self.unsynced.remove(&start);
        self.files.remove(&start);
        let path = self.dir.join(format!("{start:020}"));
        if_exists(self.disk.remove_file(&path)).map_err(|e| StoreError::io("remove", &path, e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| StoreError::io("sync", &self.dir, e))
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        self.disk
            .remove_dir_all(&self.dir)
            .map_err(|e| StoreError::io("remove", &self.dir, e))?;
        (self.files, self.unsynced, self.end) = (BTreeMap::new(), BTreeMap::new(), 0);
        Ok(())
    }

    pub(super) fn remove_files_below(&mut self, at: i64) -> Result<(), StoreError> {
        let last = self.files.keys().next_back().copied();
        let done: Vec<i64> = self.files.keys().copied().collect();
        for start in done {
            if start + self.file_bytes > at || Some(start) == last {
                break;
            }
            self.remove(start)?;
        }
        Ok(())
    }

    pub(super) fn begin_append(&self) -> Run {
        Run {
            file_bytes: self.file_bytes,
            parts: Vec::new(),
            end: self.end,
        }
    }

    /// Appends units, without syncing them.
    pub(super) fn append(&mut self, run: Run) -> Result<(), StoreError> {
        for (at, bytes) in &run.parts {
            let start = at - at % self.file_bytes;
            let file = self.file(start)?;
            file.write_at(bytes, (at - start) as u64)
                .map_err(|e| self.error("write", start, e))?;
            self.unsynced.insert(start, file);
        }
        self.end = run.end;
        Ok(())
    }

    fn file(&mut self, start: i64) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some(file) = self.files.get(&start) {
            return Ok(file.clone());
        }
        self.disk
            .create_dir_all(&self.dir)
            .map_err(|e| self.error("create the directory of", start, e))?;
        let path = self.dir.join(format!("{start:020}"));
        let file = self
            .disk
            .create(&path, self.file_bytes as u64, Allocate::Reserved)
            .map_err(|e| self.error("create", start, e))?;
        self.files.insert(start, file.clone());
        Ok(file)
    }

    /// The last unit.
    pub(super) fn last(&self) -> Result<Option<Unit>, StoreError> {
        let Some((start, _)) = self.files.range(..self.end).next_back() else {
            return Ok(None);
        };
        let of_units = (self.end - start).min(self.file_bytes - FILLER_LEN as i64);
        let units = of_units / unit::LEN as i64;
        let (at, mut last) = (start + (units - 1) * unit::LEN as i64, None);
        if units > 0 {
            self.walk(at, at, &mut |_, unit| last = Some(unit))?;
        }
        Ok(last)
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(super) fn take_unsynced(&mut self) -> Vec<(i64, Arc<dyn DiskFile>)> {
        std::mem::take(&mut self.unsynced).into_iter().collect()
    }

    pub(super) fn put_back(&mut self, files: Vec<(i64, Arc<dyn DiskFile>)>) {
        self.unsynced
            .extend(files.into_iter().filter(|(start, _)| self.files.contains_key(start)));
    }

    /// Visits the units from a position on, until the visitor stops, or something is no unit. Returns where it stopped.
    pub(super) fn scan(&self, from: i64, visit: &mut dyn FnMut(i64, i64, Unit) -> Scan) -> Result<i64, StoreError> {
        let mut at = from;
        let mut bytes = vec![0; AHEAD];
        while let Some((start, file)) = self.files.range(..=at).next_back() {
            if at >= start + self.file_bytes {
                break;
            }
            let wanted = (AHEAD as i64).min(start + self.file_bytes - at) as usize;
            let read = file
                .read_at(&mut bytes[..wanted], (at - start) as u64)
                .map_err(|e| self.error("read", *start, e))?;
            let block_at = at;
            for one in bytes[..read].chunks_exact(unit::LEN) {
                let Some((prev, unit)) = one.first_chunk().and_then(Unit::decode) else {
                    break;
                };
                if visit(at, prev, unit) == Scan::Stop {
                    return Ok(at);
                }
                at += unit::LEN as i64;
            }
            let rest = &bytes[(at - block_at) as usize..read];
            if is_filler(rest) {
                at = start + self.file_bytes;
            } else if !rest.is_empty() || read == 0 {
                return Ok(at);
            }
        }
        Ok(at)
    }

    /// As [`Self::scan`], of units before the end that must be whole.
    pub(super) fn scan_whole(&self, from: i64, visit: &mut dyn FnMut(i64, i64, Unit) -> Scan) -> Result<i64, StoreError> {
        let mut stopped = false;
        let at = self.scan(from, &mut |at, prev, unit| {
            let scan = if at >= self.end { Scan::Stop } else { visit(at, prev, unit) };
            stopped = scan == Scan::Stop;
            scan
        })?;
        if !stopped && at < self.end {
            return Err(self.no_unit(at));
        }
        Ok(at)
    }

    fn no_unit(&self, at: i64) -> StoreError {
        StoreError::Corrupt(format!("there is no unit at position {at} of {}", self.dir.display()))
    }

    /// Visits the unit at `last` and those before it in the same slot, but for those below `lowest`.
    pub(super) fn walk(&self, last: i64, lowest: i64, visit: &mut dyn FnMut(i64, Unit)) -> Result<(), StoreError> {
        let (mut at, mut block_at, mut block) = (last, 0, Vec::new());
        while at >= lowest && at >= 0 {
            if at < block_at || at + unit::LEN as i64 > block_at + block.len() as i64 {
                (block_at, block) = self.block_to(at + unit::LEN as i64)?;
            }
            let unit = usize::try_from(at - block_at)
                .ok()
                .and_then(|from| block.get(from..)?.first_chunk());
            let Some((prev, unit)) = unit.and_then(Unit::decode).filter(|(prev, _)| *prev < at) else {
                return Err(self.no_unit(at));
            };
            visit(at, unit);
            at = prev;
        }
        Ok(())
    }

    /// The bytes before a position, within its file.
    fn block_to(&self, to: i64) -> Result<(i64, Vec<u8>), StoreError> {
        let Some((start, file)) = self.files.range(..to).next_back() else {
            return Err(self.no_unit(to));
        };
        let from = (to - BACK as i64).max(*start);
        let mut bytes = vec![0; (to - from) as usize];
        let read = file
            .read_at(&mut bytes, (from - start) as u64)
            .map_err(|e| self.error("read", *start, e))?;
        bytes.truncate(read);
        Ok((from, bytes))
    }
}

fn is_filler(bytes: &[u8]) -> bool {
    bytes.get(12..FILLER_LEN).is_some_and(|mark| *mark == FILLER_MARK.to_be_bytes())
}
