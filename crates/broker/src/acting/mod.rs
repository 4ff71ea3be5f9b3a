//! A slave that acts for its master (`enableSlaveActingMaster`), as Apache's brokers do without a controller.
//!
//! Brokers of one name send heartbeats (904) to the name servers and ask them who is there (901), at once when a name server says that the
//! lowest id has changed (905) ([`watch`]). What they say decides ([`members`]): a slave that has the lowest id acts for the master. Routes show it
//! as the master, without the permission to write, if the name server has `supportActingMaster`. It serves reads and takes offsets. With
//! `enableRemoteEscape`, and only while it has no connection to the master, it also delivers what becomes due: delayed messages, timers
//! and open transactions go through other brokers ([`crate::escape`]), and it serves pops.
//!
//! It ends when a master registers, or before: a master that starts tells its slaves that it comes (906), takes over what they did
//! ([`online`]), and only then delivers, registers and opens its ports. From 906 on the slave delivers nothing.
//!
//! Invariants
//! - The log of a slave is never written but by its master.
//! - Nobody acts who is not registered: without an answer of a name server everything stays as it is.
//! - What was delivered is told to the master as offsets of queues of which the slave's are a prefix: so the master delivers what the slave
//!   did not know of.
//!
//! Not here: lite topics on the acting master (they are refused), and brokers under a controller.

mod locks;
mod members;
mod online;
pub mod remoting;
mod watch;

use crate::clients::{ClientChannel, Producers};
use crate::core::Core;
use crate::dedup::Dedup;
use crate::delay::{DelayOffsets, Deliveries};
use crate::escape::{Outlet, OutletOptions};
use crate::feature::{Feature, Work};
use crate::peers::Peers;
use crate::pop::Pops;
use crate::registration::{Identity, Standings};
use crate::replication::Replication;
use crate::timer::Timers;
use crate::transaction::Transactions;
use members::Group;
use message::LogOffset;
use net::Connection;
use net::session::Connector;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use store::Recovery;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// A slave that was told that its master comes delivers nothing for so long, unless it registers before.
const MASTER_COMES: Duration = Duration::from_secs(30);
/// How long messages that are on their way to other brokers may take at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// What acting needs of the broker.
pub struct ActingParts {
    /// Settings, store and tables.
    pub core: Core,
    /// Name servers, `host:port`.
    pub name_servers: Vec<String>,
    /// Makes sessions; without it connections are plain TCP.
    pub connector: Option<Arc<dyn Connector>>,
    /// Who the master is, for the parts that follow it.
    pub standings: Standings,
    /// The connection to the master, or of slaves.
    pub replication: Arc<Replication>,
    /// Progress of delay levels.
    pub delays: Arc<DelayOffsets>,
    /// Delivers delayed messages. Started here on a slave only.
    pub deliveries: Arc<Deliveries>,
    /// Delivers timers. Started here on a slave only.
    pub timers: Arc<Timers>,
    /// Hands out messages. Started here on a slave only.
    pub pops: Arc<Pops>,
    /// Producers, and keys of repeated sends: for the transactions that are handed over.
    pub producers: Arc<Producers<ClientChannel>>,
    /// See `producers`.
    pub dedup: Arc<Dedup>,
    /// The result of opening the store.
    pub recovery: Recovery,
}

/// See the module.
pub struct Acting {
    parts: ActingParts,
    identity: Identity,
    peers: Peers,
    outlet: Arc<Outlet>,
    /// Who is there, as name servers said last.
    group: Mutex<Group>,
    /// Of the thread `control`, once it runs.
    runtime: OnceLock<Handle>,
    /// Ask them now.
    poke: Notify,
    /// Held while delivery begins or ends.
    delivering: Mutex<Option<Delivering>>,
    is_stopping: AtomicBool,
    /// Until then the master is expected to register.
    master_comes: Mutex<Option<Instant>>,
    /// Flushed offset of the master, as slaves keep it.
    master_flushed: AtomicI64,
    /// End of the log at the start.
    started_at: i64,
    /// How often this broker began to act.
    times: AtomicU64,
    /// Heartbeats that a name server answered.
    heartbeats: AtomicU64,
}

/// What delivers on an acting master.
struct Delivering {
    transactions: Arc<Transactions>,
}

impl Acting {
    /// Does nothing before it is started, and little without `enableSlaveActingMaster`.
    #[must_use]
    pub fn new(parts: ActingParts) -> Arc<Self> {
        let settings = parts.core.settings.current();
        let peers = Peers::new(parts.connector.clone());
        let options = OutletOptions {
            name_servers: parts.name_servers.clone(),
            broker_name: settings.broker_name.clone(),
            cluster: settings.broker_cluster_name.clone(),
        };
        Arc::new(Self {
            identity: Identity::of(&settings),
            outlet: Outlet::new(Arc::clone(parts.core.log.escape()), peers.clone(), options),
            peers,
            group: Mutex::default(),
            runtime: OnceLock::new(),
            poke: Notify::new(),
            delivering: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            master_comes: Mutex::default(),
            master_flushed: AtomicI64::new(parts.core.store.master_flushed().0),
            started_at: parts.core.store.written().0,
            times: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            parts,
        })
    }

    /// Flushed offset of the master, as a slave keeps it for operators.
    #[must_use]
    pub fn master_flushed(&self) -> i64 {
        self.master_flushed.load(Relaxed)
    }

