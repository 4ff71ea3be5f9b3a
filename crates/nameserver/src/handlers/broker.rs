//! Requests of brokers: register (103), unregister (104), compare data versions (322), heartbeat (904).

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use net::{Connection, Gate};
use protocol::kv::ORDER_TOPIC_CONFIG;
use protocol::register::{
    BrokerHeartbeatHeader, BrokerIdentityHeader, QueryDataVersionReply, RegisterBrokerBody, RegisterBrokerHeader, RegisterBrokerReply,
};
use protocol::topic::TopicConfigs;
use protocol::{DataVersion, Frame, json};

use crate::error::RequestError;
use crate::names::{checked, is_valid, truncated};
use crate::routes::{Queues, Registered, Registration, Unchanged};
use crate::server::{NameServer, Served};
use crate::settings::NamesrvSettings;

/// Version ordinal of 3.0.11: older brokers send their topics without an envelope.
const V3_0_11: i32 = 22;
/// Range of the heartbeat timeout that a broker may ask for, ms.
const MIN_HEARTBEAT_TIMEOUT_MS: i64 = 1_000;
const MAX_HEARTBEAT_TIMEOUT_MS: i64 = 600_000;
/// Maximum number of queues of a topic on one broker.
const MAX_QUEUES: i32 = 65_536;
/// Maximum state version, which is a controller's epoch. With a higher one, a broker could keep all others from its id.
const MAX_STATE_VERSION: i64 = i32::MAX as i64;
/// Maximum bytes of a data version: JSON with three numbers.
const MAX_VERSION_BYTES: usize = 4 << 10;
/// First byte of a zlib stream.
const ZLIB: u8 = 0x78;
/// Ext field with the zone of a broker or client.
pub(super) const ZONE_NAME: &str = "__ZONE_NAME";

/// On the `work` thread, because a body may have many megabytes.
pub(crate) fn register(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
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
    names.serve_on(&names.work, conn, request, request.body.len() + fields, move |names, answer| {
        let answer = register_now(names, from.id(), &frame, answer);
        if from.is_closed() {
            // The brokers of the connection were removed before this one was registered.
            names.connection_closed(&from);
        }
        answer
    })
}

fn check_identity(cluster: &str, broker: &str, address: &str, id: i64) -> Result<(), RequestError> {
    checked("clusterName", cluster)?;
    checked("brokerName", broker)?;
    checked("brokerAddr", address)?;
    if id < 0 { Err(RequestError::BrokerId(id)) } else { Ok(()) }
}

fn register_now(names: &NameServer, connection: u64, request: &Frame, answer: Frame) -> Result<Frame, RequestError> {
    let header = RegisterBrokerHeader::decode(&request.ext)?;
    let settings = names.settings.current();
    let said = Registration {
        cluster: header.cluster_name,
        broker_name: header.broker_name,
        broker_id: header.broker_id,
        address: header.broker_addr,
        ha_address: header.ha_server_addr,
        zone: request.ext.text(ZONE_NAME).filter(|zone| !zone.is_empty()),
        heartbeat_timeout_ms: header
            .heartbeat_timeout_ms
            .map(|promise| promise.clamp(MIN_HEARTBEAT_TIMEOUT_MS, MAX_HEARTBEAT_TIMEOUT_MS)),
        acting_master: header.enable_acting_master,
        connection,
        complete: settings.delete_topic_with_broker_registration,
        fingerprint: Some(fingerprint(names, request, &settings)),
        ..Registration::default()
    };
    let now_ms = names.now_ms();
    let repeated = names.routes.write().repeat(&said, now_ms);
    if let Some(repeated) = repeated {
        return Ok(registered_answer(names, &settings, &repeated, answer));
    }
    check_body(&header, request)?;
    let body = body(&header, request, settings.max_registration_bytes)?;
    let topics = RegisteredTopics::of(&body);
    topics.report(&header);
    let filter_servers: Vec<String> = body.filter_server_list.iter().filter(|server| is_valid(server)).cloned().collect();
    let version = body.topics.data_version;
    let mappings = body.topics.topic_queue_mapping_info_map.iter();
    let registration = Registration {
        version: DataVersion {
            state_version: version.state_version.clamp(0, MAX_STATE_VERSION),
            ..version
        },
        mappings: mappings
            .filter(|(topic, mapping)| is_valid(topic) && is_valid(&mapping.bname))
            .map(|(topic, mapping)| (topic.as_str(), mapping))
            .collect(),
        filter_servers: Some(&filter_servers),
        invalid: topics.invalid.0,
        topics: topics.valid,
        ..said
    };
    let mut registered = apply(names, &registration)?;
    names.notify_min_id_changes(registered.min_id_change.take());
    if let Some(left_out) = registered.left_out {
        static GATE: Gate = Gate::new();
        if let Some(others) = GATE.open() {
            let (broker, address) = (header.broker_name, header.broker_addr);
            tracing::warn!(broker, address, %left_out, others, "topics of a broker do not fit the limits of the name server");
        }
        return Err(left_out.into());
    }
    if let (count @ 1.., Some(first)) = topics.invalid {
        return Err(RequestError::TopicNames {
            count,
            first: truncated(first).to_owned(),
        });
    }
    Ok(registered_answer(names, &settings, &registered, answer))
}

/// Hash of all that decides what a registration changes.
fn fingerprint(names: &NameServer, request: &Frame, settings: &NamesrvSettings) -> u64 {
    let mut hasher = names.fingerprints.build_hasher();
    request.ext.iter().for_each(|field| field.hash(&mut hasher));
    (request.version, settings.delete_topic_with_broker_registration).hash(&mut hasher);
    request.body.hash(&mut hasher);
    hasher.finish()
}

