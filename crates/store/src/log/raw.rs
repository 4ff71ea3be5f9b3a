//! Appends records of another log as they are, for a replica.
//!
//! A replica's log is a copy of the master's, byte for byte: the same offsets, the same file length, the same fillers. The bytes are
//! checked as recovery checks them, so a replica takes no record that its own next start would drop. All checks come before the
//! first change: after a refusal log and queues are as they were.
//!
//! Not here: the connection to the master.

use super::append::{AppendState, Batch, DispatchRequest, FailOnPanic, IndexedRecord, key_hashes_of};
use super::window::{Bad, NoRecord, record_at, size_at};
use super::{CommitLog, Ticket};
use crate::error::{AppendError, StoreError};
use crate::queue::{self, ConsumeQueue, Entry, QueueTable};
use bytes::Bytes;
use message::properties::Indexed;
use message::record::{FILLER_LEN, Record};
use message::{LogOffset, QueueOffset, sys_flag};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Display;
use std::sync::Arc;

/// Maximum offsets of a light queue that a record may skip if other records of the same append are in the queue.
const MAX_LIGHT_GAP: i64 = 4_096;

/// Why raw records were refused; none of them was appended.
#[derive(Debug, thiserror::Error)]
pub enum RawAppendError {
    /// They do not begin at the log's end. Request the records from there on.
    #[error("records for log offset {at}, but the log ends at {end}; request the records from {end} on")]
    NotAtEnd {
        /// Log offset of the first record.
        at: LogOffset,
        /// Where the log ends.
        end: LogOffset,
    },
    /// The bytes are not whole records for this log offset.
    #[error("no whole record for log offset {at}: {why}")]
    NotWhole {
        /// Log offset of the first record that is not whole.
        at: LogOffset,
        /// What is wrong with it.
        why: String,
    },
    /// A message does not have the next offset of its queue. A queue may go on at another offset only while none of its messages is unpublished:
    /// append the records before this one, wait until they are published, and try again from here.
    #[error("the message at log offset {at} has offset {offset} of queue {topic}/{queue_id}, whose next offset is {next}")]
    OutOfSequence {
        /// Log offset of the message.
        at: LogOffset,
        /// Its topic.
        topic: String,
        /// Its queue.
        queue_id: i32,
        /// Its queue offset.
        offset: QueueOffset,
        /// The next offset of the queue.
        next: QueueOffset,
    },
    /// The log takes no records now, for the reasons for which it refuses messages.
    #[error(transparent)]
    Refused(#[from] AppendError),
    /// The files of a queue that skips offsets cannot be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Records that may be appended at the log's end.
pub(crate) struct RawRecords<'b> {
    at: LogOffset,
    bytes: &'b Bytes,
    records: Vec<Record<'b>>,
    /// The log's end after them.
    end: LogOffset,
    /// Where the next file begins, if they go on there.
    next_file: Option<LogOffset>,
    /// Whether a queue goes on at another offset than its next one.
    moves_queues: bool,
}

impl RawRecords<'_> {
    /// Whether a queue goes on at another offset than its next one. No queue may be truncated or deleted then from the check to the end of
    /// the append.
    pub(crate) fn moves_queues(&self) -> bool {
        self.moves_queues
    }

    /// The queues that begin again, at offset 0: their topic was deleted and created again, on the master.
    pub(crate) fn begin_again(&self, queues: &QueueTable) -> Result<Vec<Arc<ConsumeQueue>>, RawAppendError> {
        let mut found: Vec<Arc<ConsumeQueue>> = Vec::new();
        for record in self.records.iter().filter(|record| sys_flag::is_in_queue(record.sys_flag)) {
            let indexed = Indexed::of(record.properties);
            let light = queues.has_light_queues().then(|| queue::places(record.topic, &indexed));
            let light = light.into_iter().flatten().map(|(name, offset)| (name, 0, QueueOffset(offset)));
            let all = std::iter::once((record.topic, record.queue_id, record.queue_offset)).chain(light);
            for (topic, queue_id, _) in all.filter(|(_, _, offset)| *offset == QueueOffset(0)) {
                let Some(queue) = queues.find(topic, queue_id) else { continue };
                let is_known = found.iter().any(|known| Arc::ptr_eq(known, &queue));
                if !is_known && begins_again(&queue, record)? {
                    found.push(queue);
                }
            }
        }
        Ok(found)
    }
}

