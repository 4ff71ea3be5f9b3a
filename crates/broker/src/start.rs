//! Putting the parts of a broker together, and taking them apart in order.
//!
//! Start: the store is opened and recovered, the tables are read, the ports open, then the name servers are told. Stop: name
//! servers get a goodbye, the ports take no more connections and requests, what is in flight is answered and the connections
//! closed. Only then, when nothing more is acknowledged, tables are saved for the last time, and the store is closed.

use crate::arrival::Listeners;
use crate::assignment::Modes;
use crate::clients::{BytesLimits, ClientLimits, Consumers, Notices, Producers};
use crate::clock::now_ms;
use crate::delay::table::OffsetsFile;
use crate::delay::{Alarm, DelayOffsets, Delivery, DeliveryParts};
use crate::group::{GroupLimits, Groups};
use crate::lock::OrderLocks;
use crate::log_writer::LogWriter;
use crate::offset::{self, OffsetLimits, Offsets};
use crate::pull::{Checks, Puller};
use crate::readers::Threads;
use crate::registration::{Identity, Registration, Standings};
use crate::routes::{Channel, Routes};
use crate::send::{LateFlushes, Sender, SenderParts};
use crate::settings::BrokerSettings;
use crate::signal::Signal;
use crate::stats::BrokerStats;
use crate::store_options::store_options;
use crate::topic::{self, TopicLimits, Topics, builtin};
use crate::unserved;
use crate::upkeep::{Ends, Files, Tables, Upkeep};
use config::Live;
use net::{Limits, Options, Server};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store::disk::Disk;
use store::{Recovery, Store, StoreError};

/// How often parked requests are looked at for expiry.
const TICK: Duration = Duration::from_millis(500);
/// How long clients have to read their last answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port cannot be opened.
    #[error("broker: {0}")]
    Listen(io::Error),
    /// A table cannot be read, or a thread not started.
    #[error("broker: {0}")]
    Other(#[from] io::Error),
}

/// A broker that serves.
pub struct Broker {
    store: Arc<Store>,
    server: Server,
    routes: Arc<Routes>,
    ends: Arc<Ends>,
    control: Option<JoinHandle<io::Result<()>>>,
    delivery: Delivery,
    recovery: Recovery,
}

impl Broker {
    /// Starts a broker that registers with these name servers.
    ///
    /// # Errors
    /// The data directory cannot be used, a table not be read, or a port not be opened. Nothing is left running.
    pub fn start(settings: BrokerSettings, name_servers: &[String], disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        let (store, recovery) = Store::open(disk.clone(), store_options(&settings))?;
        match Self::start_over(settings, name_servers, disk, store.clone(), recovery) {
            Ok(broker) => Ok(broker),
            Err(error) => {
                if let Err(closing) = store.close() {
                    tracing::error!(error = %closing, "the store was not closed in order");
                }
                Err(error)
            }
        }
    }

