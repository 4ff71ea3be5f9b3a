//! Verbs about one message, offset or client: each goes to the broker that the handle, the id or the client names.

use super::{Cluster, malformed, refused};
use crate::backend::{Position, QueueName};
use crate::caller::Caller;
use crate::codes::Refused;
use crate::handle::Receipt;
use crate::transaction::TransactionId;
use crate::v2::Code;
use broker::pop::Renewed;
use broker::transaction::Outcome;
use client::{Puller, Queue};
use protocol::lite::{LiteAction, LiteSubscription};
use protocol::offset::{OffsetReply, QueryConsumerOffsetHeader};
use protocol::pop::{AckHeader, ChangeInvisibleHeader};
use protocol::retry::SendBackHeader;
use protocol::timer::RecallHandle;
use protocol::transaction::{COMMIT, EndTransactionHeader, ROLLBACK};
use protocol::{Frame, RequestCode, ResponseCode};

impl Cluster {
    /// The broker that a handle names. One that has no master now may have one soon, and holds the message until then: the handle stays good.
    async fn holder(&self, topic: &str, broker: &str) -> Result<Box<str>, Refused> {
        self.address_by_name(topic, broker).await?.ok_or_else(|| {
            let text = format!("no name server knows a master of broker {broker}, which the receipt handle names: try again");
            Refused::new(Code::InternalServerError, text)
        })
    }

