//! Routes of topics from the name servers (105) or from one broker (202); brokers of a cluster (106); write permission of a broker's
//! topics (205, 327).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use protocol::route::{AddWritePermReply, ClusterInfo, MASTER_ID, QueueData, RouteHeader, TopicRoute, WipeWritePermReply, WritePermHeader};
use protocol::stats::TopicStatsTable;
use protocol::topic::{TopicHeader, perm};
use protocol::{Frame, RequestCode, ResponseCode, json};

use crate::error::OrMalformed;
use crate::{Client, Error, Lookup};

/// A queue with the address of its broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Queue {
    /// The topic.
    pub topic: Arc<str>,
    /// `host:port` of the broker.
    pub address: Arc<str>,
    /// The broker's name; empty if only its address is known.
    pub broker: Arc<str>,
    /// Its queue id on that broker, from 0. Negative in a send: the broker chooses.
    pub id: i32,
}

impl Queue {
    /// A queue at a known address.
    pub fn at(address: &str, topic: &str, id: i32) -> Self {
        Self {
            topic: topic.into(),
            address: address.into(),
            broker: "".into(),
            id,
        }
    }

    /// The same topic and broker with another queue id.
    #[must_use]
    pub fn with_id(&self, id: i32) -> Self {
        Self { id, ..self.clone() }
    }
}

/// The queues of a topic on all masters, by broker name and queue id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Readable queues.
    pub read: Vec<Queue>,
    /// Writable queues.
    pub write: Vec<Queue>,
}

/// Maximum number of queues of a topic over all brokers. A route has only their number, so without a limit a wrong registration
/// could cost a client any amount of memory and time.
pub const MAX_QUEUES: usize = 1 << 16;

impl Route {
    /// The queues on masters in a name server's answer.
    ///
    /// # Errors
    /// [`Error::TooManyQueues`] if there are more than [`MAX_QUEUES`] to read or to write.
    pub fn of(topic: &str, known: &TopicRoute) -> Result<Self, Error> {
        let mut route = Self::default();
        let mut datas: Vec<_> = known.queue_datas.iter().collect();
        datas.sort();
        for data in datas {
            let Some(first) = master(topic, known, data) else { continue };
            for (queues, nums, bit) in [
                (&mut route.read, data.read_queue_nums, perm::READ),
                (&mut route.write, data.write_queue_nums, perm::WRITE),
            ] {
                let nums = if data.perm & bit == 0 { 0 } else { nums.max(0) };
                if queues.len() + nums as usize > MAX_QUEUES {
                    return Err(Error::TooManyQueues {
                        topic: topic.to_owned(),
                        broker: data.broker_name.clone(),
                        read: data.read_queue_nums,
                        write: data.write_queue_nums,
                    });
                }
                queues.extend((0..nums).map(|id| first.with_id(id)));
            }
        }
        Ok(route)
    }
}

fn master(topic: &str, known: &TopicRoute, data: &QueueData) -> Option<Queue> {
    let broker = known.broker_datas.iter().find(|broker| broker.broker_name == data.broker_name)?;
    let first = Queue::at(broker.broker_addrs.get(&MASTER_ID)?, topic, 0);
    Some(Queue {
        broker: data.broker_name.as_str().into(),
        ..first
    })
}

impl Client {
    /// Looks up the topic's queues now, at the servers of [`Lookup`].
    ///
    /// # Errors
    /// [`Error::NoRoute`] if there is no such topic; otherwise as in [`Client::ask`].
    pub async fn route(&self, topic: &str) -> Result<Route, Error> {
        let found = match &self.options().lookup {
            Lookup::NameServers(_) => self.route_from_name_servers(topic).await,
            Lookup::Broker(address) => self.route_from_broker(address, topic).await,
        };
        found.map_err(|error| match error.code() {
            Some(code) if code == i32::from(ResponseCode::TopicNotExist) => Error::NoRoute {
                topic: topic.to_owned(),
                reason: error.to_string(),
            },
            _ => error,
        })
    }

    async fn route_from_name_servers(&self, topic: &str) -> Result<Route, Error> {
        Route::of(topic, &self.topic_route(topic).await?)
    }

    /// The route of a topic from the name servers: brokers with all their addresses, queues, permissions.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::cluster`]; an unknown topic is refused with code 17.
    pub async fn topic_route(&self, topic: &str) -> Result<TopicRoute, Error> {
        let mut request = Frame::request(RequestCode::GetRouteinfoByTopic);
        let header = RouteHeader {
            topic,
            accept_standard_json_only: Some(true),
        };
        header.encode(&mut request.ext);
        let (address, answer) = self.ask_name_server(request).await?;
        json::read(&answer.body).or_malformed(&address)
    }

    /// A broker does not report which queues are only readable, so all are taken as readable and writable.
    async fn route_from_broker(&self, address: &str, topic: &str) -> Result<Route, Error> {
        let mut request = Frame::request(RequestCode::GetTopicStatsInfo);
        TopicHeader { topic }.encode(&mut request.ext);
        let answer = self.ask(address, request).await?;
        let stats: TopicStatsTable = json::read(&answer.body).or_malformed(address)?;
        let first = Queue::at(address, topic, 0);
        let named = |broker: &str| Queue {
            broker: broker.into(),
            ..first.clone()
        };
        let queues: Vec<_> = stats
            .offset_table
            .keys()
            .map(|queue| named(&queue.broker_name).with_id(queue.queue_id))
            .collect();
        Ok(Route {
            read: queues.clone(),
            write: queues,
        })
    }

