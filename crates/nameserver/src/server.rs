//! The name server as a service of `net`: its parts, and the one match on the request code.

use std::sync::Arc;
use std::time::Instant;

use config::Live;
use net::{Connection, Service};
use parking_lot::RwLock;
use protocol::{Frame, RequestCode};

use crate::embedded::LocalBroker;
use crate::encoded::EncodedRoutes;
use crate::handlers::{broker, cluster, kv, property, route, topics};
use crate::kv::{KvError, KvStore};
use crate::notify::Notifier;
use crate::problem::Problem;
use crate::routes::{Bounds, MinIdChange, Routes, Units};
use crate::scan::ScanBell;
use crate::settings::NamesrvSettings;

/// Milliseconds that never jump.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A [`Clock`] from the machine.
pub fn monotonic() -> Clock {
    let start = Instant::now();
    Arc::new(move || i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX))
}

/// What a name server is made of.
pub struct Options {
    /// What it is told.
    pub settings: NamesrvSettings,
    /// Where time comes from.
    pub clock: Clock,
    /// The broker in the same process, if its address is to follow the asking client.
    pub local_broker: Option<LocalBroker>,
}

impl Options {
    /// With the machine's clock and nothing else.
    pub fn new(settings: NamesrvSettings) -> Self {
        Self {
            settings,
            clock: monotonic(),
            local_broker: None,
        }
    }
}

/// The name server. Give it to [`net::Server::start`], and [`Self::tick`] or a [`crate::Scan`] for silent brokers.
pub struct NameServer {
    pub(crate) settings: Live<NamesrvSettings>,
    pub(crate) clock: Clock,
    pub(crate) local_broker: Option<LocalBroker>,
    /// Lock order: `kv` before `routes`, neither while writing to a connection.
    pub(crate) routes: RwLock<Routes>,
    pub(crate) kv: KvStore,
    pub(crate) encoded: EncodedRoutes,
    pub(crate) notifier: Notifier,
    pub(crate) scan_bell: ScanBell,
    started_ms: i64,
}

impl NameServer {
    /// Reads the KV configuration and starts with no brokers.
    ///
    /// # Errors
    /// The KV file is there but cannot be read; the error names it.
    pub fn new(options: Options) -> Result<Arc<Self>, KvError> {
        let settings = options.settings;
        let kept = settings.kept();
        let bounds = Bounds {
            brokers: settings.max_brokers,
            topics: settings.max_topics,
        };
        Ok(Arc::new(Self {
            kv: KvStore::open(settings.kv_config_file(), settings.max_kv_entries)?,
            settings: Live::keeping(settings, kept),
            started_ms: (options.clock)(),
            clock: options.clock,
            local_broker: options.local_broker,
            routes: RwLock::new(Routes::new(bounds)),
            encoded: EncodedRoutes::default(),
            notifier: Notifier::default(),
            scan_bell: ScanBell::default(),
        }))
    }

    /// How `net` is to serve it: address, threads and bounds from the settings.
    pub fn network(settings: &NamesrvSettings) -> net::Options {
        net::Options {
            name: "namesrv".to_owned(),
            listen: vec![(settings.bind_address, settings.listen_port).into()],
            workers: settings.worker_threads,
            limits: net::Limits {
                max_connections: settings.max_connections,
                max_frame_bytes: settings.frame_max_length,
                outbox_pause_bytes: settings.outbox_pause_bytes,
                outbox_close_bytes: settings.outbox_close_bytes,
                idle_timeout: settings.server_channel_max_idle_time,
                ..net::Limits::default()
            },
        }
    }

    /// Removes brokers that have been silent for longer than they promised. The connections to close are returned; the brokers behind
    /// them connect again if they live.
    pub fn tick(&self, now_ms: i64) -> Vec<u64> {
        let expired = self.routes.read().expired(now_ms);
        if expired.is_empty() {
            return Vec::new();
        }
        let connections = expired.iter().map(|expired| expired.connection).collect();
        let departures: Vec<_> = expired.into_iter().filter_map(|expired| expired.departure).collect();
        let mut routes = self.routes.write();
        let changes = routes.depart(&departures);
        routes.forget_lost(now_ms);
        drop(routes);
        self.tell(changes);
        connections
    }