fn registered_answer(names: &NameServer, settings: &NamesrvSettings, registered: &Registered, mut answer: Frame) -> Frame {
    let master = registered.master.as_ref();
    RegisterBrokerReply {
        ha_server_addr: master.map(|master| master.ha_address.as_str()),
        master_addr: master.map(|master| master.address.as_str()),
    }
    .encode(&mut answer.ext);
    if settings.return_order_topic_config_to_broker
        && let Some(table) = names.kv.list(ORDER_TOPIC_CONFIG)
    {
        answer.body = names.order_table(table, settings);
    }
    answer
}

/// The topics of a registration.
struct RegisteredTopics<'a> {
    valid: Vec<(&'a str, Queues)>,
    /// Number of topics with an invalid name, and the first of them.
    invalid: (usize, Option<&'a str>),
    /// Number of topics with a negative or too high number of queues.
    clamped: usize,
}

impl<'a> RegisteredTopics<'a> {
    fn of(body: &'a RegisterBrokerBody) -> Self {
        let mut topics = Self {
            valid: Vec::with_capacity(body.topics.topic_config_table.len()),
            invalid: (0, None),
            clamped: 0,
        };
        for (name, topic) in &body.topics.topic_config_table {
            if !is_valid(name) {
                topics.invalid = (topics.invalid.0 + 1, topics.invalid.1.or(Some(name)));
                continue;
            }
            let queues = clamp_queues(topic.read_queue_nums, topic.write_queue_nums, topic.perm, topic.topic_sys_flag);
            topics.clamped += usize::from((queues.read, queues.write) != (topic.read_queue_nums, topic.write_queue_nums));
            topics.valid.push((name, queues));
        }
        topics
    }

    fn report(&self, header: &RegisterBrokerHeader<'_>) {
        static GATE: Gate = Gate::new();
        if self.clamped == 0 {
            return;
        }
        if let Some(others) = GATE.open() {
            tracing::warn!(
                broker = header.broker_name,
                address = header.broker_addr,
                topics = self.clamped,
                others,
                "a broker registers topics with less than 0 or more than {MAX_QUEUES} queues; the numbers count as 0 and {MAX_QUEUES}"
            );
        }
    }
}

/// Limits the numbers of queues: clients allocate a list of as many entries as a route says.
pub(super) fn clamp_queues(read: i32, write: i32, perm: i32, sys_flag: i32) -> Queues {
    Queues {
        read: read.clamp(0, MAX_QUEUES),
        write: write.clamp(0, MAX_QUEUES),
        perm,
        sys_flag,
    }
}

fn apply(names: &NameServer, registration: &Registration<'_>) -> Result<Registered, RequestError> {
    let now_ms = names.now_ms();
    let mut compared = Unchanged::default();
    while names.routes.read().compare(registration, &mut compared) {}
    let mut routes = names.routes.write();
    let nobody = routes.live_brokers() == 0;
    let registered = routes.register_compared(registration, &compared, now_ms)?;
    drop(routes);
    if nobody {
        names.scan_waker.wake();
    }
    Ok(registered)
}

/// Compares the checksum of the body, which has 31 bits. 0 or none: not checked.
fn check_body(header: &RegisterBrokerHeader<'_>, request: &Frame) -> Result<(), RequestError> {
    let expected = header.body_crc32.unwrap_or(0);
    let actual = i32::try_from(crc32fast::hash(&request.body) & 0x7fff_ffff).unwrap_or(0);
    if expected == 0 || expected == actual {
        Ok(())
    } else {
        Err(RequestError::Checksum)
    }
}

/// Reads the body. An empty one is a registration without topics and with the oldest data version.
fn body(header: &RegisterBrokerHeader<'_>, request: &Frame, max_inflated: usize) -> Result<RegisterBrokerBody, RequestError> {
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
    // Compat: brokers of 5.5.0 with compressedRegister deflate the body and send compressed=false. JSON never begins like a zlib stream.
    let compressed = header.compressed || request.body.first() == Some(&ZLIB);
    Ok(RegisterBrokerBody::decode_within(
        &request.body,
        compressed,
        request.version,
        max_inflated as u64,
    )?)
}

/// On the thread of registrations, so that an earlier registration does not undo it.
pub(crate) fn unregister(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    let header = BrokerIdentityHeader::decode(&request.ext)?;
    check_identity(header.cluster_name, header.broker_name, header.broker_addr, header.broker_id)?;
    let (cluster, broker) = (header.cluster_name.to_owned(), header.broker_name.to_owned());
    let address = header.broker_addr.to_owned();
    names.serve_on(&names.work, conn, request, 0, move |names, answer| {
        let changes = names.routes.write().unregister(&cluster, &broker, &address);
        names.notify_min_id_changes(changes);
        Ok(answer)
    })
}

/// Compat: a request without body counts as a different version, as with Apache.
pub(crate) fn data_version(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let header = BrokerIdentityHeader::decode(&request.ext)?;
    let theirs: Option<DataVersion> = match &request.body[..] {
        [] => None,
        body if body.len() > MAX_VERSION_BYTES => return Err(RequestError::VersionTooLong(body.len())),
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

pub(crate) fn heartbeat(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let header = BrokerHeartbeatHeader::decode(&request.ext)?;
    let now_ms = names.now_ms();
    let mut routes = names.routes.write();
    routes.touch(header.cluster_name, header.broker_name, header.broker_addr, now_ms);
    drop(routes);
    Ok(Frame::response_to(request))
}