    fn start_over(
        settings: BrokerSettings,
        name_servers: &[String],
        disk: Arc<dyn Disk>,
        store: Arc<Store>,
        recovery: Recovery,
    ) -> Result<Self, StartError> {
        let now = now_ms();
        let stats = Arc::new(BrokerStats::new(&settings.broker_cluster_name, settings.max_stats_series));
        let signal = Arc::new(Signal::default());
        let limits = TopicLimits {
            topics: settings.max_topics,
            queues: settings.max_queues_per_topic as i32,
        };
        let topics = Arc::new(Topics::new(builtin::topics(&settings), limits, stats.clone(), signal.clone(), now));
        let group_limits = GroupLimits {
            groups: settings.max_groups,
            forbidden: settings.max_forbidden,
        };
        let groups = Arc::new(Groups::new(group_limits, signal.clone(), now));
        let offsets = Arc::new(Offsets::new(OffsetLimits {
            pairs: settings.max_committed_offsets,
            bytes: settings.max_offset_bytes,
        }));
        let files = Files::new(&disk, &settings.store_path_root_dir, &settings.start_without);
        let modes = Arc::new(Modes::new(signal.clone()));
        let delays = Arc::new(DelayOffsets::new(now));
        files.load(&topics, &groups, (&offsets, &delays), &modes)?;
        topic::unknown::report(&store, &topics);
        unserved::report(&store, &offsets);
        if !recovery.clean {
            offset::fit(&offsets, &store);
        }
        let clients = client_limits(&settings);
        let consumers: Arc<Consumers<Channel>> = Arc::new(Consumers::new(clients));
        let notices = Arc::new(Notices::new(consumers.clone()));
        let producers: Arc<Producers<Channel>> = Arc::new(Producers::new(clients));
        let locks = Arc::new(OrderLocks::new(settings.max_queue_locks, settings.max_queue_lock_bytes));
        let threads = Threads::new(&settings)?;
        let late = Arc::new(LateFlushes::default());
        let kept = settings.kept();
        let settings = Arc::new(Live::keeping(settings, kept));
        let checks = Checks {
            topics: topics.clone(),
            groups: groups.clone(),
            consumers: consumers.clone(),
            stats: stats.clone(),
        };
        let puller = Arc::new(Puller::new(
            store.clone(),
            checks,
            offsets.clone(),
            settings.clone(),
            threads.clone(),
        ));
        let told = Arc::downgrade(&puller);
        consumers.watch(Box::new(move |group| {
            if let Some(puller) = told.upgrade() {
                puller.subscription_changed(group);
            }
        }));
        let alarm = Arc::new(Alarm::default());
        store.set_arrivals(Box::new(Listeners(vec![
            Box::new(Arc::clone(&alarm)),
            Box::new(Puller::listener(&puller)),
        ])));
        let current = settings.current();
        let log = LogWriter::new(store.clone(), signal.clone());
        let standings = Standings::default();
        let routes = Arc::new(Routes {
            log: log.clone(),
            sender: Sender::new(SenderParts {
                log: log.clone(),
                topics: topics.clone(),
                groups: groups.clone(),
                locks: locks.clone(),
                settings: settings.clone(),
                late: late.clone(),
                stats: stats.clone(),
            }),
            puller: puller.clone(),
            fixed_ip: current.broker_ip1.as_deref().and_then(|host| host.parse::<IpAddr>().ok()),
            port: current.listen_port,
            settings: settings.clone(),
            store: store.clone(),
            topics: topics.clone(),
            groups: groups.clone(),
            offsets: offsets.clone(),
            modes: modes.clone(),
            consumers: consumers.clone(),
            notices: notices.clone(),
            producers: producers.clone(),
            locks: locks.clone(),
            stats: stats.clone(),
            threads,
            delays: delays.clone(),
            changed: signal.clone(),
            disk,
            started_ms: now,
            standings: standings.clone(),
        });
        let server = Server::start(network(&current), Arc::new(Service(routes.clone()))).map_err(StartError::Listen)?;
        let parts = DeliveryParts {
            store: store.clone(),
            log,
            offsets: delays.clone(),
            alarm,
            topics: topics.clone(),
            stats: stats.clone(),
        };
        let delivery = Delivery::start(&current.message_delay_level, parts)?;
        let delays = OffsetsFile::new(delays, store.clone(), files.delays());
        let tables = Arc::new(Tables::new(files, topics.clone(), groups, offsets, modes, Some(delays)));
        let ends = Arc::new(Ends::default());
        let name_servers = name_servers.to_vec();
        let ended = ends.clone();
        let run = async move {
            let registration = Registration::start(&name_servers, identity(&settings.current()), &topics, &settings, &standings);
            let upkeep = Upkeep {
                signal,
                tables,
                topics,
                notices,
                producers,
                locks,
                stats,
                settings: settings.clone(),
                registration,
            };
            let ticking = tokio::spawn(tick(puller, late, settings));
            let outcome = upkeep.run(ended).await;
            ticking.abort();
            outcome
        };
        let control = control_thread(run)?;
        Ok(Self {
            store,
            server,
            routes,
            ends,
            control: Some(control),
            delivery,
            recovery,
        })
    }

