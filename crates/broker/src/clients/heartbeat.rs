//! Taking in a client that tells its groups and subscriptions, whatever face it comes through.

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
use std::time::Instant;

/// Most bytes of a client id: an address, an instance name and a number.
pub const MAX_CLIENT_ID_BYTES: usize = 1_024;

/// What heartbeats and goodbyes change.
#[derive(Debug)]
pub struct Clients<'a, C> {
    /// Consumers online, and who is told of them.
    pub notices: &'a Notices<C>,
    /// Producers online.
    pub producers: &'a Producers<C>,
    /// Groups, made by their first heartbeat.
    pub groups: &'a Groups,
    /// Topics, among which each group has its retry topic.
    pub topics: &'a Topics,
    /// Settings of now.
    pub settings: &'a BrokerSettings,
}

/// Who tells.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a, C> {
    /// Its connection.
    pub channel: &'a C,
    /// What it is written in.
    pub language: Language,
    /// Its version, as Apache numbers them.
    pub version: i32,
}

/// A client says which groups it is in and what they subscribe to. Groups and their retry topics are there, as far as
/// they exist or may be made; the client is not in them before [`Heartbeat::join`].
#[derive(Debug)]
pub struct Heartbeat<C> {
    member: Member<C>,
    /// Groups, and what is told of each.
    consumers: Vec<(String, Joining<C>)>,
    producers: Vec<String>,
    /// A client that tells subscriptions apart from signs of life.
    second_kind: bool,
    /// A bound was reached behind those.
    refused: Option<Refusal>,
    /// A group or its retry topic was made just now: the client, which looks for the topic at the name server next, joins when it is
    /// there.
    pub makes_group: bool,
}

/// Looks at what a client tells; [`Heartbeat::join`] takes it in.
///
/// # Errors
/// A name is too long.
pub fn heartbeat<C: Channel>(
    told: HeartbeatData,
    client: Client<'_, C>,
    clients: &Clients<'_, C>,
    now_ms: i64,
) -> Result<Heartbeat<C>, Refusal> {
    check_names(&told)?;
    let mut heartbeat = Heartbeat {
        member: Member {
            channel: client.channel.clone(),
            client_id: told.client_id.as_str().into(),
            language: client.language,
            version: client.version,
            last_seen_ms: now_ms,
            subscribes: 0,
        },
        consumers: Vec::with_capacity(told.consumers.len()),
        producers: told.producers.into_iter().map(|group| group.group_name).collect(),
        second_kind: told.heartbeat_fingerprint != 0,
        refused: None,
        makes_group: false,
    };
    let without_sub = heartbeat.second_kind && told.without_sub;
    for group in told.consumers {
        match heartbeat.prepare(group, without_sub, told.heartbeat_fingerprint, clients, now_ms) {
            Ok(()) => {}
            Err(refusal) => {
                heartbeat.refused = Some(refusal);
                break;
            }
        }
    }
    Ok(heartbeat)
}

/// Names that are kept as long as the client is online are not longer than any client makes them.
fn check_names(told: &HeartbeatData) -> Result<(), Refusal> {
    check_length("client id", &told.client_id, MAX_CLIENT_ID_BYTES)?;
    let mut producers = told.producers.iter();
    producers.try_for_each(|group| check_length("producer group", &group.group_name, names::MAX_GROUP_LEN))
}

impl<C: Channel> Heartbeat<C> {
    /// Makes a consumer group and its retry topic if they are not there. A group that does not exist and may not be made is
    /// passed over, as Apache does: its pulls are refused with the reason.
    fn prepare(
        &mut self,
        told: ConsumerData,
        without_sub: bool,
        fingerprint: i32,
        clients: &Clients<'_, C>,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let group = told.group_name.as_str();
        let settings = clients.settings;
        let auto_create = settings.auto_create_subscription_group;
        let is_new = !clients.groups.contains(group);
        let rule = match clients.groups.find_or_create(group, auto_create, now_ms) {
            Ok(rule) => rule,
            Err(GroupError::Missing | GroupError::Name(_)) => {
                tracing::debug!(group, "heartbeat of a group that does not exist and is not made");
                return Ok(());
            }
            Err(full) => return Err(full.into()),
        };
        let retry = Spec {
            order: told.subscriptions.iter().any(|data| clients.topics.is_ordered(&data.topic)),
            sys_flag: if told.unit_mode { sys_flag::UNIT_SUB } else { 0 },
            ..Spec::new(&names::retry_topic(group), rule.retry_queue_nums)
        };
        self.makes_group |= is_new;
        match clients.topics.create_for_group(retry, now_ms) {
            Ok(retry) => self.makes_group |= !retry.is_settled(clients.topics.changed()),
            // The next heartbeat makes it.
            Err(error @ TopicError::BeingDeleted(_)) => tracing::warn!(group, %error, "a consumer joins without its retry topic"),
            Err(error) => return Err(error.into()),
        }
        let joining = Joining {
            member: self.member.clone(),
            consume_type: told.consume_type,
            message_model: told.message_model,
            consume_from_where: told.consume_from_where,
            subscriptions: (!without_sub).then_some(told.subscriptions),
            fingerprint,
            notify: rule.notify_consumer_ids_changed_enable && settings.notify_consumer_ids_changed_enable,
        };
        self.consumers.push((told.group_name, joining));
        Ok(())
    }

    /// Takes the client into its groups, and tells the other members. Whether the client is to tell its subscriptions again.
    ///
    /// # Errors
    /// A bound is reached; what came before in the heartbeat is taken.
    pub fn join(self, notices: &Notices<C>, producers: &Producers<C>, stats: &BrokerStats) -> Result<bool, Refusal> {
        let channel = self.member.channel.clone();
        let outcome = self.join_all(notices, producers, stats);
        if channel.is_closed() {
            // Its closing may have been noticed before it joined.
            notices.closed(channel.id(), producers, true);
        }
        outcome
    }

    fn join_all(self, notices: &Notices<C>, producers: &Producers<C>, stats: &BrokerStats) -> Result<bool, Refusal> {
        let mut resend = !self.second_kind;
        for (group, joining) in self.consumers {
            let begun = Instant::now();
            let joined = notices.consumers().join(&group, joining)?;
            if joined.tell {
                notices.changed(&group);
            }
            resend |= joined.resend;
            stats.registered(Name::ConsumerRegisterTime, begun.elapsed().as_millis() as i64);
        }
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        for group in self.producers {
            let begun = Instant::now();
            producers.join(&group, self.member.clone())?;
            stats.registered(Name::ProducerRegisterTime, begun.elapsed().as_millis() as i64);
        }
        Ok(resend)
    }
}
