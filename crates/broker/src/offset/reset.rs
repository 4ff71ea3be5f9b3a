//! Code 222: an operator resets a group's offsets to a time or an offset.
//!
//! The setting `useServerSideResetOffset` selects one of two ways:
//! - On (default): the broker stores the new offsets as pending, and the next pull of each queue is answered tables 21 and the
//!   offset. Works for groups that are offline.
//! - Off: the broker sends the offsets to the members (220), which apply them; a group that is offline cannot be reset (206). The
//!   committed offset follows tables the members' next commit. C++ clients get the queues as a list, others as a map tables objects as
//!   keys.

use super::Offsets;
use crate::clients::Consumers;
use crate::clients::table::Channel;
use crate::errors::Refusal;
use crate::group::Groups;
use crate::queues::Queues;
use crate::reply::{Answer, Outcome};
use crate::topic::Topics;
use protocol::frame::FLAG_ONEWAY;
use protocol::offset::BoundaryType;
use protocol::reset::{ResetOffsetBody, ResetOffsetHeader, ResetOffsetList};
use protocol::{Frame, Language, MessageQueue, RequestCode, ResponseCode, json};
use std::collections::BTreeMap;

/// The tables that a reset uses.
#[derive(Clone, Copy)]
pub struct Reset<'a, C> {
    /// Committed offsets.
    pub offsets: &'a Offsets,
    /// Topics.
    pub topics: &'a Topics,
    /// Groups.
    pub groups: &'a Groups,
    /// Members, which get the offsets if the client side applies them.
    pub consumers: &'a Consumers<C>,
    /// Offsets by time.
    pub queues: &'a dyn Queues,
    /// Name of this broker.
    pub broker: &'a str,
}

/// Resets a group's offsets; returns the new offset of each queue.
///
/// # Errors
/// `TopicNotExist`, `SubscriptionGroupNotExist`, `SystemError` if the offset is outside the queue, or, without `server_side`,
/// `ConsumerNotOnline`.
pub fn reset<C: Channel>(request: &Frame, server_side: bool, tables: &Reset<'_, C>) -> Outcome {
    let header = ResetOffsetHeader::decode(&request.ext)?;
    tracing::info!(
        topic = header.topic,
        group = header.group,
        timestamp = header.timestamp,
        offset = header.offset,
        queue_id = header.queue_id,
        "offset reset requested"
    );
    if server_side {
        on_server(&header, tables)
    } else {
        on_clients(&header, request.language, tables)
    }
}

fn on_server<C>(header: &ResetOffsetHeader<'_>, tables: &Reset<'_, C>) -> Outcome {
    let (topic, group) = (header.topic, header.group);
    let found = tables.topics.find(topic).ok_or_else(|| {
        let text = format!("Topic {topic} does not exist");
        Refusal::new(ResponseCode::TopicNotExist, text)
    })?;
    if !tables.groups.contains(group) {
        let text = format!("Group {group} does not exist");
        return Err(Refusal::new(ResponseCode::SubscriptionGroupNotExist, text));
    }
    let mut targets = BTreeMap::new();
    match header.queue_id.filter(|queue_id| *queue_id >= 0) {
        Some(queue_id) => {
            targets.insert(queue_id, target(header, queue_id, tables.queues)?);
        }
        None => {
            for queue_id in 0..found.read_queues {
                targets.insert(queue_id, by_time(topic, queue_id, header.timestamp, tables.queues)?);
            }
        }
    }
    if targets.is_empty() {
        return Err(Refusal::system("No queues to reset."));
    }
    for (queue_id, offset) in &targets {
        tables.offsets.reset(topic, group, *queue_id, *offset)?;
    }
    Ok(answer(&table(topic, tables.broker, targets)))
}

/// The new offset of one queue, by offset or by time.
fn target(header: &ResetOffsetHeader<'_>, queue_id: i32, queues: &dyn Queues) -> Result<i64, Refusal> {
    let Some(offset) = header.offset.filter(|offset| *offset != -1) else {
        return by_time(header.topic, queue_id, header.timestamp, queues);
    };
    let (min, max) = (queues.min(header.topic, queue_id), queues.max(header.topic, queue_id));
    if offset < min || offset > max + 1 {
        let text = format!("Target offset {offset} not in consume queue range [{min}-{max}]");
        return Err(Refusal::system(text));
    }
    Ok(offset)
}

