//! The name server as a service of `net`: its parts, and the one match on the request code.

use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use config::Live;
use net::jobs::{Bound, Bounds as JobBounds, Options as JobOptions, Pool};
use net::{Connection, Gate, Service};
use parking_lot::RwLock;
use protocol::{Frame, RequestCode};

use crate::answer;
use crate::embedded::LocalBroker;
use crate::encoded::{Encoded, ListVariant, RouteVariant};
use crate::handlers::lists::List;
use crate::handlers::{broker, cluster, kv, lists, property, route, topics};
use crate::kv::{KvError, KvStore};
use crate::notify::Notifier;
use crate::problem::Problem;
use crate::routes::{Bounds, MinIdChange, Routes, Units};
use crate::scan::ScanBell;
use crate::settings::NamesrvSettings;

/// Requests that wait for a thread at most.
const MAX_WAITING_JOBS: usize = 65_536;
/// Of one connection.
const MAX_WAITING_JOBS_OF_ONE: usize = 4_096;
/// The part of the bytes that one connection may have waiting.
const SHARE_OF_WAITING_BYTES: usize = 4;

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
    pub(crate) encoded_routes: Encoded<RouteVariant>,
    pub(crate) encoded_lists: Encoded<ListVariant>,
    /// For what takes long: registrations and lists.
    pub(crate) work: Pool,
    /// For what waits for the disk. A disk that hangs holds up no registration.
    pub(crate) disk: Pool,
    pub(crate) notifier: Notifier,
    pub(crate) scan_bell: ScanBell,
    started_ms: i64,
    me: Weak<Self>,
}

/// The step that every request passes before it is served: who asks is known by the connection, and [`protocol::access`] says what a
/// code does to which resources. Nobody is refused yet, there is no ACL.
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "what refuses comes with ACL")]
fn authorise(_from: &Connection, _request: &Frame) -> Result<(), Problem> {
    Ok(())
}

/// What became of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "made and matched at once; a box would be an allocation a request"
)]
pub(crate) enum Served {
    /// This is the answer.
    Now(Frame),
    /// The answer comes by itself.
    Later,
}

