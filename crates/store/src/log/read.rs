//! Reads records by their place in the log: from the tail in memory, otherwise from the files, in blocks that readers share where they are near
//! each other.

use super::CommitLog;
use super::blocks::{Block, Look, block_of};
use super::segment::Segment;
use crate::error::StoreError;
use crate::read::ReadSource;
use bytes::Bytes;
use message::{LogOffset, QueueOffset, names, record};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A record's log offset and length in bytes, as a queue entry has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    pub(crate) log_offset: LogOffset,
    pub(crate) size: i32,
}

impl RecordPlace {
    /// The length; 0 if it is negative.
    pub(super) fn len(self) -> usize {
        usize::try_from(self.size).unwrap_or(0)
    }
}

/// What bytes that look like a record say about it. Not verified.
pub(crate) struct UnverifiedHead {
    pub(crate) place: RecordPlace,
    pub(crate) topic: String,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: QueueOffset,
}

/// Records that are read from files share buffers of this size, unless one record is larger.
const BUFFER_BYTES: usize = 64 << 10;

impl CommitLog {
    /// Appends the records at the given places to `out`. False if one of them needs slower storage than `source`; `out` has those
    /// before it then.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read. `StoreError::Corrupt` if a place is outside the log or has no record of that
    /// size; `out` has the records before it then.
    pub(crate) fn read_all(&self, places: &[RecordPlace], source: ReadSource, out: &mut Vec<Bytes>) -> Result<bool, StoreError> {
        let mut rest = self.read_tail(places, out);
        if source == ReadSource::Memory {
            return self.read_kept(rest, out);
        }
        // Places before `rest` that are in no shared block.
        let mut alone: &[RecordPlace] = &[];
        while !rest.is_empty() {
            let (block, count) = self.shared_block(rest, source)?;
            let (some, others) = rest.split_at(count);
            if let Some(block) = block {
                if !self.read_alone(alone, source, out)? {
                    return Ok(false);
                }
                alone = &[];
                push_from(&block, some, out)?;
            } else {
                alone = &places[places.len() - rest.len() - alone.len()..places.len() - others.len()];
            }
            rest = others;
        }
        self.read_alone(alone, source, out)
    }

    /// Reads records from the blocks that are kept. False if one of them is in none.
    fn read_kept(&self, mut places: &[RecordPlace], out: &mut Vec<Bytes>) -> Result<bool, StoreError> {
        while let Some(first) = places.first() {
            let Some(segment) = self.segments.holding(first.log_offset.0) else {
                return Ok(false);
            };
            let (range, count) = self.block_and_count(&segment, places);
            let (inside, others) = places.split_at(count);
            match self.blocks.kept(&range) {
                Some(block) if count > 0 => push_from(&block, inside, out)?,
                _ => return Ok(false),
            }
            places = others;
        }
        Ok(true)
    }

    /// Where the block is that the first place begins in, and how many places it holds.
    fn block_and_count(&self, segment: &Segment, places: &[RecordPlace]) -> (Range<i64>, usize) {
        let range = block_of(segment, places[0].log_offset.0, self.confirmed());
        let is_inside = |place: &&RecordPlace| {
            let offset = place.log_offset.0;
            range.contains(&offset) && place.size > 0 && i64::from(place.size) <= range.end - offset
        };
        let count = places.iter().take_while(is_inside).count();
        (range, count)
    }

    /// The block that holds the first place, if it is kept or worth reading, and how many places it holds; without a block, how many are to be
    /// read alone, at least one.
    fn shared_block(&self, places: &[RecordPlace], source: ReadSource) -> Result<(Option<Block>, usize), StoreError> {
        let first = places[0];
        let segment = self.segments.holding(first.log_offset.0).ok_or_else(|| missing(first))?;
        let (range, count) = self.block_and_count(&segment, places);
        let inside = &places[..count];
        let alone = Ok((None, count.max(1)));
        if inside.is_empty() {
            return alone;
        }
        let stamp = match self.blocks.look(&range, bytes_of(inside)) {
            Look::Kept(block) => return Ok((Some(block), count)),
            Look::Worth(stamp) if source == ReadSource::PageCache => stamp,
            Look::Worth(_) | Look::Alone => return alone,
        };
        let mut bytes = self.blocks.buffer((range.end - range.start) as usize);
        if !read_file(&segment, range.start, &mut bytes, source)? {
            return alone;
        }
        let block = Block::new(range.start, bytes.freeze());
        self.blocks.keep(block.clone(), stamp);
        Ok((Some(block), count))
    }

