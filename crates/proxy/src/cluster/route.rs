//! Topics of the cluster: their queues on all masters, and the type of their messages.

use super::{Cluster, refused};
use crate::backend::{QueueName, Queues};
use crate::codes::Refused;
use crate::route::no_topic;
use crate::v2::Code;
use ::message::names;
use broker::attributes::MESSAGE_TYPE;
use broker::topic::{is_readable, is_writable};
use protocol::ResponseCode;
use protocol::route::{MASTER_ID, TopicRoute};
use protocol::topic::TopicConfig;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long name servers may take to know a topic that was just created, in steps of [`STEP`].
const STEPS: u32 = 40;
const STEP: Duration = Duration::from_millis(50);

/// Addresses of all masters, by name.
pub(crate) type Masters = BTreeMap<Arc<str>, Box<str>>;

/// Asks a name server for all masters of the cluster.
pub(crate) async fn look_up_masters(client: &client::Client) -> Result<Masters, client::Error> {
    let info = client.cluster().await?;
    let masters = info.broker_addr_table.into_iter().filter_map(|(name, mut broker)| {
        let address = broker.broker_addrs.remove(&MASTER_ID)?;
        Some((name.into(), address.into()))
    });
    Ok(masters.collect())
}

/// The queues of a topic on one master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Master {
    pub(crate) name: Arc<str>,
    pub(crate) address: Box<str>,
    pub(crate) perm: i32,
    pub(crate) read: i32,
    pub(crate) write: i32,
}

/// The queues of a topic on all masters, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) masters: Vec<Master>,
    /// A broker has no master now: one is being elected, or it is lost.
    pub(crate) lacks_master: bool,
    /// The attribute `message.type`.
    pub(crate) message_type: Option<String>,
}

impl Route {
    /// The masters in a name server's answer. Those with more queues than a client accepts are left out.
    fn of(route: &TopicRoute) -> Self {
        let mut datas: Vec<_> = route.queue_datas.iter().collect();
        datas.sort();
        let master = |data: &&protocol::route::QueueData| {
            let broker = route.broker_datas.iter().find(|broker| broker.broker_name == data.broker_name)?;
            let fits = |count: i32| (0..=client::MAX_QUEUES as i32).contains(&count);
            if !fits(data.read_queue_nums) || !fits(data.write_queue_nums) {
                return None;
            }
            Some(Master {
                name: data.broker_name.as_str().into(),
                address: broker.broker_addrs.get(&MASTER_ID)?.as_str().into(),
                perm: data.perm,
                read: data.read_queue_nums,
                write: data.write_queue_nums,
            })
        };
        let is_led = |data: &&protocol::route::QueueData| {
            let broker = route.broker_datas.iter().find(|broker| broker.broker_name == data.broker_name);
            broker.is_some_and(|broker| broker.broker_addrs.contains_key(&MASTER_ID))
        };
        Self {
            masters: datas.iter().filter_map(master).collect(),
            lacks_master: !datas.iter().all(is_led),
            message_type: None,
        }
    }

    /// The queues by broker.
    pub(crate) fn queues(&self) -> Vec<Queues> {
        let queues = |master: &Master| Queues {
            broker: master.name.to_string(),
            perm: master.perm,
            read: master.read,
            write: master.write,
        };
        self.masters.iter().map(queues).collect()
    }

    /// The refusal of a request that finds no queue of this kind.
    pub(super) fn without_queue(&self, kind: &str, topic: &str) -> Refused {
        match self.lacks_master {
            true => {
                let text = format!("no {kind} queue: a broker of topic {topic} has no master now, or is down; try again");
                Refused::new(Code::InternalServerError, text)
            }
            false => Refused::new(Code::Forbidden, format!("no {kind} queue: topic {topic} has none on any broker")),
        }
    }

    pub(super) fn master(&self, name: &str) -> Option<&Master> {
        self.masters.iter().find(|master| &*master.name == name)
    }
}

impl Cluster {
    /// The route of a topic; `None` if no name server has one.
    pub(crate) async fn route(&self, name: &str) -> Result<Option<Arc<Route>>, Refused> {
        self.routes
            .get_current(name, |route| self.is_stale(route), self.look_up(name))
            .await
    }

    /// Whether another master may have been elected.
    fn is_stale(&self, route: &Route) -> bool {
        route.lacks_master
            || self
                .down
                .contains_any(route.masters.iter().map(|master| &*master.address), Instant::now())
    }

