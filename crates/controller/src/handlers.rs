//! The requests: decode, decide, reply. Requests that wait for other controllers run as tasks on the controller's thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use net::Connection;
use protocol::controller::{
    AlterSyncStateSetHeader, AlterSyncStateSetReply, ApplyBrokerIdHeader, BrokerReplicasInfo, BrokerSetHeader, CleanBrokerDataHeader,
    ControllerMetadata, ElectMasterBody, ElectMasterHeader, GetNextBrokerIdHeader, GetReplicaInfoHeader, MasterHeader, NextBrokerId,
    RegisterToControllerHeader, ReplicaIdentity, ReplicasInfo, SyncStateSet,
};
use protocol::register::BrokerHeartbeatHeader;
use protocol::route::MemberGroup;
use protocol::{Frame, ResponseCode, json};

use crate::alive::{Heartbeat, allowed_timeout};
use crate::core::Core;
use crate::error::{MAX_NAME_BYTES, RequestError};
use crate::replicas::{Answer, BrokerSet, Command, FIRST_BROKER_ID, Limits, Live, Refusal};
use crate::told::{in_sync, master_header};
use crate::watch;

type Reply = Result<Frame, RequestError>;

/// Maximum number of names of one request for replicas.
const MAX_ASKED_NAMES: usize = 10_000;

fn checked<'a>(what: &'static str, name: &'a str) -> Result<&'a str, RequestError> {
    let is_valid = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    if is_valid { Ok(name) } else { Err(RequestError::Name(what)) }
}

fn broker_name(name: &str) -> Result<String, RequestError> {
    checked("brokerName", name).map(str::to_owned)
}

fn cluster_name(name: &str) -> Result<String, RequestError> {
    checked("clusterName", name).map(str::to_owned)
}

/// An answer with the code and the text of a refusal.
fn refused(reply: Frame, refusal: &Refusal) -> Frame {
    reply.with_code(refusal.code()).with_reason(&refusal.to_string())
}

/// Heartbeat (904). Served on every controller.
pub(crate) fn heartbeat(core: &Core, conn: &Connection, request: &Frame) -> Reply {
    let header = BrokerHeartbeatHeader::decode(&request.ext)?;
    let live = Live {
        id: header.broker_id.ok_or(RequestError::NoBrokerId)?,
        epoch: header.epoch.unwrap_or(-1),
        max_offset: header.max_offset.unwrap_or(-1),
        priority: header.election_priority.unwrap_or(i32::MAX),
    };
    let heartbeat = Heartbeat {
        cluster: checked("clusterName", header.cluster_name)?,
        broker: checked("brokerName", header.broker_name)?,
        live: &live,
        timeout_ms: header.heartbeat_timeout_ms,
        connection: conn.id(),
    };
    let now_ms = core.now_ms();
    let taken = core.alive.lock().heartbeat(heartbeat, now_ms);
    let may_be_next = taken.ok_or_else(|| RequestError::TooManyBrokers(core.settings.current().max_brokers))?;
    if may_be_next {
        core.heard.notify_one();
    }
    Ok(Frame::response_to(request).with_remark("Heart beat success"))
}

/// Who leads (1005). Served on every controller.
pub(crate) fn metadata(core: &Core, request: &Frame) -> Frame {
    let leader = core.leader();
    let name = |id: u64| core.identity.name(id).unwrap_or_default();
    let peers: String = core
        .addresses
        .iter()
        .map(|(id, address)| format!("{}:{address};", name(*id)))
        .collect();
    let mut reply = Frame::response_to(request);
    ControllerMetadata {
        group: Some(&core.identity.group),
        controller_leader_id: leader.map(name),
        controller_leader_address: leader.and_then(|id| core.addresses.get(&id)).map(String::as_str),
        is_leader: core.is_leader(),
        peers: Some(&peers),
    }
    .encode(&mut reply.ext);
    reply
}

/// A master's in-sync set (1001).
pub(crate) async fn alter_in_sync(core: &Core, request: &Frame) -> Reply {
    let header = AlterSyncStateSetHeader::decode(&request.ext)?;
    let body: SyncStateSet = json::read(&request.body)?;
    let broker = broker_name(header.broker_name)?;
    let command = Command::AlterInSync {
        alive: core.alive_of(&broker),
        broker,
        master: header.master_broker_id,
        master_epoch: header.master_epoch,
        ids: body.sync_state_set,
        in_sync_epoch: body.sync_state_set_epoch,
    };
    let answer = core.decide(command).await?;
    let mut reply = Frame::response_to(request);
    if let Some(refusal) = answer.refusal {
        return Ok(refused(reply, &refusal));
    }
    if let Some(set) = answer.set {
        AlterSyncStateSetReply {
            new_sync_state_set_epoch: set.in_sync_epoch,
        }
        .encode(&mut reply.ext);
        reply.body = in_sync(&set).into();
    }
    Ok(reply)
}

