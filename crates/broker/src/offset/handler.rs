//! Handlers of offsets: codes 14, 15, 29 to 32, 43, 208, 308, 314 and 317.

use super::operations::{self, Committed, GroupQueue};
use super::{OffsetError, Offsets, table};
use crate::clients::Consumers;
use crate::clients::table::Channel;
use crate::errors::Refusal;
use crate::group::{GroupError, Groups};
use crate::queues::Queues;
use crate::reply::{Answer, Outcome};
use crate::stats::BrokerStats;
use crate::topic::Topics;
use protocol::diagnose::{CorrectionOffsetHeader, CorrectionOffsets};
use protocol::offset::{MaxOffsetHeader, QueryConsumerOffsetHeader, QueueHeader, SearchOffsetHeader};
use protocol::reset::CloneGroupOffsetHeader;
use protocol::stats::{BrokerConsumeStatsHeader, ConsumeStats, ConsumeStatsHeader, ConsumeStatsList, OffsetWrapper};
use protocol::{Frame, MessageQueue, ResponseCode, json};
use std::collections::{BTreeMap, BTreeSet};

impl From<OffsetError> for Refusal {
    fn from(error: OffsetError) -> Self {
        match error {
            OffsetError::Negative { .. } => Self::invalid(error.to_string()),
            _ => Self::system(error.to_string()),
        }
    }
}

/// Code 14: queries a group's offset in a queue, see [`operations::query`].
///
/// # Errors
/// `QueryNotFound` if there is none, `SystemError` if a field is missing.
pub fn query(request: &Frame, offsets: &Offsets, topics: &Topics, queues: &dyn Queues) -> Outcome {
    let header = QueryConsumerOffsetHeader::decode(&request.ext)?;
    let place = GroupQueue {
        group: header.consumer_group,
        topic: header.topic,
        queue_id: header.queue_id,
    };
    let offset = operations::query(place, header.set_zero_if_not_found, offsets, topics, queues)?;
    Ok(Answer::ok().with("offset", offset))
}

/// Code 15: commits a group's offset in a queue, see [`operations::commit`]. An ignored commit gets a success response.
///
/// # Errors
/// The refusals of [`operations::commit`] and [`operations::find_topic`]; `InvalidParameter` or `SystemError` if a field is
/// missing.
pub fn update(request: &Frame, client: u64, offsets: &Offsets, groups: &Groups, topics: &Topics, queues: &dyn Queues) -> Outcome {
    let group = request.ext.require_text("consumerGroup")?;
    let topic = request.ext.require_text("topic")?;
    // Compat: Apache checks these before the other fields.
    let topic = operations::find_topic(group, topic, groups, topics)?;
    let missing = |what: &str| Refusal::invalid(format!("{what} is null, topic is {}", topic.name));
    let place = GroupQueue {
        group,
        topic: &topic.name,
        queue_id: request.ext.optional_int("queueId")?.ok_or_else(|| missing("QueueId"))?,
    };
    let offset = request.ext.optional_int("commitOffset")?.ok_or_else(|| missing("Offset"))?;
    Ok(match operations::commit(place, &topic, offset, client, offsets, queues)? {
        Committed::Stored => Answer::ok(),
        Committed::Ignored(why) => Answer::ok().remark(why),
    })
}

/// Code 29: the offset of a time.
///
/// # Errors
/// The refusal of a `StoreError` if the queue cannot be read, `SystemError` if a field is missing.
pub fn search(request: &Frame, queues: &dyn Queues) -> Outcome {
    let header = SearchOffsetHeader::decode(&request.ext)?;
    let offset = queues.by_time(header.topic, header.queue_id, header.timestamp, header.boundary())?;
    Ok(Answer::ok().with("offset", offset))
}

/// Code 30: the max offset of a queue, one after its last message.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn max(request: &Frame, queues: &dyn Queues) -> Outcome {
    let header = MaxOffsetHeader::decode(&request.ext)?;
    Ok(Answer::ok().with("offset", queues.max(header.topic, header.queue_id)))
}

/// Code 31: the min offset of a queue, that of its first message.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn min(request: &Frame, queues: &dyn Queues) -> Outcome {
    let header = QueueHeader::decode(&request.ext)?;
    Ok(Answer::ok().with("offset", queues.min(header.topic, header.queue_id)))
}

