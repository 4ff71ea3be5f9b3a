//! Offsets of logical queues: codes 14, 15 and 29 to 32, over the physical queues of this broker and of others.
//!
//! A group's offset is committed to the item that has it, so that it stays valid wherever the queue is moved. It is looked for from the
//! last item to the first. Compat: so a commit to an earlier item does not take a group back; a reset on the brokers does. A group without
//! an offset starts like in an ordinary topic while the queue was never moved, and where its client chooses after that.

use super::forward::Forwarder;
use crate::core::Core;
use crate::errors::Refusal;
use crate::logical_queue::{Led, Mapping};
use crate::offset::operations::{self, Committed, GroupQueue};
use crate::queues::Queues;
use crate::reply::{Answer, Outcome};
use protocol::offset::{
    BoundaryType, MaxOffsetHeader, QueryConsumerOffsetHeader, QueueHeader, SearchOffsetHeader, UpdateConsumerOffsetHeader,
};
use protocol::static_topic::QueueMappingItem;
use protocol::{Frame, RequestCode, ResponseCode};
use std::sync::Arc;

/// What the requests need.
#[derive(Clone)]
pub struct LogicalOffsets {
    /// The tables and the store of this broker.
    pub core: Core,
    /// The way to other brokers.
    pub forwarder: Arc<Forwarder>,
    /// The mapping of the topic.
    pub mapping: Arc<Mapping>,
}

/// A number in an answer of another broker.
fn number(answer: Frame, field: &str) -> Result<i64, Refusal> {
    if answer.code != i32::from(ResponseCode::Success) {
        return Err(refused(&answer));
    }
    let missing = || Refusal::system(format!("another broker answered without the field {field}"));
    answer.ext.long(field).ok_or_else(missing)
}

/// The refusal of another broker.
pub(crate) fn refused(answer: &Frame) -> Refusal {
    let code = ResponseCode::try_from(answer.code).unwrap_or(ResponseCode::SystemError);
    Refusal::new(code, answer.remark.clone().unwrap_or_default())
}

impl LogicalOffsets {
    /// Serves a request for a logical queue. `client` is the connection it came over.
    ///
    /// # Errors
    /// `NotLeaderForQueue` if this broker does not lead the queue, `QueryNotFound` if a group has no offset, `SystemError` if a
    /// field is missing or another broker is not reached, and what that broker refuses with.
    pub async fn serve(&self, code: RequestCode, frame: &Frame, client: u64) -> Outcome {
        match code {
            RequestCode::QueryConsumerOffset => self.query(frame).await,
            RequestCode::UpdateConsumerOffset => self.update(frame, client).await,
            RequestCode::GetMaxOffset => self.max(frame).await,
            RequestCode::GetMinOffset => self.min(frame).await,
            RequestCode::SearchOffsetByTimestamp => self.search(frame).await,
            _ => self.earliest(frame).await,
        }
    }

    async fn ask(&self, item: &QueueMappingItem, frame: Frame) -> Result<Frame, Refusal> {
        self.forwarder.ask(&self.mapping.detail().topic, &item.bname, frame).await
    }

    async fn query(&self, frame: &Frame) -> Outcome {
        let header = QueryConsumerOffsetHeader::decode(&frame.ext)?;
        let led = self.mapping.led(header.queue_id)?;
        if led.is_physical() {
            let queue = GroupQueue {
                group: header.consumer_group,
                topic: header.topic,
                queue_id: led.leader.queue_id,
            };
            let core = &self.core;
            let offset = operations::query(queue, header.set_zero_if_not_found, &core.offsets, &core.topics, &*core.store)?;
            return Ok(Answer::ok().with("offset", offset));
        }
        for item in led.items.iter().rev().filter(|item| item.is_decided()) {
            let committed = if self.mapping.is_here(item) {
                self.core.offsets.committed(header.topic, header.consumer_group, item.queue_id)
            } else {
                self.ask_committed(item, &header).await?
            };
            if let Some(offset) = committed {
                return Ok(Answer::ok().with("offset", item.logical(offset)));
            }
        }
        let text = "Not found, maybe this group consumer boot first";
        Err(Refusal::new(ResponseCode::QueryNotFound, text))
    }

