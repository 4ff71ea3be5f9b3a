//! Codes 14, 15, 29 to 32, 43, 208, 308, 314 and 317.

use super::operations::{self, Committed, Place};
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

/// Code 14: where a group is in a queue, see [`operations::position`].
///
/// # Errors
/// As there, or a field is missing.
pub fn query(request: &Frame, offsets: &Offsets, topics: &Topics, queues: &dyn Queues) -> Outcome {
    let asked = QueryConsumerOffsetHeader::decode(&request.ext)?;
    let place = Place {
        group: asked.consumer_group,
        topic: asked.topic,
        queue_id: asked.queue_id,
    };
    let offset = operations::position(place, asked.set_zero_if_not_found, offsets, topics, queues)?;
    Ok(Answer::ok().with("offset", offset))
}

/// Code 15: a group is now here in a queue, see [`operations::commit`]. What is passed over is answered as done.
///
/// # Errors
/// As there, or a field is missing.
pub fn update(request: &Frame, client: u64, offsets: &Offsets, groups: &Groups, topics: &Topics, queues: &dyn Queues) -> Outcome {
    let group = request.ext.require_text("consumerGroup")?;
    let topic = request.ext.require_text("topic")?;
    // Compat: Apache asks for these before it looks for the other fields.
    let topic = operations::existing(group, topic, groups, topics)?;
    let missing = |what: &str| Refusal::invalid(format!("{what} is null, topic is {}", topic.name));
    let place = Place {
        group,
        topic: &topic.name,
        queue_id: request.ext.optional_int("queueId")?.ok_or_else(|| missing("QueueId"))?,
    };
    let offset = request.ext.optional_int("commitOffset")?.ok_or_else(|| missing("Offset"))?;
    Ok(match operations::commit(place, &topic, offset, client, offsets, queues)? {
        Committed::Taken => Answer::ok(),
        Committed::PassedOver(why) => Answer::ok().remark(why),
    })
}

/// Code 29: which offset belongs to a time.
///
/// # Errors
/// The disk's, or a field is missing.
pub fn search(request: &Frame, queues: &dyn Queues) -> Outcome {
    let asked = SearchOffsetHeader::decode(&request.ext)?;
    let offset = queues.by_time(asked.topic, asked.queue_id, asked.timestamp, asked.boundary())?;
    Ok(Answer::ok().with("offset", offset))
}

/// Code 30: the offset after a queue's last message.
///
/// # Errors
/// A field is missing.
pub fn max(request: &Frame, queues: &dyn Queues) -> Outcome {
    let asked = MaxOffsetHeader::decode(&request.ext)?;
    Ok(Answer::ok().with("offset", queues.max(asked.topic, asked.queue_id)))
}

/// Code 31: the first offset kept of a queue.
///
/// # Errors
/// A field is missing.
pub fn min(request: &Frame, queues: &dyn Queues) -> Outcome {
    let asked = QueueHeader::decode(&request.ext)?;
    Ok(Answer::ok().with("offset", queues.min(asked.topic, asked.queue_id)))
}

/// Code 32: when the first message kept was stored; -1 when there is none.
///
/// # Errors
/// A field is missing.
pub fn earliest(request: &Frame, queues: &dyn Queues) -> Outcome {
    let asked = QueueHeader::decode(&request.ext)?;
    let timestamp = queues.earliest(asked.topic, asked.queue_id).unwrap_or(-1);
    Ok(Answer::ok().with("timestamp", timestamp))
}

/// Code 43: all offsets.
///
/// # Errors
/// None.
pub fn all(offsets: &Offsets, now_ms: i64) -> Outcome {
    Ok(Answer::body(table::text(offsets, offsets.version(now_ms), table::Layout::Body)))
}

