//! "Something changed that has to be saved and told to the name servers": raised by topics and groups, waited for by the
//! upkeep, and by answers that may only leave when it is done.
//!
//! A client that created a topic asks a name server for it at once. So the answer to it leaves when the change is on the
//! disk and the name servers were told, or failed to answer in time; many changes share one round.

use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tokio::sync::Notify;

/// What waits for a round.
type Waiter = Box<dyn FnOnce() + Send>;

/// Most answers that wait for a round; over it they leave at once.
const MAX_WAITERS: usize = 100_000;

#[derive(Default)]
struct Settled {
    upto: u64,
    waiting: Vec<(u64, Waiter)>,
    closed: bool,
}

/// Counts changes and how many of them are settled.
#[derive(Default)]
pub struct Signal {
    raised: AtomicU64,
    settled: Mutex<Settled>,
    notify: Notify,
}

impl fmt::Debug for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settled = self.settled.lock();
        write!(out, "Signal({}/{} settled)", settled.upto, self.raised())
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

    /// Whether nothing is outstanding.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled.lock().upto >= self.raised()
    }

    /// Waits for a change since the last call. One waiter only.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Calls `done` when all changes so far are settled: now if they are, else from the upkeep's thread. It must not block.
    pub fn when_settled(&self, done: impl FnOnce() + Send + 'static) {
        let mut settled = self.settled.lock();
        let raised = self.raised();
        if settled.upto < raised && !settled.closed && settled.waiting.len() < MAX_WAITERS {
            settled.waiting.push((raised, Box::new(done)));
            return;
        }
        drop(settled);
        done();
    }

    /// Says that the first `upto` changes are settled.
    pub fn settle(&self, upto: u64) {
        let mut settled = self.settled.lock();
        settled.upto = settled.upto.max(upto);
        let reached = settled.upto;
        let (ready, waiting) = std::mem::take(&mut settled.waiting).into_iter().partition(|(at, _)| *at <= reached);
        settled.waiting = waiting;
        drop(settled);
        let ready: Vec<(u64, Waiter)> = ready;
        for (_, done) in ready {
            done();
        }
    }

    /// Nobody settles any more: who waits is called, and who comes is called at once.
    pub fn close(&self) {
        self.settled.lock().closed = true;
        self.settle(u64::MAX);
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
            Box::new(move || {
                count.fetch_add(1, SeqCst);
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
        signal.settle(1);
        assert_eq!(count.load(SeqCst), 2);
        signal.settle(2);
        assert_eq!(count.load(SeqCst), 3);
        assert!(signal.is_settled());
    }

    #[test]
    fn nobody_waits_for_an_upkeep_that_ended() {
        let (count, waiter) = counter();
        let signal = Signal::default();
        signal.raise();
        signal.when_settled(waiter());
        signal.close();
        signal.raise();
        signal.when_settled(waiter());
        assert_eq!(count.load(SeqCst), 2);
    }
}
