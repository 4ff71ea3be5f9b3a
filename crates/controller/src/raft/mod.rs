//! The state on several controllers: openraft over files ([`file`], [`log`], [`machine`]) and over our remoting connections ([`network`]).
//!
//! Node ids are the places of the controllers in the sorted list of their names: `n0` is 0. The list is fixed when the files are created.
//!
//! Not here: what a command means (`replicas`), and who asks (`face`).

mod disk_thread;
mod file;
mod frame;
pub mod fuzzed;
mod log;
mod machine;
mod network;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::InitializeError;
use openraft::error::RaftError;
use openraft::{Config, EmptyNode, Raft, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use store::disk::Disk;

use crate::replicas::{Answer, Command};

pub(crate) use disk_thread::DiskThread;
pub(crate) use file::FileError;
pub(crate) use machine::Applied;
pub(crate) use network::{APPEND_ENTRIES, INSTALL_SNAPSHOT, Links, VOTE, serve};

openraft::declare_raft_types!(
    /// The types of the replicated state.
    pub(crate) Types:
        D = Command,
        R = Option<Answer>,
        NodeId = u64,
        Node = EmptyNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// A snapshot is made after this many commands.
const SNAPSHOT_EVERY: u64 = 1_000;
/// Entries before a snapshot that are kept for controllers that are a little behind.
const KEPT_ENTRIES: u64 = 200;
/// Entries of one request between controllers. An entry has some KiB at most.
const MAX_ENTRIES: u64 = 64;
/// Bytes of one part of a snapshot, which has four times as many as JSON.
const SNAPSHOT_PART: u64 = 256 << 10;
/// Heartbeats in one election timeout.
const HEARTBEATS: u64 = 10;

/// Who this controller is. Files of another one are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Name of the group.
    pub(crate) group: String,
    /// Name of this controller.
    pub(crate) own: String,
    /// Names of all controllers, sorted.
    pub(crate) all: Vec<String>,
}

impl Identity {
    /// The node id of a controller.
    pub(crate) fn id(&self, name: &str) -> Option<u64> {
        self.all.iter().position(|one| one == name).and_then(|at| u64::try_from(at).ok())
    }

    /// The node id of this controller.
    pub(crate) fn own_id(&self) -> u64 {
        self.id(&self.own).unwrap_or_default()
    }

    /// The name of a node.
    pub(crate) fn name(&self, id: u64) -> Option<&str> {
        self.all.get(usize::try_from(id).ok()?).map(String::as_str)
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) raft: Raft<Types>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) disk: DiskThread,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Raft(String),
}

/// Opens the files and starts the node on the runtime of the caller.
pub(crate) async fn start(
    disk: Arc<dyn Disk>,
    dir: &Path,
    identity: &Identity,
    links: Links,
    election_timeout: Duration,
) -> Result<Node, NodeError> {
    let opened = file::open(disk, dir, identity)?;
    let failed = |error: &dyn std::fmt::Display| NodeError::Raft(error.to_string());
    let thread = DiskThread::start(opened.log).map_err(|error| failed(&error))?;
    let log = log::LogStore::new(opened.content, thread.jobs());
    let machine = machine::Machine::new(opened.snapshot, thread.jobs());
    let applied = machine.applied();
    let config = Arc::new(
        config(&identity.group, election_timeout)
            .validate()
            .map_err(|error| failed(&error))?,
    );
    let raft = Raft::new(identity.own_id(), config, links, log, machine)
        .await
        .map_err(|error| failed(&error))?;
    let members: BTreeSet<u64> = identity.all.iter().filter_map(|name| identity.id(name)).collect();
    let members: BTreeMap<u64, EmptyNode> = members.into_iter().map(|id| (id, EmptyNode {})).collect();
    match raft.initialize(members).await {
        // Not allowed: it has run before, or another controller was faster.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => return Err(failed(&error)),
    }
    Ok(Node {
        raft,
        applied,
        disk: thread,
    })
}

fn config(group: &str, election_timeout: Duration) -> Config {
    let timeout = u64::try_from(election_timeout.as_millis()).unwrap_or(u64::MAX / 4);
    Config {
        cluster_name: group.to_owned(),
        // openraft waits for the maximum, in which nobody else votes either, and then for a time between both.
        election_timeout_min: timeout / 4,
        election_timeout_max: timeout / 2,
        heartbeat_interval: timeout / HEARTBEATS,
        install_snapshot_timeout: timeout * 2,
        max_payload_entries: MAX_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        snapshot_max_chunk_size: SNAPSHOT_PART,
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        ..Config::default()
    }
}
