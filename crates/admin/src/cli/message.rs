//! Verbs for finding and reading messages.

use std::collections::BTreeMap;

use clap::Args;
use client::{KeyQuery, Queue};
use message::names;
use protocol::diagnose::QueryConsumeQueueHeader;

use super::flags::{boolean, name, print_steps, timestamp_ms};
use super::out::Out;
use crate::message::body::Charset;
use crate::message::query::{self, Search};
use crate::message::read::{QueueReader, ReadOptions, Span};
use crate::message::{Found, send, trace, track, transaction};
use crate::show::MessageLine;
use crate::{Cluster, Error};

/// Maximum number of messages of one unique key.
const MAX_PER_UNIQUE_KEY: i32 = 32;

/// Show messages by id: offset id or unique key
#[derive(Debug, Args)]
pub(super) struct QueryMsgById {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Ids, separated by commas
    #[arg(short = 'i', long = "msgId", value_name = "ID,ID", value_delimiter = ',', required = true, value_parser = name)]
    ids: Vec<String>,
    /// With -d: tell a consumer of this group to consume the messages now
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP", value_parser = name, requires = "client")]
    group: Option<String>,
    /// Id of that consumer
    #[arg(short = 'd', long = "clientId", value_name = "CLIENT", value_parser = name, requires = "group")]
    client: Option<String>,
    /// Send the messages again
    #[arg(short = 's', long = "sendMessage", value_name = "BOOL", value_parser = boolean)]
    resend: Option<bool>,
    /// Accepted for compatibility with mqadmin, where it only names the sending client
    #[arg(short = 'u', long = "unitName", value_name = "UNIT")]
    unit: Option<String>,
    /// How to show bodies: UTF-8, ISO-8859-1 or hex
    #[arg(short = 'f', long = "bodyFormat", value_name = "CHARSET", default_value = "UTF-8")]
    charset: Charset,
    /// Only brokers of this cluster; for light message queues the topic that has the route
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER", value_parser = name)]
    cluster: Option<String>,
}

impl QueryMsgById {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let via = self.cluster.as_deref();
        for id in &self.ids {
            match (&self.group, &self.client, self.resend) {
                (Some(group), Some(client), _) => {
                    out.emit_apart(&query::push(cluster, &self.topic, id, via, group, client).await?)?;
                }
                (.., Some(true)) => out.emit_apart(&send::resend(cluster, &self.topic, id, via).await?)?,
                _ => {
                    let found = query::by_id(cluster, &self.topic, id, via, self.charset).await?;
                    out.emit_apart(&tracked(cluster, found, via).await?)?;
                }
            }
        }
        Ok(())
    }
}

async fn tracked(cluster: &Cluster, mut found: Found, via: Option<&str>) -> Result<Found, Error> {
    found.tracks = Some(track::tracks(cluster, &found, via).await?);
    Ok(found)
}

/// Store times of a query by key.
#[derive(Debug, Args)]
struct Times {
    /// Stored from this time on
    #[arg(short = 'b', long = "beginTimestamp", value_name = "TIME", value_parser = timestamp_ms, default_value = "0")]
    begin: i64,
    /// Stored up to this time [default: any]
    #[arg(short = 'e', long = "endTimestamp", value_name = "TIME", value_parser = timestamp_ms)]
    end: Option<i64>,
}

impl Times {
    /// The query for these times.
    fn of<'a>(&self, query: KeyQuery<'a>) -> KeyQuery<'a> {
        KeyQuery {
            begin: self.begin,
            end: self.end.unwrap_or(query.end),
            ..query
        }
    }
}

/// List messages by key
#[derive(Debug, Args)]
pub(super) struct QueryMsgByKey {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// The key
    #[arg(short = 'k', long = "msgKey", value_name = "KEY", value_parser = name)]
    key: String,
    #[command(flatten)]
    times: Times,
    /// Maximum number of messages per broker
    #[arg(short = 'm', long = "maxNum", value_name = "COUNT", default_value_t = 64)]
    max: i32,
    /// Only brokers of this cluster; for light message queues the topic that has the route
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER", value_parser = name)]
    cluster: Option<String>,
}