/// Code 314: one group's offsets become another's too. That one is made as by its first member; Apache keeps offsets of groups that do
/// not exist, of any name.
///
/// # Errors
/// A field is missing, there is no such group and it may not be made, or no room.
pub fn clone_group<C: Channel>(
    request: &Frame,
    offsets: &Offsets,
    topics: &Topics,
    consumers: &Consumers<C>,
    make_group: impl FnOnce(&str) -> Result<(), GroupError>,
) -> Outcome {
    let asked = CloneGroupOffsetHeader::decode(&request.ext)?;
    make_group(asked.dest_group).map_err(|error| match error {
        GroupError::Missing => {
            let text = format!("subscription group [{}] does not exist: {error}", asked.dest_group);
            Refusal::new(ResponseCode::SubscriptionGroupNotExist, text)
        }
        other => other.into(),
    })?;
    let wanted = match asked.topic.filter(|topic| !topic.trim().is_empty()) {
        Some(topic) => BTreeSet::from([topic.to_owned()]),
        None => offsets.topics_of(asked.src_group),
    };
    for topic in wanted.iter().filter(|topic| topics.contains(topic)) {
        if asked.offline || is_subscribed(consumers, asked.src_group, topic) {
            offsets.clone_group(topic, asked.src_group, asked.dest_group)?;
        }
    }
    Ok(Answer::ok())
}

/// Whether a group's progress on a topic counts: it subscribes to it, or is not online to tell.
fn is_subscribed<C: Channel>(consumers: &Consumers<C>, group: &str, topic: &str) -> bool {
    consumers.subscription(group, topic).is_some() || consumers.subscription_count(group) == 0
}

/// What progress is computed from.
#[derive(Clone, Copy)]
pub struct Progress<'a, C> {
    /// Where groups are.
    pub offsets: &'a Offsets,
    /// Topics.
    pub topics: &'a Topics,
    /// What groups subscribe to.
    pub consumers: &'a Consumers<C>,
    /// Rates.
    pub stats: &'a BrokerStats,
    /// Bounds and times.
    pub queues: &'a dyn Queues,
    /// Name of this broker.
    pub broker: &'a str,
}

/// Code 208: progress of a group on the topics asked for, or all of its own.
///
/// # Errors
/// A field is missing.
pub fn progress<C: Channel>(request: &Frame, of: &Progress<'_, C>) -> Outcome {
    let asked = ConsumeStatsHeader::decode(&request.ext)?;
    let group = asked.consumer_group;
    let list = asked.topic_list.unwrap_or_default().split(';').filter(|topic| !topic.is_empty());
    let mut topics: BTreeSet<String> = list.map(str::to_owned).collect();
    if topics.is_empty() {
        topics = match asked.topic.filter(|topic| !topic.trim().is_empty()) {
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
    let queues = of.topics.find(topic)?.read_queues;
    let place = |queue_id| {
        let consumed = of.offsets.committed(topic, group, queue_id).unwrap_or(0);
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
        offset_table: (0..queues).map(place).collect(),
    })
}

/// Code 317: progress of all groups. `address` is this broker's.
///
/// # Errors
/// A field is malformed.
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
        let wanted = topics.filter(|topic| (!only_ordered || of.topics.is_ordered(topic)) && is_subscribed(of.consumers, &group, topic));
        let stats: Vec<ConsumeStats> = wanted.filter_map(|topic| on_topic(&group, &topic, of)).collect();
        for place in stats.iter().flat_map(|stats| stats.offset_table.values()) {
            body.total_diff += place.broker_offset - place.consumer_offset;
            body.total_inflight_diff += place.pull_offset - place.consumer_offset;
        }
        body.consume_stats_list.push(BTreeMap::from([(group, stats)]));
    }
    Ok(Answer::body(json::write(&body)))
}

