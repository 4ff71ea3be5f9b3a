//! The controller as a service of `net`: its parts, its thread and its life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::Live as LiveSettings;
use net::session::Transport;
use net::{Connection, Service};
use parking_lot::Mutex;
use protocol::{Frame, RequestCode as Code};
use store::disk::Disk;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::alive::Alive;
use crate::core::Core;
use crate::error::RequestError;
use crate::raft::{self, APPEND_ENTRIES, DiskThread, FileError, INSTALL_SNAPSHOT, Identity, Links, NodeError, VOTE};
use crate::settings::ControllerSettings;
use crate::{handlers, watch};

/// Time for clients to read their answers at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests of other controllers that are served at a time.
const MAX_PEER_REQUESTS: usize = 256;

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys that contradict each other.
    #[error("{0}")]
    Settings(String),
    /// The files cannot be used.
    #[error("controller: {0}")]
    Files(String),
    /// The port cannot be opened.
    #[error("controller: {0}")]
    Listen(std::io::Error),
    /// Anything else.
    #[error("controller: {0}")]
    Other(String),
}

impl From<NodeError> for StartError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::File(error) => Self::Files(files(&error)),
            NodeError::Raft(why) => Self::Other(why),
        }
    }
}

fn files(error: &FileError) -> String {
    error.to_string()
}

/// A running controller.
pub struct Controller {
    core: Arc<Core>,
    server: net::Server,
    disk: DiskThread,
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl Controller {
    /// Opens files and port, and joins the other controllers. Does not wait for them. `broken` is called once if the controller cannot go on, for
    /// example after a failed write; it must not block.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(
        settings: ControllerSettings,
        transport: Transport,
        disk: Arc<dyn Disk>,
        broken: impl Fn() + Send + 'static,
    ) -> Result<Self, StartError> {
        let addresses = settings.addresses().map_err(StartError::Settings)?;
        let port = settings.port().map_err(StartError::Settings)?;
        let identity = Arc::new(Identity {
            group: settings.group.clone(),
            own: settings.self_id.clone(),
            all: addresses.keys().cloned().collect(),
        });
        let addresses: BTreeMap<u64, String> = addresses
            .into_iter()
            .filter_map(|(name, address)| Some((identity.id(&name)?, address)))
            .collect();
        let addresses = Arc::new(addresses);
        let links = Links::new(&addresses, Arc::clone(&identity), transport.connector.clone());
        let other = |error: std::io::Error| StartError::Other(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(other)?;
        let directory = settings.directory();
        let started = raft::start(disk, &directory, &identity, links, settings.election_timeout);
        let node = runtime.block_on(started)?;
        let network = net::Options {
            name: "controller".to_owned(),
            listen: vec![(settings.bind_address, port).into()],
            workers: settings.worker_threads,
            limits: limits(&settings),
            encryption: transport.encryption,
        };
        let kept = settings.kept();
        let core = Arc::new(Core {
            identity,
            addresses,
            raft: node.raft,
            applied: node.applied,
            alive: Mutex::new(Alive::new(settings.max_brokers, 0)),
            elections: Mutex::default(),
            heard: Notify::new(),
            connector: transport.connector,
            waiting: Arc::new(Semaphore::new(settings.max_requests)),
            peers: Arc::new(Semaphore::new(MAX_PEER_REQUESTS)),
            max_waiting: settings.max_requests,
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            settings: LiveSettings::keeping(settings, kept),
        });
        let face = Face {
            core: Arc::clone(&core),
            runtime: runtime.handle().clone(),
        };
        let server = match net::Server::start(network, Arc::new(face)) {
            Ok(server) => server,
            Err(error) => {
                let _ = runtime.block_on(core.raft.shutdown());
                drop((core, runtime));
                node.disk.join();
                return Err(StartError::Listen(error));
            }
        };
        let stop = Arc::new(Notify::new());
        let thread = spawn(runtime, Arc::clone(&core), Arc::clone(&stop), broken).map_err(other)?;
        Ok(Self {
            core,
            server,
            disk: node.disk,
            stop,
            thread,
        })
    }

    /// Whether this controller leads.
    pub fn is_leader(&self) -> bool {
        self.core.is_leader()
    }

    /// Where it listens.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.server.local_addrs().first().copied()
    }

    /// Answers requests in flight and closes port and files.
    pub fn stop(self) {
        self.core.stopping.store(true, Ordering::Release);
        let outcome = self.server.stop(DRAIN_TIMEOUT);
        if outcome.cut > 0 {
            tracing::warn!(
                connections = outcome.cut,
                "closed controller connections whose peers did not read their answers"
            );
        }
        drop(self.server);
        self.stop.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the controller's thread has panicked");
        }
        drop(self.core);
        self.disk.join();
    }
}

fn spawn(runtime: Runtime, core: Arc<Core>, stop: Arc<Notify>, broken: impl Fn() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("controller".to_owned()).spawn(move || {
        runtime.block_on(async {
            watch::run(Arc::clone(&core), Arc::clone(&stop), broken).await;
            let _ = core.raft.shutdown().await;
        });
        // Tasks that hold the core end with the runtime.
        drop(runtime);
    })
}