impl QueryMsgByKey {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let query = KeyQuery {
            max: self.max,
            ..self.times.of(KeyQuery::key(&self.topic, &self.key))
        };
        let search = Search {
            query,
            cluster: self.cluster.as_deref(),
        };
        out.emit(&query::by_key(cluster, &search, Charset::default()).await?)
    }
}

/// Show messages by unique key, the id that producers know
#[derive(Debug, Args)]
pub(super) struct QueryMsgByUniqueKey {
    /// The unique key
    #[arg(short = 'i', long = "msgId", value_name = "ID", value_parser = name)]
    id: String,
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// With -d: tell a consumer of this group to consume the message now
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP", value_parser = name, requires = "client")]
    group: Option<String>,
    /// Id of that consumer
    #[arg(short = 'd', long = "clientId", value_name = "CLIENT", value_parser = name, requires = "group")]
    client: Option<String>,
    /// Show up to 32 messages with that key, not only the oldest
    #[arg(short = 'a', long = "showAll")]
    all: bool,
    /// Only brokers of this cluster; for light message queues the topic that has the route
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER", value_parser = name)]
    cluster: Option<String>,
}

impl QueryMsgByUniqueKey {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let via = self.cluster.as_deref();
        if let (Some(group), Some(client)) = (&self.group, &self.client) {
            return out.emit(&query::push(cluster, &self.topic, &self.id, via, group, client).await?);
        }
        let query = KeyQuery {
            max: MAX_PER_UNIQUE_KEY,
            ..KeyQuery::unique_key(&self.topic, &self.id)
        };
        let found = query::by_key(cluster, &Search { query, cluster: via }, Charset::default()).await?;
        let shown = if self.all { found.messages.len() } else { 1 };
        for message in found.messages.into_iter().take(shown) {
            out.emit_apart(&tracked(cluster, message, via).await?)?;
        }
        Ok(())
    }
}

/// Show the message at an offset of a queue
#[derive(Debug, Args)]
pub(super) struct QueryMsgByOffset {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Name of the broker
    #[arg(short = 'b', long = "brokerName", value_name = "BROKER", value_parser = name)]
    broker: String,
    /// Queue id
    #[arg(short = 'i', long = "queueId", value_name = "QUEUE")]
    queue: i32,
    /// Offset in the queue
    #[arg(short = 'o', long = "offset", value_name = "OFFSET")]
    offset: i64,
    /// How to show the body: UTF-8, ISO-8859-1 or hex
    #[arg(short = 'f', long = "bodyFormat", value_name = "CHARSET", default_value = "UTF-8")]
    charset: Charset,
}

impl QueryMsgByOffset {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let found = query::by_offset(cluster, &self.topic, &self.broker, self.queue, self.offset, self.charset).await?;
        out.emit(&tracked(cluster, found, None).await?)
    }
}

/// Show a message's trace: its sends and consumptions with times
#[derive(Debug, Args)]
pub(super) struct QueryMsgTraceById {
    /// Unique key of the message
    #[arg(short = 'i', long = "msgId", value_name = "ID", value_parser = name)]
    id: String,
    /// The trace topic
    #[arg(short = 't', long = "traceTopic", value_name = "TOPIC", value_parser = name, default_value = names::TRACE_TOPIC)]
    topic: String,
    #[command(flatten)]
    times: Times,
    /// Maximum number of trace messages per broker
    #[arg(short = 'c', long = "maxNum", value_name = "COUNT", default_value_t = 64)]
    max: i32,
}

impl QueryMsgTraceById {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let query = KeyQuery {
            max: self.max,
            ..self.times.of(KeyQuery::key(&self.topic, &self.id))
        };
        out.emit(&trace::by_id(cluster, query).await?)
    }
}

