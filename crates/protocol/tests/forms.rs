//! Each value of each body in each form that fastjson accepts: bodies written by Java, in notations and types of other clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use protocol::diagnose::{ConsumeDirectlyReply, ConsumeQueueEntries, ConsumeTimeSpans, CorrectionOffsets, QuerySubscriptionReply};
use protocol::group::{GroupConfig, GroupConfigList, GroupConfigs, GroupForbidden, GroupList};
use protocol::heartbeat::{CheckClientBody, ConsumerIds, HeartbeatData};
use protocol::kv::KvTable;
use protocol::lock::{LockBatchBody, LockBatchReply};
use protocol::offset::ConsumerOffsets;
use protocol::register::RegisterBrokerBody;
use protocol::replication::ReplicationStatus;
use protocol::reset::{ConsumerStatusBody, ResetOffsetBody, ResetOffsetList};
use protocol::route::{ClusterInfo, MemberGroupReply, TopicRoute};
use protocol::stats::{
    BrokerStatsData, ConsumeStats, ConsumeStatsList, ConsumerConnection, ProducerConnection, ProducerTable, TopicStatsTable,
};
use protocol::topic::{TopicConfig, TopicConfigList, TopicConfigs, TopicList};
use protocol::{DataVersion, json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;

/// Other forms of a value that mean the same in a field of its type.
fn forms(value: &Value) -> Vec<String> {
    match value {
        Value::Bool(true) => ["\"true\"", "'TRUE'", "1", "-1", "\"1\"", "\"Y\""].map(str::to_owned).to_vec(),
        Value::Bool(false) => ["\"false\"", "'False'", "0", "2", "1.0", "\"0\"", "\"N\"", "\"\"", "null"]
            .map(str::to_owned)
            .to_vec(),
        Value::Number(number) if number.is_f64() => vec![format!("\"{number}\""), format!("[{number}]")],
        Value::Number(number) => {
            let mut forms = vec![
                format!("\"{number}\""),
                format!("'{number}'"),
                format!("{number}.0"),
                format!("\"{number}.0\""),
                format!("{number}L"),
                format!("[{number}]"),
            ];
            match number.as_i64() {
                Some(0) => forms.extend(["\"\"", "null", "false", "\"null\"", "-", ".5"].map(str::to_owned)),
                Some(1) => forms.extend(["true", "\"true\""].map(str::to_owned)),
                Some(positive) if positive > 0 => forms.extend([format!("+{number}"), format!("\"+{number}\""), format!("0{number}")]),
                _ => {}
            }
            forms
        }
        Value::String(text) => {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            vec![format!("\"{escaped}\""), format!("'{escaped}'")]
        }
        Value::Array(list) if list.len() == 1 && !list[0].is_array() => vec![list[0].to_string()],
        Value::Array(list) if list.is_empty() => vec!["null".to_owned(), "\"\"".to_owned(), "[null,]".to_owned()],
        Value::Array(_) | Value::Object(_) | Value::Null => vec![],
    }
}

/// Paths of the values whose form is changed: names and indexes.
fn paths(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(at, one)| paths(one, &format!("{here}/{at}"), all)),
        Value::Object(members) => members.iter().for_each(|(name, one)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            paths(one, &format!("{here}/{name}"), all);
        }),
        _ => {}
    }
}

/// Reads a recorded body with one value after the other in each of its forms.
fn all_forms<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str) {
    const MARK: &str = "here stands the form";
    let bytes = std::fs::read(format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
    let body: T = json::read(&bytes).unwrap();
    let standard: Value = serde_json::from_slice(&json::write_standard(&body)).unwrap();
    let (mut places, mut count) = (Vec::new(), 0);
    paths(&standard, "", &mut places);
    for place in places {
        let mut marked = standard.clone();
        let value = marked.pointer_mut(&place).unwrap();
        let mut forms = forms(value);
        // Nulls in lists and maps are dropped; only fields have a default for null.
        let is_field = place.rsplit('/').next().is_some_and(|name| name.starts_with(char::is_alphabetic));
        forms.retain(|form| is_field || form != "null");
        *value = Value::String(MARK.to_owned());
        let marked = marked.to_string();
        for form in forms {
            let written = marked.replace(&format!("\"{MARK}\""), &form);
            assert_eq!(json::read::<T>(written.as_bytes()).as_ref(), Ok(&body), "{file} {place}: {form}");
            count += 1;
        }
    }
    assert!(count > 0, "{file} has no value with another form");
    let text = std::str::from_utf8(&bytes).unwrap();
    for written in [
        format!("/*c*/{text},//x"),
        text.replace("\":", "\" :\0\t"),
        text.replace("}", ",}").replace("{,", "{"),
    ] {
        assert_eq!(json::read::<T>(written.as_bytes()).as_ref(), Ok(&body), "{written}");
    }
}

#[test]
fn every_value_of_every_body_is_accepted_in_every_form() {
    all_forms::<HeartbeatData>("heartbeat.json");
    all_forms::<HeartbeatData>("heartbeat_v2.json");
    all_forms::<HeartbeatData>("heartbeat_v2_short.json");
    all_forms::<HeartbeatData>("cpp_heartbeat.json");
    all_forms::<HeartbeatData>("go_heartbeat.json");
    all_forms::<CheckClientBody>("check_client.json");
    all_forms::<ConsumerIds>("consumer_ids.json");
    all_forms::<LockBatchBody>("lock_request.json");
    all_forms::<LockBatchReply>("lock_response.json");
    all_forms::<DataVersion>("data_version.json");
    all_forms::<TopicConfig>("topic_config.json");
    all_forms::<TopicConfigList>("topic_config_list.json");
    all_forms::<TopicConfigs>("all_topic_config.json");
    all_forms::<TopicList>("topic_list.json");
    all_forms::<RegisterBrokerBody>("register_body.json");
    all_forms::<GroupConfig>("group_config.json");
    all_forms::<GroupConfig>("group_config_full.json");
    all_forms::<GroupConfigList>("group_config_list.json");
    all_forms::<GroupConfigs>("all_group_config.json");
    all_forms::<GroupList>("group_list.json");
    all_forms::<GroupForbidden>("group_forbidden.json");
    all_forms::<ConsumerOffsets>("consumer_offsets.json");
    all_forms::<ResetOffsetBody>("reset_offset.json");
    all_forms::<ResetOffsetList>("reset_offset_c.json");
    all_forms::<ConsumerStatusBody>("consumer_status.json");
    all_forms::<CorrectionOffsets>("correction_offsets.json");
    all_forms::<KvTable>("kv_table.json");
    all_forms::<TopicRoute>("route_standard.json");
    all_forms::<TopicRoute>("route_static.json");
    all_forms::<ClusterInfo>("cluster_info.json");
    all_forms::<MemberGroupReply>("member_group.json");
    all_forms::<ReplicationStatus>("ha_info_master.json");
    all_forms::<ConsumeDirectlyReply>("consume_directly.json");
    all_forms::<ConsumeQueueEntries>("query_consume_queue.json");
    all_forms::<ConsumeTimeSpans>("consume_time_span.json");
    all_forms::<QuerySubscriptionReply>("query_subscription.json");
    all_forms::<BrokerStatsData>("broker_stats.json");
    all_forms::<ConsumeStats>("consume_stats.json");
    all_forms::<ConsumeStatsList>("consume_stats_list.json");
    all_forms::<ConsumerConnection>("consumer_connection.json");
    all_forms::<ProducerConnection>("producer_connection.json");
    all_forms::<ProducerTable>("producer_table.json");
    all_forms::<TopicStatsTable>("topic_stats.json");
}
