//! Code 222: an operator moves a group to a time or an offset.
//!
//! Two ways, by the setting `useServerSideResetOffset`:
//! - On (default): the new offsets are kept here as pending; each queue's next pull is answered 21 with it. Works for groups
//!   that are offline.
//! - Off: the members are told (220) and reset themselves; a group that is offline cannot be reset (206). Its offset here
//!   follows with their next commit. C++ clients get the queues as a list, the others as a map with objects as keys.

use super::Offsets;
use crate::clients::Consumers;
use crate::clients::table::Channel;
use crate::errors::Refusal;
use crate::group::Groups;
use crate::queues::Queues;
use crate::reply::{Answer, Outcome};
use crate::topic::Topics;
use protocol::frame::FLAG_ONEWAY;
use protocol::offset::Boundary;
use protocol::reset::{ResetOffsetBody, ResetOffsetHeader, ResetOffsetList};
use protocol::{Frame, Language, MessageQueue, RequestCode, ResponseCode, json};
use std::collections::BTreeMap;

/// What a reset needs.
#[derive(Clone, Copy)]
pub struct Reset<'a, C> {
    /// Where groups are.
    pub offsets: &'a Offsets,
    /// Topics.
    pub topics: &'a Topics,
    /// Groups.
    pub groups: &'a Groups,
    /// Members that are told.
    pub consumers: &'a Consumers<C>,
    /// Offsets by time.
    pub queues: &'a dyn Queues,
    /// Name of this broker.
    pub broker: &'a str,
}

/// Moves a group; answers the new offset of each queue.
///
/// # Errors
/// There is no such topic or group, the offset is outside the queue, or (without `server_side`) the group is offline.
pub fn reset<C: Channel>(request: &Frame, server_side: bool, with: &Reset<'_, C>) -> Outcome {
    let asked = ResetOffsetHeader::decode(&request.ext)?;
    tracing::info!(
        topic = asked.topic,
        group = asked.group,
        timestamp = asked.timestamp,
        offset = asked.offset,
        queue_id = asked.queue_id,
        "offset reset asked"
    );
    if server_side {
        here(&asked, with)
    } else {
        by_members(&asked, request.language, with)
    }
}

fn here<C>(asked: &ResetOffsetHeader<'_>, with: &Reset<'_, C>) -> Outcome {
    let (topic, group) = (asked.topic, asked.group);
    let found = with.topics.find(topic).ok_or_else(|| {
        let text = format!("Topic {topic} does not exist");
        Refusal::new(ResponseCode::TopicNotExist, text)
    })?;
    if !with.groups.contains(group) {
        let text = format!("Group {group} does not exist");
        return Err(Refusal::new(ResponseCode::SubscriptionGroupNotExist, text));
    }
    let mut targets = BTreeMap::new();
    match asked.queue_id.filter(|queue_id| *queue_id >= 0) {
        Some(queue_id) => {
            targets.insert(queue_id, target(asked, queue_id, with.queues)?);
        }
        None => {
            for queue_id in 0..found.read_queues {
                targets.insert(queue_id, by_time(topic, queue_id, asked.timestamp, with.queues)?);
            }
        }
    }
    if targets.is_empty() {
        return Err(Refusal::system("No queues to reset."));
    }
    for (queue_id, offset) in &targets {
        with.offsets.reset(topic, group, *queue_id, *offset)?;
    }
    Ok(answer(&table(topic, with.broker, targets)))
}

/// The offset asked for in one queue, by number or by time.
fn target(asked: &ResetOffsetHeader<'_>, queue_id: i32, queues: &dyn Queues) -> Result<i64, Refusal> {
    let Some(offset) = asked.offset.filter(|offset| *offset != -1) else {
        return by_time(asked.topic, queue_id, asked.timestamp, queues);
    };
    let (min, max) = (queues.min(asked.topic, queue_id), queues.max(asked.topic, queue_id));
    if offset < min || offset > max + 1 {
        let text = format!("Target offset {offset} not in consume queue range [{min}-{max}]");
        return Err(Refusal::system(text));
    }
    Ok(offset)
}

