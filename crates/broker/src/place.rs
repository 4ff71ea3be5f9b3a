//! What a broker under a controller is among the brokers of its name, from its start to the next one ([`crate::controlled`]).

use net::OpenSockets;
use replication::{Member, Members};
use std::sync::Arc;
use tokio::sync::watch;

/// See the module.
pub struct Place {
    /// Its id and the epochs of its log.
    pub member: Member,
    /// Its role.
    pub elected: Elected,
    /// Its ports, which stay open while its role changes.
    pub sockets: Arc<OpenSockets>,
    /// To be called when somebody says that there is another master: the controllers are asked then.
    pub poke: Arc<dyn Fn() + Send + Sync>,
}

/// A role under a controller.
#[derive(Clone, Debug)]
pub enum Elected {
    /// The master.
    Master {
        /// Its epoch.
        epoch: i32,
        /// The in-sync set.
        members: Members,
        /// Until when it may take messages, on the clock of [`replication::now_ms`].
        lease_until: i64,
    },
    /// A slave.
    Slave {
        /// `ip:port` of the master, while there is one.
        master: watch::Receiver<Option<String>>,
    },
}

impl Elected {
    /// Whether it is a slave.
    #[must_use]
    pub fn is_slave(&self) -> bool {
        matches!(self, Self::Slave { .. })
    }
}
