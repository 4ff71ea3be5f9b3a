//! Removes from mappings what is of no use any more, in the hours of `deleteWhen`, as Apache's broker does.
//!
//! - The first item of a logical queue, when its physical queue has no message left: the leader removes it from its own list.
//! - A list that a former leader keeps, when the queue was moved on since: the one that it was moved to has the list.
//!
//! Neither is needed for correctness; without it lists grow with each move. What cannot be asked stays as it is.

use super::forward::Forwarder;
use super::offsets::refused;
use crate::clock::now_ms;
use crate::core::Core;
use crate::errors::Refusal;
use crate::feature::{self, Feature, Work};
use crate::local_time::hour;
use crate::queues::Queues;
use protocol::offset::{MaxOffsetHeader, QueueHeader};
use protocol::static_topic::{QueueMappingDetail, QueueMappingItem};
use protocol::topic::{TopicConfigAndMapping, TopicConfigHeader};
use protocol::{Frame, RequestCode, ResponseCode, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time between two clean-ups within an hour of `deleteWhen`.
const EVERY: Duration = Duration::from_secs(300);

/// Cleans the mappings of this broker.
pub struct MappingCleaner {
    core: Core,
    forwarder: Arc<Forwarder>,
}

impl Feature for MappingCleaner {
    fn run(self: Arc<Self>) -> Work {
        Box::pin(feature::every(EVERY, move |now_ms| {
            let is_due = self.core.settings.current().delete_when.contains(hour(now_ms));
            if is_due
                && self.core.topics.has_mappings()
                && let Ok(begun) = self.forwarder.begin()
            {
                let cleaner = Arc::clone(&self);
                begun.run(async move { cleaner.clean().await });
            }
        }))
    }
}

impl MappingCleaner {
    /// Of the topics of `core`.
    #[must_use]
    pub fn new(core: Core, forwarder: Arc<Forwarder>) -> Self {
        Self { core, forwarder }
    }

    async fn clean(&self) {
        for (topic, mapping) in self.core.topics.mappings().1 {
            let empty = self.empty_firsts(&topic, &mapping).await;
            let left = self.moved_on(&topic, &mapping).await;
            if empty.is_empty() && left.is_empty() {
                continue;
            }
            tracing::info!(
                topic,
                ?empty,
                ?left,
                "mapping cleaned: first items without messages, lists of queues that were moved on"
            );
            let cleaned = self
                .core
                .topics
                .change_mapping(&topic, now_ms(), |now| cleaned(now, mapping.epoch, &empty, &left));
            if let Err(error) = cleaned {
                tracing::warn!(topic, %error, "the mapping was not cleaned");
            }
        }
    }

    /// Logical queues led here whose first item has no messages, with its generation.
    async fn empty_firsts(&self, topic: &str, mapping: &QueueMappingDetail) -> BTreeMap<i32, i32> {
        let mut empty = BTreeMap::new();
        for (id, items) in &mapping.hosted_queues {
            if let ([first, next, ..], Some(leader)) = (&**items, items.last())
                && leader.bname == mapping.bname
                && next.is_decided()
                && self.is_empty(topic, mapping, first).await.unwrap_or(false)
            {
                empty.insert(*id, first.generation);
            }
        }
        empty
    }

    async fn is_empty(&self, topic: &str, mapping: &QueueMappingDetail, item: &QueueMappingItem) -> Result<bool, Refusal> {
        let (store, queue_id) = (&*self.core.store, item.queue_id);
        if item.bname == mapping.bname {
            return Ok(Queues::min(store, topic, queue_id) == Queues::max(store, topic, queue_id));
        }
        let (mut min, mut max) = (Frame::request(RequestCode::GetMinOffset), Frame::request(RequestCode::GetMaxOffset));
        QueueHeader { topic, queue_id }.encode(&mut min.ext);
        MaxOffsetHeader {
            topic,
            queue_id,
            committed: None,
        }
        .encode(&mut max.ext);
        Ok(self.offset(topic, item, min).await? == self.offset(topic, item, max).await?)
    }

    async fn offset(&self, topic: &str, item: &QueueMappingItem, request: Frame) -> Result<i64, Refusal> {
        let answer = self.forwarder.ask(topic, &item.bname, request).await?;
        answer.ext.long("offset").ok_or_else(|| refused(&answer))
    }

    /// Logical queues that were moved away from here, and then on to another broker, which has their list.
    async fn moved_on(&self, topic: &str, mapping: &QueueMappingDetail) -> Vec<i32> {
        let known = mapping
            .hosted_queues
            .iter()
            .filter_map(|(id, items)| Some((*id, &*items.last()?.bname)));
        let away: Vec<(i32, &str)> = known.filter(|(_, leader)| *leader != mapping.bname).collect();
        if away.is_empty() {
            return Vec::new();
        }
        let timeout = self.core.settings.current().forward_timeout;
        let Ok(route) = self.forwarder.route(topic, timeout).await else {
            return Vec::new();
        };
        let registered = route.topic_queue_mapping_by_broker.unwrap_or_default();
        let mut moved_on = Vec::new();
        for (id, leader) in away {
            let now = registered
                .values()
                .filter(|other| other.epoch == mapping.epoch && other.curr_id_map.contains_key(&id));
            let now: Vec<&str> = now.map(|other| &*other.bname).collect();
            if let [now] = *now
                && now != leader
                && now != mapping.bname
                && self.leads(topic, mapping, now, id).await.unwrap_or(false)
            {
                moved_on.push(id);
            }
        }
        moved_on
    }

    /// Whether a broker has the same version of the mapping, and leads the queue by it.
    async fn leads(&self, topic: &str, mapping: &QueueMappingDetail, broker: &str, id: i32) -> Result<bool, Refusal> {
        let mut request = Frame::request(RequestCode::GetTopicConfig);
        TopicConfigHeader {
            topic,
            is_logical: Some(true),
        }
        .encode(&mut request.ext);
        let answer = self.forwarder.ask_as_it_is(topic, broker, request).await?;
        if answer.code != i32::from(ResponseCode::Success) {
            return Err(refused(&answer));
        }
        let there = json::read::<TopicConfigAndMapping>(&answer.body)?
            .mapping_detail
            .unwrap_or_default();
        let leader = there.hosted_queues.get(&id).and_then(|items| items.last());
        Ok(there.epoch == mapping.epoch
            && there.total_queues == mapping.total_queues
            && leader.is_some_and(|leader| leader.bname == broker))
    }
}

/// The mapping without these first items and lists; `None` if it has changed since it was looked at.
fn cleaned(now: &QueueMappingDetail, epoch: i64, empty: &BTreeMap<i32, i32>, left: &[i32]) -> Option<QueueMappingDetail> {
    if now.epoch != epoch {
        return None;
    }
    let mut cleaned = now.clone();
    cleaned.hosted_queues.retain(|id, _| !left.contains(id));
    for (id, generation) in empty {
        let items = cleaned
            .hosted_queues
            .get_mut(id)
            .filter(|items| items.len() > 1 && items[0].generation == *generation);
        items.into_iter().for_each(|items| drop(items.remove(0)));
    }
    Some(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_looked_at_is_removed() {
        let item = |generation, broker: &str| QueueMappingItem {
            generation,
            bname: broker.to_owned(),
            ..QueueMappingItem::default()
        };
        let mut detail = QueueMappingDetail::new("t", 3, "a", 5);
        detail.hosted_queues.insert(0, vec![item(0, "b"), item(1, "a")]);
        detail.hosted_queues.insert(1, vec![item(0, "a"), item(1, "b")]);
        detail.hosted_queues.insert(2, vec![item(4, "a")]);
        let empty = BTreeMap::from([(0, 0), (2, 4)]);
        let after = cleaned(&detail, 5, &empty, &[1]).unwrap();
        assert_eq!(
            after.hosted_queues,
            BTreeMap::from([(0, vec![item(1, "a")]), (2, vec![item(4, "a")])]),
            "the last item stays"
        );
        assert_eq!(cleaned(&detail, 4, &empty, &[1]), None, "it was changed meanwhile");
        let other = BTreeMap::from([(0, 1)]);
        assert_eq!(cleaned(&detail, 5, &other, &[]).unwrap(), detail, "another item is first now");
    }
}