/// The offset of a time; a negative time means the end.
fn by_time(topic: &str, queue_id: i32, timestamp: i64, queues: &dyn Queues) -> Result<i64, Refusal> {
    if timestamp < 0 {
        return Ok(queues.max(topic, queue_id));
    }
    Ok(queues.by_time(topic, queue_id, timestamp, Boundary::Lower)?.max(0))
}

fn by_members<C: Channel>(asked: &ResetOffsetHeader<'_>, language: Language, with: &Reset<'_, C>) -> Outcome {
    let (topic, group) = (asked.topic, asked.group);
    let found = with.topics.find(topic).ok_or_else(|| {
        let text = format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
        Refusal::new(ResponseCode::TopicNotExist, text)
    })?;
    let mut targets = BTreeMap::new();
    for queue_id in 0..found.write_queues {
        let committed = with.offsets.committed(topic, group, queue_id);
        let committed = committed.ok_or_else(|| Refusal::system(format!("THe consumer group <{group}> not exist")))?;
        let wanted = by_time(topic, queue_id, asked.timestamp, with.queues)?;
        let moves = asked.is_force || wanted < committed;
        targets.insert(queue_id, if moves { wanted } else { committed });
    }
    let members = with.consumers.members(group).unwrap_or_default();
    if members.is_empty() {
        let text = format!(
            "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {}",
            asked.timestamp
        );
        return Err(Refusal::new(ResponseCode::ConsumerNotOnline, text));
    }
    let body = table(topic, with.broker, targets);
    let order = order(asked, language, &body);
    for member in &members {
        member.channel.tell(&order);
    }
    Ok(answer(&body))
}

/// Code 220 for the members.
fn order(asked: &ResetOffsetHeader<'_>, language: Language, body: &ResetOffsetBody) -> Frame {
    let mut order = Frame::request(RequestCode::ResetConsumerClientOffset);
    order.flag |= FLAG_ONEWAY;
    let header = ResetOffsetHeader {
        queue_id: None,
        offset: None,
        ..asked.clone()
    };
    header.encode(&mut order.ext);
    // Compat: the language of whoever asks decides for all members, as in Apache; C++ tools reset C++ consumers.
    let text = match language {
        Language::Cpp => json::write(&ResetOffsetList::from(body)),
        _ => json::write(body),
    };
    order.body = text.into();
    order
}

fn table(topic: &str, broker: &str, targets: BTreeMap<i32, i64>) -> ResetOffsetBody {
    let rows = targets
        .into_iter()
        .map(|(queue_id, offset)| (MessageQueue::new(topic, broker, queue_id), offset));
    ResetOffsetBody {
        offset_table: rows.collect(),
    }
}

