//! Wakes a delivery thread when a message is due, or when one arrives that is due earlier.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

/// No due time: every other one is earlier.
const NEVER: i64 = i64::MAX;
/// The thread is awake: no due time is earlier.
const AWAKE: i64 = i64::MIN;

/// What a delivery thread sleeps on.
#[derive(Debug)]
pub struct Alarm {
    /// While the thread sleeps: due time of the earliest message it knows, epoch ms.
    planned: AtomicI64,
    /// Earliest due time of the messages that arrived since it last looked, epoch ms.
    arrived: AtomicI64,
    state: Mutex<WakeState>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct WakeState {
    called: bool,
    stop: bool,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            planned: AtomicI64::new(AWAKE),
            arrived: AtomicI64::new(NEVER),
            state: Mutex::default(),
            woken: Condvar::new(),
        }
    }
}

impl Alarm {
    /// A message arrived that is due then (epoch ms). For every message: one comparison, unless the thread has to be woken.
    pub(crate) fn due_at(&self, due_ms: i64) {
        self.arrived.fetch_min(due_ms, SeqCst);
        if due_ms < self.planned.load(SeqCst) {
            self.call();
        }
    }

    /// Wakes the thread.
    pub(crate) fn call(&self) {
        self.state.lock().called = true;
        self.woken.notify_one();
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.woken.notify_one();
    }

    /// The thread begins again after [`Self::stop`].
    pub(crate) fn restart(&self) {
        self.state.lock().stop = false;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// The thread is about to look at the queues. Messages that arrive from now on wake it again.
    pub(crate) fn begin_look(&self) {
        self.arrived.store(NEVER, SeqCst);
        self.state.lock().called = false;
    }

    /// Sleeps for `at_most`, the time until `earliest_ms` (epoch; [`None`]: no message waits), or until a message arrives that is due
    /// earlier, or the thread is woken.
    pub(crate) fn sleep(&self, earliest_ms: Option<i64>, at_most: Option<Duration>) {
        let earliest_ms = earliest_ms.unwrap_or(NEVER);
        let mut state = self.state.lock();
        // Before `arrived` is read: a message that arrives after that sees the planned time and wakes the thread.
        self.planned.store(earliest_ms, SeqCst);
        if !state.called && !state.stop && self.arrived.load(SeqCst) >= earliest_ms {
            match at_most {
                Some(time) => drop(self.woken.wait_for(&mut state, time)),
                None => self.woken.wait(&mut state),
            }
        }
        self.planned.store(AWAKE, SeqCst);
    }

    /// Sleeps for this time whatever arrives, unless the thread is woken.
    pub(crate) fn rest(&self, time: Duration) {
        self.sleep(Some(AWAKE), Some(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    fn slept(alarm: &Alarm, earliest_ms: Option<i64>, at_most: Option<Duration>) -> Duration {
        let begun = Instant::now();
        alarm.sleep(earliest_ms, at_most);
        begun.elapsed()
    }

    #[test]
    fn what_came_during_the_look_is_not_slept_through() {
        let alarm = Alarm::default();
        alarm.begin_look();
        alarm.due_at(500);
        assert!(slept(&alarm, Some(1_000), LONG) < Duration::from_secs(30));
        alarm.begin_look();
        alarm.due_at(500);
        assert!(slept(&alarm, None, None) < Duration::from_secs(30));
        alarm.begin_look();
        alarm.due_at(2_000);
        assert!(slept(&alarm, Some(1_000), Some(Duration::from_millis(20))) >= Duration::from_millis(20));
    }

    #[test]
    fn an_arrival_wakes_if_it_is_due_earlier() {
        let alarm = Arc::new(Alarm::default());
        alarm.begin_look();
        let other = Arc::clone(&alarm);
        let thread = std::thread::spawn(move || {
            while other.planned.load(SeqCst) == AWAKE {
                std::thread::yield_now();
            }
            other.due_at(5_000);
            other.due_at(500);
        });
        assert!(slept(&alarm, Some(1_000), LONG) < Duration::from_secs(30));
        thread.join().unwrap();
        assert!(!alarm.is_stopped());
        alarm.stop();
        assert!(slept(&alarm, None, None) < Duration::from_secs(30));
        assert!(alarm.is_stopped());
    }
}
