//! "Something changed that has to be saved and told to the name servers": raised by topics and groups, waited for by the
//! upkeep, and by answers that may only leave when it is done.
//!
//! A client that created a topic asks a name server for it at once. So the answer to it leaves when the change is on the
//! disk and the name servers were told, or failed to answer in time; many changes share one round. A change that could not be
//! saved is answered with the error: it holds while the process runs, and is tried again.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tokio::sync::Notify;

/// How saving ended; the text says what could not be saved.
pub type Saved = Result<(), Arc<str>>;

/// What waits for a round.
type Waiter = Box<dyn FnOnce(Saved) + Send>;

/// Most answers that wait for a round; over it they say that the change is not saved yet.
const MAX_WAITERS: usize = 100_000;

#[derive(Default)]
struct Waiting {
    waiters: Vec<(u64, Waiter)>,
    closed: bool,
}

/// Counts changes and how many of them are settled.
#[derive(Default)]
pub struct Signal {
    raised: AtomicU64,
    settled: AtomicU64,
    waiting: Mutex<Waiting>,
    notify: Notify,
}

impl fmt::Debug for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signal({}/{} settled)", self.settled(), self.raised())
    }
}

impl Signal {
    /// Says that something changed. The change must be visible already.
    pub fn raise(&self) {
        self.raised.fetch_add(1, SeqCst);
        self.notify.notify_one();
    }

    /// Has the upkeep look again though nothing changed: it could not finish.
    pub fn again(&self) {
        self.notify.notify_one();
    }

    /// Changes so far. Read it before looking at what changed, to settle no more than was seen.
    #[must_use]
    pub fn raised(&self) -> u64 {
        self.raised.load(SeqCst)
    }

    /// How many changes are saved and told.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(SeqCst)
    }

    /// Whether nothing is outstanding.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled() >= self.raised()
    }

    /// Waits for a change since the last call. One waiter only.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Calls `done` when all changes so far are settled, or could not be saved: now if they are, else from the upkeep's thread.
    /// It must not block.
    pub fn when_settled(&self, done: impl FnOnce(Saved) + Send + 'static) {
        let mut waiting = self.waiting.lock();
        let raised = self.raised();
        let outcome = if self.settled() >= raised {
            Ok(())
        } else if waiting.closed {
            Err("the broker is being stopped".into())
        } else if waiting.waiters.len() >= MAX_WAITERS {
            Err(format!("{MAX_WAITERS} answers wait for tables to be saved already").into())
        } else {
            waiting.waiters.push((raised, Box::new(done)));
            return;
        };
        drop(waiting);
        done(outcome);
    }

    /// Says how the first `upto` changes ended. What could not be saved stays outstanding, but nobody waits for it any more.
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

    /// Nobody settles any more: who waits gets this outcome, and who comes is told that the broker is being stopped.
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
    fn an_answer_waits_for_the_changes_before_it_and_no_later_ones() {
        let (count, waiter) = counter();
        let signal = Signal::default();
        signal.when_settled(waiter());
        assert_eq!(count.load(SeqCst), 1, "nothing is outstanding");
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
    fn what_could_not_be_saved_is_told_to_those_who_wait_and_stays_outstanding() {
        let (count, waiter) = counter();
        let signal = Signal::default();
        signal.raise();
        signal.when_settled(waiter());
        signal.settle(1, &Err("no room".into()));
        assert_eq!((count.load(SeqCst), signal.is_settled()), (100, false));
        signal.when_settled(waiter());
        signal.settle(1, &Ok(()));
        assert_eq!((count.load(SeqCst), signal.is_settled()), (101, true));
    }

    #[test]
    fn nobody_waits_for_an_upkeep_that_ended() {
        let (count, waiter) = counter();
        let signal = Signal::default();
        signal.raise();
        signal.when_settled(waiter());
        signal.close(&Ok(()));
        signal.raise();
        signal.when_settled(waiter());
        assert_eq!(count.load(SeqCst), 101, "what comes later is not saved");
    }
}
