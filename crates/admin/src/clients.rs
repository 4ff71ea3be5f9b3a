//! Connected producers and consumers, and the state of consumers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use protocol::diagnose::RunningInfo;
use protocol::heartbeat::Subscription;
use protocol::stats::{Connection, ConsumerConnection, ProducerConnection, ProducerTable};
use protocol::{MessageQueue, ResponseCode, version};
use serde::Serialize;

use crate::{Cluster, Error, time};

/// A consumer that has messages and consumed none for this long is reported as stuck.
const STUCK_MS: i64 = 60_000;
/// Consumers that started less than this ago may not have all subscriptions yet.
const SETTLED_MS: i64 = 120_000;

/// State of the consumers of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// The group.
    pub group: String,
    /// One per consumer.
    pub clients: Vec<ClientStatus>,
    /// Whether all members have the same subscriptions. A group whose members differ loses messages.
    pub same_subscription: bool,
    /// Problems that were found.
    pub warnings: Vec<String>,
}

/// State of a consumer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientStatus {
    /// The client.
    pub client_id: String,
    /// Its version; empty if it was asked by its id.
    pub version: String,
    /// Settings by name.
    pub properties: BTreeMap<String, String>,
    /// Its subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Its queues.
    pub queues: Vec<ClientQueue>,
    /// Throughput by topic.
    pub speed: BTreeMap<String, protocol::diagnose::ConsumeSpeed>,
    /// Values that the application adds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user_info: BTreeMap<String, String>,
    /// Stack traces, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jstack: Option<String>,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A queue within a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientQueue {
    /// The topic.
    pub topic: String,
    /// The broker.
    pub broker: String,
    /// The queue.
    pub queue_id: i32,
    /// Its state.
    #[serde(flatten)]
    pub state: protocol::diagnose::ProcessQueue,
}

/// The connected consumers of a group, from the broker at an address or from the first that has any.
///
/// # Errors
/// [`Error::Call`]: refused with code 206 if there are none.
pub async fn consumers(cluster: &Cluster, group: &str, broker: Option<&str>) -> Result<ConsumerConnection, Error> {
    Ok(connected(cluster, group, broker).await?.1)
}

/// Whether an error of [`consumers`] means that no consumer is connected.
pub fn is_no_consumer_connected(error: &Error) -> bool {
    match error {
        Error::NotFound(_) => true,
        Error::Call(error) => is_not_online(error),
        _ => false,
    }
}

/// Whether a broker refused because no consumer of the group is connected to it.
pub(crate) fn is_not_online(error: &client::Error) -> bool {
    error.code() == Some(ResponseCode::ConsumerNotOnline.into())
}

