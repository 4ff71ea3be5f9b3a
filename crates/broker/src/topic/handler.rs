//! Handlers of topic administration: codes 17, 18, 21, 202, 215, 305 and 351.
//!
//! The caller should send the responses to 17, 18 and 215 after the change is settled (see
//! [`crate::signal::Signal::when_settled`]), because clients ask a name server for the route next.

use super::{Spec, TopicError, Topics, cleanup, table};
use crate::attributes::{self, CLEANUP_POLICY, COMPACTION, Changes, MESSAGE_TYPE, MIXED};
use crate::errors::Refusal;
use crate::queues::Queues;
use crate::reply::{Answer, Outcome};
use crate::settings::BrokerSettings;
use message::names;
use protocol::stats::{TopicOffset, TopicStatsTable};
use protocol::topic::{
    AllTopicConfigHeader, CreateTopicHeader, TopicConfig, TopicConfigAndMapping, TopicConfigHeader, TopicConfigList, TopicConfigs,
    TopicFilterType, TopicHeader, TopicList,
};
use protocol::{DataVersion, Frame, MessageQueue, ResponseCode, json};
use std::collections::{BTreeMap, BTreeSet};

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        let code = match &error {
            TopicError::Queues { .. } | TopicError::Perm(_) => ResponseCode::InvalidParameter,
            // Compat: producers of all versions retry on this code; older ones do not retry on SystemBusy.
            TopicError::BeingDeleted(_) => ResponseCode::ServiceNotAvailable,
            // Apache answers an invalid attribute with its catch-all code 1.
            TopicError::Full(_) | TopicError::Attribute(_) | TopicError::Mapping(_) => ResponseCode::SystemError,
        };
        Self::new(code, error.to_string())
    }
}

/// Code 17: creates or changes a topic.
///
/// # Errors
/// `SystemError` if a field is missing or malformed, `InvalidParameter` for an invalid or system name, or the refusal of a
/// [`TopicError`].
pub fn create(request: &Frame, topics: &Topics, settings: &BrokerSettings, now_ms: i64) -> Outcome {
    let header = CreateTopicHeader::decode(&request.ext)?;
    check_name(header.topic, topics, settings)?;
    let spec = spec_of(&header)?;
    let changes = attributes::parse(header.attributes.unwrap_or_default()).map_err(TopicError::from)?;
    refuse_attributes(&changes, header.topic, topics, settings)?;
    topics.update(vec![(spec, changes)], now_ms)?;
    Ok(Answer::ok())
}

/// The topic that a header of codes 17 and 513 describes.
///
/// # Errors
/// `SystemError` for an unknown kind of filter.
pub(crate) fn spec_of(header: &CreateTopicHeader<'_>) -> Result<Spec, Refusal> {
    let filter = header.topic_filter_type.unwrap_or(TopicFilterType::SingleTag.name());
    let filter =
        TopicFilterType::from_name(filter).ok_or_else(|| Refusal::system(format!("topicFilterType = [{filter}] value invalid")))?;
    Ok(Spec {
        read_queues: header.read_queue_nums,
        perm: header.perm,
        multi_tag: filter == TopicFilterType::MultiTag,
        sys_flag: header.topic_sys_flag.unwrap_or(0),
        order: header.order,
        ..Spec::new(header.topic, header.write_queue_nums)
    })
}

/// Code 18: creates or changes several topics, all or none.
///
/// # Errors
/// The same as [`create`], for any of the topics.
pub fn create_list(request: &Frame, topics: &Topics, settings: &BrokerSettings, now_ms: i64) -> Outcome {
    let header: TopicConfigList = json::read(&request.body)?;
    let mut changes = Vec::with_capacity(header.topic_config_list.len());
    for config in header.topic_config_list {
        check_name(&config.topic_name, topics, settings)?;
        let attributes = config.attributes.clone();
        refuse_attributes(&attributes, &config.topic_name, topics, settings)?;
        changes.push((Spec::from(config), attributes));
    }
    topics.update(changes, now_ms)?;
    Ok(Answer::ok())
}