impl CommitLog {
    /// Checks records that are to be appended at `at`, which must be the log's end: whole records that follow each other. They may go on
    /// in the next file, behind the filler that fills this one, but not in the one after it. A filler at their end may be its first
    /// [`FILLER_LEN`] bytes only. Changes nothing.
    ///
    /// # Errors
    /// Any [`RawAppendError`] but `Store`.
    pub(crate) fn check_raw<'b>(&self, queues: &QueueTable, at: LogOffset, bytes: &'b Bytes) -> Result<RawRecords<'b>, RawAppendError> {
        self.check_at_end(&self.state.lock(), at)?;
        let mut file_end = self.file_end(at.0);
        let mut raw = RawRecords {
            at,
            bytes,
            records: Vec::new(),
            end: at,
            next_file: None,
            moves_queues: false,
        };
        let mut next_offsets = NextOffsets::default();
        let mut done = 0;
        let mut is_after_filler = false;
        while done < bytes.len() || done == 0 {
            let (here, rest) = (at.plus(done), &bytes[done..]);
            let left = file_end - here.0;
            let not_whole = |why: &dyn Display| RawAppendError::NotWhole {
                at: here,
                why: why.to_string(),
            };
            if std::mem::take(&mut is_after_filler) && raw.next_file.replace(here).is_some() {
                return Err(not_whole(&"the bytes reach beyond the next log file; append less at once"));
            }
            match whole_record(rest, here, left).map_err(|why| not_whole(&why))? {
                Some(record) => {
                    raw.moves_queues |= next_offsets.check(queues, &record)?;
                    done += record.size;
                    raw.end = at.plus(done);
                    raw.records.push(record);
                }
                None => {
                    let filler = filler_len(rest, left).ok_or_else(|| not_whole(&"the filler does not fill its file"))?;
                    done += filler;
                    raw.end = LogOffset(file_end);
                    is_after_filler = true;
                    file_end += self.segments.segment_len();
                }
            }
        }
        Ok(raw)
    }

    /// Appends records that [`CommitLog::check_raw`] has checked. They are written when the ticket is completed. Only one thread may
    /// append so, and none may append drafts meanwhile.
    ///
    /// # Errors
    /// `RawAppendError::Refused` if the log takes no records, or has no room for its next file; nothing is changed then.
    /// `RawAppendError::Store` if a queue's files cannot be changed; no record is appended then.
    pub(crate) fn append_raw(&self, queues: &QueueTable, raw: &RawRecords<'_>) -> Result<Ticket, RawAppendError> {
        // Before queues are moved: the log may have no room for these files.
        self.open_file_for(raw.at)?;
        if raw.next_file.is_some() {
            self.prepare_file()?;
        }
        let mut batch = Some(raw.batch(queues)?);
        loop {
            if let Some(ticket) = self.try_append_raw(raw, &mut batch)? {
                self.dispatch.wake_keeper();
                return Ok(ticket);
            }
            self.prepare_file()?;
        }
    }

    fn prepare_file(&self) -> Result<(), RawAppendError> {
        let prepared = self.segments.prepare_next();
        Ok(prepared.map_err(|e| AppendError::NotWritable(e.to_string()))?)
    }

    /// Makes sure that there is a file at the log's end.
    fn open_file_for(&self, at: LogOffset) -> Result<(), RawAppendError> {
        loop {
            {
                let mut state = self.state.lock();
                self.check_at_end(&state, at)?;
                if state.end < state.segment_end {
                    return Ok(());
                }
                if let Some(file) = self.segments.roll() {
                    assert_eq!(file.base, state.end.0, "the log goes on in the file after the last one");
                    state.segment_end = LogOffset(file.end());
                    return Ok(());
                }
            }
            self.prepare_file()?;
        }
    }

    /// `None` if the records go on in a file that is not prepared; `batch` is taken otherwise.
    fn try_append_raw(&self, raw: &RawRecords<'_>, batch: &mut Option<Batch>) -> Result<Option<Ticket>, RawAppendError> {
        let _guard = FailOnPanic(self);
        let mut state = self.state.lock();
        self.check_at_end(&state, raw.at)?;
        if let Some(next_file) = raw.next_file {
            let Some(file) = self.segments.roll() else { return Ok(None) };
            assert_eq!(file.base, next_file.0, "the next file does not begin where the records go on");
            state.segment_end = LogOffset(file.end());
        }
        let Some(batch) = batch.take() else { return Ok(None) };
        for dispatched in &batch.entries {
            let assigned = dispatched.queue.assign();
            assert_eq!(
                assigned, dispatched.queue_offset,
                "drafts were appended while raw records were, or by two threads"
            );
        }
        state.end = raw.end;
        assert!(
            state.end <= state.segment_end,
            "records end at {}, over the end of their file at {}",
            state.end,
            state.segment_end
        );
        let ticket = self.ticket(&state);
        state.pending.push(batch);
        Ok(Some(ticket))
    }

    fn check_at_end(&self, state: &AppendState, at: LogOffset) -> Result<(), RawAppendError> {
        // A replica hears what is confirmed with the records that follow: it must not wait for that.
        self.check_writable(state, self.marks.durable())?;
        if state.end != at {
            return Err(RawAppendError::NotAtEnd { at, end: state.end });
        }
        Ok(())
    }

    /// Where the file ends that has an offset, whether the file exists or not.
    fn file_end(&self, offset: i64) -> i64 {
        let first = self.segments.first_offset().unwrap_or(0);
        let len = self.segments.segment_len();
        offset - (offset - first).rem_euclid(len) + len
    }
}

