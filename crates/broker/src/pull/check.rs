//! Checks of a pull request: those of the Java broker, in its order and with its codes.

use crate::clients::{ClientChannel, Consumers};
use crate::errors::Refusal;
use crate::filter::TagFilter;
use crate::group::{Groups, Rule};
use crate::settings::BrokerSettings;
use crate::stats::{BrokerStats, GroupCounters};
use crate::topic::{Topic, Topics, is_readable};
use message::hash::java_string_hash;
use protocol::codes::ResponseCode;
use protocol::heartbeat::{MessageModel, Subscription};
use protocol::pull::{PullHeader, sys_flag};
use std::collections::BTreeSet;
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

/// The filter of a pull.
pub(super) struct Filter {
    filter: TagFilter,
    /// For a pull without its own subscription: that of its group, which may change while the pull is parked.
    of_group: Option<GroupSubscription>,
}

/// Where to find the subscription of a pull's group.
struct GroupSubscription {
    consumers: Arc<Consumers<ClientChannel>>,
    group: Arc<Rule>,
    topic: Arc<Topic>,
}

impl Filter {
    pub(super) fn matches(&self, tags_code: i64) -> bool {
        self.filter.matches(tags_code)
    }

    pub(super) fn tags(&self) -> Option<&[i32]> {
        self.filter.codes()
    }

    /// Whether the group's subscription changed. Then the pull has to be repeated: its client would filter the messages by the tags
    /// of the old subscription and drop those that only the new one matches.
    pub(super) fn is_outdated(&self) -> bool {
        let Some(of) = &self.of_group else { return false };
        let view = of.consumers.view(&of.group.group_name);
        let subscribed = view.as_ref().and_then(|view| view.subscriptions.get(&of.topic.name));
        subscribed.is_some_and(|subscribed| subscribed.filter != self.filter)
    }
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
            let filter = self.filter_of_pull(header, now_ms)?;
            Filter { filter, of_group: None }
        } else {
            let filter = self.filter_of_group(header, &rule)?;
            let (consumers, group, topic) = (self.consumers.clone(), rule.clone(), topic.clone());
            let of_group = Some(GroupSubscription { consumers, group, topic });
            Filter { filter, of_group }
        };
        let counters = self.stats.group(header.topic, header.consumer_group);
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

    /// The filter of a pull with its own subscription.
    fn filter_of_pull(&self, header: &PullHeader<'_>, now_ms: i64) -> Result<TagFilter, Refusal> {
        let expression = header.subscription.unwrap_or("");
        only_tags(header.expression_type)?;
        let filter = TagFilter::parse(expression).map_err(|why| {
            Refusal::new(
                ResponseCode::SubscriptionParseFailed,
                format!("parse the consumer's subscription failed: {why}"),
            )
        })?;
        self.consumers
            .compensate(header.consumer_group, header.topic, expression, now_ms, || {
                subscription(header, now_ms)
            });
        Ok(filter)
    }

    /// The filter of the group's subscription from heartbeats.
    fn filter_of_group(&self, header: &PullHeader<'_>, rule: &Rule) -> Result<TagFilter, Refusal> {
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
        only_tags(Some(&subscription.data.expression_type))?;
        Ok(subscription.filter.clone())
    }
}

fn only_tags(expression_type: Option<&str>) -> Result<(), Refusal> {
    match expression_type {
        None | Some("" | "TAG") => Ok(()),
        Some(other) => Err(Refusal::filter(other)),
    }
}

/// The subscription of a pull, for admin requests.
fn subscription(header: &PullHeader<'_>, now_ms: i64) -> Subscription {
    let expression = header.subscription.unwrap_or("");
    let tags: BTreeSet<String> = match expression.trim() {
        "" | "*" => BTreeSet::new(),
        some => some
            .split("||")
            .map(|tag| tag.trim().to_owned())
            .filter(|tag| !tag.is_empty())
            .collect(),
    };
    Subscription {
        code_set: tags.iter().map(|tag| java_string_hash(tag)).collect(),
        sub_string: if expression.trim().is_empty() {
            "*".to_owned()
        } else {
            expression.to_owned()
        },
        sub_version: now_ms,
        tags_set: tags,
        topic: header.topic.to_owned(),
        ..Subscription::default()
    }
}