fn answer(body: &ResetOffsetBody) -> Answer {
    Answer::body(json::write(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Joining;
    use crate::clients::table::testing::Recorder;
    use crate::clients::table::{ClientLimits, Member};
    use crate::queues::testing::FakeQueues;
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, TopicLimits};
    use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel};
    use std::sync::Arc;

    struct World {
        offsets: Offsets,
        topics: Topics,
        groups: Groups,
        consumers: Consumers<Recorder>,
        queues: FakeQueues,
    }

    impl World {
        fn new() -> Self {
            let limits = TopicLimits { topics: 100, queues: 64 };
            let stats = Arc::new(BrokerStats::new("c", 100));
            let groups = Groups::new(Default::default(), Arc::default(), 0);
            groups.find_or_create("g", true, 0).unwrap();
            Self {
                offsets: Offsets::new(Default::default()),
                topics: Topics::new(vec![Spec::new("t", 2)], limits, stats, Arc::default(), 0),
                groups,
                consumers: Consumers::new(ClientLimits::default()),
                queues: FakeQueues::default().with("t", 0, 2, &[100, 200, 300]).with("t", 1, 0, &[150]),
            }
        }

        fn reset(&self, server_side: bool, language: Language, fields: &[(&str, &str)]) -> Result<BTreeMap<i32, i64>, ResponseCode> {
            let mut frame = Frame::request(RequestCode::InvokeBrokerToResetOffset);
            frame.language = language;
            for (name, value) in [("group", "g"), ("topic", "t")].iter().chain(fields) {
                frame.ext.push(name, *value);
            }
            let with = Reset {
                offsets: &self.offsets,
                topics: &self.topics,
                groups: &self.groups,
                consumers: &self.consumers,
                queues: &self.queues,
                broker: "b",
            };
            let answer = reset(&frame, server_side, &with).map_err(|refusal| refusal.code)?;
            let body: ResetOffsetBody = json::read(&answer.body).unwrap();
            Ok(body
                .offset_table
                .into_iter()
                .map(|(queue, offset)| (queue.queue_id, offset))
                .collect())
        }
    }

    #[test]
    fn a_group_moves_to_a_time_even_when_offline() {
        let world = World::new();
        let moved = world.reset(true, Language::Java, &[("timestamp", "200"), ("isForce", "true")]);
        assert_eq!(moved, Ok(BTreeMap::from([(0, 3), (1, 1)])));
        assert_eq!(world.offsets.take_reset("t", "g", 0), Some(3));
        let moved = world.reset(true, Language::Java, &[("timestamp", "-1")]);
        assert_eq!(moved, Ok(BTreeMap::from([(0, 5), (1, 1)])));
    }

    #[test]
    fn one_queue_moves_to_an_offset_within_its_range() {
        let world = World::new();
        let at = |offset| world.reset(true, Language::Java, &[("timestamp", "-1"), ("queueId", "0"), ("offset", offset)]);
        assert_eq!(at("4"), Ok(BTreeMap::from([(0, 4)])));
        assert_eq!(at("1"), Err(ResponseCode::SystemError));
        assert_eq!(at("7"), Err(ResponseCode::SystemError));
        assert_eq!(at("-1"), Ok(BTreeMap::from([(0, 5)])));
    }

    #[test]
    fn unknown_topics_and_groups_are_refused() {
        let world = World::new();
        let asked = |fields: &[(&str, &str)]| world.reset(true, Language::Java, fields);
        assert_eq!(asked(&[("topic", "x"), ("timestamp", "1")]), Err(ResponseCode::TopicNotExist));
        assert_eq!(
            asked(&[("group", "x"), ("timestamp", "1")]),
            Err(ResponseCode::SubscriptionGroupNotExist)
        );
    }

    #[test]
    fn members_are_told_where_that_is_the_way() {
        let world = World::new();
        let fields = [("timestamp", "200"), ("isForce", "false")];
        assert_eq!(world.reset(false, Language::Java, &fields), Err(ResponseCode::SystemError));
        world.offsets.commit("t", "g", 0, 5).unwrap();
        world.offsets.commit("t", "g", 1, 0).unwrap();
        assert_eq!(world.reset(false, Language::Java, &fields), Err(ResponseCode::ConsumerNotOnline));
        let channel = Recorder::new(1);
        let joining = Joining {
            member: Member {
                channel: channel.clone(),
                client_id: "c".into(),
                language: Language::Java,
                version: 500,
                last_seen_ms: 0,
                subscribes: 0,
            },
            consume_type: ConsumeType::Passively,
            message_model: MessageModel::Clustering,
            consume_from_where: ConsumeFromWhere::LastOffset,
            subscriptions: None,
            fingerprint: 0,
            notify: false,
        };
        world.consumers.join("g", joining).unwrap();
        assert_eq!(world.reset(false, Language::Java, &fields), Ok(BTreeMap::from([(0, 3), (1, 0)])));
        assert_eq!(world.reset(false, Language::Cpp, &fields), Ok(BTreeMap::from([(0, 3), (1, 0)])));
        let told = channel.take();
        let text = |at: usize| String::from_utf8(told[at].body.to_vec()).unwrap();
        assert!(text(0).starts_with(r#"{"offsetTable":{{"#), "{}", text(0));
        assert!(text(1).starts_with(r#"{"offsetTable":[{"#), "{}", text(1));
        assert!(world.offsets.take_reset("t", "g", 0).is_none());
    }
}
