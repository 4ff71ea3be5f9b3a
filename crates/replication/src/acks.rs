//! What each slave has acknowledged, and the sends that wait for acknowledgements.
//!
//! The log is *copied* up to the offset that enough slaves have acknowledged. It never goes back: what a slave had is on it although its
//! connection has ended. Waits end in the order of their offsets; one acknowledgement ends all waits that it covers. There is neither a
//! thread nor a timer per wait.
//!
//! Under a controller the log is copied up to what its in-sync set confirms ([`InSync`]), which is also the bound of the store: readers see
//! it before waits end.

use crate::in_sync::InSync;
use message::LogOffset;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering, fence};
use std::time::Instant;
use store::Store;

/// Not enough slaves have acknowledged in time. The message is in the master's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is stored on this master, but not enough slaves have acknowledged it in time")]
pub struct NotCopied;

type Done = Box<dyn FnOnce(Result<(), NotCopied>) + Send>;

/// See the module.
pub struct Acks {
    /// Slaves whose acknowledgement counts as copied; 0: nobody waits.
    needed: usize,
    copied: AtomicI64,
    /// Number of replicas in the in-sync set, with the master; `usize::MAX` without a controller.
    in_sync: AtomicUsize,
    /// The in-sync set is the master alone, so that what it writes is confirmed.
    is_alone: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each connected slave has acknowledged, by connection.
    slaves: BTreeMap<u64, i64>,
    /// By the end of what was appended, and a number that tells waits for one offset apart.
    waiting: BTreeMap<(i64, u64), (Instant, Done)>,
    waits: u64,
    set: Option<InSync>,
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acks(copied to {} by {} slaves)", self.copied(), self.needed)
    }
}

