//! The broker of this process: its verbs are called, no frame is made.
//!
//! The verbs hand their outcome to a closure or a sink, on a thread of the broker; a request waits for it ([`outcome`]).

mod read;
mod send;

pub(crate) use send::Ready;

use crate::backend::{Popped, Position, QueueName, Queues, Topic};
use crate::caller::Caller;
use crate::clients::Client;
use crate::codes::Refused;
use crate::handle::Receipt;
use crate::route::no_topic;
use crate::time::now_ms;
use crate::transaction::TransactionId;
use crate::v2::Code;
use ::message::names;
use broker::attributes::{self, MESSAGE_TYPE};
use broker::clients::heartbeat::{self, heartbeat};
use broker::clients::{ClientChannel, Departure};
use broker::errors::Refusal;
use broker::group::Rule;
use broker::lite::{LiteChange, LitePop, LitePopResult};
use broker::offset::operations::{self, Committed, GroupQueue};
use broker::operations::Operations;
use broker::pop::{ChangeInvisible, Renewed};
use broker::pull::Pulled;
use broker::queues::Queues as _;
use broker::retry::send_back::{SendBack, send_back};
use broker::timer::Recall;
use broker::topic::{CreateOnSend, Spec, Topic as LocalTopic, TopicError};
use broker::transaction::{EndTransaction, Outcome};
use protocol::heartbeat::HeartbeatData;
use protocol::lite::LiteSubscription;
use protocol::offset::BoundaryType;
use protocol::pop::PopHeader;
use protocol::pull::PullHeader;
use protocol::retry::SendBackHeader;
use protocol::version;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tokio::sync::oneshot;

/// Waits for the outcome that a closure sends.
///
/// # Errors
/// `InternalServerError` if the broker is stopped and dropped the closure.
async fn outcome<T>(wait: oneshot::Receiver<T>) -> Result<T, Refused> {
    wait.await
        .map_err(|_| Refused::new(Code::InternalServerError, "the broker is shutting down"))
}

/// The broker of this process.
pub(crate) struct Local {
    broker: Operations,
    /// Its name, for handles.
    name: Arc<str>,
    /// Chooses a queue for requests with several messages, round robin.
    next_queue: AtomicU32,
}

impl Local {
    pub(crate) fn new(broker: Operations) -> Self {
        Self {
            name: broker.core.settings.current().broker_name.as_str().into(),
            broker,
            next_queue: AtomicU32::new(0),
        }
    }

