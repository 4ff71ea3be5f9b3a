//! Clients that are online: producers and consumers by group, and the subscriptions of each consumer group.
//!
//! A client sends a heartbeat (34) every 30 s with its groups and subscriptions. It is a member of these groups on that connection
//! until it unregisters (35), its connection closes, or no heartbeat arrives for 120 s (`channelExpiredTimeout`). When the members
//! or topics of a group change, the broker notifies the members (40) and they rebalance.
//!
//! Invariants:
//! - A member is a connection, not a client id: one client id on two connections is two members, as in Apache. Clients behind one of our
//!   proxies are members of their own, told by connection and client id ([`proxied`]).
//! - The latest heartbeat sets a group's subscriptions; a pull compares its subscription version with them (24, 25).
//! - Pulls read an immutable [`GroupView`] that is replaced on change: they never wait for a heartbeat.
//! - The members of groups and the subscriptions of a group are bounded ([`ClientLimits`]), subscriptions in bytes too
//!   ([`budget`]).
//! - Every index is updated when a client leaves: a closed connection leaves no entry in any table here.
//!
//! Not here: configuration of groups (`group/`), committed offsets (`offset/`), queue locks (`lock/`).

pub mod budget;
pub mod channel;
mod compensated;
pub mod consumers;
pub mod handler;
pub mod hazards;
pub mod heartbeat;
pub mod holders;
pub mod notify;
pub mod producers;
pub mod proxied;
pub mod table;
pub mod view;

use crate::feature::{self, Feature, Work};
use crate::filter::Filters;
use crate::settings::BrokerSettings;
use config::Live;
use net::Connection;
use std::sync::Arc;
use std::time::Duration;

pub use budget::BytesLimits;
pub use channel::{ClientChannel, ProtocolClient};
pub use consumers::{Consumers, Joined};
pub use holders::{Departure, Holder, Holders, Lease};
pub use notify::Notices;
pub use producers::Producers;
pub use proxied::Proxied;
pub use table::{Channel, ClientError, ClientLimits, Member};
pub use view::{GroupView, Joining, Subscribed};

/// How often clients without heartbeats are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// The clients that are online, with their background work.
pub struct Online {
    /// Consumers.
    pub consumers: Arc<Consumers<ClientChannel>>,
    /// Notifies consumers when their group changes.
    pub notices: Arc<Notices<ClientChannel>>,
    /// Producers.
    pub producers: Arc<Producers<ClientChannel>>,
    /// The clients behind proxies.
    pub proxied: Proxied,
    settings: Arc<Live<BrokerSettings>>,
}

impl Online {
    /// Creates empty tables with the limits of `settings`. Heartbeats register their SQL filters in `filters`.
    #[must_use]
    pub fn new(settings: Arc<Live<BrokerSettings>>, filters: Arc<Filters>) -> Self {
        let limits = limits(&settings.current());
        let consumers = Arc::new(Consumers::with(limits, filters));
        Self {
            notices: Arc::new(Notices::new(consumers.clone())),
            consumers,
            producers: Arc::new(Producers::new(limits)),
            proxied: Proxied::default(),
            settings,
        }
    }

    fn expire(&self, now_ms: i64) {
        let notify = self.settings.current().notify_consumer_ids_changed_enable;
        self.notices.expire(&self.producers, notify, now_ms);
        // Those without heartbeats, which were closed just now.
        for client in self.proxied.take_closed() {
            self.connection_closed(client, Departure::Lost);
        }
    }

    /// Whether a connection, or a client behind a proxy, is in any group.
    #[must_use]
    pub fn is_member(&self, channel: u64) -> bool {
        self.consumers.is_in_any(channel) || self.producers.is_in_any(channel)
    }

    /// Removes the client of a closed connection, whatever protocol it speaks.
    pub fn connection_closed(&self, channel: u64, departure: Departure) {
        let notify = self.settings.current().notify_consumer_ids_changed_enable;
        self.notices.closed(channel, departure, &self.producers, notify);
    }
}

impl Feature for Online {
    fn run(self: Arc<Self>) -> Work {
        let expiring = Arc::clone(&self);
        Box::pin(async move {
            tokio::join!(
                feature::every(EXPIRE_EVERY, move |now_ms| expiring.expire(now_ms)),
                self.notices.run()
            );
        })
    }

    fn closed(&self, connection: &Connection) {
        self.connection_closed(connection.id(), Departure::Lost);
        for client in self.proxied.take_all(connection.id()) {
            self.connection_closed(client, Departure::Lost);
        }
    }
}

fn limits(settings: &BrokerSettings) -> ClientLimits {
    ClientLimits {
        clients: settings.max_clients,
        per_connection: settings.max_clients_per_connection,
        subscriptions: settings.max_subscriptions_per_group,
        subscription_bytes: BytesLimits {
            all: settings.max_subscription_bytes,
            of_connection: settings.max_subscription_bytes_per_connection,
            of_group: settings.max_subscription_bytes_per_group,
        },
        expiry_ms: settings.channel_expired_timeout.as_millis() as i64,
        grace_ms: settings.pop_holder_grace.as_millis() as i64,
    }
}
