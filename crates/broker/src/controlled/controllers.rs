//! Requests to the controllers. All but heartbeats go to the one that leads.

use super::decide::Told;
use crate::peers::Peers;
use bytes::Bytes;
use net::session::Connector;
use parking_lot::Mutex;
use protocol::controller::{
    AlterSyncStateSetHeader, ApplyBrokerIdHeader, ControllerMetadata, ElectMasterBody, ElectMasterHeader, GetNextBrokerIdHeader,
    GetReplicaInfoHeader, MasterHeader, NextBrokerId, RegisterToControllerHeader, SyncStateSet,
};
use protocol::register::BrokerHeartbeatHeader;
use protocol::{Frame, RequestCode, ResponseCode, json};
use replication::Members;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The controllers of a broker.
pub(super) struct Controllers {
    cluster: String,
    broker: String,
    /// `brokerIP1`, or nothing: the address from which the controllers are reached.
    host: Option<String>,
    port: u16,
    all: Vec<String>,
    peers: Peers,
    leader: Mutex<Option<String>>,
    timeout: Duration,
    /// `controllerHeartBeatTimeoutMills`.
    lease: Duration,
}

/// How far a broker's log is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) epoch: i32,
    pub(super) end: i64,
    pub(super) confirmed: i64,
}

/// An answer that is not success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The leading controller has refused: it will not do it.
    #[error("the controller answered with code {code}: {remark}")]
    Refused { code: i32, remark: String },
    /// Whether it was done is not known.
    #[error(transparent)]
    Unknown(#[from] io::Error),
}

impl Failed {
    pub(super) fn is(&self, wanted: ResponseCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == i32::from(wanted))
    }
}

impl From<json::JsonError> for Failed {
    fn from(error: json::JsonError) -> Self {
        Self::Unknown(io::Error::other(error))
    }
}

impl From<protocol::HeaderError> for Failed {
    fn from(error: protocol::HeaderError) -> Self {
        Self::Unknown(io::Error::other(error))
    }
}

impl Controllers {
    pub(super) fn new(settings: &crate::settings::BrokerSettings, connector: Option<Arc<dyn Connector>>, timeout: Duration) -> Self {
        Self {
            cluster: settings.broker_cluster_name.clone(),
            broker: settings.broker_name.clone(),
            host: settings.broker_ip1.clone(),
            port: settings.listen_port,
            all: settings.controller_addr.clone(),
            peers: Peers::new(connector),
            leader: Mutex::default(),
            timeout,
            lease: settings.controller_heartbeat_timeout,
        }
    }

    /// The addresses, as configured.
    pub(super) fn addresses(&self) -> String {
        self.all.join(";")
    }

    /// Asks the controller that leads.
    async fn ask(&self, frame: Frame) -> Result<Frame, Failed> {
        let known = self.leader.lock().clone();
        let leader = match known {
            Some(leader) => leader,
            None => self.find_leader().await?,
        };
        let answer = self
            .peers
            .ask(&leader, frame, self.timeout)
            .await
            .inspect_err(|_| self.forget_leader())?;
        if answer.code == i32::from(ResponseCode::Success) {
            return Ok(answer);
        }
        let remark = answer.remark.clone().unwrap_or_default();
        if answer.code == i32::from(ResponseCode::ControllerNotLeader) {
            self.forget_leader();
            return Err(io::Error::other(format!("{leader}: {remark}")).into());
        }
        Err(Failed::Refused { code: answer.code, remark })
    }

    fn forget_leader(&self) {
        *self.leader.lock() = None;
    }

