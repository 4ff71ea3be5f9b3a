//! The queues of a topic on all brokers, for sharing them. May block: asks a name server.
//!
//! This broker's own queues are those of its table; those of other brokers are asked for again after [`KEEP`]. Without a name server that
//! answers, only the own ones are shared. Pulls share the logical queues of a static topic, which are the same wherever they are.

use crate::topic::{Topics, is_readable};
use net::client::{Peer, PeerOptions};
use net::session::Connector;
use parking_lot::Mutex;
use protocol::route::{RouteHeader, TopicRoute};
use protocol::static_topic::logical_broker;
use protocol::{Frame, MessageQueue, RequestCode, json};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer of a name server is used: as long as clients use theirs.
const KEEP: Duration = Duration::from_secs(30);
/// How long a name server may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Topics whose queues are kept.
const MAX_TOPICS: usize = 10_000;
/// Queues of one topic on one broker that are believed.
const MAX_QUEUES: i32 = 65_536;

/// Queues by topic.
pub struct TopicQueues {
    name_servers: Vec<String>,
    connector: Option<Arc<dyn Connector>>,
    topics: Arc<Topics>,
    others: Mutex<FxHashMap<Box<str>, Known>>,
}

struct Known {
    at: Instant,
    queues: Arc<[MessageQueue]>,
}

impl TopicQueues {
    /// Asks these name servers, over connections of `connector` or plain ones.
    #[must_use]
    pub fn new(name_servers: &[String], connector: Option<Arc<dyn Connector>>, topics: Arc<Topics>) -> Self {
        Self {
            name_servers: name_servers.to_vec(),
            connector,
            topics,
            others: Mutex::default(),
        }
    }

    /// The readable queues of a topic, sorted; [`None`] if no broker has it. `broker` is the name of this one.
    pub(super) fn of(&self, topic: &str, broker: &str) -> Option<Vec<MessageQueue>> {
        let own = self.topics.find(topic).filter(|topic| is_readable(topic.perm));
        let own = (0..own.map_or(0, |topic| topic.read_queues)).map(|queue_id| MessageQueue::new(topic, broker, queue_id));
        let others = self.others(topic);
        let mut queues: Vec<MessageQueue> = others
            .iter()
            .filter(|queue| queue.broker_name != broker)
            .cloned()
            .chain(own)
            .collect();
        queues.sort();
        (!queues.is_empty()).then_some(queues)
    }

    /// The logical queues of a static topic, sorted; [`None`] for another one. Compat: for pulls; pops read the brokers' own queues.
    pub(super) fn logical(&self, topic: &str) -> Option<Vec<MessageQueue>> {
        let mapping = self.topics.mapping(topic)?;
        let (broker, total) = (logical_broker(mapping.detail().scope()), mapping.detail().total_queues);
        Some(
            (0..total)
                .map(|queue_id| MessageQueue::new(topic, broker.as_str(), queue_id))
                .collect(),
        )
    }

    fn others(&self, topic: &str) -> Arc<[MessageQueue]> {
        if let Some(known) = self.others.lock().get(topic).filter(|known| known.at.elapsed() < KEEP) {
            return Arc::clone(&known.queues);
        }
        let queues: Arc<[MessageQueue]> = match self.ask(topic) {
            Ok(route) => all_of(topic, &route).into(),
            Err(why) => {
                tracing::debug!(
                    topic,
                    why,
                    "the route of a topic is not known: only the queues of this broker are shared"
                );
                Arc::default()
            }
        };
        let mut others = self.others.lock();
        if others.len() >= MAX_TOPICS {
            others.retain(|_, known| known.at.elapsed() < KEEP);
        }
        if others.len() < MAX_TOPICS {
            let known = Known {
                at: Instant::now(),
                queues: Arc::clone(&queues),
            };
            others.insert(topic.into(), known);
        }
        queues
    }

    /// The route of a topic from the first name server that answers.
    fn ask(&self, topic: &str) -> Result<TopicRoute, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let mut why = "there is no name server".to_owned();
        for name_server in &self.name_servers {
            let answer = runtime.block_on(async {
                let options = PeerOptions {
                    connector: self.connector.clone(),
                    ..PeerOptions::default()
                };
                let peer = Peer::connect(name_server, options).await.map_err(|error| error.to_string())?;
                let mut frame = Frame::request(RequestCode::GetRouteinfoByTopic);
                RouteHeader {
                    topic,
                    accept_standard_json_only: Some(true),
                }
                .encode(&mut frame.ext);
                peer.request(frame, TIMEOUT).await.map_err(|error| error.to_string())
            });
            match answer {
                Ok(answer) if answer.code == 0 => return json::read(&answer.body).map_err(|error| error.to_string()),
                Ok(answer) => why = answer.remark.unwrap_or_default(),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

fn all_of(topic: &str, route: &TopicRoute) -> Vec<MessageQueue> {
    let readable = route.queue_datas.iter().filter(|data| is_readable(data.perm));
    let of_broker = |data: &protocol::route::QueueData| {
        let broker = data.broker_name.clone();
        (0..data.read_queue_nums.clamp(0, MAX_QUEUES)).map(move |queue_id| MessageQueue::new(topic, broker.as_str(), queue_id))
    };
    readable.flat_map(of_broker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, StaticUpdate, TopicLimits};
    use protocol::route::QueueData;
    use protocol::static_topic::QueueMappingDetail;

    #[test]
    fn own_queues_are_shared_without_a_name_server() {
        let limits = TopicLimits { topics: 10, queues: 64 };
        let topics = Topics::new(
            vec![Spec::new("t", 2)],
            limits,
            Arc::new(BrokerStats::new("c", 100)),
            Arc::default(),
            0,
        );
        let queues = TopicQueues::new(&[], None, Arc::new(topics));
        let own = queues.of("t", "b").unwrap();
        assert_eq!(own, [MessageQueue::new("t", "b", 0), MessageQueue::new("t", "b", 1)]);
        assert_eq!(queues.of("x", "b"), None);
    }

    #[test]
    fn the_logical_queues_of_a_static_topic_are_shared() {
        let limits = TopicLimits { topics: 10, queues: 64 };
        let topics = Topics::new(vec![], limits, Arc::new(BrokerStats::new("c", 100)), Arc::default(), 0);
        let update = StaticUpdate {
            spec: Spec::new("t", 0),
            changes: Default::default(),
            mapping: QueueMappingDetail::new("t", 2, "b", 1),
            broker: "b",
            force: false,
        };
        topics.update_static(update, 1).unwrap();
        let queues = TopicQueues::new(&[], None, Arc::new(topics));
        assert_eq!((queues.of("t", "b"), queues.logical("u")), (None, None));
        assert_eq!(
            queues.logical("t").unwrap(),
            [0, 1].map(|id| MessageQueue::new("t", "__syslo__global__", id))
        );
    }

    #[test]
    fn readable_queues_of_a_route_are_taken() {
        let data = |broker: &str, perm, queues| QueueData {
            broker_name: broker.to_owned(),
            perm,
            read_queue_nums: queues,
            ..QueueData::default()
        };
        let route = TopicRoute {
            queue_datas: vec![data("a", 6, 2), data("b", 2, 2), data("c", 4, i32::MIN)],
            ..TopicRoute::default()
        };
        assert_eq!(all_of("t", &route).len(), 2);
    }
}
