//! What topics ask for beside the retention of the log: compaction, and limits of their own.
//!
//! The broker says what each topic asks for ([`TopicRules`]). The thread `cleanup` does it; it exists once a topic asks for something.
//! Not here: compaction itself (`compaction`), the retention of log files (`retention`, `keeper`).

mod limits;

use crate::compaction::Compaction;
use crate::error::StoreError;
use crate::log::FailOnPanic;
use crate::queue::ConsumeQueue;
use crate::store::Store;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Instant, JoinHandle, Mutex, thread};
use limits::Limits;
use message::{LogOffset, QueueOffset};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a topic asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicRule {
    /// The last message of each key is kept (`cleanup.policy=COMPACTION`); the limits do not count then.
    pub is_compacted: bool,
    /// Messages older than this, in ms, are not visible (`reserve.time`). The log deletes them when its own time has come.
    pub reserved_ms: Option<i64>,
    /// Bytes of records of each queue that are visible, the newest first (`retention.bytes`).
    pub max_bytes: Option<i64>,
}

/// Says which topics ask for something.
pub trait TopicRules: Send + Sync {
    /// The topics that do, with what they ask for.
    fn topics(&self) -> Vec<(String, TopicRule)>;
}

/// The thread, and what it is told.
#[derive(Default)]
pub(crate) struct Cleanup {
    rules: OnceLock<Box<dyn TopicRules>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    signal: Arc<CleanupSignal>,
}

#[derive(Default)]
struct CleanupSignal {
    sleep: Mutex<()>,
    woken: Condvar,
    /// Retention waits for messages to be copied.
    copy_now: AtomicBool,
    stop: AtomicBool,
}

impl CleanupSignal {
    /// Sleeps until there is something to do. False if the thread has to stop.
    fn sleep(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut asleep = self.sleep.lock();
        let is_called = || self.stop.load(Ordering::Acquire) || self.copy_now.load(Ordering::Acquire);
        while !is_called() && Instant::now() < until {
            self.woken.wait_until(&mut asleep, until);
        }
        !self.stop.load(Ordering::Acquire)
    }

    fn wake(&self, why: &AtomicBool) {
        why.store(true, Ordering::Release);
        drop(self.sleep.lock());
        self.woken.notify_one();
    }
}

/// What the thread remembers between rounds.
#[derive(Default)]
struct CleanupState {
    limits: Limits,
    /// When each queue was compacted last, or the thread first saw it.
    compacted: HashMap<(String, i32), Instant>,
    last_warning: Option<Instant>,
}

/// Which queues are compacted in a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those whose interval has passed; all are copied if retention waits for it.
    Due {
        copy_all: bool,
    },
    All,
}

impl Store {
    /// Registers what topics ask for, opens the compacted queues and applies the limits of age. Call once, before the first append:
    /// until then log files are not deleted, and compacted topics are read from the log.
    ///
    /// # Errors
    /// `StoreError::Io` if files of compaction cannot be read or changed.
    pub fn set_topic_rules(self: &Arc<Self>, rules: Box<dyn TopicRules>) -> Result<(), StoreError> {
        let topics = rules.topics();
        let _ = self.cleanup.rules.set(rules);
        for (topic, rule) in &topics {
            if let Some(compaction) = self.compaction.as_ref().filter(|_| rule.is_compacted) {
                self.open_compacted(compaction, topic)?;
            } else if let Some(reserved_ms) = rule.reserved_ms {
                for queue in self.queues.of_topic(topic) {
                    self.hide_older(&queue, reserved_ms)?;
                }
            }
        }
        self.start_cleanup_if_needed()
    }

    /// Opens the compacted queues of a topic.
    fn open_compacted(&self, compaction: &Compaction, topic: &str) -> Result<(), StoreError> {
        for queue_id in compaction.queues_of(topic)? {
            let queue = self.queues.find_or_create(topic, queue_id);
            let copied = compaction.attach_at_start(&queue)?.copied();
            if queue.max() >= copied {
                continue;
            }
            // The queue's files or the end of the log were lost. Its offsets continue behind those that are kept here, as new
            // messages would be mistaken for old ones otherwise.
            tracing::warn!(
                topic,
                queue_id,
                from = copied.0,
                "the queue continues behind its compacted messages"
            );
            let mut outcome = Ok(());
            self.log.between_appends(|| outcome = queue.skip_to(copied).map(drop));
            outcome.map_err(|e| crate::store::queue_error("continue", &queue, e))?;
        }
        Ok(())
    }

