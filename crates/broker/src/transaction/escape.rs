//! What a slave that acts for its master does with open transactions: another broker takes each over as a half message of its own, and asks the
//! producer how it ended. Nothing is written here. The committed offset of half messages says what was taken over, also to the master when it
//! is back.

use super::half::Half;
use super::{GROUP, Transactions, recovery};
use crate::escape::Source;
use message::record::Draft;
use message::{names, sys_flag};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use store::{ReadSource, StoreError};

/// Half messages that another broker gets at once.
const TOGETHER: usize = 32;
/// Before something is tried again that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

impl Transactions {
    /// Starts the thread that hands over what is open, until [`crate::feature::Feature::stop`].
    ///
    /// # Errors
    /// [`io::Error`] if the thread cannot be started.
    pub fn start_escaping(self: &Arc<Self>) -> io::Result<()> {
        let works = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("transaction".to_owned())
            .spawn(move || works.escape_all())?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn escape_all(&self) {
        while let Err(error) = recovery::read_open(self) {
            tracing::error!(%error, "open transactions cannot be read, trying again; no other broker gets them until then");
            if self.sleep(AFTER_FAILURE) {
                return;
            }
        }
        self.commit_done();
        let mut handed_over = 0;
        loop {
            match self.escape_some() {
                Ok(0) => break,
                Ok(count) => handed_over += count,
                Err(why) => {
                    tracing::warn!(why, "open transactions are not handed over to another broker, trying again");
                    if self.sleep(AFTER_FAILURE) {
                        return;
                    }
                }
            }
        }
        // The log gets nothing new while the master is gone.
        tracing::info!(handed_over, "open transactions were handed over to other brokers");
    }

    /// Hands some over, from the first open one on. Returns how many are done with that.
    fn escape_some(&self) -> Result<usize, String> {
        let (first, end) = (self.state.lock().window.next_open(0, self.start_end), self.start_end);
        let Some(from) = first else { return Ok(0) };
        let read = self.read_from(names::TRANS_HALF_TOPIC, from, TOGETHER, ReadSource::Disk);
        let records = read.map_err(|error: StoreError| error.to_string())?.records;
        let mut halves = Vec::with_capacity(records.len());
        let mut done = Vec::with_capacity(records.len().max(1));
        if records.is_empty() {
            done.push((from, from));
        }
        for (bytes, nth) in records.iter().zip(from..) {
            let half = Half::parse(bytes);
            let offset = half.as_ref().map_or(nth, |half| half.record.queue_offset.0);
            if offset >= end {
                break;
            }
            if self.state.lock().window.is_done(offset) {
                continue;
            }
            match half {
                Ok(half) => {
                    done.push((offset, half.first));
                    halves.push(half);
                }
                Err(why) => {
                    tracing::error!(half = offset, why, "an open half message cannot be read: it is passed over");
                    done.push((offset, offset));
                }
            }
        }
        self.hand_over(&halves)?;
        let mut state = self.state.lock();
        for (half, first) in &done {
            if state.window.claim(*half, *first, i64::MAX).is_ok() {
                state.window.finish(*half, *first);
            }
        }
        drop(state);
        self.commit_done();
        Ok(done.len())
    }

    /// Waits until other brokers have these.
    fn hand_over(&self, halves: &[Half<'_>]) -> Result<(), String> {
        let drafts: Vec<Draft<'_>> = halves
            .iter()
            .map(|half| Draft {
                topic: &half.topic,
                queue_id: half.queue_id,
                sys_flag: (half.record.sys_flag & !sys_flag::TRANSACTION_MASK) | sys_flag::TRANSACTION_PREPARED,
                ..Draft::of(&half.record)
            })
            .collect();
        if drafts.is_empty() {
            return Ok(());
        }
        let (settled, outcome) = std::sync::mpsc::channel();
        self.core
            .log
            .escape()
            .store(Source::Transactions, &drafts, move |outcome| drop(settled.send(outcome)));
        match outcome.recv() {
            Ok(outcome) => outcome.map_err(|why| why.to_string()),
            Err(_) => Err("the broker stops".to_owned()),
        }
    }

    /// Everything below is done, here and on the master when it is back.
    fn commit_done(&self) {
        let base = {
            let mut state = self.state.lock();
            state.window.advance();
            state.window.base()
        };
        let offsets = &self.core.offsets;
        let is_ahead = |committed: i64| committed < base;
        if offsets.committed(names::TRANS_HALF_TOPIC, GROUP, 0).is_none_or(is_ahead)
            && let Err(error) = offsets.commit(names::TRANS_HALF_TOPIC, GROUP, 0, base)
        {
            tracing::warn!(%error, "it is not noted which transactions other brokers have: the master checks them, too");
        }
    }
}
