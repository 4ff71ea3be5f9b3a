//! Sends what leaves this broker to masters of other broker names, as name servers tell them.

use super::frame::Outgoing;
use super::{Batch, Escape, NotStored};
use crate::peers::Peers;
use parking_lot::Mutex;
use protocol::route::{ClusterInfo, MASTER_ID, RouteHeader, TopicRoute};
use protocol::topic::perm;
use protocol::{Frame, RequestCode, ResponseCode, json};
use rustc_hash::FxHashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

/// Messages on their way at the same time.
const AT_ONCE: usize = 32;
/// How long a broker may take to store a message, and a name server to tell a route.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a route is used.
const ROUTE_AGE: Duration = Duration::from_secs(5);
/// Routes that are kept at most; with one more, all others are forgotten.
const MAX_ROUTES: usize = 10_000;
/// Waits before a message is tried again: the first, doubled up to the last.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
const ENDED: &str = "this broker ended to deliver for its master";
/// How often the same obstacle is logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Who sends, and who is asked for routes.
#[derive(Clone)]
pub struct OutletOptions {
    /// Name servers, `host:port`.
    pub name_servers: Vec<String>,
    /// This broker's name, to which nothing is sent.
    pub broker_name: String,
    /// Only brokers of this cluster are sent to.
    pub cluster: String,
}

/// A queue of another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    broker: String,
    address: String,
    queues: i32,
}

/// Where messages of a topic go, and since when that is known.
type KnownTargets = (Instant, Arc<[Target]>);

/// See the module.
pub struct Outlet {
    escape: Arc<Escape>,
    peers: Peers,
    options: OutletOptions,
    routes: Mutex<FxHashMap<Box<str>, KnownTargets>>,
    warned: Mutex<Option<Instant>>,
}

impl Outlet {
    /// Does nothing before [`Self::run`].
    #[must_use]
    pub fn new(escape: Arc<Escape>, peers: Peers, options: OutletOptions) -> Arc<Self> {
        Arc::new(Self {
            escape,
            peers,
            options,
            routes: Mutex::default(),
            warned: Mutex::default(),
        })
    }

    /// Stores what comes, the batches of a source one after the other, until it is dropped. Call once.
    pub async fn run(self: Arc<Self>) {
        let receivers = std::mem::take(&mut *self.escape.receivers.lock());
        let mut sources = JoinSet::new();
        for batches in receivers {
            sources.spawn(Arc::clone(&self).store_all(batches));
        }
        while sources.join_next().await.is_some() {}
    }

    /// The batches of a source.
    async fn store_all(self: Arc<Self>, mut batches: UnboundedReceiver<Batch>) {
        while let Some(mut batch) = batches.recv().await {
            let messages = std::mem::take(&mut batch.messages);
            let outcome = match messages.is_empty() || self.escape.role.delivers() {
                true => Arc::clone(&self).store(messages).await,
                false => Err(ENDED.into()),
            };
            batch.end(outcome);
        }
    }

    async fn store(self: Arc<Self>, messages: Vec<Outgoing>) -> Result<(), NotStored> {
        let mut sending = JoinSet::new();
        let mut outcome = Ok(());
        for message in messages {
            while sending.len() >= AT_ONCE {
                outcome = outcome.and(joined(sending.join_next().await));
            }
            sending.spawn(Arc::clone(&self).store_one(message));
        }
        while !sending.is_empty() {
            outcome = outcome.and(joined(sending.join_next().await));
        }
        outcome
    }