/// Code 32: the store timestamp of a queue's first message in ms since 1970; -1 if the queue is empty.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn earliest(request: &Frame, queues: &dyn Queues) -> Outcome {
    let header = QueueHeader::decode(&request.ext)?;
    let timestamp = queues.earliest(header.topic, header.queue_id).unwrap_or(-1);
    Ok(Answer::ok().with("timestamp", timestamp))
}

/// Code 43: all offsets. Never fails.
pub fn all(offsets: &Offsets, now_ms: i64) -> Outcome {
    Ok(Answer::body(table::text(offsets, offsets.version(now_ms), table::Layout::Body)))
}

/// Code 314: copies one group's offsets to another. The target group is created if it does not exist; Apache stores offsets even
/// for groups that do not exist, under any name.
///
/// # Errors
/// `SystemError` if a field is missing, `SubscriptionGroupNotExist` if the group may not be created, or the refusal of a
/// [`GroupError`] or [`OffsetError`].
pub fn clone_group<C: Channel>(
    request: &Frame,
    offsets: &Offsets,
    topics: &Topics,
    consumers: &Consumers<C>,
    make_group: impl FnOnce(&str) -> Result<(), GroupError>,
) -> Outcome {
    let header = CloneGroupOffsetHeader::decode(&request.ext)?;
    make_group(header.dest_group).map_err(|error| match error {
        GroupError::Missing => {
            let text = format!("subscription group [{}] does not exist: {error}", header.dest_group);
            Refusal::new(ResponseCode::SubscriptionGroupNotExist, text)
        }
        other => other.into(),
    })?;
    let requested = match header.topic.filter(|topic| !topic.trim().is_empty()) {
        Some(topic) => BTreeSet::from([topic.to_owned()]),
        None => offsets.topics_of(header.src_group),
    };
    for topic in requested.iter().filter(|topic| topics.contains(topic)) {
        if header.offline || is_subscribed(consumers, header.src_group, topic) {
            offsets.clone_group(topic, header.src_group, header.dest_group)?;
        }
    }
    Ok(Answer::ok())
}

/// Whether a group's progress on a topic is reported: it subscribes to the topic or is offline.
fn is_subscribed<C: Channel>(consumers: &Consumers<C>, group: &str, topic: &str) -> bool {
    consumers.subscription(group, topic).is_some() || consumers.subscription_count(group) == 0
}

/// The tables that the progress is computed from.
#[derive(Clone, Copy)]
pub struct Progress<'a, C> {
    /// Committed offsets.
    pub offsets: &'a Offsets,
    /// Topics.
    pub topics: &'a Topics,
    /// Subscriptions.
    pub consumers: &'a Consumers<C>,
    /// Consume rates.
    pub stats: &'a BrokerStats,
    /// Min and max offsets and store timestamps.
    pub queues: &'a dyn Queues,
    /// Name of this broker.
    pub broker: &'a str,
}

/// Code 208: progress of a group on the requested topics, or on all of its topics.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn progress<C: Channel>(request: &Frame, of: &Progress<'_, C>) -> Outcome {
    let header = ConsumeStatsHeader::decode(&request.ext)?;
    let group = header.consumer_group;
    let list = header.topic_list.unwrap_or_default().split(';').filter(|topic| !topic.is_empty());
    let mut topics: BTreeSet<String> = list.map(str::to_owned).collect();
    if topics.is_empty() {
        topics = match header.topic.filter(|topic| !topic.trim().is_empty()) {
            Some(topic) => BTreeSet::from([topic.to_owned()]),
            None => of.offsets.topics_of(group),
        };
        topics.retain(|topic| is_subscribed(of.consumers, group, topic));
    }
    let mut body = ConsumeStats::default();
    for topic in &topics {
        if let Some(stats) = on_topic(group, topic, of) {
            body.consume_tps += stats.consume_tps;
            body.offset_table.extend(stats.offset_table);
        }
    }
    Ok(Answer::body(json::write(&body)))
}

