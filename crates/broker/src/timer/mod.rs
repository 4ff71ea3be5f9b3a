//! Timers: messages that wait for any time, and their recall.
//!
//! Life of a timer message: a send with `TIMER_DELAY_SEC`, `TIMER_DELAY_MS` or `TIMER_DELIVER_MS` is stored in `rmq_sys_wheel_timer` with
//! its own topic and queue and the time as properties ([`when`]), and answered as any other. One thread ([`worker`]) reads that topic's
//! queue into the index ([`store::timer`]), sleeps until a message is due, and appends it to its own topic. What is further away than the
//! index reaches (`timerRollWindowSlot`) is written again every few days, which keeps it in the log that retention deletes; so is what
//! retention wants to delete before ([`early`]). A second thread saves the index ([`saver`]).
//!
//! Invariants
//! - Nothing is delivered before its time by the wall clock, also when that was set back.
//! - A slot of the index is done when the deliveries of its messages are confirmed: under SYNC_FLUSH, on the device. That is saved only when
//!   they are on the device, in either mode. So whatever happens, nothing is lost.
//! - After a crash what was delivered since the last save is found in the log and not delivered again ([`recovered`]).
//! - Log files are deleted only below the oldest message that waits.
//! - Messages are delivered in the order of their due times. What is overdue at a start is sorted before the first is delivered.
//! - A message that cannot be delivered is logged and passed over; it blocks nobody.
//! - With nothing waiting the threads sleep without a timer.

pub mod counts;
pub(crate) mod remoting;
pub(crate) mod when;

mod early;
mod recall;
mod recovered;
mod saver;
mod slot;
mod stored;
mod worker;

pub use recall::Recall;

use crate::alarm::Alarm;
use crate::arrival::ArrivalListener;
use crate::core::Core;
use crate::feature::Feature;
use counts::CountsFile;
use message::{LogOffset, names};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread::JoinHandle;
use store::timer::{TimerCheck, slot_of};
use store::{Arrival, LogNeed};

/// Timers of a broker.
pub struct Timers {
    core: Core,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// When the numbers were asked for last, and what they were.
    asked: Mutex<(i64, Numbers)>,
}

/// What the delivery thread shares with the others.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) alarm: Alarm,
    counts: Arc<CountsFile>,
    /// The last saved check.
    check: Mutex<TimerCheck>,
    /// Messages that wait in the index.
    waiting: AtomicI64,
    /// Messages of the queue that are not in the index yet.
    behind: AtomicI64,
    /// Beginning of the first slot with messages, epoch ms; `i64::MAX` if there is none.
    first_slot_ms: AtomicI64,
    /// Taken into the index and out of it since the start.
    enqueued: AtomicI64,
    dequeued: AtomicI64,
    /// Retention wants to delete the log below this offset.
    wanted: AtomicI64,
    /// Below this offset no message is needed.
    needed: AtomicI64,
    /// The queue is in the index up to this offset; -1 while a start reads it.
    taken: AtomicI64,
    /// Up to when everything was done when that was told last, epoch ms.
    told_ms: AtomicI64,
    /// What a slave delivered while it acted for this master.
    done_elsewhere: Mutex<Option<DoneElsewhere>>,
    /// Slots with more messages than `timerCongestNumEachSlot`.
    crowded: Mutex<rustc_hash::FxHashSet<i64>>,
}

/// Messages that another broker delivered, which has a copy of the same queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoneElsewhere {
    /// Those that were due before this time, epoch ms,
    pub(crate) before_ms: i64,
    /// and are below this offset of the timer topic's queue.
    pub(crate) below: i64,
}

impl Timers {
    /// Timers of this broker, whose counts are in this file.
    #[must_use]
    pub fn new(core: &Core, counts: Arc<CountsFile>) -> Arc<Self> {
        Arc::new(Self {
            core: core.clone(),
            shared: Arc::new(Shared {
                alarm: Alarm::default(),
                counts,
                check: Mutex::default(),
                waiting: AtomicI64::new(0),
                behind: AtomicI64::new(0),
                first_slot_ms: AtomicI64::new(i64::MAX),
                enqueued: AtomicI64::new(0),
                dequeued: AtomicI64::new(0),
                wanted: AtomicI64::new(0),
                needed: AtomicI64::new(0),
                taken: AtomicI64::new(-1),
                told_ms: AtomicI64::new(0),
                done_elsewhere: Mutex::default(),
                crowded: Mutex::default(),
            }),
            thread: Mutex::default(),
            asked: Mutex::new((core.started_ms, Numbers::default())),
        })
    }

    /// Listens for messages of the timer topic.
    #[must_use]
    pub fn listener(&self) -> Box<dyn ArrivalListener> {
        Box::new(TimerArrivals(self.shared.clone()))
    }

    /// What retention has to ask, if anything.
    #[must_use]
    pub fn need(&self) -> Option<Box<dyn LogNeed>> {
        let is_on = self.core.settings.current().timer_wheel_enable;
        is_on.then(|| Box::new(TimerNeed(self.shared.clone())) as Box<dyn LogNeed>)
    }

