//! What the requests share: the agreed state, the table of living brokers, the settings, and how a command is agreed on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use config::Live as LiveSettings;
use net::session::Connector;
use openraft::Raft;
use openraft::error::{CheckIsLeaderError, ClientWriteError, Fatal, RaftError};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::alive::Alive;
use crate::elections::Elections;
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
    /// Never locked together with another lock.
    pub(crate) elections: Mutex<Elections>,
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

    /// The term in which this controller leads, if it does.
    pub(crate) fn leads(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        (metrics.current_leader == Some(self.identity.own_id())).then_some(metrics.current_term)
    }

    /// The term of the leader that this controller knows, or is.
    fn term(&self) -> u64 {
        self.raft.metrics().borrow().current_term
    }

    /// The master epoch of a name. To be read before who is alive.
    pub(crate) fn epoch_of(&self, broker: &str) -> Option<i32> {
        self.replicas(|replicas| replicas.set(broker).map(|set| set.master_epoch))
    }

    /// What this controller has applied, which may be behind.
    pub(crate) fn replicas<T>(&self, look: impl FnOnce(&Replicas) -> T) -> T {
        self.applied.read(look)
    }

    /// The living brokers of a name, as a command has them.
    pub(crate) fn alive_of(&self, broker: &str) -> Vec<Live> {
        let known = self.replicas(|replicas| replicas.set(broker).map(|set| (set.cluster.clone(), set.master)));
        let now_ms = self.now_ms();
        known.map_or_else(Vec::new, |(cluster, master)| {
            self.alive.lock().with_master(&cluster, broker, master, now_ms)
        })
    }

    /// Whether who is told of a master now may rely on it. To be asked before the state is read.
    ///
    /// # Errors
    /// [`RequestError::Electing`] while an election of this name is being agreed on.
    pub(crate) fn may_tell(&self, broker: &str) -> Result<(), RequestError> {
        let term = self.term();
        match self.elections.lock().is_open(broker, term) {
            true => Err(RequestError::Electing(broker.to_owned())),
            false => Ok(()),
        }
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
        match self.unchanged(&command).await? {
            Some(answer) => Ok(answer),
            None => self.within(self.agree(command)).await?,
        }
    }

    /// As [`Self::decide`], for a command that may replace a master, and is decided by who is alive: `command` makes it, and reads that. The
    /// election goes on, and is open, when this returns [`RequestError::TimedOut`]. It begins `lease` before: that of a master that is replaced
    /// while it is alive ends in this time, because nobody confirms it.
    ///
    /// # Errors
    /// As [`Self::read`], and [`RequestError::Electing`] while another one is open.
    pub(crate) async fn elect(
        self: &Arc<Self>,
        broker: &str,
        lease: Option<Duration>,
        command: impl FnOnce(&Self) -> Command,
    ) -> Result<Answer, RequestError> {
        let open = Open::begin(self, broker)?;
        if let Some(lease) = lease {
            tokio::time::sleep(lease).await;
        }
        let command = command(self);
        let deciding = tokio::spawn(async move {
            let core = &open.core;
            match core.unchanged(&command).await? {
                Some(answer) => Ok(answer),
                // It would be open in another term than it is in the log.
                None if core.term() != open.term => Err(RequestError::NotLeader),
                None => core.agree(command).await,
            }
        });
        let decided = self.within(deciding).await?;
        decided.unwrap_or_else(|error| Err(RequestError::Stopped(error.to_string())))
    }

    /// The answer to a command that changes nothing.
    async fn unchanged(&self, command: &Command) -> Result<Option<Answer>, RequestError> {
        if !self.is_leader() {
            return Err(RequestError::NotLeader);
        }
        match self.applied.read(|replicas| replicas.unchanged(command)) {
            Some(_) => self.read(|replicas| replicas.unchanged(command)).await,
            None => Ok(None),
        }
    }

    /// Writes a command into the log. Without a limit.
    async fn agree(&self, command: Command) -> Result<Answer, RequestError> {
        match self.raft.client_write(command).await {
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

/// An election that is open until this is dropped.
struct Open {
    core: Arc<Core>,
    broker: String,
    term: u64,
}

impl Open {
    fn begin(core: &Arc<Core>, broker: &str) -> Result<Self, RequestError> {
        let term = core.term();
        match core.elections.lock().begin(broker, term) {
            true => Ok(Self {
                core: Arc::clone(core),
                broker: broker.to_owned(),
                term,
            }),
            false => Err(RequestError::Electing(broker.to_owned())),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.elections.lock().end(&self.broker, self.term);
    }
}
