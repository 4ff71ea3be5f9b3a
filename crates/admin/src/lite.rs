//! Lite topics: what brokers know of them, their subscribers and their groups.

use message::names;
use protocol::Frame;
use protocol::codes::RequestCode;
use protocol::json;
use protocol::lite::{
    BrokerLiteInfo, LiteClientInfo, LiteClientInfoHeader, LiteGroupInfo, LiteGroupInfoHeader, LiteLag, LiteTopicInfo, LiteTopicInfoHeader,
    ParentTopicInfo, ParentTopicInfoHeader, TriggerLiteDispatchHeader,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Broker, Changes, Cluster, Error, Target};

/// What a broker answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct At<T> {
    /// Name or address of the broker.
    pub broker: String,
    /// Its answer.
    pub info: T,
}

/// The lite topics of brokers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Brokers {
    /// One per broker.
    pub brokers: Vec<At<BrokerLiteInfo>>,
    /// Whether topics and groups are shown, too.
    #[serde(skip)]
    pub with_detail: bool,
}

/// A parent topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parent {
    /// One per broker.
    pub brokers: Vec<At<ParentTopicInfo>>,
}

/// A lite topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Topic {
    /// Name of its light queue.
    pub queue: String,
    /// One per broker.
    pub brokers: Vec<At<LiteTopicInfo>>,
    /// Whether its subscribers are shown.
    #[serde(skip)]
    pub with_clients: bool,
}

/// A client of lite topics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Client {
    /// One per broker.
    pub brokers: Vec<At<LiteClientInfo>>,
    /// Whether its lite topics are shown.
    #[serde(skip)]
    pub with_topics: bool,
}

/// The lag of a group in all lite topics of its parent topic, or in one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// Messages that are not consumed.
    pub total: i64,
    /// Store time of the first of them, epoch ms; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest_ms: Option<i64>,
    /// Lite topics with the most of them.
    pub by_count: Vec<LiteLag>,
    /// Lite topics whose messages wait longest.
    pub by_time: Vec<LiteLag>,
    /// One per broker.
    pub brokers: Vec<At<LiteGroupInfo>>,
}

async fn ask<T: DeserializeOwned>(cluster: &Cluster, address: &str, request: Frame) -> Result<T, Error> {
    let answer = cluster.ask(address, request).await?;
    json::read(&answer.body).map_err(|error| Error::Invalid(format!("the broker at {address} answered {error}")))
}

/// Asks each broker that has the parent topic.
async fn ask_all<T: DeserializeOwned>(cluster: &Cluster, parent: &str, request: &Frame) -> Result<Vec<At<T>>, Error> {
    let mut answers = Vec::new();
    for Broker { name, address, .. } in cluster.brokers_with(parent, None).await? {
        let info = ask(cluster, &address, request.clone()).await?;
        answers.push(At { broker: name, info });
    }
    Ok(answers)
}

/// What the brokers of a target, or of all clusters, know of lite topics.
///
/// # Errors
/// [`Error`] if the target is not found, or a broker does not answer.
pub async fn brokers(cluster: &Cluster, target: Option<&Target>, with_detail: bool) -> Result<Brokers, Error> {
    let mut brokers = Vec::new();
    let masters = match target {
        Some(target) => cluster.masters_at(target).await?,
        None => cluster.masters(None).await?.into_iter().map(|broker| broker.address).collect(),
    };
    for broker in masters {
        let info = ask(cluster, &broker, Frame::request(RequestCode::GetBrokerLiteInfo)).await?;
        brokers.push(At { broker, info });
    }
    Ok(Brokers { brokers, with_detail })
}

/// A parent topic at each broker that has it.
///
/// # Errors
/// [`Error`] if the topic has no route, or a broker does not answer.
pub async fn parent(cluster: &Cluster, topic: &str) -> Result<Parent, Error> {
    let mut request = Frame::request(RequestCode::GetParentTopicInfo);
    ParentTopicInfoHeader { topic }.encode(&mut request.ext);
    let brokers = ask_all(cluster, topic, &request).await?;
    Ok(Parent { brokers })
}

/// A lite topic at each broker that has its parent topic.
///
/// # Errors
/// As [`parent`].
pub async fn topic(cluster: &Cluster, parent: &str, lite: &str, with_clients: bool) -> Result<Topic, Error> {
    let mut request = Frame::request(RequestCode::GetLiteTopicInfo);
    LiteTopicInfoHeader {
        parent_topic: parent,
        lite_topic: lite,
    }
    .encode(&mut request.ext);
    Ok(Topic {
        queue: names::lite_queue(parent, lite),
        brokers: ask_all(cluster, parent, &request).await?,
        with_clients,
    })
}

/// A client of a group at each broker that has the parent topic.
///
/// # Errors
/// As [`parent`].
pub async fn client(cluster: &Cluster, parent: &str, group: &str, client_id: &str, with_topics: bool) -> Result<Client, Error> {
    let mut request = Frame::request(RequestCode::GetLiteClientInfo);
    LiteClientInfoHeader {
        parent_topic: parent,
        group,
        client_id,
        max_count: None,
    }
    .encode(&mut request.ext);
    let brokers = ask_all(cluster, parent, &request).await?;
    Ok(Client { brokers, with_topics })
}

/// The lag of a group, in all its lite topics or in `lite`.
///
/// # Errors
/// As [`parent`].
pub async fn lag(cluster: &Cluster, parent: &str, group: &str, lite: Option<&str>, top: i32) -> Result<Lag, Error> {
    let mut request = Frame::request(RequestCode::GetLiteGroupInfo);
    LiteGroupInfoHeader {
        group,
        lite_topic: lite,
        top_k: Some(top),
    }
    .encode(&mut request.ext);
    let brokers: Vec<At<LiteGroupInfo>> = ask_all(cluster, parent, &request).await?;
    let infos = || brokers.iter().map(|at| &at.info);
    let mut by_count: Vec<LiteLag> = infos().flat_map(|info| info.lag_count_top_k.iter().flatten().cloned()).collect();
    by_count.sort_by_key(|lag| std::cmp::Reverse(lag.lag_count));
    let mut by_time: Vec<LiteLag> = infos()
        .flat_map(|info| info.lag_timestamp_top_k.iter().flatten().cloned())
        .collect();
    by_time.sort_by_key(|lag| lag.earliest_unconsumed_timestamp);
    let earliest = infos().map(|info| info.earliest_unconsumed_timestamp).filter(|at| *at > 0).min();
    Ok(Lag {
        total: infos().map(|info| info.total_lag_count.max(0)).fold(0, i64::saturating_add),
        earliest_ms: earliest,
        by_count,
        by_time,
        brokers,
    })
}

/// Has brokers look again which lite topics of a group have messages.
///
/// # Errors
/// [`Error`] if the topic has no route. Failures at brokers are in the result.
pub async fn dispatch(
    cluster: &Cluster,
    parent: &str,
    group: &str,
    client_id: Option<&str>,
    broker: Option<&str>,
) -> Result<Changes, Error> {
    let mut request = Frame::request(RequestCode::TriggerLiteDispatch);
    TriggerLiteDispatchHeader { group, client_id }.encode(&mut request.ext);
    let mut changes = Changes::default();
    for at in cluster.brokers_with(parent, None).await? {
        if broker.is_none_or(|broker| broker == at.name) {
            let outcome = cluster.client().ask(&at.address, request.clone()).await;
            changes.note(&at.name, format!("dispatch lite topics of group {group}"), outcome);
        }
    }
    Ok(changes)
}