    /// Broker processes registered now.
    pub fn live_brokers(&self) -> usize {
        self.routes.read().live_brokers()
    }

    /// Time by its clock, ms.
    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Brokers have had their time to register, see `needWaitForService`.
    pub(crate) fn is_ready(&self, settings: &NamesrvSettings) -> bool {
        let wait_ms = i64::try_from(settings.wait_for_service.as_millis()).unwrap_or(i64::MAX);
        !settings.need_wait_for_service || self.now_ms().saturating_sub(self.started_ms) >= wait_ms
    }

    /// Tells brokers of a new lowest id, if they want to know.
    pub(crate) fn tell(&self, changes: impl IntoIterator<Item = MinIdChange>) {
        if self.settings.current().notify_min_broker_id_changed {
            changes.into_iter().for_each(|change| self.notifier.tell(change));
        }
    }

    fn answer(&self, conn: &Connection, request: &Frame) {
        // The hot one writes its reply itself.
        if request.code == i32::from(RequestCode::GetRouteinfoByTopic) {
            return route::by_topic(self, conn, request);
        }
        let reply = self.dispatch(conn, request).unwrap_or_else(|problem| problem.reply(request));
        if !request.is_oneway() {
            conn.send_frame(&reply);
        }
    }

    fn dispatch(&self, conn: &Connection, request: &Frame) -> Result<Frame, Problem> {
        let code = RequestCode::try_from(request.code).map_err(|_| Problem::UnknownCode(request.code))?;
        match code {
            RequestCode::PutKvConfig => kv::put(self, request),
            RequestCode::GetKvConfig => kv::value(self, request),
            RequestCode::DeleteKvConfig => kv::delete(self, request),
            RequestCode::GetKvlistByNamespace => kv::list(self, request),
            RequestCode::RegisterBroker => broker::register(self, conn, request),
            RequestCode::UnregisterBroker => broker::unregister(self, request),
            RequestCode::QueryDataVersion => broker::data_version(self, request),
            RequestCode::BrokerHeartbeat => broker::heartbeat(self, request),
            RequestCode::GetBrokerClusterInfo => cluster::info(self, conn, request),
            RequestCode::GetBrokerMemberGroup => cluster::member_group(self, conn, request),
            RequestCode::WipeWritePermOfBroker => topics::wipe_write_perm(self, request),
            RequestCode::AddWritePermOfBroker => topics::add_write_perm(self, request),
            RequestCode::GetAllTopicListFromNameserver => topics::all(self, request),
            RequestCode::GetTopicsByCluster => topics::of_cluster(self, request),
            RequestCode::GetSystemTopicListFromNs => topics::system(self, conn, request),
            RequestCode::GetUnitTopicList => topics::units(self, request, Units::Unit),
            RequestCode::GetHasUnitSubTopicList => topics::units(self, request, Units::Subscribed),
            RequestCode::GetHasUnitSubUnunitTopicList => topics::units(self, request, Units::OnlySubscribed),
            RequestCode::DeleteTopicInNamesrv => topics::delete(self, request),
            RequestCode::RegisterTopicInNamesrv => topics::enter(self, request),
            RequestCode::UpdateNamesrvConfig => property::update(self, conn, request),
            RequestCode::GetNamesrvConfig => property::all(self, request),
            other => Err(Problem::NotServed(other)),
        }
    }
}

impl Service for NameServer {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        let mut served = 0;
        while let Some(frame) = frames.get(served) {
            self.answer(conn, frame);
            served += 1;
            if conn.congested() {
                break;
            }
        }
        frames.drain(..served);
    }

    fn closed(&self, conn: &Arc<Connection>) {
        let departure = self.routes.read().departure_of_connection(conn.id());
        if let Some(departure) = departure {
            tracing::info!(broker = departure.broker_name, peer = %conn.peer(), "the connection of a broker closed");
            let changes = self.routes.write().depart(&[departure]);
            self.tell(changes);
        }
    }
}