/// The connected consumers and the address of the broker that answered.
async fn connected(cluster: &Cluster, group: &str, broker: Option<&str>) -> Result<(String, ConsumerConnection), Error> {
    let addresses: Vec<String> = match broker {
        Some(address) => vec![address.to_owned()],
        None => {
            let brokers = cluster.brokers_of_group(group, None).await?;
            brokers.into_iter().map(|broker| broker.address).collect()
        }
    };
    let mut failure = None;
    for address in addresses {
        match cluster.client().consumer_connections(&address, group).await {
            Ok(found) if !found.connection_set.is_empty() => return Ok((address, found)),
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or_else(
        || Error::NotFound(format!("no consumer of group {group} is connected")),
        Error::Call,
    ))
}

/// The connected producers of a group at the brokers of a topic.
///
/// # Errors
/// [`Error::NotFound`] if there are none; [`Error::Call`] if the topic is unknown or a broker does not answer.
pub async fn producers(cluster: &Cluster, group: &str, topic: &str) -> Result<ProducerConnection, Error> {
    let mut found: Vec<Connection> = Vec::new();
    let mut failure = None;
    for broker in cluster.brokers_with(topic, None).await? {
        match cluster.client().producer_connections(&broker.address, group).await {
            Ok(more) => found.extend(more.connection_set),
            // The Java broker refuses if the group has no member.
            Err(error @ client::Error::Refused { .. }) => failure = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|connection| seen.insert(connection.client_id.clone()));
    match (found.is_empty(), failure) {
        (false, _) => Ok(ProducerConnection { connection_set: found }),
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err(Error::NotFound(format!(
            "no producer of group {group} is connected to the brokers of {topic}"
        ))),
    }
}

/// All producers that are connected to a broker.
///
/// # Errors
/// [`Error::Call`] if the broker does not answer.
pub async fn all_producers(cluster: &Cluster, broker: &str) -> Result<ProducerTable, Error> {
    Ok(cluster.client().producers(broker).await?)
}

/// State of the consumers of a group, or of one of them by its id.
///
/// # Errors
/// [`Error`] as in [`consumers`]; also if a consumer that is asked by its id does not answer.
pub async fn status(
    cluster: &Cluster,
    group: &str,
    client_id: Option<&str>,
    broker: Option<&str>,
    jstack: bool,
) -> Result<ConsumerStatus, Error> {
    let (address, members) = connected(cluster, group, broker).await?;
    if let Some(client_id) = client_id {
        let info = cluster.client().running_info(&address, group, client_id, jstack).await?;
        return Ok(assessed(
            group,
            vec![(client(client_id, "", Ok(&info)), Some(info))],
            time::now_ms(),
        ));
    }
    let mut clients = Vec::new();
    let duplicate_client_ids = duplicate_client_ids(&members.connection_set);
    for member in members.connection_set {
        let (id, version) = (&member.client_id, version::name(member.version));
        clients.push(match cluster.client().running_info(&address, group, id, jstack).await {
            Ok(info) => (client(id, &version, Ok(&info)), Some(info)),
            Err(error) => (client(id, &version, Err(error)), None),
        });
    }
    let mut status = assessed(group, clients, time::now_ms());
    status.warnings.extend(duplicate_client_ids);
    Ok(status)
}

/// What a consumer of a group tells of itself, with stack traces if `jstack`.
///
/// # Errors
/// [`Error::NotFound`] if no consumer with this id is connected; [`Error::Call`] if it does not answer.
pub async fn running_info(cluster: &Cluster, group: &str, client_id: &str, jstack: bool) -> Result<RunningInfo, Error> {
    let address = broker_of(cluster, group, client_id).await?;
    Ok(cluster.client().running_info(&address, group, client_id, jstack).await?)
}

/// The connected consumers of a group, and what those tell of themselves that `is_asked` names; nothing of those that do not answer, or were
/// not asked before the deadline.
///
/// # Errors
/// [`Error`] as in [`consumers`].
pub async fn members(
    cluster: &Cluster,
    group: &str,
    is_asked: impl Fn(&Connection) -> bool,
    deadline: Instant,
) -> Result<(ConsumerConnection, BTreeMap<String, RunningInfo>), Error> {
    let (address, members) = connected(cluster, group, None).await?;
    let mut infos = BTreeMap::new();
    for member in members.connection_set.iter().filter(|member| is_asked(member)) {
        let asked = cluster.client().running_info(&address, group, &member.client_id, false);
        match tokio::time::timeout_at(deadline.into(), asked).await {
            Ok(Ok(info)) => drop(infos.insert(member.client_id.clone(), info)),
            Ok(Err(_)) => {}
            Err(_) => break,
        }
    }
    Ok((members, infos))
}

/// The address of a broker to which a consumer of a group is connected.
pub(crate) async fn broker_of(cluster: &Cluster, group: &str, client_id: &str) -> Result<String, Error> {
    let (address, members) = match connected(cluster, group, None).await {
        Err(error) if is_no_consumer_connected(&error) => (String::new(), ConsumerConnection::default()),
        found => found?,
    };
    if members.connection_set.iter().any(|member| member.client_id == client_id) {
        return Ok(address);
    }
    Err(Error::NotFound(format!(
        "client {client_id} is not a connected consumer of group {group}"
    )))
}

/// Client ids that more than one connection uses.
fn duplicate_client_ids(connections: &[Connection]) -> Vec<String> {
    let mut addresses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in connections {
        addresses.entry(&one.client_id).or_default().push(&one.client_addr);
    }
    addresses.retain(|_, addresses| addresses.len() > 1);
    let warning = |(client_id, addresses): (&str, Vec<&str>)| {
        format!(
            "{client_id} is the client id of {} connections, {}: they take queues from each other; give each client its own instanceName",
            addresses.len(),
            addresses.join(" and ")
        )
    };
    addresses.into_iter().map(warning).collect()
}

fn client(client_id: &str, version: &str, answers: Result<&RunningInfo, client::Error>) -> ClientStatus {
    let (info, error) = match answers {
        Ok(info) => (info.clone(), None),
        Err(error) => (RunningInfo::default(), Some(error.to_string())),
    };
    let property = |name: &String| (name.clone(), info.property(name).unwrap_or_default());
    ClientStatus {
        client_id: client_id.to_owned(),
        version: version.to_owned(),
        properties: info.properties.keys().map(property).collect(),
        subscriptions: info.subscription_set,
        queues: info
            .mq_table
            .into_iter()
            .map(|(queue, state)| ClientQueue {
                topic: queue.topic,
                broker: queue.broker_name,
                queue_id: queue.queue_id,
                state,
            })
            .collect(),
        speed: info.status_table,
        user_info: info.user_consumer_info,
        jstack: info.jstack,
        error,
    }
}

fn assessed(group: &str, answers: Vec<(ClientStatus, Option<RunningInfo>)>, now_ms: i64) -> ConsumerStatus {
    let (clients, infos): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let known: Vec<(&str, &RunningInfo)> = clients
        .iter()
        .zip(&infos)
        .filter_map(|(client, info)| Some((client.client_id.as_str(), info.as_ref()?)))
        .collect();
    let difference = difference(&known, now_ms);
    let same_subscription = difference.is_none();
    let mut warnings: Vec<String> = known.iter().flat_map(|(id, info)| stuck(id, info, now_ms)).collect();
    warnings.extend(difference);
    ConsumerStatus {
        group: group.to_owned(),
        clients,
        same_subscription,
        warnings,
    }
}

/// The first two consumers of a group with different subscriptions. Versions of subscriptions always differ between clients and are
/// ignored.
fn difference(infos: &[(&str, &RunningInfo)], now_ms: i64) -> Option<String> {
    let settled = |info: &RunningInfo| {
        let started = info
            .property("PROP_CONSUMER_START_TIMESTAMP")
            .and_then(|text| text.parse::<i64>().ok());
        is_push(info) && started.is_none_or(|started| now_ms - started > SETTLED_MS)
    };
    let subscriptions = |info: &RunningInfo| -> BTreeSet<(String, String)> {
        let pair = |one: &Subscription| (one.topic.clone(), one.sub_string.clone());
        info.subscription_set.iter().map(pair).collect()
    };
    let mut by_client = infos
        .iter()
        .filter(|(_, info)| settled(info))
        .map(|(id, info)| (id, subscriptions(info)));
    let (first, own) = by_client.next()?;
    let (other, others) = by_client.find(|(_, others)| *others != own)?;
    let only = |these: &BTreeSet<(String, String)>, those: &BTreeSet<(String, String)>| {
        let only: Vec<String> = these.difference(those).map(|(topic, tags)| format!("{topic} {tags}")).collect();
        if only.is_empty() {
            "nothing more".to_owned()
        } else {
            only.join(", ")
        }
    };
    Some(format!(
        "consumers of the group have different subscriptions and lose messages: {first} also subscribes to {}; {other} also subscribes to {}",
        only(&own, &others),
        only(&others, &own)
    ))
}

/// Whether a consumer is a push consumer.
pub(crate) fn is_push(info: &RunningInfo) -> bool {
    info.property("PROP_CONSUME_TYPE").as_deref() == Some("CONSUME_PASSIVELY")
}

fn stuck(client_id: &str, info: &RunningInfo, now_ms: i64) -> Vec<String> {
    if !is_push(info) {
        return Vec::new();
    }
    let ordered = info.property("PROP_CONSUMEORDERLY").is_some_and(|text| text == "true");
    let problem = |(queue, state): (&MessageQueue, &protocol::diagnose::ProcessQueue)| {
        let place = format!("{client_id}: {} {}/{}", queue.topic, queue.broker_name, queue.queue_id);
        let idle = now_ms - state.last_consume_timestamp;
        match ordered {
            true if !state.locked => Some(format!("{place} has not been locked for {} ms", now_ms - state.last_lock_timestamp)),
            true if state.droped && state.try_unlock_times > 0 => {
                Some(format!("{place} could not be unlocked in {} attempts", state.try_unlock_times))
            }
            false if idle > STUCK_MS && state.cached_msg_count > 0 => Some(format!(
                "{place} has {} messages and consumed none for {idle} ms",
                state.cached_msg_count
            )),
            _ => None,
        }
    };
    info.mq_table.iter().filter_map(problem).collect()
}

/// The address of the consumer that has each queue of a group.
pub(crate) async fn owners(cluster: &Cluster, group: &str) -> Result<BTreeMap<MessageQueue, String>, Error> {
    let (address, members) = match connected(cluster, group, None).await {
        Ok(found) => found,
        // Then no queue is assigned.
        Err(error) if is_no_consumer_connected(&error) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut owners = BTreeMap::new();
    for member in members.connection_set {
        let info = cluster.client().running_info(&address, group, &member.client_id, false).await?;
        let ip = member.client_id.split('@').next().unwrap_or_default().to_owned();
        owners.extend(info.mq_table.into_keys().map(|queue| (queue, ip.clone())));
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::diagnose::ProcessQueue;

    fn consumer(topic: &str, queue: ProcessQueue) -> RunningInfo {
        RunningInfo {
            properties: [("PROP_CONSUME_TYPE".to_owned(), "CONSUME_PASSIVELY".into())].into(),
            subscription_set: vec![Subscription {
                topic: topic.to_owned(),
                sub_string: "*".to_owned(),
                ..Subscription::default()
            }],
            mq_table: [(MessageQueue::new(topic, "b", 0), queue)].into(),
            ..RunningInfo::default()
        }
    }

    fn status_of(infos: [RunningInfo; 2]) -> ConsumerStatus {
        let [one, other] = infos;
        let answers = [("c", one), ("d", other)].map(|(id, info)| (client(id, "", Ok(&info)), Some(info)));
        assessed("g", answers.into(), 200_000)
    }

    #[test]
    fn different_subscriptions_and_stuck_queues_are_reported() {
        let fine = ProcessQueue {
            last_consume_timestamp: 199_000,
            cached_msg_count: 3,
            ..ProcessQueue::default()
        };
        let stuck = ProcessQueue {
            last_consume_timestamp: 1_000,
            ..fine.clone()
        };
        let same = status_of([consumer("t", fine.clone()), consumer("t", fine.clone())]);
        assert!(same.same_subscription && same.warnings.is_empty());
        let different = status_of([consumer("t", fine), consumer("u", stuck)]);
        assert!(!different.same_subscription);
        assert_eq!(different.warnings[0], "d: u b/0 has 3 messages and consumed none for 199000 ms");
        assert!(
            different.warnings[1].ends_with("c also subscribes to t *; d also subscribes to u *"),
            "{}",
            different.warnings[1]
        );
    }

    #[test]
    fn a_client_id_of_two_connections_is_reported_with_both() {
        let connection = |client_id: &str, client_addr: &str| Connection {
            client_id: client_id.to_owned(),
            client_addr: client_addr.to_owned(),
            ..Connection::default()
        };
        assert!(duplicate_client_ids(&[connection("c", "h:1"), connection("d", "h:2")]).is_empty());
        let answers = duplicate_client_ids(&[connection("c", "h:1"), connection("d", "h:2"), connection("c", "k:3")]);
        assert!(
            answers.len() == 1 && answers[0].starts_with("c is the client id of 2 connections, h:1 and k:3"),
            "{answers:?}"
        );
    }
}
