//! The name server as a service of `net`: its parts, its threads and its life. The match on the request code is in `dispatch.rs`.

use std::hash::RandomState;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use config::Live;
use net::jobs::{Bound, Bounds as JobBounds, Options as JobOptions, Pool};
use net::session::{Connector, Encryption};
use net::{Connection, Gate, Service};
use parking_lot::RwLock;
use protocol::Frame;

use crate::answer;
use crate::cache::{AnswerCache, ListVariant, RouteVariant};
use crate::dispatch::dispatch;
use crate::embedded::LocalBroker;
use crate::error::RequestError;
use crate::kv::{self, KvError, KvStore};
use crate::notify::Notifier;
use crate::routes::{Bounds, MinIdChange, Routes};
use crate::scan::ScanWaker;
use crate::settings::NamesrvSettings;

/// Maximum number of requests that wait for a thread.
const MAX_WAITING_JOBS: usize = 65_536;
/// The same for one connection.
const MAX_WAITING_JOBS_OF_ONE: usize = 4_096;
/// One connection may use this fraction of `apogeeMaxWaitingBytes`.
const SHARE_OF_WAITING_BYTES: usize = 4;

/// A monotonic clock in ms.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's monotonic clock.
pub fn monotonic() -> Clock {
    let start = Instant::now();
    Arc::new(move || i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX))
}

/// Options of a name server.
pub struct Options {
    /// The settings.
    pub settings: NamesrvSettings,
    /// Source of time.
    pub clock: Clock,
    /// The broker in the same process, if clients get its address by the IP through which they connect.
    pub local_broker: Option<LocalBroker>,
    /// For connections to brokers; without it they are plain TCP.
    pub connector: Option<Arc<dyn Connector>>,
}

impl Options {
    /// With the machine's clock, plain connections and without a local broker.
    pub fn new(settings: NamesrvSettings) -> Self {
        Self {
            settings,
            clock: monotonic(),
            local_broker: None,
            connector: None,
        }
    }
}

/// The name server. Start it with [`net::Server::start`], and remove expired brokers with a [`crate::Scan`] or [`Self::tick`].
pub struct NameServer {
    pub(crate) settings: Live<NamesrvSettings>,
    pub(crate) clock: Clock,
    pub(crate) local_broker: Option<LocalBroker>,
    /// Lock order: `kv` before `routes`, neither while writing to a connection.
    pub(crate) routes: RwLock<Routes>,
    pub(crate) kv: KvStore,
    pub(crate) route_cache: AnswerCache<RouteVariant>,
    pub(crate) list_cache: AnswerCache<ListVariant>,
    /// Thread for requests that take long: registrations and lists.
    pub(crate) work: Pool,
    /// Thread for requests that wait for the disk. A disk that hangs does not delay registrations.
    pub(crate) disk: Pool,
    pub(crate) notifier: Notifier,
    /// Key of the hashes by which repeated registrations are recognised.
    pub(crate) fingerprints: RandomState,
    pub(crate) scan_waker: ScanWaker,
    started_ms: i64,
    weak_self: Weak<Self>,
}

/// The authorisation step that every request passes before it is served. The connection identifies the client, and [`protocol::access`]
/// has the resources of each code. It refuses nothing yet, because there is no ACL.
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "what refuses comes with ACL")]
fn authorise(_from: &Connection, _request: &Frame) -> Result<(), RequestError> {
    Ok(())
}

/// Outcome of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "returned and matched at once; a box would cost an allocation per request"
)]
pub(crate) enum Served {
    /// The answer.
    Now(Frame),
    /// The answer was sent, or another thread sends it.
    Later,
}

