//! Lite topics: subscriptions, receives, and what names the lite topic of a message.
//!
//! The handle of such a message is one for the queue of its lite topic, so it acknowledges no message of another one. Renewals keep that
//! name as the message's topic.

use crate::backend::{Popped, broker_of};
use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::handle;
use crate::message::{Shown, of_record};
use crate::receive::{Answers, answers_of, check_popped, no_message};
use crate::renewal::Held;
use crate::route::{check_group, check_topic, name_of};
use crate::service::Messaging;
use crate::time::now_ms;
use crate::v2::settings::PubSub;
use crate::v2::{
    ClientType, Code, LiteSubscriptionAction, Message, OffsetOption, ReceiveMessageRequest, ReceiveMessageResponse, Settings,
    SyncLiteSubscriptionRequest, SyncLiteSubscriptionResponse, offset_option,
};
use ::message::names;
use ::message::record::Record;
use broker::attributes::LITE_BIND_TOPIC;
use broker::group::Rule;
use broker::lite::{LitePop, LitePopResult};
use protocol::lite::{LiteAction, LiteSubscription, OffsetKind, OffsetOption as Continue};
use protocol::pop::ORDER_REVIVE_QUEUE;
use protocol::pop::handle::{Handle, Origin};
use std::borrow::Cow;
use std::sync::Arc;

/// Lite topics in one change of subscriptions.
const MAX_CHANGES: usize = 100_000;

/// Whether a client consumes lite topics.
pub(crate) fn is_lite(kind: ClientType) -> bool {
    matches!(kind, ClientType::LitePushConsumer | ClientType::LiteSimpleConsumer)
}

/// The parent topic that a group is bound to.
pub(crate) fn bound_topic(rule: &Rule) -> Option<&str> {
    rule.attributes
        .get(LITE_BIND_TOPIC)
        .map(String::as_str)
        .filter(|topic| !topic.is_empty())
}

/// # Errors
/// `IllegalLiteTopic`. Compat: as Apache's proxy.
pub(crate) fn check_lite_topic(name: &str, max: usize) -> Result<(), Refused> {
    let refused = |text: String| Err(Refused::new(Code::IllegalLiteTopic, text));
    if name.trim().is_empty() {
        return refused("lite topic cannot be the char sequence of whitespace".to_owned());
    }
    if name.len() > max {
        return refused(format!(
            "lite topic exceed the max size {max} (maxLiteTopicSize): it has {} bytes",
            name.len()
        ));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return refused("lite topic can only contain alphanumeric characters, hyphens(-), and underscores(_)".to_owned());
    }
    Ok(())
}

/// The queue that a message was received from: that of the lite topic, if the client names one, or else its handle.
pub(crate) fn received_from<'t>(topic: &'t str, lite_topic: Option<&str>, handle: &str) -> Cow<'t, str> {
    let told = lite_topic.filter(|lite| !lite.trim().is_empty());
    match told.or_else(|| handle::lite_topic(handle)) {
        Some(lite) => Cow::Owned(names::lite_queue(topic, lite)),
        None => Cow::Borrowed(topic),
    }
}

impl Messaging {
    pub(crate) async fn sync_lite(&self, caller: &Caller, request: SyncLiteSubscriptionRequest) -> SyncLiteSubscriptionResponse {
        let outcome = self.synced_lite(caller, request).await;
        SyncLiteSubscriptionResponse {
            status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
        }
    }

    async fn synced_lite(&self, caller: &Caller, request: SyncLiteSubscriptionRequest) -> Result<(), Refused> {
        let (topic, group) = (name_of(request.topic.as_ref()), name_of(request.group.as_ref()));
        check_topic(topic)?;
        check_group(group)?;
        let action = match request.action() {
            LiteSubscriptionAction::PartialAdd => LiteAction::PartialAdd,
            LiteSubscriptionAction::PartialRemove => LiteAction::PartialRemove,
            LiteSubscriptionAction::CompleteAdd => LiteAction::CompleteAdd,
            LiteSubscriptionAction::CompleteRemove => LiteAction::CompleteRemove,
        };
        if request.lite_topic_set.len() > MAX_CHANGES {
            let text = format!(
                "a change of subscriptions has {} lite topics, the limit is {MAX_CHANGES}",
                request.lite_topic_set.len()
            );
            return Err(Refused::new(Code::BadRequest, text));
        }
        if matches!(action, LiteAction::PartialAdd | LiteAction::CompleteAdd) {
            let mut names = request.lite_topic_set.iter();
            names.try_for_each(|name| check_lite_topic(name, self.settings.max_lite_topic_size))?;
        }
        let (client, _) = self.known(caller)?;
        let change = LiteSubscription {
            action,
            client_id: client.client_id.to_string(),
            group: group.to_owned(),
            topic: topic.to_owned(),
            offset_option: request
                .offset_option
                .filter(|_| action == LiteAction::PartialAdd)
                .and_then(continues),
            lite_topic_set: request.lite_topic_set.into_iter().collect(),
            version: request.version.unwrap_or(0),
        };
        self.backend.sync_lite(client, change).await
    }

    /// The settings of a client of lite topics; `None` if the client is none.
    pub(crate) fn lite_settings(&self, caller: &Caller) -> Option<Arc<Settings>> {
        let settings = self.clients.find(&caller.client_id)?.settings()?.settings;
        is_lite(settings.client_type()).then_some(settings)
    }

