//! What serves the verbs: the broker of this process, or the brokers of a cluster, which are asked by the remoting protocol.
//!
//! The features check requests and make handles, messages and answers; this is all they know of brokers. Each verb is one function with
//! plain values. The branch of a cluster is boxed, so that the future of a request is not larger in the process of a broker.

use crate::caller::Caller;
use crate::clients::Client;
use crate::cluster::{Cluster, Route};
use crate::codes::Refused;
use crate::handle::Receipt;
use crate::local::Local;
use crate::send::Checked;
use crate::transaction::TransactionId;
use crate::v2::{Code, MessageQueue, SendResultEntry};
use broker::attributes::MESSAGE_TYPE;
use broker::clients::Departure;
use broker::group::Rule;
use broker::lite::{LitePop, LitePopResult};
use broker::pop::{PopResult, Renewed};
use broker::pull::Pulled;
use broker::topic::Topic as LocalTopic;
use broker::transaction::Outcome;
use protocol::heartbeat::HeartbeatData;
use protocol::lite::LiteSubscription;
use protocol::pop::PopHeader;
use protocol::pull::PullHeader;
use protocol::retry::SendBackHeader;
use std::sync::Arc;

/// Serves the verbs.
#[derive(Clone)]
pub(crate) enum Backend {
    /// The broker of this process.
    Local(Arc<Local>),
    /// Brokers that name servers know.
    Cluster(Arc<Cluster>),
}

/// A topic.
#[derive(Clone)]
pub(crate) enum Topic {
    /// Of the broker of this process.
    Local(Arc<LocalTopic>),
    /// Of a cluster.
    Cluster(Arc<Route>),
}

impl Topic {
    /// Its attribute `message.type`.
    pub(crate) fn message_type(&self) -> Option<&str> {
        match self {
            Self::Local(topic) => topic.attributes.get(MESSAGE_TYPE).map(String::as_str),
            Self::Cluster(route) => route.message_type.as_deref(),
        }
    }
}

/// The queues of a topic on one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queues {
    /// Name of the broker.
    pub(crate) broker: String,
    /// Permission bits.
    pub(crate) perm: i32,
    /// Number of queues to read.
    pub(crate) read: i32,
    /// Number of queues to write.
    pub(crate) write: i32,
}

/// Messages that were popped.
pub(crate) struct Popped<R = PopResult> {
    pub(crate) result: R,
    /// Name of the broker that handed them out.
    pub(crate) broker: Arc<str>,
}

/// Which offset of a queue is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position {
    Beginning,
    End,
    /// The first one at or after this store time, epoch ms.
    Time(i64),
}

/// A queue that a client names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueName<'a> {
    pub(crate) topic: &'a str,
    /// Name of the broker; empty if the client named none.
    pub(crate) broker: &'a str,
    pub(crate) id: i32,
}

impl<'a> QueueName<'a> {
    pub(crate) fn of(topic: &'a str, queue: Option<&'a MessageQueue>) -> Self {
        Self {
            topic,
            broker: broker_of(queue),
            id: queue.map_or(-1, |queue| queue.id),
        }
    }
}

/// The broker that a client names; empty if it names none.
pub(crate) fn broker_of(queue: Option<&MessageQueue>) -> &str {
    queue.and_then(|queue| queue.broker.as_ref()).map_or("", |broker| &broker.name)
}

/// Calls a verb of either backend.
macro_rules! either {
    ($self:ident, |$to:ident| $call:expr) => {
        match $self {
            Self::Local($to) => $call.await,
            Self::Cluster($to) => Box::pin($call).await,
        }
    };
}

impl Backend {
    /// Largest body of a message.
    pub(crate) fn max_body_bytes(&self) -> usize {
        match self {
            Self::Local(local) => local.max_body_bytes(),
            Self::Cluster(cluster) => cluster.max_body_bytes(),
        }
    }

    /// # Errors
    /// It cannot be looked up.
    pub(crate) async fn topic(&self, name: &str) -> Result<Option<Topic>, Refused> {
        match self {
            Self::Local(local) => Ok(local.topic(name)),
            Self::Cluster(cluster) => Ok(Box::pin(cluster.route(name)).await?.map(Topic::Cluster)),
        }
    }

    /// A topic, which is created with this type of messages if that is allowed.
    ///
    /// # Errors
    /// `TopicNotFound` if it does not exist and may not be created.
    pub(crate) async fn topic_or_create(&self, name: &str, message_type: Option<&str>) -> Result<Topic, Refused> {
        match self {
            Self::Local(local) => local.topic_or_create(name, message_type),
            Self::Cluster(cluster) => Box::pin(cluster.route_or_create(name, message_type)).await.map(Topic::Cluster),
        }
    }

