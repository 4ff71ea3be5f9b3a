//! Changes of subscriptions (200071).
//!
//! A client adds and removes lite topics as its program says, and repeats all of them now and then (`COMPLETE_ADD`), so that a broker that was
//! restarted knows them. In an exclusive group a lite topic has one subscriber: who adds it takes it from the one before, who is told
//! (200073); who repeats it, and has lost it, is told again.

use super::rules::{self, LiteGroup};
use super::{Lites, state::Limits};
use crate::clients::ClientChannel;
use crate::clients::table::Channel;
use crate::errors::Refusal;
use message::names;
use protocol::codes::ResponseCode;
use protocol::frame::FLAG_ONEWAY;
use protocol::lite::{LiteAction, LiteSubscription, NotifyUnsubscribeLiteHeader, OffsetKind, OffsetOption};
use protocol::{Frame, RequestCode};
use std::collections::HashSet;
use std::sync::Arc;
use store::Boundary;

fn full(why: &super::state::Full) -> Refusal {
    Refusal::new(ResponseCode::LiteSubscriptionQuotaExceeded, why.to_string())
}

/// What a change needs to know.
struct Change<'a> {
    client: &'a str,
    group: &'a str,
    parent: &'a str,
    rule: LiteGroup,
    limits: Limits,
}

impl Lites {
    /// Changes the subscriptions of a client, which is reached over `channel`. May read the disk if an offset is looked for by time.
    ///
    /// # Errors
    /// `LiteSubscriptionQuotaExceeded` if a limit is reached; `IllegalOperation` for an unknown action, a blank name, or a change that
    /// the group does not allow; as a pop if group or topic are wrong. What was done before the error stays.
    pub fn subscribe(self: &Arc<Self>, change: &LiteSubscription, channel: &ClientChannel) -> Result<(), Refusal> {
        for (what, name) in [("clientId", &change.client_id), ("group", &change.group), ("topic", &change.topic)] {
            if name.trim().is_empty() {
                let text = format!("the change of lite subscriptions has no {what}");
                return Err(Refusal::new(ResponseCode::IllegalOperation, text));
            }
            crate::errors::check_length(what, name, names::MAX_LIGHT_LEN)?;
        }
        if change.action == LiteAction::CompleteRemove {
            self.remove_client(&change.group, &change.client_id);
            return Ok(());
        }
        rules::parent(&self.core, &change.topic)?;
        let rule = rules::group(&self.core, &change.group, &change.topic)?;
        let settings = self.core.settings.current();
        let with = Change {
            client: &change.client_id,
            group: &change.group,
            parent: &change.topic,
            limits: rules::limits(&settings, &rule),
            rule,
        };
        if change.lite_topic_set.len() > with.limits.subscriptions {
            let why = super::state::Full::Subscriptions(with.limits.subscriptions);
            return Err(full(&why));
        }
        let queues: HashSet<String> = change
            .lite_topic_set
            .iter()
            .map(|lite| rules::queue_of(&change.topic, lite))
            .collect::<Result<_, _>>()?;
        match change.action {
            LiteAction::PartialAdd => self.add(&with, &queues, change.offset_option, channel),
            LiteAction::PartialRemove => {
                self.remove(&with, &queues);
                Ok(())
            }
            LiteAction::CompleteAdd if with.rule.is_wildcard => self.add_wildcard(&with, channel),
            LiteAction::CompleteAdd => self.replace(&with, &queues, channel),
            LiteAction::CompleteRemove | LiteAction::Unknown => {
                let text =
                    "the action of the change of lite subscriptions is none of PARTIAL_ADD, PARTIAL_REMOVE, COMPLETE_ADD, COMPLETE_REMOVE";
                Err(Refusal::new(ResponseCode::IllegalOperation, text))
            }
        }
    }

    /// A client is gone: others get its lite topics.
    pub fn remove_client(self: &Arc<Self>, group: &str, client: &str) {
        let left = {
            let mut state = self.state.lock();
            let left = state.queues_of(group, client);
            state.remove_client(group, client);
            left
        };
        self.answer_removed(group, client);
        for queue in left {
            if self.has_more(group, &queue) {
                self.ready_later(group, &queue);
            }
        }
    }

