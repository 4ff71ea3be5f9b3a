//! Queries for messages by id, key, unique key and queue offset; raw queue entries; pushing a message to a consumer.

use bytes::Bytes;
use client::{KeyQuery, Outcome, PullOptions, Puller, records};
use message::properties::Indexed;
use message::{Record, id};
use protocol::ResponseCode;
use protocol::diagnose::{ConsumeDirectlyHeader, ConsumeDirectlyReply, ConsumeQueueEntries, QueryConsumeQueueHeader};
use serde::Serialize;

use crate::message::body::Charset;
use crate::message::{Found, TOOLS_GROUP};
use crate::{Cluster, Error, clients};

/// Messages that were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Oldest first.
    pub messages: Vec<Found>,
}

/// A query by key.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// The key and its topic.
    pub query: KeyQuery<'a>,
    /// Only brokers of this cluster; for topics without a route, the topic whose route is used.
    pub cluster: Option<&'a str>,
}

/// Messages by key or unique key, from all brokers of the topic.
///
/// # Errors
/// [`Error::NotFound`] if there are none; [`Error::Call`] if the topic is unknown or a broker does not answer.
pub async fn by_key(cluster: &Cluster, search: &Search<'_>, charset: Charset) -> Result<Messages, Error> {
    let found = stored_by_key(cluster, search).await?;
    let mut messages: Vec<_> = found.iter().flat_map(|body| matching(body, search, charset)).collect();
    messages.sort_by_key(|message| message.store_timestamp);
    if messages.is_empty() {
        let (what, topic) = (if search.query.unique { "unique key" } else { "key" }, search.query.topic);
        return Err(Error::NotFound(format!(
            "topic {topic} has no message with {what} {}",
            search.query.key
        )));
    }
    Ok(Messages { messages })
}

/// The records in the answers of brokers, one body each, including those that only share the hash of the key ([`with_key`]).
///
/// # Errors
/// [`Error::Call`] if the topic is unknown or a broker does not answer.
pub async fn stored_by_key(cluster: &Cluster, search: &Search<'_>) -> Result<Vec<Bytes>, Error> {
    let mut brokers = cluster.brokers_with(search.query.topic, search.cluster).await?;
    let has_route = brokers.iter().any(|broker| Some(broker.cluster.as_str()) == search.cluster);
    brokers.retain(|broker| !has_route || Some(broker.cluster.as_str()) == search.cluster);
    let mut found = Vec::new();
    for broker in brokers {
        found.push(cluster.client().find(&broker.address, &search.query).await?);
    }
    Ok(found)
}

fn matching(body: &Bytes, search: &Search<'_>, charset: Charset) -> Vec<Found> {
    with_key(body, &search.query).map(|record| Found::new(&record, charset)).collect()
}

/// The records in an answer of [`stored_by_key`] that have the key.
pub fn with_key<'a>(body: &'a Bytes, query: &KeyQuery<'a>) -> impl Iterator<Item = Record<'a>> {
    let found = records(body).filter_map(Result::ok);
    found.filter(move |record| matches(record, query))
}

/// Indexes have only hashes, so a broker may answer with messages of other keys.
fn matches(record: &Record<'_>, query: &KeyQuery<'_>) -> bool {
    let indexed = Indexed::of(record.properties);
    if query.unique {
        indexed.uniq_key == query.key
    } else {
        record.topic == query.topic && indexed.keys.split(' ').any(|key| key == query.key)
    }
}

/// The message with an offset id or a unique key.
///
/// # Errors
/// [`Error`] as in [`by_key`]; the broker that an offset id names cannot be reached or has no message there.
pub async fn by_id(cluster: &Cluster, topic: &str, msg_id: &str, via: Option<&str>, charset: Charset) -> Result<Found, Error> {
    let stored = stored_by_id(cluster, topic, msg_id, via).await?;
    Ok(Found::new(&first(&stored)?, charset))
}

/// The record of [`by_id`].
pub(crate) async fn stored_by_id(cluster: &Cluster, topic: &str, msg_id: &str, via: Option<&str>) -> Result<Bytes, Error> {
    // A unique key has as many digits as an offset id, but the digits of the port are usually not a port.
    if id::parse_offset_id(msg_id).is_some() {
        return match cluster.client().view(msg_id, Some(topic)).await {
            Ok(body) => Ok(body),
            // It was a unique key.
            Err(error) => match stored_by_unique_key(cluster, topic, msg_id, via).await {
                Ok(body) => Ok(body),
                Err(_) => Err(error.into()),
            },
        };
    }
    stored_by_unique_key(cluster, topic, msg_id, via).await
}

/// The record of [`by_id`], from the brokers of its topic only: an offset id names any address, and none is connected to.
///
/// # Errors
/// [`Error::NotFound`] if none has it; [`Error::Call`] if the topic is unknown or a broker does not answer.
pub async fn stored_in_topic(cluster: &Cluster, topic: &str, msg_id: &str) -> Result<Bytes, Error> {
    if let Some((_, offset)) = id::parse_offset_id(msg_id) {
        for broker in cluster.brokers_with(topic, None).await? {
            // A refusal: this broker has no record there.
            let Ok(body) = cluster.client().view_at(&broker.address, offset.0, Some(topic)).await else {
                continue;
            };
            let is_it = first(&body).is_ok_and(|record| {
                record.topic == topic && id::offset_id(record.store_host, record.log_offset).eq_ignore_ascii_case(msg_id)
            });
            if is_it {
                return Ok(body);
            }
        }
    }
    stored_by_unique_key(cluster, topic, msg_id, None).await
}