/// One thread beside those that serve connections; a single one keeps the requests of a connection in order. A job does not start
/// while its client does not read, because its answer may be as large as a frame.
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
    /// [`KvError::File`] or [`KvError::Damaged`] if the file of the KV configuration cannot be read.
    pub fn new(options: Options) -> Result<Arc<Self>, KvError> {
        let settings = options.settings;
        let kept = settings.kept();
        let bounds = Bounds {
            brokers: settings.max_brokers,
            brokers_per_connection: settings.max_brokers_per_connection,
            topics: settings.max_topics,
            bytes: settings.max_route_bytes,
        };
        let may_start_without = settings.start_without.iter().any(|file| file == kv::FILE_NAME);
        let kv = KvStore::open(settings.kv_config_file(), (&settings).into(), may_start_without)?;
        Ok(Arc::new_cyclic(|weak_self| Self {
            kv,
            work: pool("namesrv-work", settings.max_waiting_bytes),
            disk: pool("namesrv-disk", settings.max_waiting_bytes),
            settings: Live::keeping(settings, kept),
            started_ms: (options.clock)(),
            clock: options.clock,
            local_broker: options.local_broker,
            routes: RwLock::new(Routes::new(bounds)),
            route_cache: AnswerCache::default(),
            list_cache: AnswerCache::default(),
            notifier: Notifier::new(options.connector),
            fingerprints: RandomState::new(),
            scan_waker: ScanWaker::default(),
            weak_self: Weak::clone(weak_self),
        }))
    }

    /// Options of `net` from the settings: address, threads and limits, without encryption.
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
            encryption: Encryption::Disabled,
        }
    }

    /// Removes brokers whose heartbeat timeout has passed. Their connections stay open: a broker may register again over its connection,
    /// and a dead connection is closed by the idle timeout.
    pub fn tick(&self, now_ms: i64) {
        if self.routes.read().has_expired(now_ms) {
            let changes = self.routes.write().expire(now_ms);
            self.notify_min_id_changes(changes);
        }
    }

    /// Removes the brokers that registered over a connection, after it closed.
    pub(crate) fn connection_closed(&self, conn: &Connection) {
        let changes = self.routes.write().connection_closed(conn.id());
        self.notify_min_id_changes(changes);
    }

    /// Number of registered broker processes.
    pub fn live_brokers(&self) -> usize {
        self.routes.read().live_brokers()
    }

    /// Time by the name server's clock in ms.
    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Whether routes are served already, see `needWaitForService`.
    pub(crate) fn is_ready(&self, settings: &NamesrvSettings) -> bool {
        let wait_ms = i64::try_from(settings.wait_for_service.as_millis()).unwrap_or(i64::MAX);
        !settings.need_wait_for_service || self.now_ms().saturating_sub(self.started_ms) >= wait_ms
    }

    /// Notifies brokers of new lowest ids, with `notifyMinBrokerIdChanged`.
    pub(crate) fn notify_min_id_changes(&self, changes: impl IntoIterator<Item = MinIdChange>) {
        if self.settings.current().notify_min_broker_id_changed {
            changes.into_iter().for_each(|change| self.notifier.notify(change));
        }
    }

    /// Checks that an answer of `bytes` to a request of this code fits a frame.
    ///
    /// # Errors
    /// [`RequestError::TooLarge`] if it does not.
    pub(crate) fn fits(&self, bytes: usize, code: i32) -> Result<(), RequestError> {
        answer::fits(bytes, self.settings.current().frame_max_length, code)
    }

    /// The order configurations as the body of an answer to a registration. Empty, with a warning, if they are too large for a frame: brokers can
    /// still register, but do not get the order configurations.
    pub(crate) fn order_table(&self, table: Bytes, settings: &NamesrvSettings) -> Bytes {
        static GATE: Gate = Gate::new();
        if table.len() <= settings.frame_max_length / 2 {
            return table;
        }
        if GATE.open().is_some() {
            let bytes = table.len();
            tracing::warn!(
                bytes,
                "the order configurations are larger than half of com.rocketmq.remoting.frameMaxLength and are not sent to brokers that register: delete some, or raise the key on name servers and brokers"
            );
        }
        Bytes::new()
    }

    /// Serves a request on a thread of `pool`, which then sends the answer. `bytes` is the memory that the request uses until then. The job
    /// gets an empty answer to fill.
    ///
    /// # Errors
    /// [`RequestError::Busy`] if too many requests or bytes wait already.
    pub(crate) fn serve_on(
        &self,
        pool: &Pool,
        conn: &Arc<Connection>,
        request: &Frame,
        bytes: usize,
        job: impl FnOnce(&Self, Frame) -> Result<Frame, RequestError> + Send + 'static,
    ) -> Result<Served, RequestError> {
        let Some(names) = self.weak_self.upgrade() else {
            return Ok(Served::Later);
        };
        let (to, empty) = (Arc::clone(conn), Frame::response_to(request));
        let (code, oneway) = (request.code, request.is_oneway());
        // The size is not known: the answer counts when it exists, and no other job of this connection starts before.
        let owed = conn.owe(0);
        pool.run(conn, bytes, move || {
            let reply = job(&names, empty.clone()).unwrap_or_else(|error| error.fill(empty));
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
        let served = allowed.and_then(|()| dispatch(self, conn, request));
        let reply = match served {
            Ok(Served::Later) => return,
            Ok(Served::Now(reply)) => reply,
            Err(error) => error.reply(request),
        };
        if !request.is_oneway() {
            self.send(conn, request.code, reply);
        }
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
