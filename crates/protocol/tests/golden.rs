//! Our bytes are Apache's bytes, both ways: frames and bodies written by RocketMQ 5.5.0's own classes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::BytesMut;
use protocol::diagnose::{
    ConsumeDirectlyReply, ConsumeQueueEntries, ConsumeTimeSpans, CorrectionOffsets, QuerySubscriptionReply, RunningInfo,
};
use protocol::group::{GroupConfig, GroupConfigList, GroupConfigs, GroupForbidden, GroupList};
use protocol::heartbeat::{CheckClientBody, ConsumeFromWhere, ConsumeType, ConsumerIds, HeartbeatData, MessageModel};
use protocol::kv::KvTable;
use protocol::lock::{LockBatchBody, LockBatchReply};
use protocol::offset::{ConsumerOffsets, UpdateConsumerOffsetHeader};
use protocol::pull::PullHeader;
use protocol::register::{RegisterBrokerBody, RegisterBrokerHeader};
use protocol::replication::ReplicationStatus;
use protocol::reset::{ConsumerStatusBody, ResetOffsetBody, ResetOffsetList};
use protocol::route::{ClusterInfo, MemberGroupReply, RouteHeader, TopicRoute};
use protocol::send::{SendHeader, SendReply};
use protocol::stats::{
    BrokerStatsData, ConsumeStats, ConsumeStatsList, ConsumerConnection, ProducerConnection, ProducerTable, TopicStatsTable,
};
use protocol::topic::{TopicConfig, TopicConfigAndMapping, TopicConfigList, TopicConfigs, TopicFilterType, TopicList};
use protocol::{DataVersion, Encoding, Frame, Language, RequestCode, frame, json, version};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))).expect(name)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// Reads a body and checks that we write it as Java did.
fn same_bytes<T: Serialize + DeserializeOwned>(name: &str) -> T {
    let bytes = file(name);
    let body: T = json::read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(text(&json::write(&body)), text(&bytes), "{name}");
    body
}

