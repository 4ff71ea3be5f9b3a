//! Who is connected: producers and consumers by group, what each consumer group subscribes to.
//!
//! Life of a client: a heartbeat (34) every 30 s tells its groups and subscriptions; it is a member of each of those
//! groups on that connection until it says goodbye (35), its connection closes, or nothing is heard for 120 s (`channelExpiredTimeout`). When
//! members or topics of a group change, the members are told (40) and share the queues out anew.
//!
//! Invariants:
//! - A member is a connection, not a client id: one client id on two connections is two members, as in Apache.
//! - A group's subscriptions are those of the heartbeat that came last; a pull compares its version with ours (24, 25).
//! - Pulls look at an immutable [`GroupView`] that is replaced on change: they never wait for a heartbeat.
//! - Members of groups and subscriptions of a group are bounded ([`ClientLimits`]), subscriptions in bytes too ([`budget`]).
//! - What is indexed twice is removed twice: a client that is gone leaves nothing in any table here.
//!
//! Not here: what a group may do (`group/`), where it is (`offset/`), order locks (`lock/`).

pub mod budget;
pub mod channel;
mod compensated;
pub mod consumers;
pub mod handler;
pub mod hazards;
pub mod heartbeat;
pub mod notify;
pub mod producers;
pub mod table;
pub mod view;

use crate::feature::{self, Feature, Work};
use crate::settings::BrokerSettings;
use config::Live;
use net::Connection;
use std::sync::Arc;
use std::time::Duration;

pub use budget::BytesLimits;
pub use channel::{ClientChannel, FaceClient};
pub use consumers::{Consumers, Joined};
pub use notify::Notices;
pub use producers::Producers;
pub use table::{Channel, ClientError, ClientLimits, Member};
pub use view::{GroupView, Joining, Subscribed};

/// How often silent clients are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// Everybody who is connected.
pub struct Online {
    /// Consumers.
    pub consumers: Arc<Consumers<ClientChannel>>,
    /// Who is told when consumers come and go.
    pub notices: Arc<Notices<ClientChannel>>,
    /// Producers.
    pub producers: Arc<Producers<ClientChannel>>,
    settings: Arc<Live<BrokerSettings>>,
}

impl Online {
    /// Nobody yet.
    #[must_use]
    pub fn new(settings: Arc<Live<BrokerSettings>>) -> Self {
        let limits = limits(&settings.current());
        let consumers = Arc::new(Consumers::new(limits));
        Self {
            notices: Arc::new(Notices::new(consumers.clone())),
            consumers,
            producers: Arc::new(Producers::new(limits)),
            settings,
        }
    }

    fn expire(&self, now_ms: i64) {
        let notify = self.settings.current().notify_consumer_ids_changed_enable;
        self.notices.expire(&self.producers, notify, now_ms);
    }

    /// A client is gone, of whatever face.
    pub fn gone(&self, channel: u64) {
        let notify = self.settings.current().notify_consumer_ids_changed_enable;
        self.notices.closed(channel, &self.producers, notify);
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
        self.gone(connection.id());
    }
}

fn limits(settings: &BrokerSettings) -> ClientLimits {
    ClientLimits {
        clients: settings.max_clients,
        of_one: settings.max_clients_per_connection,
        subscriptions: settings.max_subscriptions_per_group,
        subscription_bytes: BytesLimits {
            all: settings.max_subscription_bytes,
            of_connection: settings.max_subscription_bytes_per_connection,
            of_group: settings.max_subscription_bytes_per_group,
        },
        expiry_ms: settings.channel_expired_timeout.as_millis() as i64,
    }
}
