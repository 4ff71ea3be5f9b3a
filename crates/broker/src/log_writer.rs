//! The only way into the log: for sends, messages sent back, due delayed messages and transactions.
//!
//! Append, then complete: the caller is told once when the messages are as durable as requested, and topics created for them are saved
//! and known to the name servers.

use crate::escape::{Escape, Source};
use crate::role::Role;
use crate::signal::{Saved, Signal};
use message::properties;
use message::record::{Draft, Placement};
use replication::{Acks, NotCopied};
use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Instant;
use store::{AppendError, Completion, ConsumeQueue, FlushMode, Store, Ticket};

/// What a completion waits for.
#[derive(Clone, Copy, Debug)]
pub struct WaitFor {
    /// The flush, under SYNC_FLUSH.
    pub flush: bool,
    /// Topics that were just created.
    pub topics: bool,
    /// Slaves, under SYNC_MASTER.
    pub slaves: bool,
}

/// Why messages that were appended could not be completed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// They are not stored, as far as is known.
    #[error("{0}")]
    NotStored(Arc<str>),
    /// They are stored, but not enough slaves have them in time.
    #[error(transparent)]
    NotCopied(#[from] NotCopied),
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
    /// How far slaves are.
    acks: Arc<Acks>,
    role: Arc<Role>,
    /// With fewer in-sync replicas nothing is appended, under a controller.
    min_in_sync: usize,
    /// Where due messages go while this broker acts for its master.
    escape: Arc<Escape>,
}

/// Due messages that were appended, or leave this broker.
#[derive(Debug)]
pub enum Delivery {
    /// They are in this broker's log.
    Here(Ticket),
    /// They are for another broker's.
    Elsewhere(Source),
}

impl LogWriter {
    /// A writer to `store`. `changed` is the signal that new topics raise.
    #[must_use]
    pub fn new(store: Arc<Store>, changed: Arc<Signal>) -> Self {
        let role = Arc::new(Role::new(false));
        Self {
            store,
            changed,
            acks: Arc::new(Acks::new(0)),
            min_in_sync: 0,
            escape: Arc::new(Escape::new(role.clone())),
            role,
        }
    }

    /// One that appends only while `role` says master and there are so many in-sync replicas, and can wait for slaves.
    #[must_use]
    pub fn with_replicas(self, acks: Arc<Acks>, role: Arc<Role>, min_in_sync: usize) -> Self {
        let escape = Arc::new(Escape::new(role.clone()));
        Self {
            acks,
            role,
            min_in_sync,
            escape,
            ..self
        }
    }

    /// Where messages go that leave this broker while it acts for its master.
    #[must_use]
    pub fn escape(&self) -> &Arc<Escape> {
        &self.escape
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

    /// Whether completions may wait for slaves.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.acks.are_awaited()
    }