/// Have a message in TRANS_CHECK_MAX_TIME_TOPIC checked again: its producer is asked how the transaction ended
#[derive(Debug, Args)]
pub(super) struct ResumeCheckHalfMessage {
    /// Offset id of the message
    #[arg(short = 'i', long = "msgId", value_name = "ID", value_parser = name)]
    id: String,
}

impl ResumeCheckHalfMessage {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        print_steps(out, &transaction::resume_check(cluster, &self.id).await?)
    }
}

/// Show raw entries of a consume queue
#[derive(Debug, Args)]
pub(super) struct QueryCq {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Queue id
    #[arg(short = 'q', long = "queue", value_name = "QUEUE")]
    queue: i32,
    /// Offset of the first entry
    #[arg(short = 'i', long = "index", value_name = "OFFSET")]
    index: i64,
    /// Number of entries
    #[arg(short = 'c', long = "count", value_name = "COUNT", default_value_t = 10)]
    count: i32,
    /// Address of the broker [default: the first that has the topic]
    #[arg(short = 'b', long = "broker", value_name = "HOST:PORT", value_parser = name)]
    broker: Option<String>,
    /// Group whose filter is evaluated
    #[arg(short = 'g', long = "consumer", value_name = "GROUP", value_parser = name)]
    group: Option<String>,
}

impl QueryCq {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let header = QueryConsumeQueueHeader {
            topic: &self.topic,
            queue_id: self.queue,
            index: self.index,
            count: self.count,
            consumer_group: self.group.as_deref(),
        };
        out.emit(&query::entries(cluster, self.broker.as_deref(), &header).await?)
    }
}

/// Which messages of a queue are read, and how their bodies are shown.
#[derive(Debug, Args)]
struct Selection {
    /// How to show bodies: UTF-8, ISO-8859-1 or hex
    #[arg(short = 'c', long = "charsetName", value_name = "CHARSET", default_value = "UTF-8")]
    charset: Charset,
    /// Only these tags: A || B
    #[arg(short = 's', long = "subExpression", value_name = "TAGS", default_value = "*")]
    filter: String,
    /// Stored from this time on
    #[arg(short = 'b', long = "beginTimestamp", value_name = "TIME", value_parser = timestamp_ms)]
    begin: Option<i64>,
    /// Stored before this time
    #[arg(short = 'e', long = "endTimestamp", value_name = "TIME", value_parser = timestamp_ms)]
    end: Option<i64>,
}

impl Selection {
    fn read_options(&self) -> ReadOptions {
        ReadOptions {
            filter: self.filter.clone(),
            charset: self.charset,
            ..ReadOptions::default()
        }
    }

    fn span(&self) -> Span {
        Span {
            begin: self.begin,
            end: self.end,
            from: None,
        }
    }
}

/// Print a topic's messages
#[derive(Debug, Args)]
pub(super) struct PrintMsg {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    #[command(flatten)]
    selection: Selection,
    /// Whether to show bodies [default: true]
    #[arg(short = 'd', long = "printBody", value_name = "BOOL", value_parser = boolean)]
    bodies: Option<bool>,
    /// For light message queues: the topic that has the route
    #[arg(short = 'l', long = "lmqParentTopic", value_name = "TOPIC", value_parser = name)]
    via: Option<String>,
}

impl PrintMsg {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let (span, read_options) = (self.selection.span(), self.selection.read_options());
        for queue in cluster.queues(&self.topic, self.via.as_deref()).await? {
            let mut reader = QueueReader::open(cluster, queue, span, &read_options).await?;
            print_all(&mut reader, out, self.bodies.unwrap_or(true)).await?;
        }
        Ok(())
    }
}

async fn print_all(reader: &mut QueueReader, out: &mut Out, bodies: bool) -> Result<(), Error> {
    while let Some(batch) = reader.next().await? {
        for found in batch {
            out.emit(&MessageLine(if bodies { found } else { found.without_body() }))?;
        }
    }
    Ok(())
}

