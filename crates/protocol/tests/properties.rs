//! What we write is read back; no input causes a panic, or memory to be allocated for bytes that were not read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use protocol::heartbeat::{ConsumerData, HeartbeatData, ProducerData, Subscription};
use protocol::offset::SearchOffsetHeader;
use protocol::pull::PullHeader;
use protocol::register::RegisterBrokerBody;
use protocol::send::SendHeader;
use protocol::static_topic::QueueMapping;
use protocol::topic::{TopicConfig, TopicFilterType};
use protocol::{Ext, RequestCode, json, version};

const NAME: &str = "[a-zA-Z0-9_%-]{1,30}";

prop_compose! {
    fn any_topic()(
        topic_name in NAME, read_queue_nums in any::<i32>(), write_queue_nums in any::<i32>(), perm in 0..8i32, multi in any::<bool>(),
        attributes in btree_map(".{1,8}", ".{0,8}", 0..3),
    ) -> TopicConfig {
        let topic_filter_type = if multi { TopicFilterType::MultiTag } else { TopicFilterType::SingleTag };
        TopicConfig { attributes, perm, read_queue_nums, topic_filter_type, topic_name, write_queue_nums, ..TopicConfig::default() }
    }
}

prop_compose! {
    fn any_registration()(
        topics in vec(any_topic(), 0..20), (counter, timestamp) in any::<(i64, i64)>(),
        mappings in btree_map(NAME, btree_map(any::<i32>(), any::<i32>(), 0..4), 0..4),
        filter_server_list in vec(".{0,9}", 0..3),
    ) -> RegisterBrokerBody {
        let mut body = RegisterBrokerBody { filter_server_list, ..RegisterBrokerBody::default() };
        body.topics.data_version.counter = counter;
        body.topics.data_version.timestamp = timestamp;
        body.topics.topic_config_table = topics.into_iter().map(|topic| (topic.topic_name.clone(), topic)).collect();
        let mapping = |(topic, curr_id_map): (String, _)| (topic.clone(), QueueMapping { topic, curr_id_map, ..QueueMapping::default() });
        body.topics.topic_queue_mapping_info_map = mappings.into_iter().map(mapping).collect();
        body
    }
}

prop_compose! {
    fn any_heartbeat()(
        client_id in ".{0,20}", groups in vec(("[^\u{0}]{0,10}", vec((".{0,10}", ".{0,10}", any::<i64>(), vec(any::<i32>(), 0..4)), 0..4)), 0..4),
        producers in vec(".{0,10}", 0..4), heartbeat_fingerprint in any::<i32>(), without_sub in any::<bool>(),
    ) -> HeartbeatData {
        let subscription = |(topic, sub_string, sub_version, codes): (_, _, _, Vec<i32>)| Subscription { topic, sub_string, sub_version, code_set: codes.into_iter().collect(), ..Subscription::default() };
        let consumers = groups.into_iter().map(|(group_name, wants)| ConsumerData {
            group_name, subscriptions: wants.into_iter().map(subscription).collect(), ..ConsumerData::default()
        });
        HeartbeatData {
            client_id, consumers: consumers.collect(), heartbeat_fingerprint,
            producers: producers.into_iter().map(|group_name| ProducerData { group_name }).collect(), without_sub,
        }
    }
}

proptest! {
    #[test]
    fn a_registration_survives_all_forms(body in any_registration()) {
        for compressed in [false, true] {
            for bytes in [body.encode(compressed), body.encode_short(compressed)] {
                let read = RegisterBrokerBody::decode(&bytes, compressed, version::CURRENT);
                prop_assert_eq!(read.expect("read"), body.clone());
            }
        }
    }

    #[test]
    fn a_damaged_registration_never_panics(body in any_registration(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for compressed in [false, true] {
            let mut bytes = body.encode(compressed);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = RegisterBrokerBody::decode(&bytes, compressed, version::CURRENT);
            let _ = RegisterBrokerBody::decode(&bytes[..at], compressed, version::V4_9_3);
        }
    }

    #[test]
    fn a_heartbeat_survives(heartbeat in any_heartbeat()) {
        prop_assert_eq!(json::read::<HeartbeatData>(&json::write(&heartbeat)), Ok(heartbeat));
    }

    #[test]
    fn a_send_header_survives_both_spellings(
        (group, topic, default, broker) in (".*", ".*", ".*", option::of(".*")),
        (queue_nums, queue_id, sys_flag, flag, reconsume) in any::<(i32, i32, i32, i32, i32)>(),
        (born, most, unit_mode, batch) in any::<(i64, Option<i32>, bool, bool)>(),
        properties in ".*",
    ) {
        let header = SendHeader {
            producer_group: &group, topic: &topic, default_topic: &default, default_topic_queue_nums: queue_nums, queue_id, sys_flag,
            born_timestamp: born, flag, properties: properties.as_bytes(), reconsume_times: reconsume, unit_mode,
            max_reconsume_times: most, batch, broker_name: broker.as_deref(),
        };
        let (mut short, mut long) = (Ext::new(), Ext::new());
        header.encode_v2(&mut short);
        header.encode_v1(&mut long);
        prop_assert_eq!(SendHeader::decode(RequestCode::SendBatchMessage, &short), Ok(header));
        prop_assert_eq!(SendHeader::decode(RequestCode::SendReplyMessage, &long), Ok(header));
    }

    #[test]
    fn a_header_built_by_macro_survives((topic, queue_id, timestamp, boundary_type) in (".*", any::<i32>(), any::<i64>(), option::of(".*"))) {
        let header = SearchOffsetHeader { topic: &topic, queue_id, timestamp, boundary_type: boundary_type.as_deref() };
        let mut ext = Ext::new();
        header.encode(&mut ext);
        prop_assert_eq!(SearchOffsetHeader::decode(&ext), Ok(header.clone()));
    }

    #[test]
    fn odd_fields_never_panic(fields in vec(("[a-n]|topic|queueId|sysFlag|subVersion", "-?[0-9]{0,25}|.{0,5}"), 0..30)) {
        let mut ext = Ext::new();
        for (key, value) in &fields {
            ext.push(key, value);
        }
        let _ = SendHeader::decode_v1(&ext);
        let _ = SendHeader::decode_v2(&ext);
        let _ = PullHeader::decode(&ext);
    }
}

#[test]
fn a_wrong_length_allocates_no_memory() {
    // Two gigabytes announced in the first part, four bytes sent.
    let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut deflated, &0x7fff_ffffu32.to_be_bytes()).unwrap();
    assert!(RegisterBrokerBody::decode(&deflated.finish().unwrap(), true, version::CURRENT).is_err());
}
