//! A broker speaks for itself: 103 register, 104 unregister, 322 compare data versions, 904 sign of life.

use std::sync::Arc;

use net::{Connection, Gate};
use protocol::kv::ORDER_TOPIC_CONFIG;
use protocol::register::{
    BrokerHeartbeatHeader, BrokerIdentityHeader, QueryDataVersionReply, RegisterBrokerBody, RegisterBrokerHeader, RegisterBrokerReply,
};
use protocol::topic::TopicConfigs;
use protocol::{DataVersion, Frame, json};

use crate::names::{checked, is_sound, shortened};
use crate::problem::Problem;
use crate::routes::{Queues, Registered, Registration};
use crate::server::{NameServer, Served};

/// Version ordinal of 3.0.11: older brokers send their topics without an envelope.
const V3_0_11: i32 = 22;
/// Range of the silence after which a broker may ask to be taken for gone, ms.
const MIN_PROMISE_MS: i64 = 1_000;
const MAX_PROMISE_MS: i64 = 600_000;
/// Most queues of a topic on one broker that a route tells.
const MAX_QUEUES: i32 = 65_536;
/// Highest state version: an epoch of a controller. One beyond would keep every other broker from the same id.
const MAX_STATE_VERSION: i64 = i32::MAX as i64;
/// Longest data version that is read: JSON with three numbers.
const MAX_VERSION_BYTES: usize = 4 << 10;
/// First byte of a zlib stream.
const ZLIB: u8 = 0x78;
/// Ext field with a broker's or a client's zone.
pub(super) const ZONE_NAME: &str = "__ZONE_NAME";

/// Aside, because a body may have many megabytes.
pub(crate) fn register(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
    let header = RegisterBrokerHeader::decode(&request.ext)?;
    check_identity(header.cluster_name, header.broker_name, header.broker_addr, header.broker_id)?;
    for (what, text) in [
        ("haServerAddr", Some(header.ha_server_addr)),
        (ZONE_NAME, request.ext.text(ZONE_NAME)),
    ] {
        text.filter(|text| !text.is_empty()).map_or(Ok(""), |text| checked(what, text))?;
    }
    let fields: usize = request.ext.iter().map(|(key, value)| key.len() + value.len()).sum();
    let (frame, from) = (request.clone(), Arc::clone(conn));
    names.aside(&names.work, conn, request, request.body.len() + fields, move |names, answer| {
        let answer = register_now(names, from.id(), &frame, answer);
        if from.is_closed() {
            // It closed before, and its brokers were looked for when this one was not there yet.
            names.connection_closed(&from);
        }
        answer
    })
}

fn check_identity(cluster: &str, broker: &str, address: &str, id: i64) -> Result<(), Problem> {
    checked("clusterName", cluster)?;
    checked("brokerName", broker)?;
    checked("brokerAddr", address)?;
    if id < 0 { Err(Problem::BrokerId(id)) } else { Ok(()) }
}

fn register_now(names: &NameServer, connection: u64, request: &Frame, mut answer: Frame) -> Result<Frame, Problem> {
    let header = RegisterBrokerHeader::decode(&request.ext)?;
    check_body(&header, request)?;
    let settings = names.settings.current();
    let body = body(&header, request, settings.max_registration_bytes)?;
    let topics = SaneTopics::of(&body);
    topics.report(&header);
    let filter_servers: Vec<String> = body.filter_server_list.iter().filter(|server| is_sound(server)).cloned().collect();
    let version = body.topics.data_version;
    let mappings = body.topics.topic_queue_mapping_info_map.iter();
    let registration = Registration {
        cluster: header.cluster_name,
        broker_name: header.broker_name,
        broker_id: header.broker_id,
        address: header.broker_addr,
        ha_address: header.ha_server_addr,
        zone: request.ext.text(ZONE_NAME).filter(|zone| !zone.is_empty()),
        promise_ms: header
            .heartbeat_timeout_ms
            .map(|promise| promise.clamp(MIN_PROMISE_MS, MAX_PROMISE_MS)),
        acting_master: header.enable_acting_master,
        version: DataVersion {
            state_version: version.state_version.clamp(0, MAX_STATE_VERSION),
            ..version
        },
        mappings: mappings
            .filter(|(topic, mapping)| is_sound(topic) && is_sound(&mapping.bname))
            .map(|(topic, mapping)| (topic.as_str(), mapping))
            .collect(),
        filter_servers: Some(&filter_servers),
        connection,
        complete: settings.delete_topic_with_broker_registration,
        unsound: topics.unsound.0,
        topics: topics.sane,
    };
    let registered = enter(names, &registration)?;
    names.tell(registered.min_id_change);
    if let Some(left_out) = registered.left_out {
        static GATE: Gate = Gate::new();
        if let Some(others) = GATE.open() {
            let (broker, address) = (header.broker_name, header.broker_addr);
            tracing::warn!(broker, address, %left_out, others, "a broker has more topics than there is room for");
        }
        return Err(left_out.into());
    }
    if let (count @ 1.., Some(first)) = topics.unsound {
        return Err(Problem::TopicNames {
            count,
            first: shortened(first).to_owned(),
        });
    }
    let master = registered.master.as_ref();
    RegisterBrokerReply {
        ha_server_addr: master.map(|master| master.ha_address.as_str()),
        master_addr: master.map(|master| master.address.as_str()),
    }
    .encode(&mut answer.ext);
    if settings.return_order_topic_config_to_broker
        && let Some(table) = names.kv.list(ORDER_TOPIC_CONFIG)
    {
        answer.body = names.order_table(table, &settings);
    }
    Ok(answer)
}

