//! The thread that delivers delayed messages.
//!
//! Each round takes what is due from all levels that have something due, a share of each, and appends it in one piece. It does
//! not wait for the device: up to [`MAX_OPEN_BYTES`] of appends may be unconfirmed. When nothing is due it sleeps until the
//! earliest is.

use super::clock::{Moment, WallClock};
use super::level_reader::{self, LevelReader};
use super::progress::{Batch, Move, Progress};
use super::{DelayOffsets, delivered};
use crate::alarm::Alarm;
use crate::clock::now_ms;
use crate::escape::Source;
use crate::log_writer::{self, LogWriter, WaitFor};
use crate::records;
use crate::schedule::{self, Levels};
use crate::stats::BrokerStats;
use crate::topic::Topics;
use message::properties;
use message::record::Draft;
use message::{QueueOffset, Record, names};
use parking_lot::Mutex;
use protocol::number::Integer;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::queue::Entry;
use store::{AppendError, ConsumeQueue, Store, StoreError};

/// The longest sleep while messages wait: how soon a wall clock that was set is noticed.
pub const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Messages of one append at most, and about so many bytes: the log's append lock is held for no longer than for a send of as
/// many bytes.
const BATCH_MESSAGES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of appends that are not confirmed, above which the thread waits.
const MAX_OPEN_BYTES: i64 = 4 << 20;
/// How long to wait before an append that was refused is tried again.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// The same when it was refused because the log is busy.
const WHEN_BUSY: Duration = Duration::from_millis(20);
/// A waiting message whose delay differs from its level's by more than this was sent under another `messageDelayLevel`.
const OTHER_DELAY_MS: i64 = 1_000;
/// How often the same pause is logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The running delivery thread.
#[derive(Debug)]
pub struct Delivery {
    alarm: Arc<Alarm>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What delivery works with.
#[derive(Clone)]
pub struct DeliveryParts {
    /// The store with the schedule topic.
    pub store: Arc<Store>,
    /// Where due messages are appended.
    pub log: LogWriter,
    /// How far each level is delivered.
    pub offsets: Arc<DelayOffsets>,
    /// Wakes the thread.
    pub alarm: Arc<Alarm>,
    /// Topics, whose counters delivered messages add to.
    pub topics: Arc<Topics>,
    /// The broker's counters.
    pub stats: Arc<BrokerStats>,
}

impl Delivery {
    /// Starts to deliver what waits at these levels, or at levels that are no longer configured, from the saved offsets on.
    ///
    /// # Errors
    /// [`io::Error`] if the thread cannot be started.
    pub fn start(levels: &Levels, parts: DeliveryParts) -> io::Result<Self> {
        let DeliveryParts {
            store,
            log,
            offsets,
            alarm,
            topics,
            stats,
        } = parts;
        alarm.restart();
        let begun = Instant::now();
        let worker = Worker {
            readers: readers(&store, levels, &offsets),
            clock: WallClock::new(moment(begun)),
            begun,
            turn: 0,
            progress: Arc::new(Progress::new(Arc::clone(&offsets), Arc::clone(&alarm), Arc::clone(&stats))),
            offsets,
            alarm: Arc::clone(&alarm),
            store,
            log,
            topics,
            stats,
            warned: None,
        };
        let thread = std::thread::Builder::new().name("delay".to_owned()).spawn(move || worker.run())?;
        Ok(Self {
            alarm,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Stops the thread. Messages that are not due yet stay in the schedule topic.
    pub fn stop(&self) {
        self.alarm.stop();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A reader for each configured level and for each level in which messages wait.
fn readers(store: &Store, levels: &Levels, offsets: &DelayOffsets) -> Vec<LevelReader> {
    let waiting = store.queues_of(names::SCHEDULE_TOPIC);
    let gone = waiting.iter().map(|queue| schedule::level_of_queue(queue.queue_id()));
    let gone = gone.filter(|level| *level > levels.max());
    levels
        .all()
        .chain(gone)
        .map(|level| {
            let delay_ms = if level > levels.max() { 0 } else { levels.delay_ms(level) };
            let queue = waiting.iter().find(|queue| queue.queue_id() == schedule::queue_of(level));
            let Some(queue) = queue else {
                return LevelReader::new(level, delay_ms, 0, false);
            };
            let from = start(level, queue, offsets);
            if from < queue.max().0 {
                report_other_delays(store, levels, level, queue, from);
            }
            LevelReader::new(level, delay_ms, from, from < queue.max().0)
        })
        .collect()
}

/// The offset at which a level continues. A saved offset outside its queue is corrected: its messages were deleted, or the file belongs
/// to another store.
fn start(level: i32, queue: &ConsumeQueue, offsets: &DelayOffsets) -> i64 {
    let (min, max) = (queue.min().0, queue.max().0);
    let saved = offsets.of(level);
    let from = saved.unwrap_or(0).clamp(min, max);
    if let Some(saved) = saved.filter(|saved| *saved != from) {
        tracing::error!(
            level,
            saved,
            min,
            max,
            "saved offset of a delay level is not in its queue: it is corrected"
        );
        offsets.set(level, from);
    }
    from
}

/// Logs a warning if messages wait in a level that were sent under another `messageDelayLevel`.
fn report_other_delays(store: &Store, levels: &Levels, level: i32, queue: &ConsumeQueue, from: i64) {
    let messages = queue.max().0 - from;
    if level > levels.max() {
        tracing::warn!(
            level,
            messages,
            "messageDelayLevel has fewer levels now: messages that wait at this level are delivered at the time they were sent for"
        );
        return;
    }
    let mut first = Vec::with_capacity(1);
    let delay_ms = match queue.read(QueueOffset(from), 1, &mut first) {
        Ok(()) => first.first().and_then(|entry| level_reader::delay_of(entry, store).ok().flatten()),
        Err(_) => None,
    };
    // By more than a second: the clocks of a sender and of the log may differ by less.
    if let Some(delay_ms) = delay_ms.filter(|delay_ms| (delay_ms - levels.delay_ms(level)).abs() > OTHER_DELAY_MS) {
        tracing::warn!(
            level,
            messages,
            sent_to_wait_ms = delay_ms,
            messages_wait_now_ms = levels.delay_ms(level),
            "messages wait that were sent under another messageDelayLevel: they keep their delivery time, and later messages of the level are delivered after them"
        );
    }
}

fn moment(begun: Instant) -> Moment {
    Moment {
        wall_ms: now_ms(),
        steady_ms: begun.elapsed().as_millis() as i64,
    }
}

/// The result of a round.
enum Round {
    /// More messages may be due.
    Again,
    /// Nothing is due for this many milliseconds; `None`: no message waits.
    DueIn(Option<i64>),
    /// Nothing can be done until an append is confirmed, or for this long.
    Wait(Duration),
}

struct Worker {
    store: Arc<Store>,
    log: LogWriter,
    topics: Arc<Topics>,
    stats: Arc<BrokerStats>,
    offsets: Arc<DelayOffsets>,
    alarm: Arc<Alarm>,
    progress: Arc<Progress>,
    clock: WallClock,
    begun: Instant,
    readers: Vec<LevelReader>,
    /// Index of the reader that the next round begins with.
    turn: usize,
    warned: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        while !self.alarm.is_stopped() {
            self.alarm.begin_look();
            let now = moment(self.begun);
            self.clock.look(now);
            match self.round(now) {
                Round::Again => {}
                Round::Wait(time) => self.alarm.rest(time),
                Round::DueIn(None) => self.alarm.sleep(None, None),
                Round::DueIn(Some(left_ms)) => {
                    let left = Duration::from_millis(left_ms.max(1) as u64);
                    self.alarm.sleep(Some(now.wall_ms + left_ms), Some(left.min(LONGEST_SLEEP)));
                }
            }
        }
    }

    fn round(&mut self, now: Moment) -> Round {
        let open = self.progress.open();
        if open.failed {
            return self.restart_unconfirmed(open.batches);
        }
        if open.bytes >= MAX_OPEN_BYTES {
            return Round::Wait(LONGEST_SLEEP);
        }
        let due = match self.look(now) {
            Ok(Looked::Due(due)) => due,
            Ok(Looked::NotDue(left_ms)) => return Round::DueIn(left_ms),
            Err(error) => {
                self.warn_paused(&format!("cannot read a queue of delayed messages: {error}"));
                return Round::Wait(AFTER_REFUSAL);
            }
        };
        let outcome = self.collect(&due, now).and_then(|entries| self.deliver(&entries));
        match outcome {
            Ok(round) => round,
            Err(retry) => {
                self.readers.iter_mut().for_each(LevelReader::release_taken);
                self.warn_paused(&retry.text);
                Round::Wait(retry.pause)
            }
        }
    }

    /// An append failed: every message whose delivery was not confirmed is read and delivered again.
    fn restart_unconfirmed(&mut self, batches: usize) -> Round {
        if batches > 0 {
            return Round::Wait(LONGEST_SLEEP);
        }
        for reader in &mut self.readers {
            let confirmed = self.offsets.of(reader.level).unwrap_or(0);
            if reader.next() > confirmed {
                reader.restart(confirmed);
            }
        }
        self.progress.clear_failure();
        self.warn_paused("an append of due messages failed");
        Round::Wait(AFTER_REFUSAL)
    }

    /// The levels with a message that is due, beginning with the one whose turn it is.
    fn look(&mut self, now: Moment) -> Result<Looked, StoreError> {
        let (mut due, mut earliest) = (Vec::new(), None);
        let count = self.readers.len();
        for at in (0..count).map(|n| (self.turn + n) % count) {
            let reader = &mut self.readers[at];
            let Some(head) = reader.head(&self.store)? else { continue };
            if self.offsets.of(reader.level).is_none() {
                // Compat: a level shows in tables once a message waits in it.
                self.offsets.set(reader.level, reader.next());
            }
            let left = reader.due_in_ms(&head, &self.store, &self.clock, now)?;
            if left <= 0 {
                due.push(at);
            } else {
                earliest = Some(earliest.map_or(left, |known: i64| known.min(left)));
            }
        }
        self.turn = (self.turn + 1) % count;
        Ok(if due.is_empty() {
            Looked::NotDue(earliest)
        } else {
            Looked::Due(due)
        })
    }

    /// Takes a share of the due entries of each of these levels: index of the reader, and the entry.
    fn collect(&mut self, due: &[usize], now: Moment) -> Result<Vec<(usize, Entry)>, RetryLater> {
        // Half of what one append takes: the name of a message's own topic may be longer than that of the schedule topic.
        let most_bytes = BATCH_BYTES.min(self.store.max_append_bytes() / 2);
        let (share, share_bytes) = ((BATCH_MESSAGES / due.len()).max(1), most_bytes / due.len());
        let (mut entries, mut total) = (Vec::new(), 0);
        for &at in due {
            let reader = &mut self.readers[at];
            let mut bytes = 0;
            for taken in 0..share {
                let Some(head) = reader.head(&self.store).map_err(RetryLater::reading)? else {
                    break;
                };
                let size = if head.is_blank() { 0 } else { head.size as usize };
                // A level's first message may be larger than its share, the first of all of any size.
                let fits = entries.is_empty() || (total + size <= most_bytes && (taken == 0 || bytes + size <= share_bytes));
                if !fits
                    || reader
                        .due_in_ms(&head, &self.store, &self.clock, now)
                        .map_err(RetryLater::reading)?
                        > 0
                {
                    break;
                }
                bytes += size;
                total += size;
                reader.take_head();
                entries.push((at, head));
            }
        }
        Ok(entries)
    }

    /// Appends the messages of these entries, except those that cannot be delivered or were delivered before a crash.
    fn deliver(&mut self, entries: &[(usize, Entry)]) -> Result<Round, RetryLater> {
        let records = records::read(&self.store, entries, "delayed").map_err(RetryLater::reading)?;
        let mut rechecks: Vec<Option<i64>> = self.readers.iter().map(|reader| reader.recheck).collect();
        let mut due: Vec<(usize, Due<'_>)> = Vec::with_capacity(records.len());
        for (reader, bytes) in &records {
            due.extend(self.due(bytes, &mut rechecks[*reader]).map(|message| (*reader, message)));
        }
        let mut batch = Batch::default();
        let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(due.len());
        let mut queues: Vec<Arc<ConsumeQueue>> = Vec::with_capacity(due.len());
        for (reader, message) in &due {
            let draft = message.draft();
            queues.push(self.log.queue(draft.topic, draft.queue_id));
            let counters = match self.topics.find(draft.topic) {
                Some(topic) => Arc::clone(&topic.counters),
                None => Arc::new(self.stats.topic(draft.topic)),
            };
            batch.add(self.readers[*reader].level, &counters, draft.encoded_len() as i64);
            drafts.push(draft);
        }
        let moves = self.moves();
        if drafts.is_empty() {
            return Ok(self.pass_over(&moves, &rechecks));
        }
        let delivery = match self
            .log
            .deliver(Source::Delays, &drafts, &queues, now_ms(), &mut Vec::with_capacity(drafts.len()))
        {
            Ok(delivery) => delivery,
            Err(AppendError::TooLarge { size, max }) if drafts.len() == 1 => {
                tracing::error!(
                    topic = drafts[0].topic,
                    size,
                    max,
                    "a delayed message with its topic's name is larger than an append may be: it is not delivered"
                );
                return Ok(self.pass_over(&moves, &rechecks));
            }
            Err(error) => return Err(RetryLater::refused(&error)),
        };
        self.finish_taken(&rechecks);
        self.complete(delivery, &drafts, Batch { moves, ..batch });
        Ok(Round::Again)
    }

    fn complete(&self, delivery: log_writer::Delivery, drafts: &[Draft<'_>], batch: Batch) {
        self.progress.begin(&batch);
        let progress = Arc::clone(&self.progress);
        // A message's own topic was created when it was sent.
        let wait = WaitFor {
            flush: true,
            topics: false,
            slaves: false,
        };
        let done = move |outcome: Result<(), _>| progress.end(&batch, outcome.is_ok(), now_ms());
        self.log.finish(delivery, drafts, wait, done);
    }

    /// Skips the entries that were taken, none of which is to be delivered, unless earlier deliveries are unconfirmed.
    fn pass_over(&mut self, moves: &[Move], rechecks: &[Option<i64>]) -> Round {
        if self.progress.open().batches > 0 {
            self.readers.iter_mut().for_each(LevelReader::release_taken);
            return Round::Wait(LONGEST_SLEEP);
        }
        self.progress.advance(moves, now_ms());
        self.finish_taken(rechecks);
        Round::Again
    }

    fn moves(&self) -> Vec<Move> {
        let moved = self.readers.iter().filter(|reader| reader.after_taken() > reader.next());
        let step = |reader: &LevelReader| Move {
            level: reader.level,
            to: reader.after_taken(),
            steps: (reader.after_taken() - reader.next()) as u64,
        };
        moved.map(step).collect()
    }

    fn finish_taken(&mut self, rechecks: &[Option<i64>]) {
        for (reader, recheck) in self.readers.iter_mut().zip(rechecks) {
            reader.finish_taken();
            reader.recheck = *recheck;
        }
    }

    /// The message of a waiting record with its own topic and queue; `None` if it is not to be delivered.
    fn due<'r>(&self, bytes: &'r [u8], recheck: &mut Option<i64>) -> Option<Due<'r>> {
        let record = match Record::parse(bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, "a delayed message is damaged: it is not delivered");
                return None;
            }
        };
        let Some((topic, queue_id)) = destination(&record) else {
            tracing::error!(at = %record.log_offset, "a delayed message has no valid REAL_TOPIC and REAL_QID: it is not delivered");
            return None;
        };
        if let Some(last) = *recheck {
            *recheck = delivered::find(&self.store, &record, topic, queue_id, last);
            if recheck.is_some() {
                return None;
            }
        }
        Some(Due {
            topic,
            queue_id,
            properties: schedule::delivered_properties(record.properties),
            record,
        })
    }

    /// Logs that delivery pauses, once a minute while the reason lasts.
    fn warn_paused(&mut self, text: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            tracing::error!(
                text,
                "delivery of delayed messages is paused and will be retried; no message is lost"
            );
            self.warned = Some(Instant::now());
        }
    }
}

/// A due message with its destination.
struct Due<'r> {
    topic: &'r str,
    queue_id: i32,
    properties: Cow<'r, [u8]>,
    record: Record<'r>,
}

impl Due<'_> {
    fn draft(&self) -> Draft<'_> {
        Draft {
            topic: self.topic,
            queue_id: self.queue_id,
            properties: &self.properties,
            ..Draft::of(&self.record)
        }
    }
}