    /// The last saved check with the time up to which everything is done by now: with nothing waiting none is saved.
    pub(crate) fn check(&self, now_ms: i64) -> TimerCheck {
        let mut check = *self.shared.check.lock();
        let taken = self.shared.taken.load(Relaxed);
        if !self.core.role.is_slave() && taken >= 0 && taken >= self.core.store.max_offset(names::TIMER_TOPIC, 0).0 {
            let now_slot_ms = slot_of(now_ms, self.core.settings.current().timer_precision_ms);
            let done_ms = self.shared.first_slot_ms.load(Relaxed).min(now_slot_ms);
            self.shared.told_ms.fetch_max(done_ms, Relaxed);
        }
        // What was done once stays so, also while a new message is not in the index yet.
        check.read_time_ms = check.read_time_ms.max(self.shared.told_ms.load(Relaxed));
        check
    }

    /// Takes over what a slave delivered while it acted for this master, from its answer to 60. Call before the start.
    pub(crate) fn take_over(&self, check: &TimerCheck) {
        let before = self.shared.done_elsewhere.lock().map_or(0, |done| done.before_ms);
        if check.read_time_ms > before {
            *self.shared.done_elsewhere.lock() = Some(DoneElsewhere {
                before_ms: check.read_time_ms,
                below: check.queue_offset,
            });
        }
    }

    /// Whether the slot of this value has as many messages as `timerCongestNumEachSlot` allows.
    pub(crate) fn is_crowded(&self, value_ms: i64) -> bool {
        let settings = self.core.settings.current();
        if settings.timer_congest_num_each_slot == i32::MAX as u32 {
            return false;
        }
        let slot_ms = slot_of(value_ms, settings.timer_precision_ms);
        self.shared.crowded.lock().contains(&slot_ms)
    }

    /// Whether no slot has messages.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.first_slot_ms.load(Relaxed) == i64::MAX
    }

    /// Numbers for the runtime information (28).
    #[must_use]
    pub fn numbers(&self, now_ms: i64) -> Numbers {
        let first_slot_ms = self.shared.first_slot_ms.load(Relaxed);
        let precision_ms = self.core.settings.current().timer_precision_ms;
        Numbers {
            late_s: now_ms.saturating_sub(first_slot_ms.saturating_add(precision_ms)).max(0) / 1_000,
            behind: self.shared.behind.load(Relaxed),
            waiting: self.shared.waiting.load(Relaxed),
            enqueued: self.shared.enqueued.load(Relaxed),
            dequeued: self.shared.dequeued.load(Relaxed),
        }
    }

    /// Apache's entries of the runtime information (28). Rates are those since they were last asked for.
    #[must_use]
    pub fn runtime(&self, now_ms: i64) -> Vec<(&'static str, String)> {
        let now = self.numbers(now_ms);
        let mut asked = self.asked.lock();
        let seconds = (now_ms - asked.0).max(1) as f64 / 1_000.0;
        let (enqueued, dequeued) = (now.enqueued - asked.1.enqueued, now.dequeued - asked.1.dequeued);
        *asked = (now_ms, now);
        vec![
            ("timerReadBehind", now.late_s.to_string()),
            ("timerOffsetBehind", now.behind.to_string()),
            ("timerCongestNum", now.waiting.to_string()),
            ("timerEnqueueTps", format!("{:.1}", enqueued as f64 / seconds)),
            ("timerDequeueTps", format!("{:.1}", dequeued as f64 / seconds)),
        ]
    }
}

/// How timers are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// By how much the first message that waits is late, in seconds.
    pub late_s: i64,
    /// Messages that are not in the index yet.
    pub behind: i64,
    /// Messages that wait.
    pub waiting: i64,
    /// Messages taken into the index since the start.
    pub enqueued: i64,
    /// Messages delivered, recalled or written again since the start.
    pub dequeued: i64,
}

/// Any message of the timer topic wakes the thread.
struct TimerArrivals(Arc<Shared>);

impl ArrivalListener for TimerArrivals {
    fn arrived(&self, message: &Arrival<'_>) {
        if message.queue.topic() == names::TIMER_TOPIC {
            self.0.alarm.due_at(0);
        }
    }
}

struct TimerNeed(Arc<Shared>);

impl LogNeed for TimerNeed {
    fn needed_from(&self, wanted: LogOffset) -> LogOffset {
        self.0.wanted.fetch_max(wanted.0, Relaxed);
        self.0.alarm.call();
        LogOffset(self.0.needed.load(Relaxed))
    }
}

impl Feature for Timers {
    fn start(self: Arc<Self>) -> io::Result<()> {
        if !self.core.settings.current().timer_wheel_enable {
            let waiting = self.core.store.max_offset(names::TIMER_TOPIC, 0).0;
            if waiting > 0 {
                tracing::warn!(
                    "timerWheelEnable is false: timer messages that wait in this store are not delivered, and retention deletes them"
                );
            }
            return Ok(());
        }
        self.shared.alarm.restart();
        self.shared.taken.store(-1, Relaxed);
        let worker = worker::Worker::open(&self.core, &self.shared).map_err(io::Error::other)?;
        let thread = std::thread::Builder::new().name("timer".to_owned()).spawn(move || worker.run())?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn topic_deleted(&self, topic: &str) {
        self.shared.counts.forget(topic);
    }

    fn stop(&self) {
        self.shared.alarm.stop();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.stop();
    }
}