/// Code 308: for each queue of a topic the earliest offset of all groups but those left out; where the compared group is
/// further back still, the largest number there is.
///
/// # Errors
/// A field is missing.
pub fn correction(request: &Frame, offsets: &Offsets, queues: &dyn Queues) -> Outcome {
    let asked = CorrectionOffsetHeader::decode(&request.ext)?;
    let topic = asked.topic;
    let left_out: BTreeSet<&str> = asked.filter_groups.unwrap_or_default().split(',').collect();
    let mut earliest: BTreeMap<i32, i64> = BTreeMap::new();
    for group in offsets.groups_of(topic).iter().filter(|group| !left_out.contains(group.as_str())) {
        for (queue_id, offset) in offsets.of_group_on_topic(topic, group) {
            if offset >= queues.min(topic, queue_id) {
                let least = earliest.entry(queue_id).or_insert(offset);
                *least = offset.min(*least);
            }
        }
    }
    for (queue_id, offset) in offsets.of_group_on_topic(topic, asked.compare_group) {
        if let Some(least) = earliest.get_mut(&queue_id).filter(|least| **least > offset) {
            *least = i64::MAX;
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
    fn a_new_group_on_an_empty_queue_starts_at_zero_and_what_is_committed_is_answered() {
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
    fn a_new_group_on_an_old_queue_is_left_to_choose() {
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
    fn commits_need_group_and_topic_and_do_not_overrule_a_reset() {
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
    fn only_queues_that_exist_get_an_offset() {
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
            "one had messages when there were more queues"
        );
        assert_eq!(offsets.of_group_on_topic("t", "g").len(), 2);
    }

    #[test]
    fn a_client_that_has_not_noticed_a_new_life_of_its_topic_commits_nothing_until_it_asks() {
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
        assert_eq!(commit(new, "3"), Some(3), "connected since");
        offsets.forget_topic("t");
        assert_eq!(commit(old, "20"), None);
        assert_eq!(offset_of(query(&place(&[]), &offsets, &topics, &queues)), Ok(0));
        assert_eq!(commit(old, "1"), Some(1));
    }

    #[test]
    fn bounds_and_times_are_answered() {
        let queues = FakeQueues::default().with("t", 0, 5, &[100, 200]);
        assert_eq!(offset_of(max(&place(&[]), &queues)), Ok(7));
        assert_eq!(offset_of(min(&place(&[]), &queues)), Ok(5));
        assert_eq!(offset_of(search(&place(&[("timestamp", "150")]), &queues)), Ok(6));
        let time = |outcome: Outcome| outcome.unwrap().fields.long("timestamp").unwrap();
        assert_eq!(time(earliest(&place(&[]), &queues)), 100);
        assert_eq!(time(earliest(&place(&[]), &FakeQueues::default())), -1);
    }

    #[test]
    fn progress_is_told_by_queue() {
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
        let asked = frame(&[("srcGroup", "g"), ("destGroup", "h")]);
        clone_group(&asked, &offsets, &topics, &consumers, |_| Ok(())).unwrap();
        assert_eq!((offsets.committed("t", "h", 0), offsets.committed("u", "h", 0)), (Some(2), Some(5)));
        let nobody = frame(&[("srcGroup", "g"), ("destGroup", "nobody")]);
        let missing = clone_group(&nobody, &offsets, &topics, &consumers, |_| Err(GroupError::Missing)).unwrap_err();
        assert_eq!(missing.code, ResponseCode::SubscriptionGroupNotExist);
        assert!(offsets.topics_of("nobody").is_empty());
    }

    #[test]
    fn the_earliest_offset_of_other_groups_is_found() {
        let offsets = Offsets::new(Default::default());
        for (group, offset) in [("a", 5), ("b", 3), ("slow", 1)] {
            offsets.commit("t", group, 0, offset).unwrap();
        }
        let ask = |compare: &str| {
            let asked = frame(&[("topic", "t"), ("compareGroup", compare), ("filterGroups", "slow")]);
            let body = correction(&asked, &offsets, &FakeQueues::default()).unwrap().body;
            json::read::<CorrectionOffsets>(&body).unwrap().correction_offsets[&0]
        };
        assert_eq!(ask("a"), 3);
        assert_eq!(ask("slow"), i64::MAX);
    }
}
