//! Lite topics: many small topics within a parent topic (`message.type=LITE`), each a light queue (`%LMQ%$parent$lite`).
//!
//! A message is sent to the parent topic with the property `__LITE_TOPIC`, and is in the parent's queue and in that of its lite topic.
//! Clients of a group that is bound to the parent topic (`lite.bind.topic`) subscribe to lite topics ([`subscribe`]), and pop from those of
//! theirs that have messages ([`pop`]), in the order of each lite topic: nothing more of a lite topic is handed out to a group before
//! what is in flight is acknowledged or visible again ([`ack`]). Which lite topics have messages for whom is told by events, not found by
//! looking ([`state`]): a message, an acknowledgement, the end of an invisible time, a new subscription.
//!
//! Invariants
//! - The offset of a group in a lite topic passes a message only when it is acknowledged, or when an operator or a client resets it.
//! - A message that is in flight is handed out to nobody else before its time has passed, in a run. What is in flight is in memory only:
//!   after a restart it is handed out again.
//! - A group's offset is committed when a lite topic is subscribed to, so that no message after that is missed.
//! - What is held for a client stays invisible as long as it is online ([`crate::clients::holders`]).
//! - With nothing in flight and no parked pop, nothing runs but the check for clients that are gone, and the one for lite topics that expired.
//!
//! A lite topic without a message for `lite.topic.expiration` minutes is deleted ([`expiry`]), as are all of a deleted parent topic. A client
//! that neither changes its subscriptions nor pops for `liteSubscriptionCheckTimeoutMills` is forgotten.
//!
//! Not here: how a message gets into the queue of its lite topic (`send`, `store`), retry topics (lite topics have none: the client, or the
//! proxy, sends what failed too often to the dead letter topic).

mod ack;
mod admin;
mod expiry;
mod flight;
mod pop;
pub mod remoting;
mod result;
mod rules;
mod state;
mod subscribe;
mod wake;

pub use ack::{LiteAck, LiteChange};
pub use pop::LitePop;
pub use result::{LitePopResult, LiteTaken};

use crate::clients::{ClientChannel, Consumers};
use crate::core::Core;
use crate::feature::{Feature, Work};
use crate::hold::{Bounds, Hold};
use net::Connection;
use parking_lot::Mutex;
use state::State;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::sync::Notify;

/// Lite topics: who subscribes to them, what is in flight, and the pops that wait.
pub struct Lites {
    core: Core,
    consumers: Arc<Consumers<ClientChannel>>,
    state: Mutex<State<ClientChannel>>,
    /// Parked pops.
    hold: Arc<Hold<pop::Pop>>,
    /// The zero of the monotonic clock.
    started: Instant,
    /// Messages are visible again sooner than planned.
    sooner: Notify,
    /// A check for expired lite topics is running.
    is_expiring: AtomicBool,
    weak_self: Weak<Self>,
}

impl Lites {
    /// The lite topics of a store. Nobody subscribes.
    #[must_use]
    pub fn new(core: &Core, consumers: Arc<Consumers<ClientChannel>>) -> Arc<Self> {
        let settings = core.settings.current();
        let bounds = Bounds {
            slots: settings.max_pop_polling,
            slots_per_connection: settings.max_parked_pulls_per_connection,
        };
        let started = consumers.holders().started();
        let lites = Arc::new_cyclic(|weak_self: &Weak<Self>| Self {
            core: core.clone(),
            consumers,
            state: Mutex::default(),
            hold: Arc::new(Hold::new(bounds)),
            started,
            sooner: Notify::new(),
            is_expiring: AtomicBool::new(false),
            weak_self: weak_self.clone(),
        });
        let weak_self = lites.weak_self.clone();
        lites.consumers.holders().on_goodbye(Box::new(move |holder, after_ms| {
            if let Some(lites) = weak_self.upgrade() {
                lites.give_back(holder, after_ms);
            }
        }));
        lites
    }

    fn shared(&self) -> Option<Arc<Self>> {
        self.weak_self.upgrade()
    }

    /// Now, by the monotonic clock, in ms.
    fn now(&self) -> i64 {
        self.started.elapsed().as_millis() as i64
    }

    /// Lite topics with messages in flight, counted for each group.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.lock().in_flight()
    }

    /// Pairs of client and lite topic.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.state.lock().subscriptions()
    }

    /// Parked pops.
    #[cfg(test)]
    pub(crate) fn parked(&self) -> usize {
        self.hold.len()
    }
}

impl Feature for Lites {
    fn run(self: Arc<Self>) -> Work {
        Box::pin(async move {
            tokio::join!(
                self.clone().wake_visible(),
                self.clone().answer_late(),
                self.clone().forget_silent(),
                self.expire()
            );
        })
    }

    fn closed(&self, connection: &Connection) {
        // Its clients are those of a proxy, which comes back: their subscriptions are kept for a while.
        self.hold.forget(connection.id());
    }

    fn topic_deleted(&self, topic: &str) {
        if let Some(lites) = self.shared() {
            lites.delete_all_of(topic);
        }
    }

    fn group_deleted(&self, group: &str, _: bool) {
        self.state.lock().forget_group(group);
        self.answer_deleted(group);
    }

    fn release(&self) {
        self.hold.close();
        self.answer_expired(i64::MAX - 1);
    }
}
