//! What a feature does beside serving requests. The broker keeps one list of features and notifies each of them.
//!
//! A feature with state on the disk has a [`crate::state_file::SavedTable`], too; one that waits for messages has an
//! [`crate::arrival::ArrivalListener`].

use crate::clock::now_ms;
use net::Connection;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Background work of a feature.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A feature of the broker. Methods do nothing by default.
pub trait Feature: Send + Sync {
    /// The ports are about to open: start threads of the feature, which [`Self::stop`] ends.
    ///
    /// # Errors
    /// [`io::Error`] if a thread cannot be started; the broker does not start then.
    fn start(self: Arc<Self>) -> io::Result<()> {
        Ok(())
    }

    /// Background work on the thread `control`, which must not block. Dropped when the broker stops.
    fn run(self: Arc<Self>) -> Work {
        Box::pin(std::future::ready(()))
    }

    /// A connection was closed.
    fn closed(&self, _: &Connection) {}

    /// A topic was deleted: a new topic of the same name must find no state of it.
    fn topic_deleted(&self, _topic: &str) {}

    /// A group was deleted; its offsets are deleted only with `with_offsets`.
    fn group_deleted(&self, _group: &str, _with_offsets: bool) {}

    /// The broker is about to stop: answer waiting requests, and let none wait from now on.
    fn release(&self) {}

    /// The broker stops and sends no more answers: end threads of the feature. May block.
    fn stop(&self) {}
}

/// Calls `work` with the time in epoch milliseconds, at once and then every `period`. Missed calls are not made up for.
pub async fn every(period: Duration, mut work: impl FnMut(i64)) {
    let mut ticks = ticks(period);
    loop {
        ticks.tick().await;
        work(now_ms());
    }
}

/// Ticks at once and then every `period`. Missed ticks are not made up for.
pub fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