    /// The route of a topic that has to exist.
    pub(super) async fn known_route(&self, name: &str) -> Result<Arc<Route>, Refused> {
        self.route(name).await?.ok_or_else(|| no_topic(name))
    }

    async fn look_up(&self, name: &str) -> Result<Option<Route>, Refused> {
        let found = match self.client.topic_route(name).await {
            Ok(found) => found,
            Err(error) if error.code() == Some(ResponseCode::TopicNotExist.into()) => return Ok(None),
            Err(error) => return Err(refused(error)),
        };
        let mut route = Route::of(&found);
        if let Some(known) = self.brokers.fresh("")
            && route.masters.iter().any(|master| known.get(&master.name) != Some(&master.address))
        {
            self.brokers.expire("");
        }
        for master in self.in_turn(&self.lookup_turn, &route.masters, "", |_| true) {
            match self.topic_config(&master.address, name).await {
                Ok(Some(config)) => {
                    route.message_type = config.attributes.get(MESSAGE_TYPE).cloned();
                    break;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(topic = name, %error, "a broker did not tell the attributes of a topic");
                    // No message is refused because nobody says which type they are.
                    route.message_type = Some("MIXED".to_owned());
                }
            }
        }
        Ok(Some(route))
    }

    async fn topic_config(&self, address: &str, name: &str) -> Result<Option<TopicConfig>, client::Error> {
        match self.noted(address, self.client.topic_config(address, name).await) {
            Ok(config) => Ok(Some(config)),
            Err(error) if error.code() == Some(ResponseCode::TopicNotExist.into()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The masters for which `wanted` is true: first the one with the name `first`, then the others in turn, at last those that are down.
    fn in_turn<'a>(&self, turn: &AtomicUsize, masters: &'a [Master], first: &str, wanted: impl Fn(&Master) -> bool) -> Vec<&'a Master> {
        let mut all: Vec<&Master> = masters.iter().filter(|master| wanted(master)).collect();
        if all.len() > 1 {
            let turn = turn.fetch_add(1, Relaxed) % all.len();
            all.rotate_left(turn);
            let now = Instant::now();
            all.sort_by_key(|master| (self.down.contains(&master.address, now), &*master.name != first));
        }
        all
    }

    /// The masters to read a topic from, in the order of [`Self::in_turn`].
    ///
    /// # Errors
    /// `Forbidden` if no queue can be read.
    pub(super) fn readers<'a>(&self, topic: &str, route: &'a Route, first: &str) -> Result<Vec<&'a Master>, Refused> {
        let readers = self.in_turn(&self.receive_turn, &route.masters, first, |master| {
            is_readable(master.perm) && master.read > 0
        });
        if readers.is_empty() {
            return Err(route.without_queue("readable", topic));
        }
        Ok(readers)
    }

    /// The address of the broker that has a queue.
    ///
    /// # Errors
    /// `BadRequest` if the client named no broker and there are several, or one that does not have the topic.
    pub(super) async fn address_of(&self, queue: QueueName<'_>) -> Result<Box<str>, Refused> {
        let route = self.known_route(queue.topic).await?;
        let found = match (queue.broker, &*route.masters) {
            ("", [one]) => Some(one),
            (name, _) => route.master(name),
        };
        found.map(|master| master.address.clone()).ok_or_else(|| {
            let text = format!(
                "topic {} is not on a broker '{}': name the broker of its route (QueryRoute)",
                queue.topic, queue.broker
            );
            Refused::new(Code::BadRequest, text)
        })
    }

    /// The address of a broker that a handle or an id names.
    pub(super) async fn address_by_name(&self, topic: &str, broker: &str) -> Result<Option<Box<str>>, Refused> {
        if let Some(route) = self.route(topic).await?
            && let Some(master) = route.master(broker)
        {
            return Ok(Some(master.address.clone()));
        }
        let masters = self.masters().await?;
        Ok(masters.get(broker).cloned())
    }

    /// All masters of the cluster: addresses by name.
    pub(super) async fn masters(&self) -> Result<Arc<Masters>, Refused> {
        let look_up = async { look_up_masters(&self.client).await.map(Some).map_err(refused) };
        let is_stale = |masters: &Masters| self.down.contains_any(masters.values().map(|address| &**address), Instant::now());
        Ok(self.brokers.get_current("", is_stale, look_up).await?.unwrap_or_default())
    }

    /// The masters on which topics are created by their first message.
    async fn creating_masters(&self, name: &str) -> Result<Vec<Master>, Refused> {
        let template = self.route(names::AUTO_CREATE_TOPIC).await?.ok_or_else(|| no_topic(name))?;
        let masters: Vec<Master> = template.masters.iter().filter(|master| is_writable(master.perm)).cloned().collect();
        match masters.is_empty() {
            true => Err(no_topic(name)),
            false => Ok(masters),
        }
    }

    pub(crate) async fn queues_of_new_topic(&self, name: &str) -> Result<Vec<Queues>, Refused> {
        let masters = self.creating_masters(name).await?;
        let queues = |master: &Master| {
            let config = new_topic(name, master, None);
            Queues {
                broker: master.name.to_string(),
                perm: config.perm,
                read: config.read_queue_nums,
                write: config.write_queue_nums,
            }
        };
        Ok(masters.iter().map(queues).collect())
    }

    /// The route of a topic, which is created on all brokers that create topics by messages.
    pub(crate) async fn route_or_create(&self, name: &str, message_type: Option<&str>) -> Result<Arc<Route>, Refused> {
        if let Some(route) = self.route(name).await? {
            return Ok(route);
        }
        let _turn = self.creating.lock().await;
        if let Some(route) = self.route(name).await? {
            return Ok(route);
        }
        let mut failure = no_topic(name);
        for master in self.creating_masters(name).await? {
            // A broker that has it already is only not known yet.
            let made = match self.topic_config(&master.address, name).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => {
                    self.client
                        .create_topic(&master.address, &new_topic(name, &master, message_type))
                        .await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = self.noted(&master.address, made) {
                failure = refused(error);
            }
        }
        for _ in 0..STEPS {
            if let Some(route) = self.route(name).await? {
                return Ok(route);
            }
            tokio::time::sleep(STEP).await;
        }
        Err(failure)
    }

    pub(crate) async fn set_type(&self, name: &str, message_type: &str) {
        let Ok(Some(route)) = self.route(name).await else { return };
        for master in &route.masters {
            let set = async {
                let Some(mut config) = self.topic_config(&master.address, name).await? else {
                    return Ok(());
                };
                config.attributes = [(format!("+{MESSAGE_TYPE}"), message_type.to_owned())].into();
                self.client.create_topic(&master.address, &config).await
            };
            if let Err(error) = set.await {
                tracing::warn!(topic = name, %error, "the type of a topic's messages was not set");
            }
        }
        self.routes.forget(name);
    }
}