enum Looked {
    /// Indexes of readers with a due message, at least one.
    Due(Vec<usize>),
    /// Milliseconds until the first message is due; `None`: no message waits.
    NotDue(Option<i64>),
}

/// Why a round was cut short; it is retried after `pause`.
struct RetryLater {
    text: String,
    pause: Duration,
}

impl RetryLater {
    fn reading(error: impl std::fmt::Display) -> Self {
        Self {
            text: format!("cannot read delayed messages: {error}"),
            pause: AFTER_REFUSAL,
        }
    }

    fn refused(error: &AppendError) -> Self {
        let pause = if matches!(error, AppendError::Busy(_)) {
            WHEN_BUSY
        } else {
            AFTER_REFUSAL
        };
        Self {
            text: error.to_string(),
            pause,
        }
    }
}

/// The topic and queue that a waiting message was sent to.
fn destination<'r>(record: &Record<'r>) -> Option<(&'r str, i32)> {
    let topic = std::str::from_utf8(properties::find(record.properties, properties::REAL_TOPIC)?).ok()?;
    let queue_id = i32::parse(properties::find(record.properties, properties::REAL_QID)?)?;
    let is_allowed = names::check_topic(topic).is_ok() && topic != names::TRANS_HALF_TOPIC && topic != names::SCHEDULE_TOPIC;
    (is_allowed && queue_id >= 0).then_some((topic, queue_id))
}
