//! The fields of a frame as the header of every request and answer.

use super::recorded;
use crate::Target;
use bytes::BytesMut;
use protocol::frame::{self, MAX_FRAME_LEN};
use protocol::{
    Ext, diagnose, group, heartbeat, kv, offset, pop, pull, query, register, request_reply, reset, retry, route, send, stats, topic,
};

/// See the module.
pub const TARGET: Target = Target {
    name: "header",
    run,
    seeds: || recorded("protocol/tests/golden", ".frame"),
};

/// Reads each header; what could be read is written and read again.
macro_rules! headers {
    ($ext:expr; $($header:path,)*) => {$({
        type Header<'a> = $header;
        if let Ok(header) = Header::decode($ext) {
            let mut written = Ext::new();
            header.encode(&mut written);
            assert_eq!(Header::decode(&written).as_ref(), Ok(&header));
        }
    })*};
}

fn run(data: &[u8]) {
    let mut buf = BytesMut::from(data);
    let Ok(Some(frame)) = frame::decode(&mut buf, MAX_FRAME_LEN) else {
        return;
    };
    let ext = &frame.ext;
    for header in [send::SendHeader::decode_v1(ext), send::SendHeader::decode_v2(ext)]
        .into_iter()
        .flatten()
    {
        header.encode_v1(&mut Ext::new());
        header.encode_v2(&mut Ext::new());
    }
    let _ = pull::PullHeader::decode(ext);
    headers!(ext;
        diagnose::ConsumerRunningInfoHeader<'a>, diagnose::ConsumeDirectlyHeader<'a>, diagnose::ConsumeTimeSpanHeader<'a>,
        diagnose::QueryConsumeQueueHeader<'a>, diagnose::QuerySubscriptionHeader<'a>, diagnose::CorrectionOffsetHeader<'a>,
        group::AllGroupConfigHeader<'a>, group::AllGroupConfigReply, group::DeleteGroupHeader<'a>, group::GroupHeader<'a>,
        group::GroupForbiddenHeader<'a>, heartbeat::UnregisterClientHeader<'a>, heartbeat::ConsumerGroupHeader<'a>,
        kv::PutKvHeader<'a>, kv::KvKeyHeader<'a>, kv::KvValueReply<'a>, kv::KvNamespaceHeader<'a>,
        offset::QueryConsumerOffsetHeader<'a>, offset::UpdateConsumerOffsetHeader<'a>, offset::OffsetReply, offset::SearchOffsetHeader<'a>,
        offset::MaxOffsetHeader<'a>, offset::QueueHeader<'a>, offset::StoreTimeReply, pull::PullReply,
        pop::PopHeader<'a>, pop::PopReply<'a>, pop::AckHeader<'a>, pop::ChangeInvisibleHeader<'a>, pop::ChangeInvisibleReply,
        pop::PeekHeader<'a>, pop::NotificationHeader<'a>, pop::NotificationReply, pop::PollingInfoHeader<'a>,
        query::QueryMessageHeader<'a>, query::QueryMessageReply, request_reply::PushReplyHeader<'a>, query::ViewMessageHeader<'a>,
        register::RegisterBrokerHeader<'a>, register::RegisterBrokerReply<'a>, register::BrokerIdentityHeader<'a>,
        register::QueryDataVersionReply, register::BrokerHeartbeatHeader<'a>, register::MinBrokerIdChangeHeader<'a>,
        reset::ResetOffsetHeader<'a>, reset::ConsumerStatusHeader<'a>, reset::CloneGroupOffsetHeader<'a>, retry::SendBackHeader<'a>,
        route::RouteHeader<'a>, route::MemberGroupHeader<'a>, route::WritePermHeader<'a>, route::WipeWritePermReply, route::AddWritePermReply,
        send::SendReply<'a>, stats::ConsumeStatsHeader<'a>, stats::BrokerConsumeStatsHeader, stats::ProducerGroupHeader<'a>,
        stats::BrokerStatsHeader<'a>, topic::CreateTopicHeader<'a>, topic::AllTopicConfigHeader<'a>, topic::AllTopicConfigReply,
        topic::TopicHeader<'a>, topic::DeleteTopicInNameServerHeader<'a>, topic::TopicsByClusterHeader<'a>,
    );
}