fn limits(settings: &ControllerSettings) -> net::Limits {
    net::Limits {
        max_connections: settings.max_connections,
        max_frame_bytes: settings.frame_max_length,
        idle_timeout: settings.server_channel_max_idle_time,
        ..net::Limits::default()
    }
}

/// The requests of all connections.
struct Face {
    core: Arc<Core>,
    runtime: Handle,
}

impl Face {
    /// Answers at once, or `None` if a task answers.
    fn answer(&self, conn: &Arc<Connection>, request: &Frame) -> Result<Option<Frame>, RequestError> {
        if matches!(request.code, APPEND_ENTRIES | VOTE | INSTALL_SNAPSHOT) {
            let permit = Arc::clone(&self.core.peers).try_acquire_owned();
            return self.later(conn, request, permit);
        }
        let permit = || Arc::clone(&self.core.waiting).try_acquire_owned();
        let code = Code::try_from(request.code).map_err(|_| RequestError::UnknownCode(request.code))?;
        match code {
            Code::BrokerHeartbeat => handlers::heartbeat(&self.core, conn, request).map(Some),
            Code::ControllerGetMetadataInfo => Ok(Some(handlers::metadata(&self.core, request))),
            Code::GetControllerConfig => Ok(Some(handlers::settings(&self.core, request))),
            Code::UpdateControllerConfig => self.later(conn, request, permit()),
            Code::ControllerAlterSyncStateSet
            | Code::ControllerElectMaster
            | Code::ControllerRegisterBroker
            | Code::ControllerGetReplicaInfo
            | Code::ControllerGetSyncStateData
            | Code::ControllerGetNextBrokerId
            | Code::ControllerApplyBrokerId
            | Code::CleanBrokerData => {
                if self.core.is_leader() {
                    self.later(conn, request, permit())
                } else {
                    Err(RequestError::NotLeader)
                }
            }
            other => Err(RequestError::NotServed(other)),
        }
    }

    /// Serves a request as a task on the controller's thread.
    fn later(
        &self,
        conn: &Arc<Connection>,
        request: &Frame,
        permit: Result<OwnedSemaphorePermit, TryAcquireError>,
    ) -> Result<Option<Frame>, RequestError> {
        let permit = permit.map_err(|_| RequestError::Busy(self.core.max_waiting))?;
        let (core, conn) = (Arc::clone(&self.core), Arc::clone(conn));
        // Copied, because frames are slices of a read buffer.
        let request = Frame {
            ext: request.ext.detached(),
            body: bytes::Bytes::copy_from_slice(&request.body),
            ..request.clone()
        };
        let owed = conn.owe(0);
        self.runtime.spawn(async move {
            let reply = serve(core, &request).await;
            let reply = reply.unwrap_or_else(|error| error.reply(&request));
            if !request.is_oneway() {
                conn.send_frame(&reply);
            }
            drop((owed, permit));
        });
        Ok(None)
    }
}

async fn serve(core: Arc<Core>, request: &Frame) -> Result<Frame, RequestError> {
    if matches!(request.code, APPEND_ENTRIES | VOTE | INSTALL_SNAPSHOT) {
        let body = raft::serve(&core.raft, &core.identity, request).await.map_err(RequestError::Peer)?;
        return Ok(Frame::response_to(request).with_body(body));
    }
    let code = Code::try_from(request.code).map_err(|_| RequestError::UnknownCode(request.code))?;
    match code {
        Code::ControllerAlterSyncStateSet => handlers::alter_in_sync(&core, request).await,
        Code::ControllerElectMaster => handlers::elect(&core, request).await,
        Code::ControllerRegisterBroker => handlers::register(&core, request).await,
        Code::ControllerGetReplicaInfo => handlers::replica_info(&core, request).await,
        Code::ControllerGetSyncStateData => handlers::sync_state_data(&core, request).await,
        Code::ControllerGetNextBrokerId => handlers::next_id(&core, request).await,
        Code::ControllerApplyBrokerId => handlers::take_id(&core, request).await,
        Code::CleanBrokerData => handlers::clean(&core, request).await,
        Code::UpdateControllerConfig => {
            let request = request.clone();
            let updated = tokio::task::spawn_blocking(move || handlers::update_settings(&core, &request)).await;
            updated.map_err(|error| RequestError::Stopped(error.to_string()))?
        }
        other => Err(RequestError::NotServed(other)),
    }
}

impl Service for Face {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        let mut served = 0;
        while let Some(request) = frames.get(served) {
            let reply = self.answer(conn, request).unwrap_or_else(|error| Some(error.reply(request)));
            if let Some(reply) = reply.filter(|_| !request.is_oneway()) {
                conn.send_frame(&reply);
            }
            served += 1;
            if served < frames.len() && conn.must_yield() {
                break;
            }
        }
        frames.drain(..served);
    }

    fn closed(&self, conn: &Arc<Connection>) {
        if self.core.stopping.load(Ordering::Acquire) {
            return;
        }
        let suspected = self.core.alive.lock().closed(conn.id());
        if !suspected.is_empty() {
            let _context = self.runtime.enter();
            watch::suspect(&self.core, suspected);
        }
    }
}