    fn seen(&self, with: &Change<'_>, channel: &ClientChannel) {
        let now = self.now();
        let mut state = self.state.lock();
        state.seen(with.group, with.parent, with.rule.is_wildcard, with.client, channel.clone(), now);
    }

    fn check_room(&self, with: &Change<'_>, queues: &HashSet<String>, is_complete: bool) -> Result<(), Refusal> {
        let state = self.state.lock();
        let own: HashSet<_> = state.queues_of(with.group, with.client).into_iter().collect();
        let more = queues.iter().filter(|queue| !own.contains(queue.as_str())).count();
        let kept = if is_complete { queues.len() - more } else { own.len() };
        let removed = own.len() - kept;
        state
            .check_room(more.saturating_sub(removed), kept + more, with.limits)
            .map_err(|why| full(&why))
    }

    /// Adds lite topics.
    fn add(
        self: &Arc<Self>,
        with: &Change<'_>,
        queues: &HashSet<String>,
        option: Option<OffsetOption>,
        channel: &ClientChannel,
    ) -> Result<(), Refusal> {
        if with.rule.is_wildcard {
            let text = format!(
                "subscribe lite operation is not supported for this group: {} gets messages of all lite topics (lite.sub.wildcard)",
                with.group
            );
            return Err(Refusal::new(ResponseCode::IllegalOperation, text));
        }
        self.check_room(with, queues, false)?;
        self.seen(with, channel);
        for queue in queues {
            if with.rule.is_exclusive {
                self.exclude_others(with, queue);
            }
            if let Some(option) = option {
                self.reset(with, queue, option)?;
            }
            self.add_one(with, queue)?;
        }
        Ok(())
    }

    fn add_one(self: &Arc<Self>, with: &Change<'_>, queue: &str) -> Result<(), Refusal> {
        self.commit_start(with.group, queue)?;
        let added = self.state.lock().subscribe(with.group, with.client, queue, with.limits);
        added.map_err(|why| full(&why))?;
        if self.has_more(with.group, queue) {
            self.ready_later(with.group, queue);
        }
        Ok(())
    }

    /// Takes a lite topic from those who subscribe to it.
    fn exclude_others(&self, with: &Change<'_>, queue: &str) {
        let others = {
            let mut state = self.state.lock();
            let others = state.others(with.group, with.client, queue);
            for other in &others {
                state.unsubscribe(with.group, &other.client, queue);
            }
            others
        };
        for other in &others {
            notify(&other.channel, with.group, &other.client, queue);
        }
        if !others.is_empty() && with.rule.resets_when_excluded {
            self.reset_to(with.group, queue, 0);
        }
    }

    fn remove(self: &Arc<Self>, with: &Change<'_>, queues: &HashSet<String>) {
        for queue in queues {
            let was_subscribed = self.state.lock().unsubscribe(with.group, with.client, queue);
            if !was_subscribed {
                continue;
            }
            if with.rule.resets_when_unsubscribed {
                self.reset_to(with.group, queue, 0);
            }
            if self.has_more(with.group, queue) {
                self.ready_later(with.group, queue);
            }
        }
    }

    /// Replaces the client's lite topics.
    fn replace(self: &Arc<Self>, with: &Change<'_>, queues: &HashSet<String>, channel: &ClientChannel) -> Result<(), Refusal> {
        self.check_room(with, queues, true)?;
        self.seen(with, channel);
        let own = self.state.lock().queues_of(with.group, with.client);
        for queue in own.iter().filter(|queue| !queues.contains(&***queue)) {
            self.state.lock().unsubscribe(with.group, with.client, queue);
            if self.has_more(with.group, queue) {
                self.ready_later(with.group, queue);
            }
        }
        let own: HashSet<&str> = own.iter().map(|queue| &**queue).collect();
        for queue in queues.iter().filter(|queue| !own.contains(queue.as_str())) {
            let is_taken = with.rule.is_exclusive && !self.state.lock().others(with.group, with.client, queue).is_empty();
            if is_taken {
                notify(channel, with.group, with.client, queue);
            } else {
                self.add_one(with, queue)?;
            }
        }
        Ok(())
    }

