//! The same under a scheduler that explores interleavings: every operation is a point where another thread may run.
//!
//! Time does not pass by itself. A wait with a time-out is either woken, or times out after a few turns of other threads and sets
//! the clock to its end. So time-outs occur in any order with everything else, and a thread that polls does not stop others.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use shuttle::sync::{atomic, mpsc};
pub(crate) use shuttle::thread::{self, JoinHandle};
pub(crate) use shuttle_parking_lot::{Mutex, MutexGuard, RwLock};

/// Maximum turns of other threads before a wait times out.
const TURNS: u64 = 6;

/// Nanoseconds since the first run began.
static CLOCK: AtomicU64 = AtomicU64::new(0);

/// An instant of the explored clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(CLOCK.load(Ordering::Relaxed))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Whether a wait timed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

/// `parking_lot`'s condition variable, as a count of notifications: a waiter is woken by those that come after it began to wait.
#[derive(Default)]
pub(crate) struct Condvar {
    state: shuttle::sync::Mutex<Calls>,
    woken: shuttle::sync::Condvar,
}

#[derive(Default)]
struct Calls {
    waiting: u64,
    /// How many of the waiters may continue.
    called: u64,
}

impl Condvar {
    pub(crate) fn notify_one(&self) {
        let mut calls = self.calls();
        calls.called = (calls.called + 1).min(calls.waiting);
        drop(calls);
        self.woken.notify_all();
    }

    pub(crate) fn notify_all(&self) {
        let mut calls = self.calls();
        calls.called = calls.waiting;
        drop(calls);
        self.woken.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        // Before the lock is released: a later notification must find this waiter.
        self.calls().waiting += 1;
        MutexGuard::unlocked(guard, || {
            let mut calls = self.calls();
            while calls.called == 0 {
                calls = self.woken.wait(calls).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            calls.called -= 1;
            calls.waiting -= 1;
        });
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> WaitTimeoutResult {
        self.calls().waiting += 1;
        let turns = shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 0..TURNS);
        let timed_out = MutexGuard::unlocked(guard, || {
            for _ in 0..turns {
                shuttle::thread::yield_now();
                let mut calls = self.calls();
                if calls.called > 0 {
                    calls.called -= 1;
                    calls.waiting -= 1;
                    return false;
                }
            }
            let mut calls = self.calls();
            calls.waiting -= 1;
            calls.called = calls.called.min(calls.waiting);
            CLOCK.fetch_max(until.0, Ordering::Relaxed);
            true
        });
        WaitTimeoutResult(timed_out)
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        self.wait_until(guard, Instant::now() + time)
    }

    fn calls(&self) -> shuttle::sync::MutexGuard<'_, Calls> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}
