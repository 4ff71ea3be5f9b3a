//! What is asked of the state, and what it answers.

use std::collections::BTreeSet;

use protocol::ResponseCode;
use serde::{Deserialize, Serialize};

use super::BrokerSet;

/// A broker whose heartbeats arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Its id.
    pub id: i64,
    /// Epoch of its log's end; -1 if it did not say.
    pub epoch: i32,
    /// End of its log; -1 if it did not say.
    pub max_offset: i64,
    /// Lower is preferred in elections.
    pub priority: i32,
}

/// How much the state may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Broker names.
    pub names: usize,
    /// Brokers of one name.
    pub replicas: usize,
}

/// A request with all that its decision needs. `alive` has the living brokers of the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A master reports its in-sync set.
    AlterInSync {
        /// The broker name.
        broker: String,
        /// Who reports.
        master: i64,
        /// Its epoch.
        master_epoch: i32,
        /// The new set.
        ids: BTreeSet<i64>,
        /// Epoch of the set that it replaces.
        in_sync_epoch: i32,
        /// The living brokers.
        alive: Vec<Live>,
    },
    /// Elects a master.
    Elect {
        /// The broker name.
        broker: String,
        /// Who asks. `None`: a controller.
        candidate: Option<i64>,
        /// Whether only the candidate may be elected.
        designated: bool,
        /// Whether a broker that is not in sync may be elected.
        unclean: bool,
        /// The master epoch when it was asked: who is alive may be another one in another epoch. `None` in logs of older controllers.
        #[serde(default)]
        seen_epoch: Option<i32>,
        /// The living brokers.
        alive: Vec<Live>,
    },
    /// Takes a broker id.
    TakeId {
        /// The cluster.
        cluster: String,
        /// The broker name.
        broker: String,
        /// The id.
        id: i64,
        /// `ip:port;timestamp`.
        check_code: String,
        /// How much the state may hold.
        limits: Limits,
    },
    /// A broker registers.
    Register {
        /// The broker name.
        broker: String,
        /// Its id.
        id: i64,
        /// `ip:port`.
        address: String,
        /// How long a lease of it lasts as the master, ms. `None` of Apache's, which have none.
        #[serde(default)]
        lease_ms: Option<i64>,
    },
    /// Forgets brokers.
    Clean {
        /// The broker name.
        broker: String,
        /// Which. Empty: all.
        ids: BTreeSet<i64>,
        /// Whether living ones may be forgotten.
        living: bool,
        /// The living brokers.
        alive: Vec<Live>,
    },
}