    /// Tries until it is stored or this broker no longer delivers; once at least, so that a batch that has begun is stored as a whole if the
    /// other broker takes it.
    async fn store_one(self: Arc<Self>, message: Outgoing) -> Result<(), NotStored> {
        let mut pause = RETRY[0];
        loop {
            match self.send(&message).await {
                Ok(()) => {
                    self.escape.stored.fetch_add(1, Relaxed);
                    return Ok(());
                }
                Err(why) => self.warn(&message.topic, &why),
            }
            if !self.escape.role.delivers() {
                return Err(ENDED.into());
            }
            self.routes.lock().remove(&message.topic);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY[1]);
        }
    }

    async fn send(&self, message: &Outgoing) -> io::Result<()> {
        let targets = self.targets(&message.topic).await?;
        let turn = usize::try_from(message.queue_id).unwrap_or(0);
        let Some(target) = targets.get(turn % targets.len().max(1)) else {
            return Err(io::Error::other(
                "no other broker of the cluster has the topic and takes messages for it",
            ));
        };
        let queue_id = message.queue_id.max(0) % target.queues.max(1);
        let frame = message.frame(&target.broker, queue_id);
        let answer = self.peers.ask(&target.address, frame, TIMEOUT).await?;
        // Stored there, and on its disk or slaves a little later.
        const STORED: [ResponseCode; 4] = [
            ResponseCode::Success,
            ResponseCode::FlushDiskTimeout,
            ResponseCode::FlushSlaveTimeout,
            ResponseCode::SlaveNotAvailable,
        ];
        if STORED.map(i32::from).contains(&answer.code) {
            return Ok(());
        }
        let remark = answer.remark.as_deref().unwrap_or_default();
        Err(io::Error::other(format!(
            "{} answered with code {}: {remark}",
            target.broker, answer.code
        )))
    }

    async fn targets(&self, topic: &str) -> io::Result<Arc<[Target]>> {
        if let Some((at, targets)) = self.routes.lock().get(topic)
            && at.elapsed() < ROUTE_AGE
        {
            return Ok(Arc::clone(targets));
        }
        let mut targets = self.ask_for_targets(topic).await?;
        if targets.is_empty() {
            // No other broker has it: one that makes topics for sends does so, as for retry topics always.
            targets = self.ask_for_masters().await?;
        }
        let targets: Arc<[Target]> = targets.into();
        let mut routes = self.routes.lock();
        if routes.len() >= MAX_ROUTES {
            routes.clear();
        }
        routes.insert(topic.into(), (Instant::now(), Arc::clone(&targets)));
        Ok(targets)
    }

    /// Brokers that have the topic; none if no name server knows it.
    async fn ask_for_targets(&self, topic: &str) -> io::Result<Vec<Target>> {
        let mut frame = Frame::request(RequestCode::GetRouteinfoByTopic);
        let header = RouteHeader {
            topic,
            accept_standard_json_only: Some(true),
        };
        header.encode(&mut frame.ext);
        let answer = self.ask_name_servers(&frame).await?;
        if answer.code == i32::from(ResponseCode::TopicNotExist) {
            return Ok(Vec::new());
        }
        let route: TopicRoute = json::read(&answer.body).map_err(io::Error::other)?;
        Ok(self.targets_of(&route))
    }

    /// All other masters of the cluster.
    async fn ask_for_masters(&self) -> io::Result<Vec<Target>> {
        let answer = self.ask_name_servers(&Frame::request(RequestCode::GetBrokerClusterInfo)).await?;
        let all: ClusterInfo = json::read(&answer.body).map_err(io::Error::other)?;
        let others = all
            .broker_addr_table
            .into_values()
            .filter(|broker| broker.broker_name != self.options.broker_name && broker.cluster == self.options.cluster);
        let masters = others.filter_map(|mut broker| {
            Some(Target {
                address: broker.broker_addrs.remove(&MASTER_ID)?,
                broker: broker.broker_name,
                queues: 1,
            })
        });
        Ok(masters.collect())
    }

    /// The answer of the first name server that has one: success, or that there is no such topic if all say so.
    async fn ask_name_servers(&self, frame: &Frame) -> io::Result<Frame> {
        let mut last = Err(io::Error::other("there is no name server (namesrvAddr)"));
        for name_server in &self.options.name_servers {
            last = self.peers.ask(name_server, frame.clone(), TIMEOUT).await;
            if last.as_ref().is_ok_and(|answer| answer.code == i32::from(ResponseCode::Success)) {
                break;
            }
        }
        let answer = last?;
        let known = [ResponseCode::Success, ResponseCode::TopicNotExist].map(i32::from);
        match known.contains(&answer.code) {
            true => Ok(answer),
            false => Err(io::Error::other(format!("a name server answered with code {}", answer.code))),
        }
    }

    /// Masters of other names of the cluster that take messages, in the order of their names.
    fn targets_of(&self, route: &TopicRoute) -> Vec<Target> {
        let may_write = route.queue_datas.iter().filter(|queues| {
            queues.perm & perm::WRITE != 0 && queues.write_queue_nums > 0 && queues.broker_name != self.options.broker_name
        });
        let mut targets: Vec<Target> = may_write
            .filter_map(|queues| {
                let broker = route
                    .broker_datas
                    .iter()
                    .find(|data| data.broker_name == queues.broker_name && data.cluster == self.options.cluster)?;
                Some(Target {
                    broker: queues.broker_name.clone(),
                    address: broker.broker_addrs.get(&MASTER_ID)?.clone(),
                    queues: queues.write_queue_nums,
                })
            })
            .collect();
        targets.sort_by(|one, other| one.broker.cmp(&other.broker));
        targets
    }

    fn warn(&self, topic: &str, why: &io::Error) {
        let mut warned = self.warned.lock();
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            drop(warned);
            tracing::warn!(
                topic,
                %why,
                "a message that is due cannot be stored through another broker; tried again until that works or the master is back"
            );
        }
    }
}

fn joined(outcome: Option<Result<Result<(), NotStored>, tokio::task::JoinError>>) -> Result<(), NotStored> {
    match outcome {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(error.to_string().into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role;
    use protocol::route::{BrokerData, QueueData};

    #[test]
    fn only_masters_of_other_names_of_the_cluster_that_take_messages_are_sent_to() {
        let options = OutletOptions {
            name_servers: Vec::new(),
            broker_name: "a".to_owned(),
            cluster: "c".to_owned(),
        };
        let escape = Arc::new(Escape::new(Arc::new(Role::new(true))));
        let outlet = Outlet::new(escape, Peers::new(None), options);
        let mut route = TopicRoute::default();
        for (name, cluster, id, perm) in [
            ("d", "c", 0, 6),
            ("a", "c", 0, 6),
            ("b", "c", 0, 6),
            ("read-only", "c", 0, 4),
            ("slave-only", "c", 1, 6),
            ("elsewhere", "other", 0, 6),
        ] {
            route.broker_datas.push(BrokerData {
                broker_name: name.to_owned(),
                cluster: cluster.to_owned(),
                broker_addrs: [(id, format!("{name}:1"))].into(),
                ..BrokerData::default()
            });
            route.queue_datas.push(QueueData {
                broker_name: name.to_owned(),
                perm,
                write_queue_nums: 4,
                ..QueueData::default()
            });
        }
        let brokers: Vec<String> = outlet.targets_of(&route).into_iter().map(|target| target.broker).collect();
        assert_eq!(brokers, ["b", "d"]);
    }
}
