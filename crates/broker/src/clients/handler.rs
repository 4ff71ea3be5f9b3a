//! Codes 34, 35, 38, 46, 203, 204 and 328.

use super::consumers::Consumers;
use super::notify::Notices;
use super::producers::Producers;
use super::table::{Channel, ClientError, Member};
use super::view::Joining;
use crate::errors::{Refusal, check_length};
use crate::group::{GroupError, Groups};
use crate::reply::{Answer, Outcome};
use crate::settings::BrokerSettings;
use crate::stats::{BrokerStats, Name};
use crate::topic::{Spec, TopicError, Topics};
use message::names;
use protocol::heartbeat::{self, CheckClientBody, ConsumerData, ConsumerGroupHeader, HeartbeatData, UnregisterClientHeader};
use protocol::stats::{Connection, ConsumerConnection, ProducerConnection, ProducerGroupHeader, ProducerInfo, ProducerTable};
use protocol::topic::sys_flag;
use protocol::{Frame, ResponseCode, json};
use std::time::Instant;

/// Most bytes of a client id: an address, an instance name and a number.
pub const MAX_CLIENT_ID_BYTES: usize = 1_024;

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::system(error.to_string())
    }
}

/// What heartbeats and goodbyes change.
#[derive(Debug)]
pub struct Clients<'a, C> {
    /// Consumers online, and who is told of them.
    pub notices: &'a Notices<C>,
    /// Producers online.
    pub producers: &'a Producers<C>,
    /// Groups, made by their first heartbeat.
    pub groups: &'a Groups,
    /// Topics, among which each group has its retry topic.
    pub topics: &'a Topics,
    /// Settings of now.
    pub settings: &'a BrokerSettings,
}

/// Code 34: a client says which groups it is in and what they subscribe to. Groups and their retry topics are there, as far as
/// they exist or may be made; the client is not in them before [`Heartbeat::join`].
#[derive(Debug)]
pub struct Heartbeat<C> {
    member: Member<C>,
    /// Groups, and what is told of each.
    consumers: Vec<(String, Joining<C>)>,
    producers: Vec<String>,
    /// A client that tells subscriptions apart from signs of life.
    second_kind: bool,
    /// A bound was reached behind those.
    refused: Option<Refusal>,
    /// A group or its retry topic was made just now: the client, which looks for the topic at the name server next, joins when it is
    /// there.
    pub makes_group: bool,
}

/// Reads a heartbeat.
///
/// # Errors
/// The body is malformed.
pub fn heartbeat<C: Channel>(request: &Frame, channel: &C, clients: &Clients<'_, C>, now_ms: i64) -> Result<Heartbeat<C>, Refusal> {
    let told: HeartbeatData = json::read(&request.body)?;
    check_names(&told)?;
    let mut heartbeat = Heartbeat {
        member: Member {
            channel: channel.clone(),
            client_id: told.client_id.as_str().into(),
            language: request.language,
            version: request.version,
            last_seen_ms: now_ms,
            subscribes: 0,
        },
        consumers: Vec::with_capacity(told.consumers.len()),
        producers: told.producers.into_iter().map(|group| group.group_name).collect(),
        second_kind: told.heartbeat_fingerprint != 0,
        refused: None,
        makes_group: false,
    };
    let without_sub = heartbeat.second_kind && told.without_sub;
    for group in told.consumers {
        match heartbeat.prepare(group, without_sub, told.heartbeat_fingerprint, clients, now_ms) {
            Ok(()) => {}
            Err(refusal) => {
                heartbeat.refused = Some(refusal);
                break;
            }
        }
    }
    Ok(heartbeat)
}

/// Names that are kept as long as the client is online are not longer than any client makes them.
fn check_names(told: &HeartbeatData) -> Result<(), Refusal> {
    check_length("client id", &told.client_id, MAX_CLIENT_ID_BYTES)?;
    let mut producers = told.producers.iter();
    producers.try_for_each(|group| check_length("producer group", &group.group_name, names::MAX_GROUP_LEN))
}

