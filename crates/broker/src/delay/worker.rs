//! The thread that delivers.
//!
//! Each round takes what is due from all levels that have something due, a share of each, and appends it in one piece. It does
//! not wait for the device: up to [`MAX_OPEN_BYTES`] of appends may be unconfirmed. When nothing is due it sleeps until the
//! earliest is.

use super::clock::{Moment, WallClock};
use super::line::{self, Line};
use super::progress::{Flight, Move, Progress};
use super::{Alarm, DelayOffsets, delivered};
use crate::clock::now_ms;
use crate::log_writer::{LogWriter, WaitFor};
use crate::schedule::{self, Levels};
use crate::stats::BrokerStats;
use crate::topic::Topics;
use bytes::Bytes;
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
/// Before an append that was refused is tried again.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
const WHEN_BUSY: Duration = Duration::from_millis(20);
/// By how much what a message was sent to wait differs from its level when the level was another one then.
const OTHER_DELAY_MS: i64 = 1_000;
/// Between two complaints about the same trouble.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The running thread.
#[derive(Debug)]
pub struct Delivery {
    alarm: Arc<Alarm>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What delivery works with.
pub struct DeliveryParts {
    /// Has what waits.
    pub store: Arc<Store>,
    /// Takes what is due.
    pub log: LogWriter,
    /// How far each level is delivered.
    pub offsets: Arc<DelayOffsets>,
    /// Wakes the thread.
    pub alarm: Arc<Alarm>,
    /// Counts what arrives in a topic.
    pub topics: Arc<Topics>,
    /// Counts.
    pub stats: Arc<BrokerStats>,
}

impl Delivery {
    /// Begins to deliver what waits at these levels or at others, from where the offsets say.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(levels: &Levels, parts: DeliveryParts) -> io::Result<Self> {
        let DeliveryParts {
            store,
            log,
            offsets,
            alarm,
            topics,
            stats,
        } = parts;
        let begun = Instant::now();
        let worker = Worker {
            lines: lines(&store, levels, &offsets),
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
            complained: None,
        };
        let thread = std::thread::Builder::new().name("delay".to_owned()).spawn(move || worker.run())?;
        Ok(Self {
            alarm,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread; what is due later stays where it is.
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

/// Every level that there is, or that messages wait in, and where each goes on.
fn lines(store: &Store, levels: &Levels, offsets: &DelayOffsets) -> Vec<Line> {
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
                return Line::new(level, delay_ms, 0, false);
            };
            let from = start(level, queue, offsets);
            if from < queue.max().0 {
                report_other_delays(store, levels, level, queue, from);
            }
            Line::new(level, delay_ms, from, from < queue.max().0)
        })
        .collect()
}

/// Where a level goes on. A saved offset outside the queue is corrected: its messages are gone, or it is of another store.
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

/// Warns when what waits in a level was sent under other levels than today's.
fn report_other_delays(store: &Store, levels: &Levels, level: i32, queue: &ConsumeQueue, from: i64) {
    let messages = queue.max().0 - from;
    if level > levels.max() {
        tracing::warn!(
            level,
            messages,
            "messageDelayLevel has not so many levels any more: what waits is delivered at the time it was sent for"
        );
        return;
    }
    let mut first = Vec::with_capacity(1);
    let delay_ms = match queue.read(QueueOffset(from), 1, &mut first) {
        Ok(()) => first.first().and_then(|entry| line::delay_of(entry, store).ok().flatten()),
        Err(_) => None,
    };
    // Told by more than a second: how long the clock of a sender and that of the log may be apart.
    if let Some(delay_ms) = delay_ms.filter(|delay_ms| (delay_ms - levels.delay_ms(level)).abs() > OTHER_DELAY_MS) {
        tracing::warn!(
            level,
            messages,
            sent_to_wait_ms = delay_ms,
            messages_wait_now_ms = levels.delay_ms(level),
            "messages wait that were sent under another messageDelayLevel: they keep their time, and later ones of the level come after them"
        );
    }
}

fn moment(begun: Instant) -> Moment {
    Moment {
        wall_ms: now_ms(),
        steady_ms: begun.elapsed().as_millis() as i64,
    }
}

/// What a round came to.
enum Round {
    /// There may be more due.
    Again,
    /// Nothing is due for so many ms; `None` when nothing waits.
    DueIn(Option<i64>),
    /// Nothing can be done until an append is confirmed, or for so long.
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
    lines: Vec<Line>,
    /// Which level begins the next round.
    turn: usize,
    complained: Option<Instant>,
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
            return self.take_back(open.flights);
        }
        if open.bytes >= MAX_OPEN_BYTES {
            return Round::Wait(LONGEST_SLEEP);
        }
        let due = match self.look(now) {
            Ok(Looked::Due(due)) => due,
            Ok(Looked::NotDue(left_ms)) => return Round::DueIn(left_ms),
            Err(error) => {
                self.complain(&format!("cannot read a queue of delayed messages: {error}"));
                return Round::Wait(AFTER_REFUSAL);
            }
        };
        let outcome = self.collect(&due, now).and_then(|entries| self.deliver(&entries));
        match outcome {
            Ok(round) => round,
            Err(trouble) => {
                self.lines.iter_mut().for_each(Line::give_back);
                self.complain(&trouble.text);
                Round::Wait(trouble.pause)
            }
        }
    }

    /// An append failed: all that was not confirmed is to be delivered once more.
    fn take_back(&mut self, flights: usize) -> Round {
        if flights > 0 {
            return Round::Wait(LONGEST_SLEEP);
        }
        for line in &mut self.lines {
            let confirmed = self.offsets.of(line.level).unwrap_or(0);
            if line.next() > confirmed {
                line.restart(confirmed);
            }
        }
        self.progress.forgive();
        self.complain("delayed messages were not stored when they were due");
        Round::Wait(AFTER_REFUSAL)
    }

    /// Which levels have something due, the one whose turn it is first.
    fn look(&mut self, now: Moment) -> Result<Looked, StoreError> {
        let (mut due, mut earliest) = (Vec::new(), None);
        let count = self.lines.len();
        for at in (0..count).map(|n| (self.turn + n) % count) {
            let line = &mut self.lines[at];
            let Some(head) = line.head(&self.store)? else { continue };
            if self.offsets.of(line.level).is_none() {
                // Compat: a level shows in tables once a message waits in it.
                self.offsets.set(line.level, line.next());
            }
            let left = line.due_in_ms(&head, &self.store, &self.clock, now)?;
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

    /// Takes a share of what is due from each of these levels: which line, and the entry.
    fn collect(&mut self, due: &[usize], now: Moment) -> Result<Vec<(usize, Entry)>, Trouble> {
        // Half of what one append takes: a message's own topic may have a longer name than the one it waits in.
        let room = BATCH_BYTES.min(self.store.max_append_bytes() / 2);
        let (share, share_bytes) = ((BATCH_MESSAGES / due.len()).max(1), room / due.len());
        let (mut entries, mut total) = (Vec::new(), 0);
        for &at in due {
            let line = &mut self.lines[at];
            let mut bytes = 0;
            for taken in 0..share {
                let Some(head) = line.head(&self.store).map_err(Trouble::reading)? else {
                    break;
                };
                let size = if head.is_blank() { 0 } else { head.size as usize };
                // A level's first message may be larger than its share, the first of all of any size.
                let fits = entries.is_empty() || (total + size <= room && (taken == 0 || bytes + size <= share_bytes));
                if !fits || line.due_in_ms(&head, &self.store, &self.clock, now).map_err(Trouble::reading)? > 0 {
                    break;
                }
                bytes += size;
                total += size;
                line.take();
                entries.push((at, head));
            }
        }
        Ok(entries)
    }

    /// Appends the messages of these entries, except those that cannot or need not be delivered.
    fn deliver(&mut self, entries: &[(usize, Entry)]) -> Result<Round, Trouble> {
        let records = read(&self.store, entries)?;
        let mut doubts: Vec<Option<i64>> = self.lines.iter().map(|line| line.doubt).collect();
        let mut due: Vec<(usize, Due<'_>)> = Vec::with_capacity(records.len());
        for (line, bytes) in &records {
            due.extend(self.due(bytes, &mut doubts[*line]).map(|message| (*line, message)));
        }
        let mut flight = Flight::default();
        let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(due.len());
        let mut queues: Vec<Arc<ConsumeQueue>> = Vec::with_capacity(due.len());
        for (line, message) in &due {
            let draft = message.draft();
            queues.push(self.log.queue(draft.topic, draft.queue_id));
            let counters = match self.topics.find(draft.topic) {
                Some(topic) => Arc::clone(&topic.counters),
                None => Arc::new(self.stats.topic(draft.topic)),
            };
            flight.add(self.lines[*line].level, &counters, draft.encoded_len() as i64);
            drafts.push(draft);
        }
        let moves = self.moves();
        if drafts.is_empty() {
            return Ok(self.pass_over(&moves, &doubts));
        }
        let ticket = match self.log.append(&drafts, &queues, now_ms(), &mut Vec::with_capacity(drafts.len())) {
            Ok(ticket) => ticket,
            Err(AppendError::TooLarge { size, max }) if drafts.len() == 1 => {
                tracing::error!(
                    topic = drafts[0].topic,
                    size,
                    max,
                    "a delayed message is too large for its topic's name: it is not delivered"
                );
                return Ok(self.pass_over(&moves, &doubts));
            }
            Err(error) => return Err(Trouble::refused(&error)),
        };
        self.keep(&doubts);
        self.complete(ticket, Flight { moves, ..flight });
        Ok(Round::Again)
    }

    fn complete(&self, ticket: store::Ticket, flight: Flight) {
        self.progress.begin(&flight);
        let progress = Arc::clone(&self.progress);
        // A message's own topic was made when it was sent.
        let wait = WaitFor {
            flush: true,
            topics: false,
        };
        self.log
            .complete_then(ticket, wait, move |outcome| progress.end(&flight, outcome.is_ok(), now_ms()));
    }

    /// Passes over what was taken, when nothing of it is to be delivered and nothing before it is open.
    fn pass_over(&mut self, moves: &[Move], doubts: &[Option<i64>]) -> Round {
        if self.progress.open().flights > 0 {
            self.lines.iter_mut().for_each(Line::give_back);
            return Round::Wait(LONGEST_SLEEP);
        }
        self.progress.advance(moves, now_ms());
        self.keep(doubts);
        Round::Again
    }

    fn moves(&self) -> Vec<Move> {
        let moved = self.lines.iter().filter(|line| line.after_taken() > line.next());
        let step = |line: &Line| Move {
            level: line.level,
            to: line.after_taken(),
            steps: (line.after_taken() - line.next()) as u64,
        };
        moved.map(step).collect()
    }

    fn keep(&mut self, doubts: &[Option<i64>]) {
        for (line, doubt) in self.lines.iter_mut().zip(doubts) {
            line.keep();
            line.doubt = *doubt;
        }
    }

    /// The message of a waiting record as it goes to its own topic; `None` when it goes nowhere.
    fn due<'r>(&self, bytes: &'r [u8], doubt: &mut Option<i64>) -> Option<Due<'r>> {
        let record = match Record::parse(bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, "a delayed message is damaged: it is not delivered");
                return None;
            }
        };
        let Some((topic, queue_id)) = destination(&record) else {
            tracing::error!(at = %record.log_offset, "a delayed message does not say where it goes: it is not delivered");
            return None;
        };
        if let Some(last) = *doubt {
            *doubt = delivered::find(&self.store, &record, topic, queue_id, last);
            if doubt.is_some() {
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

    /// The same trouble every round is told once a minute.
    fn complain(&mut self, text: &str) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            tracing::error!(text, "delivery of delayed messages pauses; nothing is lost, it is tried again");
            self.complained = Some(Instant::now());
        }
    }
}

