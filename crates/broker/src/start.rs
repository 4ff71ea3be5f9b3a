//! Starts a broker from its parts, and stops it in order.
//!
//! Start: open and recover the store, load the tables, open the ports, register with the name servers. Stop: unregister, accept no
//! more connections and requests, answer the requests in flight, close the connections. Then, when nothing more is acknowledged, save
//! the tables for the last time and close the store.

use crate::acting::{Acting, ActingParts};
use crate::alarm::Alarm;
use crate::arrival::{ArrivalListener, Listeners};
use crate::assignment::{Modes, TopicQueues};
use crate::clients::Online;
use crate::clock::now_ms;
use crate::core::Core;
use crate::dedup::{self, Dedup};
use crate::delay::table::DelayOffsetsFile;
use crate::delay::{DelayArrivals, DelayOffsets, Deliveries, DeliveryParts};
use crate::feature::Feature;
use crate::filter::{self, FilterLimits, Filters, SqlLimits, bloom::Bloom, table::FiltersFile};
use crate::lite::Lites;
use crate::lock::OrderLocks;
use crate::offset::{self, table::OffsetsFile};
use crate::operations::Operations;
use crate::place::Place;
use crate::pop::Pops;
use crate::pop::order_table::{self, OrdersFile};
use crate::pull::Puller;
use crate::registration::{Identity, Registration, Standings};
use crate::replication::{MasterTables, Replication};
use crate::routes::{Routes, ToMaster};
use crate::send::Sender;
use crate::settings::BrokerSettings;
use crate::state_file::{SavedTable, StateFile, VersionedFile};
use crate::static_topic::clean::MappingCleaner;
use crate::static_topic::forward::Forwarder;
use crate::static_topic::table::Mappings;
use crate::store_options::store_options;
use crate::timer::{self, Timers, counts::CountsFile};
use crate::topic;
use crate::transaction::{self, Transactions, table::TransactionsFile};
use crate::upkeep::{Ends, TABLES, Tables, Upkeep};
use crate::watch::StoreWatch;
use crate::{assignment, delay, group, static_topic};
use message::LogOffset;
use net::session::{Connector, Encryption, Transport};
use net::{Limits, Options, Server};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use store::disk::Disk;
use store::{Recovery, Store, StoreError};

/// How a broker stops.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// How long requests may take to be answered, and clients to read their last answers.
    pub patience: Duration,
    /// The broker stays registered at the name servers: it starts again at once, in another role.
    pub stays_registered: bool,
}

impl Stop {
    /// For good.
    const FOR_GOOD: Self = Self {
        patience: Duration::from_secs(5),
        stays_registered: false,
    };
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port cannot be opened.
    #[error("broker: {0}")]
    Listen(io::Error),
    /// A table cannot be read, or a thread cannot be started.
    #[error("broker: {0}")]
    Other(#[from] io::Error),
}

/// A running broker.
pub struct Broker {
    store: Arc<Store>,
    server: Server,
    routes: Arc<Routes>,
    ends: Arc<Ends>,
    control: Option<JoinHandle<io::Result<()>>>,
    recovery: Recovery,
    watch: Arc<StoreWatch>,
    #[cfg(test)]
    tables: Tables,
}

impl Broker {
    /// Starts a broker that registers with these name servers. `transport` is for its ports and for connections to name servers.
    ///
    /// # Errors
    /// [`StartError`]: the data directory cannot be used, a table cannot be read, or a port cannot be opened. Nothing is left running.
    pub fn start(settings: BrokerSettings, transport: Transport, name_servers: &[String], disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        Self::start_in(settings, transport, name_servers, disk, None)
    }

    /// As [`Self::start`], in a place that controllers have given it; without one, as the settings say.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in(
        settings: BrokerSettings,
        transport: Transport,
        name_servers: &[String],
        disk: Arc<dyn Disk>,
        place: Option<Arc<Place>>,
    ) -> Result<Self, StartError> {
        let (store, recovery) = Store::open(disk.clone(), store_options(&settings))?;
        let core = Core::new(settings, store.clone(), disk, now_ms()).map(|core| core.in_place(place));
        let started = core
            .map_err(StartError::from)
            .and_then(|core| Self::start_over(core, transport, name_servers, recovery));
        started.inspect_err(|_| {
            if let Err(closing) = store.close() {
                tracing::error!(error = %closing, "the store was not closed in order");
            }
        })
    }