impl<C: Channel> Heartbeat<C> {
    /// Makes a consumer group and its retry topic if they are not there. A group that does not exist and may not be made is
    /// passed over, as Apache does: its pulls are refused with the reason.
    fn prepare(
        &mut self,
        told: ConsumerData,
        without_sub: bool,
        fingerprint: i32,
        clients: &Clients<'_, C>,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let group = told.group_name.as_str();
        let settings = clients.settings;
        let auto_create = settings.auto_create_subscription_group;
        let is_new = !clients.groups.contains(group);
        let rule = match clients.groups.find_or_create(group, auto_create, now_ms) {
            Ok(rule) => rule,
            Err(GroupError::Missing | GroupError::Name(_)) => {
                tracing::debug!(group, "heartbeat of a group that does not exist and is not made");
                return Ok(());
            }
            Err(full) => return Err(full.into()),
        };
        let retry = Spec {
            order: told.subscriptions.iter().any(|data| clients.topics.is_ordered(&data.topic)),
            sys_flag: if told.unit_mode { sys_flag::UNIT_SUB } else { 0 },
            ..Spec::new(&names::retry_topic(group), rule.retry_queue_nums)
        };
        self.makes_group |= is_new;
        match clients.topics.create_for_group(retry, now_ms) {
            Ok(retry) => self.makes_group |= !retry.is_settled(clients.topics.changed()),
            // The next heartbeat makes it.
            Err(error @ TopicError::BeingDeleted(_)) => tracing::warn!(group, %error, "a consumer joins without its retry topic"),
            Err(error) => return Err(error.into()),
        }
        let joining = Joining {
            member: self.member.clone(),
            consume_type: told.consume_type,
            message_model: told.message_model,
            consume_from_where: told.consume_from_where,
            subscriptions: (!without_sub).then_some(told.subscriptions),
            fingerprint,
            notify: rule.notify_consumer_ids_changed_enable && settings.notify_consumer_ids_changed_enable,
        };
        self.consumers.push((told.group_name, joining));
        Ok(())
    }

    /// Takes the client into its groups, and tells the other members.
    ///
    /// # Errors
    /// A bound is reached; what came before in the heartbeat is taken.
    pub fn join(self, notices: &Notices<C>, producers: &Producers<C>, stats: &BrokerStats) -> Outcome {
        let channel = self.member.channel.clone();
        let outcome = self.join_all(notices, producers, stats);
        if channel.is_closed() {
            // Its closing may have been noticed before it joined.
            notices.closed(channel.id(), producers, true);
        }
        outcome
    }

    fn join_all(self, notices: &Notices<C>, producers: &Producers<C>, stats: &BrokerStats) -> Outcome {
        let mut resend = !self.second_kind;
        for (group, joining) in self.consumers {
            let begun = Instant::now();
            let joined = notices.consumers().join(&group, joining)?;
            if joined.tell {
                notices.changed(&group);
            }
            resend |= joined.resend;
            stats.registered(Name::ConsumerRegisterTime, begun.elapsed().as_millis() as i64);
        }
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        for group in self.producers {
            let begun = Instant::now();
            producers.join(&group, self.member.clone())?;
            stats.registered(Name::ProducerRegisterTime, begun.elapsed().as_millis() as i64);
        }
        Ok(Answer::ok().with(heartbeat::SUPPORTS_V2, true).with(heartbeat::SUB_CHANGE, resend))
    }
}

/// Code 35: a client leaves its groups.
///
/// # Errors
/// The client id is missing.
pub fn unregister<C: Channel>(request: &Frame, channel: &C, clients: &Clients<'_, C>) -> Outcome {
    let asked = UnregisterClientHeader::decode(&request.ext)?;
    if let Some(group) = asked.producer_group {
        clients.producers.leave(group, channel.id());
    }
    if let Some(group) = asked.consumer_group {
        let rule = clients.groups.find(group);
        let notify = rule.is_none_or(|rule| rule.notify_consumer_ids_changed_enable);
        let notify = notify && clients.settings.notify_consumer_ids_changed_enable;
        if clients.notices.consumers().leave(group, channel.id()) && notify {
            clients.notices.changed(group);
        }
    }
    Ok(Answer::ok())
}

