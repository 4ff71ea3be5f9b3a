//! What the requests share: the agreed state, the table of living brokers, the settings, and how a command is agreed on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use config::Live as LiveSettings;
use net::session::Connector;
use openraft::Raft;
use openraft::error::{CheckIsLeaderError, ClientWriteError, Fatal, RaftError};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::alive::Alive;
use crate::error::RequestError;
use crate::raft::{Applied, Identity, Types};
use crate::replicas::{Answer, Command, Live, Replicas};
use crate::settings::ControllerSettings;

pub(crate) struct Core {
    pub(crate) settings: LiveSettings<ControllerSettings>,
    pub(crate) identity: Arc<Identity>,
    /// `host:port` of the controllers by node id.
    pub(crate) addresses: Arc<BTreeMap<u64, String>>,
    pub(crate) raft: Raft<Types>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) alive: Mutex<Alive>,
    /// A broker was heard that may be the next one whose timeout passes.
    pub(crate) heard: Notify,
    /// For connections to brokers.
    pub(crate) connector: Option<Arc<dyn Connector>>,
    /// Requests that wait to be agreed on.
    pub(crate) waiting: Arc<Semaphore>,
    /// Requests of other controllers, which must not wait behind those of brokers.
    pub(crate) peers: Arc<Semaphore>,
    pub(crate) max_waiting: usize,
    pub(crate) started: Instant,
    /// Closes its own connections, so that a closed one does not mean that a broker is gone.
    pub(crate) stopping: AtomicBool,
}

impl Core {
    /// A monotonic clock in ms.
    pub(crate) fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// The leader, if this controller knows one.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow().current_leader
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leader() == Some(self.identity.own_id())
    }

    /// The master epoch of a name. To be read before who is alive.
    pub(crate) fn epoch_of(&self, broker: &str) -> Option<i32> {
        self.applied.read(|replicas| replicas.set(broker).map(|set| set.master_epoch))
    }

    /// The living brokers of a name.
    pub(crate) fn alive_of(&self, broker: &str) -> Vec<Live> {
        let cluster = self.applied.read(|replicas| replicas.set(broker).map(|set| set.cluster.clone()));
        let now_ms = self.now_ms();
        cluster.map_or_else(Vec::new, |cluster| self.alive.lock().of(&cluster, broker, now_ms))
    }

    /// Reads the state after everything that was agreed on before.
    ///
    /// # Errors
    /// [`RequestError::NotLeader`], [`RequestError::TimedOut`] or [`RequestError::Stopped`].
    pub(crate) async fn read<T>(&self, read: impl FnOnce(&Replicas) -> T) -> Result<T, RequestError> {
        let confirmed = self.within(self.raft.ensure_linearizable()).await?;
        match confirmed {
            Ok(_) => Ok(self.applied.read(read)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_) | CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(RequestError::NotLeader)
            }
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
        }
    }

    /// Agrees on a command and returns its answer. A command that changes nothing is answered without an entry in the log.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn decide(&self, command: Command) -> Result<Answer, RequestError> {
        if !self.is_leader() {
            return Err(RequestError::NotLeader);
        }
        if self.applied.read(|replicas| replicas.unchanged(&command)).is_some()
            && let Some(answer) = self.read(|replicas| replicas.unchanged(&command)).await?
        {
            return Ok(answer);
        }
        let written = self.within(self.raft.client_write(command)).await?;
        match written {
            Ok(response) => response
                .data
                .ok_or_else(|| RequestError::Stopped("a command was not applied".to_owned())),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_) | ClientWriteError::ChangeMembershipError(_))) => {
                Err(RequestError::NotLeader)
            }
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
        }
    }

    async fn within<T>(&self, future: impl Future<Output = T>) -> Result<T, RequestError> {
        let timeout = self.settings.current().request_timeout;
        let done = tokio::time::timeout(timeout, future).await;
        done.map_err(|_| RequestError::TimedOut(timeout.as_millis()))
    }
}

fn stopped(fatal: &Fatal<u64>) -> RequestError {
    RequestError::Stopped(fatal.to_string())
}
