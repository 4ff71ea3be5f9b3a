//! POP: the broker hands out messages of a queue to any member of a group and waits for each to be acknowledged.
//!
//! Life of a popped message: a pop (200050) reads queues of the topic and of the group's retry topic for it ([`steps`], [`round`]), and what it finds is
//! in flight ([`in_flight`]): invisible to the group until its time has passed. The consumer acknowledges it (200051, 200151) or asks
//! for more time (200053) with the handle that the answer gave it ([`ack`]). What nobody acknowledged in time is stored again in the retry
//! topic, with one reconsumption more, or in the dead letter topic when it has failed too often ([`revive`]). A pop that finds
//! nothing is parked, as a pull is; a message wakes one pop of each group ([`wake`]). With `order` a queue hands out nothing more before
//! its messages are acknowledged, and messages that are not stay where they are ([`order`]).
//!
//! Check points older than `popCkStayBufferTime` are written to Apache's revive topic, so a directory can change between its broker and this
//! one ([`revive_log`]). When which offset is committed: [`in_flight`].
//!
//! Invariants
//! - A message that is in flight is handed out to nobody else before its time has passed, in a run; after a crash, see
//!   `docs/durability.md`.
//! - Nothing is lost: the offset of a group passes a message only when it is acknowledged, or described by a record on the device.
//! - Each claim of a queue ends, also if the request is dropped: [`claim::Claimed`] releases it.
//! - Of the retry topics of both versions, those that exist are read.
//! - With nothing in flight that is due, the thread sleeps without a timer.
//!
//! A group that is switched to pulling (401): what is in flight is stored again in `%RETRY%group` when its time has passed. What waits in the
//! retry topics of POP stays there. Apache's Java client pulls `%RETRY%group_topic` from then on; that of version 2 is read when the group
//! pops again.
//!
//! A slave that acts for its master hands out messages as well ([`crate::acting`]) and writes nothing: check points stay in memory, so the group's
//! offset stays before them, and what nobody acknowledged is stored again by other brokers. Check points of the master that the revive topic has
//! are read and their messages stored again; the master does so, too, when it is back.
//!
//! Not here: the group's retry policy (`CUSTOMIZED`, `EXPONENTIAL`). As in Apache, no broker evaluates it: the client or the proxy asks for more
//! time by it (200053), and a message whose time has passed is visible at once. Nor are lite topics here (`lite`).

mod ack;
mod check;
mod claim;
mod in_flight;
mod notify;
mod order;
pub mod order_table;
mod peek;
mod point;
mod recover;
pub mod remoting;
mod request;
mod result;
mod revive;
mod revive_log;
mod round;
mod steps;
mod wake;
mod worker;

pub use ack::{AckRequest, ChangeInvisible, Renewed};
pub use notify::{Notice, Notified};
pub(crate) use request::check_hold;
pub use result::{PopResult, Taken};

use crate::assignment::Modes;
use crate::clients::{ClientChannel, Consumers, Lease};
use crate::clock::now_ms;
use crate::core::Core;
use crate::delay::clock::Moment;
use crate::feature::{self, Feature, Work};
use crate::hold::{Bounds, Hold};
use crate::settings::BrokerSettings;
use in_flight::{Commit, InFlight, Limits};
use net::Connection;
use order::Orders;
use order_table::OrdersFile;
use parking_lot::{Condvar, Mutex};
use protocol::pop::MAX_HOLD_MS;
use request::Pop;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wake::Waiting;

/// How often parked requests are checked for their deadline: one is answered up to so much later.
pub const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// How long check points stay in memory on a slave: longer than any invisible time.
const STAY_IN_MEMORY_MS: i64 = 2 * in_flight::MAX_INVISIBLE_MS;
/// Longest time a pop or notification is parked, whatever the client requests, in ms.
const MAX_POLL_MS: i64 = 120_000;

/// What pops need, and what is in flight.
pub struct Pops {
    core: Core,
    consumers: Arc<Consumers<ClientChannel>>,
    modes: Arc<Modes>,
    revive_topic: Box<str>,
    revive_queues: u16,
    state: Mutex<InFlight>,
    orders: Arc<Mutex<Orders>>,
    /// Parked pops.
    hold: Arc<Hold<Pop>>,
    /// Parked notifications.
    notices: Arc<Hold<Notice>>,
    waiting: Waiting,
    /// Counts pops: which of them read retried messages first, from which queue they start, and which revive queue they get.
    turn: AtomicU32,
    /// The zero of the monotonic clock.
    started: Instant,
    /// When the thread wakes by itself, by the monotonic clock.
    planned: AtomicI64,
    /// The revive topic has records that may not be ours.
    revive_arrived: AtomicBool,
    sleep: Mutex<Sleep>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
    weak_self: Weak<Self>,
}

#[derive(Debug, Default)]
struct Sleep {
    is_called: bool,
    is_stopping: bool,
}

