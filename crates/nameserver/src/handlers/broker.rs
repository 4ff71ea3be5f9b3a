//! A broker speaks for itself: 103 register, 104 unregister, 322 compare data versions, 904 sign of life.

use net::Connection;
use protocol::kv::ORDER_TOPIC_CONFIG;
use protocol::register::{
    BrokerHeartbeatHeader, BrokerIdentityHeader, QueryDataVersionReply, RegisterBrokerBody, RegisterBrokerHeader, RegisterBrokerReply,
};
use protocol::topic::{TopicConfig, TopicConfigs};
use protocol::{DataVersion, Frame, json};

use crate::NameServer;
use crate::problem::Problem;
use crate::routes::{Departure, Queues, Registered, Registration};

/// Version ordinal of 3.0.11: older brokers send their topics without an envelope.
const V3_0_11: i32 = 22;
/// First byte of a zlib stream.
const ZLIB: u8 = 0x78;
/// Ext field with a broker's or a client's zone.
pub(super) const ZONE_NAME: &str = "__ZONE_NAME";

pub(crate) fn register(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Frame, Problem> {
    let header = RegisterBrokerHeader::decode(&request.ext)?;
    check_body(&header, request)?;
    let settings = names.settings.current();
    let body = body(&header, request, settings.max_registration_bytes)?;
    let registration = Registration {
        cluster: header.cluster_name,
        broker_name: header.broker_name,
        broker_id: header.broker_id,
        address: header.broker_addr,
        ha_address: header.ha_server_addr,
        zone: request.ext.text(ZONE_NAME),
        promise_ms: header.heartbeat_timeout_ms,
        acting_master: header.enable_acting_master,
        topics: body
            .topics
            .topic_config_table
            .iter()
            .map(|(name, topic)| (name.as_str(), queues(topic)))
            .collect(),
        version: body.topics.data_version,
        mappings: body
            .topics
            .topic_queue_mapping_info_map
            .iter()
            .map(|(topic, mapping)| (topic.as_str(), mapping))
            .collect(),
        filter_servers: Some(&body.filter_server_list),
        connection: conn.id(),
        complete: settings.delete_topic_with_broker_registration,
    };
    let registered = enter(names, &registration)?;
    let mut reply = Frame::response_to(request);
    let master = registered.master.as_ref();
    RegisterBrokerReply {
        ha_server_addr: master.map(|master| master.ha_address.as_str()),
        master_addr: master.map(|master| master.address.as_str()),
    }
    .encode(&mut reply.ext);
    names.tell(registered.min_id_change);
    if settings.return_order_topic_config_to_broker
        && let Some(table) = names.kv.namespace(ORDER_TOPIC_CONFIG)
    {
        reply.body = json::write(&table).into();
    }
    Ok(reply)
}

fn enter(names: &NameServer, registration: &Registration<'_>) -> Result<Registered, Problem> {
    let now_ms = names.now_ms();
    let mut routes = names.routes.write();
    let nobody = routes.live_brokers() == 0;
    let registered = routes.register(registration, now_ms)?;
    drop(routes);
    if nobody {
        names.scan_bell.ring();
    }
    Ok(registered)
}

/// The checksum has 31 bits; 0 means that there is none.
fn check_body(header: &RegisterBrokerHeader<'_>, request: &Frame) -> Result<(), Problem> {
    let expected = header.body_crc32.unwrap_or(0);
    let actual = i32::try_from(crc32fast::hash(&request.body) & 0x7fff_ffff).unwrap_or(0);
    if expected == 0 || expected == actual {
        Ok(())
    } else {
        Err(Problem::Checksum)
    }
}

/// Without a body it is a broker without topics and of the oldest version.
fn body(header: &RegisterBrokerHeader<'_>, request: &Frame, max_inflated: usize) -> Result<RegisterBrokerBody, Problem> {
    if request.body.is_empty() {
        return Ok(RegisterBrokerBody::default());
    }
    if request.version < V3_0_11 {
        let topics: TopicConfigs = json::read(&request.body)?;
        return Ok(RegisterBrokerBody {
            topics,
            ..RegisterBrokerBody::default()
        });
    }
    // Compat: brokers of 5.5.0 with compressedRegister deflate the body and say that they did not. JSON never begins like a zlib stream.
    let compressed = header.compressed || request.body.first() == Some(&ZLIB);
    Ok(RegisterBrokerBody::decode_within(
        &request.body,
        compressed,
        request.version,
        max_inflated as u64,
    )?)
}

fn queues(topic: &TopicConfig) -> Queues {
    Queues {
        read: topic.read_queue_nums,
        write: topic.write_queue_nums,
        perm: topic.perm,
        sys_flag: topic.topic_sys_flag,
    }
}

pub(crate) fn unregister(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = BrokerIdentityHeader::decode(&request.ext)?;
    let departure = Departure {
        cluster: header.cluster_name.to_owned(),
        broker_name: header.broker_name.to_owned(),
        broker_id: header.broker_id,
        address: header.broker_addr.to_owned(),
    };
    let changes = names.routes.write().depart(&[departure]);
    names.tell(changes);
    Ok(Frame::response_to(request))
}

pub(crate) fn data_version(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = BrokerIdentityHeader::decode(&request.ext)?;
    let theirs: DataVersion = json::read(&request.body)?;
    let now_ms = names.now_ms();
    let mut routes = names.routes.write();
    let ours = routes.data_version(header.cluster_name, header.broker_addr);
    routes.touch(header.cluster_name, header.broker_addr, now_ms);
    drop(routes);
    let mut reply = Frame::response_to(request);
    QueryDataVersionReply {
        changed: ours != Some(theirs),
    }
    .encode(&mut reply.ext);
    if let Some(ours) = ours {
        reply.body = json::write(&ours).into();
    }
    Ok(reply)
}

pub(crate) fn heartbeat(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = BrokerHeartbeatHeader::decode(&request.ext)?;
    let now_ms = names.now_ms();
    names.routes.write().touch(header.cluster_name, header.broker_addr, now_ms);
    Ok(Frame::response_to(request))
}
