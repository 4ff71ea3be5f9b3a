//! Registration at name servers, through which clients find this broker and its topics.
//!
//! Name servers do not replicate, so the broker registers with each of them. On a new connection it registers all topics (103, in
//! parts), later only changed topics. Every 30 s, and before it registers changed topics, it asks the name server whether it still
//! has the last registered version (322), which is also the heartbeat. If not, it registers all topics again. A shutdown
//! unregisters the broker (104).
//!
//! Each name server has its own task and connection, so that one that is down or slow does not delay the others. A round is *done*
//! when every name server has answered or failed. A caller waits for a round at most [`ROUND_WAIT`], and not at all for a name
//! server that failed before. [`Standings`] and the log tell where registration fails, and why.
//!
//! The address for clients is `brokerIP1` with the broker's port. If that is not set, it is the local address of the connection to
//! the name server, which at least the name server can reach.
//!
//! Deleted topics are not reported: as with Apache, the client that deletes a topic deletes it at the name servers too (216).
//!
//! Not here: name servers, replicas, controllers.

mod name_server;
mod parts;
mod requests;
mod standing;

pub use requests::{Identity, Requests};
pub use standing::{MasterAddresses, Standing, Standings};

use crate::settings::BrokerSettings;
use crate::topic::Topics;
use config::Live;
use name_server::NameServerTask;
use net::session::Connector;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long responses wait for a round. A name server that is down delays them no longer than this.
pub const ROUND_WAIT: Duration = Duration::from_secs(1);
/// Timeout of unregistering.
const UNREGISTER_WAIT: Duration = Duration::from_secs(2);

/// The latest command to the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Command {
    /// Number of the round.
    round: u64,
    /// Unregister and end.
    stop: bool,
    /// Whether topics changed; otherwise the round is periodic.
    changed: bool,
}

/// The tasks of all name servers.
#[derive(Debug)]
pub struct Registration {
    commands: watch::Sender<Command>,
    done: Vec<watch::Receiver<u64>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The address that the broker is registered with, per name server.
    addresses: Vec<Arc<Mutex<Option<Arc<str>>>>>,
}

impl Registration {
    /// Starts a task for each name server (`host:port`) on the current runtime. The first [`Registration::round`] registers the
    /// broker, over connections of `connector` or plain ones. The state of each registration is written to `standings`.
    #[must_use]
    pub fn start(
        name_servers: &[String],
        connector: Option<Arc<dyn Connector>>,
        identity: Identity,
        topics: &Arc<Topics>,
        settings: &Arc<Live<BrokerSettings>>,
        standings: &Standings,
    ) -> Self {
        let first = Command {
            round: 0,
            stop: false,
            changed: false,
        };
        let (commands, receiver) = watch::channel(first);
        let mut registration = Self {
            commands,
            done: Vec::new(),
            tasks: Mutex::default(),
            addresses: Vec::new(),
        };
        for name_server in name_servers {
            let (report, done) = watch::channel(0);
            let address = Arc::default();
            let requests = Requests {
                identity: identity.clone(),
                topics: Arc::clone(topics),
                settings: Arc::clone(settings),
            };
            let task = NameServerTask::new(name_server, connector.clone(), requests, Arc::clone(&address), standings.clone());
            registration.done.push(done);
            registration.addresses.push(address);
            registration.tasks.lock().push(tokio::spawn(task.run(receiver.clone(), report)));
        }
        registration
    }

    /// Registers changes at every name server. Returns when each has answered or failed, or after [`ROUND_WAIT`]; slower ones
    /// continue in the background. `changed` tells that topics changed; otherwise the round is periodic.
    pub async fn round(&self, changed: bool) {
        self.commands.send_modify(|command| {
            command.round += 1;
            command.changed = changed;
        });
        self.wait_done(ROUND_WAIT).await;
    }

    /// Unregisters the broker at every name server, for at most two seconds, and ends the tasks.
    pub async fn stop(&self) {
        self.commands.send_modify(|command| {
            command.round += 1;
            command.stop = true;
        });
        self.wait_done(UNREGISTER_WAIT).await;
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    async fn wait_done(&self, wait: Duration) {
        let round = self.commands.borrow().round;
        let all = async {
            for done in &self.done {
                // The channel of an ended task is closed, which is fine.
                let _ = done.clone().wait_for(|done_round| *done_round >= round).await;
            }
        };
        let _ = tokio::time::timeout(wait, all).await;
    }

    /// The address that the broker is registered with at the first name server.
    #[must_use]
    pub fn address(&self) -> Option<Arc<str>> {
        self.addresses.first()?.lock().clone()
    }
}

#[cfg(test)]
mod tests;