    /// Whether completions may wait for more than the page cache: a flush, or slaves.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.is_sync_flush() || self.is_copied()
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
        queues: &[impl Borrow<Arc<ConsumeQueue>>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Ticket, AppendError> {
        debug_assert!(
            drafts.iter().all(|draft| !names_a_key(draft.added_properties)),
            "the store reads tag and keys from a draft's own properties"
        );
        self.role.check_master()?;
        self.check_replicas()?;
        self.store.append(drafts, queues, now_ms, placements)
    }

    /// Compat: IN_SYNC_REPLICAS_NOT_ENOUGH of Apache's broker.
    fn check_replicas(&self) -> Result<(), AppendError> {
        let in_sync = self.acks.in_sync();
        if in_sync >= self.min_in_sync {
            return Ok(());
        }
        let missing = self.acks.look(|set| {
            let now = replication::now_ms();
            let absent = set
                .absent()
                .map(|(id, since)| format!("broker {id} is not connected for {} ms", now - since));
            absent.collect::<Vec<_>>().join(", ")
        });
        let missing = missing.filter(|missing| !missing.is_empty());
        Err(AppendError::NotWritable(format!(
            "in-sync replicas not enough: {in_sync} of minInSyncReplicas={}, the others are to catch up ({}); see getSyncStateSet and haStatus",
            self.min_in_sync,
            missing.as_deref().unwrap_or("they left the in-sync set")
        )))
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
        self.role.check_master()?;
        self.store.append_to_make_room(drafts, queues, now_ms, placements)
    }

    /// Appends messages that are due. On a slave that delivers for its master nothing is appended: [`Self::finish`] has them stored by other
    /// brokers.
    ///
    /// # Errors
    /// [`AppendError`], as for [`Store::append`].
    pub fn deliver(
        &self,
        source: Source,
        drafts: &[Draft<'_>],
        queues: &[Arc<ConsumeQueue>],
        now_ms: i64,
        placements: &mut Vec<Placement>,
    ) -> Result<Delivery, AppendError> {
        if self.role.is_slave() && self.role.delivers() {
            return Ok(Delivery::Elsewhere(source));
        }
        self.append(drafts, queues, now_ms, placements).map(Delivery::Here)
    }

    /// Passes the outcome of a delivery of these messages to `done`, once and from another thread. It must not block.
    pub fn finish(
        &self,
        delivery: Delivery,
        drafts: &[Draft<'_>],
        wait: WaitFor,
        done: impl FnOnce(Result<(), Incomplete>) + Send + 'static,
    ) {
        match delivery {
            Delivery::Here(ticket) => self.complete_then(ticket, wait, done),
            Delivery::Elsewhere(source) => self
                .escape
                .store(source, drafts, move |outcome| done(outcome.map_err(Incomplete::NotStored))),
        }
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
        let later_then = || {
            let done = later.take().map(|later| later());
            let rest = self.rest(ticket, wait);
            Box::new(move |outcome: Result<(), Arc<str>>| {
                if let Some(done) = done {
                    rest.finish(outcome, done);
                }
            }) as Completion
        };
        // In a store with a bound readers see a message when the slaves have it, which `rest` waits for anyway.
        let outcome = match wait.slaves {
            true => self.store.complete_here(ticket, wait.flush, later_then)?,
            false => self.store.complete(ticket, wait.flush, later_then)?,
        };
        match outcome {
            Ok(()) if wait.slaves && !self.acks.has_copied(ticket.end().0) => {
                if let Some(later) = later {
                    self.rest(ticket, wait).finish(Ok(()), later());
                }
                None
            }
            Ok(()) if wait.topics && !self.changed.is_settled() => {
                if let Some(later) = later {
                    self.rest(ticket, wait).finish(Ok(()), later());
                }
                None
            }
            outcome => Some(outcome.map_err(Incomplete::NotStored)),
        }
    }

    /// As [`Self::complete`], but always passes the outcome to `done`.
    pub fn complete_then(&self, ticket: Ticket, wait: WaitFor, done: impl FnOnce(Result<(), Incomplete>) + Send + 'static) {
        let mut done = Some(done);
        let at_once = self.complete(ticket, wait, || {
            let later = done.take();
            move |outcome| {
                if let Some(done) = later {
                    done(outcome);
                }
            }
        });
        if let (Some(outcome), Some(done)) = (at_once, done) {
            done(outcome);
        }
    }

    fn rest(&self, ticket: Ticket, wait: WaitFor) -> Rest {
        Rest {
            end: ticket.end().0,
            acks: (wait.slaves && self.acks.are_awaited()).then(|| Arc::clone(&self.acks)),
            changed: wait.topics.then(|| Arc::clone(&self.changed)),
        }
    }
}

/// What a completion waits for when the store is done.
struct Rest {
    end: i64,
    acks: Option<Arc<Acks>>,
    changed: Option<Arc<Signal>>,
}

impl Rest {
    fn finish(self, outcome: Result<(), Arc<str>>, done: impl FnOnce(Result<(), Incomplete>) + Send + 'static) {
        let Self { end, acks, changed } = self;
        match (outcome, acks) {
            (Ok(()), Some(acks)) => acks.when_copied(end, Instant::now(), move |copied| match copied {
                Ok(()) => settle(changed.as_deref(), done),
                Err(late) => done(Err(late.into())),
            }),
            (Ok(()), None) => settle(changed.as_deref(), done),
            (Err(reason), _) => done(Err(Incomplete::NotStored(reason))),
        }
    }
}

fn settle(changed: Option<&Signal>, done: impl FnOnce(Result<(), Incomplete>) + Send + 'static) {
    match changed {
        Some(changed) => changed.when_settled(move |saved: Saved| done(saved.map_err(Incomplete::TopicNotSaved))),
        None => done(Ok(())),
    }
}

fn names_a_key(properties: &[u8]) -> bool {
    let names = [properties::TAGS, properties::KEYS, properties::UNIQ_KEY];
    properties::iter(properties).any(|(name, _)| names.iter().any(|key| key.as_bytes() == name))
}
