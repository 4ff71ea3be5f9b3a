//! Finding the end of the log after a stop: scan, check, cut.
//!
//! A scan reads records forward from a place known to be a record's beginning and stops at the first that is not whole:
//! wrong lengths, wrong CRC, a position that is not its own, or fields that no broker writes (a torn page reads as zeros).
//! What lies behind that place was never confirmed, and is erased: else a later crash could find a stale record there that
//! fits by chance.

use super::segment::{Segment, Segments};
use super::window::{Found, READ_BYTES, Window};
use crate::error::StoreError;
use message::record::{Peek, Record, STORE_TIMESTAMP_END, peek, peek_store_timestamp};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Reads records from `from` on and gives each to `visit`. Returns the end of the log.
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

/// Reads the records that begin from `from` on and before `to`, all of them confirmed, and gives each to `visit`. A place
/// without a whole record is passed over, to the next file. Returns where it ended: at `to` or behind it.
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
                        "no whole record here; keys of what follows in this file are not indexed"
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

/// Where a scan begins in a directory whose last writer left no exact place (Apache's): the newest file whose first
/// message was stored before `safe_timestamp`, else the oldest file.
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

/// Whether the file's first message was stored at `safe_timestamp` or before it.
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

/// Whether a whole record of that size begins at a place.
///
/// # Errors
/// `StoreError::Io` if the log cannot be read.
pub(crate) fn is_record(segments: &Segments, at: i64, size: i32) -> Result<bool, StoreError> {
    let Some(segment) = segments.holding(at) else { return Ok(false) };
    let mut window = Window::new(&segment, at);
    Ok(matches!(window.look(at, false)?, Found::Record(record) if i64::from(size) == record.size as i64))
}

/// Writes what stands between two places once more, and syncs it. A sync that failed has left bytes in the page cache that
/// are not on the disk and that no other sync would write: records that follow them would be lost with them.
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

/// Goes through parts of a file block by block: `change` makes of each what is to stand there, and says whether to write it.
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

/// Makes everything from `end` on read as zeros. The next sync of the file makes that durable, and what is written there.
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
    // Found before anything is read: on some file systems what was read counts as data from then on.
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