/// Print or count a queue's messages
#[derive(Debug, Args)]
pub(super) struct PrintMsgByQueue {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Name of the broker
    #[arg(short = 'a', long = "brokerName", value_name = "BROKER", value_parser = name)]
    broker: String,
    /// Queue id
    #[arg(short = 'i', long = "queueId", value_name = "QUEUE")]
    queue: i32,
    #[command(flatten)]
    selection: Selection,
    /// Print the messages, not only their number [default: false]
    #[arg(short = 'p', long = "printMsg", value_name = "BOOL", value_parser = boolean)]
    print: Option<bool>,
    /// Whether to show bodies [default: false]
    #[arg(short = 'd', long = "printBody", value_name = "BOOL", value_parser = boolean)]
    bodies: Option<bool>,
    /// Count the messages of each tag [default: false]
    #[arg(short = 'f', long = "calculate", value_name = "BOOL", value_parser = boolean)]
    calculate: Option<bool>,
}

impl PrintMsgByQueue {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        let (span, read_options) = (self.selection.span(), self.selection.read_options());
        let queue = cluster.queue(&self.topic, &self.broker, self.queue).await?;
        let mut reader = QueueReader::open(cluster, queue, span, &read_options).await?;
        let mut tags: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(batch) = reader.next().await? {
            for found in batch {
                if let Some(tag) = &found.tags {
                    *tags.entry(tag.clone()).or_default() += 1;
                }
                if self.print == Some(true) {
                    out.emit(&MessageLine(if self.bodies == Some(true) { found } else { found.without_body() }))?;
                }
            }
        }
        out.emit(&reader.done((self.calculate == Some(true)).then_some(tags)))
    }
}

/// Print the oldest messages of a topic or a queue, without committing offsets
#[derive(Debug, Args)]
pub(super) struct ConsumeMessage {
    /// Name of the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = name)]
    topic: String,
    /// Name of a broker
    #[arg(short = 'b', long = "brokerName", value_name = "BROKER", value_parser = name, requires = "queue")]
    broker: Option<String>,
    /// A queue id of that broker
    #[arg(short = 'i', long = "queueId", value_name = "QUEUE", requires = "broker")]
    queue: Option<i32>,
    /// First offset of the queue
    #[arg(short = 'o', long = "offset", value_name = "OFFSET", requires = "queue")]
    offset: Option<i64>,
    /// Group to pull with
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP", value_parser = name, default_value = crate::message::TOOLS_GROUP)]
    group: String,
    /// Stored from this time on
    #[arg(short = 's', long = "beginTimestamp", value_name = "TIME", value_parser = timestamp_ms)]
    begin: Option<i64>,
    /// Stored before this time
    #[arg(short = 'e', long = "endTimestamp", value_name = "TIME", value_parser = timestamp_ms)]
    end: Option<i64>,
    /// Maximum number of messages
    #[arg(short = 'c', long = "MessageNumber", value_name = "COUNT", default_value_t = 128, value_parser = clap::value_parser!(i64).range(1..))]
    count: i64,
}

impl ConsumeMessage {
    pub(super) async fn run(&self, cluster: &Cluster, out: &mut Out) -> Result<(), Error> {
        if let (Some(begin), Some(end)) = (self.begin, self.end)
            && begin > end
        {
            return Err(Error::Invalid("the start (-s) is after the end (-e)".to_owned()));
        }
        let read_options = ReadOptions {
            group: self.group.clone(),
            ..ReadOptions::default()
        };
        let span = Span {
            begin: self.begin,
            end: self.end,
            from: self.offset,
        };
        let mut left = self.count;
        for queue in self.queues(cluster).await? {
            let mut reader = QueueReader::open(cluster, queue, span, &read_options).await?;
            reader.limit(left);
            left -= reader.left();
            print_all(&mut reader, out, true).await?;
            if left <= 0 {
                break;
            }
        }
        Ok(())
    }

    async fn queues(&self, cluster: &Cluster) -> Result<Vec<Queue>, Error> {
        match (&self.broker, self.queue) {
            (Some(broker), Some(id)) => Ok(vec![cluster.queue(&self.topic, broker, id).await?]),
            _ => cluster.queues(&self.topic, None).await,
        }
    }
}
