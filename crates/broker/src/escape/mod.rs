//! Messages that leave this broker: an acting master may not write to its log, which is a copy of its master's, so what becomes due is
//! stored through masters of other broker names (`enableRemoteEscape`).
//!
//! [`Escape`] is the queue in front of them, which [`crate::log_writer::LogWriter::deliver`] fills; [`Outlet`] sends. A batch is tried until each
//! of its messages is stored or this broker ends to deliver for its master. So a message is stored twice only if the answer to a send was
//! lost, or its batch was cut short by the end.
//!
//! Each [`Source`] has a queue of its own, so that a message for which there is no broker delays only those behind it.
//!
//! Bounds: whoever delivers stops while more than 4 MiB of its messages are unconfirmed, or waits for each batch.

mod frame;
mod outlet;

pub use outlet::{Outlet, OutletOptions};

use crate::role::Role;
use frame::Outgoing;
use message::record::Draft;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Who delivers. The batches of each are stored in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Delay levels.
    Delays,
    /// Timers.
    Timers,
    /// Open transactions.
    Transactions,
    /// Popped messages that nobody acknowledged.
    Pops,
}

const SOURCES: [Source; 4] = [Source::Delays, Source::Timers, Source::Transactions, Source::Pops];

/// Why messages did not get to another broker.
pub type NotStored = Arc<str>;
type Done = Box<dyn FnOnce(Result<(), NotStored>) + Send>;

/// Messages that are stored or fail together; they fail if it is dropped.
struct Batch {
    messages: Vec<Outgoing>,
    done: Option<Done>,
}

impl Batch {
    fn end(&mut self, outcome: Result<(), NotStored>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.end(Err("the broker stops".into()));
    }
}

/// See the module.
pub struct Escape {
    role: Arc<Role>,
    /// By source.
    senders: [UnboundedSender<Batch>; SOURCES.len()],
    receivers: Mutex<Vec<UnboundedReceiver<Batch>>>,
    stored: AtomicU64,
}

impl std::fmt::Debug for Escape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Escape").field("stored", &self.stored()).finish_non_exhaustive()
    }
}

impl Escape {
    /// A queue that takes batches while `role` delivers.
    #[must_use]
    pub fn new(role: Arc<Role>) -> Self {
        let mut receivers = Vec::with_capacity(SOURCES.len());
        let senders = SOURCES.map(|_| {
            let (sender, receiver) = unbounded_channel();
            receivers.push(receiver);
            sender
        });
        Self {
            role,
            senders,
            receivers: Mutex::new(receivers),
            stored: AtomicU64::new(0),
        }
    }

    /// Messages that other brokers have stored since the start.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    /// Has these messages stored by other brokers. `done` gets the outcome once, from another thread, and must not block.
    pub fn store(&self, source: Source, drafts: &[Draft<'_>], done: impl FnOnce(Result<(), NotStored>) + Send + 'static) {
        let batch = Batch {
            messages: drafts.iter().filter_map(Outgoing::of).collect(),
            done: Some(Box::new(done)),
        };
        // Without an outlet it comes back and is dropped.
        drop(self.senders[source as usize].send(batch));
    }

    /// Waits until the batches before this call have their outcome, for `at_most`. Blocks. Returns whether they have.
    pub fn settle(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let (settled, wait) = std::sync::mpsc::channel();
        for source in SOURCES {
            let settled = settled.clone();
            // The receiver is gone after `at_most`.
            self.store(source, &[], move |_| settled.send(()).unwrap_or_default());
        }
        let left = || until.saturating_duration_since(Instant::now());
        SOURCES.iter().all(|_| wait.recv_timeout(left()).is_ok())
    }
}
