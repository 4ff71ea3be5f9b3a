//! Controllers in this process, and what Apache's brokers ask of them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use controller::{Controller, ControllerSettings};
use net::client::{Peer, PeerOptions};
use net::session::{Encryption, Transport};
use protocol::controller::{
    AlterSyncStateSetHeader, ApplyBrokerIdHeader, ElectMasterHeader, GetReplicaInfoHeader, MasterHeader, RegisterToControllerHeader,
    SyncStateSet,
};
use protocol::register::BrokerHeartbeatHeader;
use protocol::{Frame, RequestCode, ResponseCode, json};
use store::disk::simulated::SimulatedDisk;

/// Deadline of everything that is waited for.
const DEADLINE: Duration = Duration::from_secs(30);

/// Lease of a broker that registers.
pub(crate) const LEASE_MS: i64 = 1_500;

/// One group of controllers on simulated disks.
pub(crate) struct Group {
    settings: ControllerSettings,
    pub(crate) ports: Vec<u16>,
    pub(crate) disks: Vec<SimulatedDisk>,
    pub(crate) running: Vec<Option<Controller>>,
    pub(crate) runtime: tokio::runtime::Runtime,
}

pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Group {
    /// Starts `count` controllers.
    pub(crate) fn start(count: usize) -> Self {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|one| one.local_addr().unwrap().port()).collect();
        drop(listeners);
        let peers: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(at, port)| format!("n{at}-127.0.0.1:{port}"))
            .collect();
        let mut group = Self {
            settings: ControllerSettings {
                peers: peers.join(";"),
                bind_address: "127.0.0.1".parse().unwrap(),
                data_dir: PathBuf::from("/data"),
                election_timeout: Duration::from_secs(1),
                scan_not_active_broker_interval: Duration::from_millis(100),
                scan_inactive_master_interval: Duration::from_millis(100),
                worker_threads: 1,
                ..ControllerSettings::default()
            },
            ports,
            disks: (0..count).map(|at| SimulatedDisk::new(at as u64)).collect(),
            running: (0..count).map(|_| None).collect(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        };
        (0..count).for_each(|at| group.start_one(at));
        group
    }

    pub(crate) fn start_one(&mut self, at: usize) {
        let settings = ControllerSettings {
            self_id: format!("n{at}"),
            ..self.settings.clone()
        };
        let plain = Transport {
            encryption: Encryption::Disabled,
            connector: None,
        };
        let started = Controller::start(settings, plain, Arc::new(self.disks[at].clone()), || {});
        self.running[at] = Some(started.unwrap());
    }

    /// Stops a controller.
    pub(crate) fn stop_one(&mut self, at: usize) {
        if let Some(running) = self.running[at].take() {
            running.stop();
        }
    }

    /// The controller that leads and says so.
    pub(crate) fn leader(&self) -> usize {
        until("a leader", || {
            let leads = |one: &Option<Controller>| one.as_ref().is_some_and(Controller::is_leader);
            (0..self.running.len()).find(|at| leads(&self.running[*at]))
        })
    }

    pub(crate) fn ask(&self, at: usize, frame: Frame) -> Option<Frame> {
        let address = format!("127.0.0.1:{}", self.ports[at]);
        self.runtime.block_on(async {
            let peer = Peer::connect(&address, PeerOptions::default()).await.ok()?;
            peer.request(frame, Duration::from_secs(10)).await.ok()
        })
    }

    /// Asks the leader until it answers with a code that is its own, and is not busy with an election.
    pub(crate) fn ask_leader(&self, frame: &Frame) -> Frame {
        let later = [ResponseCode::ControllerNotLeader, ResponseCode::SystemBusy].map(i32::from);
        until("an answer of the leader", || {
            let answer = self.ask(self.leader(), frame.clone())?;
            let is_last = !later.contains(&answer.code);
            if !is_last {
                println!("not yet: {} {:?}", answer.code, answer.remark);
            }
            is_last.then_some(answer)
        })
    }

    /// Asks the leader, and expects success.
    pub(crate) fn succeed(&self, frame: &Frame) -> Frame {
        let answer = self.ask_leader(frame);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer
    }

    /// The in-sync set of broker `b` as the leader says it, and its master.
    pub(crate) fn replica_info(&self) -> (SyncStateSet, Option<i64>, Option<i32>) {
        let answer = self.succeed(&replica_info());
        let header = MasterHeader::decode(&answer.ext).unwrap();
        (json::read(&answer.body).unwrap(), header.master_broker_id, header.master_epoch)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        (0..self.running.len()).for_each(|at| self.stop_one(at));
    }
}

