//! Codes 17, 18, 21, 202, 215, 305 and 351.
//!
//! The answers to 17, 18 and 215 should leave when the change is settled (see [`crate::signal::Signal::when_settled`]): their
//! clients ask a name server next.

use super::{Spec, TopicError, Topics, table};
use crate::attributes::{self, Changes, MESSAGE_TYPE, MIXED};
use crate::errors::Refusal;
use crate::queues::Queues;
use crate::reply::{Answer, Outcome};
use crate::settings::BrokerSettings;
use message::names;
use protocol::stats::{TopicOffset, TopicStatsTable};
use protocol::topic::{
    AllTopicConfigHeader, CreateTopicHeader, TopicConfig, TopicConfigAndMapping, TopicConfigList, TopicConfigs, TopicFilterType,
    TopicHeader, TopicList,
};
use protocol::{DataVersion, Frame, MessageQueue, ResponseCode, json};
use std::collections::{BTreeMap, BTreeSet};

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        let code = match &error {
            TopicError::Queues { .. } | TopicError::Perm(_) => ResponseCode::InvalidParameter,
            // Compat: producers of all versions send again upon this code, older ones not upon SystemBusy.
            TopicError::BeingDeleted(_) => ResponseCode::ServiceNotAvailable,
            // Apache lets the exception of a wrong attribute through, which is code 1.
            TopicError::Full(_) | TopicError::Attribute(_) => ResponseCode::SystemError,
        };
        Self::new(code, error.to_string())
    }
}

/// Code 17: makes a topic or changes it.
///
/// # Errors
/// Name, queues, permission or attributes are not allowed, or there are too many topics.
pub fn create(request: &Frame, topics: &Topics, settings: &BrokerSettings, now_ms: i64) -> Outcome {
    let asked = CreateTopicHeader::decode(&request.ext)?;
    check_name(asked.topic, topics, settings)?;
    let filter = asked.topic_filter_type.unwrap_or(TopicFilterType::SingleTag.name());
    let filter =
        TopicFilterType::from_name(filter).ok_or_else(|| Refusal::system(format!("topicFilterType = [{filter}] value invalid")))?;
    let changes = attributes::parse(asked.attributes.unwrap_or_default()).map_err(TopicError::from)?;
    refuse_mixed(&changes, settings)?;
    let spec = Spec {
        read_queues: asked.read_queue_nums,
        perm: asked.perm,
        multi_tag: filter == TopicFilterType::MultiTag,
        sys_flag: asked.topic_sys_flag.unwrap_or(0),
        order: asked.order,
        ..Spec::new(asked.topic, asked.write_queue_nums)
    };
    topics.update(vec![(spec, changes)], now_ms)?;
    Ok(Answer::ok())
}

/// Code 18: makes or changes several topics, all or none.
///
/// # Errors
/// As [`create`], for any of them.
pub fn create_list(request: &Frame, topics: &Topics, settings: &BrokerSettings, now_ms: i64) -> Outcome {
    let asked: TopicConfigList = json::read(&request.body)?;
    let mut changes = Vec::with_capacity(asked.topic_config_list.len());
    for config in asked.topic_config_list {
        check_name(&config.topic_name, topics, settings)?;
        let attributes = config.attributes.clone();
        refuse_mixed(&attributes, settings)?;
        changes.push((Spec::from(config), attributes));
    }
    topics.update(changes, now_ms)?;
    Ok(Answer::ok())
}

/// Messages of all kinds in one topic are wanted only where the operator says so.
fn refuse_mixed(changes: &Changes, settings: &BrokerSettings) -> Result<(), Refusal> {
    let asked = changes.get(&format!("+{MESSAGE_TYPE}")).is_some_and(|value| value == MIXED);
    if asked && !settings.enable_mixed_message_type {
        return Err(Refusal::invalid(
            "MIXED message type is not supported. (enableMixedMessageType=false)",
        ));
    }
    Ok(())
}

fn check_name(topic: &str, topics: &Topics, settings: &BrokerSettings) -> Result<(), Refusal> {
    names::check_topic(topic)?;
    refuse_system(topic, topics, settings)
}

fn refuse_system(topic: &str, topics: &Topics, settings: &BrokerSettings) -> Result<(), Refusal> {
    if settings.validate_system_topic_when_update_topic && topics.is_system(topic) {
        return Err(Refusal::invalid(format!("The topic[{topic}] is conflict with system topic.")));
    }
    Ok(())
}

/// What is kept by topic in other tables.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// Groups that have consumed a topic.
    pub groups: &'a dyn Fn(&str) -> BTreeSet<String>,
    /// Forgets all that is known of a topic whose queues are gone.
    pub forget: &'a dyn Fn(&str),
}

