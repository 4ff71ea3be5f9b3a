//! What is removed by time: clients that are gone, and lite topics without new messages.
//!
//! A lite topic has expired when its last message is before the first message of the parent topic that is younger than
//! `lite.topic.expiration`: all messages of lite topics are in the queues of their parent, too, so one search in each of those tells it for
//! all lite topics, whatever their number.

use super::{Lites, rules};
use message::names;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use store::{Boundary, LightEnd, StoreError};

/// Lite topics that are deleted together.
const BATCH: usize = 1_000;
/// Pause before the settings are read again, of a check that does not run now.
const RETRY: Duration = Duration::from_secs(20);

impl Lites {
    /// Forgets clients that are gone.
    pub(super) async fn forget_silent(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.core.settings.current().lite_subscription_check_interval).await;
            self.forget_silent_now();
        }
    }

    /// As [`Self::forget_silent`], once.
    pub(super) fn forget_silent_now(self: &Arc<Self>) {
        let after_ms = self.core.settings.current().lite_subscription_check_timeout.as_millis() as i64;
        let silent = self.state.lock().silent_since(self.now().saturating_sub(after_ms));
        for (group, client) in silent {
            tracing::info!(
                group = &*group,
                client = &*client,
                after_ms,
                "a client neither changes its lite subscriptions nor pops: they are removed"
            );
            self.remove_client(&group, &client);
        }
    }

    /// Deletes lite topics that have expired.
    pub(super) async fn expire(self: Arc<Self>) {
        if !self.core.store.has_light_queues() {
            return;
        }
        // Compat: not soon after a start, when producers may have been unable to send.
        while self.now() < self.core.settings.current().min_lite_ttl.as_millis() as i64 {
            tokio::time::sleep(RETRY).await;
        }
        loop {
            if !self.is_expiring.swap(true, SeqCst) {
                let lites = Arc::clone(&self);
                let queued = self.core.threads.reader.run_own(move || {
                    lites.expire_now(crate::clock::now_ms());
                    lites.is_expiring.store(false, SeqCst);
                });
                if queued.is_err() {
                    self.is_expiring.store(false, SeqCst);
                }
            }
            tokio::time::sleep(self.core.settings.current().lite_ttl_check_interval).await;
        }
    }

    /// Deletes the lite topics that have expired by now. May block.
    pub(crate) fn expire_now(&self, now_ms: i64) {
        let mut before: HashMap<Box<str>, i64> = HashMap::new();
        let (_, topics) = self.core.topics.all();
        for topic in topics.iter().filter(|topic| rules::is_parent(topic)) {
            let Some(minutes) = rules::expires_after_minutes(&topic.attributes) else {
                continue;
            };
            let after_ms = minutes
                .saturating_mul(60_000)
                .max(self.core.settings.current().min_lite_ttl.as_millis() as i64);
            match self.first_younger(&topic.name, topic.write_queues.max(topic.read_queues), now_ms - after_ms) {
                Ok(offset) => {
                    before.insert(topic.name.clone(), offset);
                }
                Err(error) => tracing::warn!(topic = &*topic.name, %error, "it is not known which lite topics have expired"),
            }
        }
        if before.is_empty() {
            return;
        }
        let expired = self.core.store.light_ends(&|queue, log_end| {
            let parent = names::lite_topic_of(queue).map(|(parent, _)| parent);
            parent
                .and_then(|parent| before.get(parent))
                .is_some_and(|before| log_end <= *before)
        });
        self.delete(&expired);
    }

    /// Log offset of the first message of a topic that was stored after a time; the log's end if there is none.
    fn first_younger(&self, topic: &str, queues: i32, after_ms: i64) -> Result<i64, StoreError> {
        let store = &self.core.store;
        // Read first: messages that come meanwhile are behind it.
        let mut first = store.log_range().1.0;
        for queue_id in 0..queues {
            let offset = store.offset_by_time(topic, queue_id, after_ms, Boundary::Lower)?;
            if offset < store.max_offset(topic, queue_id)
                && let Some(log_offset) = store.log_offset_of(topic, queue_id, offset)
            {
                first = first.min(log_offset.0);
            }
        }
        Ok(first)
    }

    /// Deletes all lite topics of a parent topic, which was deleted. May block.
    pub(super) fn delete_all_of(&self, parent: &str) {
        if !self.core.store.has_light_queues() {
            return;
        }
        let all = self
            .core
            .store
            .light_ends(&|queue, _| names::lite_topic_of(queue).is_some_and(|(of, _)| of == parent));
        self.delete(&all);
    }

    fn delete(&self, lites: &[LightEnd]) {
        for batch in lites.chunks(BATCH) {
            // Under the log's lock: a message that comes after it is the first of a new lite topic, whatever the groups had consumed.
            let forget = |queue: &str| {
                if let Some((parent, _)) = names::lite_topic_of(queue) {
                    self.state.lock().forget_queue(parent, queue);
                    self.core.offsets.forget_topic(queue);
                }
            };
            match self.core.store.delete_light_queues(batch, &forget) {
                Ok(deleted) => tracing::info!(deleted, "lite topics were deleted: they have expired, or their topic was deleted"),
                Err(error) => {
                    tracing::error!(%error, "lite topics cannot be deleted; tried again with the next check");
                    return;
                }
            }
        }
    }
}