    /// Where clients connect; the VIP port second.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.local_addrs()
    }

    /// What opening the data directory found.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Shuts down cleanly; see the module. Blocks until everything is on the disk.
    ///
    /// # Errors
    /// `StoreError::Failed` if a table could not be saved: changes that were acknowledged are lost. Else as [`Store::close`]:
    /// the next start recovers the store.
    pub fn stop(mut self) -> Result<(), StoreError> {
        self.ends.leave.notify_one();
        self.server.stop_accepting();
        self.routes.puller.park_no_more();
        let outcome = self.server.stop(PATIENCE);
        if outcome.cut > 0 {
            tracing::warn!(
                connections = outcome.cut,
                "closed connections whose clients did not read their answers"
            );
        }
        self.delivery.stop();
        // Nobody is answered any more.
        self.ends.end.notify_one();
        let saved = match self.control.take().map(JoinHandle::join) {
            Some(Ok(saved)) => saved.map_err(|error| StoreError::Failed(format!("tables were not saved at the end: {error}"))),
            Some(Err(_)) => Err(StoreError::Failed(
                "the control thread panicked; tables were not saved at the end".to_owned(),
            )),
            None => Ok(()),
        };
        let closed = self.store.close();
        saved.and(closed)
    }
}

/// The service that the network calls.
struct Service(Arc<Routes>);

impl net::Service for Service {
    fn serve(&self, conn: &Arc<net::Connection>, frames: &mut Vec<protocol::Frame>) {
        self.0.serve(conn, frames);
    }

    fn opened(&self, _: &Arc<net::Connection>) {
        self.0.opened();
    }

    fn closed(&self, conn: &Arc<net::Connection>) {
        self.0.closed(conn);
    }
}

async fn tick(puller: Arc<Puller>, late: Arc<LateFlushes>, settings: Arc<Live<BrokerSettings>>) {
    let mut every = tokio::time::interval(TICK);
    loop {
        every.tick().await;
        puller.expire(now_ms());
        late.time_out(settings.current().sync_flush_timeout);
    }
}

/// The thread `control`, with one thread `tables` beside it for what waits for the disk.
fn control_thread<T: Send + 'static>(run: impl Future<Output = T> + Send + 'static) -> io::Result<JoinHandle<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .thread_name("tables")
        .max_blocking_threads(1)
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || runtime.block_on(run))
}

fn client_limits(settings: &BrokerSettings) -> ClientLimits {
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

fn identity(settings: &BrokerSettings) -> Identity {
    Identity {
        cluster: settings.broker_cluster_name.clone(),
        broker: settings.broker_name.clone(),
        broker_id: settings.broker_id as i64,
        host: settings.broker_ip1.clone(),
        replica_host: settings.broker_ip2.clone(),
        port: settings.listen_port,
        replica_port: settings.ha_port(),
    }
}

fn network(settings: &BrokerSettings) -> Options {
    let at = |port| SocketAddr::new(settings.bind_address, port);
    Options {
        name: "broker".to_owned(),
        listen: vec![at(settings.listen_port), at(settings.vip_port())],
        workers: settings.worker_threads,
        limits: Limits {
            max_connections: settings.max_connections,
            max_frame_bytes: settings.frame_max_length,
            outbox_pause_bytes: settings.outbox_pause_bytes,
            outbox_close_bytes: settings.outbox_close_bytes,
            outbox_total_bytes: settings.outbox_total_bytes,
            inbound_total_bytes: settings.inbound_total_bytes,
            frame_timeout: settings.frame_timeout,
            max_pending_requests: settings.max_pending_requests,
            idle_timeout: settings.server_channel_max_idle_time,
        },
    }
}

#[cfg(test)]
mod tests;