/// An election (1002).
pub(crate) async fn elect(core: &Arc<Core>, request: &Frame) -> Reply {
    let header = ElectMasterHeader::decode(&request.ext)?;
    let broker = broker_name(header.broker_name)?;
    let command = |core: &Core| Command::Elect {
        candidate: header.broker_id.filter(|id| *id != -1),
        designated: header.designate_elect,
        unclean: core.settings.current().enable_elect_unclean_master,
        seen_epoch: core.epoch_of(&broker),
        alive: core.alive_of(&broker),
        broker: broker.clone(),
    };
    let answer = core.elect(&broker, lease_before(core, &broker, &header), command).await?;
    if let (None, Some(set)) = (&answer.refusal, &answer.set) {
        tracing::warn!(broker, master = set.master, epoch = set.master_epoch, "elected a master");
        watch::notify(core, &broker, set);
    }
    Ok(elected(request, &broker, &answer))
}

/// How long the master may still take messages that another one is to replace: `None` if it is none of ours, is not alive, or has given up.
fn lease_before(core: &Core, broker: &str, header: &ElectMasterHeader<'_>) -> Option<Duration> {
    if !header.designate_elect {
        return None;
    }
    let (master, lease_ms) = core.replicas(|replicas| {
        let set = replicas.set(broker)?;
        let master = set.master.filter(|master| header.broker_id != Some(*master))?;
        let lease_ms = set.replicas.get(&master)?.lease_ms?;
        (header.gave_up_epoch != Some(set.master_epoch)).then_some((master, lease_ms))
    })?;
    let is_alive = core.alive_of(broker).iter().any(|live| live.id == master);
    is_alive.then(|| Duration::from_millis(u64::try_from(lease_ms).unwrap_or(0)))
}

fn elected(request: &Frame, broker: &str, answer: &Answer) -> Frame {
    let mut reply = Frame::response_to(request);
    let has_master = matches!(answer.refusal, None | Some(Refusal::MasterStillExists(..)));
    if let Some(set) = answer.set.as_ref().filter(|_| has_master) {
        master_header(set).encode(&mut reply.ext);
        let group = || MemberGroup {
            broker_addrs: addresses(set),
            broker_name: broker.to_owned(),
            cluster: set.cluster.clone(),
        };
        let body = ElectMasterBody {
            broker_member_group: answer.changed.then(group),
            sync_state_set: set.in_sync.clone(),
        };
        reply.body = json::write(&body).into();
    }
    match &answer.refusal {
        Some(refusal) => refused(reply, refusal),
        None => reply,
    }
}

fn addresses(set: &BrokerSet) -> BTreeMap<i64, String> {
    set.replicas.iter().map(|(id, replica)| (*id, replica.address.clone())).collect()
}

/// A broker registers (1003).
pub(crate) async fn register(core: &Core, request: &Frame) -> Reply {
    let header = RegisterToControllerHeader::decode(&request.ext)?;
    let broker = broker_name(header.broker_name)?;
    let command = Command::Register {
        broker: broker.clone(),
        id: header.broker_id,
        address: checked("brokerAddress", header.broker_address)?.to_owned(),
        lease_ms: header.lease_ms.map(allowed_timeout),
    };
    core.may_tell(&broker)?;
    let answer = core.decide(command).await?;
    let mut reply = Frame::response_to(request);
    BrokerSetHeader {
        cluster_name: Some(header.cluster_name),
        broker_name: Some(&broker),
    }
    .encode(&mut reply.ext);
    if let Some(refusal) = answer.refusal {
        return Ok(refused(reply, &refusal));
    }
    let Some(set) = answer.set else { return Ok(reply) };
    let alive = core.alive_of(&broker);
    if set.master.is_some_and(|master| alive.iter().any(|live| live.id == master)) {
        master_header(&set).encode(&mut reply.ext);
    }
    reply.body = in_sync(&set).into();
    Ok(reply)
}

/// The master of a name (1004).
pub(crate) async fn replica_info(core: &Core, request: &Frame) -> Reply {
    let header = GetReplicaInfoHeader::decode(&request.ext)?;
    core.may_tell(header.broker_name)?;
    let set = core.read(|replicas| replicas.set(header.broker_name).cloned()).await?;
    let mut reply = Frame::response_to(request);
    let Some(set) = set else {
        return Ok(reply
            .with_code(ResponseCode::ControllerBrokerMetadataNotExist)
            .with_remark("Broker metadata is not existed"));
    };
    MasterHeader {
        sync_state_set_epoch: None,
        ..master_header(&set)
    }
    .encode(&mut reply.ext);
    reply.body = in_sync(&set).into();
    Ok(reply)
}

