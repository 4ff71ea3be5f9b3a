//! Which groups read which topics.
//!
//! A broker keeps subscriptions of connected consumers only. Of a group that is not connected it has offsets, which say that it once read a topic.

use super::client::{entries, expression_of, model_of, no_member};
use super::{Work, group_of, resource, topic_of};
use crate::codes::{self, Refused};
use crate::time::to_timestamp;
use crate::v2::describe_subscription_response::ClientSubscriptionInfo;
use crate::v2::{
    Code, DeleteSubscriptionRequest, DeleteSubscriptionResponse, DescribeSubscriptionRequest, DescribeSubscriptionResponse,
    FilterExpression, ListSubscriptionRequest, ListSubscriptionResponse, MessageModel, Resource, SubscriptionInfo,
};
use ::admin::clients::{self, is_no_consumer_connected};
use ::admin::topic::state;
use ::message::names;
use prost_types::Timestamp;
use protocol::stats::ConsumerConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Maximum number of groups of a topic that are looked at.
const MAX_GROUPS: usize = 200;
/// Maximum number of entries of an answer.
const MAX_ENTRIES: usize = 10_000;
/// Time in which consumers are asked for their own subscriptions. What one did not tell by then is taken from its group.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// A subscription as its client told it.
#[derive(Clone)]
struct Told {
    expression: FilterExpression,
    at: Option<Timestamp>,
}

/// The connected consumers of a group.
struct Online {
    members: ConsumerConnection,
    /// What each of them subscribes to itself, by client and topic. Clients that did not tell are missing.
    own: BTreeMap<String, BTreeMap<String, Told>>,
}

impl Online {
    /// What the group subscribes to.
    fn topics(&self) -> BTreeSet<&str> {
        let own = self.own.values().flat_map(BTreeMap::keys);
        own.chain(self.members.subscription_table.keys()).map(String::as_str).collect()
    }

    /// What the group, or one of its members, subscribes to in this topic.
    fn of_group(&self, topic: &str) -> Option<Told> {
        let of_group = self.members.subscription_table.get(topic).map(|subscription| Told {
            expression: expression_of(subscription),
            at: Some(subscription.sub_version).filter(|at| *at > 0).map(to_timestamp),
        });
        of_group.or_else(|| self.own.values().find_map(|own| own.get(topic).cloned()))
    }

    /// Whether all members that told their subscriptions have the same one.
    fn is_consistent(&self, topic: &str) -> bool {
        let mut told = self.own.values().map(|own| own.get(topic).map(|told| &told.expression));
        let first = told.next();
        told.all(|other| Some(other) == first)
    }

    fn info(&self, group: &str, topic: &str, told: Told) -> SubscriptionInfo {
        SubscriptionInfo {
            group: resource(group),
            topic: resource(topic),
            expression: Some(told.expression),
            online: true,
            last_update_timestamp: told.at,
            message_model: model_of(&self.members).into(),
            subscription_consistency: self.is_consistent(topic),
        }
    }
}

/// The groups to look at, and the topic, if one is named.
struct Scope {
    groups: Vec<String>,
    topic: Option<String>,
}

impl Scope {
    /// Whether a subscription to this topic is in the answer. Retry topics are not, unless one is named: every consumer has its own.
    fn has(&self, topic: &str) -> bool {
        match &self.topic {
            Some(only) => only == topic,
            None => !names::is_retry(topic),
        }
    }
}

impl Work {
    async fn scope(&self, topic: Option<&Resource>, group: Option<&Resource>) -> Result<Scope, Refused> {
        let topic = topic.map(|topic| topic_of(Some(topic))).transpose()?.map(str::to_owned);
        let groups = match (group, &topic) {
            (Some(group), _) => vec![group_of(Some(group))?.to_owned()],
            (None, Some(topic)) => state::use_of(self.cluster(), topic).await?.groups,
            (None, None) => return Err(Refused::new(Code::BadRequest, "the request needs a topic, a group, or both")),
        };
        if groups.len() > MAX_GROUPS {
            let text = format!(
                "the topic has {} groups; name one, since at most {MAX_GROUPS} are looked at",
                groups.len()
            );
            return Err(Refused::new(Code::BadRequest, text));
        }
        Ok(Scope { groups, topic })
    }

    /// The connected consumers of a group; `None` if none is connected.
    async fn online(&self, group: &str, deadline: Instant) -> Result<Option<Online>, Refused> {
        let is_asked = |member: &protocol::stats::Connection| self.settings_of(&member.client_id).is_none();
        let (members, infos) = match clients::members(self.cluster(), group, is_asked, deadline).await {
            Err(error) if is_no_consumer_connected(&error) => return Ok(None),
            found => found?,
        };
        let mut own: BTreeMap<String, BTreeMap<String, Told>> = BTreeMap::new();
        for (client_id, info) in infos {
            // Clients of the gRPC protocol that another proxy serves tell nothing.
            if info.subscription_set.is_empty() {
                continue;
            }
            let told = info.subscription_set.iter().map(|subscription| {
                let told = Told {
                    expression: expression_of(subscription),
                    at: Some(subscription.sub_version).filter(|at| *at > 0).map(to_timestamp),
                };
                (subscription.topic.clone(), told)
            });
            own.insert(client_id, told.collect());
        }
        for member in &members.connection_set {
            let told = self.messaging.clients.find(&member.client_id).and_then(|client| client.settings());
            if let Some(told) = told {
                let of_topic = |entry: &crate::v2::SubscriptionEntry| {
                    let one = Told {
                        expression: entry.expression.clone().unwrap_or_default(),
                        at: Some(to_timestamp(told.at_ms)),
                    };
                    Some((entry.topic.as_ref()?.name.clone(), one))
                };
                own.insert(
                    member.client_id.clone(),
                    entries(&told.settings).iter().filter_map(of_topic).collect(),
                );
            }
        }
        Ok(Some(Online { members, own }))
    }

