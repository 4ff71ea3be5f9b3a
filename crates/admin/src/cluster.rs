//! From names to addresses: name servers, clusters, brokers, topics.

use std::time::Duration;

use client::{Client, Lookup, Options, Queue, Route};
use message::names;
use protocol::route::{BrokerData, ClusterInfo, MASTER_ID, QueueData, TopicRoute};
use protocol::topic::TopicConfig;
use protocol::{Frame, ResponseCode};
use serde::Serialize;

use crate::Error;

/// Prefix of light message queues, which have no route of their own.
const LMQ_PREFIX: &str = "%LMQ%";
/// Topic of timer messages, which has no route of its own either.
const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";

/// The clusters of a set of name servers, or one broker, and connections to their servers.
pub struct Cluster {
    client: Client,
    /// The only broker, if no name server is asked.
    only: Option<Broker>,
}

/// One broker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    /// Its cluster.
    pub cluster: String,
    /// Its name, which its replicas share.
    pub name: String,
    /// Broker id; 0 is the master.
    pub id: i64,
    /// `host:port`.
    pub address: String,
}

/// The target of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The broker at this address.
    Broker(String),
    /// Every broker of this cluster.
    Cluster(String),
}

impl Cluster {
    /// The clusters of these name servers. Sends no request yet. `timeout` applies to each answer.
    pub fn new<A: Into<String>>(name_servers: impl IntoIterator<Item = A>, timeout: Duration) -> Self {
        let mut options = Options::with_name_servers(name_servers);
        options.request_timeout = timeout;
        Self::over(options)
    }

    /// The clusters of these options. Sends no request yet.
    pub fn over(options: Options) -> Self {
        Self {
            client: Client::new(options),
            only: None,
        }
    }

    /// A cluster that has only this broker, which is asked for its topics; no name server is needed. Sends no request yet. The options'
    /// lookup is replaced.
    pub fn of_broker(broker: Broker, options: Options) -> Self {
        let lookup = Lookup::Broker(broker.address.clone());
        Self {
            client: Client::new(Options { lookup, ..options }),
            only: Some(broker),
        }
    }

    /// The only broker of [`Cluster::of_broker`].
    pub fn only_broker(&self) -> Option<&Broker> {
        self.only.as_ref()
    }

