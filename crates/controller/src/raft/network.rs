//! Requests between controllers, on the port of the other requests.
//!
//! | Code | Body of the request | Body of the answer |
//! |---|---|---|
//! | 901101 | `AppendEntriesRequest` | `Result<AppendEntriesResponse, RaftError>` |
//! | 901102 | `VoteRequest` | `Result<VoteResponse, RaftError>` |
//! | 901103 | `InstallSnapshotRequest` | `Result<InstallSnapshotResponse, RaftError>` |
//!
//! Bodies are JSON of openraft's types. The fields `group`, `to` and `peers` must be those of the controller that is asked, so that controllers
//! with different configurations do not become one group.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use net::client::{Peer, PeerOptions};
use net::session::Connector;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, Raft};
use parking_lot::Mutex;
use protocol::{Frame, ResponseCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Identity, Types};

/// Code of a request with entries, also heartbeats.
pub(crate) const APPEND_ENTRIES: i32 = 901_101;
/// Code of a request for a vote.
pub(crate) const VOTE: i32 = 901_102;
/// Code of a part of a snapshot.
pub(crate) const INSTALL_SNAPSHOT: i32 = 901_103;

/// After so many requests without an answer, a controller counts as lost, and a new connection is opened.
const MAX_FAILURES: u32 = 5;
/// Maximum bytes of a snapshot that is received.
const MAX_SNAPSHOT: u64 = 256 << 20;

const GROUP: &str = "group";
const TO: &str = "to";
const PEERS: &str = "peers";

/// The connections to the other controllers. Clones are the same ones: openraft makes a client for each of several purposes, also for each read.
#[derive(Clone)]
pub(crate) struct Links {
    others: Arc<BTreeMap<u64, Other>>,
    identity: Arc<Identity>,
    connector: Option<Arc<dyn Connector>>,
}

/// Another controller.
struct Other {
    address: String,
    /// Opened when it is needed. The lock is not held over I/O.
    peer: Mutex<Option<Arc<Peer>>>,
    /// Requests without an answer since the last one with one.
    failures: AtomicU32,
}

impl Links {
    /// To controllers at these addresses, by node id. Without `connector`, connections are plain TCP.
    pub(crate) fn new(addresses: &BTreeMap<u64, String>, identity: Arc<Identity>, connector: Option<Arc<dyn Connector>>) -> Self {
        let other = |(id, address): (&u64, &String)| {
            let other = Other {
                address: address.clone(),
                peer: Mutex::default(),
                failures: AtomicU32::new(0),
            };
            (*id, other)
        };
        Self {
            others: Arc::new(addresses.iter().map(other).collect()),
            identity,
            connector,
        }
    }
}

/// A client for one controller.
pub(crate) struct Link {
    links: Links,
    to: u64,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link {
            links: self.clone(),
            to: target,
        }
    }
}

type Failed<E> = RPCError<u64, EmptyNode, E>;

impl Link {
    fn other(&self) -> io::Result<&Other> {
        let other = self.links.others.get(&self.to);
        other.ok_or_else(|| io::Error::other(format!("no controller has the number {}", self.to)))
    }

    async fn connected(&self, option: &RPCOption) -> io::Result<Arc<Peer>> {
        let other = self.other()?;
        if let Some(peer) = other.peer.lock().as_ref().filter(|peer| !peer.is_closed()) {
            return Ok(Arc::clone(peer));
        }
        let options = PeerOptions {
            connect_timeout: option.hard_ttl(),
            connector: self.links.connector.clone(),
            ..PeerOptions::default()
        };
        let peer = Arc::new(Peer::connect(&other.address, options).await?);
        *other.peer.lock() = Some(Arc::clone(&peer));
        Ok(peer)
    }

