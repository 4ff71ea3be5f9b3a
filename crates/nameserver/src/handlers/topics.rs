//! Topics as administrators change them: delete (216), register by hand (217), write permission (205, 327).

use std::sync::Arc;

use net::Connection;
use protocol::route::{AddWritePermReply, QueueData, TopicRoute, WipeWritePermReply, WritePermHeader};
use protocol::topic::{DeleteTopicInNameServerHeader, TopicHeader};
use protocol::{Frame, json};

use super::broker::clamp_queues;
use crate::error::RequestError;
use crate::names::checked;
use crate::server::{NameServer, Served};

pub(crate) fn delete(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let header = DeleteTopicInNameServerHeader::decode(&request.ext)?;
    let topic = checked("topic", header.topic)?;
    let mut routes = names.routes.write();
    match header.cluster_name.filter(|cluster| !cluster.is_empty()) {
        Some(cluster) => routes.delete_topic_of_cluster(topic, cluster),
        None => routes.delete_topic(topic),
    }
    Ok(Frame::response_to(request))
}

/// On the thread of registrations, so that an earlier registration does not overwrite it.
pub(crate) fn register(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    let header = TopicHeader::decode(&request.ext)?;
    let topic = checked("topic", header.topic)?.to_owned();
    let body = request.body.clone();
    if body.is_empty() {
        return Ok(Served::Now(Frame::response_to(request)));
    }
    names.serve_on(&names.work, conn, request, body.len(), move |names, answer| {
        let route: TopicRoute = json::read(&body)?;
        let queues = |data: &QueueData| clamp_queues(data.read_queue_nums, data.write_queue_nums, data.perm, data.topic_sys_flag);
        let queues: Vec<_> = route
            .queue_datas
            .iter()
            .map(|data| (data.broker_name.as_str(), queues(data)))
            .collect();
        names.routes.write().register_topic(&topic, &queues)?;
        Ok(answer)
    })
}

pub(crate) fn wipe_write_perm(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let header = WritePermHeader::decode(&request.ext)?;
    let broker = checked("brokerName", header.broker_name)?;
    let wipe_topic_count = names.routes.write().wipe_write_perm(broker);
    tracing::info!(broker, wipe_topic_count, "write permission of a broker's topics removed");
    let mut reply = Frame::response_to(request);
    WipeWritePermReply { wipe_topic_count }.encode(&mut reply.ext);
    Ok(reply)
}

pub(crate) fn add_write_perm(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let header = WritePermHeader::decode(&request.ext)?;
    let broker = checked("brokerName", header.broker_name)?;
    let add_topic_count = names.routes.write().add_write_perm(broker);
    tracing::info!(broker, add_topic_count, "write permission of a broker's topics restored");
    let mut reply = Frame::response_to(request);
    AddWritePermReply { add_topic_count }.encode(&mut reply.ext);
    Ok(reply)
}