    async fn ask_committed(&self, item: &QueueMappingItem, header: &QueryConsumerOffsetHeader<'_>) -> Result<Option<i64>, Refusal> {
        let mut request = Frame::request(RequestCode::QueryConsumerOffset);
        QueryConsumerOffsetHeader {
            queue_id: item.queue_id,
            set_zero_if_not_found: Some(false),
            ..*header
        }
        .encode(&mut request.ext);
        let answer = self.ask(item, request).await?;
        if answer.code == i32::from(ResponseCode::QueryNotFound) {
            return Ok(None);
        }
        number(answer, "offset").map(Some)
    }

    async fn update(&self, frame: &Frame, client: u64) -> Outcome {
        let header = UpdateConsumerOffsetHeader::decode(&frame.ext)?;
        let item = self.item(header.queue_id, |led| led.item_of(header.commit_offset))?;
        let offset = item.physical(header.commit_offset);
        if !self.mapping.is_here(item) {
            let mut request = Frame::request(RequestCode::UpdateConsumerOffset);
            UpdateConsumerOffsetHeader {
                queue_id: item.queue_id,
                commit_offset: offset,
                ..header
            }
            .encode(&mut request.ext);
            let answer = self.ask(item, request).await?;
            return match answer.code == i32::from(ResponseCode::Success) {
                true => Ok(Answer::ok()),
                false => Err(refused(&answer)),
            };
        }
        let topic = operations::find_topic(header.consumer_group, header.topic, &self.core.groups, &self.core.topics)?;
        let queue = GroupQueue {
            group: header.consumer_group,
            topic: header.topic,
            queue_id: item.queue_id,
        };
        Ok(
            match operations::commit(queue, &topic, offset, client, &self.core.offsets, &*self.core.store)? {
                Committed::Stored => Answer::ok(),
                Committed::Ignored(why) => Answer::ok().remark(why),
            },
        )
    }

    async fn max(&self, frame: &Frame) -> Outcome {
        let header = MaxOffsetHeader::decode(&frame.ext)?;
        let item = self.item(header.queue_id, |led| led.newest())?;
        let max = self.max_of(item, header.topic).await?;
        Ok(Answer::ok().with("offset", item.logical(max)))
    }

    async fn max_of(&self, item: &QueueMappingItem, topic: &str) -> Result<i64, Refusal> {
        if self.mapping.is_here(item) {
            return Ok(Queues::max(&*self.core.store, topic, item.queue_id));
        }
        let mut request = Frame::request(RequestCode::GetMaxOffset);
        MaxOffsetHeader {
            topic,
            queue_id: item.queue_id,
            committed: None,
        }
        .encode(&mut request.ext);
        number(self.ask(item, request).await?, "offset")
    }

    async fn min(&self, frame: &Frame) -> Outcome {
        let header = QueueHeader::decode(&frame.ext)?;
        let item = self.item(header.queue_id, |led| led.oldest())?;
        let min = if self.mapping.is_here(item) {
            Queues::min(&*self.core.store, header.topic, item.queue_id)
        } else {
            let request = Self::of_queue(RequestCode::GetMinOffset, header.topic, item);
            number(self.ask(item, request).await?, "offset")?
        };
        Ok(Answer::ok().with("offset", item.logical_or_unknown(min)))
    }

    async fn earliest(&self, frame: &Frame) -> Outcome {
        let header = QueueHeader::decode(&frame.ext)?;
        let led = self.mapping.led(header.queue_id)?;
        let mut timestamp = -1;
        for item in led.items.iter().filter(|item| item.is_decided()) {
            timestamp = self.earliest_of(item, header.topic).await?;
            if timestamp >= 0 {
                break;
            }
        }
        Ok(Answer::ok().with("timestamp", timestamp))
    }

