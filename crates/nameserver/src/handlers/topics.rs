//! Topics as administrators see them: lists (206, 224, 304, 311 to 313), deleting (216), entering by hand (217), the permission to write
//! (205, 327).

use net::Connection;
use protocol::route::{AddWritePermReply, TopicRoute, WipeWritePermReply, WritePermHeader};
use protocol::topic::{DeleteTopicInNameServerHeader, TopicHeader, TopicList, TopicsByClusterHeader};
use protocol::{Frame, json};

use crate::NameServer;
use crate::embedded::Rewrite;
use crate::problem::Problem;
use crate::routes::{Queues, Units};

fn list(request: &Frame, topics: &TopicList) -> Frame {
    Frame::response_to(request).with_body(json::write(topics))
}

pub(crate) fn all(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    if !names.settings.current().enable_all_topic_list {
        return Err(Problem::Disabled);
    }
    Ok(list(request, &names.routes.read().all_topics()))
}

pub(crate) fn of_cluster(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    if !names.settings.current().enable_topic_list {
        return Err(Problem::Disabled);
    }
    let header = TopicsByClusterHeader::decode(&request.ext)?;
    Ok(list(request, &names.routes.read().topics_of_cluster(header.cluster)))
}

/// Compat: as with Apache, `enableTopicList` does not count here.
pub(crate) fn system(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Frame, Problem> {
    let mut topics = names.routes.read().system_topics();
    if let Some(rewrite) = Rewrite::new(names.local_broker.as_ref(), conn.local().ip()) {
        topics.broker_addr.iter_mut().for_each(|address| rewrite.address(address));
    }
    Ok(list(request, &topics))
}

pub(crate) fn units(names: &NameServer, request: &Frame, units: Units) -> Result<Frame, Problem> {
    if !names.settings.current().enable_topic_list {
        return Err(Problem::Disabled);
    }
    Ok(list(request, &names.routes.read().unit_topics(units)))
}

pub(crate) fn delete(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = DeleteTopicInNameServerHeader::decode(&request.ext)?;
    let mut routes = names.routes.write();
    match header.cluster_name.filter(|cluster| !cluster.is_empty()) {
        Some(cluster) => routes.delete_topic_of_cluster(header.topic, cluster),
        None => routes.delete_topic(header.topic),
    }
    Ok(Frame::response_to(request))
}

pub(crate) fn enter(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = TopicHeader::decode(&request.ext)?;
    if !request.body.is_empty() {
        let route: TopicRoute = json::read(&request.body)?;
        let queues = |data: &protocol::route::QueueData| Queues {
            read: data.read_queue_nums,
            write: data.write_queue_nums,
            perm: data.perm,
            sys_flag: data.topic_sys_flag,
        };
        let queues: Vec<_> = route
            .queue_datas
            .iter()
            .map(|data| (data.broker_name.as_str(), queues(data)))
            .collect();
        names.routes.write().enter_topic(header.topic, &queues)?;
    }
    Ok(Frame::response_to(request))
}

pub(crate) fn wipe_write_perm(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = WritePermHeader::decode(&request.ext)?;
    let wipe_topic_count = names.routes.write().wipe_write_perm(header.broker_name);
    tracing::info!(
        broker = header.broker_name,
        wipe_topic_count,
        "write permission taken from a broker's topics"
    );
    let mut reply = Frame::response_to(request);
    WipeWritePermReply { wipe_topic_count }.encode(&mut reply.ext);
    Ok(reply)
}

pub(crate) fn add_write_perm(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = WritePermHeader::decode(&request.ext)?;
    let add_topic_count = names.routes.write().add_write_perm(header.broker_name);
    tracing::info!(
        broker = header.broker_name,
        add_topic_count,
        "write permission given to a broker's topics"
    );
    let mut reply = Frame::response_to(request);
    AddWritePermReply { add_topic_count }.encode(&mut reply.ext);
    Ok(reply)
}
