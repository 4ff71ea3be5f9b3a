//! Handlers of client management: codes 34, 35, 38, 46, 203, 204 and 328.

use super::consumers::Consumers;
use super::heartbeat::{Client, Clients, Heartbeat};
use super::holders::Departure;
use super::notify::Notices;
use super::producers::Producers;
use super::table::{Channel, ClientError, Member};
use crate::errors::Refusal;
use crate::filter::{Expression, SqlLimits, is_tag_type};
use crate::reply::{Answer, Outcome};
use protocol::heartbeat::{self, CheckClientBody, ConsumerGroupHeader, HeartbeatData, UnregisterClientHeader};
use protocol::stats::{Connection, ConsumerConnection, ProducerConnection, ProducerGroupHeader, ProducerInfo, ProducerTable};
use protocol::{Frame, ResponseCode, json};

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::system(error.to_string())
    }
}

/// Code 34, before [`Heartbeat::join`]: see [`heartbeat::heartbeat`]. `channel_of` is called with its body.
///
/// # Errors
/// `SystemError` if the body is malformed, `InvalidParameter` if a name is too long.
pub fn heartbeat<C: Channel>(
    request: &Frame,
    channel_of: impl FnOnce(&HeartbeatData) -> C,
    clients: &Clients<'_, C>,
    now_ms: i64,
) -> Result<Heartbeat<C>, Refusal> {
    let data: HeartbeatData = json::read(&request.body)?;
    super::heartbeat::check_names(&data)?;
    let channel = channel_of(&data);
    let client = Client {
        channel: &channel,
        language: request.language,
        version: request.version,
    };
    super::heartbeat::heartbeat(data, client, clients, now_ms)
}

/// The response to 34 after the client joined its groups.
///
/// # Errors
/// The [`Refusal`] of [`Heartbeat::join`].
pub fn joined(outcome: Result<bool, Refusal>) -> Outcome {
    Ok(Answer::ok()
        .with(heartbeat::SUPPORTS_V2, true)
        .with(heartbeat::SUB_CHANGE, outcome?))
}

/// Code 35: removes a client from its groups.
///
/// # Errors
/// `SystemError` if the client id is missing.
pub fn unregister<C: Channel>(frame: &Frame, channel: &C, clients: &Clients<'_, C>) -> Outcome {
    let request = UnregisterClientHeader::decode(&frame.ext)?;
    let notify = |group: &str| {
        let rule = clients.groups.find(group);
        rule.is_none_or(|rule| rule.notify_consumer_ids_changed_enable) && clients.settings.notify_consumer_ids_changed_enable
    };
    leave(&request, channel, Departure::Lost, clients.notices, clients.producers, notify);
    Ok(Answer::ok())
}

/// A client leaves the groups that are named; `notify` says whether the other members of a group are told.
pub(super) fn leave<C: Channel>(
    request: &UnregisterClientHeader<'_>,
    channel: &C,
    departure: Departure,
    notices: &Notices<C>,
    producers: &Producers<C>,
    notify: impl Fn(&str) -> bool,
) {
    if let Some(group) = request.producer_group {
        producers.leave(group, channel.id());
    }
    if let Some(group) = request.consumer_group
        && notices.consumers().leave(group, channel.id(), departure)
        && notify(group)
    {
        notices.changed(group);
    }
}

/// Code 46: checks whether the broker supports the filter of a subscription. `allowed` is `enablePropertyFilter`.
///
/// # Errors
/// `SubscriptionParseFailed` (23) for an SQL filter that cannot be compiled and for an unknown type of filter, [`Refusal::filter`] (1) if
/// only tags are allowed, `SystemError` if the body is malformed.
pub fn check(frame: &Frame, allowed: bool, limits: &SqlLimits) -> Outcome {
    if frame.body.is_empty() {
        return Ok(Answer::ok());
    }
    let request: CheckClientBody = json::read(&frame.body)?;
    let Some(told) = request.subscription.filter(|told| !is_tag_type(&told.expression_type)) else {
        return Ok(Answer::ok());
    };
    if !allowed {
        return Err(Refusal::filter(&told.expression_type));
    }
    let refused = |why: String| Refusal::new(ResponseCode::SubscriptionParseFailed, why);
    if told.expression_type != heartbeat::SQL92 {
        return Err(refused(format!("there is no filter of type {}", told.expression_type)));
    }
    let compiled = Expression::parse(&told.sub_string, limits);
    compiled.map_err(|error| refused(format!("Invalid MessageSelector, {error}")))?;
    Ok(Answer::ok())
}

/// Code 38: client ids of the members of a consumer group.
///
/// # Errors
/// `SystemError` if the group is not online.
pub fn members<C: Channel>(request: &Frame, consumers: &Consumers<C>) -> Outcome {
    let group = ConsumerGroupHeader::decode(&request.ext)?.consumer_group;
    let ids = consumers.ids(group);
    let ids = ids.ok_or_else(|| Refusal::system(format!("no consumer for this group, {group}")))?;
    Ok(Answer::body(ids))
}

/// Code 203: connections and subscriptions of a consumer group.
///
/// # Errors
/// `ConsumerNotOnline` if the group is not online.
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
            .map(|(topic, subscribed)| (topic.to_string(), subscribed.data.clone()))
            .collect(),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 204: connections of a producer group.
///
/// # Errors
/// `SystemError` if the group is not online.
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