    /// What an acknowledgement says of its message: its topic, and the lite topic.
    fn place<'a>(receipt: &'a Receipt<'_>) -> (&'a str, Option<&'a str>) {
        match receipt.of_lite_topic() {
            Some(of) => (of.topic, Some(of.lite_topic)),
            None => (receipt.request().topic, None),
        }
    }

    pub(crate) async fn ack(&self, receipt: &Receipt<'_>) -> Result<(), Refused> {
        let request = receipt.request();
        let (topic, lite_topic) = Self::place(receipt);
        let address = self.holder(receipt.own_topic(), receipt.handle.broker).await?;
        let header = AckHeader {
            consumer_group: request.group,
            topic,
            queue_id: request.queue_id,
            extra_info: request.handle,
            offset: request.offset,
            lite_topic,
            in_flight: request.is_in_flight.then_some(true),
        };
        self.noted(&address, self.client.ack(&address, &header).await).map_err(refused)
    }

    pub(crate) async fn make_invisible(&self, receipt: &Receipt<'_>, invisible_ms: i64, suspend: bool) -> Result<Renewed, Refused> {
        let request = receipt.request();
        let (topic, lite_topic) = Self::place(receipt);
        let address = self.holder(receipt.own_topic(), receipt.handle.broker).await?;
        let header = ChangeInvisibleHeader {
            consumer_group: request.group,
            topic,
            queue_id: request.queue_id,
            extra_info: request.handle,
            offset: request.offset,
            invisible_time: invisible_ms,
            lite_topic,
            suspend,
            in_flight: request.is_in_flight.then_some(true),
        };
        let reply = self.noted(&address, self.client.change_invisible(&address, &header).await);
        let reply = reply.map_err(refused)?;
        Ok(Renewed {
            pop_time: reply.pop_time,
            invisible_ms: reply.invisible_time,
            revive_queue: reply.revive_queue,
        })
    }

    pub(crate) async fn send_back(&self, broker: &str, header: &SendBackHeader<'_>) -> Result<(), Refused> {
        let topic = header.origin_topic.unwrap_or_default();
        let address = self.holder(topic, broker).await?;
        self.noted(&address, self.client.send_back(&address, header).await).map_err(refused)
    }

    pub(crate) async fn end_transaction(
        &self,
        _: &Caller,
        topic: &str,
        id: TransactionId<'_>,
        outcome: Outcome,
        is_answer: bool,
    ) -> Result<(), Refused> {
        let queue = QueueName {
            topic,
            broker: id.broker.unwrap_or_default(),
            id: -1,
        };
        let address = match id.broker {
            Some(broker) => self.address_by_name(topic, broker).await?,
            None => Some(self.address_of(queue).await?),
        };
        let address = address.ok_or_else(|| {
            let text = format!("no name server knows broker {}, which the transaction id names", queue.broker);
            Refused::new(Code::InvalidTransactionId, text)
        })?;
        let header = EndTransactionHeader {
            topic: Some(topic),
            // Compat: the topic stands for the producer group.
            producer_group: topic,
            tran_state_table_offset: id.half,
            commit_log_offset: id.log_offset,
            commit_or_rollback: match outcome {
                Outcome::Commit => COMMIT,
                Outcome::Rollback => ROLLBACK,
            },
            from_transaction_check: is_answer,
            msg_id: Some(id.uniq_key),
            transaction_id: Some(id.uniq_key),
        };
        self.noted(&address, self.client.end_transaction(&address, &header).await)
            .map_err(refused)
    }

    pub(crate) async fn recall(&self, _: &Caller, topic: &str, handle: &str) -> Result<String, Refused> {
        let wrong = |why: &str| {
            let text = format!("the recall handle {why}: use the one of the answer to the send");
            Refused::new(Code::BadRequest, text)
        };
        let told = RecallHandle::decode(handle).ok_or_else(|| wrong("is none"))?;
        let address = self.address_by_name(topic, &told.broker_name).await?;
        let address = address.ok_or_else(|| wrong("names a broker that no name server knows"))?;
        self.noted(&address, self.client.recall(&address, topic, handle).await)
            .map_err(refused)
    }

    async fn queue(&self, queue: QueueName<'_>) -> Result<Queue, Refused> {
        Ok(Queue::at(&self.address_of(queue).await?, queue.topic, queue.id))
    }

    pub(crate) async fn commit(&self, group: &str, queue: QueueName<'_>, offset: i64) -> Result<(), Refused> {
        let queue = self.queue(queue).await?;
        let commit = Puller::new(&self.client, group).commit(&queue, offset).await;
        self.noted(&queue.address, commit).map_err(refused)
    }

    pub(crate) async fn committed(&self, group: &str, queue: QueueName<'_>) -> Result<Option<i64>, Refused> {
        let queue = self.queue(queue).await?;
        let mut request = Frame::request(RequestCode::QueryConsumerOffset);
        let header = QueryConsumerOffsetHeader {
            consumer_group: group,
            topic: &queue.topic,
            queue_id: queue.id,
            set_zero_if_not_found: Some(false),
        };
        header.encode(&mut request.ext);
        match self.noted(&queue.address, self.client.ask(&queue.address, request).await) {
            Ok(answer) => match OffsetReply::decode(&answer.ext) {
                Ok(reply) => Ok(Some(reply.offset)),
                Err(error) => Err(malformed(&error)),
            },
            Err(error) if error.code() == Some(ResponseCode::QueryNotFound.into()) => Ok(None),
            Err(error) => Err(refused(error)),
        }
    }

    pub(crate) async fn offset_at(&self, queue: QueueName<'_>, position: Position) -> Result<i64, Refused> {
        let queue = self.queue(queue).await?;
        let found = match position {
            Position::Beginning => self.client.min_offset(&queue).await,
            Position::End => self.client.max_offset(&queue).await,
            Position::Time(at_ms) => self.client.offset_at(&queue, at_ms).await,
        };
        self.noted(&queue.address, found).map_err(refused)
    }

    /// Changes the subscriptions of a client at all brokers of the parent topic.
    pub(crate) async fn sync_lite(&self, change: &LiteSubscription) -> Result<(), Refused> {
        let route = self.known_route(&change.topic).await?;
        let masters = route
            .masters
            .iter()
            .map(|master| async { self.noted(&master.address, self.client.subscribe_lite(&master.address, change).await) });
        let outcomes = futures_util::future::join_all(masters).await;
        outcomes.into_iter().try_for_each(|outcome| outcome.map_err(refused))
    }

    pub(crate) async fn remove_lite_client(&self, group: &str, client_id: &str) -> Result<(), Refused> {
        let rule = self.group(group).await?;
        let Some(parent) = rule.as_deref().and_then(crate::lite::bound_topic) else {
            return Ok(());
        };
        let change = LiteSubscription {
            action: LiteAction::CompleteRemove,
            client_id: client_id.to_owned(),
            topic: parent.to_owned(),
            group: group.to_owned(),
            ..LiteSubscription::default()
        };
        self.sync_lite(&change).await
    }
}