    /// Logs when the other controller is lost and found, not with every request.
    fn note<T, E: std::error::Error>(&self, done: &Result<T, Failed<E>>) {
        let Ok(other) = self.other() else { return };
        let controller = self.links.identity.name(self.to);
        match done {
            Ok(_) | Err(RPCError::RemoteError(_)) => {
                if other.failures.swap(0, Ordering::Relaxed) >= MAX_FAILURES {
                    tracing::warn!(controller, "another controller answers again");
                }
            }
            Err(error) => {
                let failures = other.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if failures == MAX_FAILURES {
                    tracing::warn!(controller, "another controller does not answer: {error}");
                }
                if failures >= MAX_FAILURES {
                    // A controller that is cut off may never close its end.
                    *other.peer.lock() = None;
                }
            }
        }
    }

    async fn ask<Q, A, E>(&self, code: i32, request: &Q, option: RPCOption) -> Result<A, Failed<E>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        E: DeserializeOwned + std::error::Error,
    {
        let done = self.exchange(code, request, option).await;
        self.note(&done);
        done
    }

    async fn exchange<Q, A, E>(&self, code: i32, request: &Q, option: RPCOption) -> Result<A, Failed<E>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        E: DeserializeOwned + std::error::Error,
    {
        let identity = &self.links.identity;
        let body = serde_json::to_vec(request).map_err(|error| NetworkError::new(&error))?;
        let frame = Frame::request(code)
            .with_field(GROUP, identity.group.as_str())
            .with_field(TO, identity.name(self.to).unwrap_or_default())
            .with_field(PEERS, identity.all.join(";").as_str())
            .with_body(body);
        let peer = self.connected(&option).await.map_err(|error| Unreachable::new(&error))?;
        let answer = peer.request(frame, option.hard_ttl()).await;
        let answer = answer.map_err(|error| Unreachable::new(&error))?;
        if answer.code != i32::from(ResponseCode::Success) {
            let refused = io::Error::other(answer.remark.unwrap_or_default());
            return Err(Unreachable::new(&refused).into());
        }
        let answer: Result<A, E> = serde_json::from_slice(&answer.body).map_err(|error| NetworkError::new(&error))?;
        answer.map_err(|error| RemoteError::new(self.to, error).into())
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed<RaftError<u64>>> {
        self.ask(APPEND_ENTRIES, &rpc, option).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<RaftError<u64, InstallSnapshotError>>> {
        self.ask(INSTALL_SNAPSHOT, &rpc, option).await
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, Failed<RaftError<u64>>> {
        self.ask(VOTE, &rpc, option).await
    }
}

/// Serves a request of another controller; returns the body of the answer.
///
/// # Errors
/// A text, if the request is not one of this group or cannot be read.
pub(crate) async fn serve(raft: &Raft<Types>, identity: &Identity, request: &Frame) -> Result<Vec<u8>, String> {
    let peers = identity.all.join(";");
    for (field, own) in [(GROUP, &identity.group), (TO, &identity.own), (PEERS, &peers)] {
        let asked = request.ext.text(field).unwrap_or_default();
        if asked != own {
            return Err(format!(
                "the request is for the controller with {field}={asked}, and here it is {own}"
            ));
        }
    }
    fn read<T: DeserializeOwned>(request: &Frame) -> Result<T, String> {
        serde_json::from_slice(&request.body).map_err(|error| format!("malformed request of a controller: {error}"))
    }
    let written = match request.code {
        APPEND_ENTRIES => serde_json::to_vec(&raft.append_entries(read(request)?).await),
        VOTE => serde_json::to_vec(&raft.vote(read(request)?).await),
        _ => {
            let part: InstallSnapshotRequest<Types> = read(request)?;
            if part.offset.saturating_add(part.data.len() as u64) > MAX_SNAPSHOT {
                return Err(format!("the snapshot is larger than {MAX_SNAPSHOT} bytes"));
            }
            serde_json::to_vec(&raft.install_snapshot(part).await)
        }
    };
    written.map_err(|error| error.to_string())
}
