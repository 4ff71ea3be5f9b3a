//! Answers to sends that could not be given at once: another thread was writing, the device has to be waited for, or a new topic is
//! being saved.
//!
//! Under SYNC_FLUSH a send that waits longer than `syncFlushTimeout` is answered with FLUSH_DISK_TIMEOUT (10): the message
//! is stored, but perhaps not on the device yet. Whoever comes first answers, the flush or the time-out. Under SYNC_MASTER one that waits
//! for slaves longer than `slaveTimeout` is answered with FLUSH_SLAVE_TIMEOUT (12); [`replication::Acks`] counts that time.

use crate::log_writer::Incomplete;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The outcome of sends that were stored together.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// As durable as the flush mode promises.
    Done,
    /// Stored, but the flush took too long.
    TimedOut,
    /// Stored, but not enough slaves have it in time.
    NotCopied,
    /// Failed, for this reason.
    Failed(&'a Incomplete),
}

/// What may take too long, so that sends are answered before it is done.
#[derive(Clone, Copy, Debug)]
pub struct MayBeLate {
    /// The flush.
    pub flush: bool,
    /// Slaves.
    pub slaves: bool,
}

/// The answer of a waiting send; whoever answers takes it.
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
        // Outside the lock, because answering writes to a socket.
        let answer = self.0.lock().take();
        if let Some(answer) = answer {
            answer(ending);
        }
    }
}

/// Sends that wait for the flush, oldest first.
#[derive(Default)]
pub struct LateFlushes {
    waiting: Mutex<VecDeque<(Instant, Arc<dyn Waiting>)>>,
}

impl LateFlushes {
    /// The completion of sends, which calls `answer`. With `may_time_out`, [`Self::time_out`] answers them if it comes first.
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
            Err(Incomplete::NotCopied(_)) => pending.answer(Ending::NotCopied),
            Err(reason) => pending.answer(Ending::Failed(reason)),
        }
    }

    /// Answers sends that have waited for `timeout`. To be called periodically.
    pub fn time_out(&self, timeout: Duration) {
        let due: Vec<_> = {
            let mut waiting = self.waiting.lock();
            let count = waiting.iter().take_while(|(since, _)| since.elapsed() >= timeout).count();
            waiting.drain(..count).collect()
        };
        due.iter().for_each(|(_, pending)| pending.answer(Ending::TimedOut));
    }
}
