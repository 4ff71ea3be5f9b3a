//! Replication of this broker: a master serves slaves, a slave follows its master.
//!
//! The log is copied by the crate `replication`; here is who does what when, by the settings.
//!
//! Without a controller consumers of a master read what is as durable as its flush mode promises, whether slaves have it or not, as in
//! Apache's default HA: a consumer may have read what is lost with the master, and only the answers to sends wait for slaves. Under a
//! controller consumers read what the in-sync set has.

mod changes;
mod tables;
mod timers;

use crate::core::Core;
use crate::feature::{Feature, Work};
use crate::peers::Peers;
use crate::place::Elected;
use crate::registration::Standings;
use crate::settings::{BrokerRole, BrokerSettings};
pub use changes::Changes;
use parking_lot::Mutex;
use protocol::replication::{CopyStatus, ExchangeHaInfoHeader, ReplicationStatus, SlaveStatus};
use protocol::{Frame, RequestCode};
use replication::{EpochFile, Follower, InSync, Master, MasterOptions, Slave, SlaveOptions, SlaveState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use tables::MasterTables;
use tokio::sync::watch;

/// Interval of the check for sends that wait for slaves longer than `slaveTimeout`.
const TIME_OUT_EVERY: Duration = Duration::from_millis(250);
/// Waits of a slave between attempts to connect: the first, doubled up to the last.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long an elected master may take to say where slaves connect.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Time after which it is asked again, if it cannot be connected to.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// See the module.
pub struct Replication {
    core: Core,
    /// Where a slave hears who the master is.
    standings: Standings,
    /// What a slave copies beside the log.
    tables: MasterTables,
    /// What slaves copy from this master.
    changes: Arc<Changes>,
    master: Mutex<Option<Master>>,
    slave: Mutex<Option<Slave>>,
}

impl Replication {
    /// Does nothing before it is started.
    #[must_use]
    pub fn new(core: &Core, standings: &Standings, tables: MasterTables) -> Self {
        Self {
            core: core.clone(),
            standings: standings.clone(),
            tables,
            changes: Arc::new(Changes::new(
                core.started_ms,
                core.settings.clone(),
                core.place.is_some().then(|| core.acks.clone()),
            )),
            master: Mutex::default(),
            slave: Mutex::default(),
        }
    }

    /// The status, as operators ask for it. A slave tells the flushed offset of its master that it keeps.
    #[must_use]
    pub fn status(&self, master_flushed: i64) -> ReplicationStatus {
        let end = self.core.store.written().0;
        if let Some(slave) = &*self.slave.lock() {
            let report = slave.report();
            let client = SlaveStatus {
                last_read_timestamp: report.last_read_ms,
                last_write_timestamp: report.last_write_ms,
                master_addr: report.master.map(|master| master.to_string()),
                master_flush_offset: master_flushed,
                max_offset: end,
                transferred_byte_in_second: report.bytes_per_second,
            };
            return ReplicationStatus {
                ha_client_runtime_info: client,
                ..ReplicationStatus::default()
            };
        }
        let slaves = self.slaves();
        ReplicationStatus {
            master: true,
            master_commit_log_max_offset: end,
            in_sync_slave_nums: slaves.iter().filter(|slave| slave.in_sync).count() as i32,
            ha_connection_info: slaves.iter().map(|slave| status_of(slave, end)).collect(),
            ..ReplicationStatus::default()
        }
    }

    /// Whether this slave is connected to its master.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.slave.lock().as_ref().is_some_and(|slave| slave.report().connected)
    }

    /// Changes of tables, for slaves that ask for them.
    #[must_use]
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Where slaves connect.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.master.lock().as_ref().map(Master::addr)
    }

    /// The slaves that are connected to this master.
    #[must_use]
    pub fn slaves(&self) -> Vec<SlaveState> {
        self.master.lock().as_ref().map_or_else(Vec::new, Master::slaves)
    }

    fn start_master(&self, settings: &BrokerSettings) -> io::Result<()> {
        let place = self.core.place.as_deref();
        if let Some(Elected::Master { epoch, members, .. }) = place.map(|place| &place.elected)
            && let Some(member) = place.map(|place| &place.member)
        {
            let begin = self.begin_epoch(&member.epochs, *epoch)?;
            let set = InSync::new(member.id, begin, members.clone(), replication::now_ms());
            self.core.acks.begin(set, &self.core.store);
        }
        let options = MasterOptions {
            member: place.map(|place| place.member.clone()),
            ..master_options(settings)
        };
        let listen = options.listen;
        match Master::start(self.core.store.clone(), self.core.acks.clone(), options) {
            Ok(master) => *self.master.lock() = Some(master),
            Err(error) if settings.ha_listen_port.is_none() && settings.broker_role == BrokerRole::AsyncMaster && place.is_none() => {
                tracing::warn!(%listen, %error, "no slave can connect: the port is not free (haListenPort)");
            }
            Err(error) => {
                let why = format!("port {} for slaves (haListenPort): {error}", listen.port());
                return Err(io::Error::new(error.kind(), why));
            }
        }
        Ok(())
    }

    /// Begins the epoch of this master where its log ends, and returns that offset.
    fn begin_epoch(&self, epochs: &EpochFile, epoch: i32) -> io::Result<i64> {
        let (first, end) = (self.core.store.log_range().0.0, self.core.store.written().0);
        epochs.change(|epochs| epochs.begin_as_master(epoch, first, end))
    }

    /// Under a controller: whether readers may see the log of this slave; it may have an end that its master does not have.
    #[must_use]
    pub fn may_be_read(&self) -> bool {
        self.core.place.is_none() || self.slave.lock().as_ref().is_none_or(Slave::is_aligned)
    }

    fn start_slave(&self, settings: &BrokerSettings) -> io::Result<()> {
        let options = SlaveOptions {
            heartbeat: settings.ha_send_heartbeat_interval,
            housekeeping: settings.ha_housekeeping_interval,
            retry: RETRY,
            follower: self.core.place.as_ref().map(|place| Follower {
                member: place.member.clone(),
                is_learner: settings.async_learner,
                from_last_file: settings.sync_from_last_file,
            }),
        };
        let slave = Slave::start(self.core.store.clone(), options)?;
        slave.set_master(settings.ha_master_address.as_deref());
        *self.slave.lock() = Some(slave);
        Ok(())
    }

    /// Follows the master that name servers name, unless the settings name it.
    async fn follow_master(&self) {
        if self.core.settings.current().ha_master_address.is_some() {
            return;
        }
        let mut named = self.standings.master();
        loop {
            let address = named.borrow_and_update().as_ref().map(|master| master.slaves.clone());
            if let Some(slave) = &*self.slave.lock() {
                slave.set_master(address.as_deref());
            }
            if named.changed().await.is_err() {
                return;
            }
        }
    }

    /// Under a controller: asks the master that it names where slaves connect.
    async fn follow_elected(&self, mut master: watch::Receiver<Option<String>>) {
        let peers = Peers::new(self.tables.connector.clone());
        loop {
            let address = master.borrow_and_update().clone();
            let is_known = match address {
                Some(address) => self.ask_for_replica_port(&peers, &address).await,
                None => {
                    self.standings.master_went();
                    true
                }
            };
            // Another port, or another process there, is found when the connection does not come.
            let again = if is_known { ASK_AGAIN } else { RETRY[0] };
            tokio::select! {
                changed = master.changed() => if changed.is_err() { return },
                () = self.until_it_is_lost(again) => {}
            }
        }
    }

    /// Waits for this time, and longer while the master is connected.
    async fn until_it_is_lost(&self, at_least: Duration) {
        loop {
            tokio::time::sleep(at_least).await;
            if !self.is_connected() {
                return;
            }
        }
    }

    async fn ask_for_replica_port(&self, peers: &Peers, master: &str) -> bool {
        match ask_for_replica_port(peers, master, ASK_TIMEOUT).await.map(|port| port.address) {
            Ok(Some(slaves)) => {
                self.standings.heard_of_elected(master, &slaves);
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "the elected master does not say where slaves connect");
                false
            }
        }
    }

    async fn time_out_waits(&self) {
        loop {
            if !self.core.acks.are_awaited() {
                self.changes.until_asked().await;
            }
            tokio::time::sleep(TIME_OUT_EVERY).await;
            let now = Instant::now();
            self.changes.time_out(now);
            if let Some(before) = now.checked_sub(self.core.settings.current().slave_timeout) {
                self.core.acks.time_out(before);
            }
        }
    }
}