impl Acks {
    /// With the number of slaves that have to acknowledge, 0 if nobody waits for them.
    #[must_use]
    pub fn new(needed: usize) -> Self {
        Self {
            needed,
            copied: AtomicI64::new(i64::MIN),
            in_sync: AtomicUsize::new(usize::MAX),
            is_alone: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Under a controller: sends wait for the whole in-sync set, or for nobody. [`Self::begin`] comes before the first one.
    #[must_use]
    pub fn under_controller(waits: bool) -> Self {
        Self::new(usize::from(waits))
    }

    /// This broker is a master with this in-sync set now.
    pub fn begin(&self, set: InSync, store: &Store) {
        self.state.lock().set = Some(set);
        self.change(store, |_| ());
    }

    /// Changes the in-sync set; what is confirmed then is published, and waits for it end. `None` without a set. Nothing of it blocks.
    pub fn change<T>(&self, store: &Store, change: impl FnOnce(&mut InSync) -> T) -> Option<T> {
        let (changed, confirmed) = {
            let mut state = self.state.lock();
            let set = state.set.as_mut()?;
            let changed = change(set);
            self.in_sync.store(set.len(), Ordering::Relaxed);
            self.is_alone.store(set.is_alone(), Ordering::SeqCst);
            // A write that this does not see finds that the master is alone.
            fence(Ordering::SeqCst);
            set.confirm(store.written().0);
            (changed, set.confirmed())
        };
        store.raise_bound(LogOffset(confirmed));
        self.copied_to(confirmed);
        Some(changed)
    }

    /// Looks at the in-sync set.
    pub fn look<T>(&self, look: impl FnOnce(&InSync) -> T) -> Option<T> {
        self.state.lock().set.as_ref().map(look)
    }

    /// Number of replicas in the in-sync set, with the master; `usize::MAX` without a controller.
    #[must_use]
    pub fn in_sync(&self) -> usize {
        self.in_sync.load(Ordering::Relaxed)
    }

    /// The store has written something.
    pub(crate) fn written(&self, store: &Store) {
        fence(Ordering::SeqCst);
        if self.is_alone.load(Ordering::SeqCst) {
            self.change(store, |_| ());
        }
    }

    /// Whether somebody may wait for slaves.
    #[must_use]
    pub fn are_awaited(&self) -> bool {
        self.needed > 0
    }

    fn copied(&self) -> i64 {
        self.copied.load(Ordering::Acquire)
    }

    /// Whether the log is copied up to this offset.
    #[must_use]
    pub fn has_copied(&self, end: i64) -> bool {
        self.needed == 0 || self.copied() >= end
    }

    /// Passes the outcome to `done` once, when the log is copied up to `end`, or in [`Acks::time_out`]. On this thread if it is copied
    /// already. `done` must not block.
    pub fn when_copied(&self, end: i64, now: Instant, done: impl FnOnce(Result<(), NotCopied>) + Send + 'static) {
        {
            let mut state = self.state.lock();
            if !self.has_copied(end) {
                state.waits += 1;
                let key = (end, state.waits);
                state.waiting.insert(key, (now, Box::new(done)));
                return;
            }
        }
        done(Ok(()));
    }

    /// Ends waits that began at `before` or earlier. To be called periodically.
    pub fn time_out(&self, before: Instant) {
        let due = {
            let mut state = self.state.lock();
            let mut due = Vec::new();
            // Waits begin nearly in the order of their offsets; one that began earlier than one before it ends with that one.
            while let Some(oldest) = state.waiting.first_entry().filter(|oldest| oldest.get().0 <= before) {
                due.push(oldest.remove().1);
            }
            due
        };
        due.into_iter().for_each(|done| done(Err(NotCopied)));
    }

    /// Number of waits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// A slave has everything before `offset`. A lower offset than before changes nothing.
    pub(crate) fn acknowledge(&self, slave: u64, offset: i64) {
        let copied = {
            let mut state = self.state.lock();
            let acknowledged = state.slaves.entry(slave).or_insert(offset);
            *acknowledged = offset.max(*acknowledged);
            state.copied(self.needed)
        };
        if let Some(copied) = copied {
            self.copied_to(copied);
        }
    }

    /// Ends the waits for what is before `copied`.
    fn copied_to(&self, copied: i64) {
        if self.copied() >= copied {
            return;
        }
        let ready: Vec<Done> = {
            let mut state = self.state.lock();
            self.copied.fetch_max(copied, Ordering::AcqRel);
            let later = state.waiting.split_off(&(copied.saturating_add(1), 0));
            let ready = std::mem::replace(&mut state.waiting, later);
            ready.into_values().map(|(_, done)| done).collect()
        };
        ready.into_iter().for_each(|done| done(Ok(())));
    }

    /// The connection to a slave has ended.
    pub(crate) fn forget(&self, slave: u64) {
        self.state.lock().slaves.remove(&slave);
    }
}

impl State {
    /// What so many slaves have.
    fn copied(&self, needed: usize) -> Option<i64> {
        let mut offsets: Vec<i64> = self.slaves.values().copied().collect();
        offsets.sort_unstable_by(|a, b| b.cmp(a));
        offsets.get(needed.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    /// Waits for an offset; what ended it is received.
    fn wait(acks: &Acks, end: i64, now: Instant) -> mpsc::Receiver<Result<(), NotCopied>> {
        let (done, outcome) = mpsc::channel();
        acks.when_copied(end, now, move |copied| done.send(copied).unwrap());
        outcome
    }

    #[test]
    fn one_acknowledgement_ends_all_waits_that_it_covers() {
        let acks = Acks::new(1);
        let now = Instant::now();
        let waits: Vec<_> = [30, 10, 20, 20].map(|end| wait(&acks, end, now)).into();
        acks.acknowledge(1, 9);
        assert!(waits.iter().all(|wait| wait.try_recv().is_err()));
        acks.acknowledge(1, 20);
        let ended: Vec<bool> = waits.iter().map(|wait| wait.try_recv() == Ok(Ok(()))).collect();
        assert_eq!(ended, [false, true, true, true]);
        assert_eq!(wait(&acks, 20, now).try_recv(), Ok(Ok(())), "it is copied already");
    }

    #[test]
    fn as_many_slaves_as_asked_for_have_to_acknowledge() {
        let acks = Acks::new(2);
        let now = Instant::now();
        let waits = wait(&acks, 10, now);
        acks.acknowledge(1, 50);
        acks.acknowledge(1, 60);
        assert!(waits.try_recv().is_err(), "one slave is not two");
        acks.acknowledge(2, 9);
        assert!(waits.try_recv().is_err());
        acks.acknowledge(2, 10);
        assert_eq!(waits.try_recv(), Ok(Ok(())));
        acks.forget(1);
        acks.acknowledge(2, 60);
        assert!(!acks.has_copied(11), "the other slave is gone, and this one is alone");
    }

    #[test]
    fn what_was_copied_stays_copied_when_the_slave_goes() {
        let acks = Acks::new(1);
        acks.acknowledge(1, 40);
        acks.forget(1);
        acks.acknowledge(2, 7);
        assert!(acks.has_copied(40) && !acks.has_copied(41));
    }

    #[test]
    fn waits_end_in_time_without_an_acknowledgement() {
        let acks = Arc::new(Acks::new(1));
        let begun = Instant::now();
        let (early, late) = (wait(&acks, 10, begun), wait(&acks, 20, begun + Duration::from_secs(2)));
        acks.time_out(begun + Duration::from_secs(1));
        assert_eq!(
            (early.try_recv(), late.try_recv().is_err(), acks.waiting()),
            (Ok(Err(NotCopied)), true, 1)
        );
        acks.acknowledge(1, 20);
        assert_eq!(late.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn nobody_waits_if_no_slave_is_asked_for() {
        let acks = Acks::new(0);
        assert!(!acks.are_awaited());
        assert_eq!(wait(&acks, i64::MAX, Instant::now()).try_recv(), Ok(Ok(())));
    }
}
