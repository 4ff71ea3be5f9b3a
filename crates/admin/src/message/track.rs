//! Which groups consumed a message, derived from their offsets.

use protocol::heartbeat::{ConsumeType, MessageModel};
use protocol::stats::ConsumerConnection;
use serde::Serialize;

use crate::message::Found;
use crate::{Cluster, Error, clients, offset};

/// Whether a group consumed a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// The group.
    pub consumer_group: String,
    /// The state.
    pub state: TrackState,
    /// Why it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Whether a group consumed a message, in mqadmin's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrackState {
    /// Its offset is after the message.
    Consumed,
    /// Its offset is after the message, and its filter does not match.
    ConsumedButFiltered,
    /// It is a pull consumer, whose progress the broker does not know.
    Pull,
    /// Its offset is not after the message.
    NotConsumeYet,
    /// No consumer is connected.
    NotOnline,
    /// Each consumer keeps its own offset.
    ConsumeBroadcasting,
    /// Unknown.
    Unknown,
}

impl TrackState {
    /// mqadmin's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumed => "CONSUMED",
            Self::ConsumedButFiltered => "CONSUMED_BUT_FILTERED",
            Self::Pull => "PULL",
            Self::NotConsumeYet => "NOT_CONSUME_YET",
            Self::NotOnline => "NOT_ONLINE",
            Self::ConsumeBroadcasting => "CONSUME_BROADCASTING",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Whether each group of the message's topic consumed it.
///
/// # Errors
/// [`Error::Call`] if the topic is unknown or its broker does not answer.
pub async fn tracks(cluster: &Cluster, message: &Found, via: Option<&str>) -> Result<Vec<Track>, Error> {
    let brokers = cluster.brokers_with(&message.topic, via).await?;
    let mut groups = Vec::new();
    for broker in &brokers {
        groups.extend(cluster.client().groups_of_topic(&broker.address, &message.topic).await?.group_list);
    }
    groups.sort();
    groups.dedup();
    let stored_at = brokers.iter().find(|broker| broker.address == message.store_host);
    let broker = stored_at.or(brokers.first()).map(|broker| broker.name.as_str());
    let mut tracks = Vec::new();
    for group in groups {
        tracks.push(track(cluster, message, broker.unwrap_or_default(), group).await);
    }
    Ok(tracks)
}

async fn track(cluster: &Cluster, message: &Found, broker: &str, group: String) -> Track {
    let (state, note) = match clients::consumers(cluster, &group, None).await {
        Ok(members) if members.consume_type == Some(ConsumeType::Actively) => (TrackState::Pull, None),
        Ok(members) if members.message_model == Some(MessageModel::Broadcasting) => (TrackState::ConsumeBroadcasting, None),
        Ok(members) => match consumed(cluster, message, broker, &group).await {
            Ok(true) if filtered(&members, message) => (TrackState::ConsumedButFiltered, None),
            Ok(true) => (TrackState::Consumed, None),
            Ok(false) => (TrackState::NotConsumeYet, None),
            Err(error) => (TrackState::Unknown, Some(error.to_string())),
        },
        Err(error) if clients::is_no_consumer_connected(&error) => (TrackState::NotOnline, None),
        Err(error) => (TrackState::Unknown, Some(error.to_string())),
    };
    Track {
        consumer_group: group,
        state,
        note,
    }
}

async fn consumed(cluster: &Cluster, message: &Found, broker: &str, group: &str) -> Result<bool, Error> {
    let stats = offset::physical_stats(cluster, group, Some(&message.topic), None).await?;
    let mut queues = stats.offset_table.iter();
    Ok(queues.any(|(queue, offset)| {
        queue.topic == message.topic
            && queue.queue_id == message.queue_id
            && queue.broker_name == broker
            && offset.consumer_offset > message.queue_offset
    }))
}

fn filtered(members: &ConsumerConnection, message: &Found) -> bool {
    let wanted = members.subscription_table.get(&message.topic).map(|wanted| &wanted.tags_set);
    let tag = message.tags.as_deref().unwrap_or_default();
    wanted.is_some_and(|tags| !tags.is_empty() && !tags.iter().any(|wanted| wanted == "*" || wanted == tag))
}