/// The offset of a time in ms since 1970; a negative time means the end.
fn by_time(topic: &str, queue_id: i32, timestamp: i64, queues: &dyn Queues) -> Result<i64, Refusal> {
    if timestamp < 0 {
        return Ok(queues.max(topic, queue_id));
    }
    Ok(queues.by_time(topic, queue_id, timestamp, BoundaryType::Lower)?.max(0))
}

fn on_clients<C: Channel>(header: &ResetOffsetHeader<'_>, language: Language, tables: &Reset<'_, C>) -> Outcome {
    let (topic, group) = (header.topic, header.group);
    let found = tables.topics.find(topic).ok_or_else(|| {
        let text = format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
        Refusal::new(ResponseCode::TopicNotExist, text)
    })?;
    let mut targets = BTreeMap::new();
    for queue_id in 0..found.write_queues {
        let committed = tables.offsets.committed(topic, group, queue_id);
        let committed = committed.ok_or_else(|| Refusal::system(format!("THe consumer group <{group}> not exist")))?;
        let by_time_offset = by_time(topic, queue_id, header.timestamp, tables.queues)?;
        let applies = header.is_force || by_time_offset < committed;
        targets.insert(queue_id, if applies { by_time_offset } else { committed });
    }
    let members = tables.consumers.members(group).unwrap_or_default();
    if members.is_empty() {
        let text = format!(
            "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {}",
            header.timestamp
        );
        return Err(Refusal::new(ResponseCode::ConsumerNotOnline, text));
    }
    let body = table(topic, tables.broker, targets);
    let notification = notification(header, language, &body);
    for member in &members {
        member.channel.send_oneway(&notification);
    }
    Ok(answer(&body))
}

/// The request of code 220 for the members.
fn notification(header: &ResetOffsetHeader<'_>, language: Language, body: &ResetOffsetBody) -> Frame {
    let mut notification = Frame::request(RequestCode::ResetConsumerClientOffset);
    notification.flag |= FLAG_ONEWAY;
    let header = ResetOffsetHeader {
        queue_id: None,
        offset: None,
        ..header.clone()
    };
    header.encode(&mut notification.ext);
    // Compat: as in Apache the requester's language decides the format for all members; C++ tools reset C++ consumers.
    let text = match language {
        Language::Cpp => json::write(&ResetOffsetList::from(body)),
        _ => json::write(body),
    };
    notification.body = text.into();
    notification
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
            let tables = Reset {
                offsets: &self.offsets,
                topics: &self.topics,
                groups: &self.groups,
                consumers: &self.consumers,
                queues: &self.queues,
                broker: "b",
            };
            let answer = reset(&frame, server_side, &tables).map_err(|refusal| refusal.code)?;
            let body: ResetOffsetBody = json::read(&answer.body).unwrap();
            Ok(body
                .offset_table
                .into_iter()
                .map(|(queue, offset)| (queue.queue_id, offset))
                .collect())
        }
    }

    #[test]
    fn an_offline_group_is_reset_to_a_time() {
        let world = World::new();
        let moved = world.reset(true, Language::Java, &[("timestamp", "200"), ("isForce", "true")]);
        assert_eq!(moved, Ok(BTreeMap::from([(0, 3), (1, 1)])));
        assert_eq!(world.offsets.take_reset("t", "g", 0), Some(3));
        let moved = world.reset(true, Language::Java, &[("timestamp", "-1")]);
        assert_eq!(moved, Ok(BTreeMap::from([(0, 5), (1, 1)])));
    }

    #[test]
    fn one_queue_is_reset_to_an_offset_within_its_range() {
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
        let header = |fields: &[(&str, &str)]| world.reset(true, Language::Java, fields);
        assert_eq!(header(&[("topic", "x"), ("timestamp", "1")]), Err(ResponseCode::TopicNotExist));
        assert_eq!(
            header(&[("group", "x"), ("timestamp", "1")]),
            Err(ResponseCode::SubscriptionGroupNotExist)
        );
    }

    #[test]
    fn members_are_notified_of_a_client_side_reset() {
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
        let sent = channel.take();
        let text = |at: usize| String::from_utf8(sent[at].body.to_vec()).unwrap();
        assert!(text(0).starts_with(r#"{"offsetTable":{{"#), "{}", text(0));
        assert!(text(1).starts_with(r#"{"offsetTable":[{"#), "{}", text(1));
        assert!(world.offsets.take_reset("t", "g", 0).is_none());
    }
}
