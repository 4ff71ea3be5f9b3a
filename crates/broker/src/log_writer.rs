//! The one way of messages into the log: sends, messages that are sent back, delayed messages that are due.
//!
//! Append, then complete: whoever appended is told once when the messages are as durable as was asked for, and the topics that were
//! made for them are saved and known to the name servers.

use crate::signal::{Saved, Signal};
use message::properties;
use message::record::{Draft, Placement};
use std::sync::Arc;
use store::{AppendError, Completion, ConsumeQueue, FlushMode, Store, Ticket};

/// What a completion waits for.
#[derive(Clone, Copy, Debug)]
pub struct WaitFor {
    /// The device, under SYNC_FLUSH.
    pub flush: bool,
    /// Topics that were made just now.
    pub topics: bool,
}

/// Why messages that were appended are not complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// As far as is known nothing is stored.
    #[error("{0}")]
    NotStored(Arc<str>),
    /// The messages are stored, their topic is not.
    #[error("the message is stored, but its topic is new, and {0}")]
    TopicNotSaved(Arc<str>),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct LogWriter {
    store: Arc<Store>,
    /// Raised by new topics.
    changed: Arc<Signal>,
}

impl LogWriter {
    /// Writes to `store`. `changed` is raised by new topics.
    #[must_use]
    pub fn new(store: Arc<Store>, changed: Arc<Signal>) -> Self {
        Self { store, changed }
    }

    /// Raised by new topics.
    #[must_use]
    pub fn changed(&self) -> &Signal {
        &self.changed
    }

    /// Most bytes that [`Self::append`] takes at once.
    #[must_use]
    pub fn max_append_bytes(&self) -> usize {
        self.store.max_append_bytes()
    }

    /// Whether completions can wait for the device.
    #[must_use]
    pub fn is_sync_flush(&self) -> bool {
        self.store.flush_mode() == FlushMode::Sync
    }

    /// A queue to append to.
    #[must_use]
    pub fn queue(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        self.store.queue(topic, queue_id)
    }

    /// As [`Store::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(
        &self,
        drafts: &[Draft<'_>],
        queues: &[Arc<ConsumeQueue>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Ticket, AppendError> {
        debug_assert!(
            drafts.iter().all(|draft| !names_a_key(draft.added_properties)),
            "the store reads tag and keys from a draft's own properties"
        );
        self.store.append(drafts, queues, now_ms, placements)
    }

    /// Completes what was appended: says how, if that is known at once; else calls what `later` makes, once and from another thread. It
    /// must not block.
    pub fn complete<D>(&self, ticket: Ticket, wait: WaitFor, later: impl FnOnce() -> D) -> Option<Result<(), Incomplete>>
    where
        D: FnOnce(Result<(), Incomplete>) + Send + 'static,
    {
        // Called by one of the two, which come one after the other.
        let mut later = Some(later);
        let outcome = self.store.complete(ticket, wait.flush, || {
            let done = later.take().map(|later| later());
            let changed = wait.topics.then(|| Arc::clone(&self.changed));
            Box::new(move |outcome: Result<(), Arc<str>>| {
                if let Some(done) = done {
                    finish(outcome, changed.as_deref(), done);
                }
            }) as Completion
        })?;
        match outcome {
            Ok(()) if wait.topics && !self.changed.is_settled() => {
                if let Some(later) = later {
                    finish(Ok(()), Some(&self.changed), later());
                }
                None
            }
            outcome => Some(outcome.map_err(Incomplete::NotStored)),
        }
    }

    /// As [`Self::complete`], always with a call.
    pub fn complete_then(&self, ticket: Ticket, wait: WaitFor, done: impl FnOnce(Result<(), Incomplete>) + Send + 'static) {
        let changed = wait.topics.then(|| Arc::clone(&self.changed));
        self.store
            .complete_then(ticket, wait.flush, move |outcome| finish(outcome, changed.as_deref(), done));
    }
}

fn names_a_key(properties: &[u8]) -> bool {
    let names = [properties::TAGS, properties::KEYS, properties::UNIQ_KEY];
    properties::iter(properties).any(|(name, _)| names.iter().any(|key| key.as_bytes() == name))
}

fn finish(outcome: Result<(), Arc<str>>, changed: Option<&Signal>, done: impl FnOnce(Result<(), Incomplete>) + Send + 'static) {
    match (outcome, changed) {
        (Ok(()), Some(changed)) => changed.when_settled(move |saved: Saved| done(saved.map_err(Incomplete::TopicNotSaved))),
        (outcome, _) => done(outcome.map_err(Incomplete::NotStored)),
    }
}