/// A topic as a broker would create it from the template.
fn new_topic(name: &str, template: &Master, message_type: Option<&str>) -> TopicConfig {
    /// Compat: as many as Apache's clients ask for at most.
    const MOST: i32 = 8;
    let mut config = TopicConfig::new(name, template.write.clamp(1, MOST));
    config.attributes = message_type
        .map(|kind| (format!("+{MESSAGE_TYPE}"), kind.to_owned()))
        .into_iter()
        .collect();
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::route::{BrokerData, QueueData};

    #[test]
    fn a_route_has_the_masters_by_name_and_no_absurd_numbers() {
        let broker = |name: &str, id: i64| BrokerData {
            broker_name: name.to_owned(),
            broker_addrs: [(id, format!("{name}:1"))].into(),
            ..BrokerData::default()
        };
        let queues = |name: &str, read: i32| QueueData {
            broker_name: name.to_owned(),
            perm: 6,
            read_queue_nums: read,
            write_queue_nums: 2,
            topic_sys_flag: 0,
        };
        let route = Route::of(&TopicRoute {
            broker_datas: vec![broker("b", 0), broker("a", 0), broker("replica", 1), broker("absurd", 0)],
            queue_datas: vec![
                queues("b", 1),
                queues("a", 3),
                queues("replica", 1),
                queues("absurd", i32::MAX),
                queues("gone", 1),
            ],
            ..TopicRoute::default()
        });
        let short: Vec<_> = route.masters.iter().map(|master| (&*master.address, master.read)).collect();
        assert_eq!(short, [("a:1", 3), ("b:1", 1)]);
        assert!(route.lacks_master, "of the broker that has a replica only");
    }
}
