//! Recovery of the log: finds its end and erases what follows.
//!
//! A scan reads records from a place where one begins, and stops at the first that is not whole: wrong lengths, wrong CRC, another
//! log offset, or fields that no broker writes (a torn page reads as zeros). What follows was never confirmed. It is erased, or
//! else a later recovery could take a stale record there for one of the log.

use super::segment::{Segment, Segments};
use super::window::{Found, READ_BYTES, Window};
use crate::error::StoreError;
use message::record::{Peek, Record, STORE_TIMESTAMP_END, peek, peek_store_timestamp};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Passes the records from `from` on to `visit`. Returns the end of the log.
///
/// # Errors
/// `StoreError::Io` if the log cannot be read, and the errors of `visit`. Bytes that are not a record end the log; they are not an
/// error.
pub(crate) fn scan(
    segments: &Segments,
    from: i64,
    check_crc: bool,
    mut visit: impl FnMut(&Record<'_>) -> Result<(), StoreError>,
) -> Result<i64, StoreError> {
    let mut at = from;
    while let Some(segment) = segments.holding(at) {
        match scan_segment(&segment, at, check_crc, &mut visit)? {
            SegmentEnd::Full => at = segment.end(),
            SegmentEnd::LogEnd(end) => return Ok(end),
        }
    }
    Ok(at)
}

/// Passes the records that begin from `from` on and before `to`, all of them confirmed, to `visit`. If there is no whole record,
/// continues in the next file. Returns the log offset where it ended: `to` or behind it.
///
/// # Errors
/// `StoreError::Io` if the log cannot be read, and the errors of `visit`.
pub(crate) fn scan_part(
    segments: &Segments,
    from: i64,
    to: i64,
    mut visit: impl FnMut(&Record<'_>) -> Result<(), StoreError>,
) -> Result<i64, StoreError> {
    let mut at = from;
    while at < to {
        let Some(segment) = segments.holding(at) else { return Ok(to) };
        let mut window = Window::new(&segment, at);
        while at < to {
            match window.look(at, false)? {
                Found::Record(record) => {
                    visit(&record)?;
                    at += record.size as i64;
                }
                Found::NextFile => {
                    at = segment.end();
                    break;
                }
                found @ (Found::Nothing | Found::Bad(_)) => {
                    tracing::error!(
                        at,
                        ?found,
                        "no whole record here; keys of messages behind it in this file are not indexed"
                    );
                    at = segment.end();
                    break;
                }
            }
        }
    }
    Ok(at)
}

enum SegmentEnd {
    /// The log goes on in the next file.
    Full,
    LogEnd(i64),
}

fn scan_segment(
    segment: &Arc<Segment>,
    from: i64,
    check_crc: bool,
    visit: &mut impl FnMut(&Record<'_>) -> Result<(), StoreError>,
) -> Result<SegmentEnd, StoreError> {
    let mut window = Window::new(segment, from);
    let mut at = from;
    loop {
        match window.look(at, check_crc)? {
            Found::Record(record) => {
                visit(&record)?;
                at += record.size as i64;
            }
            Found::NextFile => return Ok(SegmentEnd::Full),
            Found::Nothing | Found::Bad(_) => return Ok(SegmentEnd::LogEnd(at)),
        }
    }
}

/// Where to begin the scan of a directory whose last writer left no exact offset (Apache's): the newest file whose first message
/// was stored before `safe_timestamp`, otherwise the oldest file.
///
/// # Errors
/// `StoreError::Io` if a file cannot be read.
pub(crate) fn start_by_time(segments: &Segments, safe_timestamp: i64) -> Result<Option<i64>, StoreError> {
    let all = segments.all();
    for segment in all.iter().rev() {
        if begins_before(segment, safe_timestamp)? {
            return Ok(Some(segment.base));
        }
    }
    Ok(all.first().map(|s| s.base))
}

/// Whether the file's first message was stored at or before `safe_timestamp`.
///
/// # Errors
/// `StoreError::Io` if the file cannot be read.
pub(crate) fn begins_before(segment: &Segment, safe_timestamp: i64) -> Result<bool, StoreError> {
    let mut head = [0; STORE_TIMESTAMP_END];
    let read = segment.file.read_at(&mut head, 0);
    let read = read.map_err(|e| StoreError::Io {
        action: "read",
        path: format!("commit log at {}", segment.base),
        source: e,
    })?;
    let whole = matches!(peek(&head[..read]), Peek::Record { .. });
    Ok(whole && peek_store_timestamp(&head[..read]).is_some_and(|stored| stored > 0 && stored <= safe_timestamp))
}

/// Whether a whole record of that size begins at an offset.
///
/// # Errors
/// `StoreError::Io` if the log cannot be read.
pub(crate) fn is_record(segments: &Segments, at: i64, size: i32) -> Result<bool, StoreError> {
    let Some(segment) = segments.holding(at) else { return Ok(false) };
    let mut window = Window::new(&segment, at);
    Ok(matches!(window.look(at, false)?, Found::Record(record) if i64::from(size) == record.size as i64))
}

/// Rewrites and syncs the log between two offsets. After a failed sync the page cache may have bytes that are not on the disk and
/// that no later sync would write: records behind them would be lost with them.
///
/// # Errors
/// `StoreError::Io` if the log cannot be read, written or synced.
pub(crate) fn write_again(segments: &Segments, from: i64, to: i64) -> Result<(), StoreError> {
    for segment in segments.all().iter().filter(|s| s.end() > from && s.base <= to) {
        let failed = |action, e| StoreError::Io {
            action,
            path: format!("commit log file {}", segment.base),
            source: e,
        };
        let part = segment.position(from.max(segment.base))..segment.position(to.min(segment.end()));
        rewrite(segment, &[part], failed, |_| true)?;
        segment.file.sync_data().map_err(|e| failed("sync", e))?;
    }
    Ok(())
}

/// Rewrites parts of a file block by block: `change` modifies a block and returns whether to write it.
fn rewrite(
    segment: &Segment,
    parts: &[Range<u64>],
    failed: impl Fn(&'static str, io::Error) -> StoreError,
    change: impl Fn(&mut [u8]) -> bool,
) -> Result<(), StoreError> {
    let mut block = vec![0; READ_BYTES];
    for part in parts {
        let mut position = part.start;
        while position < part.end {
            let want = block.len().min((part.end - position) as usize);
            let read = segment.file.read_at(&mut block[..want], position).map_err(|e| failed("read", e))?;
            if read == 0 {
                break;
            }
            if change(&mut block[..read]) {
                segment.file.write_at(&block[..read], position).map_err(|e| failed("write", e))?;
            }
            position += read as u64;
        }
    }
    Ok(())
}

/// Erases the log from `end` on: it reads as zeros then. The next sync of the file makes that durable.
///
/// # Errors
/// `StoreError::Io` if files cannot be removed, read or written.
pub(crate) fn erase_after(segments: &Segments, end: i64) -> Result<(), StoreError> {
    segments.remove_from(end.saturating_add(1))?;
    let Some(segment) = segments.last().filter(|s| s.end() > end) else {
        return Ok(());
    };
    let failed = |action, e| StoreError::Io {
        action,
        path: format!("commit log at {end}"),
        source: e,
    };
    // Before anything is read: on some file systems what was read counts as data.
    let mut written = Vec::new();
    let mut position = segment.position(end);
    while let Some(data) = segment.file.next_data(position).map_err(|e| failed("read", e))? {
        position = data.end;
        written.push(data);
    }
    rewrite(&segment, &written, failed, |block| {
        let is_dirty = block.iter().any(|byte| *byte != 0);
        block.fill(0);
        is_dirty
    })
}