async fn stored_by_unique_key(cluster: &Cluster, topic: &str, key: &str, via: Option<&str>) -> Result<Bytes, Error> {
    let query = KeyQuery::unique_key(topic, key);
    let search = Search { query, cluster: via };
    for body in stored_by_key(cluster, &search).await? {
        let mut start = 0;
        for record in records(&body).map_while(Result::ok) {
            let end = start + record.size;
            if matches(&record, &search.query) {
                return Ok(body.slice(start..end));
            }
            start = end;
        }
    }
    Err(Error::NotFound(format!("topic {topic} has no message with id {key}")))
}

/// The first record of an answer.
///
/// # Errors
/// [`Error::NotFound`] if there is none; [`Error::Call`] if it is damaged.
pub fn first(body: &Bytes) -> Result<Record<'_>, Error> {
    let record = records(body).next();
    Ok(record.ok_or_else(|| Error::NotFound("the broker has no message there".to_owned()))??)
}

/// The message at an offset of a queue.
///
/// # Errors
/// [`Error::NotFound`] if there is none; [`Error`] if the broker is unknown or does not answer.
pub async fn by_offset(cluster: &Cluster, topic: &str, broker: &str, queue_id: i32, offset: i64, charset: Charset) -> Result<Found, Error> {
    let queue = cluster.queue(topic, broker, queue_id).await?;
    let options = PullOptions {
        max_messages: 1,
        ..PullOptions::default()
    };
    let pulled = Puller::new(cluster.client(), TOOLS_GROUP).pull(&queue, offset, &options).await?;
    if pulled.outcome == Outcome::Found {
        let record = pulled.records().next().transpose()?;
        if let Some(record) = record.filter(|record| record.queue_offset.0 == offset) {
            return Ok(Found::new(&record, charset));
        }
    }
    Err(Error::NotFound(format!(
        "queue {queue_id} of {topic} at {broker} has no message with offset {offset}; it has offsets from {} on, below {}",
        pulled.min_offset, pulled.max_offset
    )))
}

/// Entries of a consume queue from an offset on, at the broker with an address or the first broker of the topic.
///
/// # Errors
/// [`Error`] if the topic is unknown, or the broker refuses or does not answer.
pub async fn entries(cluster: &Cluster, broker: Option<&str>, header: &QueryConsumeQueueHeader<'_>) -> Result<ConsumeQueueEntries, Error> {
    let address = match broker {
        Some(address) => address.to_owned(),
        None => {
            let brokers = cluster.brokers_with(header.topic, None).await?;
            let first = brokers.into_iter().next();
            first
                .ok_or_else(|| Error::NotFound(format!("no broker has topic {}", header.topic)))?
                .address
        }
    };
    Ok(cluster.client().queue_entries(&address, header).await?)
}

/// Tells a connected consumer to consume a message now.
///
/// # Errors
/// [`Error`] if the message is not found, or the consumer is unknown or is a pull consumer.
pub async fn push(
    cluster: &Cluster,
    topic: &str,
    msg_id: &str,
    via: Option<&str>,
    group: &str,
    client_id: &str,
) -> Result<ConsumeDirectlyReply, Error> {
    let stored = stored_by_id(cluster, topic, msg_id, via).await?;
    let record = first(&stored)?;
    let address = record.store_host.to_string();
    let info = cluster.client().running_info(&address, group, client_id, false).await?;
    if !clients::is_push(&info) {
        let code = i32::from(ResponseCode::ConsumerNotOnline);
        return Err(Error::Invalid(format!(
            "client {client_id} has no listener (it pulls), so nothing can be pushed to it ({code})"
        )));
    }
    consume_at(cluster, &address, &record, group, client_id).await
}

/// [`push`] of a record of [`stored_in_topic`], through the broker that has the record.
///
/// # Errors
/// [`Error::NotFound`] if the consumer is not connected; [`Error::Call`] if it does not answer or cannot consume on demand.
pub async fn consume(cluster: &Cluster, record: &Record<'_>, group: &str, client_id: &str) -> Result<ConsumeDirectlyReply, Error> {
    clients::broker_of(cluster, group, client_id).await?;
    let brokers = cluster.brokers_with(record.topic, None).await?;
    let stored_at = record.store_host.to_string();
    let broker = brokers.iter().find(|broker| broker.address == stored_at).or(brokers.first());
    let broker = broker.ok_or_else(|| Error::NotFound(format!("no broker has topic {}", record.topic)))?;
    consume_at(cluster, &broker.address, record, group, client_id).await
}

async fn consume_at(
    cluster: &Cluster,
    address: &str,
    record: &Record<'_>,
    group: &str,
    client_id: &str,
) -> Result<ConsumeDirectlyReply, Error> {
    let offset_id = id::offset_id(record.store_host, record.log_offset);
    let header = ConsumeDirectlyHeader {
        consumer_group: group,
        client_id: Some(client_id),
        msg_id: Some(&offset_id),
        broker_name: None,
        topic: Some(record.topic),
        topic_sys_flag: None,
        group_sys_flag: None,
    };
    Ok(cluster.client().consume_directly(address, &header).await?)
}