/// The topics of a registration as they can be kept.
struct SaneTopics<'a> {
    sane: Vec<(&'a str, Queues)>,
    /// How many have a name that cannot be kept, and the first of them.
    unsound: (usize, Option<&'a str>),
    /// How many had a number of queues beyond sense.
    fitted: usize,
}

impl<'a> SaneTopics<'a> {
    fn of(body: &'a RegisterBrokerBody) -> Self {
        let mut topics = Self {
            sane: Vec::with_capacity(body.topics.topic_config_table.len()),
            unsound: (0, None),
            fitted: 0,
        };
        for (name, topic) in &body.topics.topic_config_table {
            if !is_sound(name) {
                topics.unsound = (topics.unsound.0 + 1, topics.unsound.1.or(Some(name)));
                continue;
            }
            let queues = sane_queues(topic.read_queue_nums, topic.write_queue_nums, topic.perm, topic.topic_sys_flag);
            topics.fitted += usize::from((queues.read, queues.write) != (topic.read_queue_nums, topic.write_queue_nums));
            topics.sane.push((name, queues));
        }
        topics
    }

    fn report(&self, header: &RegisterBrokerHeader<'_>) {
        static GATE: Gate = Gate::new();
        if self.fitted == 0 {
            return;
        }
        if let Some(others) = GATE.open() {
            tracing::warn!(
                broker = header.broker_name,
                address = header.broker_addr,
                topics = self.fitted,
                others,
                "a broker registers topics with numbers of queues beyond sense; they count as 0 to {MAX_QUEUES}"
            );
        }
    }
}

/// Queues as clients can use them: clients make a list of as many entries as a route says.
pub(super) fn sane_queues(read: i32, write: i32, perm: i32, sys_flag: i32) -> Queues {
    Queues {
        read: read.clamp(0, MAX_QUEUES),
        write: write.clamp(0, MAX_QUEUES),
        perm,
        sys_flag,
    }
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

/// In line with registrations, so that one that came before does not undo it.
pub(crate) fn unregister(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
    let header = BrokerIdentityHeader::decode(&request.ext)?;
    check_identity(header.cluster_name, header.broker_name, header.broker_addr, header.broker_id)?;
    let (cluster, broker) = (header.cluster_name.to_owned(), header.broker_name.to_owned());
    let address = header.broker_addr.to_owned();
    names.aside(&names.work, conn, request, 0, move |names, answer| {
        let changes = names.routes.write().unregister(&cluster, &broker, &address);
        names.tell(changes);
        Ok(answer)
    })
}

/// Compat: without a body the version is taken for another one, as by Apache.
pub(crate) fn data_version(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = BrokerIdentityHeader::decode(&request.ext)?;
    let theirs: Option<DataVersion> = match &request.body[..] {
        [] => None,
        body if body.len() > MAX_VERSION_BYTES => return Err(Problem::VersionTooLong(body.len())),
        body => json::read(body)?,
    };
    let now_ms = names.now_ms();
    let mut routes = names.routes.write();
    let ours = routes.data_version(header.cluster_name, header.broker_name, header.broker_addr);
    routes.touch(header.cluster_name, header.broker_name, header.broker_addr, now_ms);
    drop(routes);
    let mut reply = Frame::response_to(request);
    QueryDataVersionReply {
        changed: ours.is_none() || ours != theirs,
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
    let mut routes = names.routes.write();
    routes.touch(header.cluster_name, header.broker_name, header.broker_addr, now_ms);
    drop(routes);
    Ok(Frame::response_to(request))
}
