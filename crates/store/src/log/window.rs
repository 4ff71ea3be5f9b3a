//! A moving view of one log file, and what stands at a place of it. Recovery and inspection read the log through this.
//!
//! A record counts only when it is whole: lengths, its own position, fields as a broker writes them, and the CRC where that
//! is asked for. No more than the file's head is read of what says it is a record and names another position, so a torn
//! length does not cost memory.

use super::segment::Segment;
use crate::error::StoreError;
use message::LogOffset;
use message::record::{FILLER_LEN, Peek, Record, RecordError, peek};
use std::fmt;

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 1 << 20;
/// Bytes of a record up to its own position, that included.
const HEAD_LEN: usize = 36;
/// Where in a record its own position stands.
const POSITION_AT: usize = 28;

/// A view of a file that moves forward with what is asked of it.
pub(crate) struct Window<'a> {
    segment: &'a Segment,
    buffer: Vec<u8>,
    start: i64,
}

/// What stands at a place of the log.
#[derive(Debug)]
pub(crate) enum Found<'w> {
    /// A whole record.
    Record(Record<'w>),
    /// The log goes on in the next file.
    NextFile,
    /// Nothing was written here.
    Nothing,
    /// Bytes that are no whole record.
    Bad(Bad),
}

/// Why bytes are no whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// They do not begin as one.
    Magic,
    /// It would reach over the end of its file.
    Length,
    /// It was written for another place.
    Position,
    /// Its parts do not add up.
    Parts(RecordError),
    /// A field has a value that no broker writes, zeros for text above all.
    Fields,
    /// The body does not have the CRC that is stored with it.
    Crc,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "no record begins here",
            Self::Length => "the record would reach over the end of its file",
            Self::Position => "the record was written for another place",
            Self::Parts(error) => return error.fmt(f),
            Self::Fields => "the record has a field that no broker writes",
            Self::Crc => "the body does not match its CRC",
        })
    }
}

/// What is there instead of the beginning of a record.
pub(super) enum NoRecord {
    /// As [`Found::NextFile`].
    NextFile,
    /// As [`Found::Nothing`].
    Nothing,
    /// As [`Found::Bad`].
    Bad(Bad),
}

impl From<NoRecord> for Found<'_> {
    fn from(found: NoRecord) -> Self {
        match found {
            NoRecord::NextFile => Self::NextFile,
            NoRecord::Nothing => Self::Nothing,
            NoRecord::Bad(bad) => Self::Bad(bad),
        }
    }
}

impl<'a> Window<'a> {
    /// A view that begins at an offset of the file.
    pub(crate) fn new(segment: &'a Segment, start: i64) -> Self {
        Self {
            segment,
            buffer: Vec::new(),
            start,
        }
    }

    /// The bytes at `at`; fewer only at the end of the file.
    ///
    /// # Errors
    /// `StoreError::Io` if the file cannot be read.
    pub(crate) fn bytes(&mut self, at: i64, len: usize) -> Result<&[u8], StoreError> {
        let have = self.start + self.buffer.len() as i64;
        if at < self.start || at + len as i64 > have {
            let left = usize::try_from(self.segment.end() - at).unwrap_or(0);
            self.buffer.resize(len.max(READ_BYTES).min(left), 0);
            let read = self.segment.file.read_at(&mut self.buffer, self.segment.position(at));
            let read = read.map_err(|e| StoreError::Io {
                action: "read",
                path: format!("commit log at {at}"),
                source: e,
            })?;
            self.buffer.truncate(read);
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(&self.buffer[from..(from + len).min(self.buffer.len())])
    }

    /// Looks at a place, which must be in the file.
    ///
    /// # Errors
    /// `StoreError::Io` if the file cannot be read.
    pub(crate) fn look(&mut self, at: i64, check_crc: bool) -> Result<Found<'_>, StoreError> {
        let left = self.segment.end() - at;
        match size_at(self.bytes(at, HEAD_LEN)?, at, left) {
            Ok(size) => Ok(record_at(self.bytes(at, size)?, at, check_crc).map_or_else(Found::Bad, Found::Record)),
            Err(found) => Ok(found.into()),
        }
    }
}

/// Bytes of the record whose first bytes are `head`, or what is there instead of a record. `at` is its log offset, and its file has
/// `left` bytes from there on. Of a head shorter than [`HEAD_LEN`] only a filler and the end of the log are known.
pub(super) fn size_at(head: &[u8], at: i64, left: i64) -> Result<usize, NoRecord> {
    if left < FILLER_LEN as i64 {
        return Err(NoRecord::NextFile);
    }
    let size = match peek(head) {
        Peek::Filler => return Err(NoRecord::NextFile),
        Peek::End => return Err(NoRecord::Nothing),
        Peek::Corrupt => return Err(NoRecord::Bad(Bad::Magic)),
        Peek::Record { size } if size as i64 > left => return Err(NoRecord::Bad(Bad::Length)),
        Peek::Record { size } => size,
    };
    if head.get(POSITION_AT..HEAD_LEN) != Some(&at.to_be_bytes()) {
        return Err(NoRecord::Bad(Bad::Position));
    }
    Ok(size)
}

/// The record that `bytes` are, all of them, or why recovery would not take it.
pub(super) fn record_at(bytes: &[u8], at: i64, check_crc: bool) -> Result<Record<'_>, Bad> {
    let record = Record::parse(bytes).map_err(Bad::Parts)?;
    if !record.is_plausible(LogOffset(at)) {
        Err(Bad::Fields)
    } else if check_crc && !record.crc_matches() {
        Err(Bad::Crc)
    } else {
        Ok(record)
    }
}
