//! The verbs of a broker, for another protocol in the same process.
//!
//! A protocol decodes its requests, calls the verb of the feature with a typed request, and encodes the outcome. It is as far from the
//! store as the remoting protocol is.

use crate::clients::heartbeat::Clients;
use crate::clients::{ClientChannel, Online};
use crate::core::Core;
use crate::lite::Lites;
use crate::pop::Pops;
use crate::pull::Puller;
use crate::send::Sender;
use crate::settings::BrokerSettings;
use crate::timer::Timers;
use crate::transaction::Transactions;
use std::sync::Arc;

/// The verbs of a running broker. Cheap to clone. Whoever has it stops using it before the broker stops.
#[derive(Clone)]
pub struct Operations {
    /// Settings, topics, groups, offsets, the store.
    pub core: Core,
    /// Stores messages.
    pub sender: Arc<Sender>,
    /// Serves pulls.
    pub puller: Arc<Puller>,
    /// Serves pops and their acknowledgements.
    pub pops: Arc<Pops>,
    /// Serves pops and subscriptions of lite topics.
    pub lites: Arc<Lites>,
    /// The clients that are online.
    pub online: Arc<Online>,
    /// Ends transactions.
    pub transactions: Arc<Transactions>,
    /// Recalls messages that wait.
    pub timers: Arc<Timers>,
}

impl Operations {
    /// The tables that heartbeats change.
    #[must_use]
    pub fn clients<'a>(&'a self, settings: &'a BrokerSettings) -> Clients<'a, ClientChannel> {
        Clients {
            notices: &self.online.notices,
            producers: &self.online.producers,
            groups: &self.core.groups,
            topics: &self.core.topics,
            settings,
        }
    }
}