    /// Reads records that are in no shared block.
    fn read_alone(&self, mut places: &[RecordPlace], source: ReadSource, out: &mut Vec<Bytes>) -> Result<bool, StoreError> {
        while !places.is_empty() {
            let (some, others) = places.split_at(count_for_a_buffer(places, self.segments.segment_len())?);
            if !self.read_files(some, source, out)? {
                return Ok(false);
            }
            places = others;
        }
        Ok(true)
    }

    /// Forgets blocks that were not used for a while.
    pub(crate) fn forget_unused_blocks(&self) {
        self.blocks.forget_unused();
    }

    /// Reads from the tail up to the first place that is not in it; returns the places from there on.
    fn read_tail<'p>(&self, places: &'p [RecordPlace], out: &mut Vec<Bytes>) -> &'p [RecordPlace] {
        let tail = self.tail.read();
        for (read, place) in places.iter().enumerate() {
            match tail.slice(place.log_offset, place.len()) {
                Some(record) => out.push(record),
                None => return &places[read..],
            }
        }
        &[]
    }

    /// Reads records from files into one buffer.
    fn read_files(&self, places: &[RecordPlace], source: ReadSource, out: &mut Vec<Bytes>) -> Result<bool, StoreError> {
        let mut buffer = vec![0; bytes_of(places)];
        let mut read = 0;
        let outcome = self.fill(&mut buffer, places, source, &mut read);
        let buffer = Bytes::from(buffer);
        let mut from = 0;
        for place in &places[..read] {
            let size = place.len();
            out.push(checked(*place, buffer.slice(from..from + size))?);
            from += size;
        }
        outcome
    }

    /// Fills a buffer with records; one read for contiguous ones. `read` counts them.
    fn fill(&self, mut buffer: &mut [u8], mut places: &[RecordPlace], source: ReadSource, read: &mut usize) -> Result<bool, StoreError> {
        while let Some(first) = places.first() {
            let (segment, count) = self.contiguous(places)?;
            let (together, rest) = places.split_at(count);
            let (part, after) = buffer.split_at_mut(bytes_of(together));
            if !read_file(&segment, first.log_offset.0, part, source)? {
                return Ok(false);
            }
            *read += count;
            (buffer, places) = (after, rest);
        }
        Ok(true)
    }

    /// The file of the first place, and how many of the places are contiguous there.
    fn contiguous(&self, places: &[RecordPlace]) -> Result<(Arc<Segment>, usize), StoreError> {
        let first = places[0];
        let segment = self.segments.holding(first.log_offset.0).ok_or_else(|| missing(first))?;
        let (mut end, mut count) = (first.log_offset.0, 0);
        for place in places {
            if place.log_offset.0 != end || end + i64::from(place.size) > segment.end() {
                break;
            }
            end += i64::from(place.size);
            count += 1;
        }
        if count == 0 {
            return Err(missing(first));
        }
        Ok((segment, count))
    }

    /// Store timestamp (epoch ms) of the record at a place; `None` if there is no record. Reads only the beginning of the record.
    /// May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read.
    pub(crate) fn stored_at(&self, place: RecordPlace) -> Result<Option<i64>, StoreError> {
        if let Some(record) = self.tail.read().slice(place.log_offset, place.len()) {
            return Ok(record::peek_store_timestamp(&record));
        }
        let Some(segment) = self.segments.holding(place.log_offset.0) else {
            return Ok(None);
        };
        let mut head = [0; record::STORE_TIMESTAMP_END];
        read_file(&segment, place.log_offset.0, &mut head, ReadSource::Disk)?;
        let is_record = record::peek(&head) == record::Peek::Record { size: place.len() };
        Ok(is_record.then(|| record::peek_store_timestamp(&head)).flatten())
    }

    /// Reads what the bytes at `offset` say about a record that may begin there: its length, topic, queue and queue offset. Reads
    /// no body. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read. `StoreError::Corrupt` if no record can begin there.
    pub(crate) fn unverified_head(&self, offset: LogOffset) -> Result<UnverifiedHead, StoreError> {
        let missing = || StoreError::Corrupt(format!("no record begins at log offset {offset}"));
        let segment = self.segments.holding(offset.0).ok_or_else(missing)?;
        let end = segment.end().min(self.confirmed().0);
        let read = |from: i64, len: usize| -> Result<Vec<u8>, StoreError> {
            let len = len.min(usize::try_from(end - from).unwrap_or(0));
            let mut bytes = vec![0; len];
            read_file(&segment, from, &mut bytes, ReadSource::Disk)?;
            Ok(bytes)
        };
        let front = record::Front::parse(&read(offset.0, record::FRONT_LEN)?).map_err(|_| missing())?;
        let topic_at = offset.0 + front.topic_at as i64;
        let topic = read(topic_at, 2 + names::MAX_RETRY_TOPIC_LEN)?;
        Ok(UnverifiedHead {
            place: RecordPlace {
                log_offset: offset,
                size: front.size as i32,
            },
            topic: front.topic(&topic).map_err(|_| missing())?.to_owned(),
            queue_id: front.queue_id,
            queue_offset: front.queue_offset,
        })
    }

    /// The record that begins at `offset`, whatever its size. May block.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read. `StoreError::Corrupt` if no record begins there.
    pub(crate) fn record_at(&self, offset: LogOffset) -> Result<Bytes, StoreError> {
        let missing = || StoreError::Corrupt(format!("no record begins at log offset {offset}"));
        let segment = self.segments.holding(offset.0).ok_or_else(missing)?;
        if offset >= self.confirmed() {
            return Err(missing());
        }
        let mut head = [0; record::FILLER_LEN];
        read_file(&segment, offset.0, &mut head, ReadSource::Disk)?;
        let record::Peek::Record { size } = record::peek(&head) else {
            return Err(missing());
        };
        if offset.0 + size as i64 > self.confirmed().0 {
            return Err(missing());
        }
        let mut found = Vec::with_capacity(1);
        let place = RecordPlace {
            log_offset: offset,
            size: size as i32,
        };
        self.read_files(&[place], ReadSource::Disk, &mut found)?;
        found.pop().ok_or_else(missing)
    }
}

