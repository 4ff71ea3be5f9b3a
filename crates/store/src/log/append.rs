//! Appending messages: encode under one short lock, then one write for all threads that wait.

use super::light::{self, LightMessage};
use super::segment::{Segment, Segments};
use super::truncate::TRUNCATED;
use super::{CommitLog, Completion, Level, Ticket, Waiter};
use crate::error::{AppendError, StoreError};
use crate::index::key_hashes;
use crate::queue::{ConsumeQueue, Entry, QueueTable};
use crate::sync::atomic::Ordering;
use crate::sync::{Broken, is_broken, mpsc};
use bytes::{Bytes, BytesMut};
use message::properties::Indexed;
use message::record::{Draft, FILLER_LEN, Placement, encode_filler};
use message::{LogOffset, QueueOffset, sys_flag};
use smallvec::SmallVec;
use std::borrow::Borrow;
use std::io::IoSlice;
use std::sync::Arc;

/// Size of the buffer from which encoded messages are cut.
const ENCODE_BUFFER_BYTES: usize = 256 << 10;
/// Rounds of writing before a leader lets another thread lead. Few where threads are explored, so that this happens.
const MAX_ROUNDS: usize = if cfg!(feature = "explore") { 1 } else { 16 };
/// Maximum slices of one write.
const MAX_SLICES: usize = 512;
/// How far a sender's clock may be behind the last store timestamp. Within this, the sender was delayed or the clock was slewed,
/// and its message gets the last timestamp. Beyond it, the clock was set back.
const MAX_TIME_LAG_MS: i64 = 60_000;

/// The encoded messages of one append: bytes for the log, entries for queues and index.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Bytes and their log offsets; more than one chunk only where the log continues in the next file.
    pub(crate) chunks: SmallVec<[(LogOffset, Bytes); 1]>,
    /// Offset after the last byte.
    pub(crate) end: LogOffset,
    /// Store timestamp of its messages, epoch ms.
    pub(crate) store_timestamp: i64,
    /// One for each message that has a queue entry, in log order, and after them those of light queues.
    pub(crate) entries: Vec<DispatchRequest>,
    /// One for each message that has keys.
    pub(crate) keys: Vec<IndexedRecord>,
    /// One for each message that is in light queues, too; empty once they have their entries.
    pub(crate) light: Vec<LightMessage>,
}

/// A queue entry and the queue it is for.
#[derive(Debug)]
pub(crate) struct DispatchRequest {
    pub(crate) queue: Arc<ConsumeQueue>,
    /// The queue offset that was assigned; the record has the same.
    pub(crate) queue_offset: QueueOffset,
    pub(crate) entry: Entry,
}

/// The hashes under which a message is indexed.
#[derive(Clone, Debug)]
pub(crate) struct IndexedRecord {
    pub(crate) hashes: SmallVec<[i32; 2]>,
    pub(crate) log_offset: LogOffset,
    /// Store timestamp, epoch ms.
    pub(crate) store_timestamp: i64,
}

/// State under the append lock.
pub(crate) struct AppendState {
    /// Log offset of the next record.
    pub(super) end: LogOffset,
    /// End of the last file.
    pub(super) segment_end: LogOffset,
    /// Store timestamp of the last record, epoch ms.
    last_stored_ms: i64,
    buffer: BytesMut,
    pub(super) pending: Vec<Batch>,
    pub(super) leading: bool,
    /// The store is being closed: appends are refused.
    closed: bool,
    /// The log is being truncated: appends are refused.
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

    /// The store timestamp of a message whose sender read the clock at `now_ms`, before it got the lock. Searches by time need
    /// timestamps in log order, so a message that is a little late gets the last timestamp.
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
    /// The last file has no room and the next one is not prepared: the batch is returned.
    NeedsFile(Batch),
}