impl Feature for Replication {
    fn start(self: Arc<Self>) -> io::Result<()> {
        let settings = self.core.settings.current();
        match settings.broker_role {
            BrokerRole::AsyncMaster | BrokerRole::SyncMaster => self.start_master(&settings),
            BrokerRole::Slave => self.start_slave(&settings),
        }
    }

    fn run(self: Arc<Self>) -> Work {
        Box::pin(async move {
            let elected = self.core.place.as_ref().map(|place| place.elected.clone());
            if let Some(Elected::Slave { master }) = elected {
                tokio::join!(
                    self.follow_elected(master),
                    self.follow_master(),
                    self.tables.copy_all(&self.core, self.standings.master())
                );
            } else if self.core.role.is_slave() {
                tokio::join!(self.follow_master(), self.tables.copy_all(&self.core, self.standings.master()));
            } else {
                self.time_out_waits().await;
            }
        })
    }

    fn stop(&self) {
        if let Some(mut master) = self.master.lock().take() {
            master.stop();
        }
        if let Some(mut slave) = self.slave.lock().take() {
            slave.stop();
        }
    }
}

/// Where a master's slaves connect, as it says itself.
pub(crate) struct ReplicaPort {
    /// `host:port`; `None` from a broker that is no master.
    pub(crate) address: Option<String>,
    /// Its flushed offset.
    pub(crate) flushed: Option<i64>,
}

/// Asks a master where slaves connect (code 906).
///
/// # Errors
/// `io::Error` if it cannot be asked, or its answer cannot be read.
pub(crate) async fn ask_for_replica_port(peers: &Peers, master: &str, timeout: Duration) -> io::Result<ReplicaPort> {
    let frame = Frame::request(RequestCode::ExchangeBrokerHaInfo);
    let answer = peers.ask_for(master, frame, timeout).await?;
    let info = ExchangeHaInfoHeader::decode(&answer.ext).map_err(io::Error::other)?;
    Ok(ReplicaPort {
        address: info.master_ha_address.filter(|address| !address.is_empty()).map(str::to_owned),
        flushed: info.master_flush_offset,
    })
}

fn master_options(settings: &BrokerSettings) -> MasterOptions {
    MasterOptions {
        listen: SocketAddr::new(settings.bind_address, settings.ha_port()),
        heartbeat: settings.ha_send_heartbeat_interval,
        housekeeping: settings.ha_housekeeping_interval,
        block_bytes: settings.ha_transfer_batch_size,
        max_slaves: settings.max_slaves,
        max_gap: settings.ha_max_gap_not_in_sync,
        member: None,
    }
}

fn status_of(slave: &SlaveState, end: i64) -> CopyStatus {
    CopyStatus {
        addr: slave.addr.to_string(),
        diff: end - slave.acknowledged,
        in_sync: slave.in_sync,
        slave_ack_offset: slave.acknowledged,
        transfer_from_where: slave.sent,
        transferred_byte_in_second: slave.bytes_per_second,
    }
}