/// A message that is due, and where it goes.
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
    /// These lines, of which there is one.
    Due(Vec<usize>),
    /// In so many ms.
    NotDue(Option<i64>),
}

/// Why a round did not come to its end.
struct Trouble {
    text: String,
    pause: Duration,
}

impl Trouble {
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

/// The records of entries, with their lines. Those that are no longer in the log are left out.
fn read(store: &Store, entries: &[(usize, Entry)]) -> Result<Vec<(usize, Bytes)>, Trouble> {
    let wanted: Vec<&(usize, Entry)> = entries.iter().filter(|(_, entry)| !entry.is_blank()).collect();
    let mut places: Vec<Entry> = wanted.iter().map(|(_, entry)| *entry).collect();
    let (mut records, mut found) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
    let mut done = 0;
    while !places.is_empty() {
        let outcome = store.records_of(&places, &mut found);
        let count = found.len();
        records.extend(wanted[done..].iter().map(|(line, _)| *line).zip(found.drain(..)));
        match outcome {
            Ok(()) => break,
            Err(StoreError::Corrupt(text)) => {
                if places[count].log_offset >= store.log_range().0.0 {
                    tracing::error!(text, "a delayed message cannot be found: it is not delivered");
                }
                places.drain(..=count);
                done += count + 1;
            }
            Err(error) => return Err(Trouble::reading(error)),
        }
    }
    Ok(records)
}

/// The topic and queue a waiting message is meant for.
fn destination<'r>(record: &Record<'r>) -> Option<(&'r str, i32)> {
    let topic = std::str::from_utf8(properties::find(record.properties, properties::REAL_TOPIC)?).ok()?;
    let queue_id = i32::parse(properties::find(record.properties, properties::REAL_QID)?)?;
    let is_allowed = names::check_topic(topic).is_ok() && topic != names::TRANS_HALF_TOPIC && topic != names::SCHEDULE_TOPIC;
    (is_allowed && queue_id >= 0).then_some((topic, queue_id))
}
