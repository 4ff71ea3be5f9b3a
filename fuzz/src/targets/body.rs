//! Every JSON body, strict and in Java's dialect.

use super::recorded;
use crate::Target;
use protocol::{
    DataVersion, MessageQueue, assignment, diagnose, group, heartbeat, json, kv, lock, offset, pop, register, replication, reset, route,
    stats, topic,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// See the module.
pub const TARGET: Target = Target {
    name: "body",
    run,
    seeds: || recorded("protocol/tests/golden", ".json"),
};

/// What is read and written is what is read again.
fn body<T: DeserializeOwned + Serialize>(data: &[u8]) {
    if let Ok(body) = json::read::<T>(data) {
        let written = json::write(&body);
        assert!(json::read::<T>(&written).is_ok(), "{}", String::from_utf8_lossy(&written));
        let _ = json::write_standard(&body);
    }
}

/// Records of what was popped name a bounded number of messages, whatever they say.
fn popped(data: &[u8]) {
    body::<pop::records::CheckPoint>(data);
    body::<pop::records::Ack>(data);
    if let Ok(point) = json::read::<pop::records::CheckPoint>(data) {
        let offsets = point.offsets();
        assert!(offsets.len() <= pop::records::MAX_MESSAGES && offsets.iter().all(|offset| *offset >= point.start));
    }
    if let Ok(acks) = json::read::<pop::BatchAckBody>(data) {
        acks.acks.iter().for_each(|acks| drop(acks.distances()));
    }
}

fn run(data: &[u8]) {
    body::<DataVersion>(data);
    body::<MessageQueue>(data);
    body::<assignment::RequestModes>(data);
    body::<assignment::Assignment>(data);
    body::<assignment::AssignmentRequest>(data);
    body::<diagnose::ConsumeDirectlyReply>(data);
    body::<diagnose::ConsumeQueueEntries>(data);
    body::<diagnose::ConsumeTimeSpans>(data);
    body::<diagnose::CorrectionOffsets>(data);
    body::<diagnose::QuerySubscriptionReply>(data);
    body::<diagnose::RunningInfo>(data);
    body::<group::GroupConfig>(data);
    body::<group::GroupConfigList>(data);
    body::<group::GroupConfigs>(data);
    body::<group::GroupForbidden>(data);
    body::<group::GroupList>(data);
    body::<heartbeat::CheckClientBody>(data);
    body::<heartbeat::ConsumerIds>(data);
    body::<heartbeat::HeartbeatData>(data);
    body::<kv::KvTable>(data);
    body::<lock::LockBatchBody>(data);
    body::<lock::LockBatchReply>(data);
    body::<offset::ConsumerOffsets>(data);
    body::<offset::DelayOffsets>(data);
    body::<pop::BatchAckBody>(data);
    body::<pop::order::OrderInfos>(data);
    popped(data);
    body::<register::RegisterBrokerBody>(data);
    body::<replication::ReplicationStatus>(data);
    body::<reset::ConsumerStatusBody>(data);
    body::<reset::ResetOffsetBody>(data);
    body::<reset::ResetOffsetList>(data);
    body::<route::ClusterInfo>(data);
    body::<route::MemberGroupReply>(data);
    body::<route::TopicRoute>(data);
    body::<stats::BrokerStatsData>(data);
    body::<stats::ConsumeStats>(data);
    body::<stats::ConsumeStatsList>(data);
    body::<stats::ConsumerConnection>(data);
    body::<stats::ProducerConnection>(data);
    body::<stats::ProducerTable>(data);
    body::<stats::TopicStatsTable>(data);
    body::<topic::TopicConfig>(data);
    body::<topic::TopicConfigAndMapping>(data);
    body::<topic::TopicConfigList>(data);
    body::<topic::TopicConfigs>(data);
    body::<topic::TopicList>(data);
}