    /// Starts the thread if a topic asks for something and it does not run.
    pub(crate) fn start_cleanup_if_needed(self: &Arc<Self>) -> Result<(), StoreError> {
        let signal = &self.cleanup.signal;
        let mut running = self.cleanup.thread.lock();
        let asks = || self.cleanup.rules.get().is_some_and(|rules| !rules.topics().is_empty());
        if running.is_some() || signal.stop.load(Ordering::Acquire) || !asks() {
            return Ok(());
        }
        let (store, signal) = (Arc::downgrade(self), Arc::clone(signal));
        let interval = self.compaction.as_ref().map(|compaction| compaction.options().interval);
        let pause = self.options.retention.interval;
        let pause = interval.map_or(pause, |interval| interval.min(pause));
        let run = move || {
            let mut state = CleanupState::default();
            loop {
                let Some(store) = store.upgrade() else { return };
                {
                    let _guard = FailOnPanic(&store.log);
                    let copy_all = signal.copy_now.swap(false, Ordering::AcqRel);
                    store.clean(&mut state, Which::Due { copy_all });
                }
                drop(store);
                if !signal.sleep(pause) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("cleanup".to_owned())
            .spawn(run)
            .map_err(|e| StoreError::Layout(format!("cannot start the cleanup thread: {e}")))?;
        *running = Some(thread);
        Ok(())
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop_cleanup(&self) {
        let signal = &self.cleanup.signal;
        signal.wake(&signal.stop);
        let thread = self.cleanup.thread.lock().take();
        if let Some(thread) = thread {
            // Without the lock of the work, for which the thread may be waiting.
            let _interrupt = self.compaction.as_ref().map(Compaction::interrupt);
            let _ = thread.join();
        }
    }

    /// Copies what was not copied, so that a Java broker that opens the directory next finds it. A failure loses nothing: the log has
    /// the messages.
    pub(crate) fn copy_at_close(&self) {
        let outcome = self.each_compacted(|compaction, queue| compaction.work_on(&self.log, queue, false));
        if let Err(error) = outcome {
            tracing::warn!(%error, "messages of compacted topics were not copied at the end; the next start does it");
        }
    }

    /// Does the thread's work on this thread, whether it is due or not: for tests, which control time.
    pub(crate) fn clean_now(&self) {
        self.clean(&mut CleanupState::default(), Which::All);
    }

    /// One round over the topics that ask for something.
    fn clean(&self, state: &mut CleanupState, which: Which) {
        let Some(rules) = self.cleanup.rules.get() else { return };
        let topics = rules.topics();
        state.limits.begin_round();
        for (topic, rule) in &topics {
            for queue in self.queues.of_topic(topic) {
                let outcome = match &self.compaction {
                    Some(compaction) if rule.is_compacted => self.compact_if_due(compaction, &queue, state, which),
                    _ if rule.is_compacted => Ok(()),
                    _ => self.limit(&queue, rule, &mut state.limits),
                };
                if let Err(error) = outcome {
                    self.warn(state, &queue, &error);
                }
            }
        }
        state.limits.end_round();
        if state.compacted.len() > topics.len() {
            state.compacted.retain(|(topic, _), _| self.queues.has_topic(topic));
        }
    }

    fn compact_if_due(
        &self,
        compaction: &Compaction,
        queue: &ConsumeQueue,
        state: &mut CleanupState,
        which: Which,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let name = (queue.topic().to_owned(), queue.queue_id());
        let last = state.compacted.entry(name).or_insert(now);
        let is_due = which == Which::All || last.elapsed() >= compaction.options().interval;
        if !is_due && which == (Which::Due { copy_all: false }) {
            return Ok(());
        }
        let outcome = compaction.work_on(&self.log, queue, is_due);
        // What was interrupted goes on in the next round; after an error of the disk there is a pause.
        if is_due && !matches!(outcome, Err(StoreError::Failed(_))) {
            *last = now;
        }
        outcome
    }

    fn limit(&self, queue: &Arc<ConsumeQueue>, rule: &TopicRule, limits: &mut Limits) -> Result<(), StoreError> {
        if let Some(reserved_ms) = rule.reserved_ms {
            self.hide_older(queue, reserved_ms)?;
        }
        if let Some(max_bytes) = rule.max_bytes {
            limits.hide_beyond(queue, max_bytes)?;
        }
        Ok(())
    }

    /// Hides the messages of a queue that are older than its topic keeps them.
    fn hide_older(&self, queue: &Arc<ConsumeQueue>, reserved_ms: i64) -> Result<(), StoreError> {
        if queue.min() == queue.max() {
            return Ok(());
        }
        let since = self.disk.now_ms().saturating_sub(reserved_ms);
        let first = self.first_stored_from(queue, since)?;
        limits::hide_before(queue, first)
    }

    /// Warns once a minute at most.
    fn warn(&self, state: &mut CleanupState, queue: &ConsumeQueue, error: &StoreError) {
        let is_expected = self.compaction.as_ref().is_some_and(Compaction::is_interrupted);
        if !is_expected && state.last_warning.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
            tracing::error!(topic = queue.topic(), queue = queue.queue_id(), %error, "cleanup of a topic failed; the next round tries again");
            state.last_warning = Some(Instant::now());
        }
    }

    fn each_compacted(&self, mut act: impl FnMut(&Compaction, &Arc<ConsumeQueue>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let (Some(compaction), Some(rules)) = (&self.compaction, self.cleanup.rules.get()) else {
            return Ok(());
        };
        for (topic, _) in rules.topics().iter().filter(|(_, rule)| rule.is_compacted) {
            for queue in self.queues.of_topic(topic) {
                act(compaction, &queue)?;
            }
        }
        Ok(())
    }

    /// The log offset below which retention may delete: all messages of compacted topics before it are copied. Nothing may be deleted
    /// before it is known which topics are compacted.
    ///
    /// # Errors
    /// `StoreError::Io` if a queue cannot be read.
    pub(crate) fn deletable_to(&self) -> Result<LogOffset, StoreError> {
        if self.compaction.is_some() && self.cleanup.rules.get().is_none() {
            return Ok(LogOffset(0));
        }
        let mut lowest = LogOffset(i64::MAX);
        self.each_compacted(|compaction, queue| {
            if let Some(from) = compaction.uncopied_from(queue)? {
                lowest = lowest.min(from);
            }
            Ok(())
        })?;
        Ok(lowest)
    }

    /// Has the thread copy messages that retention waits for.
    pub(crate) fn copy_soon(&self) {
        let signal = &self.cleanup.signal;
        signal.wake(&signal.copy_now);
    }

    /// The first offset of a queue that a reader finds, in its compacted part or in the log.
    pub(crate) fn first_of(&self, queue: &ConsumeQueue) -> QueueOffset {
        let compacted = queue.compacted().and_then(|compacted| compacted.first());
        compacted.map_or(queue.min(), |first| first.min(queue.min()))
    }
}