    /// Store time of an item's first message, or -1.
    async fn earliest_of(&self, item: &QueueMappingItem, topic: &str) -> Result<i64, Refusal> {
        if self.mapping.is_here(item) {
            let queue_id = item.queue_id;
            return self
                .look_up(topic, move |store, topic| Ok(store.earliest(topic, queue_id).unwrap_or(-1)))
                .await;
        }
        let request = Self::of_queue(RequestCode::GetEarliestMsgStoretime, topic, item);
        number(self.ask(item, request).await?, "timestamp")
    }

    fn of_queue(code: RequestCode, topic: &str, item: &QueueMappingItem) -> Frame {
        let mut request = Frame::request(code);
        QueueHeader {
            topic,
            queue_id: item.queue_id,
        }
        .encode(&mut request.ext);
        request
    }

    /// Lower: the first item with a message at or after the time has the offset. Upper: the last item that begins at or before it.
    async fn search(&self, frame: &Frame) -> Outcome {
        let header = SearchOffsetHeader::decode(&frame.ext)?;
        let led = self.mapping.led(header.queue_id)?;
        let decided: Vec<&QueueMappingItem> = led.items.iter().filter(|item| item.is_decided()).collect();
        let is_upper = header.boundary() == BoundaryType::Upper;
        let (last, before) = match (&*decided, is_upper) {
            ([], _) => return Err(self.mapping.undecided(header.queue_id).into()),
            ([before @ .., last], false) => (last, before),
            ([last, before @ ..], true) => (last, before),
        };
        let found = |item: &QueueMappingItem, offset| Ok(Answer::ok().with("offset", item.logical(offset)));
        for n in 0..before.len() {
            let item = if is_upper { before[before.len() - 1 - n] } else { before[n] };
            let is_here = if is_upper {
                (0..=header.timestamp).contains(&self.earliest_of(item, header.topic).await?)
            } else {
                self.by_time(item, &header).await? < self.max_of(item, header.topic).await?
            };
            if is_here {
                return found(item, self.by_time(item, &header).await?);
            }
        }
        found(last, self.by_time(last, &header).await?)
    }

    async fn by_time(&self, item: &QueueMappingItem, header: &SearchOffsetHeader<'_>) -> Result<i64, Refusal> {
        if self.mapping.is_here(item) {
            let (queue_id, timestamp, boundary) = (item.queue_id, header.timestamp, header.boundary());
            return self
                .look_up(header.topic, move |store, topic| {
                    store.by_time(topic, queue_id, timestamp, boundary)
                })
                .await;
        }
        let mut request = Frame::request(RequestCode::SearchOffsetByTimestamp);
        SearchOffsetHeader {
            queue_id: item.queue_id,
            ..*header
        }
        .encode(&mut request.ext);
        number(self.ask(item, request).await?, "offset")
    }

    /// Reads the own store on a thread that may wait for the disk.
    async fn look_up(
        &self,
        topic: &str,
        read: impl FnOnce(&dyn Queues, &str) -> Result<i64, Refusal> + Send + 'static,
    ) -> Result<i64, Refusal> {
        let (store, topic) = (Arc::clone(&self.core.store), topic.to_owned());
        let read = tokio::task::spawn_blocking(move || read(&*store, &topic));
        read.await.map_err(|error| Refusal::system(error.to_string()))?
    }

    /// The item that `choose` takes.
    fn item<'a>(
        &'a self,
        queue_id: i32,
        choose: impl FnOnce(Led<'a>) -> Option<&'a QueueMappingItem>,
    ) -> Result<&'a QueueMappingItem, Refusal> {
        let led = self.mapping.led(queue_id)?;
        Ok(choose(led).ok_or_else(|| self.mapping.undecided(queue_id))?)
    }
}
