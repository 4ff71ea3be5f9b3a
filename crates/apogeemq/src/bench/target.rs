//! The queues of the topic, looked up or created before a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Error, Lookup, Options, Queue, Route};
use protocol::route::MASTER_ID;
use protocol::topic::TopicConfig;
use tokio::runtime::Runtime;

use super::arguments::Target;
use super::wire::Socket;
use crate::failure::Failure;

/// How often to look up the route of a created topic, and the pause in between.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The target of the load, for calls before and after it.
pub(super) struct LoadTarget {
    client: Client,
    runtime: Runtime,
    /// Topics, at least one.
    topics: Vec<String>,
}

/// A broker and its queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) address: Arc<str>,
    pub(super) queues: Vec<Queue>,
}

impl LoadTarget {
    pub(super) fn new(target: &Target) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::new)?;
        let mut options = Options::new(lookup(target)?);
        options.connector = target.tls.connector().map_err(Failure::new)?;
        Ok(Self {
            client: Client::new(options),
            runtime,
            topics: vec![target.topic.clone()],
        })
    }

    /// Uses this number of topics: the name of the target, with a number if there are several.
    pub(super) fn with_topics(mut self, count: u32) -> Self {
        if count > 1 {
            let name = self.topics.swap_remove(0);
            self.topics = (0..count).map(|number| format!("{name}_{number}")).collect();
        }
        self
    }

    /// The queues to write, by broker. Missing topics are created; existing ones are not changed.
    pub(super) fn find_or_create(&self, queues: i32) -> Result<Vec<Share>, Failure> {
        let mut found = Vec::new();
        for topic in &self.topics {
            let route = self.runtime.block_on(async {
                match self.client.route(topic).await {
                    Err(Error::NoRoute { .. }) => self.created(topic, queues).await,
                    other => other.map_err(Failure::new),
                }
            });
            found.extend(route?.write);
        }
        Ok(shares(&found))
    }

    /// The queues to read, by broker.
    pub(super) fn find(&self) -> Result<Vec<Queue>, Failure> {
        let mut found = Vec::new();
        for topic in &self.topics {
            found.extend(self.runtime.block_on(self.client.route(topic)).map_err(Failure::new)?.read);
        }
        Ok(found)
    }

    /// A connection to a broker.
    pub(super) fn connect(&self, address: &str) -> Result<Socket, Failure> {
        Socket::connect(address, self.client.options().connector.as_deref())
    }

    /// Connects to the brokers in turn: socket n to broker n modulo the number of brokers.
    pub(super) fn connect_all(&self, shares: &[Share], connections: u32) -> Result<Vec<Socket>, Failure> {
        let addresses = shares.iter().map(|share| &share.address).cycle();
        addresses.take(connections as usize).map(|address| self.connect(address)).collect()
    }

    /// The lowest offset of a queue and its end.
    pub(super) fn bounds(&self, queue: &Queue) -> Result<(i64, i64), Failure> {
        self.runtime.block_on(async {
            let min = self.client.min_offset(queue).await.map_err(Failure::new)?;
            let max = self.client.max_offset(queue).await.map_err(Failure::new)?;
            Ok((min, max))
        })
    }

    async fn created(&self, topic: &str, queues: i32) -> Result<Route, Failure> {
        let config = TopicConfig::new(topic, queues);
        let brokers = self.brokers().await.map_err(Failure::new)?;
        for address in &brokers {
            self.client.create_topic(address, &config).await.map_err(Failure::new)?;
        }
        for _ in 0..ATTEMPTS {
            if let Ok(route) = self.client.route(topic).await
                && shares(&route.write).len() == brokers.len()
            {
                return Ok(route);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Failure::new(format!("topic {topic} was created, but has no route")))
    }

    /// The given broker, or all masters of the name servers.
    async fn brokers(&self) -> Result<Vec<String>, Error> {
        if let Lookup::Broker(address) = &self.client.options().lookup {
            return Ok(vec![address.clone()]);
        }
        let cluster = self.client.cluster().await?;
        let masters = cluster
            .broker_addr_table
            .values()
            .filter_map(|broker| broker.broker_addrs.get(&MASTER_ID));
        Ok(masters.cloned().collect())
    }
}

fn lookup(target: &Target) -> Result<Lookup, Failure> {
    match (&target.broker, &target.namesrv) {
        (Some(broker), _) => Ok(Lookup::Broker(broker.clone())),
        (None, Some(servers)) => Ok(Lookup::NameServers(
            servers
                .split(';')
                .map(str::trim)
                .filter(|server| !server.is_empty())
                .map(str::to_owned)
                .collect(),
        )),
        (None, None) => Err(Failure::new("--broker or --namesrv is required")),
    }
}

fn shares(queues: &[Queue]) -> Vec<Share> {
    let mut by_address = BTreeMap::<Arc<str>, Vec<Queue>>::new();
    for queue in queues {
        by_address.entry(queue.address.clone()).or_default().push(queue.clone());
    }
    by_address.into_iter().map(|(address, queues)| Share { address, queues }).collect()
}

/// Maximum default number of readers: a topic may have many queues, and each reader is a connection and a thread.
const MAX_DEFAULT_READERS: usize = 1_024;

/// Distributes queues to readers. A reader has one connection, so its queues are of one broker.
pub(super) fn distribute(queues: &[Queue], readers: Option<u32>) -> Vec<Vec<Queue>> {
    let brokers = shares(queues);
    let readers = readers.map_or(queues.len().min(MAX_DEFAULT_READERS), |count| count as usize);
    let per_broker = readers.div_ceil(brokers.len().max(1)).max(1);
    let mut assigned = Vec::new();
    for broker in &brokers {
        let count = per_broker.min(broker.queues.len());
        assigned.extend((0..count).map(|queues_of_reader| broker.queues.iter().skip(queues_of_reader).step_by(count).cloned().collect()));
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(address: &str, ids: std::ops::Range<i32>) -> Vec<Queue> {
        ids.map(|id| Queue::at(address, "t", id)).collect()
    }

    fn ids(assigned: &[Vec<Queue>]) -> Vec<Vec<i32>> {
        assigned
            .iter()
            .map(|queues_of_reader| queues_of_reader.iter().map(|queue| queue.id).collect())
            .collect()
    }

    #[test]
    fn each_queue_has_one_reader_and_each_reader_one_broker() {
        let two = [queues("a:1", 0..3), queues("b:1", 0..3)].concat();
        assert_eq!(ids(&distribute(&two, None)), [[0], [1], [2], [0], [1], [2]]);
        assert_eq!(ids(&distribute(&two, Some(1))), [[0, 1, 2], [0, 1, 2]]);
        assert_eq!(ids(&distribute(&two, Some(4))), [vec![0, 2], vec![1], vec![0, 2], vec![1]]);
        assert_eq!(ids(&distribute(&queues("a:1", 0..2), Some(9))), [[0], [1]]);
        assert!(distribute(&[], None).is_empty());
        assert_eq!(distribute(&queues("a:1", 0..60_000), None).len(), MAX_DEFAULT_READERS);
    }
}