    fn start_over(core: Core, transport: Transport, name_servers: &[String], recovery: Recovery) -> Result<Self, StartError> {
        let composition = compose(&core, &recovery, name_servers, transport.connector.clone())?;
        let features = composition.routes.features.clone();
        Self::serve(core, composition, transport, name_servers, recovery)
            .inspect_err(|_| features.iter().for_each(|feature| feature.stop()))
    }

    /// Starts the threads of the features, and opens the ports.
    fn serve(
        core: Core,
        composition: Composition,
        transport: Transport,
        name_servers: &[String],
        recovery: Recovery,
    ) -> Result<Self, StartError> {
        let Transport { encryption, connector } = transport;
        let Composition { routes, tables, watch } = composition;
        let store = core.store.clone();
        routes.features.iter().try_for_each(|feature| Arc::clone(feature).start())?;
        let settings = core.settings.current();
        let (options, service) = (network(&settings, encryption), Arc::new(Service(routes.clone())));
        let server = match &core.place {
            None => Server::start(options, service),
            Some(place) => place
                .sockets
                .at(&options.listen)
                .and_then(|sockets| Server::start_at(sockets, options, service)),
        };
        let server = server.map_err(StartError::Listen)?;
        let ends = Arc::new(Ends::default());
        #[cfg(test)]
        let all_tables = tables.clone();
        let run = {
            let (ends, routes, name_servers) = (ends.clone(), routes.clone(), name_servers.to_vec());
            async move {
                let identity = Identity::of(&core.settings.current());
                let registration = Registration::start(&name_servers, connector, identity, &core.topics, &core.settings, &routes.standings);
                let upkeep = Upkeep {
                    signal: core.changed,
                    tables,
                    topics: core.topics,
                    features: routes.features.clone(),
                    settings: core.settings,
                    registration,
                    changes: routes.replication.changes().clone(),
                };
                drop(routes);
                upkeep.run(ends).await
            }
        };
        let control = control_thread(run)?;
        Ok(Self {
            store,
            server,
            routes,
            ends,
            control: Some(control),
            recovery,
            watch,
            #[cfg(test)]
            tables: all_tables,
        })
    }

    /// Addresses that the broker listens on; the VIP port is the second.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.local_addrs()
    }

    /// Its verbs, for another protocol in the same process. That protocol stops before the broker does.
    #[must_use]
    pub fn operations(&self) -> Operations {
        let routes = &self.routes;
        Operations {
            core: routes.core.clone(),
            sender: routes.sender.clone(),
            puller: routes.puller.clone(),
            pops: routes.pops.clone(),
            lites: routes.lites.clone(),
            online: routes.online.clone(),
            transactions: routes.transactions.clone(),
            timers: routes.timers.clone(),
        }
    }

    /// What its features share.
    #[must_use]
    pub fn core(&self) -> Core {
        self.routes.core.clone()
    }

    /// Calls `stop` once if a violated invariant of the store means that this broker has to be stopped; then [`Self::stop`] returns an
    /// error. It must not block.
    pub fn call_when_broken(&self, stop: impl Fn() + Send + Sync + 'static) {
        self.watch.call_when_broken(stop);
    }

    /// Result of opening the data directory.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Shuts down cleanly; see the module. Blocks until everything is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if a table could not be saved: acknowledged changes are lost. Otherwise as [`Store::close`]; the next start
    /// recovers the store.
    pub fn stop(self) -> Result<(), StoreError> {
        self.stop_by(Stop::FOR_GOOD)
    }

    /// As [`Self::stop`], in another way.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn stop_by(mut self, stop: Stop) -> Result<(), StoreError> {
        self.ends.stays_registered.store(stop.stays_registered, Ordering::Release);
        self.ends.leave.notify_one();
        self.server.stop_accepting();
        self.routes.features.iter().for_each(|feature| feature.release());
        let outcome = self.server.stop(stop.patience);
        if outcome.cut > 0 {
            tracing::warn!(
                connections = outcome.cut,
                "closed connections whose clients did not read their answers"
            );
        }
        // Nobody reads any more, and threads may wait for what replicas did not acknowledge.
        self.store.raise_bound(LogOffset(i64::MAX));
        self.routes.features.iter().for_each(|feature| feature.stop());
        // No more answers are sent.
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

