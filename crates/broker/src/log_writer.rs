//! The only way into the log: for sends, messages sent back, due delayed messages and transactions.
//!
//! Append, then complete: the caller is told once when the messages are as durable as requested, and topics created for them are saved
//! and known to the name servers.

use crate::signal::{Saved, Signal};
use message::properties;
use message::record::{Draft, Placement};
use std::sync::Arc;
use store::{AppendError, Completion, ConsumeQueue, FlushMode, Store, Ticket};

/// What a completion waits for.
#[derive(Clone, Copy, Debug)]
pub struct WaitFor {
    /// The flush, under SYNC_FLUSH.
    pub flush: bool,
    /// Topics that were just created.
    pub topics: bool,
}

/// Why messages that were appended could not be completed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// They are not stored, as far as is known.
    #[error("{0}")]
    NotStored(Arc<str>),
    /// They are stored, but their new topic could not be saved.
    #[error("the message is stored, but its topic is new, and {0}")]
    TopicNotSaved(Arc<str>),
}

/// Appends messages to the store; see the module.
#[derive(Debug, Clone)]
pub struct LogWriter {
    store: Arc<Store>,
    /// Raised by topics that are created.
    changed: Arc<Signal>,
}

impl LogWriter {
    /// A writer to `store`. `changed` is the signal that new topics raise.
    #[must_use]
    pub fn new(store: Arc<Store>, changed: Arc<Signal>) -> Self {
        Self { store, changed }
    }

    /// The signal that new topics raise.
    #[must_use]
    pub fn changed(&self) -> &Signal {
        &self.changed
    }

    /// Maximum bytes of one [`Self::append`].
    #[must_use]
    pub fn max_append_bytes(&self) -> usize {
        self.store.max_append_bytes()
    }

    /// Whether completions may wait for a flush.
    #[must_use]
    pub fn is_sync_flush(&self) -> bool {
        self.store.flush_mode() == FlushMode::Sync
    }

    /// The queue to append to, created if necessary.
    #[must_use]
    pub fn queue(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        self.store.queue(topic, queue_id)
    }

    /// Whether there is a light queue of this name.
    #[must_use]
    pub fn has_light_queue(&self, name: &str) -> bool {
        self.store.has_topic(name)
    }

    /// Number of light queues.
    #[must_use]
    pub fn light_queue_count(&self) -> usize {
        self.store.light_queue_count()
    }

    /// Appends messages; see [`Store::append`].
    ///
    /// # Errors
    /// [`AppendError`], as for [`Store::append`].
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

    /// As [`Self::append`], also while the store refuses messages because the disk is nearly full: for messages that are written again so
    /// that old log files can be deleted.
    ///
    /// # Errors
    /// [`AppendError`], as for [`Store::append`].
    pub fn append_to_make_room(
        &self,
        drafts: &[Draft<'_>],
        queues: &[Arc<ConsumeQueue>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Ticket, AppendError> {
        self.store.append_to_make_room(drafts, queues, now_ms, placements)
    }

    /// A ticket for all that was appended up to now.
    pub fn appended(&self) -> Ticket {
        self.store.appended()
    }

    /// Completes an append: returns the outcome if it is known at once, else passes it to the closure that `later` makes, once and from
    /// another thread. That closure must not block.
    pub fn complete<D>(&self, ticket: Ticket, wait: WaitFor, later: impl FnOnce() -> D) -> Option<Result<(), Incomplete>>
    where
        D: FnOnce(Result<(), Incomplete>) + Send + 'static,
    {
        // Needed by the store's completion or below, never by both.
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

    /// As [`Self::complete`], but always passes the outcome to `done`.
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