impl RawRecords<'_> {
    /// What the log, the queues and the index get. Queues that skip offsets do so now; none goes back.
    fn batch(&self, queues: &QueueTable) -> Result<Batch, RawAppendError> {
        let mut batch = Batch {
            end: self.end,
            ..Batch::default()
        };
        match self.next_file {
            None => batch.chunks.push((self.at, self.bytes.clone())),
            Some(next_file) => {
                let split = (next_file.0 - self.at.0) as usize;
                batch.chunks.push((self.at, self.bytes.slice(..split)));
                batch.chunks.push((next_file, self.bytes.slice(split..)));
            }
        }
        for record in &self.records {
            enter(queues, record, &mut batch)?;
        }
        Ok(batch)
    }
}

/// The record at the beginning of `bytes`; `None` if a filler begins there. `left` bytes of its file are left.
fn whole_record(bytes: &[u8], at: LogOffset, left: i64) -> Result<Option<Record<'_>>, String> {
    let size = match size_at(bytes, at.0, left) {
        Ok(size) if size as i64 + FILLER_LEN as i64 > left => return Err(Bad::Length.to_string()),
        Ok(size) => size,
        Err(NoRecord::NextFile) => return Ok(None),
        Err(NoRecord::Nothing) => return Err("its beginning is missing".to_owned()),
        Err(NoRecord::Bad(bad)) => return Err(bad.to_string()),
    };
    let record = bytes.get(..size).ok_or("its end is missing")?;
    record_at(record, at.0, true).map(Some).map_err(|bad| bad.to_string())
}

/// How many of the bytes are the filler that begins them; `None` if it does not fill its file, which has `left` bytes left. What
/// follows its first [`FILLER_LEN`] bytes is never read: old brokers of Apache leave anything there.
fn filler_len(bytes: &[u8], left: i64) -> Option<usize> {
    let says = bytes.first_chunk().map(|len| i64::from(u32::from_be_bytes(*len)));
    let left = usize::try_from(left).ok().filter(|_| says == Some(left))?;
    match bytes.len() {
        FILLER_LEN => Some(FILLER_LEN),
        len => (len >= left).then_some(left),
    }
}

/// The next offset of each queue, as records are appended.
#[derive(Default)]
struct NextOffsets<'b> {
    queues: FxHashMap<(&'b str, i32), QueueOffset>,
    /// The light queues that records were in.
    light: FxHashSet<String>,
}

impl<'b> NextOffsets<'b> {
    /// Counts a record. Whether its queue goes on at another offset for it.
    fn check(&mut self, queues: &QueueTable, record: &Record<'b>) -> Result<bool, RawAppendError> {
        if !sys_flag::is_in_queue(record.sys_flag) {
            return Ok(false);
        }
        let known = self.queues.get(&(record.topic, record.queue_id)).copied();
        let (next, may_move) = known.map_or_else(
            || {
                let queue = queues.find(record.topic, record.queue_id);
                queue.map_or((QueueOffset(0), true), |queue| (queue.assigned(), queue.assigned() == queue.max()))
            },
            |next| (next, false),
        );
        let moves = record.queue_offset != next;
        // A topic that is created again begins at 0.
        let may_move = may_move && (record.queue_offset > next || record.queue_offset == QueueOffset(0));
        if moves && !may_move {
            return Err(RawAppendError::OutOfSequence {
                at: record.log_offset,
                topic: record.topic.to_owned(),
                queue_id: record.queue_id,
                offset: record.queue_offset,
                next,
            });
        }
        self.queues.insert((record.topic, record.queue_id), record.queue_offset.plus(1));
        Ok(self.check_light_queues(queues, record)? || moves)
    }

