//! Delay levels: messages that wait in a system topic until they are due.
//!
//! Life of a delayed message: a send (or a message sent back for a retry) with `DELAY=n` is stored in
//! `SCHEDULE_TOPIC_XXXX`, queue n-1, with its own topic and queue and the time at which it is due as properties ([`crate::schedule`]).
//! The store writes that time into its queue entry. One thread sleeps until the earliest of all levels is due ([`crate::alarm`]), reads what is
//! due and appends it to its own topic as it is ([`worker`]); how far each level has come is in [`DelayOffsets`], saved as
//! Apache's `config/delayOffset.json`.
//!
//! Invariants
//! - Nothing is delivered before its time, also when the wall clock is set ([`clock`]) or `messageDelayLevel` is changed: a
//!   message keeps the time that it was promised when it was sent, and one of a level that is gone is delivered too.
//! - A level's offset passes a message only when its delivery is confirmed: under SYNC_FLUSH, on the device. It is saved only
//!   when what it says is on the device, in either mode. So whatever happens, nothing is lost.
//! - Each level delivers in the order of its queue. All levels that are due share each append, so none starves another.
//! - When appends are refused (a full disk) nothing is passed over; delivery goes on by itself when they are taken again.
//! - With nothing waiting the thread sleeps without a timer.
//!
//! Not here: exact times ([`crate::timer`]), and when a message is sent back ([`crate::retry`]).

pub mod clock;
pub mod handler;

mod delivered;
mod level_reader;
mod offsets;
mod progress;
pub mod table;
mod worker;

use crate::alarm::Alarm;
use crate::arrival::ArrivalListener;
use crate::feature::Feature;
use crate::schedule::Levels;
use message::names;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use store::Arrival;

pub use offsets::DelayOffsets;
pub use worker::{Delivery, DeliveryParts, LONGEST_SLEEP};

/// Wakes the delivery thread: the tags code of a delayed message is its due time.
#[derive(Debug)]
pub struct DelayArrivals(pub Arc<Alarm>);

impl ArrivalListener for DelayArrivals {
    fn arrived(&self, message: &Arrival<'_>) {
        if message.queue.topic() == names::SCHEDULE_TOPIC {
            self.0.due_at(message.tags_code);
        }
    }
}

/// Delivery of delayed messages as long as it is started: always on a master, on a slave while it acts for its master.
pub struct Deliveries {
    levels: Levels,
    parts: DeliveryParts,
    running: Mutex<Option<Delivery>>,
}

impl Deliveries {
    /// Does nothing before it is started.
    #[must_use]
    pub fn new(levels: &Levels, parts: DeliveryParts) -> Self {
        Self {
            levels: levels.clone(),
            parts,
            running: Mutex::default(),
        }
    }
}

impl Feature for Deliveries {
    fn start(self: Arc<Self>) -> io::Result<()> {
        *self.running.lock() = Some(Delivery::start(&self.levels, self.parts.clone())?);
        Ok(())
    }

    fn stop(&self) {
        drop(self.running.lock().take());
    }
}
