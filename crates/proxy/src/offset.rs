//! Offsets of groups, and of messages by time.

use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::outcome::outcome;
use crate::route::{check_group, check_topic, name_of, no_topic};
use crate::service::Messaging;
use crate::time::timestamp_ms;
use crate::v2::{
    Code, GetOffsetRequest, GetOffsetResponse, MessageQueue, QueryOffsetPolicy, QueryOffsetRequest, QueryOffsetResponse,
    UpdateOffsetRequest, UpdateOffsetResponse,
};
use broker::errors::Refusal;
use broker::offset::operations::{self, Committed, GroupQueue};
use broker::queues::Queues;
use broker::topic::Topic;
use protocol::offset::BoundaryType;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Messaging {
    fn queue<'a>(&self, queue: Option<&'a MessageQueue>) -> Result<(Arc<Topic>, &'a str, i32), Refused> {
        let name = name_of(queue.and_then(|queue| queue.topic.as_ref()));
        check_topic(name)?;
        let id = queue.map_or(-1, |queue| queue.id);
        let topic = self.broker.core.topics.find(name).ok_or_else(|| no_topic(name))?;
        if id < 0 || id >= topic.read_queues.max(topic.write_queues) {
            let text = format!("topic {name} has {} queues to read, queue {id} does not exist", topic.read_queues);
            return Err(Refused::new(Code::BadRequest, text));
        }
        Ok((topic, name, id))
    }

    pub(crate) fn update_offset(&self, caller: &Caller, request: &UpdateOffsetRequest) -> UpdateOffsetResponse {
        let outcome = self.updated_offset(caller, request);
        UpdateOffsetResponse {
            status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
        }
    }

    fn updated_offset(&self, caller: &Caller, request: &UpdateOffsetRequest) -> Result<(), Refused> {
        let group = name_of(request.group.as_ref());
        check_group(group)?;
        let (_, name, queue_id) = self.queue(request.message_queue.as_ref())?;
        if request.offset < 0 {
            let text = format!("the offset is {}; it must not be below 0", request.offset);
            return Err(Refused::new(Code::IllegalOffset, text));
        }
        let core = &self.broker.core;
        let topic = operations::find_topic(group, name, &core.groups, &core.topics)?;
        let client = self.number_of(caller);
        let queue = GroupQueue {
            group,
            topic: name,
            queue_id,
        };
        match operations::commit(queue, &topic, request.offset, client, &core.offsets, &*core.store)? {
            Committed::Stored | Committed::Ignored(_) => Ok(()),
        }
    }

    pub(crate) fn offset(&self, request: &GetOffsetRequest) -> GetOffsetResponse {
        match self.committed(request) {
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

    fn committed(&self, request: &GetOffsetRequest) -> Result<i64, Refused> {
        let group = name_of(request.group.as_ref());
        check_group(group)?;
        let (_, name, queue_id) = self.queue(request.message_queue.as_ref())?;
        let core = &self.broker.core;
        core.offsets.committed(name, group, queue_id).ok_or_else(|| {
            let text = format!("group {group} has no offset in queue {queue_id} of topic {name}: query one (QueryOffset), and update it");
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
        let (_, name, queue_id) = self.queue(request.message_queue.as_ref())?;
        let store = &self.broker.core.store;
        match request.query_offset_policy() {
            QueryOffsetPolicy::Beginning => Ok(store.min(name, queue_id)),
            QueryOffsetPolicy::End => Ok(store.max(name, queue_id)),
            QueryOffsetPolicy::Timestamp => {
                let time = request.timestamp.as_ref().map(timestamp_ms);
                let time =
                    time.ok_or_else(|| Refused::new(Code::BadRequest, "the policy is TIMESTAMP, and the request has no timestamp"))?;
                let (done, found) = oneshot::channel();
                let (store, name) = (Arc::clone(store), name.to_owned());
                let job = move || {
                    let _ = done.send(store.by_time(&name, queue_id, time, BoundaryType::Lower));
                };
                self.broker.core.threads.reader.run_own(job).map_err(Refusal::from)?;
                Ok(outcome(found).await??)
            }
        }
    }
}