    /// A client of a group that gets messages of all lite topics.
    fn add_wildcard(self: &Arc<Self>, with: &Change<'_>, channel: &ClientChannel) -> Result<(), Refusal> {
        let is_new = {
            let state = self.state.lock();
            let is_new = state.client(with.group, with.client).is_none();
            state.check_room(usize::from(is_new), 0, with.limits).map_err(|why| full(&why))?;
            is_new
        };
        self.seen(with, channel);
        if is_new {
            self.look_at_all(with.group, with.parent);
        }
        Ok(())
    }

    /// Looks which lite topics of the parent topic the group has not consumed.
    pub(super) fn look_at_all(self: &Arc<Self>, group: &str, parent: &str) {
        for queue in self.core.store.light_queues() {
            let is_own = names::lite_topic_of(queue.topic()).is_some_and(|(of, _)| of == parent);
            if is_own && self.has_more(group, queue.topic()) {
                self.ready_later(group, queue.topic());
            }
        }
    }

    /// Commits where a group begins that has no offset in a lite topic: at its first message if that is in memory, as if it had subscribed
    /// before, otherwise at the end. From now on no message is missed.
    fn commit_start(&self, group: &str, queue: &str) -> Result<(), Refusal> {
        let (store, offsets) = (&self.core.store, &self.core.offsets);
        if offsets.committed(queue, group, 0).is_some() {
            return Ok(());
        }
        let is_cached = || {
            let queues: &dyn crate::queues::Queues = &**store;
            queues.is_cached(queue, 0, 0)
        };
        let max = store.max_offset(queue, 0).0;
        let at_min = max == 0
            || self.core.settings.current().init_pop_offset_by_check_msg_in_mem && store.min_offset(queue, 0).0 <= 0 && is_cached();
        let committed = offsets.commit(queue, group, 0, if at_min { 0 } else { max });
        committed
            .map(drop)
            .map_err(|error| Refusal::new(ResponseCode::LiteSubscriptionQuotaExceeded, error.to_string()))
    }

    /// Moves the group to where the client asks for.
    fn reset(&self, with: &Change<'_>, queue: &str, option: OffsetOption) -> Result<(), Refusal> {
        let store = &self.core.store;
        let current = self.core.offsets.committed(queue, with.group, 0);
        let target = match (option.kind, option.value) {
            (OffsetKind::Policy, OffsetOption::MIN) => Some(0),
            (OffsetKind::Policy, OffsetOption::MAX) => Some(store.max_offset(queue, 0).0),
            (OffsetKind::Policy, _) => None,
            (OffsetKind::Offset, offset) => Some(offset.clamp(0, store.max_offset(queue, 0).0)),
            (OffsetKind::TailN, count) => current.map(|current| current.saturating_sub(count.max(0)).max(0)),
            // Apache's broker ignores it.
            (OffsetKind::Timestamp, at_ms) => Some(store.offset_by_time(queue, 0, at_ms, Boundary::Lower)?.0),
        };
        if let Some(target) = target.filter(|target| current != Some(*target)) {
            self.reset_to(with.group, queue, target);
        }
        Ok(())
    }

    /// Moves the group in a lite topic; what is in flight is handed out again from there.
    pub(super) fn reset_to(&self, group: &str, queue: &str, offset: i64) {
        let mut state = self.state.lock();
        state.clear(group, queue);
        // An older reset that waits for a pop has no meaning any more.
        let _ = self.core.offsets.take_reset(queue, group, 0);
        if let Err(error) = self.core.offsets.commit(queue, group, 0, offset) {
            tracing::warn!(group, queue, %error, "the offset of a lite topic is not reset");
        }
    }
}

/// Tells a client that it is not subscribed any more.
pub(super) fn notify(channel: &ClientChannel, group: &str, client: &str, queue: &str) {
    let Some((_, lite_topic)) = names::lite_topic_of(queue) else {
        return;
    };
    let mut request = Frame::request(RequestCode::NotifyUnsubscribeLite);
    request.flag |= FLAG_ONEWAY;
    NotifyUnsubscribeLiteHeader {
        lite_topic,
        consumer_group: group,
        client_id: client,
    }
    .encode(&mut request.ext);
    channel.send_oneway(&request);
}