    pub(crate) fn max_body_bytes(&self) -> usize {
        self.broker.core.settings.current().max_message_size as usize
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Topic> {
        self.broker.core.topics.find(name).map(Topic::Local)
    }

    pub(crate) fn topic_or_create(&self, name: &str, message_type: Option<&str>) -> Result<Topic, Refused> {
        let core = &self.broker.core;
        if let Some(topic) = core.topics.find(name) {
            return Ok(Topic::Local(topic));
        }
        let settings = core.settings.current();
        let asked = CreateOnSend {
            topic: name,
            template: names::AUTO_CREATE_TOPIC,
            queues: i32::try_from(settings.default_topic_queue_nums).unwrap_or(i32::MAX),
            sys_flag: 0,
            message_type,
        };
        let created = core.topics.create_on_send(&asked, settings.auto_create_topic_enable, now_ms());
        let topic = created.map_err(Refusal::from)?.ok_or_else(|| no_topic(name))?;
        Ok(Topic::Local(topic))
    }

    pub(crate) fn queues_of_new_topic(&self, name: &str) -> Result<Vec<Queues>, Refused> {
        let core = &self.broker.core;
        let settings = core.settings.current();
        let template = core
            .topics
            .find(names::AUTO_CREATE_TOPIC)
            .filter(|_| settings.auto_create_topic_enable);
        let template = template.ok_or_else(|| no_topic(name))?;
        let count = i32::try_from(settings.default_topic_queue_nums)
            .unwrap_or(i32::MAX)
            .min(template.write_queues)
            .max(1);
        Ok(vec![Queues {
            broker: self.name.to_string(),
            perm: broker::topic::PERM_READ | broker::topic::PERM_WRITE,
            read: count,
            write: count,
        }])
    }

    pub(crate) fn set_type(&self, name: &str, message_type: &str) {
        let Some(topic) = self.broker.core.topics.find(name) else { return };
        let changes = attributes::parse(&format!("+{MESSAGE_TYPE}={message_type}"));
        let changed = changes.map_err(TopicError::from).and_then(|changes| {
            let spec = Spec::clone(&topic);
            self.broker.core.topics.update(vec![(spec, changes)], now_ms())
        });
        if let Err(error) = changed {
            tracing::warn!(topic = name, %error, "the type of a topic's messages was not set");
        }
    }

    pub(crate) fn queues(&self, topic: &LocalTopic) -> Queues {
        Queues {
            broker: self.name.to_string(),
            perm: topic.perm,
            read: topic.read_queues,
            write: topic.write_queues,
        }
    }

    pub(crate) fn group(&self, name: &str) -> Option<Arc<Rule>> {
        self.broker.core.groups.find(name)
    }

    pub(crate) async fn recall(&self, caller: &Caller, topic: &str, handle: &str) -> Result<String, Refused> {
        let (done, recalled) = oneshot::channel();
        let recall = Recall {
            topic,
            handle,
            producer_group: topic,
            client: caller.peer(),
            store_host: self.broker.core.store_host(caller.local()),
            now_ms: now_ms(),
        };
        self.broker.timers.recall(recall, move |outcome| {
            let _ = done.send(outcome);
        });
        Ok(outcome(recalled).await??)
    }

    pub(crate) async fn end_transaction(
        &self,
        caller: &Caller,
        topic: &str,
        id: TransactionId<'_>,
        ends_as: Outcome,
        is_answer: bool,
    ) -> Result<(), Refused> {
        let (done, ended) = oneshot::channel();
        let end = EndTransaction {
            half: id.half,
            log_offset: id.log_offset,
            producer_group: topic,
            outcome: ends_as,
            is_answer,
            store_host: self.broker.core.store_host(caller.local()),
            now_ms: now_ms(),
        };
        self.broker.transactions.end(end, move |outcome| {
            let _ = done.send(outcome);
        });
        Ok(outcome(ended).await??)
    }

    pub(crate) async fn pop(
        &self,
        client: u64,
        caller: &Caller,
        header: &PopHeader<'_>,
        unclaimed: impl Fn(Popped) + Send + 'static,
    ) -> Result<Popped, Refused> {
        let ask = |asker| self.broker.pops.pop(asker, header, header.born_time);
        self.read_claimed(client, caller, ask, unclaimed).await
    }

    pub(crate) async fn pop_lite(
        &self,
        client: u64,
        caller: &Caller,
        pop: &LitePop<'_>,
        unclaimed: impl Fn(Popped<LitePopResult>) + Send + 'static,
    ) -> Result<Popped<LitePopResult>, Refused> {
        let ask = |asker| self.broker.lites.pop(asker, pop, pop.born_ms);
        self.read_claimed(client, caller, ask, unclaimed).await
    }

    pub(crate) async fn pull(&self, client: u64, caller: &Caller, header: &PullHeader<'_>) -> Result<Pulled, Refused> {
        let ask = |asker| self.broker.puller.pull(asker, header, now_ms());
        // It is read again by whoever pulls there next.
        read::answer(client, caller, ask, drop).await
    }

    pub(crate) fn ack(&self, receipt: &Receipt<'_>) -> Result<(), Refused> {
        match receipt.of_lite_topic() {
            Some(of) => Ok(self.broker.lites.ack(&of)?),
            None => Ok(self.broker.pops.ack(&receipt.request())?),
        }
    }

    pub(crate) fn make_invisible(&self, receipt: &Receipt<'_>, invisible_ms: i64, suspend: bool) -> Result<Renewed, Refused> {
        let Some(of) = receipt.of_lite_topic() else {
            let change = ChangeInvisible {
                of: receipt.request(),
                invisible_ms,
                suspend,
            };
            return Ok(self.broker.pops.change_invisible(&change)?);
        };
        Ok(self.broker.lites.change_invisible(&LiteChange { of, invisible_ms, suspend })?)
    }

    pub(crate) async fn send_back(&self, caller: &Caller, header: SendBackHeader<'_>) -> Result<(), Refused> {
        let (done, stored) = oneshot::channel();
        let core = self.broker.core.clone();
        let store_host = core.store_host(caller.local());
        let SendBackHeader {
            offset,
            group,
            delay_level,
            origin_msg_id,
            origin_topic,
            unit_mode,
            max_reconsume_times,
        } = header;
        let group = group.to_owned();
        let (id, topic) = (origin_msg_id.map(str::to_owned), origin_topic.map(str::to_owned));
        // It is read from the log, which may wait for the disk.
        let job = move || {
            let back = SendBack {
                header: SendBackHeader {
                    offset,
                    group: &group,
                    delay_level,
                    origin_msg_id: id.as_deref(),
                    origin_topic: topic.as_deref(),
                    unit_mode,
                    max_reconsume_times,
                },
                client_version: version::CURRENT,
                store_host,
                now_ms: now_ms(),
            };
            send_back(&core, &back, move |outcome| {
                let _ = done.send(outcome);
            });
        };
        self.broker.core.threads.reader.run_own(job).map_err(Refusal::from)?;
        Ok(outcome(stored).await??)
    }

    pub(crate) fn commit(&self, client: u64, group: &str, queue: QueueName<'_>, offset: i64) -> Result<(), Refused> {
        let core = &self.broker.core;
        let topic = operations::find_topic(group, queue.topic, &core.groups, &core.topics)?;
        let of = GroupQueue {
            group,
            topic: queue.topic,
            queue_id: queue.id,
        };
        match operations::commit(of, &topic, offset, client, &core.offsets, &*core.store)? {
            Committed::Stored | Committed::Ignored(_) => Ok(()),
        }
    }

    pub(crate) fn committed(&self, group: &str, queue: QueueName<'_>) -> Option<i64> {
        self.broker.core.offsets.committed(queue.topic, group, queue.id)
    }

    pub(crate) async fn offset_at(&self, queue: QueueName<'_>, position: Position) -> Result<i64, Refused> {
        let store = &self.broker.core.store;
        match position {
            Position::Beginning => Ok(store.min(queue.topic, queue.id)),
            Position::End => Ok(store.max(queue.topic, queue.id)),
            Position::Time(at_ms) => {
                let (done, found) = oneshot::channel();
                let (store, name, id) = (Arc::clone(store), queue.topic.to_owned(), queue.id);
                let job = move || {
                    let _ = done.send(store.by_time(&name, id, at_ms, BoundaryType::Lower));
                };
                self.broker.core.threads.reader.run_own(job).map_err(Refusal::from)?;
                Ok(outcome(found).await??)
            }
        }
    }

    pub(crate) async fn join(&self, client: &Arc<Client>, data: HeartbeatData) -> Result<(), Refused> {
        let channel = ClientChannel::Protocol(client.clone());
        let from = heartbeat::Client {
            channel: &channel,
            language: client.language,
            version: version::V5_0_0,
        };
        let current = self.broker.core.settings.current();
        let heartbeat = heartbeat(data, from, &self.broker.clients(&current), now_ms())?;
        if heartbeat.makes_group {
            let (done, settled) = oneshot::channel();
            self.broker.core.changed.when_settled(move |saved| {
                if let Err(reason) = &saved {
                    // It can consume nevertheless.
                    tracing::error!(%reason, "a consumer joins although its retry topic is not saved");
                }
                let _ = done.send(());
            });
            let _ = settled.await;
        }
        let online = &self.broker.online;
        heartbeat.join(&online.notices, &online.producers, &self.broker.core.stats)?;
        Ok(())
    }

    pub(crate) fn leave(&self, client: &Client, departure: Departure) {
        self.broker.online.connection_closed(client.id, departure);
    }

    pub(crate) fn goodbye(&self, group: &str, client_id: &str, departure: Departure) {
        if let Departure::Goodbye(after_ms) = departure {
            self.broker.online.consumers.goodbye(group, client_id, after_ms);
        }
    }

    pub(crate) async fn sync_lite(&self, client: Arc<Client>, change: LiteSubscription) -> Result<(), Refused> {
        let (done, changed) = oneshot::channel();
        let lites = Arc::clone(&self.broker.lites);
        // It walks over tables, and may be long.
        let job = move || {
            let _ = done.send(lites.subscribe(&change, &ClientChannel::Protocol(client)));
        };
        self.broker.core.threads.admin.run_own(job).map_err(Refusal::from)?;
        Ok(outcome(changed).await??)
    }

    pub(crate) fn remove_lite_client(&self, group: &str, client_id: &str) {
        self.broker.lites.remove_client(group, client_id);
    }
}
