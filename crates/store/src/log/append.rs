//! Taking messages: encode under one short lock, then one write for all who wait.

use super::segment::{Segment, Segments};
use super::truncate::TRUNCATED;
use super::{CommitLog, Completion, Level, Ticket, Waiter};
use crate::error::{AppendError, StoreError};
use crate::index::key_hashes;
use crate::queue::{ConsumeQueue, Entry};
use crate::sync::atomic::Ordering;
use crate::sync::{Broken, is_broken, mpsc};
use bytes::{Bytes, BytesMut};
use message::properties::Indexed;
use message::record::{Draft, FILLER_LEN, Placement, encode_filler};
use message::{LogOffset, QueueOffset, sys_flag};
use smallvec::SmallVec;
use std::io::IoSlice;
use std::sync::Arc;

/// Bytes of memory that encoded messages are cut from.
const ENCODE_BUFFER_BYTES: usize = 256 << 10;
/// How often a leader looks for more before it lets another thread lead. Soon where threads are explored.
const MAX_ROUNDS: usize = if cfg!(feature = "explore") { 1 } else { 16 };
/// Most slices of one write.
const MAX_SLICES: usize = 512;
/// How far store timestamps may lag behind the last one and still be taken for a sender that was delayed, or a clock that
/// was slewed, rather than for a clock that was set back.
const MAX_TIME_LAG_MS: i64 = 60_000;

/// What one append made: bytes for the log, and entries for queues and index.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Bytes and where they go; more than one chunk only where the log changes files.
    pub(crate) chunks: SmallVec<[(LogOffset, Bytes); 1]>,
    /// Offset after the last byte.
    pub(crate) end: LogOffset,
    /// When its messages were stored, epoch ms.
    pub(crate) store_timestamp: i64,
    /// One for each message, in order.
    pub(crate) entries: Vec<DispatchRequest>,
    /// Those that have keys, for the index.
    pub(crate) keys: Vec<IndexedRecord>,
}

/// A message's entry for its queue.
#[derive(Debug)]
pub(crate) struct DispatchRequest {
    pub(crate) queue: Arc<ConsumeQueue>,
    /// The offset in the queue that was assigned, and that the record says.
    pub(crate) queue_offset: QueueOffset,
    pub(crate) entry: Entry,
}

/// A message's keys for the index.
#[derive(Clone, Debug)]
pub(crate) struct IndexedRecord {
    pub(crate) hashes: SmallVec<[i32; 2]>,
    pub(crate) log_offset: LogOffset,
    /// When the record was stored, epoch ms.
    pub(crate) store_timestamp: i64,
}

/// What the append lock guards.
pub(crate) struct AppendState {
    /// Where the next record goes.
    pub(super) end: LogOffset,
    /// Where the current file ends.
    pub(super) segment_end: LogOffset,
    /// Store timestamp of the record before, epoch ms.
    last_stored_ms: i64,
    buffer: BytesMut,
    pub(super) pending: Vec<Batch>,
    pub(super) leading: bool,
    /// The store is being closed: nothing more is taken.
    closed: bool,
    /// The end of the log is being dropped: nothing is taken until that is done.
    pub(super) truncating: bool,
    pub(super) failed: Option<Arc<str>>,
}

impl AppendState {
    pub(super) fn new(end: LogOffset, segments: &Segments) -> Self {
        let segment_end = segments.last().map_or(end, |last| LogOffset(last.end()));
        Self {
            end,
            segment_end,
            last_stored_ms: 0,
            buffer: BytesMut::new(),
            pending: Vec::new(),
            leading: false,
            closed: false,
            truncating: false,
            failed: None,
        }
    }

    /// The store timestamp of a message whose sender looked at the clock before it had the lock. Searches by time need
    /// timestamps in the log's order, so one that is a little late takes the last one's.
    fn stored_at(&mut self, now_ms: i64) -> i64 {
        let is_late = (1..=MAX_TIME_LAG_MS).contains(&self.last_stored_ms.saturating_sub(now_ms));
        if !is_late {
            self.last_stored_ms = now_ms;
        }
        self.last_stored_ms
    }

    fn fits(&self, bytes: usize) -> bool {
        self.end.plus(bytes + FILLER_LEN) <= self.segment_end
    }
}

enum AppendOutcome {
    Ticket(Ticket),
    /// The current file is full and the next one is not there: the batch comes back.
    NeedsFile(Batch),
}

