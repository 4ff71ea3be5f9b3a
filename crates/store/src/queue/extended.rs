//! Reads values of entries that Java's broker writes into files of their own with `enableConsumeQueueExt`.
//!
//! Compat: if an entry's last field is below every tag hash, it is an address in the sequence of files in
//! `consumequeue_ext/TOPIC/QUEUE`, counted from the smallest number of 64 bits. A unit is stored there, integers big-endian:
//!
//! | field | bytes |
//! |---|---|
//! | bytes of the unit | 2 |
//! | the value: hash of the tag, or time of delivery | 8 |
//! | store time of the message | 8 |
//! | bytes of the bit map, the bit map | 2 + n |
//!
//! The files are only read. Entries that are written here have the value itself, which Java's broker understands with any setting.

use std::io;
use std::path::{Path, PathBuf};

use super::open_files::OpenFiles;
use crate::disk::{Disk, DiskFile, OpenMode, if_exists, with_suffix};

/// Bytes of a unit without a bit map.
const UNIT_LEN: usize = 20;

/// Whether the last field of an entry is an address in `consumequeue_ext`, not the value itself.
#[must_use]
pub const fn is_ext_address(value: i64) -> bool {
    value < i32::MIN as i64
}

/// The directory of these files for queues whose files are in `queue_dir`.
pub(crate) fn dir_beside(queue_dir: &Path) -> PathBuf {
    with_suffix(queue_dir, "_ext")
}

/// The files of one queue.
#[derive(Debug)]
pub(crate) struct Extended {
    dir: PathBuf,
    serial: u64,
    /// Address of the beginning of each file, in order.
    begins: Vec<i64>,
}

impl Extended {
    /// The files of a queue whose other files are in `queue_dir/TOPIC/QUEUE`, if it has any. `serial` identifies them among open
    /// files.
    pub(crate) fn find(disk: &dyn Disk, queue_dir: &Path, topic: &str, queue_id: i32, serial: u64) -> io::Result<Option<Self>> {
        let dir = dir_beside(queue_dir).join(topic).join(queue_id.to_string());
        let Some(entries) = if_exists(disk.list(&dir))? else {
            return Ok(None);
        };
        let files = entries.iter().filter(|entry| !entry.is_dir && entry.name.len() == UNIT_LEN);
        let mut begins: Vec<i64> = files.filter_map(|entry| entry.name.parse().ok()).collect();
        begins.sort_unstable();
        Ok((!begins.is_empty()).then_some(Self { dir, serial, begins }))
    }

    /// The value at an address; `None` if there is no unit.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be read; [`io::ErrorKind::WouldBlock`] if `cached_only` is set and it is not in the page
    /// cache.
    pub(crate) fn value(&self, disk: &dyn Disk, open: &OpenFiles, place: i64, cached_only: bool) -> io::Result<Option<i64>> {
        let at = place.wrapping_sub(i64::MIN);
        let Some(begin) = self.begins.partition_point(|begin| *begin <= at).checked_sub(1) else {
            return Ok(None);
        };
        let begin = self.begins[begin];
        // Compat: such a file has a length of 31 bits.
        if at - begin > i64::from(i32::MAX) {
            return Ok(None);
        }
        let path = self.dir.join(format!("{begin:020}"));
        let file = open
            .take((self.serial, begin), || disk.open(&path, OpenMode::Read))
            .map_err(|error| named(&path, error))?;
        let mut unit = [0; UNIT_LEN];
        let read = read(&*file, &mut unit, (at - begin).unsigned_abs(), cached_only).map_err(|error| named(&path, error))?;
        Ok((read == UNIT_LEN).then(|| value_of(unit)).flatten())
    }
}

fn read(file: &dyn DiskFile, out: &mut [u8], at: u64, cached_only: bool) -> io::Result<usize> {
    if cached_only {
        file.read_cached_at(out, at)
    } else {
        file.read_at(out, at)
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => error,
        kind => io::Error::new(kind, format!("file of extended queue entries {}: {error}", path.display())),
    }
}

fn value_of(unit: [u8; UNIT_LEN]) -> Option<i64> {
    let [a, b, c, d, e, f, g, h, i, j, .., y, z] = unit;
    let (len, bit_map_len) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([y, z]));
    let is_unit = bit_map_len >= 0 && i32::from(len) == UNIT_LEN as i32 + i32::from(bit_map_len);
    is_unit.then(|| i64::from_be_bytes([c, d, e, f, g, h, i, j]))
}
