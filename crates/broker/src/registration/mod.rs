//! Registration at name servers: how clients find this broker and its topics.
//!
//! Name servers know nothing of each other, so the broker registers with every one of them. A name server is told all topics when we
//! connect to it (103, in parts), and from then on what changes. Every 30 s, and before a change is told, it is asked whether it still
//! has what it was told last (322), which is also the sign of life; one that has not is told all again. Each hears a goodbye (104) when
//! the broker stops.
//!
//! Each name server has a task and a connection of its own: one that is down or slow delays nobody. A round is *done* when
//! every name server has answered or failed; whoever waits for a round waits [`ROUND_WAIT`] at most, and not at all for a name server that
//! failed before. What a name server lacks, and why, is in [`Standings`] and in the log.
//!
//! The address clients are told is `brokerIP1` with our port, or, when that is not set, our end of the connection to the name
//! server: an address that at least the name server can reach.
//!
//! Topics that were deleted are not told: as with Apache, whoever deletes a topic tells the name servers (216).
//!
//! Not here: what name servers do with it; replicas, controllers.

mod greeting;
mod name_server;
mod parts;
mod standing;

pub use greeting::{Greeting, Identity};
pub use standing::{Standing, Standings};

use crate::settings::BrokerSettings;
use crate::topic::Topics;
use config::Live;
use name_server::Target;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long answers wait for a round: a name server that is down makes them no later than this.
pub const ROUND_WAIT: Duration = Duration::from_secs(1);
/// How long the goodbye may take.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// What a task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    /// Rounds so far.
    round: u64,
    /// Whether this is the end: say goodbye.
    stop: bool,
    /// Whether the round was ordered because something changed.
    changed: bool,
}

/// The name servers and their tasks.
#[derive(Debug)]
pub struct Registration {
    orders: watch::Sender<Order>,
    done: Vec<watch::Receiver<u64>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Under which address each name server has us.
    addresses: Vec<Arc<Mutex<Option<Arc<str>>>>>,
}

impl Registration {
    /// Starts a task for each name server (`host:port`) on the runtime this is called on. Nothing is registered before the
    /// first [`Registration::round`]. What becomes of it is written to `standings`.
    #[must_use]
    pub fn start(
        name_servers: &[String],
        identity: Identity,
        topics: &Arc<Topics>,
        settings: &Arc<Live<BrokerSettings>>,
        standings: &Standings,
    ) -> Self {
        let first = Order {
            round: 0,
            stop: false,
            changed: false,
        };
        let (orders, told) = watch::channel(first);
        let mut registration = Self {
            orders,
            done: Vec::new(),
            tasks: Mutex::default(),
            addresses: Vec::new(),
        };
        for name_server in name_servers {
            let (report, done) = watch::channel(0);
            let address = Arc::default();
            let greeting = Greeting {
                identity: identity.clone(),
                topics: Arc::clone(topics),
                settings: Arc::clone(settings),
            };
            let target = Target::new(name_server, greeting, Arc::clone(&address), standings.clone());
            registration.done.push(done);
            registration.addresses.push(address);
            registration.tasks.lock().push(tokio::spawn(target.run(told.clone(), report)));
        }
        registration
    }

    /// Tells every name server what it lacks; returns when each has answered or failed, or after [`ROUND_WAIT`]. What is slower
    /// goes on by itself. `changed` says that topics have changed; otherwise a period is over.
    pub async fn round(&self, changed: bool) {
        self.orders.send_modify(|order| {
            order.round += 1;
            order.changed = changed;
        });
        self.reached(ROUND_WAIT).await;
    }

    /// Says goodbye everywhere, for two seconds at most, and ends the tasks.
    pub async fn stop(&self) {
        self.orders.send_modify(|order| {
            order.round += 1;
            order.stop = true;
        });
        self.reached(GOODBYE_WAIT).await;
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    async fn reached(&self, wait: Duration) {
        let round = self.orders.borrow().round;
        let all = async {
            for done in &self.done {
                // A task that ended does not come any further.
                let _ = done.clone().wait_for(|reached| *reached >= round).await;
            }
        };
        let _ = tokio::time::timeout(wait, all).await;
    }

    /// Under which address the broker is registered with the first name server.
    #[must_use]
    pub fn address(&self) -> Option<Arc<str>> {
        self.addresses.first()?.lock().clone()
    }
}

#[cfg(test)]
mod tests;