impl CommitLog {
    /// Assigns offsets to messages and encodes them; `placements` gets one for each. Nothing is written before
    /// [`CommitLog::complete`] is called with the ticket.
    ///
    /// # Errors
    /// [`AppendError`]; none of the messages is appended then.
    pub(crate) fn append(
        &self,
        table: &QueueTable,
        drafts: &[Draft<'_>],
        queues: &[impl Borrow<Arc<ConsumeQueue>>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Ticket, AppendError> {
        assert_eq!(drafts.len(), queues.len(), "each message needs its queue");
        let mut batch = prepare(table, drafts, queues, now_ms);
        let light_bytes: usize = batch.light.iter().map(LightMessage::max_bytes).sum();
        let bytes: usize = batch.entries.iter().map(|e| e.entry.size as usize).sum();
        let bytes = bytes + light_bytes;
        let max = usize::try_from(self.segments.segment_len()).unwrap_or(usize::MAX) - FILLER_LEN;
        if bytes > max {
            return Err(AppendError::TooLarge { size: bytes, max });
        }
        loop {
            match self.try_append(table, drafts, batch, bytes, now_ms, placements)? {
                AppendOutcome::Ticket(ticket) => return Ok(ticket),
                AppendOutcome::NeedsFile(returned) => batch = returned,
            }
            self.segments.prepare_next().map_err(|e| AppendError::NotWritable(e.to_string()))?;
        }
    }

    /// Refuses further appends, and waits until all earlier ones are published.
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
        table: &QueueTable,
        drafts: &[Draft<'_>],
        mut batch: Batch,
        mut bytes: usize,
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<AppendOutcome, AppendError> {
        let _guard = FailOnPanic(self);
        let mut state = self.state.lock();
        self.check_writable(&state, self.confirmed())?;
        if let Some(retired) = batch.entries.iter().find(|dispatched| dispatched.queue.is_retired())
            && !is_broken(Broken::AppendedToRetired)
        {
            return Err(AppendError::QueueRetired {
                topic: retired.queue.topic().to_owned(),
                queue_id: retired.queue.queue_id(),
            });
        }
        if !batch.light.is_empty() {
            bytes = light::number(table, drafts, &mut batch);
        }
        if !state.fits(bytes) {
            // The filler must not be written unless there is a file to continue in.
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

    /// Checks whether the log takes messages now, with `done` as the end of those that no longer count as waiting.
    pub(super) fn check_writable(&self, state: &AppendState, done: LogOffset) -> Result<(), AppendError> {
        if let Some(reason) = &state.failed {
            return Err(AppendError::NotWritable(reason.to_string()));
        }
        if state.closed {
            return Err(AppendError::NotWritable("the store is being closed".to_owned()));
        }
        if state.truncating {
            return Err(AppendError::NotWritable("the log is being truncated".to_owned()));
        }
        let unconfirmed = state.end.0 - done.0;
        if unconfirmed > self.options.max_unconfirmed_bytes {
            return Err(AppendError::Busy(format!(
                "{unconfirmed} bytes are not confirmed yet, over the limit of {} (apogeeMaxUnconfirmedBytes); try again later",
                self.options.max_unconfirmed_bytes
            )));
        }
        Ok(())
    }

    /// A ticket for all that was appended up to now.
    pub(crate) fn appended(&self) -> Ticket {
        self.ticket(&self.state.lock())
    }

    /// Writes pending batches unless another thread does, and returns the outcome if the append has reached `level`. Otherwise the
    /// completion made by `later` runs when it does, on the thread that brings this about.
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

    /// Runs `act` between two appends and returns the log's end at that moment: appends before have their offsets, none after it
    /// has. `act` must not block.
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
            // The receiver is gone only if this thread is.
            Box::new(move |outcome| done.send(outcome).unwrap_or_default())
        });
        let outcome = at_once.unwrap_or_else(|| outcome.recv().unwrap_or_else(|_| Err("the append was dropped".into())));
        outcome.map_err(|reason| StoreError::Failed(reason.to_string()))
    }

    fn reached(&self, level: Level) -> LogOffset {
        match level {
            Level::Written => self.written(),
            Level::Durable => self.marks.durable(),
            Level::Published if is_broken(Broken::AnsweredBeforePublished) => self.written(),
            Level::Published => self.dispatch.published(),
        }
    }

    /// Becomes the leader and writes until nothing is pending. Returns at once if another thread leads.
    pub(crate) fn write_pending(&self) {
        if !self.lead(MAX_ROUNDS) {
            // Other threads append faster than this one writes, and it has connections of its own to serve.
            self.wake_relief();
        }
    }

    /// Leads for at most `rounds`. True if this thread has nothing left to write.
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
            if let Some(act) = self.on_written.get() {
                act();
            }
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

    /// Fails the log: waiting completions get the error, later appends are refused.
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

    /// Runs the completions whose level is reached.
    pub(super) fn run_waiters(&self) {
        let reached = [Level::Written, Level::Durable, Level::Published].map(|level| self.reached(level));
        let ready: Vec<Waiter> = {
            let mut waiters = self.waiters.lock();
            if waiters.is_empty() {
                return;
            }
            waiters
                .extract_if(.., |waiter| waiter.end <= reached[waiter.level as usize])
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
        // A panic of an explored thread ends the run anyway.
        if std::thread::panicking() && !cfg!(feature = "explore") {
            self.0.has_broken_invariant.store(true, Ordering::Release);
            self.0
                .fail("an invariant of the store does not hold (the panic logged before says which)");
        }
    }
}

/// Chunks that are contiguous in one file, for one write.
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

    /// Whether a chunk at `start` continues this write. A filler may end where the next file begins.
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

/// Ends the last file with a filler and continues in the next one.
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

/// Prepares entries and keys before the lock is taken: all but offsets and timestamp, which are relative to the batch.
fn prepare(table: &QueueTable, drafts: &[Draft<'_>], queues: &[impl Borrow<Arc<ConsumeQueue>>], now_ms: i64) -> Batch {
    let mut batch = Batch {
        entries: Vec::with_capacity(drafts.len()),
        keys: Vec::with_capacity(drafts.len()),
        ..Batch::default()
    };
    let mut log_offset = 0;
    for (draft, queue) in drafts.iter().zip(queues) {
        let queue: &Arc<ConsumeQueue> = queue.borrow();
        debug_assert_eq!(
            (draft.topic, draft.queue_id),
            (queue.topic(), queue.queue_id()),
            "a message goes to the queue that it names"
        );
        // Recovery would rebuild no queue entry for such a record.
        debug_assert!(
            sys_flag::is_in_queue(draft.sys_flag),
            "a record with the flags of a half or rolled back message has no queue entry"
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
        if !indexed.light_queues.is_empty() && table.has_light_queues() {
            batch
                .light
                .extend(LightMessage::of(table, batch.entries.len() - 1, draft, &indexed.light_queues));
        }
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

/// The hashes under which a message is indexed.
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
    // Apart from the copying below: a load of what was just stored waits for all stores before it, and those of a copy are many.
    placements.extend(batch.entries.iter_mut().map(|dispatched| {
        dispatched.entry.log_offset += start.0;
        dispatched.queue_offset = dispatched.queue.assign();
        Placement {
            queue_offset: dispatched.queue_offset,
            log_offset: LogOffset(dispatched.entry.log_offset),
            store_timestamp: batch.store_timestamp,
        }
    }));
    let placed = &placements[placements.len() - drafts.len()..];
    let mut light = std::mem::take(&mut batch.light).into_iter().peekable();
    let mut light_entries = Vec::new();
    for (at, (draft, placement)) in drafts.iter().zip(placed).enumerate() {
        let Some(light) = light.next_if(|light| light.draft == at) else {
            draft.encode(*placement, &mut state.buffer);
            continue;
        };
        light.draft_of(draft).encode(*placement, &mut state.buffer);
        light.assign(batch.entries[at].entry, &mut light_entries);
    }
    batch.entries.append(&mut light_entries);
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
    use crate::queue::{DueTopic, QueueOptions};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    #[test]
    fn a_broken_invariant_ends_writing_and_whoever_waits_is_told() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let queues = Arc::new(QueueTable::open(disk.clone(), Path::new("/q"), QueueOptions::default(), DueTopic::default()).unwrap());
        let options = StoreOptions::small("/", FlushMode::Async).log;
        let segments = CommitLog::open_segments(disk, Path::new("/log"), &options).unwrap();
        let dispatch = Arc::new(Dispatch::new(crate::derived::of(&queues, None), LogOffset(0)));
        let log = CommitLog::new(options, segments, LogOffset(0), LogOffset(0), dispatch);
        let (done, outcome) = mpsc::channel();
        let append = || {
            log.append(
                &queues,
                &[Draft::new("t", 0, b"x")],
                &[queues.find_or_create("t", 0)],
                1,
                &mut Vec::new(),
            )
        };
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