fn on_topic<C>(group: &str, topic: &str, of: &Progress<'_, C>) -> Option<ConsumeStats> {
    let found = of.topics.find(topic)?;
    // Compat: of several queues that a logical queue consists of, only those have an offset in which it was committed.
    let none = if found.mapping().is_some() { -1 } else { 0 };
    let place = |queue_id| {
        let consumed = of.offsets.committed(topic, group, queue_id).unwrap_or(none);
        let pulled = of.offsets.pulled(topic, group, queue_id).unwrap_or(0);
        let last = (consumed > 0)
            .then(|| of.queues.store_time(topic, queue_id, consumed - 1))
            .flatten();
        let progress = OffsetWrapper {
            broker_offset: of.queues.max(topic, queue_id).max(0),
            consumer_offset: consumed,
            last_timestamp: last.unwrap_or(0),
            pull_offset: consumed.max(pulled),
            damaged: of.offsets.damaged(topic, group, queue_id),
        };
        (MessageQueue::new(topic, of.broker, queue_id), progress)
    };
    Some(ConsumeStats {
        consume_tps: of.stats.group_get_tps(topic, group),
        offset_table: (0..found.read_queues).map(place).collect(),
    })
}

/// Code 317: progress of all groups. `address` is that of this broker.
///
/// # Errors
/// `SystemError` if a field is malformed.
pub fn progress_of_all<C: Channel>(request: &Frame, groups: &Groups, address: &str, of: &Progress<'_, C>) -> Outcome {
    let only_ordered = BrokerConsumeStatsHeader::decode(&request.ext)?.is_order;
    let mut body = ConsumeStatsList {
        broker_addr: Some(address.to_owned()),
        ..ConsumeStatsList::default()
    };
    let mut names = groups.names();
    names.sort();
    for group in names {
        let topics = of.offsets.topics_of(&group).into_iter();
        let requested = topics.filter(|topic| (!only_ordered || of.topics.is_ordered(topic)) && is_subscribed(of.consumers, &group, topic));
        let stats: Vec<ConsumeStats> = requested.filter_map(|topic| on_topic(&group, &topic, of)).collect();
        for place in stats.iter().flat_map(|stats| stats.offset_table.values()) {
            body.total_diff += place.broker_offset - place.consumer_offset.max(0);
            body.total_inflight_diff += place.pull_offset - place.consumer_offset.max(0);
        }
        body.consume_stats_list.push(BTreeMap::from([(group, stats)]));
    }
    Ok(Answer::body(json::write(&body)))
}

