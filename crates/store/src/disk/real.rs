//! The operating system's files (Linux).
//!
//! Not here: `unsafe` (in `sys`), and a cache of open files; callers bound how many they keep open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Allocate, DirEntry, Disk, DiskFile, Lock, OpenMode, Space, if_exists, parent, sys, with_suffix};

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(mode != OpenMode::Read)
            .create(mode == OpenMode::WriteOrCreate);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create(&self, path: &Path, len: u64, allocate: Allocate) -> io::Result<Arc<dyn DiskFile>> {
        if self.exists(path)? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let fresh = with_suffix(path, ".tmp");
        let made = create_whole(&fresh, len, allocate).and_then(|file| {
            fs::rename(&fresh, path)?;
            self.sync_dir(parent(path))?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Arc::new(RealFile(file))),
            Err(error) => {
                // Frees the blocks, mainly if they ran out; the first error is reported.
                let _ = fs::remove_file(&fresh);
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for found in fs::read_dir(dir)? {
            let found = found?;
            let Ok(name) = found.file_name().into_string() else { continue };
            let metadata = match found.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry {
                name,
                len: if is_dir { 0 } else { metadata.len() },
                is_dir,
                modified_ms: modified_ms(&metadata),
            });
        }
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            // Removed, so that the next call does not find a directory that is perhaps not durable.
            Ok(()) => self.sync_dir(parent(dir)).inspect_err(|_| drop(fs::remove_dir(dir))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::metadata(dir)?.is_dir() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent(dir) != dir => {
                self.create_dir_all(parent(dir))?;
                self.create_dir_all(dir)
            }
            Err(error) => Err(error),
        }
    }

    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        if_exists(fs::remove_dir_all(dir)).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        sys::sync_file_system(&File::open(path)?)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        sys::space(path)
    }

    fn boot(&self) -> Option<String> {
        let name = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match sys::lock_first_byte(&file) {
            Ok(()) => Ok(Box::new(RealLock(file))),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{} is locked by another process", path.display()),
            )),
            Err(error) => Err(error),
        }
    }

    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        if_exists(File::open(path))?.map_or(Ok(false), |file| sys::is_first_byte_locked(&file))
    }
}

fn create_whole(path: &Path, len: u64, allocate: Allocate) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    if allocate == Allocate::Reserved && len > 0 {
        sys::reserve(&file, len)?;
    }
    file.set_len(len)?;
    file.sync_all()?;
    Ok(file)
}

fn modified_ms(metadata: &fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// The lock lasts as long as the descriptor.
#[derive(Debug)]
struct RealLock(#[allow(dead_code)] File);

impl Lock for RealLock {}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match self.0.read_at(&mut out[done..], offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match sys::read_cached_at(&self.0, &mut out[done..], offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A file system without this call: the caller has to use the way that may block.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.len()?;
        if offset >= len {
            return Ok(None);
        }
        match sys::seek_data(&self.0, offset) {
            Ok(found) => Ok(Some(found..sys::seek_hole(&self.0, found)?)),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            // A file system without this call: every byte may be data.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Some(offset..len)),
            Err(error) => Err(error),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let (mut rest, mut offset) = (slices, offset);
        while !rest.is_empty() {
            let written = match sys::write_vectored_at(&self.0, rest, offset) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            offset = offset.saturating_add(written as u64);
            let (whole, partial) = skip(rest, written);
            if partial > 0 {
                // The kernel stopped within a slice: write the rest of that one alone, then continue with vectors.
                self.0.write_all_at(&rest[whole][partial..], offset)?;
                offset = offset.saturating_add((rest[whole].len() - partial) as u64);
                rest = &rest[whole + 1..];
            } else if whole == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            } else {
                rest = &rest[whole..];
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn make_zeros(&self, range: Range<u64>) -> io::Result<()> {
        match sys::punch_hole(&self.0, range.clone()) {
            // A file system without holes.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => super::write_zeros(self, range),
            other => other,
        }
    }
}

/// How many slices `written` bytes cover completely, and how many bytes of the next one.
fn skip(slices: &[IoSlice<'_>], written: usize) -> (usize, usize) {
    let mut left = written;
    for (at, slice) in slices.iter().enumerate() {
        if left < slice.len() {
            return (at, left);
        }
        left -= slice.len();
    }
    (slices.len(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_zeros_and_the_length_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk.create(&path, 100_000, Allocate::Sparse).unwrap();
        file.write_at(&[7; 100_000], 0).unwrap();
        file.make_zeros(30_001..100_000).unwrap();
        let mut bytes = vec![1; 100_000];
        assert_eq!((file.read_at(&mut bytes, 0).unwrap(), file.len().unwrap()), (100_000, 100_000));
        assert!(bytes[..30_001].iter().all(|byte| *byte == 7) && bytes[30_001..].iter().all(|byte| *byte == 0));
        file.make_zeros(100_000..100_000).unwrap();
    }

    #[test]
    fn vectored_write_of_more_slices_than_one_call_takes_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = RealDisk.create(&path, 4096, Allocate::Reserved).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000u32).map(|i| vec![(i % 251) as u8; (i % 7) as usize]).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_vectored_at(&slices, 3).unwrap();
        let expected: Vec<u8> = parts.concat();
        let mut read = vec![0; expected.len()];
        assert_eq!(file.read_at(&mut read, 3).unwrap(), expected.len());
        assert_eq!(read, expected);
        // The kernel may refuse a read that must not wait, whatever is in the page cache.
        let begun = std::time::Instant::now();
        let cached = std::iter::repeat_with(|| file.read_cached_at(&mut read[..10], 3)).find(|outcome| {
            let refused = matches!(outcome, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            !refused || begun.elapsed().as_secs() > 30
        });
        assert_eq!(cached.unwrap().unwrap(), 10);
    }

    #[test]
    fn created_file_has_its_length_and_no_second_creation_is_possible() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/f");
        RealDisk.create_dir_all(parent(&path)).unwrap();
        RealDisk.create_dir_all(parent(&path)).unwrap();
        let file = RealDisk.create(&path, 10_000, Allocate::Reserved).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        assert_eq!(
            RealDisk.create(&path, 1, Allocate::Sparse).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let names: Vec<String> = RealDisk.list(parent(&path)).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["f"]);
    }

    #[test]
    fn too_large_a_reservation_fails_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(RealDisk.create(&path, 1 << 43, Allocate::Reserved).is_err());
        assert!(RealDisk.list(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn replace_keeps_the_previous_content_as_bak() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topics.json");
        RealDisk.replace(&path, b"one").unwrap();
        RealDisk.replace(&path, b"two!").unwrap();
        RealDisk.replace(&path, b"3").unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"3");
        assert_eq!(RealDisk.read(&with_suffix(&path, ".bak")).unwrap(), b"two!");
        assert!(!RealDisk.exists(&with_suffix(&path, ".tmp")).unwrap());
    }

    #[test]
    fn second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = RealDisk.lock(&path).unwrap();
        assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        assert!(RealDisk.lock(&path).is_ok());
    }

    #[test]
    fn space_counts_what_the_administrator_keeps_as_no_room() {
        let space = Space {
            total: 100,
            free: 30,
            available: 20,
        };
        assert!((space.used_ratio() - 70.0 / 90.0).abs() < 1e-9);
        let real = RealDisk.space(Path::new("/")).unwrap();
        assert!(real.total >= real.free && real.free >= real.available);
    }
}
