//! Committed offsets of a group (14, 15), a queue's first and last offset and the offset of a time (29, 30, 31), offset reset (222).

use protocol::offset::{
    MaxOffsetHeader, OffsetReply, QueryConsumerOffsetHeader, QueueHeader, SearchOffsetHeader, UpdateConsumerOffsetHeader,
};
use protocol::reset::{ResetOffsetBody, ResetOffsetHeader};
use protocol::{Frame, RequestCode, ResponseCode, json};

use crate::error::OrMalformed;
use crate::{Client, Error, Puller, Queue};

impl Puller {
    /// The group's offset in a queue; `None` if it has none.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn committed(&self, queue: &Queue) -> Result<Option<i64>, Error> {
        let mut request = Frame::request(RequestCode::QueryConsumerOffset);
        let header = QueryConsumerOffsetHeader {
            consumer_group: &self.group,
            topic: &queue.topic,
            queue_id: queue.id,
            set_zero_if_not_found: None,
        };
        header.encode(&mut request.ext);
        match self.client.ask_offset(queue, request).await {
            Ok(offset) => Ok(Some(offset)),
            Err(error) if error.code() == Some(ResponseCode::QueryNotFound.into()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the group's offset in a queue: the next one to consume.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn commit(&self, queue: &Queue, offset: i64) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::UpdateConsumerOffset);
        let header = UpdateConsumerOffsetHeader {
            consumer_group: &self.group,
            topic: &queue.topic,
            queue_id: queue.id,
            commit_offset: offset,
        };
        header.encode(&mut request.ext);
        self.client.ask(&queue.address, request).await.map(drop)
    }
}

impl Client {
    /// The queue's end: one after its newest offset; 0 if there is no such queue.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn max_offset(&self, queue: &Queue) -> Result<i64, Error> {
        let mut request = Frame::request(RequestCode::GetMaxOffset);
        let header = MaxOffsetHeader {
            topic: &queue.topic,
            queue_id: queue.id,
            committed: Some(true),
        };
        header.encode(&mut request.ext);
        self.ask_offset(queue, request).await
    }

    /// The queue's lowest offset.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn min_offset(&self, queue: &Queue) -> Result<i64, Error> {
        let mut request = Frame::request(RequestCode::GetMinOffset);
        let header = QueueHeader {
            topic: &queue.topic,
            queue_id: queue.id,
        };
        header.encode(&mut request.ext);
        self.ask_offset(queue, request).await
    }

    /// The first offset stored at or after a time, in ms since 1970.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn offset_at(&self, queue: &Queue, timestamp: i64) -> Result<i64, Error> {
        let mut request = Frame::request(RequestCode::SearchOffsetByTimestamp);
        let header = SearchOffsetHeader {
            topic: &queue.topic,
            queue_id: queue.id,
            timestamp,
            boundary_type: None,
        };
        header.encode(&mut request.ext);
        self.ask_offset(queue, request).await
    }

    /// Resets a group's offsets in a topic at a broker, also for running consumers. Returns the new offset of each queue.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`]; code 206 if no consumer of the group is connected and the broker needs one.
    pub async fn reset_offsets(&self, address: &str, header: &ResetOffsetHeader<'_>) -> Result<ResetOffsetBody, Error> {
        let mut request = Frame::request(RequestCode::InvokeBrokerToResetOffset);
        header.encode(&mut request.ext);
        let answer = self.ask(address, request).await?;
        if answer.body.is_empty() {
            return Ok(ResetOffsetBody::default());
        }
        json::read(&answer.body).or_malformed(address)
    }

    async fn ask_offset(&self, queue: &Queue, request: Frame) -> Result<i64, Error> {
        let answer = self.ask(&queue.address, request).await?;
        Ok(OffsetReply::decode(&answer.ext).or_malformed(&queue.address)?.offset)
    }
}
