//! A moving view of one log file, and what is at an offset of it. Recovery, inspection and raw appends check records here.
//!
//! A record is accepted only if it is whole: its lengths, its own log offset, fields as a broker writes them, and, if asked for,
//! the CRC. Of a record with another log offset only the beginning is read, so a torn length does not cost memory.

use super::segment::Segment;
use crate::error::StoreError;
use message::LogOffset;
use message::record::{FILLER_LEN, Peek, Record, RecordError, peek};
use std::fmt;

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 1 << 20;
/// Bytes of a record up to and including its log offset.
const HEAD_LEN: usize = 36;
/// Position of its log offset in a record.
const POSITION_AT: usize = 28;

/// A view of a file that moves forward.
pub(crate) struct Window<'a> {
    segment: &'a Segment,
    buffer: Vec<u8>,
    start: i64,
}

/// What is at an offset of the log.
#[derive(Debug)]
pub(crate) enum Found<'w> {
    /// A whole record.
    Record(Record<'w>),
    /// The log continues in the next file.
    NextFile,
    /// Nothing was written here.
    Nothing,
    /// Bytes that are not a whole record.
    Bad(Bad),
}

/// Why bytes are not a whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// They do not begin like a record.
    Magic,
    /// It would go beyond the end of its file.
    Length,
    /// It has another log offset.
    Position,
    /// Its lengths are inconsistent.
    Parts(RecordError),
    /// A field has a value that no broker writes, mostly zeros for text.
    Fields,
    /// The body does not match its CRC.
    Crc,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "no record begins here",
            Self::Length => "the record goes beyond the end of its file",
            Self::Position => "the record has another log offset",
            Self::Parts(error) => return error.fmt(f),
            Self::Fields => "the record has a field value that no broker writes",
            Self::Crc => "the body does not match its CRC",
        })
    }
}

/// What is there if no record begins.
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

    /// The bytes at `at`; fewer at the end of the file.
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

    /// Examines an offset, which must be in the file.
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

/// The size of the record that begins with `head`, or what is there instead. `at` is its log offset, and its file has `left` bytes
/// from there on. A head shorter than [`HEAD_LEN`] can only be a filler or the end of the log.
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

/// Parses a whole record from exactly `bytes`, or returns why recovery would not accept it.
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