    /// Whether a light queue of a record may go on at another offset for it. One that begins again does so alone, as other queues do.
    fn check_light_queues(&mut self, queues: &QueueTable, record: &Record<'_>) -> Result<bool, RawAppendError> {
        if !queues.has_light_queues() {
            return Ok(false);
        }
        let indexed = Indexed::of(record.properties);
        let places = queue::places(record.topic, &indexed);
        if let Some((name, offset)) = places.iter().find(|(name, offset)| *offset == 0 && self.light.contains(*name)) {
            return Err(RawAppendError::OutOfSequence {
                at: record.log_offset,
                topic: (*name).to_owned(),
                queue_id: 0,
                offset: QueueOffset(*offset),
                next: queues.find(name, 0).map_or(QueueOffset(0), |queue| queue.assigned()),
            });
        }
        self.light.extend(places.iter().map(|(name, _)| (*name).to_owned()));
        let moves = |(name, offset): (&str, i64)| queues.find(name, 0).map_or(0, |queue| queue.assigned().0) != offset;
        Ok(places.into_iter().any(moves))
    }
}

/// Whether a queue, all of whose messages are published, begins again with this message, which has its offset 0.
fn begins_again(queue: &ConsumeQueue, record: &Record<'_>) -> Result<bool, RawAppendError> {
    let first = QueueOffset(0);
    if queue.assigned() == first || queue.assigned() != queue.max() {
        return Ok(false);
    }
    let holds = queue.holds(first, record.log_offset);
    Ok(!holds.map_err(|e| crate::store::queue_error("read", queue, e))?)
}

/// Adds a record's queue entry and keys to a batch. Its queue skips offsets if it has to.
fn enter(queues: &QueueTable, record: &Record<'_>, batch: &mut Batch) -> Result<(), RawAppendError> {
    batch.store_timestamp = record.store_timestamp;
    if !sys_flag::is_in_queue(record.sys_flag) {
        return Ok(());
    }
    let queue = queues.find_or_create(record.topic, record.queue_id);
    let is_first = |queue: &Arc<ConsumeQueue>| !batch.entries.iter().any(|entry| Arc::ptr_eq(&entry.queue, queue));
    if record.queue_offset > queue.assigned() && is_first(&queue) {
        queue
            .skip_to(record.queue_offset)
            .map_err(|e| crate::store::queue_error("move", &queue, e))?;
    }
    let indexed = Indexed::of(record.properties);
    let hashes = key_hashes_of(record.topic, &indexed);
    if !hashes.is_empty() {
        batch.keys.push(IndexedRecord {
            hashes,
            log_offset: record.log_offset,
            store_timestamp: record.store_timestamp,
        });
    }
    let code = queue.code_of(record.properties, &indexed.tags, record.store_timestamp);
    let entry = Entry {
        log_offset: record.log_offset.0,
        size: record.size as i32,
        tags_code: code.value(),
    };
    batch.entries.push(DispatchRequest {
        entry,
        queue_offset: record.queue_offset,
        queue,
    });
    if queues.has_light_queues() {
        for (name, offset) in queue::places(record.topic, &indexed) {
            enter_light(queues, name, QueueOffset(offset), entry, batch)?;
        }
    }
    Ok(())
}

/// Adds an entry of a light queue to a batch. An offset that the queue has already adds none. Offsets that it does not have, of
/// messages that named it twice on a Java broker, become entries without a message.
fn enter_light(queues: &QueueTable, name: &str, offset: QueueOffset, entry: Entry, batch: &mut Batch) -> Result<(), RawAppendError> {
    let queue = queues.find_or_create(name, 0);
    let before = batch.entries.iter().filter(|entry| Arc::ptr_eq(&entry.queue, &queue)).count();
    let mut next = queue.assigned().plus(before);
    if offset > next && before == 0 && queue.assigned() == queue.max() {
        queue.skip_to(offset).map_err(|e| crate::store::queue_error("move", &queue, e))?;
        next = queue.assigned();
    }
    if offset.0 - next.0 > MAX_LIGHT_GAP {
        tracing::warn!(queue = name, from = %next, to = %offset, at = entry.log_offset, "a message is not in its light queue: offsets are missing before it");
        return Ok(());
    }
    while next <= offset {
        let blank = Entry {
            log_offset: entry.log_offset,
            ..Entry::BLANK
        };
        batch.entries.push(DispatchRequest {
            queue: Arc::clone(&queue),
            queue_offset: next,
            entry: if next == offset { entry } else { blank },
        });
        next = next.plus(1);
    }
    Ok(())
}
