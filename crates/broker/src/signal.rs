//! Signals changes that have to be saved and registered. Topics and groups raise it; the upkeep waits for it, and so do responses
//! that must not be sent before.
//!
//! A client that created a topic asks a name server for its route next. So the response is sent after the change is on disk and the
//! name servers are updated, or failed to respond in time. Many changes share one round. If saving fails, the response is an error:
//! the change stays in effect while the process runs, and saving is retried.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tokio::sync::Notify;

/// Result of saving; the text says what could not be saved.
pub type Saved = Result<(), Arc<str>>;

/// A callback that waits for a round.
type Waiter = Box<dyn FnOnce(Saved) + Send>;

/// Default of `apogeeMaxWaitingChanges`.
pub const MAX_WAITING: usize = 100_000;

#[derive(Default)]
struct Waiting {
    waiters: Vec<(u64, Waiter)>,
    closed: bool,
}

/// Counts changes, and how many of them are settled: saved and registered.
pub struct Signal {
    /// Maximum number of waiting callbacks; one more fails with a text that names the key.
    max_waiting: usize,
    raised: AtomicU64,
    settled: AtomicU64,
    waiting: Mutex<Waiting>,
    notify: Notify,
}

impl Default for Signal {
    fn default() -> Self {
        Self::new(MAX_WAITING)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signal({}/{} settled)", self.settled(), self.raised())
    }
}

impl Signal {
    /// No changes yet; at most `max_waiting` callbacks wait for them.
    #[must_use]
    pub fn new(max_waiting: usize) -> Self {
        Self {
            max_waiting,
            raised: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            waiting: Mutex::default(),
            notify: Notify::new(),
        }
    }

    /// Signals a change. The change must already be visible.
    pub fn raise(&self) {
        self.raised.fetch_add(1, SeqCst);
        self.notify.notify_one();
    }

    /// Wakes the upkeep without a change, because its last round failed.
    pub fn retry(&self) {
        self.notify.notify_one();
    }

    /// Number of changes so far. Read it before reading the changes, so that no unseen change is settled.
    #[must_use]
    pub fn raised(&self) -> u64 {
        self.raised.load(SeqCst)
    }

    /// Number of settled changes.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(SeqCst)
    }

    /// Whether all changes are settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled() >= self.raised()
    }

    /// Waits for a change after the last call. For one waiter only.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Calls `done` when all changes so far are settled or saving failed: immediately if they are settled, else on the upkeep's
    /// thread. `done` must not block.
    pub fn when_settled(&self, done: impl FnOnce(Saved) + Send + 'static) {
        let mut waiting = self.waiting.lock();
        let raised = self.raised();
        let outcome = if self.settled() >= raised {
            Ok(())
        } else if waiting.closed {
            Err("the broker is shutting down".into())
        } else if waiting.waiters.len() >= self.max_waiting {
            let max = self.max_waiting;
            Err(
                format!("{max} responses already wait for tables to be saved (apogeeMaxWaitingChanges); the change is not saved yet")
                    .into(),
            )
        } else {
            waiting.waiters.push((raised, Box::new(done)));
            return;
        };
        drop(waiting);
        done(outcome);
    }

    /// Reports the outcome of the first `upto` changes. After an error they stay unsettled, but their callbacks are called.
    pub fn settle(&self, upto: u64, outcome: &Saved) {
        let mut waiting = self.waiting.lock();
        if outcome.is_ok() {
            self.settled.fetch_max(upto, SeqCst);
        }
        let ready: Vec<(u64, Waiter)> = waiting.waiters.extract_if(.., |(at, _)| *at <= upto).collect();
        drop(waiting);
        for (_, done) in ready {
            done(outcome.clone());
        }
    }

    /// Ends all waiting with this outcome; later calls get the error that the broker is shutting down.
    pub fn close(&self, outcome: &Saved) {
        self.waiting.lock().closed = true;
        let raised = self.raised();
        self.settle(raised, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn counter() -> (Arc<AtomicUsize>, impl Fn() -> Waiter) {
        let count = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&count);
        let waiter = move || -> Waiter {
            let count = Arc::clone(&shared);
            Box::new(move |saved: Saved| {
                count.fetch_add(if saved.is_ok() { 1 } else { 100 }, SeqCst);
            })
        };
        (count, waiter)
    }

    #[test]
    fn a_callback_waits_for_earlier_changes_only() {
        let (count, waiter) = counter();
        let signal = Signal::default();
        signal.when_settled(waiter());
        assert_eq!(count.load(SeqCst), 1, "all changes are settled");
        signal.raise();
        signal.when_settled(waiter());
        signal.raise();
        signal.when_settled(waiter());
        assert_eq!(count.load(SeqCst), 1);
        signal.settle(1, &Ok(()));
        assert_eq!(count.load(SeqCst), 2);
        signal.settle(2, &Ok(()));
        assert_eq!(count.load(SeqCst), 3);
        assert!(signal.is_settled());
    }

    #[test]
    fn a_failed_save_is_reported_to_callbacks_and_leaves_the_changes_unsettled() {
        let (count, waiter) = counter();
        let signal = Signal::default();
        signal.raise();
        signal.when_settled(waiter());
        signal.settle(1, &Err("disk full".into()));
        assert_eq!((count.load(SeqCst), signal.is_settled()), (100, false));
        signal.when_settled(waiter());
        signal.settle(1, &Ok(()));
        assert_eq!((count.load(SeqCst), signal.is_settled()), (101, true));
    }

    #[test]
    fn no_callback_waits_after_the_upkeep_ended() {
        let (count, waiter) = counter();
        let signal = Signal::default();
        signal.raise();
        signal.when_settled(waiter());
        signal.close(&Ok(()));
        signal.raise();
        signal.when_settled(waiter());
        assert_eq!(count.load(SeqCst), 101, "later changes are not saved");
    }

    #[test]
    fn one_too_many_is_told_at_once_with_the_key() {
        let signal = Signal::new(1);
        signal.raise();
        signal.when_settled(|_| ());
        let (done, told) = std::sync::mpsc::channel();
        signal.when_settled(move |saved| done.send(saved).unwrap());
        assert!(told.try_recv().unwrap().unwrap_err().contains("apogeeMaxWaitingChanges"));
    }
}