impl Pops {
    /// The pops of a store; what was in flight is read by [`Feature::start`].
    #[must_use]
    pub fn new(core: &Core, consumers: Arc<Consumers<ClientChannel>>, modes: Arc<Modes>, orders: &OrdersFile) -> Arc<Self> {
        let settings = core.settings.current();
        let bounds = Bounds {
            slots: settings.max_pop_polling,
            slots_per_connection: settings.max_parked_pulls_per_connection,
        };
        let limits = Limits {
            points: settings.max_pop_check_points,
            queues: settings.max_pop_queues,
            // A slave that acts for its master writes nothing.
            stay_ms: if settings.is_slave() {
                STAY_IN_MEMORY_MS
            } else {
                settings.pop_stay.as_millis() as i64
            },
        };
        let started = consumers.holders().started();
        let pops = Arc::new_cyclic(|weak_self| Self {
            core: core.clone(),
            consumers,
            modes,
            revive_topic: revive_log::topic(&settings.broker_cluster_name).into(),
            revive_queues: settings.revive_queue_num as u16,
            state: Mutex::new(InFlight::new(limits)),
            orders: Arc::clone(&orders.orders),
            hold: Arc::new(Hold::new(bounds)),
            notices: Arc::new(Hold::new(bounds)),
            waiting: Waiting::new(settings.max_pop_queues),
            turn: AtomicU32::new(0),
            started,
            planned: AtomicI64::new(i64::MIN),
            revive_arrived: AtomicBool::new(false),
            sleep: Mutex::default(),
            wake: Condvar::new(),
            thread: Mutex::default(),
            weak_self: weak_self.clone(),
        });
        pops.listen_to_goodbyes();
        pops
    }

    /// Listens to the goodbyes of consumers for which messages are held.
    fn listen_to_goodbyes(&self) {
        let pops = self.weak_self.clone();
        self.consumers.holders().on_goodbye(Box::new(move |holder, after_ms| {
            if let Some(pops) = pops.upgrade() {
                pops.give_back(holder, after_ms);
            }
        }));
    }

    /// For whom messages were held before the start, until this time of the wall clock, if that has not been set back since they were popped.
    fn recovered_lease(&self, group: &str, client: &str, until_ms: i64, pop_time: i64) -> Lease {
        let now = self.now();
        let most_ms = until_ms.saturating_sub(pop_time).clamp(0, MAX_HOLD_MS);
        let left_ms = until_ms.saturating_sub(now.wall_ms).clamp(0, most_ms);
        Lease {
            holder: self.consumers.holder(group, client),
            until: now.steady_ms + left_ms,
        }
    }

    fn shared(&self) -> Option<Arc<Self>> {
        self.weak_self.upgrade()
    }

    /// Now, by both clocks.
    fn now(&self) -> Moment {
        Moment {
            wall_ms: now_ms(),
            steady_ms: self.started.elapsed().as_millis() as i64,
        }
    }

    /// Whether this is a slave that acts for its master: nothing is written here. Messages that nobody acknowledged go to other brokers, and what
    /// is in flight is in memory only; the group's offset passes it when it is done.
    fn writes_nothing(&self) -> bool {
        self.core.role.is_slave()
    }

    /// Ends pops of a slave that no longer acts: parked ones are answered, what is in flight is forgotten. Blocks until the thread has ended.
    pub(crate) fn end_acting(&self) {
        Feature::stop(self);
        if let Some(pops) = self.shared() {
            pops.expire(i64::MAX - 1);
        }
        self.state.lock().forget(|_, _| true);
    }

    /// Check points in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.lock().points()
    }

    /// Whether no pop is parked.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.hold.is_empty()
    }

    /// Parked notifications.
    #[cfg(test)]
    pub(crate) fn parked_notices(&self) -> usize {
        self.notices.len()
    }

    /// The most messages of a queue that may be in flight when a pop reads it.
    fn most_messages(settings: &BrokerSettings) -> Option<u64> {
        settings.pop_threshold_enable.then_some(settings.pop_inflight_threshold)
    }

    /// Commits an offset. It only moves forward, and a reset by an operator stays.
    fn commit(&self, commit: &Commit) {
        let Commit {
            topic,
            group,
            queue_id,
            offset,
        } = commit;
        let offsets = &self.core.offsets;
        if offsets.committed(topic, group, *queue_id).is_none_or(|before| before < *offset) {
            // The pair is in the table since the group's first pop, so it is not full; a pending reset is applied by the next pop.
            let _ = offsets.commit(topic, group, *queue_id, *offset);
        }
    }
}

/// When a request that asks to be parked for so long is answered, epoch ms; `None` if it is not parked.
fn deadline(born_ms: i64, poll_ms: i64, now_ms: i64) -> Option<i64> {
    let until = born_ms.saturating_add(poll_ms).min(now_ms + MAX_POLL_MS);
    (poll_ms > 0 && until > now_ms).then_some(until)
}

impl Feature for Pops {
    fn start(self: Arc<Self>) -> io::Result<()> {
        self.sleep.lock().is_stopping = false;
        let worker = worker::Worker::recover(&self)?;
        let thread = std::thread::Builder::new().name("pop".to_owned()).spawn(move || worker.run())?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn run(self: Arc<Self>) -> Work {
        Box::pin(feature::every(EXPIRE_EVERY, move |now_ms| self.expire(now_ms)))
    }

    fn closed(&self, connection: &Connection) {
        self.hold.forget(connection.id());
        self.notices.forget(connection.id());
    }

    fn topic_deleted(&self, topic: &str) {
        self.state.lock().forget(|of_topic, _| of_topic == topic);
        self.orders.lock().forget(|of_topic, _| of_topic == topic);
        self.answer_deleted(|waits_for| waits_for.topic == topic);
    }

    fn group_deleted(&self, group: &str, _: bool) {
        self.state.lock().forget(|_, of_group| of_group == group);
        self.orders.lock().forget(|_, of_group| of_group == group);
        self.answer_deleted(|waits_for| waits_for.group == group);
    }

    fn release(&self) {
        self.hold.close();
        self.notices.close();
        if let Some(pops) = self.shared() {
            pops.expire(i64::MAX - 1);
        }
    }

    fn stop(&self) {
        self.sleep.lock().is_stopping = true;
        self.wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of POP panicked: messages in flight are handed out again after the next start");
        }
    }
}
