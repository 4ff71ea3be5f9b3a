//! Checks of a pull request: those of the Java broker, in its order and with its codes.

use super::selection::{Content, Filter, GroupSubscription, Selection};
use crate::clients::{ClientChannel, Consumers};
use crate::errors::Refusal;
use crate::filter::{self, Expression, TagFilter, is_tag_type};
use crate::group::{Groups, Rule};
use crate::settings::BrokerSettings;
use crate::stats::{BrokerStats, GroupCounters};
use crate::topic::{Topic, Topics, is_readable};
use message::names;
use protocol::codes::ResponseCode;
use protocol::heartbeat::{MessageModel, SQL92, Subscription};
use protocol::pull::{PullHeader, sys_flag};
use std::net::SocketAddr;
use std::sync::Arc;

/// The tables that the checks read.
pub struct Checks {
    /// Topics.
    pub topics: Arc<Topics>,
    /// Groups.
    pub groups: Arc<Groups>,
    /// Consumers online and their subscriptions.
    pub consumers: Arc<Consumers<ClientChannel>>,
    /// Counters of pulls.
    pub stats: Arc<BrokerStats>,
}

/// Result of the checks.
pub(super) struct Allowed {
    pub(super) topic: Arc<Topic>,
    pub(super) rule: Arc<Rule>,
    pub(super) counters: Arc<GroupCounters>,
    pub(super) filter: Filter,
}

/// What forbids a pull; Apache's values of the response field `forbiddenType`.
#[derive(Clone, Copy)]
enum ForbiddenBy {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
    Subscription = 5,
}

/// The name that a topic or group is counted by: all light queues by one, as in Apache's broker.
fn counted(name: &str) -> &str {
    if names::is_light_queue(name) { names::LIGHT_PREFIX } else { name }
}

fn forbidden(by: ForbiddenBy, text: String) -> Refusal {
    Refusal::new(ResponseCode::NoPermission, text).with("forbiddenType", (by as i32).to_string())
}

impl Checks {
    pub(super) fn check(
        &self,
        settings: &BrokerSettings,
        header: &PullHeader<'_>,
        peer: SocketAddr,
        now_ms: i64,
    ) -> Result<Allowed, Refusal> {
        if !is_readable(settings.broker_permission) {
            return Err(forbidden(
                ForbiddenBy::Broker,
                format!("the broker[{}] pulling message is forbidden", settings.broker_name),
            ));
        }
        let rule = self.rule(settings, header, now_ms)?;
        let topic = self.topic(header)?;
        if header.queue_id < 0 || header.queue_id >= topic.read_queues {
            return Err(Refusal::invalid(format!(
                "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[{peer}]",
                header.queue_id, header.topic, topic.read_queues
            )));
        }
        let filter = if header.has(sys_flag::SUBSCRIPTION) {
            let selection = self.selection_of_pull(settings, header, now_ms)?;
            Filter { selection, of_group: None }
        } else {
            let selection = self.selection_of_group(settings, header, &rule)?;
            let (consumers, group, topic) = (self.consumers.clone(), rule.clone(), topic.clone());
            let of_group = Some(GroupSubscription { consumers, group, topic });
            Filter { selection, of_group }
        };
        let counters = self.stats.group(counted(header.topic), counted(header.consumer_group));
        Ok(Allowed {
            topic,
            rule,
            counters,
            filter,
        })
    }

    fn rule(&self, settings: &BrokerSettings, header: &PullHeader<'_>, now_ms: i64) -> Result<Arc<Rule>, Refusal> {
        let group = header.consumer_group;
        let rule = self.groups.find_or_create(group, settings.auto_create_subscription_group, now_ms);
        let rule = rule.map_err(|error| error.into_refusal(|missing| format!("subscription group [{group}] does not exist: {missing}")))?;
        if rule.consume_enable {
            Ok(rule)
        } else {
            Err(forbidden(ForbiddenBy::Group, format!("subscription group no permission, {group}")))
        }
    }

    fn topic(&self, header: &PullHeader<'_>) -> Result<Arc<Topic>, Refusal> {
        let name = header.topic;
        let missing = || {
            Refusal::new(
                ResponseCode::TopicNotExist,
                format!("topic[{name}] not exist, apply first please! Create it with mqadmin updateTopic."),
            )
        };
        let topic = self.topics.find(name).ok_or_else(missing)?;
        if is_readable(topic.perm) {
            Ok(topic)
        } else {
            Err(forbidden(
                ForbiddenBy::Topic,
                format!("the topic[{name}] pulling message is forbidden"),
            ))
        }
    }