/// Refuses attributes that the settings do not allow.
fn refuse_attributes(changes: &Changes, topic: &str, topics: &Topics, settings: &BrokerSettings) -> Result<(), Refusal> {
    refuse_mixed(changes, settings)?;
    let becomes_compacted = changes
        .get(&format!("+{CLEANUP_POLICY}"))
        .is_some_and(|policy| policy == COMPACTION);
    let is_compacted = becomes_compacted || topics.find(topic).is_some_and(|topic| topic.is_compacted());
    cleanup::refuse_impossible(changes, topic, is_compacted, settings)
}

/// Topics for messages of all types need the setting `enableMixedMessageType`.
fn refuse_mixed(changes: &Changes, settings: &BrokerSettings) -> Result<(), Refusal> {
    let header = changes.get(&format!("+{MESSAGE_TYPE}")).is_some_and(|value| value == MIXED);
    if header && !settings.enable_mixed_message_type {
        return Err(Refusal::invalid(
            "MIXED message type is not supported. (enableMixedMessageType=false)",
        ));
    }
    Ok(())
}

pub(crate) fn check_name(topic: &str, topics: &Topics, settings: &BrokerSettings) -> Result<(), Refusal> {
    names::check_topic(topic)?;
    refuse_system(topic, topics, settings)
}

fn refuse_system(topic: &str, topics: &Topics, settings: &BrokerSettings) -> Result<(), Refusal> {
    if settings.validate_system_topic_when_update_topic && topics.is_system(topic) {
        return Err(Refusal::invalid(format!("The topic[{topic}] is conflict with system topic.")));
    }
    Ok(())
}

/// Access to the tables of other features that a topic's deletion changes.
#[derive(Clone, Copy)]
pub struct DeletionHooks<'a> {
    /// Groups with committed offsets on a topic.
    pub groups: &'a dyn Fn(&str) -> BTreeSet<String>,
    /// Removes all state of a topic whose queues are deleted.
    pub forget: &'a dyn Fn(&str),
}

/// Code 215: deletes a topic with its queues and its state, and the retry topics that POP created for it. No topic of that name can
/// be created until the deletion ends.
///
/// # Errors
/// `InvalidParameter` for a blank name or a system topic; the refusal of a `StoreError` if the queues cannot be deleted.
pub fn delete(
    request: &Frame,
    topics: &Topics,
    others: DeletionHooks<'_>,
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
    let retries = (others.groups)(topic)
        .into_iter()
        .flat_map(of_pop)
        .filter(|retry| topics.contains(retry) || queues.has_topic(retry));
    // The topic itself comes last: if deleting a retry topic fails, the offsets still list the retry topics for a repeated request.
    for topic in retries.chain([topic.to_owned()]) {
        let _deletion = topics.begin_deletion(&topic, now_ms);
        let deleted = queues.delete_topic(&topic);
        // After the queues: consumers commit until their queue is deleted.
        (others.forget)(&topic);
        deleted?;
    }
    Ok(Answer::ok())
}

/// Code 21: all topics, or a page of them.
///
/// # Errors
/// `SystemError` if a field is malformed.
pub fn all(request: &Frame, topics: &Topics) -> Outcome {
    let header = AllTopicConfigHeader::decode(&request.ext)?;
    let (data_version, table) = table::configs(topics, -1);
    let total = i32::try_from(table.len()).unwrap_or(i32::MAX);
    let topic_config_table = page(table, &data_version, header.data_version, header.topic_seq, header.max_topic_num);
    let (mapping_data_version, mut mappings) = topics.mappings();
    mappings.retain(|topic, _| topic_config_table.contains_key(topic));
    let body = TopicConfigs {
        data_version,
        mapping_data_version,
        topic_config_table,
        topic_queue_mapping_detail_map: Some(mappings),
        ..TopicConfigs::default()
    };
    Ok(Answer::body(json::write(&body)).with("totalTopicNum", total))
}