    /// All brokers of all clusters.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`]; [`Error::Invalid`] without name servers.
    pub async fn cluster(&self) -> Result<ClusterInfo, Error> {
        let request = Frame::request(RequestCode::GetBrokerClusterInfo);
        let (address, answer) = self.ask_name_server(request).await?;
        json::read(&answer.body).or_malformed(&address)
    }

    /// The answer of the first reachable name server, and its address. The one that answered last is asked first.
    pub(crate) async fn ask_name_server(&self, request: Frame) -> Result<(String, Frame), Error> {
        let mut failure = Error::Invalid("this client has no name servers".to_owned());
        let (addresses, last) = (self.name_servers(), &self.inner.name_server);
        let first = last.load(Relaxed);
        for at in (0..addresses.len()).map(|at| (first + at) % addresses.len()) {
            let address = &addresses[at];
            let answer = self.ask(address, request.clone()).await;
            match answer {
                Ok(answer) => {
                    last.store(at, Relaxed);
                    return Ok((address.clone(), answer));
                }
                Err(error @ (Error::Unreachable(_) | Error::Unanswered { .. } | Error::Busy { .. })) => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// Removes the write permission of all topics of a broker at a name server. Returns the number of changed topics.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn wipe_write_perm(&self, name_server: &str, broker_name: &str) -> Result<i32, Error> {
        let mut request = Frame::request(RequestCode::WipeWritePermOfBroker);
        WritePermHeader { broker_name }.encode(&mut request.ext);
        let answer = self.ask(name_server, request).await?;
        Ok(WipeWritePermReply::decode(&answer.ext).or_malformed(name_server)?.wipe_topic_count)
    }

    /// Undoes [`Client::wipe_write_perm`].
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn add_write_perm(&self, name_server: &str, broker_name: &str) -> Result<i32, Error> {
        let mut request = Frame::request(RequestCode::AddWritePermOfBroker);
        WritePermHeader { broker_name }.encode(&mut request.ext);
        let answer = self.ask(name_server, request).await?;
        Ok(AddWritePermReply::decode(&answer.ext).or_malformed(name_server)?.add_topic_count)
    }

    /// The name servers of this client; none if it was created for a broker.
    pub fn name_servers(&self) -> &[String] {
        match &self.options().lookup {
            Lookup::NameServers(addresses) => addresses,
            Lookup::Broker(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::route::BrokerData;

    fn broker(name: &str, id: i64) -> BrokerData {
        BrokerData {
            broker_name: name.to_owned(),
            broker_addrs: [(id, format!("{name}:1"))].into(),
            ..BrokerData::default()
        }
    }

    fn queues(name: &str, perm: i32, read: i32, write: i32) -> QueueData {
        QueueData {
            broker_name: name.to_owned(),
            perm,
            read_queue_nums: read,
            write_queue_nums: write,
            topic_sys_flag: 0,
        }
    }

    #[test]
    fn a_route_lists_the_queues_of_masters_by_permission() {
        let known = TopicRoute {
            broker_datas: vec![broker("b", 0), broker("a", 0), broker("replica", 1)],
            queue_datas: vec![
                queues("b", 6, 1, 2),
                queues("a", 4, 2, 2),
                queues("replica", 6, 4, 4),
                queues("gone", 6, 1, 1),
            ],
            ..TopicRoute::default()
        };
        let route = Route::of("t", &known).unwrap();
        let short = |queues: &[Queue]| {
            queues
                .iter()
                .map(|queue| format!("{}/{}", queue.address, queue.id))
                .collect::<Vec<_>>()
        };
        assert_eq!(short(&route.read), ["a:1/0", "a:1/1", "b:1/0"]);
        assert_eq!(short(&route.write), ["b:1/0", "b:1/1"]);
    }

    #[test]
    fn a_route_with_too_many_queues_is_refused_before_memory_is_allocated() {
        let most = MAX_QUEUES as i32;
        let known = |datas: &[QueueData]| TopicRoute {
            broker_datas: vec![broker("a", 0), broker("b", 0)],
            queue_datas: datas.to_vec(),
            ..TopicRoute::default()
        };
        let whole = Route::of("t", &known(&[queues("a", 6, most, most)])).unwrap();
        assert_eq!((whole.read.len(), whole.write.len()), (MAX_QUEUES, MAX_QUEUES));
        for many in [
            known(&[queues("a", 6, i32::MAX, 1)]),
            known(&[queues("a", 2, 0, i32::MAX)]),
            known(&[queues("a", 4, most, 0), queues("b", 4, 1, 0)]),
            known(&vec![queues("a", 6, most, most); 1_000]),
        ] {
            let error = Route::of("t", &many).unwrap_err();
            assert!(matches!(error, Error::TooManyQueues { .. }), "{error}");
        }
        // Queues without permission and negative counts are ignored.
        let none = Route::of("t", &known(&[queues("a", 0, i32::MAX, i32::MAX), queues("b", 6, i32::MIN, -1)])).unwrap();
        assert_eq!(none, Route::default());
    }
}
