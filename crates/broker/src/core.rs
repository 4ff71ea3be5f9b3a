//! What all features of a broker share.

use crate::feature::Feature;
use crate::group::{GroupLimits, Groups};
use crate::log_writer::LogWriter;
use crate::offset::{OffsetLimits, Offsets};
use crate::place::{Elected, Place};
use crate::readers::Threads;
use crate::role::Role;
use crate::settings::BrokerSettings;
use crate::signal::Signal;
use crate::stats::BrokerStats;
use crate::topic::{TopicLimits, Topics, builtin};
use config::Live;
use replication::Acks;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use store::Store;
use store::disk::Disk;

/// Settings, store, and the tables that most requests need. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Core {
    /// The settings, which may change.
    pub settings: Arc<Live<BrokerSettings>>,
    /// The message store.
    pub store: Arc<Store>,
    /// Appends messages to it.
    pub log: LogWriter,
    /// The disk, for tables and its free space.
    pub disk: Arc<dyn Disk>,
    /// Topics.
    pub topics: Arc<Topics>,
    /// Consumer groups.
    pub groups: Arc<Groups>,
    /// Committed offsets.
    pub offsets: Arc<Offsets>,
    /// Counters.
    pub stats: Arc<BrokerStats>,
    /// Raised by changes that have to be saved and registered.
    pub changed: Arc<Signal>,
    /// Threads for work that would hold up a connection.
    pub threads: Threads,
    /// How far slaves are.
    pub acks: Arc<Acks>,
    /// Master or slave.
    pub role: Arc<Role>,
    /// What it is among the brokers of its name, under a controller.
    pub place: Option<Arc<Place>>,
    /// Start of this broker, epoch milliseconds.
    pub started_ms: i64,
    /// `brokerIP1`: address in records and message ids, instead of the one the client connected to.
    fixed_ip: Option<IpAddr>,
    port: u16,
}

impl Core {
    /// With this open store. Topics, groups and offsets have to be loaded afterwards.
    ///
    /// # Errors
    /// [`io::Error`] if the number of processors cannot be determined.
    pub fn new(settings: BrokerSettings, store: Arc<Store>, disk: Arc<dyn Disk>, now_ms: i64) -> io::Result<Self> {
        let stats = Arc::new(BrokerStats::new(&settings.broker_cluster_name, settings.max_stats_series));
        let changed = Arc::new(Signal::new(settings.max_waiting_changes));
        let topic_limits = TopicLimits {
            topics: settings.max_topics,
            queues: settings.max_queues_per_topic as i32,
        };
        let group_limits = GroupLimits {
            groups: settings.max_groups,
            forbidden: settings.max_forbidden,
        };
        let offset_limits = OffsetLimits {
            pairs: settings.max_committed_offsets,
            bytes: settings.max_offset_bytes,
        };
        let builtin = builtin::topics(&settings);
        let acks = Arc::new(match settings.enable_controller_mode {
            true => Acks::under_controller(settings.all_ack_in_sync_state_set),
            false => Acks::new(settings.awaited_slaves()),
        });
        let role = Arc::new(Role::new(settings.is_slave()));
        let core = Self {
            log: LogWriter::new(store.clone(), changed.clone()).with_replicas(acks.clone(), role.clone(), settings.min_in_sync_replicas),
            acks,
            role,
            store,
            disk,
            topics: Arc::new(Topics::new(builtin, topic_limits, stats.clone(), changed.clone(), now_ms)),
            groups: Arc::new(Groups::new(group_limits, changed.clone(), now_ms)),
            offsets: Arc::new(Offsets::new(offset_limits)),
            stats,
            changed,
            threads: Threads::new(&settings)?,
            place: None,
            started_ms: now_ms,
            fixed_ip: settings.broker_ip1.as_deref().and_then(|host| host.parse().ok()),
            port: settings.listen_port,
            settings: {
                let kept = settings.kept();
                Arc::new(Live::keeping(settings, kept))
            },
        };
        if core.store.has_light_queues() {
            core.topics.allow_light_queues();
            core.groups.allow_light_queues();
        }
        Ok(core)
    }

    /// In a place that controllers have given the broker.
    #[must_use]
    pub fn in_place(self, place: Option<Arc<Place>>) -> Self {
        if let Some(Elected::Master { epoch, lease_until, .. }) = place.as_ref().map(|place| &place.elected) {
            self.role.set_lease(*lease_until);
            self.topics.set_state_version(i64::from(*epoch));
        }
        Self { place, ..self }
    }

    /// The broker's address in records and message ids, for a client that connected to `local`: that address, unless `brokerIP1` is set.
    #[must_use]
    pub fn store_host(&self, local: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.fixed_ip.unwrap_or_else(|| local.ip()), self.port)
    }

    /// Its parts that are features.
    #[must_use]
    pub fn features(&self) -> Vec<Arc<dyn Feature>> {
        vec![Arc::new(self.threads.clone()), self.offsets.clone(), self.stats.clone()]
    }
}
