//! One index file on the disk: its header, and following a key's chain. Files that are not being filled are open only while a query
//! reads them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::{HEADER_LEN, Header, ITEM_LEN, IndexOptions, Item, SLOT_LEN};
use crate::disk::{Disk, DiskFile, OpenMode, if_exists};

/// An index file that need not be open.
#[derive(Clone, Debug)]
pub(crate) struct IndexFile {
    pub(crate) path: PathBuf,
    /// The name as a number, which orders the files.
    pub(super) number: u64,
    /// Bytes of the file.
    pub(super) len: u64,
    pub(crate) header: Header,
    /// Whether the file has the configured slot and item counts. If not, it cannot be read, only removed.
    pub(crate) is_readable: bool,
}

impl IndexFile {
    /// Its name in the directory.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        self.path.file_name().map(OsStr::to_string_lossy).unwrap_or_default()
    }
}

/// A query in one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) key_hash: i32,
    pub(crate) begin: i64,
    pub(crate) end: i64,
    pub(crate) max: usize,
}

/// The files of an index directory, oldest first; none if it does not exist. Files that retention removes meanwhile are skipped.
pub(crate) fn list(disk: &dyn Disk, dir: &Path, options: IndexOptions) -> io::Result<Vec<IndexFile>> {
    let entries = if_exists(disk.list(dir))?.unwrap_or_default();
    let mut files = Vec::new();
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let Ok(number) = entry.name.parse::<u64>() else { continue };
        let path = dir.join(&entry.name);
        let read = disk.open(&path, OpenMode::Read).and_then(|file| read_header(&*file, options));
        let header = if_exists(read).map_err(|error| io::Error::new(error.kind(), format!("index file {}: {error}", path.display())))?;
        let Some(header) = header else { continue };
        files.push(IndexFile {
            path,
            number,
            len: entry.len,
            header,
            is_readable: entry.len == options.file_len(),
        });
    }
    files.sort_unstable_by_key(|file| file.number);
    Ok(files)
}

pub(super) fn read_header(file: &dyn DiskFile, options: IndexOptions) -> io::Result<Header> {
    let mut bytes = [0; HEADER_LEN];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(if read == HEADER_LEN {
        Header::decode(&bytes, options)
    } else {
        Header::EMPTY
    })
}

/// Follows a key's chain in a file that is not being filled.
pub(crate) fn find_in(
    file: &dyn DiskFile,
    options: IndexOptions,
    header: &Header,
    wanted: Wanted,
    steps: &mut u32,
    out: &mut Vec<i64>,
) -> io::Result<()> {
    find(options, header, wanted, steps, out, |at, bytes| read_whole(file, bytes, at))
}

/// Reads bytes of a file.
///
/// # Errors
/// [`io::Error`] if the file cannot be read; `UnexpectedEof` if the file ends before that.
pub(super) fn read_whole(file: &dyn DiskFile, out: &mut [u8], at: u64) -> io::Result<()> {
    match file.read_at(out, at)? {
        read if read == out.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The item number in a slot; 0 if no item before `next` has it.
fn read_slot(at: u64, next: u32, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<u32> {
    let mut bytes = [0; SLOT_LEN];
    read(at, &mut bytes)?;
    let number = u32::from_be_bytes(bytes);
    Ok(if number < next { number } else { 0 })
}

/// Newest first. Numbers in a chain fall, or it ends there: loops in damaged bytes are not followed.
pub(super) fn find(
    options: IndexOptions,
    header: &Header,
    wanted: Wanted,
    steps: &mut u32,
    out: &mut Vec<i64>,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut number = read_slot(options.slot_at(options.slot_of(wanted.key_hash)), header.next, &read)?;
    while number > 0 && out.len() < wanted.max && *steps > 0 {
        *steps -= 1;
        let mut bytes = [0; ITEM_LEN];
        read(options.item_at(number), &mut bytes)?;
        let item = Item::decode(&bytes);
        if item.seconds < 0 {
            return Ok(());
        }
        let stored = header.stored(&item);
        let is_in_time = stored >= wanted.begin && stored <= wanted.end;
        // A record that has the key twice (as a key and as its unique key) is in the chain twice.
        if item.key_hash == wanted.key_hash && is_in_time && out.last() != Some(&item.log_offset) {
            out.push(item.log_offset);
        }
        if stored < wanted.begin {
            return Ok(());
        }
        let before = item.before.max(0).unsigned_abs();
        number = if before < number { before } else { 0 };
    }
    Ok(())
}