/// The requested page of a table; the whole table if no page is requested. Starts at the first entry if the table changed since the
/// client's earlier pages, which had the version `known`.
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

/// Code 202: offsets of a topic's queues and its message rate.
///
/// # Errors
/// `TopicNotExist`.
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

/// Code 351: one topic's configuration, with its mapping if the request asks for it.
///
/// # Errors
/// `TopicNotExist`.
pub fn get(request: &Frame, topics: &Topics) -> Outcome {
    let TopicConfigHeader { topic: name, is_logical } = TopicConfigHeader::decode(&request.ext)?;
    let topic = topics
        .find(name)
        .ok_or_else(|| not_exist(format!("No topic in this broker. topic: {name}")))?;
    let mapping = topic.mapping().filter(|_| is_logical == Some(true));
    let body = TopicConfigAndMapping {
        config: TopicConfig::from(&**topic),
        mapping_detail: mapping.map(|mapping| mapping.detail().clone()),
    };
    Ok(Answer::body(json::write(&body)))
}

/// Code 305: names of the system topics. Never fails.
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
    fn a_topic_is_created_and_returned() {
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
    fn a_topic_for_mixed_message_types_needs_its_setting() {
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
    fn system_names_and_invalid_names_are_refused_with_apaches_remarks() {
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
    fn several_topics_are_created_by_one_request() {
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
    fn deleting_a_topic_deletes_its_offsets_and_pop_retry_topics() {
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
        let forgotten = RefCell::new(Vec::new());
        let forget = |topic: &str| {
            features.iter().for_each(|feature| feature.topic_deleted(topic));
            forgotten.borrow_mut().push(topic.to_owned());
            let refusal = create(&create_frame(topic), &topics, &settings(), 3).unwrap_err();
            assert_eq!(refusal.code, ResponseCode::ServiceNotAvailable, "the topic is still being deleted");
        };
        let others = DeletionHooks {
            groups: &|topic| offsets.groups_of(topic),
            forget: &forget,
        };
        delete(&topic_frame("orders"), &topics, others, &FakeQueues::default(), &settings(), 3).unwrap();
        assert_eq!(*forgotten.borrow(), ["%RETRY%g_orders", "orders"]);
        assert_eq!(locks.len(), 1, "the lock of the other topic stays");
        assert!(topics.find("orders").is_none() && topics.find("%RETRY%g_orders").is_none());
        assert!(offsets.groups_of("orders").is_empty());
    }

    #[test]
    fn a_deletion_that_fails_at_a_pop_retry_topic_succeeds_when_repeated() {
        for topic in ["orders", "%DLQ%g"] {
            let retry = &*format!("%RETRY%g_{topic}");
            let (topics, offsets) = (topics(), Offsets::new(Default::default()));
            for name in [topic, retry] {
                topics.create_for_group(Spec::new(name, 1), 1).unwrap();
            }
            offsets.commit(topic, "g", 0, 5).unwrap();
            let queues = FakeQueues::default();
            let forgotten = RefCell::new(Vec::new());
            let others = DeletionHooks {
                groups: &|topic| offsets.groups_of(topic),
                forget: &|topic| {
                    offsets.forget_topic(topic);
                    forgotten.borrow_mut().push(topic.to_owned());
                },
            };
            let delete = || delete(&topic_frame(topic), &topics, others, &queues, &settings(), 3).is_ok();
            queues.broken.store(true, Relaxed);
            assert!(!delete() && !delete(), "the files of {retry} still exist");
            queues.broken.store(false, Relaxed);
            assert!(delete());
            assert_eq!(forgotten.borrow()[..], [retry, retry, retry, topic].map(str::to_owned)[..]);
        }
    }

    #[test]
    fn queue_offsets_are_returned_with_the_queue_as_key() {
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
    fn paging_restarts_after_the_table_changed() {
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