/// Code 215: deletes a topic with its queues and all that is known of it, and the retry topics that POP made for it. Until that is
/// done a topic of the same name is not made.
///
/// # Errors
/// A blank name, a system topic, or its queues cannot be deleted.
pub fn delete(
    request: &Frame,
    topics: &Topics,
    beside: Beside<'_>,
    queues: &dyn Queues,
    settings: &BrokerSettings,
    now_ms: i64,
) -> Outcome {
    let topic = TopicHeader::decode(&request.ext)?.topic;
    if topic.trim().is_empty() {
        return Err(Refusal::invalid("The specified topic is blank."));
    }
    refuse_system(topic, topics, settings)?;
    let of_pop = |group: String| [format!("%RETRY%{group}+{topic}"), format!("%RETRY%{group}_{topic}")];
    let retries = (beside.groups)(topic)
        .into_iter()
        .flat_map(of_pop)
        .filter(|retry| topics.contains(retry) || queues.has_topic(retry));
    // The topic itself goes last: should one of the others fail, its offsets tell a repeated request which they are.
    for topic in retries.chain([topic.to_owned()]) {
        let _deletion = topics.begin_deletion(&topic, now_ms);
        let deleted = queues.delete_topic(&topic);
        // After the queues: until then consumers go on committing.
        (beside.forget)(&topic);
        deleted?;
    }
    Ok(Answer::ok())
}

/// Code 21: all topics, or a page of them.
///
/// # Errors
/// A field is malformed.
pub fn all(request: &Frame, topics: &Topics) -> Outcome {
    let asked = AllTopicConfigHeader::decode(&request.ext)?;
    let (data_version, table) = table::configs(topics, -1);
    let total = i32::try_from(table.len()).unwrap_or(i32::MAX);
    let body = TopicConfigs {
        data_version,
        topic_config_table: page(table, &data_version, asked.data_version, asked.topic_seq, asked.max_topic_num),
        topic_queue_mapping_detail_map: Some(BTreeMap::new()),
        ..TopicConfigs::default()
    };
    Ok(Answer::body(json::write(&body)).with("totalTopicNum", total))
}

/// The page of a table that a client asks for: everything when it asks for none; from the start when the table is not
/// the one of its earlier pages.
pub(crate) fn page<T>(
    table: BTreeMap<String, T>,
    version: &DataVersion,
    known: Option<&str>,
    first: Option<i32>,
    max: Option<i32>,
) -> BTreeMap<String, T> {
    if known.is_none() && first.is_none() && max.is_none() {
        return table;
    }
    let known: Option<DataVersion> = known.and_then(|text| json::read(text.as_bytes()).ok());
    let first = if known.as_ref() == Some(version) { first.unwrap_or(0) } else { 0 };
    let size = |count: i32| usize::try_from(count).unwrap_or(0);
    table.into_iter().skip(size(first)).take(max.map_or(usize::MAX, size)).collect()
}