    /// Entries of the runtime information (28).
    #[must_use]
    pub fn runtime(&self) -> Vec<(&'static str, String)> {
        let role = &self.parts.core.role;
        let mut entries = vec![("brokerActive", (!role.is_slave() || role.delivers()).to_string())];
        if self.parts.core.settings.current().enable_slave_acting_master {
            let lowest = self.group.lock().lowest();
            entries.extend([
                ("apogeeActingMaster", role.acts().to_string()),
                ("apogeeActedTimes", self.times.load(Relaxed).to_string()),
                ("apogeeAnsweredHeartbeats", self.heartbeats.load(Relaxed).to_string()),
                ("apogeeEscapedMessages", self.parts.core.log.escape().stored().to_string()),
                ("apogeeMinBrokerId", lowest.map_or_else(String::new, |id| id.to_string())),
            ]);
        }
        entries
    }

    /// Heartbeats that a name server answered since the start.
    #[cfg(test)]
    pub(crate) fn answered_heartbeats(&self) -> u64 {
        self.heartbeats.load(Relaxed)
    }

    /// A name server says that the lowest id has changed.
    pub(crate) fn poke(&self) {
        self.poke.notify_one();
    }

    fn set_master_flushed(&self, offset: i64) -> Result<(), store::StoreError> {
        self.parts.core.store.set_master_flushed(LogOffset(offset))?;
        self.master_flushed.store(offset, Relaxed);
        Ok(())
    }

    /// Compat: the first offset that a master tells stays, with `syncMasterFlushOffsetWhenStartup`.
    fn heard_master_flushed(&self, offset: Option<i64>) {
        let is_wanted = self.parts.core.settings.current().sync_master_flush_offset && self.master_flushed() == 0;
        if let Some(offset) = offset.filter(|_| is_wanted)
            && let Err(error) = self.set_master_flushed(offset)
        {
            tracing::warn!(%error, "the flushed offset of the master is not kept");
        }
    }

    /// Begins to deliver for the master. Blocks.
    fn begin_delivery(&self) {
        let mut delivering = self.delivering.lock();
        if delivering.is_some() || self.is_master_coming() || self.is_stopping.load(Relaxed) {
            return;
        }
        let parts = &self.parts;
        let recovery = Recovery {
            end: parts.core.store.written(),
            ..parts.recovery
        };
        let transactions = Transactions::new(&parts.core, parts.producers.clone(), parts.dedup.clone(), recovery, None);
        let transactions = Arc::new(transactions);
        parts.core.role.set_delivers(true);
        let timers: Arc<dyn Feature> = parts.timers.clone();
        let started = timers
            .start()
            .and_then(|()| Arc::clone(&parts.deliveries).start())
            .and_then(|()| Arc::clone(&parts.pops).start())
            .and_then(|()| transactions.start_escaping());
        *delivering = Some(Delivering { transactions });
        match started {
            Ok(()) => tracing::warn!("the master is gone: what becomes due is delivered through other brokers (enableRemoteEscape)"),
            Err(error) => tracing::error!(%error, "not everything that becomes due is delivered while the master is gone"),
        }
    }

    /// Ends it; what other brokers have is noted. Blocks.
    fn end_delivery(&self) {
        let mut delivering = self.delivering.lock();
        let Some(Delivering { transactions }) = delivering.take() else {
            return;
        };
        let parts = &self.parts;
        // First, since they complete what they have begun.
        parts.timers.stop();
        parts.core.role.set_delivers(false);
        if !parts.core.log.escape().settle(SETTLE) {
            tracing::warn!("messages are still on their way to other brokers: the master may deliver them, too");
        }
        transactions.stop();
        parts.deliveries.stop();
        parts.pops.end_acting();
        tracing::info!(
            stored_elsewhere = parts.core.log.escape().stored(),
            "what becomes due is left to the master again"
        );
    }

    fn is_master_coming(&self) -> bool {
        self.master_comes.lock().is_some_and(|until| Instant::now() < until)
    }
}

impl Feature for Acting {
    /// A master takes over what its slaves did. Blocks until they have answered, or for some seconds.
    fn start(self: Arc<Self>) -> io::Result<()> {
        let settings = self.parts.core.settings.current();
        if settings.enable_slave_acting_master && !settings.is_slave() && !settings.skip_pre_online {
            online::take_over(&self)?;
        }
        Ok(())
    }

    fn run(self: Arc<Self>) -> Work {
        if !self.parts.core.settings.current().enable_slave_acting_master {
            return Box::pin(std::future::ready(()));
        }
        let outlet = Arc::clone(&self.outlet);
        Box::pin(async move {
            self.runtime.get_or_init(Handle::current);
            let pops = Arc::clone(&self.parts.pops);
            match self.parts.core.role.is_slave() {
                true => drop(tokio::join!(self.watch(), outlet.run(), pops.run())),
                // It is a feature of its own there.
                false => self.watch().await,
            }
        })
    }

    fn closed(&self, connection: &Connection) {
        if self.parts.core.role.is_slave() {
            self.parts.pops.closed(connection);
        }
    }

    fn topic_deleted(&self, topic: &str) {
        if self.parts.core.role.is_slave() {
            self.parts.pops.topic_deleted(topic);
        }
    }

    fn group_deleted(&self, group: &str, with_offsets: bool) {
        if self.parts.core.role.is_slave() {
            self.parts.pops.group_deleted(group, with_offsets);
        }
    }

    fn release(&self) {
        if self.parts.core.role.is_slave() {
            self.parts.pops.release();
        }
    }

    fn stop(&self) {
        self.is_stopping.store(true, Relaxed);
        self.end_delivery();
    }
}