/// How many of the places fit into one buffer, at least one. Sizes that no record of a file can have are refused before memory is
/// allocated.
fn count_for_a_buffer(places: &[RecordPlace], file_len: i64) -> Result<usize, StoreError> {
    let is_possible = |place: &RecordPlace| place.size >= record::MIN_LEN as i32 && i64::from(place.size) <= file_len;
    let possible = places.iter().take_while(|place| is_possible(place)).count();
    if let (0, Some(place)) = (possible, places.first()) {
        return Err(missing(*place));
    }
    let mut bytes = 0;
    let fits = |place: &&RecordPlace| {
        bytes += place.len();
        bytes <= BUFFER_BYTES
    };
    Ok(places[..possible].iter().take_while(fits).count().max(1))
}

/// Appends records that are in a block.
fn push_from(block: &Block, places: &[RecordPlace], out: &mut Vec<Bytes>) -> Result<(), StoreError> {
    for place in places {
        out.push(checked(*place, block.slice(*place).ok_or_else(|| missing(*place))?)?);
    }
    Ok(())
}

fn bytes_of(places: &[RecordPlace]) -> usize {
    places.iter().map(|place| place.len()).sum()
}

/// The bytes at a place, if a record of its size begins there.
fn checked(place: RecordPlace, bytes: Bytes) -> Result<Bytes, StoreError> {
    match record::peek(&bytes) {
        record::Peek::Record { size } if size == place.len() => Ok(bytes),
        _ => Err(missing(place)),
    }
}

fn missing(place: RecordPlace) -> StoreError {
    StoreError::Corrupt(format!("no record of {} bytes at log offset {}", place.size, place.log_offset))
}

/// Reads the bytes of a log file from `offset` on. Bytes of `out` beyond the file's end are unchanged. False if they need slower
/// storage than `source`.
pub(super) fn read_file(segment: &Segment, offset: i64, out: &mut [u8], source: ReadSource) -> Result<bool, StoreError> {
    let at = segment.position(offset);
    let read = match source {
        ReadSource::Disk => segment.file.read_at(out, at),
        ReadSource::Memory | ReadSource::PageCache => segment.file.read_cached_at(out, at),
    };
    match read {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock && source != ReadSource::Disk => Ok(false),
        Err(e) => Err(StoreError::Io {
            action: "read",
            path: format!("commit log at {offset}"),
            source: e,
        }),
    }
}