/// The features of a broker.
struct Composition {
    routes: Arc<Routes>,
    tables: Tables,
    watch: Arc<StoreWatch>,
}

/// Creates the features, loads the tables and registers the listeners for messages. A new feature gets a line in each list that concerns
/// it, and its requests in [`crate::routes`].
fn compose(
    core: &Core,
    recovery: &Recovery,
    name_servers: &[String],
    connector: Option<Arc<dyn Connector>>,
) -> Result<Composition, StartError> {
    let settings = core.settings.current();
    let file = |table| StateFile::new(core.disk.clone(), &settings.store_path_root_dir, table, &settings.start_without);
    let modes = Arc::new(Modes::new(core.changed.clone()));
    let delays = Arc::new(DelayOffsets::new(core.started_ms));
    let filters = Arc::new(Filters::new(filter_limits(&settings)));

    let topics_file = VersionedFile::new(core.topics.clone(), file(topic::table::TABLE));
    let mappings_file = VersionedFile::new(Arc::new(Mappings(core.topics.clone())), file(static_topic::table::TABLE));
    let groups_file = VersionedFile::new(core.groups.clone(), file(group::table::TABLE));
    let modes_file = VersionedFile::new(modes.clone(), file(assignment::table::TABLE));
    let offsets_every = settings.flush_consumer_offset_interval;
    let light_offsets = core.store.has_light_queues().then(|| file(offset::table::LIGHT_TABLE));
    let offsets_file = OffsetsFile::new(core.offsets.clone(), file(offset::table::TABLE), light_offsets, offsets_every);
    let delays_every = settings.flush_delay_offset_interval;
    let delays_file = DelayOffsetsFile::new(delays.clone(), core.store.clone(), file(delay::table::TABLE), delays_every);
    let transactions_every = settings.transaction_metric_flush_interval;
    let transactions_file = file(transaction::table::TABLE);
    let transactions_file = TransactionsFile::new(transactions_file, core.store.clone(), core.offsets.clone(), transactions_every);
    let transactions_file = Arc::new(transactions_file);
    let counts_file = CountsFile::new(file(timer::counts::TABLE), settings.timer_flush_interval);
    let bloom = Bloom::new(settings.max_error_rate_of_bloom_filter, settings.expect_consumer_num_use_filter);
    let filters_file = FiltersFile::new(filters.clone(), file(filter::table::TABLE), bloom, core.started_ms);
    let valid = match (core.role.is_slave(), recovery.clean) {
        (true, _) => order_table::Valid::Never,
        (false, true) => order_table::Valid::Whole,
        (false, false) => order_table::Valid::BeforeCrash,
    };
    let orders_file = Arc::new(OrdersFile::new(file(order_table::TABLE), offsets_every, valid));
    let tables: Vec<Arc<dyn SavedTable>> = vec![
        Arc::new(topics_file),
        Arc::new(groups_file),
        Arc::new(modes_file),
        transactions_file.clone(),
        Arc::new(offsets_file),
        Arc::new(delays_file),
        Arc::new(filters_file),
        counts_file.clone(),
        orders_file.clone(),
        // After the topics.
        Arc::new(mappings_file),
    ];
    debug_assert!(
        tables.iter().map(|table| table.name()).eq(TABLES.iter().map(|table| table.name)),
        "each table of the list has a file, and each file is in the list"
    );
    let tables = Tables::new(tables);
    tables.load()?;
    core.store.set_topic_rules(Box::new(topic::cleanup::Rules(core.topics.clone())))?;
    topic::unknown::report(&core.store, &core.topics);
    if !recovery.clean {
        offset::fit(&core.offsets, &core.store);
    }

    let online = Arc::new(Online::new(core.settings.clone(), filters));
    let locks = Arc::new(OrderLocks::new(settings.max_queue_locks, settings.max_queue_lock_bytes));
    let dedup = Arc::new(Dedup::new(core));
    // What delivers, asks producers or stores for itself does so on the master.
    let is_slave = core.role.is_slave();
    if !is_slave {
        dedup::rebuild(core, &dedup, |mark| transaction::marked(mark).into_iter().flatten().collect())?;
    }
    let transactions = Transactions::new(
        core,
        online.producers.clone(),
        dedup.clone(),
        *recovery,
        transactions_file.marked_until(),
    );
    let transactions = Arc::new(transactions);
    transactions_file.save_those_of(&transactions);
    let timers = Timers::new(core, counts_file);
    core.store.set_needs(timers.need().filter(|_| !is_slave).into_iter().collect());
    let sender = Arc::new(Sender::new(
        core,
        locks.clone(),
        transactions.clone(),
        timers.clone(),
        dedup.clone(),
    ));
    let forwarder = Arc::new(Forwarder::new(name_servers, connector.clone(), core.settings.clone()));
    let puller = Puller::new(core, online.consumers.clone(), forwarder.clone());
    let pops = Pops::new(core, online.consumers.clone(), modes.clone(), &orders_file);
    let lites = Lites::new(core, online.consumers.clone());
    let alarm = Arc::new(Alarm::default());
    let mut listeners: Vec<Box<dyn ArrivalListener>> = vec![Box::new(Puller::listener(&puller))];
    if !is_slave {
        listeners.push(Box::new(DelayArrivals(alarm.clone())));
        listeners.push(timers.listener());
        listeners.push(Box::new(Pops::listener(&pops)));
        listeners.push(Box::new(Lites::listener(&lites)));
    }
    core.store.set_arrivals(Box::new(Listeners(listeners)));

    let watch = Arc::new(StoreWatch::new(core.store.clone()));
    let standings = match core.place {
        Some(_) => Standings::under_controller(),
        None => Standings::default(),
    };
    let master_tables = MasterTables {
        delays: delays.clone(),
        modes: modes.clone(),
        connector: connector.clone(),
    };
    let replication = Arc::new(Replication::new(core, &standings, master_tables));
    let parts = DeliveryParts {
        store: core.store.clone(),
        log: core.log.clone(),
        offsets: delays.clone(),
        alarm,
        topics: core.topics.clone(),
        stats: core.stats.clone(),
    };
    let deliveries = Arc::new(Deliveries::new(&settings.message_delay_level, parts));
    let acting = Acting::new(ActingParts {
        core: core.clone(),
        name_servers: name_servers.to_vec(),
        connector: connector.clone(),
        standings: standings.clone(),
        replication: replication.clone(),
        delays: delays.clone(),
        deliveries: deliveries.clone(),
        timers: timers.clone(),
        pops: pops.clone(),
        producers: online.producers.clone(),
        dedup: dedup.clone(),
        recovery: *recovery,
    });
    let mut features = core.features();
    // What acts for a master, or takes over what was done for this one, comes before what delivers.
    features.extend::<[Arc<dyn Feature>; 9]>([
        forwarder.clone(),
        replication.clone(),
        acting.clone(),
        locks.clone(),
        modes.clone(),
        online.clone(),
        sender.clone(),
        puller.clone(),
        watch.clone(),
    ]);
    if !is_slave {
        features.extend::<[Arc<dyn Feature>; 7]>([
            Arc::new(MappingCleaner::new(core.clone(), forwarder.clone())),
            transactions.clone(),
            timers.clone(),
            dedup.clone(),
            pops.clone(),
            lites.clone(),
            deliveries,
        ]);
    }
    let routes = Routes {
        core: core.clone(),
        features,
        sender,
        puller,
        forwarder,
        pops,
        lites,
        online,
        locks,
        to_master: ToMaster::new(connector.clone()),
        topic_queues: TopicQueues::new(name_servers, connector, core.topics.clone()),
        modes,
        transactions,
        timers,
        dedup,
        delays,
        replication,
        standings,
        acting,
    };
    Ok(Composition {
        routes: Arc::new(routes),
        tables,
        watch,
    })
}

fn filter_limits(settings: &BrokerSettings) -> FilterLimits {
    FilterLimits {
        sql: SqlLimits {
            bytes: settings.max_filter_bytes,
            terms: settings.max_filter_terms,
            depth: settings.max_filter_depth,
        },
        bytes: settings.max_registered_filter_bytes,
        keep_dead_ms: settings.filter_data_clean_time_span.as_millis() as i64,
    }
}

/// Starts the thread `control`, with one thread `tables` for work that waits for the disk.
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

fn network(settings: &BrokerSettings, encryption: Encryption) -> Options {
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
            handshake_timeout: settings.handshake_timeout,
            max_pending_requests: settings.max_pending_requests,
            idle_timeout: settings.server_channel_max_idle_time,
        },
        encryption,
    }
}

#[cfg(test)]
mod tests;
