//! What a feature brings to a broker beside the requests that it serves: the composition has one list of features and walks it.
//!
//! A feature that keeps something on the disk has a [`crate::state_file::SavedTable`] too, one that waits for messages an
//! [`crate::arrival::ArrivalListener`].

use crate::clock::now_ms;
use net::Connection;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Work that goes on beside requests.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module. Whatever a feature has nothing to do for it leaves out.
pub trait Feature: Send + Sync {
    /// What goes on while the broker serves, on the thread `control`, so it must not block. Dropped at the end.
    fn run(self: Arc<Self>) -> Work {
        Box::pin(std::future::ready(()))
    }

    /// A connection is gone.
    fn closed(&self, _: &Connection) {}

    /// A topic was deleted: one that is made again under the name finds nothing of it.
    fn topic_deleted(&self, _topic: &str) {}

    /// A group was deleted. Its offsets are kept for a group of the same name unless they are to go too.
    fn group_deleted(&self, _group: &str, _with_offsets: bool) {}

    /// The broker is about to stop: requests that wait for something are answered now, and none waits from now on.
    fn release(&self) {}

    /// The broker stops, and nobody is answered any more: what works on a thread of its own ends. May block.
    fn stop(&self) {}
}

/// Does something every `period`, at once for the first time, with the time in epoch milliseconds. What was missed is not made up for.
pub async fn every(period: Duration, mut work: impl FnMut(i64)) {
    let mut ticks = ticks(period);
    loop {
        ticks.tick().await;
        work(now_ms());
    }
}

/// Ticks at once and then at every period; what was missed is not made up for.
pub fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