    /// A receive of a client of lite topics.
    ///
    /// # Errors
    /// What the request or the broker refuses.
    pub(crate) async fn receive_lite(
        self: &Arc<Self>,
        caller: &Caller,
        request: &ReceiveMessageRequest,
        settings: &Settings,
    ) -> Result<Answers<ReceiveMessageResponse>, Refused> {
        let max_attempts = settings_max_attempts(self, settings).await?;
        let asked = self.asked(caller, request)?;
        let (group, topic) = (asked.group, asked.topic);
        let now = now_ms();
        let pop = LitePop {
            client: &caller.client_id,
            group,
            topic,
            most: asked.most,
            invisible_ms: asked.invisible_ms,
            poll_ms: asked.poll_ms,
            born_ms: now,
            attempt: request.attempt_id.as_deref(),
            hold_ms: self.hold_ms(caller, asked.auto_renew),
        };
        let messaging = Arc::clone(self);
        let (group_name, topic_name): (Box<str>, Box<str>) = (group.into(), topic.into());
        let unclaimed = self.giving_back(move |popped| messaging.lite_held(&group_name, &topic_name, &popped));
        let wanted = broker_of(request.message_queue.as_ref());
        let popped = self.backend.pop_lite(self.number_of(caller), caller, &pop, wanted, unclaimed);
        let popped = self.until_stopped(popped).await?;
        check_popped(popped.result.code)?;
        let pop_time = popped.result.pop_time;
        let mut shown = Vec::new();
        for received in self.lite_messages(group, topic, &popped) {
            let id = received.message.system_properties.as_ref().map_or("", |system| &system.message_id);
            let names = (group, topic);
            if received.attempt > max_attempts && self.bury(caller, names, &received.queue, &received.handle, id).await {
                continue;
            }
            if asked.auto_renew && !popped.result.is_held {
                let held = received.held(group, pop_time);
                self.renewals.add(&caller.client_id, held, self.renew_at(pop_time));
            }
            shown.push(received.message);
        }
        match shown.is_empty() {
            true => Err(no_message()),
            false => Ok(answers_of(caller, shown.into_iter())),
        }
    }

    fn lite_messages(&self, group: &str, topic: &str, popped: &Popped<LitePopResult>) -> Vec<Received> {
        let Popped { result: popped, broker } = popped;
        let of = popped.taken.iter().zip(&popped.records);
        of.filter_map(|(taken, record)| {
            let record = match Record::parse(record) {
                Ok(record) => record,
                Err(error) => {
                    tracing::error!(topic, %error, "a popped message cannot be read and is not handed out");
                    return None;
                }
            };
            let queue = names::lite_queue(topic, &taken.lite_topic);
            let handle = Handle {
                start: taken.offset,
                pop_time: popped.pop_time,
                invisible_time: popped.invisible_ms,
                revive_queue: ORDER_REVIVE_QUEUE,
                origin: Origin::Topic.text(),
                broker,
                queue_id: 0,
                offset: Some(taken.offset),
            };
            let handle = handle::write(&handle, record.log_offset.0, group, &queue, popped.is_held);
            let attempt = i32::from(taken.count).saturating_add(1);
            let shown = Shown {
                topic: topic.to_owned(),
                receipt_handle: Some(handle.clone()),
                invisible_ms: Some(popped.invisible_ms),
                attempt: Some(attempt),
            };
            let mut message = of_record(&record, shown);
            if let Some(system) = &mut message.system_properties {
                (system.queue_id, system.queue_offset) = (0, Some(taken.offset));
            }
            Some(Received {
                message,
                queue,
                handle,
                attempt,
            })
        })
        .collect()
    }

    /// The messages of a pop.
    fn lite_held(&self, group: &str, topic: &str, popped: &Popped<LitePopResult>) -> Vec<Held> {
        let received = self.lite_messages(group, topic, popped).into_iter();
        received.map(|received| received.held(group, popped.result.pop_time)).collect()
    }
}

/// A message of a lite topic.
struct Received {
    message: Message,
    /// The queue of its lite topic.
    queue: String,
    handle: String,
    attempt: i32,
}

impl Received {
    fn held(&self, group: &str, received_ms: i64) -> Held {
        Held {
            group: group.into(),
            topic: self.queue.as_str().into(),
            current: self.handle.as_str().into(),
            received_ms,
        }
    }
}

/// How often a message is handed out.
async fn settings_max_attempts(messaging: &Messaging, settings: &Settings) -> Result<i32, Refused> {
    let Some(PubSub::Subscription(subscription)) = &settings.pub_sub else {
        return Ok(i32::MAX);
    };
    let rule = messaging.backend.group(name_of(subscription.group.as_ref())).await?;
    Ok(rule.map_or(i32::MAX, |rule| rule.retry_max_times.saturating_add(1)))
}

/// Where a group continues, as the client asks.
fn continues(option: OffsetOption) -> Option<Continue> {
    use offset_option::OffsetType;
    let (kind, value) = match option.offset_type? {
        OffsetType::Policy(policy) => (OffsetKind::Policy, i64::from(policy)),
        OffsetType::Offset(offset) => (OffsetKind::Offset, offset),
        OffsetType::TailN(count) => (OffsetKind::TailN, count),
        OffsetType::Timestamp(at_ms) => (OffsetKind::Timestamp, at_ms),
    };
    Some(Continue { kind, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lite_topic_has_letters_digits_hyphens_and_underscores() {
        assert!(check_lite_topic("a-B_9", 5).is_ok());
        for bad in ["", " ", "a b", "a$b", "é", "123456"] {
            assert_eq!(check_lite_topic(bad, 5).unwrap_err().code, Code::IllegalLiteTopic, "{bad}");
        }
    }
}
