//! What every feature of a broker works with.

use crate::feature::Feature;
use crate::group::{GroupLimits, Groups};
use crate::log_writer::LogWriter;
use crate::offset::{OffsetLimits, Offsets};
use crate::readers::Threads;
use crate::settings::BrokerSettings;
use crate::signal::Signal;
use crate::stats::BrokerStats;
use crate::topic::{TopicLimits, Topics, builtin};
use config::Live;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use store::Store;
use store::disk::Disk;

/// Settings, store and the tables that nearly every request looks at. Cheap to clone; all clones are the same broker's.
#[derive(Clone)]
pub struct Core {
    /// Settings of now.
    pub settings: Arc<Live<BrokerSettings>>,
    /// Where messages are.
    pub store: Arc<Store>,
    /// The way of messages into it.
    pub log: LogWriter,
    /// Asked how full it is, and where tables are kept.
    pub disk: Arc<dyn Disk>,
    /// Topics.
    pub topics: Arc<Topics>,
    /// Consumer groups.
    pub groups: Arc<Groups>,
    /// How far each group has come.
    pub offsets: Arc<Offsets>,
    /// Counts.
    pub stats: Arc<BrokerStats>,
    /// Raised by changes that have to be saved and told.
    pub changed: Arc<Signal>,
    /// For what would hold up a connection.
    pub threads: Threads,
    /// When this broker started, epoch milliseconds.
    pub started_ms: i64,
    /// Address written into records, when it does not follow the connection.
    fixed_ip: Option<IpAddr>,
    port: u16,
}

impl Core {
    /// For a store that is open. Topics, groups and offsets are to be loaded yet.
    ///
    /// # Errors
    /// [`io::Error`] when it is not known how many processors there are.
    pub fn new(settings: BrokerSettings, store: Arc<Store>, disk: Arc<dyn Disk>, now_ms: i64) -> io::Result<Self> {
        let stats = Arc::new(BrokerStats::new(&settings.broker_cluster_name, settings.max_stats_series));
        let changed = Arc::new(Signal::default());
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
        Ok(Self {
            log: LogWriter::new(store.clone(), changed.clone()),
            store,
            disk,
            topics: Arc::new(Topics::new(builtin, topic_limits, stats.clone(), changed.clone(), now_ms)),
            groups: Arc::new(Groups::new(group_limits, changed.clone(), now_ms)),
            offsets: Arc::new(Offsets::new(offset_limits)),
            stats,
            changed,
            threads: Threads::new(&settings)?,
            started_ms: now_ms,
            fixed_ip: settings.broker_ip1.as_deref().and_then(|host| host.parse().ok()),
            port: settings.listen_port,
            settings: {
                let kept = settings.kept();
                Arc::new(Live::keeping(settings, kept))
            },
        })
    }

    /// The address that records and message ids name for a client that came through `local`: that, unless `brokerIP1` says otherwise.
    #[must_use]
    pub fn store_host(&self, local: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.fixed_ip.unwrap_or_else(|| local.ip()), self.port)
    }

    /// Those of its parts that are features.
    #[must_use]
    pub fn features(&self) -> Vec<Arc<dyn Feature>> {
        vec![Arc::new(self.threads.clone()), self.offsets.clone(), self.stats.clone()]
    }
}