impl CommitLog {
    /// Gives messages their offsets and encodes them; `placements` gets one for each. Nothing is written before
    /// [`CommitLog::complete`] is called with the ticket.
    ///
    /// # Errors
    /// [`AppendError`]; none of the messages is appended then.
    pub(crate) fn append(
        &self,
        drafts: &[Draft<'_>],
        queues: &[Arc<ConsumeQueue>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Ticket, AppendError> {
        assert_eq!(drafts.len(), queues.len(), "each message needs the queue it goes to");
        let mut batch = prepare(drafts, queues, now_ms);
        let bytes = batch.entries.iter().map(|e| e.entry.size as usize).sum();
        let max = usize::try_from(self.segments.segment_len()).unwrap_or(usize::MAX) - FILLER_LEN;
        if bytes > max {
            return Err(AppendError::TooLarge { size: bytes, max });
        }
        loop {
            match self.try_append(drafts, batch, bytes, now_ms, placements)? {
                AppendOutcome::Ticket(ticket) => return Ok(ticket),
                AppendOutcome::NeedsFile(returned) => batch = returned,
            }
            self.segments.prepare_next().map_err(|e| AppendError::NotWritable(e.to_string()))?;
        }
    }

    /// Refuses appends from now on, and waits until those taken before are published.
    ///
    /// # Errors
    /// `StoreError::Failed` if the log fails before that.
    pub(crate) fn refuse_appends(&self) -> Result<(), StoreError> {
        let end = {
            let mut state = self.state.lock();
            state.closed = !is_broken(Broken::AppendedWhileClosing);
            state.end
        };
        self.wait_published(end)
    }

    fn try_append(
        &self,
        drafts: &[Draft<'_>],
        mut batch: Batch,
        bytes: usize,
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<AppendOutcome, AppendError> {
        let _guard = FailOnPanic(self);
        let mut state = self.state.lock();
        self.check_writable(&state)?;
        if let Some(retired) = batch.entries.iter().find(|dispatched| dispatched.queue.is_retired())
            && !is_broken(Broken::AppendedToRetired)
        {
            return Err(AppendError::QueueRetired {
                topic: retired.queue.topic().to_owned(),
                queue_id: retired.queue.queue_id(),
            });
        }
        if !state.fits(bytes) {
            // The filler must not be written unless there is a file to go on in.
            let Some(segment) = self.segments.roll() else {
                return Ok(AppendOutcome::NeedsFile(batch));
            };
            batch.chunks.extend(end_file(&mut state, &segment));
            self.dispatch.wake_keeper();
        }
        batch.store_timestamp = match is_broken(Broken::StampedBeforeLocked) {
            true => now_ms,
            false => state.stored_at(now_ms),
        };
        encode(&mut state, drafts, bytes, &mut batch, placements);
        let ticket = self.ticket(&state);
        state.pending.push(batch);
        Ok(AppendOutcome::Ticket(ticket))
    }

    /// Whether the log takes anything now.
    pub(super) fn check_writable(&self, state: &AppendState) -> Result<(), AppendError> {
        if let Some(reason) = &state.failed {
            return Err(AppendError::NotWritable(reason.to_string()));
        }
        if state.closed {
            return Err(AppendError::NotWritable("the store is being closed".to_owned()));
        }
        if state.truncating {
            return Err(AppendError::NotWritable("the log is being truncated".to_owned()));
        }
        let unconfirmed = state.end.0 - self.confirmed().0;
        if unconfirmed > self.options.max_unconfirmed_bytes {
            return Err(AppendError::Busy(format!(
                "{unconfirmed} bytes wait for the disk, over {} (apogeeMaxUnconfirmedBytes)",
                self.options.max_unconfirmed_bytes
            )));
        }
        Ok(())
    }

    /// Writes what waits, if nobody else is at it, and says whether the append has come to `level`. If it has not, the
    /// completion made by `later` runs when it has, on whichever thread brings that about.
    pub(crate) fn complete(&self, ticket: Ticket, level: Level, later: impl FnOnce() -> Completion) -> Option<Result<(), Arc<str>>> {
        self.write_pending();
        if self.was_truncated_since(&ticket) {
            return Some(Err(TRUNCATED.into()));
        }
        if self.reached(level) >= ticket.end {
            return Some(Ok(()));
        }
        let mut waiters = self.waiters.lock();
        if self.was_truncated_since(&ticket) {
            return Some(Err(TRUNCATED.into()));
        }
        if self.reached(level) >= ticket.end {
            return Some(Ok(()));
        }
        if let Some(reason) = self.failure() {
            return Some(Err(reason));
        }
        waiters.push(Waiter {
            end: ticket.end,
            level,
            done: later(),
        });
        None
    }

    /// Runs `act` between two appends. Returns the log's end there: appends before it have their offsets, none after it has.
    /// `act` must not wait for anything.
    pub(crate) fn between_appends(&self, act: impl FnOnce()) -> LogOffset {
        let state = self.state.lock();
        act();
        state.end
    }

    /// Waits until everything before `end` is published.
    ///
    /// # Errors
    /// `StoreError::Failed` if the log fails before that.
    pub(crate) fn wait_published(&self, end: LogOffset) -> Result<(), StoreError> {
        self.wait_for(self.ticket_for(end), Level::Published)
    }

    pub(super) fn wait_for(&self, ticket: Ticket, level: Level) -> Result<(), StoreError> {
        let (done, outcome) = mpsc::channel();
        let at_once = self.complete(ticket, level, || {
            // Nobody is left to hear it only if this thread is gone.
            Box::new(move |outcome| done.send(outcome).unwrap_or_default())
        });
        let outcome = at_once.unwrap_or_else(|| outcome.recv().unwrap_or_else(|_| Err("the append was dropped".into())));
        outcome.map_err(|reason| StoreError::Failed(reason.to_string()))
    }

    fn reached(&self, level: Level) -> LogOffset {
        match level {
            Level::Written => self.written(),
            Level::Published if is_broken(Broken::AnsweredBeforePublished) => self.written(),
            Level::Published => self.dispatch.published(),
        }
    }

    /// Leads: writes all that waits, until nothing does. Returns at once when another thread leads.
    pub(crate) fn write_pending(&self) {
        if !self.lead(MAX_ROUNDS) {
            // Others append faster than this thread writes, and it has connections of its own to serve.
            self.wake_relief();
        }
    }

    /// Leads for so many rounds. Whether nothing is left to write, by this thread.
    pub(super) fn lead(&self, rounds: usize) -> bool {
        for _ in 0..rounds {
            let guard = FailOnPanic(self);
            let batches = {
                let mut state = self.state.lock();
                if state.leading || state.pending.is_empty() {
                    return true;
                }
                state.leading = true;
                std::mem::take(&mut state.pending)
            };
            if let Err(error) = self.write(&batches) {
                self.fail(&error.to_string());
                return true;
            }
            self.keep_in_memory(&batches);
            let published = self.batches_written(batches);
            {
                let mut state = self.state.lock();
                assert!(
                    self.written() <= state.end,
                    "{} bytes are written of a log that ends at {}",
                    self.written(),
                    state.end
                );
                state.leading = false;
            }
            drop(guard);
            self.wake_flusher();
            self.run_waiters();
            self.dispatch.announce(&published);
        }
        false
    }

    fn keep_in_memory(&self, batches: &[Batch]) {
        let mut tail = self.tail.write();
        for (start, chunk) in batches.iter().flat_map(|b| &b.chunks) {
            tail.push(*start, chunk.clone());
        }
    }

    fn write(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut run: Option<ContiguousWrite<'_>> = None;
        debug_assert!(
            batches.iter().flat_map(|b| &b.chunks).is_sorted_by_key(|(start, _)| *start),
            "batches are not in log order"
        );
        for (start, chunk) in batches.iter().flat_map(|b| &b.chunks) {
            match &mut run {
                Some(run) if run.takes(start.0) => run.push(chunk),
                _ => {
                    let segment = self
                        .segments
                        .holding(start.0)
                        .ok_or_else(|| StoreError::Corrupt(format!("no log file for offset {start}")))?;
                    if let Some(run) = run.replace(ContiguousWrite::new(start.0, chunk, segment)) {
                        run.write()?;
                    }
                }
            }
        }
        run.map_or(Ok(()), |run| run.write())
    }

    /// Ends writing for good: whoever waits is told, later appends are refused.
    pub(crate) fn fail(&self, reason: &str) {
        tracing::error!(reason, "the store stops taking messages until it is restarted");
        if let Some(act) = self.on_failure.get() {
            act();
        }
        let reason: Arc<str> = format!("{reason}; the store takes no messages until it is restarted").into();
        {
            let mut state = self.state.lock();
            state.failed.get_or_insert_with(|| reason.clone());
            state.pending.clear();
            state.leading = false;
        }
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters {
            (waiter.done)(Err(reason.clone()));
        }
    }

    /// Runs the completions of what has been reached.
    pub(super) fn run_waiters(&self) {
        let (written, published) = (self.reached(Level::Written), self.reached(Level::Published));
        let ready: Vec<Waiter> = {
            let mut waiters = self.waiters.lock();
            if waiters.is_empty() {
                return;
            }
            waiters
                .extract_if(.., |w| w.end <= if w.level == Level::Written { written } else { published })
                .collect()
        };
        for waiter in ready {
            (waiter.done)(Ok(()));
        }
    }
}

/// Fails the log if the thread panics while it holds this: an invariant is broken, and what the log would do next cannot be trusted.
pub(crate) struct FailOnPanic<'a>(pub(crate) &'a CommitLog);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        // An explored thread that panics has ended its run.
        if std::thread::panicking() && !cfg!(feature = "explore") {
            self.0.has_broken_invariant.store(true, Ordering::Release);
            self.0
                .fail("an invariant of the store does not hold (the panic logged before says which)");
        }
    }
}

/// Pieces that follow each other in one file, for one write.
struct ContiguousWrite<'a> {
    segment: Arc<Segment>,
    start: i64,
    next: i64,
    slices: SmallVec<[IoSlice<'a>; 8]>,
}

impl<'a> ContiguousWrite<'a> {
    fn new(start: i64, chunk: &'a Bytes, segment: Arc<Segment>) -> Self {
        let mut run = Self {
            segment,
            start,
            next: start,
            slices: SmallVec::new(),
        };
        run.push(chunk);
        run
    }

    /// Whether a chunk that begins at `start` goes on where this run ends. A filler may end where the next file begins.
    fn takes(&self, start: i64) -> bool {
        self.next == start && start < self.segment.end() && self.slices.len() < MAX_SLICES
    }

    fn push(&mut self, chunk: &'a Bytes) {
        self.slices.push(IoSlice::new(chunk));
        self.next += chunk.len() as i64;
    }

    fn write(&self) -> Result<(), StoreError> {
        let at = self.segment.position(self.start);
        let written = match &self.slices[..] {
            [one] => self.segment.file.write_at(one, at),
            many => self.segment.file.write_vectored_at(many, at),
        };
        written.map_err(|e| StoreError::Io {
            action: "write",
            path: format!("commit log at {}", self.start),
            source: e,
        })
    }
}

/// Ends the current file with a filler and goes on in the next one.
fn end_file(state: &mut AppendState, next: &Arc<Segment>) -> Option<(LogOffset, Bytes)> {
    let left = state.segment_end.0 - state.end.0;
    let filler = (left >= FILLER_LEN as i64).then(|| {
        let mut bytes = BytesMut::with_capacity(FILLER_LEN);
        encode_filler(left as usize, &mut bytes);
        (state.end, bytes.freeze())
    });
    state.end = LogOffset(next.base);
    state.segment_end = LogOffset(next.end());
    filler
}

/// All that can be known of the messages before they have offsets and a time, found out before the lock is taken: entries and
/// keys with offsets relative to the batch.
fn prepare(drafts: &[Draft<'_>], queues: &[Arc<ConsumeQueue>], now_ms: i64) -> Batch {
    let mut batch = Batch {
        entries: Vec::with_capacity(drafts.len()),
        keys: Vec::with_capacity(drafts.len()),
        ..Batch::default()
    };
    let mut log_offset = 0;
    for (draft, queue) in drafts.iter().zip(queues) {
        debug_assert_eq!(
            (draft.topic, draft.queue_id),
            (queue.topic(), queue.queue_id()),
            "a message goes to the queue that it names"
        );
        // Recovery would find no queue entry for such a record.
        debug_assert!(
            sys_flag::is_in_queue(draft.sys_flag),
            "a half message or a rolled back one has no queue entry"
        );
        let size = draft.encoded_len() as i32;
        let indexed = Indexed::of(draft.properties);
        let entry = Entry {
            log_offset,
            size,
            tags_code: queue.code_of(draft.properties, &indexed.tags, now_ms).value(),
        };
        batch.entries.push(DispatchRequest {
            queue: queue.clone(),
            queue_offset: QueueOffset::default(),
            entry,
        });
        let hashes = key_hashes_of(draft.topic, &indexed);
        if !hashes.is_empty() {
            batch.keys.push(IndexedRecord {
                hashes,
                log_offset: LogOffset(log_offset),
                store_timestamp: 0,
            });
        }
        log_offset += i64::from(size);
    }
    batch
}

/// The hashes that a message is indexed under.
pub(crate) fn key_hashes_of(topic: &str, indexed: &Indexed<'_>) -> SmallVec<[i32; 2]> {
    let mut hashes = SmallVec::new();
    key_hashes(topic, &indexed.uniq_key, &indexed.keys, &indexed.tags, |hash| hashes.push(hash));
    hashes
}

fn encode(state: &mut AppendState, drafts: &[Draft<'_>], bytes: usize, batch: &mut Batch, placements: &mut Vec<Placement>) {
    if state.buffer.capacity() < bytes {
        state.buffer = BytesMut::with_capacity(bytes.max(ENCODE_BUFFER_BYTES));
    }
    let start = state.end;
    assert_eq!(drafts.len(), batch.entries.len(), "each message needs its entry");
    for (draft, dispatched) in drafts.iter().zip(&mut batch.entries) {
        dispatched.entry.log_offset += start.0;
        dispatched.queue_offset = dispatched.queue.assign();
        let placement = Placement {
            queue_offset: dispatched.queue_offset,
            log_offset: LogOffset(dispatched.entry.log_offset),
            store_timestamp: batch.store_timestamp,
        };
        draft.encode(placement, &mut state.buffer);
        placements.push(placement);
    }
    for key in &mut batch.keys {
        key.log_offset = start.plus(key.log_offset.0 as usize);
        key.store_timestamp = batch.store_timestamp;
    }
    assert_eq!(state.buffer.len(), bytes, "records do not have the lengths that their entries say");
    state.end = state.end.plus(bytes);
    assert!(
        state.end <= state.segment_end,
        "records end at {}, over the end of their file at {}",
        state.end,
        state.segment_end
    );
    batch.chunks.push((start, state.buffer.split().freeze()));
    batch.end = state.end;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::simulated::SimulatedDisk;
    use crate::dispatch::Dispatch;
    use crate::options::{FlushMode, StoreOptions};
    use crate::queue::{DueTopic, QueueOptions, QueueTable};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    #[test]
    fn a_broken_invariant_ends_writing_and_whoever_waits_is_told() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let queues = Arc::new(QueueTable::open(disk.clone(), Path::new("/q"), QueueOptions::default(), DueTopic::default()).unwrap());
        let options = StoreOptions::small("/", FlushMode::Async).log;
        let segments = CommitLog::open_segments(disk, Path::new("/log"), &options).unwrap();
        let dispatch = Arc::new(Dispatch::new(crate::derived::of(&queues, None), LogOffset(0)));
        let log = CommitLog::new(options, segments, (LogOffset(0), LogOffset(0)), dispatch);
        let (done, outcome) = mpsc::channel();
        let append = || log.append(&[Draft::new("t", 0, b"x")], &[queues.find_or_create("t", 0)], 1, &mut Vec::new());
        let waits = append().unwrap();
        log.waiters.lock().push(Waiter {
            end: waits.end,
            level: Level::Written,
            done: Box::new(move |told| done.send(told).unwrap()),
        });
        log.marks.set_written(LogOffset(1 << 40));
        catch_unwind(AssertUnwindSafe(|| log.write_pending())).unwrap_err();
        assert!(outcome.recv().unwrap().unwrap_err().contains("an invariant of the store"));
        assert!(log.has_broken_invariant());
        assert!(matches!(append(), Err(AppendError::NotWritable(_))));
    }

    #[test]
    fn store_timestamps_are_in_the_order_of_the_log_unless_the_clock_is_set_back() {
        let mut state = AppendState {
            end: LogOffset(0),
            segment_end: LogOffset(0),
            last_stored_ms: 0,
            buffer: BytesMut::new(),
            pending: Vec::new(),
            leading: false,
            closed: false,
            truncating: false,
            failed: None,
        };
        let hour = 3_600_000;
        let looked_at = [10 * hour, 10 * hour + 5, 10 * hour + 3, 10 * hour - 40_000, 9 * hour, 9 * hour - 1];
        let stored = looked_at.map(|now_ms| state.stored_at(now_ms));
        assert_eq!(stored, [10 * hour, 10 * hour + 5, 10 * hour + 5, 10 * hour + 5, 9 * hour, 9 * hour]);
    }
}