    /// The queues that a topic gets with its first message.
    ///
    /// # Errors
    /// `TopicNotFound` if topics are not created by messages.
    pub(crate) async fn queues_of_new_topic(&self, name: &str) -> Result<Vec<Queues>, Refused> {
        match self {
            Self::Local(local) => local.queues_of_new_topic(name),
            Self::Cluster(cluster) => Box::pin(cluster.queues_of_new_topic(name)).await,
        }
    }

    /// Sets the type of the messages of a topic that a consumer created. A failure is logged.
    pub(crate) async fn set_type(&self, name: &str, message_type: &str) {
        match self {
            Self::Local(local) => local.set_type(name, message_type),
            Self::Cluster(cluster) => Box::pin(cluster.set_type(name, message_type)).await,
        }
    }

    /// The queues of a topic by broker.
    pub(crate) fn queues(&self, topic: &Topic) -> Vec<Queues> {
        match (self, topic) {
            (Self::Local(local), Topic::Local(topic)) => vec![local.queues(topic)],
            (_, Topic::Cluster(route)) => route.queues(),
            (Self::Cluster(_), Topic::Local(_)) => Vec::new(),
        }
    }

    /// The configuration of a group; `None` if it does not exist.
    ///
    /// # Errors
    /// It cannot be looked up.
    pub(crate) async fn group(&self, name: &str) -> Result<Option<Arc<Rule>>, Refused> {
        match self {
            Self::Local(local) => Ok(local.group(name)),
            Self::Cluster(cluster) => Box::pin(cluster.group(name)).await,
        }
    }

    /// Stores messages of one request, each with an outcome of its own.
    ///
    /// # Errors
    /// None of them was stored.
    pub(crate) async fn send(&self, caller: &Caller, topic: Topic, messages: Checked) -> Result<Vec<SendResultEntry>, Refused> {
        match (self, topic) {
            (Self::Local(local), Topic::Local(topic)) => local.send(caller, &topic, messages).await,
            (Self::Cluster(cluster), Topic::Cluster(route)) => Ok(Box::pin(cluster.send(&route, messages)).await),
            // Topics come from the same backend.
            _ => Err(Refused::new(Code::InternalServerError, "the topic is not one of this backend")),
        }
    }