/// Code 328: all producers by group. Never fails.
pub fn all_producers<C: Channel>(producers: &Producers<C>) -> Outcome {
    let info = |member: &Member<C>| ProducerInfo {
        client_id: member.client_id.to_string(),
        language: member.language.name().to_owned(),
        last_update_timestamp: member.last_seen_ms,
        // In the format of Java's socket addresses.
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
    use super::super::heartbeat::MAX_CLIENT_ID_BYTES;
    use super::super::table::ClientLimits;
    use super::super::table::testing::Recorder;
    use super::*;
    use crate::group::Groups;
    use crate::settings::BrokerSettings;
    use crate::stats::BrokerStats;
    use crate::topic::TopicLimits;
    use crate::topic::Topics;
    use message::names;
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
            let beat = heartbeat(&frame, |_| channel.clone(), &self.clients(), 5).unwrap();
            joined(beat.join(&self.notices, &self.producers, &self.stats)).unwrap()
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
    fn a_first_heartbeat_creates_group_and_retry_topic_and_notifies_the_client() {
        let world = World::new();
        let channel = Recorder::new(1);
        let answer = world.beat(&channel, FULL);
        assert_eq!(answer.fields.text(heartbeat::SUPPORTS_V2), Some("true"));
        for name in ["CONSUMER_REGISTER_TIME", "PRODUCER_REGISTER_TIME"] {
            assert!(world.stats.find(name, "c").is_some(), "{name}");
        }
        assert!(world.groups.contains("g"));
        assert_eq!(world.topics.find("%RETRY%g").unwrap().write_queues, 1);
        let notified = channel.take();
        assert_eq!(notified.len(), 1);
        assert!(notified[0].is_oneway() && notified[0].code == i32::from(RequestCode::NotifyConsumerIdsChanged));
        assert_eq!(notified[0].ext.text("consumerGroup"), Some("g"));
        world.beat(&channel, FULL);
        assert!(channel.take().is_empty());
        assert!(!world.notices.consumers().subscription("g", "t").unwrap().filter.matches(99));
    }

    #[test]
    fn a_first_heartbeat_waits_for_its_retry_topic_and_a_closed_connection_joins_no_group() {
        let world = World::new();
        let channel = Recorder::new(1);
        let read = |channel: &Recorder| {
            let mut frame = Frame::request(RequestCode::HeartBeat);
            frame.body = FULL.as_bytes().to_vec().into();
            heartbeat(&frame, |_| channel.clone(), &world.clients(), 5).unwrap()
        };
        let first = read(&channel);
        assert!(first.makes_group && world.topics.contains("%RETRY%g"));
        assert!(
            world.notices.consumers().members("g").is_none_or(|members| members.is_empty()),
            "the client has not joined yet"
        );
        world.topics.changed().settle(10, &Ok(()));
        assert!(!read(&channel).makes_group, "the topic is registered");
        channel.close();
        first.join(&world.notices, &world.producers, &world.stats).unwrap();
        assert!(world.notices.consumers().members("g").is_none_or(|members| members.is_empty()));
        assert!(world.producers.members("p").is_none_or(|members| members.is_empty()));
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
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
            let refusal = heartbeat(&frame, |_| Recorder::new(1), &world.clients(), 5).unwrap_err();
            assert!(
                refusal.code == ResponseCode::InvalidParameter && refusal.text.contains("bytes, the limit is"),
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn a_consumer_joins_while_its_retry_topic_is_being_deleted_and_its_next_heartbeat_creates_it() {
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
    fn members_and_connections_are_listed() {
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
    fn groups_that_are_not_online_are_answered_with_apaches_codes() {
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
    fn unregistering_notifies_the_other_members() {
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
    fn a_heartbeat_without_subscriptions_after_a_restart_asks_for_them() {
        let world = World::new();
        let short = r#"{"clientID":"c1","heartbeatFingerprint":7,"withoutSub":true,"consumerDataSet":[{"groupName":"g"}]}"#;
        let answer = world.beat(&Recorder::new(1), short);
        assert_eq!(answer.fields.text(heartbeat::SUB_CHANGE), Some("true"));
    }

    #[test]
    fn a_check_compiles_the_filter() {
        let check_of = |kind: &str, text: &str, allowed: bool| {
            let mut frame = Frame::request(RequestCode::CheckClientConfig);
            let subscription = format!(r#"{{"topic":"t","expressionType":"{kind}","subString":"{text}"}}"#);
            let body = format!(r#"{{"clientId":"c","group":"g","subscriptionData":{subscription}}}"#);
            frame.body = body.into_bytes().into();
            check(&frame, allowed, &SqlLimits::default())
        };
        assert!(check_of("TAG", "a", false).is_ok());
        assert!(check_of("SQL92", "a > 5", true).is_ok());
        assert_eq!(check_of("SQL92", "a > 5", false).unwrap_err(), Refusal::filter("SQL92"));
        for (kind, text, why) in [
            ("SQL92", "a > ", "at character 5"),
            ("SQL92", "", "at character 1"),
            ("XYZ", "a", "type XYZ"),
        ] {
            let refusal = check_of(kind, text, true).unwrap_err();
            assert_eq!(refusal.code, ResponseCode::SubscriptionParseFailed);
            assert!(refusal.text.contains(why), "{}", refusal.text);
        }
    }
}