/// Code 202: bounds of a topic's queues and its rate.
///
/// # Errors
/// There is no such topic.
pub fn stats(request: &Frame, topics: &Topics, queues: &dyn Queues, broker: &str) -> Outcome {
    let name = TopicHeader::decode(&request.ext)?.topic;
    let topic = topics.find(name).ok_or_else(|| not_exist(format!("topic[{name}] not exist")))?;
    let bounds = |queue_id| {
        let (min, max) = (queues.min(name, queue_id).max(0), queues.max(name, queue_id).max(0));
        let newest = if max > 0 {
            queues.store_time(name, queue_id, max - 1).unwrap_or(-1)
        } else {
            0
        };
        let bounds = TopicOffset {
            last_update_timestamp: newest,
            max_offset: max,
            min_offset: min,
        };
        (MessageQueue::new(name, broker, queue_id), bounds)
    };
    let body = TopicStatsTable {
        offset_table: (0..topic.read_queues.max(topic.write_queues)).map(bounds).collect(),
        topic_put_tps: topic.counters.put_tps(),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 351: one topic's configuration.
///
/// # Errors
/// There is no such topic.
pub fn get(request: &Frame, topics: &Topics) -> Outcome {
    let name = TopicHeader::decode(&request.ext)?.topic;
    let topic = topics
        .find(name)
        .ok_or_else(|| not_exist(format!("No topic in this broker. topic: {name}")))?;
    let body = TopicConfigAndMapping {
        config: TopicConfig::from(&**topic),
        mapping_detail: None,
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 305: names that are the system's.
///
/// # Errors
/// None.
pub fn system(topics: &Topics) -> Outcome {
    let body = TopicList {
        broker_addr: None,
        topic_list: topics.system_names(),
    };
    Ok(Answer::body(json::write(&body)))
}

fn not_exist(text: String) -> Refusal {
    Refusal::new(ResponseCode::TopicNotExist, text)
}

#[cfg(test)]
mod tests {
    use super::super::topics::TopicLimits;
    use super::*;
    use crate::assignment::Modes;
    use crate::feature::Feature;
    use crate::lock::OrderLocks;
    use crate::offset::Offsets;
    use crate::queues::testing::FakeQueues;
    use crate::stats::BrokerStats;
    use protocol::RequestCode;
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    fn settings() -> BrokerSettings {
        BrokerSettings {
            broker_name: "broker-a".to_owned(),
            ..BrokerSettings::default()
        }
    }

    fn topics() -> Topics {
        let limits = TopicLimits { topics: 100, queues: 64 };
        let stats = Arc::new(BrokerStats::new("c", 1000));
        Topics::new(super::super::builtin::topics(&settings()), limits, stats, Arc::default(), 0)
    }

    fn create_frame(topic: &str) -> Frame {
        let mut frame = Frame::request(RequestCode::UpdateAndCreateTopic);
        frame.ext.push("topic", topic);
        frame.ext.push("defaultTopic", "TBW102");
        frame.ext.push("readQueueNums", 4);
        frame.ext.push("writeQueueNums", 4);
        frame.ext.push("perm", 6);
        frame.ext.push("topicFilterType", "SINGLE_TAG");
        frame
    }

    fn topic_frame(topic: &str) -> Frame {
        let mut frame = Frame::request(RequestCode::GetTopicConfig);
        frame.ext.push("topic", topic);
        frame
    }

    #[test]
    fn a_topic_is_made_and_described() {
        let topics = topics();
        create(&create_frame("orders"), &topics, &settings(), 1).unwrap();
        let answer = get(&topic_frame("orders"), &topics).unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(
            text.contains("\"readQueueNums\":4") && text.contains("\"topicName\":\"orders\""),
            "{text}"
        );
        assert_eq!(get(&topic_frame("absent"), &topics).unwrap_err().code, ResponseCode::TopicNotExist);
    }

    #[test]
    fn a_topic_for_all_kinds_of_messages_needs_the_operators_word() {
        let topics = topics();
        let mut frame = create_frame("mixed");
        frame.ext.push("attributes", "+message.type=MIXED");
        let refusal = create(&frame, &topics, &settings(), 1).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        assert!(refusal.text.starts_with("MIXED message type is not supported."), "{}", refusal.text);
        let body = r#"{"topicConfigList":[{"topicName":"m","readQueueNums":1,"writeQueueNums":1,"perm":6,"attributes":{"+message.type":"MIXED"}}]}"#;
        let list = Frame::request(RequestCode::UpdateAndCreateTopicList).with_body(body);
        assert_eq!(
            create_list(&list, &topics, &settings(), 1).unwrap_err().code,
            ResponseCode::InvalidParameter
        );
        let allowed = BrokerSettings {
            enable_mixed_message_type: true,
            ..settings()
        };
        create(&frame, &topics, &allowed, 1).unwrap();
        create_list(&list, &topics, &allowed, 1).unwrap();
        assert_eq!(topics.find("m").unwrap().attributes["message.type"], "MIXED");
    }

    #[test]
    fn names_of_the_system_and_wrong_ones_are_refused_with_apaches_words() {
        let (topics, settings) = (topics(), settings());
        for (topic, text) in [
            (
                "a.b",
                "The specified topic: a.b, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$",
            ),
            ("DefaultCluster", "The topic[DefaultCluster] is conflict with system topic."),
            ("TBW102", "The topic[TBW102] is conflict with system topic."),
        ] {
            let refusal = create(&create_frame(topic), &topics, &settings, 1).unwrap_err();
            assert_eq!((refusal.code, refusal.text.as_str()), (ResponseCode::InvalidParameter, text));
        }
        let mut frame = create_frame("a");
        frame.ext.push("attributes", "message.type=FIFO");
        assert_eq!(create(&frame, &topics, &settings, 1).unwrap_err().code, ResponseCode::SystemError);
    }

    #[test]
    fn several_topics_are_made_by_one_body() {
        let topics = topics();
        let mut frame = Frame::request(RequestCode::UpdateAndCreateTopicList);
        frame.body =
            br#"{"topicConfigList":[{"topicName":"a","attributes":{"+message.type":"FIFO"}},{"topicName":"b","readQueueNums":3}]}"#
                .to_vec()
                .into();
        create_list(&frame, &topics, &settings(), 1).unwrap();
        assert_eq!(topics.find("a").unwrap().attributes["message.type"], "FIFO");
        assert_eq!(topics.find("b").unwrap().read_queues, 3);
    }

    #[test]
    fn a_deleted_topic_takes_its_offsets_and_pop_retries_along() {
        let topics = topics();
        let offsets = Offsets::new(Default::default());
        let stats = BrokerStats::new("c", 100);
        for topic in ["orders", "%RETRY%g+orders"] {
            create(&create_frame(topic).clone(), &topics, &settings(), 1).unwrap_or_else(|_| Answer::ok());
        }
        topics.create_for_group(Spec::new("%RETRY%g_orders", 1), 2).unwrap();
        offsets.commit("orders", "g", 0, 5).unwrap();
        let (locks, modes) = (OrderLocks::new(10, 1 << 20), Modes::new(Arc::default()));
        locks.lock(
            "g",
            "c",
            vec![MessageQueue::new("orders", "b", 0), MessageQueue::new("other", "b", 0)],
            1,
        );
        let features: [&dyn Feature; 4] = [&offsets, &locks, &modes, &stats];
        let gone = RefCell::new(Vec::new());
        let forget = |topic: &str| {
            features.iter().for_each(|feature| feature.topic_deleted(topic));
            gone.borrow_mut().push(topic.to_owned());
            let refusal = create(&create_frame(topic), &topics, &settings(), 3).unwrap_err();
            assert_eq!(refusal.code, ResponseCode::ServiceNotAvailable, "not before all is forgotten");
        };
        let beside = Beside {
            groups: &|topic| offsets.groups_of(topic),
            forget: &forget,
        };
        delete(&topic_frame("orders"), &topics, beside, &FakeQueues::default(), &settings(), 3).unwrap();
        assert_eq!(*gone.borrow(), ["%RETRY%g_orders", "orders"]);
        assert_eq!(locks.len(), 1, "those of other topics");
        assert!(topics.find("orders").is_none() && topics.find("%RETRY%g_orders").is_none());
        assert!(offsets.groups_of("orders").is_empty());
    }

    #[test]
    fn a_deletion_that_fails_at_a_retry_topic_of_pop_deletes_it_when_it_is_repeated() {
        for topic in ["orders", "%DLQ%g"] {
            let retry = &*format!("%RETRY%g_{topic}");
            let (topics, offsets) = (topics(), Offsets::new(Default::default()));
            for name in [topic, retry] {
                topics.create_for_group(Spec::new(name, 1), 1).unwrap();
            }
            offsets.commit(topic, "g", 0, 5).unwrap();
            let queues = FakeQueues::default();
            let gone = RefCell::new(Vec::new());
            let beside = Beside {
                groups: &|topic| offsets.groups_of(topic),
                forget: &|topic| {
                    offsets.forget_topic(topic);
                    gone.borrow_mut().push(topic.to_owned());
                },
            };
            let delete = || delete(&topic_frame(topic), &topics, beside, &queues, &settings(), 3).is_ok();
            queues.broken.store(true, Relaxed);
            assert!(!delete() && !delete(), "files of {retry} are there");
            queues.broken.store(false, Relaxed);
            assert!(delete());
            assert_eq!(gone.borrow()[..], [retry, retry, retry, topic].map(str::to_owned)[..]);
        }
    }

    #[test]
    fn the_queues_bounds_are_told_with_the_queue_as_key() {
        let topics = topics();
        create(&create_frame("orders"), &topics, &settings(), 1).unwrap();
        let queues = FakeQueues::default().with("orders", 1, 10, &[100, 200]);
        let answer = stats(&topic_frame("orders"), &topics, &queues, "broker-a").unwrap();
        let body: TopicStatsTable = json::read(&answer.body).unwrap();
        assert_eq!(body.offset_table.len(), 4);
        let queue = body.offset_table[&MessageQueue::new("orders", "broker-a", 1)];
        assert_eq!((queue.min_offset, queue.max_offset, queue.last_update_timestamp), (10, 12, 200));
    }

    #[test]
    fn pages_start_anew_when_the_table_changed() {
        let table: BTreeMap<String, i32> = ["a", "b", "c"].map(|name| (name.to_owned(), 1)).into();
        let version = DataVersion::default();
        let text = String::from_utf8(json::write(&version)).unwrap();
        let names =
            |known: Option<&str>, first, max| -> Vec<String> { page(table.clone(), &version, known, first, max).into_keys().collect() };
        assert_eq!(names(None, None, None), ["a", "b", "c"]);
        assert_eq!(names(None, Some(0), Some(2)), ["a", "b"]);
        assert_eq!(names(Some(&text), Some(2), Some(2)), ["c"]);
        assert_eq!(names(Some("{\"counter\":9}"), Some(2), Some(2)), ["a", "b"]);
    }
}