    /// Recalls a message that waits; returns its id.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn recall(&self, caller: &Caller, topic: &str, handle: &str) -> Result<String, Refused> {
        either!(self, |to| to.recall(caller, topic, handle))
    }

    /// Ends a transaction of `topic`; `is_answer` if it was asked for.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn end_transaction(
        &self,
        caller: &Caller,
        topic: &str,
        id: TransactionId<'_>,
        outcome: Outcome,
        is_answer: bool,
    ) -> Result<(), Refused> {
        either!(self, |to| to.end_transaction(caller, topic, id, outcome, is_answer))
    }

    /// Pops messages; from the broker `wanted`, if that is not empty and serves. `unclaimed` is called with messages whose client is gone.
    ///
    /// # Errors
    /// What the broker refuses. `TooManyRequests` if no thread of the broker takes it.
    pub(crate) async fn pop(
        &self,
        client: u64,
        caller: &Caller,
        header: &PopHeader<'_>,
        wanted: &str,
        unclaimed: impl Fn(Popped) + Send + 'static,
    ) -> Result<Popped, Refused> {
        match self {
            Self::Local(local) => local.pop(client, caller, header, unclaimed).await,
            Self::Cluster(cluster) => Box::pin(cluster.pop(caller, header, wanted, unclaimed)).await,
        }
    }

    /// Pops messages of lite topics, as [`Self::pop`].
    ///
    /// # Errors
    /// As [`Self::pop`].
    pub(crate) async fn pop_lite(
        &self,
        client: u64,
        caller: &Caller,
        pop: &LitePop<'_>,
        wanted: &str,
        unclaimed: impl Fn(Popped<LitePopResult>) + Send + 'static,
    ) -> Result<Popped<LitePopResult>, Refused> {
        match self {
            Self::Local(local) => local.pop_lite(client, caller, pop, unclaimed).await,
            Self::Cluster(cluster) => Box::pin(cluster.pop_lite(caller, pop, wanted, unclaimed)).await,
        }
    }

    /// Reads messages of one queue, of the broker `wanted`.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn pull(&self, client: u64, caller: &Caller, header: &PullHeader<'_>, wanted: &str) -> Result<Pulled, Refused> {
        match self {
            Self::Local(local) => local.pull(client, caller, header).await,
            Self::Cluster(cluster) => Box::pin(cluster.pull(header, wanted)).await,
        }
    }

    /// Acknowledges the message of a handle.
    ///
    /// # Errors
    /// `MessageNotFound` or `MessageCorrupted` if the handle names no message in flight.
    pub(crate) async fn ack(&self, receipt: &Receipt<'_>) -> Result<(), Refused> {
        match self {
            Self::Local(local) => local.ack(receipt),
            Self::Cluster(cluster) => Box::pin(cluster.ack(receipt)).await,
        }
    }

    /// Changes how long the message of a handle stays invisible.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub(crate) async fn make_invisible(&self, receipt: &Receipt<'_>, invisible_ms: i64, suspend: bool) -> Result<Renewed, Refused> {
        match self {
            Self::Local(local) => local.make_invisible(receipt, invisible_ms, suspend),
            Self::Cluster(cluster) => Box::pin(cluster.make_invisible(receipt, invisible_ms, suspend)).await,
        }
    }

    /// Sends a message back to `broker`, which has it, to be retried or as a dead letter.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn send_back(&self, caller: &Caller, broker: &str, header: SendBackHeader<'_>) -> Result<(), Refused> {
        match self {
            Self::Local(local) => local.send_back(caller, header).await,
            Self::Cluster(cluster) => Box::pin(cluster.send_back(broker, &header)).await,
        }
    }

    /// Commits an offset of a group.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn commit(&self, client: u64, group: &str, queue: QueueName<'_>, offset: i64) -> Result<(), Refused> {
        match self {
            Self::Local(local) => local.commit(client, group, queue, offset),
            Self::Cluster(cluster) => Box::pin(cluster.commit(group, queue, offset)).await,
        }
    }

    /// The committed offset of a group; `None` without one.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn committed(&self, group: &str, queue: QueueName<'_>) -> Result<Option<i64>, Refused> {
        match self {
            Self::Local(local) => Ok(local.committed(group, queue)),
            Self::Cluster(cluster) => Box::pin(cluster.committed(group, queue)).await,
        }
    }

    /// An offset of a queue.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn offset_at(&self, queue: QueueName<'_>, position: Position) -> Result<i64, Refused> {
        either!(self, |to| to.offset_at(queue, position))
    }

    /// Adds a client to the groups of its settings, or says that it is still there.
    ///
    /// # Errors
    /// A limit is reached.
    pub(crate) async fn join(&self, client: &Arc<Client>, data: HeartbeatData) -> Result<(), Refused> {
        either!(self, |to| to.join(client, data))
    }

    /// Removes a client from its groups.
    pub(crate) async fn leave(&self, client: &Client, departure: Departure) {
        match self {
            Self::Local(local) => local.leave(client, departure),
            Self::Cluster(cluster) => Box::pin(cluster.leave(client, departure)).await,
        }
    }

    /// A client that is in no group here any more says goodbye.
    pub(crate) async fn goodbye(&self, group: &str, client_id: &str, departure: Departure) {
        match self {
            Self::Local(local) => local.goodbye(group, client_id, departure),
            Self::Cluster(cluster) => Box::pin(cluster.goodbye(group, client_id, departure)).await,
        }
    }

    /// Changes the subscriptions of a client of lite topics.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) async fn sync_lite(&self, client: Arc<Client>, change: LiteSubscription) -> Result<(), Refused> {
        match self {
            Self::Local(local) => local.sync_lite(client, change).await,
            Self::Cluster(cluster) => Box::pin(cluster.sync_lite(&change)).await,
        }
    }

    /// A client of lite topics has ended.
    ///
    /// # Errors
    /// A broker cannot be asked, and keeps its subscriptions for a while.
    pub(crate) async fn remove_lite_client(&self, group: &str, client_id: &str) -> Result<(), Refused> {
        match self {
            Self::Local(local) => {
                local.remove_lite_client(group, client_id);
                Ok(())
            }
            Self::Cluster(cluster) => Box::pin(cluster.remove_lite_client(group, client_id)).await,
        }
    }

    /// Calls `serve` for each item: all at the same time if they wait for brokers, else one after the other.
    pub(crate) async fn each<T, F: Future>(&self, items: impl Iterator<Item = T>, serve: impl Fn(T) -> F) -> Vec<F::Output> {
        match self {
            Self::Local(_) => {
                let mut all = Vec::with_capacity(items.size_hint().0);
                for item in items {
                    all.push(serve(item).await);
                }
                all
            }
            Self::Cluster(_) => Box::pin(futures_util::future::join_all(items.map(serve))).await,
        }
    }
}