/// The replicas of names (1006). Names that are not known are left out.
pub(crate) async fn sync_state_data(core: &Core, request: &Frame) -> Reply {
    let names: Vec<String> = match &request.body[..] {
        [] => Vec::new(),
        body => json::read(body)?,
    };
    let asked: BTreeSet<String> = names.into_iter().take(MAX_ASKED_NAMES).collect();
    let read = core.read(|replicas| {
        let sets = asked
            .into_iter()
            .filter_map(|name| replicas.set(&name).cloned().map(|set| (name, set)));
        sets.collect::<Vec<_>>()
    });
    let sets = read.await?;
    let now_ms = core.now_ms();
    let table = sets.into_iter().map(|(name, set)| {
        let alive = core.alive.lock().of(&set.cluster, &name, now_ms);
        let info = replicas_info(&name, &set, &alive);
        (name, info)
    });
    let body = BrokerReplicasInfo {
        replicas_info_table: table.collect(),
    };
    Ok(Frame::response_to(request).with_body(json::write(&body)))
}

fn replicas_info(broker: &str, set: &BrokerSet, alive: &[Live]) -> ReplicasInfo {
    let identity = |(id, replica): (&i64, &crate::replicas::Replica)| ReplicaIdentity {
        alive: alive.iter().any(|live| live.id == *id),
        broker_address: replica.address.clone(),
        broker_id: *id,
        broker_name: broker.to_owned(),
    };
    let (inside, outside): (Vec<_>, Vec<_>) = set.replicas.iter().partition(|(id, _)| set.in_sync.contains(id));
    ReplicasInfo {
        in_sync_replicas: inside.into_iter().map(identity).collect(),
        master_address: set.master_address().map(str::to_owned),
        master_broker_id: set.master,
        master_epoch: set.master_epoch,
        not_in_sync_replicas: outside.into_iter().map(identity).collect(),
        sync_state_set_epoch: set.in_sync_epoch,
    }
}

/// The id that is given out next (1012).
pub(crate) async fn next_id(core: &Core, request: &Frame) -> Reply {
    let header = GetNextBrokerIdHeader::decode(&request.ext)?;
    let id = core
        .read(|replicas| replicas.set(header.broker_name).map_or(FIRST_BROKER_ID, |set| set.next_id))
        .await?;
    let mut reply = Frame::response_to(request);
    BrokerSetHeader {
        cluster_name: Some(header.cluster_name),
        broker_name: Some(header.broker_name),
    }
    .encode(&mut reply.ext);
    NextBrokerId { next_broker_id: id }.encode(&mut reply.ext);
    Ok(reply)
}

/// A broker takes an id (1013).
pub(crate) async fn take_id(core: &Core, request: &Frame) -> Reply {
    let header = ApplyBrokerIdHeader::decode(&request.ext)?;
    let settings = core.settings.current();
    let command = Command::TakeId {
        cluster: cluster_name(header.cluster_name)?,
        broker: broker_name(header.broker_name)?,
        id: header.applied_broker_id,
        check_code: checked("registerCheckCode", header.register_check_code)?.to_owned(),
        limits: Limits {
            names: settings.max_broker_names,
            replicas: settings.max_replicas,
        },
    };
    let answer = core.decide(command).await?;
    let mut reply = Frame::response_to(request);
    BrokerSetHeader {
        cluster_name: Some(header.cluster_name),
        broker_name: Some(header.broker_name),
    }
    .encode(&mut reply.ext);
    Ok(answer
        .refusal
        .map_or_else(|| reply.clone(), |refusal| refused(reply.clone(), &refusal)))
}

/// Forgets brokers (1011).
pub(crate) async fn clean(core: &Arc<Core>, request: &Frame) -> Reply {
    let header = CleanBrokerDataHeader::decode(&request.ext)?;
    let broker = broker_name(header.broker_name)?;
    let ids = header.broker_controller_ids_to_clean.unwrap_or_default();
    let ids = ids.split(';').map(str::trim).filter(|id| !id.is_empty());
    let ids: Result<BTreeSet<i64>, _> = ids
        .map(|id| id.parse().map_err(|_| RequestError::Ids(id.chars().take(MAX_NAME_BYTES).collect())))
        .collect();
    let ids = ids?;
    let command = |core: &Core| Command::Clean {
        ids,
        living: header.is_clean_living_broker,
        alive: core.alive_of(&broker),
        broker: broker.clone(),
    };
    let answer = core.elect(&broker, None, command).await?;
    let reply = Frame::response_to(request);
    Ok(answer
        .refusal
        .map_or_else(|| reply.clone(), |refusal| refused(reply.clone(), &refusal)))
}

/// The settings (1010). Served on every controller, for this one.
pub(crate) fn settings(core: &Core, request: &Frame) -> Frame {
    Frame::response_to(request).with_body(core.settings.text())
}

/// Changes settings of this controller (1009). Blocks on the disk.
pub(crate) fn update_settings(core: &Core, request: &Frame) -> Reply {
    let mut reply = Frame::response_to(request);
    if request.body.is_empty() {
        return Ok(reply);
    }
    let updated = core.settings.update(&request.body)?;
    for change in &updated.changed {
        tracing::info!(key = change.key, from = change.from, to = change.to, "setting changed");
    }
    reply.remark = Some(updated.remark()).filter(|remark| !remark.is_empty());
    Ok(reply)
}
