//! Handles a heartbeat with groups and subscriptions, whatever protocol it comes through.

use super::holders::Departure;
use super::notify::Notices;
use super::producers::Producers;
use super::table::{Channel, Member};
use super::view::Joining;
use crate::errors::{Refusal, check_length};
use crate::group::{GroupError, Groups};
use crate::settings::BrokerSettings;
use crate::stats::{BrokerStats, Name};
use crate::topic::{Spec, TopicError, Topics};
use message::names;
use protocol::Language;
use protocol::heartbeat::{ConsumerData, HeartbeatData};
use protocol::topic::sys_flag;
use std::sync::Arc;
use std::time::Instant;

/// Longest client id in bytes. Clients build it from an address, an instance name and a number.
pub const MAX_CLIENT_ID_BYTES: usize = 1_024;

/// The tables that heartbeats and unregister requests change.
#[derive(Debug)]
pub struct Clients<'a, C> {
    /// Consumers online, and their notifications.
    pub notices: &'a Notices<C>,
    /// Producers online.
    pub producers: &'a Producers<C>,
    /// Groups; the first heartbeat of a group may create it.
    pub groups: &'a Groups,
    /// Topics; the first heartbeat of a group creates its retry topic.
    pub topics: &'a Topics,
    /// Current settings.
    pub settings: &'a BrokerSettings,
}

/// The client that sends a heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a, C> {
    /// Its connection.
    pub channel: &'a C,
    /// Language of the client library.
    pub language: Language,
    /// Version of the client library, as Apache numbers them.
    pub version: i32,
}

/// A heartbeat that is checked but not applied yet. Its groups and their retry topics exist, as far as they may be created; the
/// client joins the groups in [`Heartbeat::join`].
#[derive(Debug)]
pub struct Heartbeat<C> {
    member: Member<C>,
    /// Consumer groups with their subscriptions.
    consumers: Vec<(String, Joining<C>)>,
    producers: Vec<String>,
    /// A v2 heartbeat: the client leaves out its subscriptions while they do not change.
    is_v2: bool,
    /// The limit that was reached while preparing the consumer groups; those before it still join.
    refused: Option<Refusal>,
    /// A group or its retry topic was just created. The caller waits until the topic is registered before the client joins, because
    /// the client looks it up at the name server next.
    pub makes_group: bool,
}

/// Checks a heartbeat and creates its groups and retry topics. [`Heartbeat::join`] applies it.
///
/// # Errors
/// `InvalidParameter` if a client id or group name is too long.
pub fn heartbeat<C: Channel>(
    data: HeartbeatData,
    client: Client<'_, C>,
    clients: &Clients<'_, C>,
    now_ms: i64,
) -> Result<Heartbeat<C>, Refusal> {
    check_names(&data)?;
    let mut heartbeat = Heartbeat {
        member: Member {
            channel: client.channel.clone(),
            client_id: data.client_id.as_str().into(),
            language: client.language,
            version: client.version,
            last_seen_ms: now_ms,
            subscribes: 0,
        },
        consumers: Vec::with_capacity(data.consumers.len()),
        producers: data.producers.into_iter().map(|group| group.group_name).collect(),
        is_v2: data.heartbeat_fingerprint != 0,
        refused: None,
        makes_group: false,
    };
    let without_sub = heartbeat.is_v2 && data.without_sub;
    for group in data.consumers {
        match heartbeat.prepare(group, without_sub, data.heartbeat_fingerprint, clients, now_ms) {
            Ok(()) => {}
            Err(refusal) => {
                heartbeat.refused = Some(refusal);
                break;
            }
        }
    }
    Ok(heartbeat)
}

/// Checks the length of names that are kept as long as the client is online.
///
/// # Errors
/// `InvalidParameter` if a client id or group name is too long.
pub(super) fn check_names(data: &HeartbeatData) -> Result<(), Refusal> {
    check_length("client id", &data.client_id, MAX_CLIENT_ID_BYTES)?;
    let mut producers = data.producers.iter();
    producers.try_for_each(|group| check_length("producer group", &group.group_name, names::MAX_GROUP_LEN))
}

impl<C: Channel> Heartbeat<C> {
    /// Creates a consumer group and its retry topic if they do not exist. A group that does not exist and may not be created is
    /// skipped, as in Apache: its pulls are refused with the reason.
    fn prepare(
        &mut self,
        data: ConsumerData,
        without_sub: bool,
        fingerprint: i32,
        clients: &Clients<'_, C>,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let group = data.group_name.as_str();
        let settings = clients.settings;
        let auto_create = settings.auto_create_subscription_group;
        let is_new = !clients.groups.contains(group);
        let rule = match clients.groups.find_or_create(group, auto_create, now_ms) {
            Ok(rule) => rule,
            Err(GroupError::Missing | GroupError::Name(_)) => {
                tracing::debug!(group, "heartbeat ignored for a group that does not exist and may not be created");
                return Ok(());
            }
            Err(full) => return Err(full.into()),
        };
        let retry = Spec {
            order: data.subscriptions.iter().any(|data| clients.topics.is_ordered(&data.topic)),
            sys_flag: if data.unit_mode { sys_flag::UNIT_SUB } else { 0 },
            ..Spec::new(&names::retry_topic(group), rule.retry_queue_nums)
        };
        self.makes_group |= is_new;
        match clients.topics.create_for_group(retry, now_ms) {
            Ok(retry) => self.makes_group |= !retry.is_settled(clients.topics.changed()),
            // The next heartbeat creates it.
            Err(error @ TopicError::BeingDeleted(_)) => tracing::warn!(group, %error, "a consumer joins without its retry topic"),
            Err(error) => return Err(error.into()),
        }
        let joining = Joining {
            member: self.member.clone(),
            consume_type: data.consume_type,
            message_model: data.message_model,
            consume_from_where: data.consume_from_where,
            subscriptions: (!without_sub).then_some(data.subscriptions),
            fingerprint,
            notify: rule.notify_consumer_ids_changed_enable && settings.notify_consumer_ids_changed_enable,
        };
        self.consumers.push((data.group_name, joining));
        Ok(())
    }

    /// The client's connection and id.
    pub fn client(&self) -> (C, Arc<str>) {
        (self.member.channel.clone(), Arc::clone(&self.member.client_id))
    }

    /// Adds the client to its groups and notifies the other members. Returns whether the client has to send its subscriptions
    /// again.
    ///
    /// # Errors
    /// A [`Refusal`] if a limit is reached. The groups before it in the heartbeat stay joined.
    pub fn join(self, notices: &Notices<C>, producers: &Producers<C>, stats: &BrokerStats) -> Result<bool, Refusal> {
        let channel = self.member.channel.clone();
        let outcome = self.join_all(notices, producers, stats);
        if channel.is_closed() {
            // The close may have been handled before the client joined.
            notices.closed(channel.id(), Departure::Lost, producers, true);
        }
        outcome
    }

    fn join_all(self, notices: &Notices<C>, producers: &Producers<C>, stats: &BrokerStats) -> Result<bool, Refusal> {
        let mut resend = !self.is_v2;
        for (group, joining) in self.consumers {
            let start = Instant::now();
            let joined = notices.consumers().join(&group, joining)?;
            if joined.notify {
                notices.changed(&group);
            }
            resend |= joined.resend;
            stats.registered(Name::ConsumerRegisterTime, start.elapsed().as_millis() as i64);
        }
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        for group in self.producers {
            let start = Instant::now();
            producers.join(&group, self.member.clone())?;
            stats.registered(Name::ProducerRegisterTime, start.elapsed().as_millis() as i64);
        }
        Ok(resend)
    }
}
