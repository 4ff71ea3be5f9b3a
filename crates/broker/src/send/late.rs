//! Answers to sends that could not be given at once: another thread was writing, the device has to be waited for, or a new topic is
//! being saved.
//!
//! Under SYNC_FLUSH a send that waits longer than `syncFlushTimeout` is answered with FLUSH_DISK_TIMEOUT (10): the message
//! is stored, but perhaps not on the device yet. Whoever comes first answers, the flush or the time-out.

use crate::log_writer::Incomplete;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How sends that were stored together end.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// As durable as was promised.
    Done,
    /// Stored, but not known to be on the device in time.
    TimedOut,
    /// Not so, for this reason.
    Failed(&'a Incomplete),
}

/// A send that waits, with what answers it; taken by whoever answers.
struct Pending<F>(Mutex<Option<F>>);

trait Waiting: Send + Sync {
    fn is_answered(&self) -> bool;
    fn answer(&self, ending: Ending<'_>);
}

impl<F: FnOnce(Ending<'_>) + Send> Waiting for Pending<F> {
    fn is_answered(&self) -> bool {
        self.0.lock().is_none()
    }

    fn answer(&self, ending: Ending<'_>) {
        // Not under the lock: answering writes to a socket.
        let answer = self.0.lock().take();
        if let Some(answer) = answer {
            answer(ending);
        }
    }
}

/// Sends that wait for the device, oldest first.
#[derive(Default)]
pub struct LateFlushes {
    waiting: Mutex<VecDeque<(Instant, Arc<dyn Waiting>)>>,
}

impl LateFlushes {
    /// What completes sends that `answer` answers; with `may_time_out` they are answered in time.
    pub(super) fn completion(
        &self,
        may_time_out: bool,
        answer: impl FnOnce(Ending<'_>) + Send + 'static,
    ) -> impl FnOnce(Result<(), Incomplete>) + Send + 'static {
        let pending = Arc::new(Pending(Mutex::new(Some(answer))));
        if may_time_out {
            let mut waiting = self.waiting.lock();
            while waiting.front().is_some_and(|(_, oldest)| oldest.is_answered()) {
                waiting.pop_front();
            }
            waiting.push_back((Instant::now(), pending.clone()));
        }
        move |outcome: Result<(), Incomplete>| match &outcome {
            Ok(()) => pending.answer(Ending::Done),
            Err(reason) => pending.answer(Ending::Failed(reason)),
        }
    }

    /// Answers those that have waited for `timeout`. Called every now and then.
    pub fn time_out(&self, timeout: Duration) {
        let due: Vec<_> = {
            let mut waiting = self.waiting.lock();
            let count = waiting.iter().take_while(|(since, _)| since.elapsed() >= timeout).count();
            waiting.drain(..count).collect()
        };
        due.iter().for_each(|(_, pending)| pending.answer(Ending::TimedOut));
    }
}
