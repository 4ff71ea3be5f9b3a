//! Locks and open files of a simulated disk. They only refer to the disk's state.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;

use super::{SimulatedDisk, index};
use crate::disk::{DiskFile, Lock};

#[derive(Debug)]
pub(super) struct SimulatedLock {
    pub(super) disk: SimulatedDisk,
    pub(super) path: PathBuf,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.0.lock().locked.remove(&self.path);
    }
}

#[derive(Debug)]
pub(super) struct SimulatedFile {
    pub(super) disk: SimulatedDisk,
    pub(super) id: usize,
}

/// A block of a file without data.
const ZEROS: [u8; 4096] = [0; 4096];

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.on()?.files[self.id].content.len() as u64)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = &mut self.disk.on()?.files[self.id];
        file.cold = false;
        let from = index(offset)?.min(file.content.len());
        let read = out.len().min(file.content.len() - from);
        out[..read].copy_from_slice(&file.content[from..from + read]);
        Ok(read)
    }

    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.disk.on()?.files[self.id].cold {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(out, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let content = &self.disk.on()?.files[self.id].content;
        let from = index(offset)?.min(content.len());
        // Blocks are compared as a whole: large files are mostly empty.
        let blocks = || content[from..].chunks(ZEROS.len()).map(|block| block == &ZEROS[..block.len()]);
        let Some(first) = blocks().position(|is_empty| !is_empty) else {
            return Ok(None);
        };
        let count = blocks().skip(first).take_while(|is_empty| !is_empty).count();
        let begin = from + first * ZEROS.len();
        let end = content.len().min(begin + count * ZEROS.len());
        Ok(Some(begin as u64..end as u64))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.on()?.write(self.id, bytes, offset)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write_at(&bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.1.pass();
        self.disk.on()?.sync_file(self.id)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.on()?.set_len(self.id, len)
    }
}