pub(crate) fn apply_id(id: i64) -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerApplyBrokerId);
    let check_code = format!("127.0.0.1:{id};1");
    ApplyBrokerIdHeader {
        cluster_name: "c",
        broker_name: "b",
        applied_broker_id: id,
        register_check_code: &check_code,
    }
    .encode(&mut frame.ext);
    frame
}

pub(crate) fn elect(id: i64) -> Frame {
    election(id, false)
}

/// An operator elects this broker, whatever master there is.
pub(crate) fn designate(id: i64) -> Frame {
    election(id, true)
}

fn election(id: i64, designate_elect: bool) -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerElectMaster);
    ElectMasterHeader {
        cluster_name: Some("c"),
        broker_name: "b",
        broker_id: Some(id),
        designate_elect,
        gave_up_epoch: None,
    }
    .encode(&mut frame.ext);
    frame
}

pub(crate) fn register(id: i64) -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerRegisterBroker);
    let address = format!("127.0.0.1:{id}");
    RegisterToControllerHeader {
        cluster_name: "c",
        broker_name: "b",
        broker_id: id,
        broker_address: &address,
        lease_ms: Some(LEASE_MS),
    }
    .encode(&mut frame.ext);
    frame
}

pub(crate) fn alter(master: i64, master_epoch: i32, ids: &[i64], epoch: i32) -> Frame {
    let body = SyncStateSet {
        sync_state_set: ids.iter().copied().collect(),
        sync_state_set_epoch: epoch,
    };
    let mut frame = Frame::request(RequestCode::ControllerAlterSyncStateSet).with_body(json::write(&body));
    AlterSyncStateSetHeader {
        broker_name: "b",
        master_broker_id: master,
        master_epoch,
    }
    .encode(&mut frame.ext);
    frame
}

pub(crate) fn replica_info() -> Frame {
    let mut frame = Frame::request(RequestCode::ControllerGetReplicaInfo);
    GetReplicaInfoHeader { broker_name: "b" }.encode(&mut frame.ext);
    frame
}

pub(crate) fn heartbeat(id: i64, timeout_ms: i64) -> Frame {
    let address = format!("127.0.0.1:{id}");
    let mut frame = Frame::request(RequestCode::BrokerHeartbeat);
    BrokerHeartbeatHeader {
        cluster_name: "c",
        broker_addr: &address,
        broker_name: "b",
        broker_id: Some(id),
        epoch: Some(1),
        max_offset: Some(100),
        confirm_offset: Some(100),
        heartbeat_timeout_ms: Some(timeout_ms),
        election_priority: None,
    }
    .encode(&mut frame.ext);
    frame
}

/// A broker that is alive for all controllers that it can reach, while this exists.
pub(crate) struct Beating(Vec<Peer>);

impl Beating {
    pub(crate) fn of(group: &Group, id: i64) -> Self {
        let peers = group.runtime.block_on(async {
            let mut peers = Vec::new();
            for (at, port) in group.ports.iter().enumerate() {
                if group.running[at].is_none() {
                    continue;
                }
                let peer = Peer::connect(&format!("127.0.0.1:{port}"), PeerOptions::default()).await.unwrap();
                let answer = peer.request(heartbeat(id, 600_000), Duration::from_secs(10)).await.unwrap();
                assert_eq!(answer.code, 0, "{answer:?}");
                peers.push(peer);
            }
            peers
        });
        Self(peers)
    }

    /// Its connections.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}