    /// The selection of a pull with its own subscription.
    fn selection_of_pull(&self, settings: &BrokerSettings, header: &PullHeader<'_>, now_ms: i64) -> Result<Selection, Refusal> {
        let expression = header.subscription.unwrap_or("");
        let expression_type = header.expression_type.unwrap_or("");
        let refused = |why: &str| {
            let text = format!("parse the consumer's subscription failed: {why}");
            Refusal::new(ResponseCode::SubscriptionParseFailed, text)
        };
        let selection = if is_tag_type(expression_type) {
            Selection::Tags(TagFilter::parse(expression).map_err(refused)?)
        } else if expression.is_empty() {
            return Err(refused(&format!("Expression can't be null! {expression_type}")));
        } else if !settings.enable_property_filter || expression_type != SQL92 {
            return Err(Refusal::filter(expression_type));
        } else {
            // Compat: Apache's broker answers with all messages, whatever its expression wants, unless its JVM checks assertions.
            let compiled = Expression::parse(expression, self.consumers.filters().sql_limits());
            let compiled = compiled.map_err(|error| refused(&format!("Invalid MessageSelector, {error}")))?;
            self.content(settings, header, Arc::new(compiled))
        };
        if names::is_light_queue(header.topic) {
            return Ok(selection);
        }
        self.consumers
            .compensate(header.consumer_group, header.topic, expression, now_ms, || {
                filter::subscription(header.topic, header.expression_type, header.subscription.unwrap_or(""), now_ms)
            });
        Ok(selection)
    }

    fn content(&self, settings: &BrokerSettings, header: &PullHeader<'_>, expression: Arc<Expression>) -> Selection {
        let retries_of = header
            .topic
            .strip_prefix(names::RETRY_PREFIX)
            .filter(|_| settings.filter_support_retry);
        Selection::Content(match retries_of {
            Some(group) => Content::OfFirstTopic {
                consumers: self.consumers.clone(),
                group: group.into(),
            },
            None => Content::Expression(expression),
        })
    }

    /// The selection of the group's subscription from heartbeats.
    fn selection_of_group(&self, settings: &BrokerSettings, header: &PullHeader<'_>, rule: &Rule) -> Result<Selection, Refusal> {
        let (group, topic) = (header.consumer_group, header.topic);
        let missing = |what: &str| {
            let text = format!(
                "the consumer's {what} not exist: no heartbeat of group {group} subscribed to topic {topic} yet, or its members subscribe to different topics"
            );
            Refusal::new(ResponseCode::SubscriptionNotExist, text)
        };
        let view = self.consumers.view(group).ok_or_else(|| missing("group info"))?;
        if !rule.consume_broadcast_enable && view.message_model == MessageModel::Broadcasting {
            return Err(forbidden(
                ForbiddenBy::Broadcasting,
                format!("the consumer group[{group}] can not consume by broadcast way"),
            ));
        }
        if self.groups.is_reading_forbidden(group, topic) {
            return Err(forbidden(
                ForbiddenBy::Subscription,
                format!("the consumer group[{group}] is forbidden for topic[{topic}]"),
            ));
        }
        let subscription = view.subscriptions.get(topic).ok_or_else(|| missing("subscription"))?;
        if subscription.data.sub_version < header.sub_version {
            return Err(Refusal::new(
                ResponseCode::SubscriptionNotLatest,
                "the consumer's subscription not latest",
            ));
        }
        if subscription.is_by_tags() {
            return Ok(Selection::Tags(subscription.filter.clone()));
        }
        let registered = self.consumers.filters().find(group, topic);
        let registered = registered.ok_or_else(|| self.not_registered(&subscription.data))?;
        if registered.version < header.sub_version {
            let text = "the consumer's consumer filter data not latest";
            return Err(Refusal::new(ResponseCode::FilterDataNotLatest, text));
        }
        if !settings.enable_property_filter {
            return Err(Refusal::filter(&subscription.data.expression_type));
        }
        Ok(self.content(settings, header, registered.expression))
    }

    /// Apache's words and code for a filter that its heartbeats did not register, and why they did not.
    fn not_registered(&self, data: &Subscription) -> Refusal {
        let why = match Expression::parse(&data.sub_string, self.consumers.filters().sql_limits()) {
            _ if data.expression_type != SQL92 => format!("there is no filter of type {}", data.expression_type),
            Err(error) => error.to_string(),
            Ok(_) => "the filters of all groups take as much memory as apogeeMaxRegisteredFilterBytes allows".to_owned(),
        };
        let text = format!("The broker's consumer filter data is not exist!Your expression may be wrong! {why}");
        Refusal::new(ResponseCode::FilterDataNotExist, text)
    }
}