/// Code 308: for each queue of a topic the lowest committed offset of all groups except the filtered ones; the largest `i64` if the
/// compared group is even further behind.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn correction(request: &Frame, offsets: &Offsets, queues: &dyn Queues) -> Outcome {
    let header = CorrectionOffsetHeader::decode(&request.ext)?;
    let topic = header.topic;
    let filtered: BTreeSet<&str> = header.filter_groups.unwrap_or_default().split(',').collect();
    let mut earliest: BTreeMap<i32, i64> = BTreeMap::new();
    for group in offsets.groups_of(topic).iter().filter(|group| !filtered.contains(group.as_str())) {
        for (queue_id, offset) in offsets.of_group_on_topic(topic, group) {
            if offset >= queues.min(topic, queue_id) {
                let lowest = earliest.entry(queue_id).or_insert(offset);
                *lowest = offset.min(*lowest);
            }
        }
    }
    for (queue_id, offset) in offsets.of_group_on_topic(topic, header.compare_group) {
        if let Some(lowest) = earliest.get_mut(&queue_id).filter(|lowest| **lowest > offset) {
            *lowest = i64::MAX;
        }
    }
    let body = CorrectionOffsets {
        correction_offsets: earliest,
    };
    Ok(Answer::body(json::write(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::table::ClientLimits;
    use crate::queues::testing::FakeQueues;
    use crate::testing;
    use crate::topic::{Spec, TopicLimits};
    use protocol::RequestCode;
    use std::sync::Arc;

    fn frame(fields: &[(&str, &str)]) -> Frame {
        testing::frame(RequestCode::QueryConsumerOffset, fields)
    }

    fn place(extra: &[(&str, &str)]) -> Frame {
        let mut fields = vec![("consumerGroup", "g"), ("topic", "t"), ("queueId", "0")];
        fields.extend_from_slice(extra);
        frame(&fields)
    }

    fn topics() -> Topics {
        let limits = TopicLimits { topics: 100, queues: 64 };
        let stats = Arc::new(BrokerStats::new("c", 100));
        Topics::new(vec![Spec::new("t", 2), Spec::new("u", 1)], limits, stats, Arc::default(), 0)
    }

    fn groups() -> Groups {
        let groups = Groups::new(Default::default(), Arc::default(), 0);
        groups.find_or_create("g", true, 0).unwrap();
        groups
    }

    fn offset_of(outcome: Outcome) -> Result<i64, ResponseCode> {
        outcome
            .map(|answer| answer.fields.long("offset").unwrap())
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_new_group_on_an_empty_queue_starts_at_zero_and_a_committed_offset_is_returned() {
        let (offsets, queues) = (Offsets::new(Default::default()), FakeQueues::default());
        assert_eq!(offset_of(query(&place(&[]), &offsets, &topics(), &queues)), Ok(0));
        let strict = place(&[("setZeroIfNotFound", "false")]);
        assert_eq!(
            offset_of(query(&strict, &offsets, &topics(), &queues)),
            Err(ResponseCode::QueryNotFound)
        );
        update(
            &place(&[("commitOffset", "7")]),
            1,
            &offsets,
            &groups(),
            &topics(),
            &FakeQueues::default(),
        )
        .unwrap();
        assert_eq!(offset_of(query(&strict, &offsets, &topics(), &queues)), Ok(7));
    }

    #[test]
    fn a_new_group_on_an_old_queue_chooses_its_start() {
        let offsets = Offsets::new(Default::default());
        let cold = FakeQueues {
            cold: true,
            ..FakeQueues::default().with("t", 0, 0, &[1, 2])
        };
        let ask = |queues: &FakeQueues| offset_of(query(&place(&[]), &offsets, &topics(), queues));
        assert_eq!(ask(&cold), Err(ResponseCode::QueryNotFound));
        assert_eq!(
            ask(&FakeQueues::default().with("t", 0, 5, &[1, 2])),
            Err(ResponseCode::QueryNotFound)
        );
        assert_eq!(ask(&FakeQueues::default().with("t", 0, 0, &[1, 2])), Ok(0));
    }

    #[test]
    fn commits_need_group_and_topic_and_do_not_override_a_reset() {
        let offsets = Offsets::new(Default::default());
        let commit = |group: &str, topic: &str, offset: &str| {
            let fields = [
                ("consumerGroup", group),
                ("topic", topic),
                ("queueId", "0"),
                ("commitOffset", offset),
            ];
            update(&frame(&fields), 1, &offsets, &groups(), &topics(), &FakeQueues::default())
        };
        assert_eq!(commit("x", "t", "1").unwrap_err().code, ResponseCode::SubscriptionGroupNotExist);
        assert_eq!(commit("g", "x", "1").unwrap_err().code, ResponseCode::TopicNotExist);
        assert_eq!(commit("g", "t", "-1").unwrap_err().code, ResponseCode::InvalidParameter);
        offsets.reset("t", "g", 0, 3).unwrap();
        assert_eq!(
            commit("g", "t", "9").unwrap().remark.as_deref(),
            Some("Offset has been previously reset")
        );
        assert_eq!(offsets.committed("t", "g", 0), Some(3));
    }

    #[test]
    fn only_existing_queues_get_an_offset() {
        let offsets = Offsets::new(Default::default());
        let queues = FakeQueues::default().with("t", 5, 0, &[100]);
        let commit = |queue_id: &str| {
            let fields = [("consumerGroup", "g"), ("topic", "t"), ("queueId", queue_id), ("commitOffset", "1")];
            update(&frame(&fields), 1, &offsets, &groups(), &topics(), &queues)
        };
        assert_eq!(commit("65535000").unwrap_err().code, ResponseCode::InvalidParameter);
        assert_eq!(commit("2").unwrap_err().text, "queue 2 of topic t does not exist: it has 2 queues");
        assert!(
            commit("1").is_ok() && commit("5").is_ok(),
            "queue 5 has messages from a time with more queues"
        );
        assert_eq!(offsets.of_group_on_topic("t", "g").len(), 2);
    }

    #[test]
    fn commits_of_a_client_that_has_not_noticed_a_recreated_topic_are_ignored_until_it_queries() {
        let (offsets, topics, queues) = (Offsets::new(Default::default()), topics(), FakeQueues::default());
        drop(topics.begin_deletion("t", 1));
        topics.update(vec![(Spec::new("t", 2), Default::default())], 2).unwrap();
        let (old, new) = (0, net::Connection::next_id());
        let commit = |connection, offset: &str| {
            update(
                &place(&[("commitOffset", offset)]),
                connection,
                &offsets,
                &groups(),
                &topics,
                &queues,
            )
            .unwrap();
            offsets.committed("t", "g", 0)
        };
        assert_eq!(commit(old, "20"), None);
        assert_eq!(commit(new, "3"), Some(3), "connected after the topic was created again");
        offsets.forget_topic("t");
        assert_eq!(commit(old, "20"), None);
        assert_eq!(offset_of(query(&place(&[]), &offsets, &topics, &queues)), Ok(0));
        assert_eq!(commit(old, "1"), Some(1));
    }

    #[test]
    fn offsets_and_timestamps_are_returned() {
        let queues = FakeQueues::default().with("t", 0, 5, &[100, 200]);
        assert_eq!(offset_of(max(&place(&[]), &queues)), Ok(7));
        assert_eq!(offset_of(min(&place(&[]), &queues)), Ok(5));
        assert_eq!(offset_of(search(&place(&[("timestamp", "150")]), &queues)), Ok(6));
        let time = |outcome: Outcome| outcome.unwrap().fields.long("timestamp").unwrap();
        assert_eq!(time(earliest(&place(&[]), &queues)), 100);
        assert_eq!(time(earliest(&place(&[]), &FakeQueues::default())), -1);
    }

    #[test]
    fn progress_is_returned_by_queue() {
        let (offsets, topics) = (Offsets::new(Default::default()), topics());
        let consumers: Consumers<u64> = Consumers::new(ClientLimits::default());
        let stats = BrokerStats::new("c", 100);
        let queues = FakeQueues::default().with("t", 0, 0, &[100, 200, 300]);
        offsets.commit("t", "g", 0, 2).unwrap();
        offsets.commit("u", "g", 0, 0).unwrap();
        let of = Progress {
            offsets: &offsets,
            topics: &topics,
            consumers: &consumers,
            stats: &stats,
            queues: &queues,
            broker: "b",
        };
        let answer = progress(&frame(&[("consumerGroup", "g")]), &of).unwrap();
        let body: ConsumeStats = json::read(&answer.body).unwrap();
        assert_eq!(body.offset_table.len(), 3);
        let place = body.offset_table[&MessageQueue::new("t", "b", 0)];
        assert_eq!((place.broker_offset, place.consumer_offset, place.last_timestamp), (3, 2, 200));
        let answer = progress_of_all(&frame(&[("isOrder", "false")]), &groups(), "a:1", &of).unwrap();
        let body: ConsumeStatsList = json::read(&answer.body).unwrap();
        assert_eq!((body.total_diff, body.total_inflight_diff), (1, 0));
    }

    #[test]
    fn offsets_are_cloned_on_every_topic() {
        let (offsets, topics) = (Offsets::new(Default::default()), topics());
        let consumers: Consumers<u64> = Consumers::new(ClientLimits::default());
        offsets.commit("t", "g", 0, 2).unwrap();
        offsets.commit("u", "g", 0, 5).unwrap();
        let header = frame(&[("srcGroup", "g"), ("destGroup", "h")]);
        clone_group(&header, &offsets, &topics, &consumers, |_| Ok(())).unwrap();
        assert_eq!((offsets.committed("t", "h", 0), offsets.committed("u", "h", 0)), (Some(2), Some(5)));
        let nobody = frame(&[("srcGroup", "g"), ("destGroup", "nobody")]);
        let missing = clone_group(&nobody, &offsets, &topics, &consumers, |_| Err(GroupError::Missing)).unwrap_err();
        assert_eq!(missing.code, ResponseCode::SubscriptionGroupNotExist);
        assert!(offsets.topics_of("nobody").is_empty());
    }

    #[test]
    fn the_lowest_offset_of_other_groups_is_returned() {
        let offsets = Offsets::new(Default::default());
        for (group, offset) in [("a", 5), ("b", 3), ("slow", 1)] {
            offsets.commit("t", group, 0, offset).unwrap();
        }
        let ask = |compare: &str| {
            let header = frame(&[("topic", "t"), ("compareGroup", compare), ("filterGroups", "slow")]);
            let body = correction(&header, &offsets, &FakeQueues::default()).unwrap().body;
            json::read::<CorrectionOffsets>(&body).unwrap().correction_offsets[&0]
        };
        assert_eq!(ask("a"), 3);
        assert_eq!(ask("slow"), i64::MAX);
    }
}
