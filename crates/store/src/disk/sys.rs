//! The system calls that the standard library does not offer, each behind a safe function.
//!
//! The only file of the crate with `unsafe`. Not here: any decision; callers loop, retry and choose.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Space;

/// Maximum slices of one system call (`IOV_MAX` on Linux).
pub(super) const SLICES_MAX: usize = 1024;

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "file offset over 2^63"))
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `pwritev`: bytes written, possibly fewer than given. At most [`SLICES_MAX`] slices are looked at.
pub(super) fn write_vectored_at(file: &File, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = signed(offset)?;
    let used = slices.len().min(SLICES_MAX);
    // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`; the first `used` slices are valid for reads for the
    // duration of the call, as they are borrowed; the descriptor is open, as `file` is borrowed.
    count(unsafe { libc::pwritev(file.as_raw_fd(), slices.as_ptr().cast(), used as libc::c_int, offset) })
}

/// `preadv2` with `RWF_NOWAIT`: what the page cache has from `offset` on.
pub(super) fn read_cached_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = signed(offset)?;
    let vector = libc::iovec {
        iov_base: out.as_mut_ptr().cast(),
        iov_len: out.len(),
    };
    // SAFETY: the one vector points to `out`, borrowed mutably for the duration of the call; the descriptor is open.
    count(unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, offset, libc::RWF_NOWAIT) })
}

/// `lseek` with `SEEK_DATA`: the next byte that is not in a hole or a block never written. Moves the file's own position,
/// which nothing here uses.
pub(super) fn seek_data(file: &File, offset: u64) -> io::Result<u64> {
    let offset = signed(offset)?;
    // SAFETY: no memory is passed; the descriptor is open.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset, libc::SEEK_DATA) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

/// `lseek` with `SEEK_HOLE`: the next byte that is, from which on nothing was written; the file's end at the latest.
pub(super) fn seek_hole(file: &File, offset: u64) -> io::Result<u64> {
    let offset = signed(offset)?;
    // SAFETY: no memory is passed; the descriptor is open.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset, libc::SEEK_HOLE) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

/// `fallocate`: takes blocks for the first `len` bytes and makes the file at least that long.
pub(super) fn reserve(file: &File, len: u64) -> io::Result<()> {
    let len = signed(len)?;
    // SAFETY: no memory is passed; the descriptor is open.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `fallocate` with `FALLOC_FL_PUNCH_HOLE`: gives back the blocks of a range, which reads as zeros from then on.
pub(super) fn punch_hole(file: &File, range: std::ops::Range<u64>) -> io::Result<()> {
    let (offset, len) = (signed(range.start)?, signed(range.end.saturating_sub(range.start))?);
    if len == 0 {
        return Ok(());
    }
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: no memory is passed; the descriptor is open.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `syncfs`: everything of the file system that the file is on. Reports errors of earlier writes, too (Linux 5.8 and later).
pub(super) fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: no memory is passed; the descriptor is open.
    let failed = unsafe { libc::syncfs(file.as_raw_fd()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `statvfs` of the file system that `path` is on.
pub(super) fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL in a path"))?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is NUL-terminated and lives through the call; `answer` is valid for writes of a `statvfs`.
    let failed = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure.
    let answer = unsafe { answer.assume_init() };
    let unit = answer.f_frsize;
    Ok(Space {
        total: answer.f_blocks.saturating_mul(unit),
        free: answer.f_bfree.saturating_mul(unit),
        available: answer.f_bavail.saturating_mul(unit),
    })
}

/// Takes the write lock on the file's first byte, for this open file, without waiting. Conflicts with the POSIX lock of a JVM,
/// which `flock` would not.
pub(super) fn lock_first_byte(file: &File) -> io::Result<()> {
    let lock = first_byte();
    // SAFETY: the descriptor is open and `lock` lives through the call, which only reads it.
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether another process holds the lock that [`lock_first_byte`] takes.
pub(super) fn is_first_byte_locked(file: &File) -> io::Result<bool> {
    let mut lock = first_byte();
    // SAFETY: the descriptor is open and `lock` is exclusively borrowed for the call, which writes its answer there.
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if failed == 0 {
        Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The write lock on a file's first byte.
fn first_byte() -> libc::flock {
    // SAFETY: `flock` is a plain C structure for which all zeros are a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_len = 1;
    lock
}

/// The local hour of the day, 0 to 23; 0 if it is unknown.
pub(crate) fn local_hour(now_ms: i64) -> u8 {
    local_time(now_ms).map_or(0, |parts| u8::try_from(parts.tm_hour).unwrap_or(0))
}

/// The number of the local day since 1970: it changes at local midnight. UTC's if the time zone is unknown.
#[must_use]
pub fn local_day(now_ms: i64) -> i64 {
    let ahead_s = local_time(now_ms).map_or(0, |parts| parts.tm_gmtoff);
    (now_ms.div_euclid(1000) + ahead_s).div_euclid(86_400)
}

fn local_time(now_ms: i64) -> Option<libc::tm> {
    let seconds: libc::time_t = now_ms.div_euclid(1000);
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to live values of the right types; the result is read only when the call says it filled it.
    let filled = unsafe { !libc::localtime_r(&raw const seconds, parts.as_mut_ptr()).is_null() };
    // SAFETY: the call returned its second argument, so it filled the structure.
    filled.then(|| unsafe { parts.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_turns_when_the_hour_is_midnight() {
        let now_ms = 1_700_000_000_000;
        let until_midnight_ms = i64::from(24 - local_hour(now_ms)) * 3_600_000;
        assert_eq!(local_day(now_ms + until_midnight_ms), local_day(now_ms) + 1);
        assert_eq!(local_day(now_ms + 86_400_000), local_day(now_ms) + 1);
    }
}
