//! Where the load goes: the topic's queues, found or created before a run begins.

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

/// How often to ask for the route of a topic that was just created, and the pause between.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Calls before and after the load itself.
pub(super) struct Place {
    client: Client,
    runtime: Runtime,
    /// At least one.
    topics: Vec<String>,
}

/// A broker and the queues there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) address: Arc<str>,
    pub(super) queues: Vec<Queue>,
}

impl Place {
    pub(super) fn new(target: &Target) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::new)?;
        Ok(Self {
            client: Client::new(Options::new(lookup(target)?)),
            runtime,
            topics: vec![target.topic.clone()],
        })
    }

    /// The load goes to so many topics: the target's name with a number, if there are several.
    pub(super) fn with_topics(mut self, count: u32) -> Self {
        if count > 1 {
            let name = self.topics.swap_remove(0);
            self.topics = (0..count).map(|number| format!("{name}_{number}")).collect();
        }
        self
    }

    /// The queues to write, by broker. A topic that is there is used as it is; one that is not is created.
    pub(super) fn found_or_created(&self, queues: i32) -> Result<Vec<Share>, Failure> {
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
    pub(super) fn found(&self) -> Result<Vec<Queue>, Failure> {
        let mut found = Vec::new();
        for topic in &self.topics {
            found.extend(self.runtime.block_on(self.client.route(topic)).map_err(Failure::new)?.read);
        }
        Ok(found)
    }

    /// A queue's lowest offset and its end.
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
        Err(Failure::new(format!("topic {topic} was created, but no route to it appeared")))
    }

    /// The given broker, or all masters the name servers know.
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
        (None, None) => Err(Failure::new("--broker or --namesrv is needed")),
    }
}

fn shares(queues: &[Queue]) -> Vec<Share> {
    let mut by_address = BTreeMap::<Arc<str>, Vec<Queue>>::new();
    for queue in queues {
        by_address.entry(queue.address.clone()).or_default().push(queue.clone());
    }
    by_address.into_iter().map(|(address, queues)| Share { address, queues }).collect()
}

/// Connects to the brokers in turn; the place of a socket modulo the brokers says to which.
pub(super) fn connect(shares: &[Share], connections: u32) -> Result<Vec<Socket>, Failure> {
    let addresses = shares.iter().map(|share| &share.address).cycle();
    addresses
        .take(connections as usize)
        .map(|address| Socket::connect(address))
        .collect()
}

/// Most readers that nobody asked for: a route may name many queues, and each reader is a connection and a thread.
const MOST_READERS: usize = 1_024;

/// Deals queues out to readers: a reader has one connection, so queues of one broker only.
pub(super) fn deal(queues: &[Queue], readers: Option<u32>) -> Vec<Vec<Queue>> {
    let brokers = shares(queues);
    let readers = readers.map_or(queues.len().min(MOST_READERS), |count| count as usize);
    let per_broker = readers.div_ceil(brokers.len().max(1)).max(1);
    let mut hands = Vec::new();
    for broker in &brokers {
        let count = per_broker.min(broker.queues.len());
        hands.extend((0..count).map(|hand| broker.queues.iter().skip(hand).step_by(count).cloned().collect()));
    }
    hands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(address: &str, ids: std::ops::Range<i32>) -> Vec<Queue> {
        ids.map(|id| Queue::at(address, "t", id)).collect()
    }

    fn ids(hands: &[Vec<Queue>]) -> Vec<Vec<i32>> {
        hands.iter().map(|hand| hand.iter().map(|queue| queue.id).collect()).collect()
    }

    #[test]
    fn each_queue_has_one_reader_and_each_reader_one_broker() {
        let two = [queues("a:1", 0..3), queues("b:1", 0..3)].concat();
        assert_eq!(ids(&deal(&two, None)), [[0], [1], [2], [0], [1], [2]]);
        assert_eq!(ids(&deal(&two, Some(1))), [[0, 1, 2], [0, 1, 2]]);
        assert_eq!(ids(&deal(&two, Some(4))), [vec![0, 2], vec![1], vec![0, 2], vec![1]]);
        assert_eq!(ids(&deal(&queues("a:1", 0..2), Some(9))), [[0], [1]]);
        assert!(deal(&[], None).is_empty());
        assert_eq!(deal(&queues("a:1", 0..60_000), None).len(), MOST_READERS);
    }
}
