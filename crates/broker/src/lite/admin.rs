//! What operators ask about lite topics (200074 to 200079).

use super::rules::{self, LiteGroup};
use super::{Lites, rules::is_parent};
use crate::clock::now_ms;
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use message::{QueueOffset, names};
use protocol::codes::ResponseCode;
use protocol::frame::Frame;
use protocol::json;
use protocol::lite::{
    BrokerLiteInfo, ClientGroup, LiteClientInfo, LiteClientInfoHeader, LiteGroupInfo, LiteGroupInfoHeader, LiteLag, LiteTopicInfo,
    LiteTopicInfoHeader, ParentTopicInfo, ParentTopicInfoHeader, TriggerLiteDispatchHeader,
};
use protocol::stats::{OffsetWrapper, TopicOffset};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Lite topics in an answer about a client, where it does not say.
const USUAL_COUNT: i32 = 1_000;
/// Most lite topics in an answer about a client.
const MAX_COUNT: i32 = 10_000;
/// Lite topics in an answer about a group, where it does not say.
const USUAL_TOP: i32 = 20;
/// Most lite topics in an answer about a group.
const MAX_TOP: i32 = 1_000;

fn count(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

/// A lite topic of which a group has not consumed all.
struct Lag {
    queue: String,
    committed: i64,
    count: i64,
}

impl Lites {
    /// Code 200074.
    pub fn broker_info(&self) -> Outcome {
        let settings = self.core.settings.current();
        let (_, topics) = self.core.topics.all();
        let ttl = |topic: &crate::topic::Topic| rules::expires_after_minutes(&topic.attributes).map_or(-1, |minutes| minutes as i32);
        let parents = topics.iter().filter(|topic| is_parent(topic));
        let light = count(self.core.store.light_queue_count());
        let state = self.state.lock();
        let info = BrokerLiteInfo {
            cq_table_size: light,
            current_lmq_num: light,
            event_map_size: count(state.clients_with_ready()),
            group_meta: self.groups_by_parent(),
            lite_subscription_count: count(state.subscriptions()),
            max_lmq_num: count(settings.most_light_queues()),
            offset_table_size: count(self.core.offsets.pairs()),
            order_info_count: count(state.in_flight()),
            store_type: "default".to_owned(),
            topic_meta: parents.map(|topic| (topic.name.to_string(), ttl(topic))).collect(),
        };
        Ok(Answer::body(json::write(&info)))
    }

    /// The groups that are bound to each parent topic.
    fn groups_by_parent(&self) -> BTreeMap<String, BTreeSet<String>> {
        let (_, groups, _) = self.core.groups.snapshot();
        let mut by_parent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, rule) in groups {
            if let Some(group) = LiteGroup::of(&rule) {
                by_parent.entry(group.parent.into()).or_default().insert(name);
            }
        }
        by_parent
    }

    /// Code 200075.
    ///
    /// # Errors
    /// The topic does not exist, or has no lite topics.
    pub fn parent_info(&self, frame: &Frame) -> Outcome {
        let header = ParentTopicInfoHeader::decode(&frame.ext)?;
        let topic = rules::parent(&self.core, header.topic)?;
        let own = self
            .core
            .store
            .light_ends(&|queue, _| names::lite_topic_of(queue).is_some_and(|(of, _)| of == header.topic));
        let info = ParentTopicInfo {
            groups: self.groups_by_parent().remove(header.topic),
            lite_topic_count: count(own.len()),
            lmq_num: count(self.core.store.light_queue_count()),
            topic: header.topic.to_owned(),
            ttl: rules::expires_after_minutes(&topic.attributes).map_or(-1, |minutes| minutes as i32),
        };
        Ok(Answer::body(json::write(&info)))
    }

    /// Code 200076.
    ///
    /// # Errors
    /// The topic does not exist, or has no lite topics.
    pub fn topic_info(&self, frame: &Frame) -> Outcome {
        let header = LiteTopicInfoHeader::decode(&frame.ext)?;
        rules::parent(&self.core, header.parent_topic)?;
        let queue = rules::queue_of(header.parent_topic, header.lite_topic)?;
        let (store, max) = (&self.core.store, self.core.store.max_offset(&queue, 0).0);
        let last = (max > 0).then(|| store.store_time(&queue, 0, QueueOffset(max - 1))).flatten();
        let subscribers = self.state.lock().subscribers(header.parent_topic, &queue);
        let info = LiteTopicInfo {
            lite_topic: header.lite_topic.to_owned(),
            parent_topic: header.parent_topic.to_owned(),
            // Here every lite topic may be subscribed to.
            sharding_to_broker: true,
            subscriber: subscribers
                .into_iter()
                .map(|(group, client)| ClientGroup {
                    client_id: client.map_or_else(|| "*".to_owned(), |client| client.to_string()),
                    group: group.to_string(),
                })
                .collect(),
            topic_offset: TopicOffset {
                last_update_timestamp: last.unwrap_or(0),
                max_offset: max,
                min_offset: store.min_offset(&queue, 0).0.max(0),
            },
        };
        Ok(Answer::body(json::write(&info)))
    }

    /// Code 200077.
    ///
    /// # Errors
    /// Topic or group do not exist, or are not bound to each other.
    pub fn client_info(&self, frame: &Frame) -> Outcome {
        let header = LiteClientInfoHeader::decode(&frame.ext)?;
        rules::parent(&self.core, header.parent_topic)?;
        self.bound(header.group, Some(header.parent_topic))?;
        let most = header.max_count.unwrap_or(USUAL_COUNT);
        if most <= 0 {
            return Err(Refusal::invalid(format!("maxCount is {most}, it must be above 0")));
        }
        let known = self.state.lock().client(header.group, header.client_id);
        let since = self.now() - now_ms();
        let at = |steady: Option<i64>| steady.map_or(-1, |steady| steady - since);
        let info = LiteClientInfo {
            client_id: header.client_id.to_owned(),
            group: header.group.to_owned(),
            last_access_time: at(known.as_ref().and_then(|known| known.last_access)),
            last_consume_time: at(known.as_ref().and_then(|known| known.last_consume)),
            lite_topic_count: known.as_ref().map_or(-1, |known| count(known.queues.len())),
            lite_topic_set: known.map(|known| {
                let queues = known.queues.iter().take(most.min(MAX_COUNT) as usize);
                queues.map(ToString::to_string).collect()
            }),
            parent_topic: header.parent_topic.to_owned(),
        };
        Ok(Answer::body(json::write(&info)))
    }

    /// A group that is bound to a parent topic: to this one, if it is given.
    fn bound(&self, group: &str, parent: Option<&str>) -> Result<LiteGroup, Refusal> {
        let rule = self.core.groups.find(group).ok_or_else(|| {
            let text = format!("Group [{group}] not exist.");
            Refusal::new(ResponseCode::SubscriptionGroupNotExist, text)
        })?;
        let bound = LiteGroup::of(&rule)
            .ok_or_else(|| Refusal::invalid(format!("Group [{group}] is not a LITE group: it has no attribute lite.bind.topic")))?;
        match parent.filter(|parent| *bound.parent != **parent) {
            Some(parent) => Err(Refusal::invalid(format!("Subscription [{group}]-[{parent}] not match."))),
            None => Ok(bound),
        }
    }

    /// Code 200078. May block.
    ///
    /// # Errors
    /// The group does not exist, or is not bound to a topic.
    pub fn group_info(&self, frame: &Frame) -> Outcome {
        let header = LiteGroupInfoHeader::decode(&frame.ext)?;
        let bound = self.bound(header.group, None)?;
        let mut info = LiteGroupInfo {
            earliest_unconsumed_timestamp: -1,
            group: header.group.to_owned(),
            lite_topic: header.lite_topic.filter(|lite| !lite.is_empty()).map(ToOwned::to_owned),
            parent_topic: bound.parent.to_string(),
            ..LiteGroupInfo::default()
        };
        match info.lite_topic.clone() {
            Some(lite) => self.add_lite_topic(&mut info, &lite)?,
            None => self.add_lags(&mut info, header.top_k.unwrap_or(USUAL_TOP)),
        }
        Ok(Answer::body(json::write(&info)))
    }

    fn add_lite_topic(&self, info: &mut LiteGroupInfo, lite: &str) -> Result<(), Refusal> {
        let queue = rules::queue_of(&info.parent_topic, lite)?;
        let store = &self.core.store;
        let max = store.max_offset(&queue, 0).0;
        if max <= 0 {
            info.total_lag_count = -1;
            return Ok(());
        }
        let Some(committed) = self.core.offsets.committed(&queue, &info.group, 0) else {
            return Ok(());
        };
        let stored = |offset: i64| store.store_time(&queue, 0, QueueOffset(offset));
        info.total_lag_count = max - committed;
        info.earliest_unconsumed_timestamp = stored(committed).unwrap_or(-1);
        info.lite_topic_offset_wrapper = Some(OffsetWrapper {
            broker_offset: max,
            consumer_offset: committed,
            last_timestamp: stored(committed - 1).unwrap_or(0),
            pull_offset: 0,
            damaged: self.core.offsets.damaged(&queue, &info.group, 0),
        });
        Ok(())
    }

    fn add_lags(&self, info: &mut LiteGroupInfo, top: i32) {
        let top = top.clamp(1, MAX_TOP) as usize;
        let store = &self.core.store;
        let lag = |queue: String| {
            let (parent, _) = names::lite_topic_of(&queue)?;
            (*parent == *info.parent_topic).then_some(())?;
            let committed = self.core.offsets.committed(&queue, &info.group, 0)?;
            let count = store.max_offset(&queue, 0).0 - committed;
            (count > 0).then_some(Lag { queue, committed, count })
        };
        let mut lags: Vec<Lag> = self.core.offsets.topics_of(&info.group).into_iter().filter_map(lag).collect();
        let shown = |lag: &Lag| LiteLag {
            earliest_unconsumed_timestamp: store.store_time(&lag.queue, 0, QueueOffset(lag.committed)).unwrap_or(-1),
            lag_count: lag.count,
            lite_topic: names::lite_topic_of(&lag.queue).map_or_else(String::new, |(_, lite)| lite.to_owned()),
        };
        info.total_lag_count = lags.iter().map(|lag| lag.count).sum();
        lags.sort_by_key(|lag| std::cmp::Reverse(lag.count));
        info.lag_count_top_k = Some(lags.iter().take(top).map(shown).collect());
        // The log is in the order of time.
        lags.sort_by_cached_key(|lag| store.log_offset_of(&lag.queue, 0, QueueOffset(lag.committed)));
        let oldest: Vec<LiteLag> = lags.iter().take(top).map(shown).collect();
        info.earliest_unconsumed_timestamp = oldest.first().map_or(-1, |lag| lag.earliest_unconsumed_timestamp);
        info.lag_timestamp_top_k = Some(oldest);
    }

    /// Code 200079: looks again which lite topics have messages, although no event should be missed.
    ///
    /// # Errors
    /// The group does not exist, or is not bound to a topic.
    pub fn dispatch(self: &Arc<Self>, frame: &Frame) -> Outcome {
        let header = TriggerLiteDispatchHeader::decode(&frame.ext)?;
        let bound = self.bound(header.group, None)?;
        if bound.is_wildcard {
            self.look_at_all(header.group, &bound.parent);
            return Ok(Answer::ok());
        }
        let clients: Vec<Arc<str>> = match header.client_id.filter(|client| !client.is_empty()) {
            Some(client) => vec![client.into()],
            None => self.state.lock().clients_of(header.group),
        };
        for client in clients {
            let queues = self.state.lock().queues_of(header.group, &client);
            for queue in queues {
                if self.has_more(header.group, &queue) {
                    self.ready_later(header.group, &queue);
                }
            }
        }
        Ok(Answer::ok())
    }
}
