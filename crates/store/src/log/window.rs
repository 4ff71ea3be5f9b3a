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
    /// The disk's.
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
    /// The disk's.
    pub(crate) fn look(&mut self, at: i64, check_crc: bool) -> Result<Found<'_>, StoreError> {
        let left = self.segment.end() - at;
        if left < FILLER_LEN as i64 {
            return Ok(Found::NextFile);
        }
        let size = match peek(self.bytes(at, FILLER_LEN)?) {
            Peek::Filler => return Ok(Found::NextFile),
            Peek::End => return Ok(Found::Nothing),
            Peek::Corrupt => return Ok(Found::Bad(Bad::Magic)),
            Peek::Record { size } if size as i64 > left => return Ok(Found::Bad(Bad::Length)),
            Peek::Record { size } => size,
        };
        if self.bytes(at, HEAD_LEN)?.get(POSITION_AT..) != Some(&at.to_be_bytes()) {
            return Ok(Found::Bad(Bad::Position));
        }
        let record = match Record::parse(self.bytes(at, size)?) {
            Ok(record) => record,
            Err(error) => return Ok(Found::Bad(Bad::Parts(error))),
        };
        Ok(if !record.is_plausible(LogOffset(at)) {
            Found::Bad(Bad::Fields)
        } else if check_crc && !record.crc_matches() {
            Found::Bad(Bad::Crc)
        } else {
            Found::Record(record)
        })
    }
}