/// For bodies in Java's hash order: equal after parsing.
fn same_content<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str) -> T {
    let body: T = json::read(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let again: T = json::read(&json::write(&body)).unwrap();
    assert_eq!(again, body, "{name}");
    assert_eq!(json::write(&body).len(), file(name).len(), "{name}");
    body
}

/// Both encodings of one frame, which must be equal.
fn frame(name: &str) -> Frame {
    let mut decoded = [("json", Encoding::Json), ("binary", Encoding::Binary)].map(|(kind, encoding)| {
        let bytes = file(&format!("{name}.{kind}.frame"));
        let mut buf = BytesMut::from(&bytes[..]);
        let frame = frame::decode(&mut buf, frame::MAX_FRAME_LEN).unwrap().expect("a whole frame");
        assert!(buf.is_empty());
        assert_eq!(frame.encoding, encoding);
        // Java's order of ext fields is a hash map's and ours is the frame's own, so re-encoding gives Java's bytes.
        assert_eq!(text_lossy(&frame.to_bytes()), text_lossy(&bytes), "{name}.{kind}");
        frame
    });
    decoded[1].encoding = Encoding::Json;
    let [json, binary] = decoded;
    assert_eq!(json.code, binary.code);
    assert_eq!(json.body, binary.body);
    assert_eq!(json.remark, binary.remark);
    for (key, value) in json.ext.iter() {
        assert_eq!(binary.ext.bytes(text(key)), Some(value), "{name}: {}", text(key));
    }
    json
}

fn text_lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const PROPERTIES: &str =
    "KEYS\u{1}Order-42\u{2}UNIQ_KEY\u{1}C0A8010A3E4C18B4AAC2000000000001\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}note\u{1}café \"x\"\u{2}";

#[test]
fn a_send_is_the_same_in_both_spellings() {
    let (short, long) = (frame("send_v2"), frame("send_v1"));
    let header = SendHeader::decode(RequestCode::try_from(short.code).unwrap(), &short.ext).unwrap();
    assert_eq!(
        header,
        SendHeader::decode(RequestCode::try_from(long.code).unwrap(), &long.ext).unwrap()
    );
    assert_eq!(
        (short.language, short.version, short.opaque, short.flag),
        (Language::Java, version::CURRENT, 77, 0)
    );
    assert_eq!(
        (header.producer_group, header.topic, header.default_topic),
        ("please_rename_unique_group_name", "TopicTest", "TBW102")
    );
    assert_eq!(
        (header.default_topic_queue_nums, header.queue_id, header.born_timestamp),
        (4, 3, 1_700_000_000_123)
    );
    assert_eq!(text(header.properties), PROPERTIES);
    assert_eq!(
        (header.max_reconsume_times, header.batch, header.broker_name),
        (Some(16), false, Some("broker-a"))
    );
    assert_eq!(&short.body[..], b"Hello RocketMQ");
}

#[test]
fn a_send_written_by_us_is_the_java_clients_byte_for_byte() {
    let java = frame("send_v2");
    let header = SendHeader::decode_v2(&java.ext).unwrap();
    let mut ours = Frame::request(RequestCode::SendMessageV2).with_body(java.body.clone());
    ours.opaque = java.opaque;
    header.encode_v2(&mut ours.ext);
    assert_eq!(text_lossy(&ours.to_bytes()), text_lossy(&file("send_v2.json.frame")));
}

#[test]
fn pull_and_offset_requests_are_understood() {
    let pull = frame("pull");
    let header = PullHeader::decode(&pull.ext).unwrap();
    assert_eq!((header.consumer_group, header.topic, header.queue_id), ("CG", "TopicTest", 2));
    assert_eq!(
        (header.queue_offset, header.max_msg_nums, header.sys_flag),
        (1_234_567_890_123, 32, 6)
    );
    assert_eq!((header.subscription, header.expression_type), (Some("TagA || TagB"), Some("TAG")));
    assert_eq!((header.max_msg_bytes, header.suspend_timeout_ms), (Some(i32::MAX), 15_000));
    let commit = frame("update_offset_oneway");
    assert!(commit.is_oneway() && !commit.is_response());
    let header = UpdateConsumerOffsetHeader::decode(&commit.ext).unwrap();
    assert_eq!(
        header,
        UpdateConsumerOffsetHeader {
            consumer_group: "CG",
            topic: "TopicTest",
            queue_id: 1,
            commit_offset: 42
        }
    );
}

#[test]
fn responses_are_understood() {
    let sent = frame("send_response");
    assert!(sent.is_response());
    let reply = SendReply::decode(&sent.ext).unwrap();
    assert_eq!(
        (reply.msg_id, reply.queue_id, reply.queue_offset),
        ("7F00000100002A9F0000000000000000", 3, 9)
    );
    let refused = frame("error_response");
    assert_eq!(
        (refused.code, refused.remark.as_deref()),
        (17, Some("topic[nope] not exist, \"look\" here\n"))
    );
}

#[test]
fn name_server_requests_are_understood() {
    let route = frame("route_request");
    let header = RouteHeader::decode(&route.ext).unwrap();
    assert_eq!((header.topic, header.accept_standard_json_only), ("TopicTest", Some(true)));
    let register = frame("register_request");
    let header = RegisterBrokerHeader::decode(&register.ext).unwrap();
    assert_eq!(
        (header.broker_name, header.broker_id, header.compressed, header.body_crc32),
        ("broker-a", 0, false, Some(123))
    );
}

#[test]
fn a_registration_is_read_plain_and_deflated() {
    let plain = RegisterBrokerBody::decode(&file("register_body.json"), false, version::CURRENT).unwrap();
    assert_eq!(text(&plain.encode(false)), text(&file("register_body.json")));
    let mut deflated = RegisterBrokerBody::decode(&file("register_body.deflated"), true, version::CURRENT).unwrap();
    let ordered = &plain.topics.topic_config_table["Ordered"];
    assert_eq!((ordered.topic_filter_type, ordered.order), (TopicFilterType::MultiTag, true));
    assert_eq!(
        deflated.topics.topic_queue_mapping_info_map["Static"].curr_id_map,
        [(0, 0), (4, 1)].into()
    );
    let again = RegisterBrokerBody::decode(&deflated.encode(true), true, version::CURRENT).unwrap();
    assert_eq!(again, deflated);
    // The compressed form does not have these two fields.
    deflated.topics.mapping_data_version = plain.topics.mapping_data_version;
    deflated.topics.topic_config_table.get_mut("Ordered").unwrap().order = true;
    assert_eq!(deflated, plain);
}

#[test]
fn a_damaged_registration_is_refused() {
    let bytes = file("register_body.deflated");
    for cut in 0..bytes.len() - 8 {
        assert!(RegisterBrokerBody::decode(&bytes[..cut], true, version::CURRENT).is_err(), "{cut}");
    }
}

#[test]
fn routes_have_the_keys_each_client_can_read() {
    let route: TopicRoute = same_bytes("route_old.json");
    assert_eq!(text(&json::write_standard(&route)), text(&file("route_standard.json")));
    assert_eq!(json::read::<TopicRoute>(&file("route_standard.json")), Ok(route.clone()));
    assert_eq!(route.encode(version::V4_9_3, false), file("route_old.json"));
    assert_eq!(route.encode(version::V4_9_3, true), file("route_standard.json"));
    assert_eq!(route.encode(version::CURRENT, false), file("route_standard.json"));
    same_bytes::<TopicRoute>("route_minimal.json");
    same_bytes::<TopicRoute>("route_static.json");
    same_bytes::<ClusterInfo>("cluster_info.json");
    same_bytes::<MemberGroupReply>("member_group.json");
}

#[test]
fn heartbeats_are_read_from_java_cpp_and_go() {
    let java: HeartbeatData = same_bytes("heartbeat.json");
    assert_eq!((java.client_id.as_str(), java.producers.len()), ("10.0.0.1@4711#123", 1));
    assert_eq!(java.consumers[0].subscriptions[0].code_set, [2_598_919, 2_598_920].into());
    assert_eq!(same_bytes::<HeartbeatData>("heartbeat_v2.json").heartbeat_fingerprint, 808_946_106);
    assert!(same_bytes::<HeartbeatData>("heartbeat_v2_short.json").without_sub);

    let cpp: HeartbeatData = json::read(&file("cpp_heartbeat.json")).unwrap();
    let group = &cpp.consumers[0];
    assert_eq!(
        (group.consume_type, group.message_model),
        (ConsumeType::Passively, MessageModel::Clustering)
    );
    assert_eq!(group.consume_from_where, ConsumeFromWhere::FirstOffset);
    assert_eq!(
        (
            group.subscriptions[0].sub_version,
            group.subscriptions[0].code_set.iter().copied().collect::<Vec<_>>()
        ),
        (1_700_000_000_123, vec![2_598_919])
    );

    let go: HeartbeatData = json::read(&file("go_heartbeat.json")).unwrap();
    assert_eq!((go.producers.len(), go.consumers[0].subscriptions[0].sub_string.as_str()), (0, "*"));
}

#[test]
fn bodies_are_written_as_java_writes_them() {
    same_bytes::<GroupConfigs>("all_group_config.json");
    same_bytes::<TopicConfigs>("all_topic_config.json");
    same_bytes::<BrokerStatsData>("broker_stats.json");
    same_bytes::<CheckClientBody>("check_client.json");
    same_bytes::<ConsumeDirectlyReply>("consume_directly.json");
    same_bytes::<ConsumeStats>("consume_stats.json");
    same_bytes::<ConsumeStats>("consume_stats_empty.json");
    same_bytes::<ConsumeStatsList>("consume_stats_list.json");
    same_bytes::<ConsumerConnection>("consumer_connection.json");
    same_bytes::<ConsumerIds>("consumer_ids.json");
    same_bytes::<ConsumerOffsets>("consumer_offsets.json");
    same_bytes::<ConsumerStatusBody>("consumer_status.json");
    same_bytes::<CorrectionOffsets>("correction_offsets.json");
    same_bytes::<DataVersion>("data_version.json");
    same_bytes::<GroupConfig>("group_config.json");
    same_bytes::<GroupConfig>("group_config_full.json");
    same_bytes::<GroupConfigList>("group_config_list.json");
    same_bytes::<GroupForbidden>("group_forbidden.json");
    same_bytes::<GroupList>("group_list.json");
    same_bytes::<KvTable>("kv_table.json");
    same_bytes::<LockBatchBody>("lock_request.json");
    same_bytes::<LockBatchReply>("lock_response.json");
    same_bytes::<ProducerConnection>("producer_connection.json");
    same_bytes::<ProducerTable>("producer_table.json");
    same_bytes::<ConsumeQueueEntries>("query_consume_queue.json");
    same_bytes::<QuerySubscriptionReply>("query_subscription.json");
    same_bytes::<ResetOffsetBody>("reset_offset.json");
    same_bytes::<ResetOffsetList>("reset_offset_c.json");
    same_bytes::<TopicConfig>("topic_config.json");
    same_bytes::<TopicConfigAndMapping>("topic_config_and_mapping.json");
    same_bytes::<TopicConfigList>("topic_config_list.json");
    same_bytes::<TopicList>("topic_list.json");
    same_content::<TopicStatsTable>("topic_stats.json");
}

#[test]
fn a_time_span_is_read_and_written() {
    let spans: ConsumeTimeSpans = same_bytes("consume_time_span.json");
    assert_eq!(
        (
            spans.consume_time_span_set[0].delay_time,
            spans.consume_time_span_set[0].message_queue.queue_id
        ),
        (4, 0)
    );
}

#[test]
fn a_reset_for_clients_without_object_keys_is_equivalent() {
    let body: ResetOffsetBody = json::read(&file("reset_offset.json")).unwrap();
    assert_eq!(
        text(&json::write(&ResetOffsetList::from(&body))),
        text(&file("reset_offset_c.json"))
    );
}

#[test]
fn consumer_state_and_replication_status_are_read() {
    let info: RunningInfo = same_bytes("running_info.json");
    assert_eq!(info.property("PROP_CONSUME_TYPE").as_deref(), Some("CONSUME_PASSIVELY"));
    assert_eq!(info.mq_table.values().next().map(|queue| queue.commit_offset), Some(3));
    let replication: ReplicationStatus = same_bytes("ha_info.json");
    assert!(!replication.master);
    let replication: ReplicationStatus = same_bytes("ha_info_master.json");
    let copy = &replication.ha_connection_info[0];
    assert_eq!(
        (copy.addr.as_str(), copy.slave_ack_offset, copy.transfer_from_where),
        ("10.0.0.2:41234", 900, 950)
    );
}
