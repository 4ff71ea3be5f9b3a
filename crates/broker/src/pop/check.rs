//! Checks of pops, peeks and notifications: those of the Java broker, in its order and with its codes.

use super::Pops;
use crate::errors::Refusal;
use crate::filter::{self, Expression, TagFilter, is_tag_type};
use crate::group::Rule;
use crate::pull::selection::{Content, Selection};
use crate::settings::BrokerSettings;
use crate::topic::{Topic, is_readable};
use message::names;
use protocol::codes::ResponseCode;
use protocol::heartbeat::SQL92;
use std::net::SocketAddr;
use std::sync::Arc;

/// Maximum number of messages of a pop.
pub(super) const MAX_MESSAGES: i32 = 32;

/// What a request reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads<'a> {
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
    pub(super) queue_id: i32,
}

impl Pops {
    /// Topic and group of a request that reads.
    pub(super) fn allowed(
        &self,
        settings: &BrokerSettings,
        reads: Reads<'_>,
        peer: SocketAddr,
        now_ms: i64,
    ) -> Result<(Arc<Topic>, Arc<Rule>), Refusal> {
        let Reads { topic, group, queue_id } = reads;
        if !is_readable(settings.broker_permission) {
            let text = format!("the broker[{}] pop message is forbidden", settings.broker_name);
            return Err(Refusal::new(ResponseCode::NoPermission, text));
        }
        let topic = self.topic(topic)?;
        if !is_readable(topic.perm) {
            let text = format!("the topic[{}] peeking message is forbidden", topic.name);
            return Err(Refusal::new(ResponseCode::NoPermission, text));
        }
        if queue_id >= topic.read_queues {
            return Err(Refusal::invalid(format!(
                "queueId[{queue_id}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[{peer}]",
                topic.name, topic.read_queues
            )));
        }
        let rule = self
            .core
            .groups
            .find_or_create(group, settings.auto_create_subscription_group, now_ms);
        let rule = rule.map_err(|error| error.into_refusal(|missing| format!("subscription group [{group}] does not exist: {missing}")))?;
        if !rule.consume_enable {
            let text = format!("subscription group no permission, {group}");
            return Err(Refusal::new(ResponseCode::NoPermission, text));
        }
        Ok((topic, rule))
    }

    pub(super) fn topic(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        let missing = || {
            let text = format!("topic[{name}] not exist, apply first please! Create it with mqadmin updateTopic.");
            Refusal::new(ResponseCode::TopicNotExist, text)
        };
        self.core.topics.find(name).ok_or_else(missing)
    }

    /// Which messages are selected. Notes the subscription for admin requests.
    pub(super) fn selection(
        &self,
        settings: &BrokerSettings,
        reads: Reads<'_>,
        (exp_type, exp): (Option<&str>, Option<&str>),
        now_ms: i64,
    ) -> Result<Selection, Refusal> {
        let refused = |why: &str| {
            let text = format!("parse the consumer's subscription failed: {why}");
            Refusal::new(ResponseCode::SubscriptionParseFailed, text)
        };
        let (exp_type, exp) = (exp_type.unwrap_or(""), exp.unwrap_or(""));
        let selection = if exp.is_empty() {
            Selection::Tags(TagFilter::All)
        } else if is_tag_type(exp_type) {
            Selection::Tags(TagFilter::parse(exp).map_err(refused)?)
        } else if !settings.enable_property_filter || exp_type != SQL92 {
            return Err(Refusal::filter(exp_type));
        } else {
            let registered = self.consumers.filters().find(reads.group, reads.topic);
            let expression = match registered.filter(|registered| *registered.text == *exp) {
                Some(registered) => registered.expression,
                None => {
                    let compiled = Expression::parse(exp, self.consumers.filters().sql_limits());
                    Arc::new(compiled.map_err(|error| refused(&error.to_string()))?)
                }
            };
            Selection::Content(Content::Expression(expression))
        };
        let shown = if exp.is_empty() { "*" } else { exp };
        let kind = (!exp.is_empty()).then_some(exp_type);
        self.consumers.compensate(reads.group, reads.topic, shown, now_ms, || {
            filter::subscription(reads.topic, kind, shown, now_ms)
        });
        Ok(selection)
    }
}

/// The names of the retry topics of a group for a topic, of both versions.
pub(super) fn retry_topics(topic: &str, group: &str) -> [String; 2] {
    [names::pop_retry_topic(topic, group), names::pop_retry_topic_v2(topic, group)]
}
