//! Records that another log has given their offsets: taken as they are, for a replica. Nothing calls this outside tests yet.
//!
//! A replica's log is the other one's, byte for byte: the same offsets, the same length of files. Bytes come file by file, whole
//! records that follow each other, at the end of a file its filler. What is checked of them is what recovery checks, so a replica
//! takes nothing that its own next start would not find again.
//!
//! Not here: where bytes come from, and who may send them.

use super::append::{Batch, Dispatched, FailOnPanic, IndexedRecord, end_file, key_hashes_of};
use super::window::Bad;
use super::{CommitLog, Ticket};
use crate::error::{AppendError, StoreError};
use crate::queue::{Entry, QueueTable};
use bytes::Bytes;
use message::properties::Indexed;
use message::record::{FILLER_LEN, Peek, Record, peek};
use message::{LogOffset, QueueOffset, sys_flag};
use smallvec::smallvec;

/// Why raw bytes are not taken; none of them is.
#[derive(Debug, thiserror::Error)]
pub enum RawAppendError {
    /// They do not begin where the log ends: ask for those that do.
    #[error("bytes for log offset {at}, but the log ends at {end}")]
    NotAtEnd {
        /// Where they begin.
        at: LogOffset,
        /// Where the log ends.
        end: LogOffset,
    },
    /// They are not whole records of this place of the log.
    #[error("no whole record for log offset {at}: {why}")]
    NotWhole {
        /// Where the first of them begins that is not whole.
        at: LogOffset,
        /// What is wrong with it.
        why: String,
    },
    /// A message says another offset in its queue than comes next there: a queue goes on only where it ends, and leaves offsets out
    /// only while nothing of it is on its way. Append what is before, wait until it is published, and try again from here.
    #[error("the message at log offset {at} says offset {says} of queue {topic}/{queue_id}, where {next} comes next")]
    OutOfStep {
        /// Where its record begins.
        at: LogOffset,
        /// Its topic.
        topic: String,
        /// Number of its queue.
        queue_id: i32,
        /// The offset it says.
        says: QueueOffset,
        /// The offset that comes next.
        next: QueueOffset,
    },
    /// As messages are refused.
    #[error(transparent)]
    Refused(#[from] AppendError),
    /// The queue's files cannot be changed so that it goes on at another offset.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What bytes hold.
struct Parsed {
    batch: Batch,
    /// A filler ends them, and their file.
    ends_file: bool,
}

impl CommitLog {
    /// Takes whole records that are to stand at `at`, which must be the log's end; of one file, with its filler or without. They are
    /// written when the ticket is completed. Only one thread appends so, and none appends drafts meanwhile.
    ///
    /// # Errors
    /// [`RawAppendError`]; nothing is taken then.
    pub(crate) fn append_raw(&self, queues: &QueueTable, at: LogOffset, bytes: &Bytes) -> Result<Ticket, RawAppendError> {
        let parsed = self.parse(queues, at, bytes)?;
        let mut parsed = Some(parsed);
        loop {
            if let Some(ticket) = self.try_append_raw(at, &mut parsed)? {
                return Ok(ticket);
            }
            let prepared = self.segments.prepare_next();
            prepared.map_err(|e| AppendError::NotWritable(e.to_string()))?;
        }
    }

    /// `None` when there is no file to go on in; `parsed` is taken otherwise.
    fn try_append_raw(&self, at: LogOffset, parsed: &mut Option<Parsed>) -> Result<Option<Ticket>, RawAppendError> {
        let _guard = FailOnPanic(self);
        let mut state = self.state.lock();
        self.check_takes(&state)?;
        if state.end != at {
            let end = state.end;
            return Err(RawAppendError::NotAtEnd { at, end });
        }
        if state.end == state.segment_end {
            let Some(first) = self.segments.roll() else { return Ok(None) };
            assert_eq!(first.base, state.end.0, "the log goes on in the file after the last one");
            state.segment_end = LogOffset(first.end());
        }
        let ends_file = parsed.as_ref().is_some_and(|parsed| parsed.ends_file);
        let next = if ends_file { self.segments.roll() } else { None };
        if ends_file && next.is_none() {
            return Ok(None);
        }
        let Some(Parsed { mut batch, .. }) = parsed.take() else {
            return Ok(None);
        };
        for dispatched in &batch.entries {
            let assigned = dispatched.queue.assign();
            assert_eq!(assigned, dispatched.queue_offset, "drafts and raw bytes are not appended at once");
        }
        state.end = batch.end;
        assert!(state.end <= state.segment_end, "records end over the end of their file");
        if let Some(next) = next {
            // A filler was checked to be there; the same bytes are made again.
            batch.pieces.extend(end_file(&mut state, &next));
            batch.end = state.end;
        }
        let ticket = self.ticket(&state);
        state.pending.push(batch);
        drop(state);
        self.dispatch.wake_keeper();
        Ok(Some(ticket))
    }

    /// Where the file ends that an offset is in, whether it is there or not.
    fn file_end(&self, offset: i64) -> i64 {
        let first = self.segments.first_offset().unwrap_or(0);
        let len = self.segments.segment_len();
        offset - (offset - first).rem_euclid(len) + len
    }

    fn parse(&self, queues: &QueueTable, at: LogOffset, bytes: &Bytes) -> Result<Parsed, RawAppendError> {
        let file_end = self.file_end(at.0);
        let mut batch = Batch::default();
        let mut done = 0;
        let mut ends_file = false;
        while done < bytes.len() && !ends_file {
            let (here, rest) = (at.plus(done), &bytes[done..]);
            let not_whole = |why: &dyn std::fmt::Display| RawAppendError::NotWhole {
                at: here,
                why: why.to_string(),
            };
            let left = usize::try_from(file_end - here.0).unwrap_or(0);
            match peek(rest) {
                Peek::Record { size } if size + FILLER_LEN > left => return Err(not_whole(&Bad::Length)),
                Peek::Record { size } => {
                    let record = rest.get(..size).ok_or_else(|| not_whole(&"its end is missing"))?;
                    let record = Record::parse(record).map_err(|e| not_whole(&Bad::Parts(e)))?;
                    if !record.is_plausible(here) {
                        return Err(not_whole(&Bad::Fields));
                    }
                    if !record.crc_matches() {
                        return Err(not_whole(&Bad::Crc));
                    }
                    enter(queues, &record, &mut batch)?;
                    done += size;
                }
                Peek::Filler if rest.len() == FILLER_LEN || rest.len() == left => {
                    if rest[..4] != (left as u32).to_be_bytes() || rest[FILLER_LEN..].iter().any(|byte| *byte != 0) {
                        return Err(not_whole(&"a filler that does not fill its file"));
                    }
                    ends_file = true;
                }
                Peek::Filler => return Err(not_whole(&Bad::Length)),
                Peek::End | Peek::Corrupt => return Err(not_whole(&Bad::Magic)),
            }
        }
        if bytes.is_empty() {
            return Err(RawAppendError::NotWhole {
                at,
                why: "there are no bytes".to_owned(),
            });
        }
        batch.end = at.plus(done);
        if done > 0 {
            batch.pieces = smallvec![(at, bytes.slice(..done))];
        }
        Ok(Parsed { batch, ends_file })
    }
}

/// Adds a record's queue entry and keys to a batch.
fn enter(queues: &QueueTable, record: &Record<'_>, batch: &mut Batch) -> Result<(), RawAppendError> {
    batch.store_timestamp = record.store_timestamp;
    if !sys_flag::is_in_queue(record.sys_flag) {
        return Ok(());
    }
    let queue = queues.find_or_create(record.topic, record.queue_id);
    let of_queue = |dispatched: &&Dispatched| std::ptr::eq(&*dispatched.queue, &*queue);
    let before = batch.entries.iter().rev().find(of_queue);
    let next = before.map_or_else(|| queue.assigned(), |before| before.queue_offset.plus(1));
    let is_at_rest = before.is_none() && queue.assigned() == queue.max();
    if record.queue_offset > next && is_at_rest {
        queue
            .skip_to(record.queue_offset)
            .map_err(|e| crate::store::queue_error("move", &queue, e))?;
    } else if record.queue_offset != next {
        return Err(RawAppendError::OutOfStep {
            at: record.log_offset,
            topic: record.topic.to_owned(),
            queue_id: record.queue_id,
            says: record.queue_offset,
            next,
        });
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
    batch.entries.push(Dispatched {
        entry: Entry {
            log_offset: record.log_offset.0,
            size: record.size as i32,
            tags_code: code.value(),
        },
        queue_offset: record.queue_offset,
        queue,
    });
    Ok(())
}
