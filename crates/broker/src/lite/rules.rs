//! What the attributes of a group and of a parent topic say about lite topics, and the checks of requests by them.

use crate::attributes::{self, Attributes, LITE, MESSAGE_TYPE};
use crate::core::Core;
use crate::errors::Refusal;
use crate::group::Rule;
use crate::settings::BrokerSettings;
use crate::topic::Topic;
use message::names;
use protocol::codes::ResponseCode;
use std::sync::Arc;

/// A group that is bound to a parent topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiteGroup {
    /// The parent topic.
    pub(super) parent: Box<str>,
    /// Its clients get messages of all lite topics.
    pub(super) is_wildcard: bool,
    /// A lite topic has one subscriber: the last one.
    pub(super) is_exclusive: bool,
    /// The new subscriber of an exclusive group begins with the first message.
    pub(super) resets_when_excluded: bool,
    /// Who subscribes again begins with the first message.
    pub(super) resets_when_unsubscribed: bool,
    /// Lite topics of one client.
    pub(super) quota: usize,
}

impl LiteGroup {
    /// `None` if the group is not bound to a parent topic.
    pub(super) fn of(rule: &Rule) -> Option<Self> {
        let text = |name: &str| rule.attributes.get(name);
        let is_true = |name: &str| text(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let quota = text(attributes::LITE_QUOTA).and_then(|quota| quota.parse::<i64>().ok());
        Some(Self {
            parent: text(attributes::LITE_BIND_TOPIC).filter(|topic| !topic.is_empty())?.as_str().into(),
            is_wildcard: text(attributes::LITE_WILDCARD).is_some(),
            is_exclusive: text(attributes::LITE_MODEL).is_some_and(|model| model == attributes::EXCLUSIVE),
            resets_when_excluded: is_true(attributes::LITE_RESET_EXCLUSIVE),
            resets_when_unsubscribed: is_true(attributes::LITE_RESET_UNSUBSCRIBE),
            quota: usize::try_from(quota.unwrap_or(attributes::LITE_USUAL_QUOTA.into())).unwrap_or(usize::MAX),
        })
    }
}

/// Minutes without a message after which lite topics of a parent topic are deleted; `None` for never.
pub(super) fn expires_after_minutes(of: &Attributes) -> Option<i64> {
    attributes::limit(of, attributes::LITE_EXPIRATION)
}

/// Whether a topic has lite topics.
pub(super) fn is_parent(topic: &Topic) -> bool {
    topic.attributes.get(MESSAGE_TYPE).is_some_and(|kind| kind == LITE)
}

/// The light queue of a lite topic.
///
/// # Errors
/// `InvalidParameter` if no lite topic can have this name.
pub(super) fn queue_of(parent: &str, lite: &str) -> Result<String, Refusal> {
    let queue = names::lite_queue(parent, lite);
    if names::lite_topic_of(&queue) == Some((parent, lite)) && names::can_be_light_queue(&queue) {
        return Ok(queue);
    }
    Err(Refusal::invalid(format!(
        "'{}' cannot be a lite topic of {parent}: it has no '$', '/' or control character, and with the name of its topic at most {} bytes",
        message::text::brief(lite),
        names::MAX_LIGHT_LEN - names::LIGHT_PREFIX.len() - 2
    )))
}

/// The parent topic of a request.
///
/// # Errors
/// Compat: Apache's codes. `RequestCodeNotSupported` if light queues are disabled.
pub(super) fn parent(core: &Core, name: &str) -> Result<Arc<Topic>, Refusal> {
    if !core.store.has_light_queues() {
        let text = "lite topics are light queues, and those are disabled: set enableLmq=true and enableMultiDispatch=true";
        return Err(Refusal::new(ResponseCode::RequestCodeNotSupported, text));
    }
    let topic = core.topics.find(name).ok_or_else(|| {
        let text =
            format!("topic [{name}] not exist, apply first please! Create it with mqadmin updateTopic -t {name} -a +message.type=LITE");
        Refusal::new(ResponseCode::TopicNotExist, text)
    })?;
    if !is_parent(&topic) {
        return Err(Refusal::invalid(format!(
            "the topic [{name}] message type not match: it has no lite topics, set its attribute {MESSAGE_TYPE}={LITE}"
        )));
    }
    Ok(topic)
}

/// The group of a request for lite topics of this parent topic.
///
/// # Errors
/// Compat: Apache's codes.
pub(super) fn group(core: &Core, name: &str, parent: &str) -> Result<LiteGroup, Refusal> {
    let rule = core.groups.find(name).ok_or_else(|| {
        let text = format!(
            "subscription group [{name}] not exist: create it with mqadmin updateSubGroup -g {name} -a +{}={parent}",
            attributes::LITE_BIND_TOPIC
        );
        Refusal::new(ResponseCode::SubscriptionGroupNotExist, text)
    })?;
    if !rule.consume_enable {
        let text = format!("subscription group no permission, {name}");
        return Err(Refusal::new(ResponseCode::NoPermission, text));
    }
    LiteGroup::of(&rule).filter(|group| *group.parent == *parent).ok_or_else(|| {
        Refusal::invalid(format!(
            "subscription bind topic not match, {name}: its attribute {} is not {parent}",
            attributes::LITE_BIND_TOPIC
        ))
    })
}

/// The limits of the state.
pub(super) fn limits(settings: &BrokerSettings, group: &LiteGroup) -> super::state::Limits {
    super::state::Limits {
        subscriptions: settings.max_lite_subscription_count,
        subscribers: settings.max_lite_subscribers,
        in_flight: settings.max_lite_in_flight,
        of_client: group.quota,
    }
}