/// A thread beside those that serve connections: one, so that what a connection asks for is done in order. A job waits while its
/// connection does not read, since its answer may be as large as a frame.
fn pool(name: &'static str, max_waiting_bytes: usize) -> Pool {
    Pool::new(JobOptions {
        name,
        threads: 1,
        threads_of_one: 1,
        holds_back: true,
        bounds: JobBounds {
            jobs: Bound::new(MAX_WAITING_JOBS, "a name server"),
            jobs_of_one: Bound::new(MAX_WAITING_JOBS_OF_ONE, "a name server"),
            bytes: Bound::new(max_waiting_bytes, "apogeeMaxWaitingBytes"),
            bytes_of_one: Bound::new(max_waiting_bytes / SHARE_OF_WAITING_BYTES, "a quarter of apogeeMaxWaitingBytes"),
        },
    })
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
            brokers_per_connection: settings.max_brokers_per_connection,
            topics: settings.max_topics,
            bytes: settings.max_route_bytes,
        };
        let kv = KvStore::open(settings.kv_config_file(), (&settings).into())?;
        Ok(Arc::new_cyclic(|me| Self {
            kv,
            work: pool("namesrv-work", settings.max_waiting_bytes),
            disk: pool("namesrv-disk", settings.max_waiting_bytes),
            settings: Live::keeping(settings, kept),
            started_ms: (options.clock)(),
            clock: options.clock,
            local_broker: options.local_broker,
            routes: RwLock::new(Routes::new(bounds)),
            encoded_routes: Encoded::default(),
            encoded_lists: Encoded::default(),
            notifier: Notifier::default(),
            scan_bell: ScanBell::default(),
            me: Weak::clone(me),
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
                outbox_total_bytes: settings.outbox_total_bytes,
                inbound_total_bytes: settings.inbound_total_bytes,
                frame_timeout: settings.frame_timeout,
                handshake_timeout: settings.handshake_timeout,
                idle_timeout: settings.server_channel_max_idle_time,
                ..net::Limits::default()
            },
            acceptor: None,
        }
    }

    /// Removes brokers that have been silent for longer than they promised. Their connections stay: one that registers again over the
    /// same connection, after all, is there again, and one that is dead is closed when it has been idle for too long.
    pub fn tick(&self, now_ms: i64) {
        if self.routes.read().has_silent(now_ms) {
            let changes = self.routes.write().expire(now_ms);
            self.tell(changes);
        }
    }

    /// All brokers leave that spoke on a connection that closed.
    pub(crate) fn connection_closed(&self, conn: &Connection) {
        let changes = self.routes.write().connection_closed(conn.id());
        self.tell(changes);
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

    /// Whether an answer of so many bytes to a request of this code can be sent.
    ///
    /// # Errors
    /// [`Problem::TooLarge`].
    pub(crate) fn fits(&self, bytes: usize, code: i32) -> Result<(), Problem> {
        answer::fits(bytes, self.settings.current().frame_max_length, code)
    }

    /// The table of ordered topics as the body of an answer to a registration; nothing if it is too large for one. Then brokers do not
    /// learn of ordered topics, which is better than that they cannot register.
    pub(crate) fn order_table(&self, table: Bytes, settings: &NamesrvSettings) -> Bytes {
        static GATE: Gate = Gate::new();
        if table.len() <= settings.frame_max_length / 2 {
            return table;
        }
        if GATE.open().is_some() {
            let bytes = table.len();
            tracing::warn!(
                bytes,
                "the KV configuration of ordered topics is too large to be told to brokers that register: split it, or raise com.rocketmq.remoting.frameMaxLength everywhere"
            );
        }
        Bytes::new()
    }

    /// Has a request served by another thread, which then answers. `bytes` is what of the request is kept until then. The job gets an
    /// answer to fill.
    ///
    /// # Errors
    /// [`Problem::Busy`] if too much waits already.
    pub(crate) fn aside(
        &self,
        thread: &Pool,
        conn: &Arc<Connection>,
        request: &Frame,
        bytes: usize,
        job: impl FnOnce(&Self, Frame) -> Result<Frame, Problem> + Send + 'static,
    ) -> Result<Served, Problem> {
        let Some(names) = self.me.upgrade() else { return Ok(Served::Later) };
        let (to, empty) = (Arc::clone(conn), Frame::response_to(request));
        let (code, oneway) = (request.code, request.is_oneway());
        // Without a size: the answer counts when it is there, and no further job of this connection is begun before.
        let owed = conn.owe(0);
        thread.run(conn, bytes, move || {
            let reply = job(&names, empty.clone()).unwrap_or_else(|problem| problem.fill(empty));
            if !oneway {
                names.send(&to, code, reply);
            }
            drop(owed);
        })?;
        Ok(Served::Later)
    }

    fn send(&self, conn: &Connection, code: i32, reply: Frame) {
        answer::send(conn, code, reply, self.settings.current().frame_max_length);
    }

    fn answer(&self, conn: &Arc<Connection>, request: &Frame) {
        let allowed = authorise(conn, request);
        // The hot one writes its reply itself.
        if allowed.is_ok() && request.code == i32::from(RequestCode::GetRouteinfoByTopic) {
            return route::by_topic(self, conn, request);
        }
        let served = allowed.and_then(|()| self.dispatch(conn, request));
        let reply = match served {
            Ok(Served::Later) => return,
            Ok(Served::Now(reply)) => reply,
            Err(problem) => problem.reply(request),
        };
        if !request.is_oneway() {
            self.send(conn, request.code, reply);
        }
    }

    fn dispatch(&self, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
        let code = RequestCode::try_from(request.code).map_err(|_| Problem::UnknownCode(request.code))?;
        let reply = match code {
            RequestCode::PutKvConfig => return kv::put(self, conn, request),
            RequestCode::GetKvConfig => kv::value(self, request),
            RequestCode::DeleteKvConfig => return kv::delete(self, conn, request),
            RequestCode::GetKvlistByNamespace => kv::list(self, request),
            RequestCode::RegisterBroker => return broker::register(self, conn, request),
            RequestCode::UnregisterBroker => return broker::unregister(self, conn, request),
            RequestCode::QueryDataVersion => broker::data_version(self, request),
            RequestCode::BrokerHeartbeat => broker::heartbeat(self, request),
            RequestCode::GetBrokerClusterInfo => return lists::answer(self, conn, request, List::Clusters),
            RequestCode::GetBrokerMemberGroup => cluster::member_group(self, conn, request),
            RequestCode::WipeWritePermOfBroker => topics::wipe_write_perm(self, request),
            RequestCode::AddWritePermOfBroker => topics::add_write_perm(self, request),
            RequestCode::GetAllTopicListFromNameserver => return lists::all(self, conn, request),
            RequestCode::GetTopicsByCluster => return lists::of_cluster(self, conn, request),
            RequestCode::GetSystemTopicListFromNs => return lists::answer(self, conn, request, List::System),
            RequestCode::GetUnitTopicList => return lists::units(self, conn, request, Units::Unit),
            RequestCode::GetHasUnitSubTopicList => return lists::units(self, conn, request, Units::Subscribed),
            RequestCode::GetHasUnitSubUnunitTopicList => return lists::units(self, conn, request, Units::OnlySubscribed),
            RequestCode::DeleteTopicInNamesrv => topics::delete(self, request),
            RequestCode::RegisterTopicInNamesrv => return topics::enter(self, conn, request),
            RequestCode::UpdateNamesrvConfig => return property::update(self, conn, request),
            RequestCode::GetNamesrvConfig => property::all(self, request),
            other => Err(Problem::NotServed(other)),
        };
        reply.map(Served::Now)
    }
}

impl Service for NameServer {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        let mut served = 0;
        while let Some(frame) = frames.get(served) {
            self.answer(conn, frame);
            served += 1;
            if served < frames.len() && conn.must_yield() {
                break;
            }
        }
        frames.drain(..served);
    }

    fn closed(&self, conn: &Arc<Connection>) {
        self.work.forget(conn);
        self.disk.forget(conn);
        self.connection_closed(conn);
    }
}