impl Command {
    /// The broker name.
    pub fn broker(&self) -> &str {
        match self {
            Self::AlterInSync { broker, .. }
            | Self::Elect { broker, .. }
            | Self::TakeId { broker, .. }
            | Self::Register { broker, .. }
            | Self::Clean { broker, .. } => broker,
        }
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why it was refused.
    pub refusal: Option<Refusal>,
    /// Whether the state changed.
    pub changed: bool,
    /// The brokers of the name after it.
    pub set: Option<BrokerSet>,
}

/// Why a command is refused. Compat: codes and the beginnings of the texts are Apache's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Refusal {
    #[error("Broker metadata is not existed")]
    UnknownToAlter,
    #[error("The newSyncStateSet is equal with oldSyncStateSet, no needed to update syncStateSet")]
    SameInSync,
    #[error("Rejecting alter syncStateSet request because the current leader is:{{{}}}, not {{{asked}}}", text(*.is))]
    NotTheMaster { is: Option<i64>, asked: i64 },
    #[error("Rejecting alter syncStateSet request because the current master epoch is:{{{is}}}, not {{{asked}}}")]
    MasterEpoch { is: i32, asked: i32 },
    #[error("Rejecting alter syncStateSet request because the current syncStateSet epoch is:{{{is}}}, not {{{asked}}}")]
    InSyncEpoch { is: i32, asked: i32 },
    #[error("Rejecting alter syncStateSet request because the replicas {{{0}}} don't exist")]
    NoSuchReplica(i64),
    #[error("Rejecting alter syncStateSet request because the replicas {{{0}}} don't alive")]
    ReplicaNotAlive(i64),
    #[error("Rejecting alter syncStateSet request because the newSyncStateSet don't contains origin leader {{{0}}}")]
    WithoutMaster(i64),
    #[error("Broker hasn't been registered")]
    UnknownToElect,
    #[error("The old master {0} is still alive, not need to elect new master for broker {1}")]
    MasterStillExists(i64, String),
    #[error("Old master has down and failed to elect a new broker master")]
    NoMaster,
    #[error("Failed to elect a new master")]
    ElectFailed,
    #[error("Failed to elect a new master: the master epoch has changed to {0}")]
    ElectLate(i32),
    #[error("Broker-set: {0} hasn't been registered in controller, but broker try to apply brokerId: {1}")]
    IdOfUnknownSet(String, i64),
    #[error("Fail to apply brokerId: {0} in broker-set: {1}")]
    IdTaken(i64, String),
    #[error("Fail to apply brokerId: {0} in broker-set: {1}: the next id is {2}")]
    IdTooHigh(i64, String, i64),
    #[error("{0} broker names are registered, as many as apogeeMaxBrokerNames allows: clean one (cleanBrokerMetadata), or raise the key")]
    TooManyNames(usize),
    #[error("broker-set {1} has {0} brokers, as many as apogeeMaxReplicas allows: clean one (cleanBrokerMetadata), or raise the key")]
    TooManyReplicas(usize, String),
    #[error("Broker-set: {0} hasn't been registered in controller")]
    UnknownToRegister(String),
    #[error("BrokerId: {0} hasn't been registered in broker-set: {1}")]
    UnknownId(i64, String),
    #[error("Broker {0} is still alive, clean up failure")]
    SetAlive(String),
    #[error("Broker [{0},  {1}] is still alive, clean up failure")]
    ReplicaAlive(String, i64),
    #[error(
        "Broker {0}: no in-sync replica would be left, and none of the others may become master: elect one first (enableElectUncleanMaster), or clean the whole name"
    )]
    LastInSync(String),
    #[error("Broker {0} is not existed,clean broker data failure.")]
    UnknownToClean(String),
}

fn text(master: Option<i64>) -> String {
    master.map_or_else(|| "null".to_owned(), |id| id.to_string())
}

impl Refusal {
    /// The response code.
    pub fn code(&self) -> ResponseCode {
        match self {
            Self::UnknownToAlter | Self::SameInSync | Self::WithoutMaster(_) => ResponseCode::ControllerAlterSyncStateSetFailed,
            Self::NotTheMaster { .. } => ResponseCode::ControllerInvalidMaster,
            Self::MasterEpoch { .. } => ResponseCode::ControllerFencedMasterEpoch,
            Self::InSyncEpoch { .. } => ResponseCode::ControllerFencedSyncStateSetEpoch,
            Self::NoSuchReplica(_) => ResponseCode::ControllerInvalidReplicas,
            Self::ReplicaNotAlive(_) => ResponseCode::ControllerBrokerNotAlive,
            Self::UnknownToElect | Self::UnknownToRegister(_) | Self::UnknownId(..) => ResponseCode::ControllerBrokerNeedToBeRegistered,
            Self::MasterStillExists(..) => ResponseCode::ControllerMasterStillExist,
            Self::NoMaster => ResponseCode::ControllerMasterNotAvailable,
            Self::ElectFailed | Self::ElectLate(_) => ResponseCode::ControllerElectMasterFailed,
            Self::IdOfUnknownSet(..) | Self::IdTaken(..) | Self::IdTooHigh(..) => ResponseCode::ControllerBrokerIdInvalid,
            Self::TooManyNames(_) | Self::TooManyReplicas(..) => ResponseCode::SystemBusy,
            Self::SetAlive(_) | Self::ReplicaAlive(..) | Self::LastInSync(_) | Self::UnknownToClean(_) => {
                ResponseCode::ControllerInvalidCleanBrokerMetadata
            }
        }
    }
}