    /// Its client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same clusters with another time-out.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let mut options = self.client.options().clone();
        options.request_timeout = timeout;
        Self {
            client: Client::new(options),
            only: self.only.clone(),
        }
    }

    /// `host:port` of each name server.
    pub fn name_servers(&self) -> &[String] {
        self.client.name_servers()
    }

    /// All brokers of all clusters, by cluster, name and id.
    ///
    /// # Errors
    /// [`Error::Call`] if no name server answers.
    pub async fn brokers(&self) -> Result<Vec<Broker>, Error> {
        if let Some(only) = &self.only {
            return Ok(vec![only.clone()]);
        }
        Ok(brokers_of(&self.client.cluster().await?))
    }

    /// The brokers of one cluster, including replicas.
    ///
    /// # Errors
    /// [`Error::NoCluster`], or [`Error::Call`] if no name server answers.
    pub async fn members(&self, cluster: &str) -> Result<Vec<Broker>, Error> {
        if let Some(only) = &self.only {
            return match only.cluster == cluster {
                true => Ok(vec![only.clone()]),
                false => Err(Error::NoCluster {
                    name: cluster.to_owned(),
                    known: vec![only.cluster.clone()],
                }),
            };
        }
        let info = self.client.cluster().await?;
        if !info.cluster_addr_table.contains_key(cluster) {
            return Err(Error::NoCluster {
                name: cluster.to_owned(),
                known: info.cluster_addr_table.into_keys().collect(),
            });
        }
        let mut brokers = brokers_of(&info);
        brokers.retain(|broker| broker.cluster == cluster);
        Ok(brokers)
    }

    /// The masters of one cluster, or of all.
    ///
    /// # Errors
    /// [`Error`] as in [`Cluster::members`]; [`Error::NotFound`] if there is none.
    pub async fn masters(&self, cluster: Option<&str>) -> Result<Vec<Broker>, Error> {
        let mut brokers = match cluster {
            Some(cluster) => self.members(cluster).await?,
            None => self.brokers().await?,
        };
        brokers.retain(|broker| broker.id == MASTER_ID);
        if brokers.is_empty() {
            let place = cluster.map_or_else(String::new, |cluster| format!(" in cluster {cluster}"));
            return Err(Error::NotFound(format!("no master is registered{place}")));
        }
        Ok(brokers)
    }

    /// Addresses of the masters at a target; the address of a broker is not checked.
    ///
    /// # Errors
    /// [`Error`] as in [`Cluster::masters`].
    pub async fn masters_at(&self, target: &Target) -> Result<Vec<String>, Error> {
        match target {
            Target::Broker(address) => Ok(vec![address.clone()]),
            Target::Cluster(cluster) => Ok(addresses(self.masters(Some(cluster)).await?)),
        }
    }

    /// Addresses of all brokers at a target, including replicas.
    ///
    /// # Errors
    /// [`Error`] as in [`Cluster::members`].
    pub async fn members_at(&self, target: &Target) -> Result<Vec<String>, Error> {
        match target {
            Target::Broker(address) => Ok(vec![address.clone()]),
            Target::Cluster(cluster) => Ok(addresses(self.members(cluster).await?)),
        }
    }

    /// The address of the master with this name.
    ///
    /// # Errors
    /// [`Error::NoBroker`], or [`Error::Call`] if no name server answers.
    pub async fn master_named(&self, name: &str) -> Result<String, Error> {
        let brokers = self.brokers().await?;
        let master = brokers.iter().find(|broker| broker.name == name && broker.id == MASTER_ID);
        master.map(|broker| broker.address.clone()).ok_or_else(|| {
            let mut known: Vec<_> = brokers.iter().map(|broker| broker.name.clone()).collect();
            known.dedup();
            Error::NoBroker {
                name: name.to_owned(),
                known,
            }
        })
    }

    /// The name of the broker at an address.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Call`] if no name server answers.
    pub async fn name_of(&self, address: &str) -> Result<String, Error> {
        let found = self.brokers().await?.into_iter().find(|broker| broker.address == address);
        found
            .map(|broker| broker.name)
            .ok_or_else(|| Error::NotFound(format!("the name server knows no broker at {address}")))
    }

    /// The route of a topic. `via` names the topic whose route is used for topics without a route (light message queues, timers).
    ///
    /// # Errors
    /// [`Error::Call`] if the topic is unknown or no name server answers.
    pub async fn route(&self, topic: &str, via: Option<&str>) -> Result<TopicRoute, Error> {
        let asked = via.filter(|_| has_no_route(topic)).unwrap_or(topic);
        let found = match &self.only {
            Some(only) => self
                .client
                .topic_config(&only.address, asked)
                .await
                .map(|config| route_at(only, &config)),
            None => self.client.topic_route(asked).await,
        };
        match found {
            Ok(route) => Ok(route),
            Err(error) if error.code() == Some(ResponseCode::TopicNotExist.into()) => Err(Error::Call(client::Error::NoRoute {
                topic: asked.to_owned(),
                reason: match &self.only {
                    Some(only) => format!("broker {} does not have it", only.name),
                    None => "the name server knows no broker that has it".to_owned(),
                },
            })),
            Err(error) => Err(error.into()),
        }
    }

    /// One address of each broker that has the topic: its master, otherwise a replica.
    ///
    /// # Errors
    /// [`Error`] as in [`Cluster::route`].
    pub async fn brokers_with(&self, topic: &str, via: Option<&str>) -> Result<Vec<Broker>, Error> {
        let route = self.route(topic, via).await?;
        Ok(route.broker_datas.iter().filter_map(readable).collect())
    }

    /// The readable queues of a topic, by broker name and queue id.
    ///
    /// # Errors
    /// [`Error`] as in [`Cluster::route`].
    pub async fn queues(&self, topic: &str, via: Option<&str>) -> Result<Vec<Queue>, Error> {
        let route = self.route(topic, via).await?;
        Ok(Route::of(topic, &route)?.read)
    }

    /// One queue, by its broker's name.
    ///
    /// # Errors
    /// [`Error`] as in [`Cluster::master_named`].
    pub async fn queue(&self, topic: &str, broker: &str, id: i32) -> Result<Queue, Error> {
        let at = Queue::at(&self.master_named(broker).await?, topic, id);
        Ok(Queue {
            broker: broker.into(),
            ..at
        })
    }

    /// The brokers of a group: those with its retry topic, otherwise those with `topic`, otherwise all masters.
    ///
    /// # Errors
    /// [`Error`] as in [`Cluster::masters`].
    pub async fn brokers_of_group(&self, group: &str, topic: Option<&str>) -> Result<Vec<Broker>, Error> {
        let retry = names::retry_topic(group);
        for candidate in [Some(retry.as_str()), topic].into_iter().flatten() {
            match self.brokers_with(candidate, None).await {
                Ok(brokers) if !brokers.is_empty() => return Ok(brokers),
                Ok(_) | Err(Error::Call(client::Error::NoRoute { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        self.masters(None).await
    }

    /// Sends a request and waits for an answer of success.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn ask(&self, address: &str, request: Frame) -> Result<Frame, Error> {
        Ok(self.client.ask(address, request).await?)
    }
}

/// Whether a topic has no route of its own.
fn has_no_route(topic: &str) -> bool {
    topic.starts_with(LMQ_PREFIX) || topic == TIMER_TOPIC
}

/// The route that a broker would register for a topic.
fn route_at(broker: &Broker, config: &TopicConfig) -> TopicRoute {
    TopicRoute {
        broker_datas: vec![BrokerData {
            broker_addrs: [(broker.id, broker.address.clone())].into(),
            broker_name: broker.name.clone(),
            cluster: broker.cluster.clone(),
            ..BrokerData::default()
        }],
        queue_datas: vec![QueueData {
            broker_name: broker.name.clone(),
            perm: config.perm,
            read_queue_nums: config.read_queue_nums,
            topic_sys_flag: config.topic_sys_flag,
            write_queue_nums: config.write_queue_nums,
        }],
        ..TopicRoute::default()
    }
}

fn brokers_of(info: &ClusterInfo) -> Vec<Broker> {
    let mut brokers = Vec::new();
    for (cluster, names) in &info.cluster_addr_table {
        for data in names.iter().filter_map(|name| info.broker_addr_table.get(name)) {
            brokers.extend(data.broker_addrs.iter().map(|(id, address)| Broker {
                cluster: cluster.clone(),
                name: data.broker_name.clone(),
                id: *id,
                address: address.clone(),
            }));
        }
    }
    brokers
}

fn readable(data: &BrokerData) -> Option<Broker> {
    let (id, address) = data.broker_addrs.iter().next()?;
    Some(Broker {
        cluster: data.cluster.clone(),
        name: data.broker_name.clone(),
        id: *id,
        address: address.clone(),
    })
}

fn addresses(brokers: Vec<Broker>) -> Vec<String> {
    brokers.into_iter().map(|broker| broker.address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_asked_before_a_replica() {
        let mut data = BrokerData {
            broker_name: "b".to_owned(),
            broker_addrs: [(1, "replica:1".to_owned()), (0, "master:1".to_owned())].into(),
            ..BrokerData::default()
        };
        assert_eq!(readable(&data).map(|broker| broker.address).as_deref(), Some("master:1"));
        data.broker_addrs.remove(&0);
        assert_eq!(readable(&data).map(|broker| broker.address).as_deref(), Some("replica:1"));
    }

    #[test]
    fn a_cluster_of_one_broker_has_its_name_and_its_topics() {
        let broker = Broker {
            cluster: "c".to_owned(),
            name: "b".to_owned(),
            id: MASTER_ID,
            address: "h:1".to_owned(),
        };
        let route = route_at(&broker, &TopicConfig::default());
        assert_eq!(route.broker_datas.iter().find_map(readable).as_ref(), Some(&broker));
        assert_eq!(
            Route::of("t", &route).unwrap().read.len(),
            TopicConfig::default().read_queue_nums as usize
        );
        let cluster = Cluster::of_broker(broker.clone(), Options::with_broker("replaced:1"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            assert_eq!(cluster.members("c").await.unwrap(), [broker]);
            assert_eq!(
                cluster.members("d").await.unwrap_err().to_string(),
                "there is no cluster d; the name server knows c"
            );
        });
    }

    #[test]
    fn only_light_queues_and_timers_have_no_route() {
        assert!(has_no_route("%LMQ%x") && has_no_route("rmq_sys_wheel_timer"));
        assert!(!has_no_route("orders"));
    }
}