    pub(super) async fn subscriptions(&self, told: ListSubscriptionRequest) -> Result<ListSubscriptionResponse, Refused> {
        let scope = self.scope(told.topic.as_ref(), told.group.as_ref()).await?;
        let deadline = Instant::now() + ASK_LIMIT;
        let mut found = Vec::new();
        for group in &scope.groups {
            let online = self.online(group, deadline).await?;
            let mut read = BTreeSet::new();
            if let Some(online) = &online {
                for topic in online.topics().into_iter().filter(|topic| scope.has(topic)) {
                    if let Some(told) = online.of_group(topic) {
                        found.push(online.info(group, topic, told));
                        read.insert(topic);
                    }
                }
            }
            for topic in self.topics_with_offsets(group, &scope).await? {
                if !read.contains(topic.as_str()) {
                    found.push(offline(group, &topic, online.is_none()));
                }
            }
            check_count(found.len())?;
        }
        Ok(ListSubscriptionResponse {
            status: Some(codes::ok()),
            subscription_info: found,
        })
    }

    async fn topics_with_offsets(&self, group: &str, scope: &Scope) -> Result<BTreeSet<String>, Refused> {
        let topics: Vec<&str> = scope.topic.as_deref().into_iter().collect();
        let rows = match self.rows(group, &topics).await {
            Err(refused) if matches!(refused.code, Code::OffsetNotFound) => Vec::new(),
            rows => rows?,
        };
        Ok(rows.into_iter().map(|row| row.topic).filter(|topic| scope.has(topic)).collect())
    }

    pub(super) async fn subscriptions_of_clients(
        &self,
        told: DescribeSubscriptionRequest,
    ) -> Result<DescribeSubscriptionResponse, Refused> {
        let scope = self.scope(told.topic.as_ref(), told.group.as_ref()).await?;
        let deadline = Instant::now() + ASK_LIMIT;
        let mut found = Vec::new();
        for group in &scope.groups {
            let Some(online) = self.online(group, deadline).await? else {
                if told.group.is_some() {
                    return Err(no_member(group));
                }
                continue;
            };
            for member in &online.members.connection_set {
                let client_info = self.client_info(member, model_of(&online.members));
                for topic in online.topics().into_iter().filter(|topic| scope.has(topic)) {
                    let told = match online.own.get(&member.client_id) {
                        Some(own) => own.get(topic).cloned(),
                        None => online.of_group(topic),
                    };
                    found.extend(told.map(|told| ClientSubscriptionInfo {
                        client_info: Some(client_info.clone()),
                        subscription_info: Some(online.info(group, topic, told)),
                    }));
                }
            }
            check_count(found.len())?;
        }
        Ok(DescribeSubscriptionResponse {
            status: Some(codes::ok()),
            client_subscription_info: found,
        })
    }

    /// A subscription is what connected consumers tell; there is nothing to delete of one that is not connected but its progress, without which
    /// the group would read the topic again, or leave messages out.
    pub(super) async fn delete_subscription(&self, told: DeleteSubscriptionRequest) -> Result<DeleteSubscriptionResponse, Refused> {
        let (group, topic) = (group_of(told.group.as_ref())?, topic_of(told.topic.as_ref())?);
        let text = format!(
            "brokers keep no subscription that could be deleted: the one of group {group} to topic {topic} ends with its last consumer. What stays \
             are the group's offsets; mqadmin deleteSubGroup -g {group} -r true deletes the group with them"
        );
        Err(Refused::new(Code::NotImplemented, text))
    }
}

/// A topic in which a group has offsets, and to which none of its consumers subscribes. `nobody`: no consumer of the group is connected.
fn offline(group: &str, topic: &str, nobody: bool) -> SubscriptionInfo {
    SubscriptionInfo {
        group: resource(group),
        topic: resource(topic),
        message_model: if nobody {
            MessageModel::Unspecified
        } else {
            MessageModel::Clustering
        }
        .into(),
        subscription_consistency: true,
        ..SubscriptionInfo::default()
    }
}

fn check_count(count: usize) -> Result<(), Refused> {
    if count <= MAX_ENTRIES {
        return Ok(());
    }
    let text = format!("the answer has more than {MAX_ENTRIES} subscriptions; name a topic and a group");
    Err(Refused::new(Code::BadRequest, text))
}