/// Code 46: whether a subscription's filter is understood.
///
/// # Errors
/// It is an SQL filter.
pub fn check(request: &Frame) -> Outcome {
    if request.body.is_empty() {
        return Ok(Answer::ok());
    }
    let asked: CheckClientBody = json::read(&request.body)?;
    let kind = asked.subscription.map(|data| data.expression_type).unwrap_or_default();
    if kind.is_empty() || kind == heartbeat::TAG {
        return Ok(Answer::ok());
    }
    Err(Refusal::filter(&kind))
}

/// Code 38: client ids of a group's members.
///
/// # Errors
/// The group is not online.
pub fn members<C: Channel>(request: &Frame, consumers: &Consumers<C>) -> Outcome {
    let group = ConsumerGroupHeader::decode(&request.ext)?.consumer_group;
    let ids = consumers.ids(group);
    let ids = ids.ok_or_else(|| Refusal::system(format!("no consumer for this group, {group}")))?;
    Ok(Answer::body(ids))
}

/// Code 203: connections and subscriptions of a consumer group.
///
/// # Errors
/// The group is not online.
pub fn consumer_connections<C: Channel>(request: &Frame, consumers: &Consumers<C>) -> Outcome {
    let group = ConsumerGroupHeader::decode(&request.ext)?.consumer_group;
    let (Some(view), Some(members)) = (consumers.view(group), consumers.members(group)) else {
        let text = format!("the consumer group[{group}] not online");
        return Err(Refusal::new(ResponseCode::ConsumerNotOnline, text));
    };
    let subscriptions = view.subscriptions.iter();
    let body = ConsumerConnection {
        connection_set: members.iter().map(connection).collect(),
        consume_from_where: Some(view.consume_from_where),
        consume_type: Some(view.consume_type),
        message_model: Some(view.message_model),
        subscription_table: subscriptions
            .map(|(topic, known)| (topic.to_string(), known.data.clone()))
            .collect(),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 204: connections of a producer group.
///
/// # Errors
/// The group is not online.
pub fn producer_connections<C: Channel>(request: &Frame, producers: &Producers<C>) -> Outcome {
    let group = ProducerGroupHeader::decode(&request.ext)?.producer_group;
    let members = producers
        .members(group)
        .ok_or_else(|| Refusal::system(format!("the producer group[{group}] not exist")))?;
    let body = ProducerConnection {
        connection_set: members.iter().map(connection).collect(),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 328: all producers.
///
/// # Errors
/// None.
pub fn all_producers<C: Channel>(producers: &Producers<C>) -> Outcome {
    let info = |member: &Member<C>| ProducerInfo {
        client_id: member.client_id.to_string(),
        language: member.language.name().to_owned(),
        last_update_timestamp: member.last_seen_ms,
        // As Java prints a socket address.
        remote_ip: format!("/{}", member.channel.peer()),
        version: member.version,
    };
    let groups = producers.all().into_iter();
    let body = ProducerTable {
        data: groups.map(|(group, members)| (group, members.iter().map(info).collect())).collect(),
    };
    Ok(Answer::body(json::write(&body)))
}

fn connection<C: Channel>(member: &Member<C>) -> Connection {
    Connection {
        client_addr: member.channel.peer().to_string(),
        client_id: member.client_id.to_string(),
        language: member.language.name().to_owned(),
        version: member.version,
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::ClientLimits;
    use super::super::table::testing::Recorder;
    use super::*;
    use crate::topic::TopicLimits;
    use protocol::RequestCode;
    use std::sync::Arc;

    struct World {
        notices: Notices<Recorder>,
        producers: Producers<Recorder>,
        groups: Groups,
        topics: Topics,
        settings: BrokerSettings,
        stats: Arc<BrokerStats>,
    }

    impl World {
        fn new() -> Self {
            let limits = TopicLimits { topics: 100, queues: 64 };
            let stats = Arc::new(BrokerStats::new("c", 100));
            Self {
                notices: Notices::new(Arc::new(Consumers::new(ClientLimits::default()))),
                producers: Producers::new(ClientLimits::default()),
                groups: Groups::new(Default::default(), Arc::default(), 0),
                topics: Topics::new(vec![], limits, Arc::clone(&stats), Arc::default(), 0),
                settings: BrokerSettings::default(),
                stats,
            }
        }

        fn clients(&self) -> Clients<'_, Recorder> {
            Clients {
                notices: &self.notices,
                producers: &self.producers,
                groups: &self.groups,
                topics: &self.topics,
                settings: &self.settings,
            }
        }

        fn beat(&self, channel: &Recorder, body: &str) -> Answer {
            let mut frame = Frame::request(RequestCode::HeartBeat);
            frame.body = body.as_bytes().to_vec().into();
            let beat = heartbeat(&frame, channel, &self.clients(), 5).unwrap();
            beat.join(&self.notices, &self.producers, &self.stats).unwrap()
        }
    }

    const FULL: &str = r#"{"clientID":"c1","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET",
        "consumeType":"CONSUME_PASSIVELY","groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[{"topic":"t",
        "subString":"a || b","subVersion":1,"tagsSet":["a","b"],"codeSet":[97,98]}],"unitMode":false}],
        "producerDataSet":[{"groupName":"p"}]}"#;

    fn group_frame(field: &str, group: &str) -> Frame {
        let mut frame = Frame::request(RequestCode::GetConsumerListByGroup);
        frame.ext.push(field, group);
        frame
    }

    #[test]
    fn a_first_heartbeat_makes_group_and_retry_topic_and_tells_the_client() {
        let world = World::new();
        let channel = Recorder::new(1);
        let answer = world.beat(&channel, FULL);
        assert_eq!(answer.fields.text(heartbeat::SUPPORTS_V2), Some("true"));
        for name in ["CONSUMER_REGISTER_TIME", "PRODUCER_REGISTER_TIME"] {
            assert!(world.stats.find(name, "c").is_some(), "{name}");
        }
        assert!(world.groups.contains("g"));
        assert_eq!(world.topics.find("%RETRY%g").unwrap().write_queues, 1);
        let told = channel.take();
        assert_eq!(told.len(), 1);
        assert!(told[0].is_oneway() && told[0].code == i32::from(RequestCode::NotifyConsumerIdsChanged));
        assert_eq!(told[0].ext.text("consumerGroup"), Some("g"));
        world.beat(&channel, FULL);
        assert!(channel.take().is_empty());
        assert!(!world.notices.consumers().subscription("g", "t").unwrap().filter.takes(99));
    }

    #[test]
    fn a_first_heartbeat_waits_for_its_retry_topic_and_a_closed_connection_joins_nothing() {
        let world = World::new();
        let channel = Recorder::new(1);
        let read = |channel: &Recorder| {
            let mut frame = Frame::request(RequestCode::HeartBeat);
            frame.body = FULL.as_bytes().to_vec().into();
            heartbeat(&frame, channel, &world.clients(), 5).unwrap()
        };
        let first = read(&channel);
        assert!(first.makes_group && world.topics.contains("%RETRY%g"));
        assert!(
            world.notices.consumers().members("g").is_none_or(|members| members.is_empty()),
            "nobody joins yet"
        );
        world.topics.changed().settle(10, &Ok(()));
        assert!(!read(&channel).makes_group, "the topic is known by now");
        channel.close();
        first.join(&world.notices, &world.producers, &world.stats).unwrap();
        assert!(world.notices.consumers().members("g").is_none_or(|members| members.is_empty()));
        assert!(world.producers.members("p").is_none_or(|members| members.is_empty()));
    }

    #[test]
    fn a_name_that_no_client_has_is_refused() {
        let world = World::new();
        for body in [
            format!(r#"{{"clientID":"{}"}}"#, "c".repeat(MAX_CLIENT_ID_BYTES + 1)),
            format!(
                r#"{{"clientID":"c","producerDataSet":[{{"groupName":"{}"}}]}}"#,
                "p".repeat(names::MAX_GROUP_LEN + 1)
            ),
        ] {
            let mut frame = Frame::request(RequestCode::HeartBeat);
            frame.body = body.into_bytes().into();
            let refusal = heartbeat(&frame, &Recorder::new(1), &world.clients(), 5).unwrap_err();
            assert!(
                refusal.code == ResponseCode::InvalidParameter && refusal.text.contains("bytes, allowed are"),
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn a_consumer_joins_while_its_retry_topic_is_deleted_and_its_next_heartbeat_makes_it() {
        let world = World::new();
        let deletion = world.topics.begin_deletion("%RETRY%g", 1);
        world.beat(&Recorder::new(1), FULL);
        assert_eq!(world.notices.consumers().members("g").unwrap().len(), 1);
        assert!(!world.topics.contains("%RETRY%g"));
        drop(deletion);
        world.beat(&Recorder::new(1), FULL);
        assert!(world.topics.contains("%RETRY%g"));
    }

    #[test]
    fn members_and_connections_are_told() {
        let world = World::new();
        world.beat(&Recorder::new(1), FULL);
        let ids = members(&group_frame("consumerGroup", "g"), world.notices.consumers()).unwrap();
        assert_eq!(&ids.body[..], br#"{"consumerIdList":["c1"]}"#);
        let answer = consumer_connections(&group_frame("consumerGroup", "g"), world.notices.consumers()).unwrap();
        let body: ConsumerConnection = json::read(&answer.body).unwrap();
        assert_eq!(body.connection_set[0].client_addr, "127.0.0.1:1");
        assert_eq!(body.subscription_table["t"].sub_string, "a || b");
        let answer = producer_connections(&group_frame("producerGroup", "p"), &world.producers).unwrap();
        assert!(json::read::<ProducerConnection>(&answer.body).unwrap().connection_set.len() == 1);
        let table: ProducerTable = json::read(&all_producers(&world.producers).unwrap().body).unwrap();
        assert_eq!(table.data["p"][0].remote_ip, "/127.0.0.1:1");
    }

    #[test]
    fn who_is_not_online_is_said_with_apaches_codes() {
        let world = World::new();
        let code = |outcome: Outcome| outcome.unwrap_err().code;
        assert_eq!(
            code(members(&group_frame("consumerGroup", "x"), world.notices.consumers())),
            ResponseCode::SystemError
        );
        let connections = consumer_connections(&group_frame("consumerGroup", "x"), world.notices.consumers());
        assert_eq!(code(connections), ResponseCode::ConsumerNotOnline);
        assert_eq!(
            code(producer_connections(&group_frame("producerGroup", "x"), &world.producers)),
            ResponseCode::SystemError
        );
    }

    #[test]
    fn a_goodbye_tells_the_others() {
        let world = World::new();
        let (one, two) = (Recorder::new(1), Recorder::new(2));
        world.beat(&one, FULL);
        world.beat(&two, FULL);
        assert!(world.notices.settle());
        one.take();
        two.take();
        let mut frame = Frame::request(RequestCode::UnregisterClient);
        frame.ext.push("clientID", "c1");
        frame.ext.push("consumerGroup", "g");
        frame.ext.push("producerGroup", "p");
        unregister(&frame, &one, &world.clients()).unwrap();
        assert!(world.notices.settle());
        assert_eq!((one.take().len(), two.take().len()), (0, 1));
        assert_eq!(world.producers.members("p").unwrap().len(), 1);
    }

    #[test]
    fn a_short_heartbeat_to_a_restarted_broker_asks_for_everything() {
        let world = World::new();
        let short = r#"{"clientID":"c1","heartbeatFingerprint":7,"withoutSub":true,"consumerDataSet":[{"groupName":"g"}]}"#;
        let answer = world.beat(&Recorder::new(1), short);
        assert_eq!(answer.fields.text(heartbeat::SUB_CHANGE), Some("true"));
    }

    #[test]
    fn only_tag_filters_pass_the_check() {
        let check_of = |kind: &str| {
            let mut frame = Frame::request(RequestCode::CheckClientConfig);
            let body = format!(r#"{{"clientId":"c","group":"g","subscriptionData":{{"topic":"t","expressionType":"{kind}"}}}}"#);
            frame.body = body.into_bytes().into();
            check(&frame)
        };
        assert!(check_of("TAG").is_ok());
        assert_eq!(check_of("SQL92").unwrap_err(), Refusal::filter("SQL92"));
    }
}
