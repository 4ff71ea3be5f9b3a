//! Offsets of groups, and of messages by time.

use crate::backend::{Position, QueueName};
use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::route::{check_group, check_topic, name_of, no_topic};
use crate::service::Messaging;
use crate::time::timestamp_ms;
use crate::v2::{
    Code, GetOffsetRequest, GetOffsetResponse, MessageQueue, QueryOffsetPolicy, QueryOffsetRequest, QueryOffsetResponse,
    UpdateOffsetRequest, UpdateOffsetResponse,
};

impl Messaging {
    /// The queue that a client names.
    async fn queue<'a>(&self, queue: Option<&'a MessageQueue>) -> Result<QueueName<'a>, Refused> {
        let topic = name_of(queue.and_then(|queue| queue.topic.as_ref()));
        check_topic(topic)?;
        let name = QueueName::of(topic, queue);
        let found = self.backend.topic(topic).await?.ok_or_else(|| no_topic(topic))?;
        let known = self.backend.queues(&found);
        let mut of_broker = known.iter().filter(|known| name.broker.is_empty() || known.broker == name.broker);
        if of_broker.any(|known| (0..known.read.max(known.write)).contains(&name.id)) {
            return Ok(name);
        }
        let count = known.iter().map(|known| known.read).max().unwrap_or(0);
        let text = format!("topic {topic} has {count} queues to read, queue {} does not exist", name.id);
        Err(Refused::new(Code::BadRequest, text))
    }

    pub(crate) async fn update_offset(&self, caller: &Caller, request: &UpdateOffsetRequest) -> UpdateOffsetResponse {
        let outcome = self.updated_offset(caller, request).await;
        UpdateOffsetResponse {
            status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
        }
    }

    async fn updated_offset(&self, caller: &Caller, request: &UpdateOffsetRequest) -> Result<(), Refused> {
        let group = name_of(request.group.as_ref());
        check_group(group)?;
        let queue = self.queue(request.message_queue.as_ref()).await?;
        if request.offset < 0 {
            let text = format!("the offset is {}; it must not be below 0", request.offset);
            return Err(Refused::new(Code::IllegalOffset, text));
        }
        self.backend.commit(self.number_of(caller), group, queue, request.offset).await
    }

    pub(crate) async fn offset(&self, request: &GetOffsetRequest) -> GetOffsetResponse {
        match self.committed(request).await {
            Ok(offset) => GetOffsetResponse {
                status: Some(codes::ok()),
                offset,
            },
            Err(refused) => GetOffsetResponse {
                status: Some(refused.into()),
                offset: 0,
            },
        }
    }

    async fn committed(&self, request: &GetOffsetRequest) -> Result<i64, Refused> {
        let group = name_of(request.group.as_ref());
        check_group(group)?;
        let queue = self.queue(request.message_queue.as_ref()).await?;
        let committed = self.backend.committed(group, queue).await?;
        committed.ok_or_else(|| {
            let (topic, id) = (queue.topic, queue.id);
            let text = format!("group {group} has no offset in queue {id} of topic {topic}: query one (QueryOffset), and update it");
            Refused::new(Code::OffsetNotFound, text)
        })
    }

    pub(crate) async fn query_offset(&self, request: &QueryOffsetRequest) -> QueryOffsetResponse {
        match self.queried(request).await {
            Ok(offset) => QueryOffsetResponse {
                status: Some(codes::ok()),
                offset,
            },
            Err(refused) => QueryOffsetResponse {
                status: Some(refused.into()),
                offset: 0,
            },
        }
    }

    async fn queried(&self, request: &QueryOffsetRequest) -> Result<i64, Refused> {
        let queue = self.queue(request.message_queue.as_ref()).await?;
        let position = match request.query_offset_policy() {
            QueryOffsetPolicy::Beginning => Position::Beginning,
            QueryOffsetPolicy::End => Position::End,
            QueryOffsetPolicy::Timestamp => {
                let time = request.timestamp.as_ref().map(timestamp_ms);
                let missing = || Refused::new(Code::BadRequest, "the policy is TIMESTAMP, and the request has no timestamp");
                Position::Time(time.ok_or_else(missing)?)
            }
        };
        self.backend.offset_at(queue, position).await
    }
}