    /// Asks all who leads; the first that knows it is believed.
    async fn find_leader(&self) -> io::Result<String> {
        let mut asked = JoinSet::new();
        for address in self.all.clone() {
            let (peers, timeout) = (self.peers.clone(), self.timeout);
            asked.spawn(async move {
                let frame = Frame::request(RequestCode::ControllerGetMetadataInfo);
                let answer = peers.ask_for(&address, frame, timeout).await?;
                let metadata = ControllerMetadata::decode(&answer.ext).map_err(io::Error::other)?;
                let leader = metadata.controller_leader_address.filter(|leader| !leader.is_empty());
                leader
                    .map(str::to_owned)
                    .ok_or_else(|| io::Error::other(format!("{address} knows no leader")))
            });
        }
        let mut why = io::Error::other("controllerAddr names no controller");
        while let Some(answer) = asked.join_next().await {
            match answer.map_err(io::Error::other).flatten() {
                Ok(leader) => {
                    *self.leader.lock() = Some(leader.clone());
                    return Ok(leader);
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The address of this broker for clients.
    pub(super) async fn own_address(&self) -> io::Result<String> {
        if let Some(host) = &self.host {
            return Ok(format!("{host}:{}", self.port));
        }
        let mut why = io::Error::other("controllerAddr names no controller");
        for address in &self.all {
            match self.peers.to(address, self.timeout).await {
                Ok(peer) => return Ok(SocketAddr::new(peer.connection().local().ip(), self.port).to_string()),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    pub(super) async fn next_id(&self) -> Result<i64, Failed> {
        let header = GetNextBrokerIdHeader {
            cluster_name: &self.cluster,
            broker_name: &self.broker,
        };
        let mut frame = Frame::request(RequestCode::ControllerGetNextBrokerId);
        header.encode(&mut frame.ext);
        let answer = self.ask(frame).await?;
        Ok(NextBrokerId::decode(&answer.ext)?.next_broker_id)
    }

    pub(super) async fn take_id(&self, id: i64, check_code: &str) -> Result<(), Failed> {
        let header = ApplyBrokerIdHeader {
            cluster_name: &self.cluster,
            broker_name: &self.broker,
            applied_broker_id: id,
            register_check_code: check_code,
        };
        let mut frame = Frame::request(RequestCode::ControllerApplyBrokerId);
        header.encode(&mut frame.ext);
        self.ask(frame).await.map(drop)
    }

    pub(super) async fn register(&self, id: i64) -> Result<(), Failed> {
        let address = self.own_address().await?;
        let header = RegisterToControllerHeader {
            cluster_name: &self.cluster,
            broker_name: &self.broker,
            broker_id: id,
            broker_address: &address,
            lease_ms: i64::try_from(self.lease.as_millis()).ok(),
        };
        let mut frame = Frame::request(RequestCode::ControllerRegisterBroker);
        header.encode(&mut frame.ext);
        self.ask(frame).await.map(drop)
    }

    /// Who the master is, confirmed by a majority of the controllers.
    pub(super) async fn told(&self) -> Result<Told, Failed> {
        let mut frame = Frame::request(RequestCode::ControllerGetReplicaInfo);
        GetReplicaInfoHeader { broker_name: &self.broker }.encode(&mut frame.ext);
        let answer = self.ask(frame).await?;
        let set: SyncStateSet = json::read(&answer.body)?;
        Ok(told(&MasterHeader::decode(&answer.ext)?, members(set)))
    }

    /// Asks for an election, of this broker if nobody else is the master; `designated`: of no other one, also if there is a master, which has given up in `gave_up_epoch`. The master may be another one then.
    pub(super) async fn elect(&self, id: i64, designated: bool, gave_up_epoch: Option<i32>) -> Result<Told, Failed> {
        let header = ElectMasterHeader {
            cluster_name: Some(&self.cluster),
            broker_name: &self.broker,
            broker_id: Some(id),
            designate_elect: designated,
            gave_up_epoch,
        };
        let mut frame = Frame::request(RequestCode::ControllerElectMaster);
        header.encode(&mut frame.ext);
        let answer = self.ask(frame).await?;
        let master = MasterHeader::decode(&answer.ext)?;
        let body: ElectMasterBody = json::read(&answer.body)?;
        let members = Members {
            ids: body.sync_state_set,
            epoch: master.sync_state_set_epoch.unwrap_or_default(),
        };
        Ok(told(&master, members))
    }

    /// Replaces the in-sync set; returns the new one.
    pub(super) async fn alter(
        &self,
        master: i64,
        master_epoch: i32,
        ids: &std::collections::BTreeSet<i64>,
        replaces: i32,
    ) -> Result<Members, Failed> {
        let header = AlterSyncStateSetHeader {
            broker_name: &self.broker,
            master_broker_id: master,
            master_epoch,
        };
        let mut frame = Frame::request(RequestCode::ControllerAlterSyncStateSet);
        header.encode(&mut frame.ext);
        frame.body = Bytes::from(json::write(&SyncStateSet {
            sync_state_set: ids.clone(),
            sync_state_set_epoch: replaces,
        }));
        let answer = self.ask(frame).await?;
        Ok(members(json::read(&answer.body)?))
    }

    /// Tells all controllers that this broker lives. Returns when the one that leads has answered.
    pub(super) async fn beat(&self, id: i64, progress: Progress, timeout_ms: i64, priority: i32) -> Result<(), Failed> {
        let address = self.own_address().await?;
        let header = BrokerHeartbeatHeader {
            cluster_name: &self.cluster,
            broker_addr: &address,
            broker_name: &self.broker,
            broker_id: Some(id),
            epoch: Some(progress.epoch),
            max_offset: Some(progress.end),
            confirm_offset: Some(progress.confirmed),
            heartbeat_timeout_ms: Some(timeout_ms),
            election_priority: Some(priority),
        };
        let mut frame = Frame::request(RequestCode::BrokerHeartbeat);
        header.encode(&mut frame.ext);
        let known = self.leader.lock().clone();
        let leader = match known {
            Some(leader) => leader,
            None => self.find_leader().await?,
        };
        for other in self.all.iter().filter(|other| **other != leader) {
            let (other, peers, timeout, frame) = (other.clone(), self.peers.clone(), self.timeout, frame.clone());
            // One that is down costs a connection attempt; nobody waits for it.
            tokio::spawn(async move { drop(peers.ask(&other, frame, timeout).await) });
        }
        self.ask(frame).await.map(drop)
    }
}

fn members(set: SyncStateSet) -> Members {
    Members {
        ids: set.sync_state_set,
        epoch: set.sync_state_set_epoch,
    }
}

fn told(master: &MasterHeader<'_>, members: Members) -> Told {
    let address = master.master_address.filter(|address| !address.is_empty());
    Told {
        master: master.master_broker_id.zip(address.map(str::to_owned)),
        epoch: master.master_epoch.unwrap_or_default(),
        members,
    }
}
