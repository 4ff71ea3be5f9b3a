//! The HTTP/2 server: its port, connections and their limits, and its end.

use crate::admin::{Admin, Administration};
use crate::backend::Backend;
use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::cluster::settings::ClusterSettings;
use crate::connection::{Connection, Unread};
use crate::inbound::{Budget, Inbound};
use crate::local::Local;
use crate::service::{Messaging, Service};
use crate::settings::ProxySettings;
use crate::stream;
use crate::v2::admin_server::AdminServer;
use crate::v2::messaging_service_server::MessagingServiceServer;
use crate::workers::Workers;
use broker::operations::Operations;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use net::session::Connector;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tls::Accepted;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as _};
use tonic::server::NamedService;

/// How long answers may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time in which a connection has to send its first bytes, and to end its handshake of TLS.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// Before another connection is accepted, if there was an error.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Data of a request that a client may send before the server has read it, of one request and of a connection.
const WINDOW: u32 = 1 << 20;
/// Requests that a client may have reset while the server did not know them yet (CVE-2023-44487).
const MAX_RESETS: usize = 20;

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const MESSAGING: &str = "/apache.rocketmq.v2.MessagingService/";
const ADMIN: &str = "/apache.rocketmq.v2.Admin/";
const TELEMETRY: &str = "/apache.rocketmq.v2.MessagingService/Telemetry";

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be opened.
    #[error("gRPC proxy: cannot listen on {address}: {cause}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// A thread cannot be started.
    #[error("gRPC proxy: {0}")]
    Other(#[from] io::Error),
}

/// A running proxy.
pub struct Proxy {
    address: SocketAddr,
    admin: Arc<Admin>,
    workers: Workers,
    stop: watch::Sender<bool>,
    /// Ends when all connections have.
    ended: mpsc::Receiver<()>,
}

impl Proxy {
    /// Opens the port and serves clients with the verbs of a broker, encrypted or plain as `accepted` says. Stop it before the broker.
    ///
    /// # Errors
    /// [`StartError`]: the port cannot be opened, or a thread cannot be started. Nothing is left running.
    pub fn start(settings: ProxySettings, accepted: Accepted, broker: Operations) -> Result<Self, StartError> {
        let clients = Arc::new(Clients::new(settings.max_clients));
        Self::start_with(settings, accepted, Backend::Local(Arc::new(Local::new(broker))), clients)
    }

    /// Opens the port and serves clients with the brokers of a cluster, to which `connector` opens connections.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in_cluster(
        settings: ProxySettings,
        cluster: ClusterSettings,
        accepted: Accepted,
        connector: Option<Arc<dyn Connector>>,
    ) -> Result<Self, StartError> {
        let clients = Arc::new(Clients::new(settings.max_clients));
        let most_parked = settings.max_calls_per_connection as usize;
        let cluster = Arc::new(Cluster::new(cluster, connector, Arc::clone(&clients), most_parked));
        Self::start_with(settings, accepted, Backend::Cluster(cluster), clients)
    }

    fn start_with(settings: ProxySettings, accepted: Accepted, backend: Backend, clients: Arc<Clients>) -> Result<Self, StartError> {
        let workers = Workers::start(net::worker_threads(settings.threads)?)?;
        let first = workers.first();
        let address = SocketAddr::new(settings.bind_address, settings.port);
        let listener = first
            .block_on(TcpListener::bind(address))
            .map_err(|cause| StartError::Listen { address, cause })?;
        let address = listener.local_addr()?;
        let (stop, is_stopping) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let messaging = Arc::new(Messaging::new(settings, backend, clients, is_stopping));
        first.spawn(Arc::clone(&messaging).renew_messages());
        if let Backend::Cluster(cluster) = &messaging.backend {
            first.spawn(Arc::clone(cluster).keep_members());
        }
        let connections = Arc::new(Semaphore::new(messaging.settings.max_connections));
        let admin = Arc::new(Admin::new(Arc::clone(&messaging), Arc::clone(&connections)));
        let routes = {
            let _inside = first.enter();
            routes(&messaging, &admin)?
        };
        let shared = Shared {
            budget: Arc::new(Budget::new(messaging.settings.max_inbound_bytes)),
            connections,
            unread: Arc::default(),
            accepted,
            messaging,
            routes,
        };
        first.spawn(accept(listener, Arc::new(shared), workers.in_turn(), alive));
        Ok(Self {
            address,
            admin,
            workers,
            stop,
            ended,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves Admin from now on. Before, its requests are refused.
    pub fn serve_admin(&self, administration: Administration) {
        self.admin.serve(administration);
    }

    /// Accepts nothing more, answers receives that wait, and ends when all requests are answered, at the latest after 5 s. Blocks.
    pub fn stop(mut self) {
        let _ = self.stop.send(true);
        let all = async { tokio::time::timeout(PATIENCE, self.ended.recv()).await };
        if self.workers.first().block_on(all).is_err() {
            tracing::warn!("closed gRPC connections whose clients did not read their answers");
        }
    }
}

type Route = Arc<dyn Fn(Request<Inbound>) -> BoxFuture<Response<Body>, Infallible> + Send + Sync>;

/// The service of a request is found by its path.
fn routes(messaging: &Arc<Messaging>, admin: &Arc<Admin>) -> Result<Route, io::Error> {
    let serves_admin = messaging.settings.admin_enable;
    let admin = AdminServer::from_arc(Arc::clone(admin)).max_decoding_message_size(messaging.settings.max_request_bytes);
    let service = MessagingServiceServer::new(Service(Arc::clone(messaging)))
        .max_decoding_message_size(messaging.settings.max_request_bytes)
        .max_encoding_message_size(usize::MAX);
    let reflection = |built: Result<_, tonic_reflection::server::Error>| built.map_err(io::Error::other);
    let descriptors = || {
        let all = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        match serves_admin {
            true => all,
            false => all.with_service_name(<MessagingServiceServer<Service> as NamedService>::NAME),
        }
    };
    let v1 = reflection(descriptors().build_v1())?;
    let v1alpha = descriptors().build_v1alpha().map_err(io::Error::other)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let watched = Arc::clone(messaging);
    tokio::spawn(async move {
        reporter.set_serving::<MessagingServiceServer<Service>>().await;
        if serves_admin {
            reporter.set_serving::<AdminServer<Admin>>().await;
        }
        watched.stopping().await;
        reporter.set_not_serving::<MessagingServiceServer<Service>>().await;
        if serves_admin {
            reporter.set_not_serving::<AdminServer<Admin>>().await;
        }
    });
    Ok(Arc::new(move |request| {
        let path = request.uri().path();
        if path.starts_with(MESSAGING) {
            service.clone().call(request)
        } else if path.starts_with(ADMIN) && serves_admin {
            admin.clone().call(request)
        } else if path.starts_with("/grpc.health.v1.Health/") {
            health.clone().call(request)
        } else if path.starts_with("/grpc.reflection.v1.ServerReflection/") {
            v1.clone().call(request)
        } else if path.starts_with("/grpc.reflection.v1alpha.ServerReflection/") {
            v1alpha.clone().call(request)
        } else {
            let path = ::message::text::brief(path);
            let text = match path.starts_with(ADMIN) {
                true => format!("{path} is not served: apogeeGrpcAdminEnable is false"),
                false => format!("{path} is not in this version of ApogeeMQ"),
            };
            Box::pin(async move { Ok(Status::unimplemented(text).into_http()) })
        }
    }))
}

/// What connections share.
struct Shared {
    messaging: Arc<Messaging>,
    routes: Route,
    accepted: Accepted,
    budget: Arc<Budget>,
    unread: Arc<Unread>,
    connections: Arc<Semaphore>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut threads: impl Iterator<Item = Handle>, alive: mpsc::Sender<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.messaging.stopping() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a gRPC connection was not accepted");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&shared.connections).try_acquire_owned() else {
            tracing::warn!(%peer, "a gRPC connection too many was closed (apogeeGrpcMaxConnections)");
            continue;
        };
        let (Ok(stream), Some(thread)) = (stream.into_std(), threads.next()) else {
            continue;
        };
        let (shared, alive) = (Arc::clone(&shared), alive.clone());
        thread.spawn(async move {
            let served = async { serve(&shared, TcpStream::from_std(stream)?, peer).await };
            if let Err(error) = served.await {
                tracing::debug!(%peer, %error, "a gRPC connection ended");
            }
            drop((permit, alive));
        });
    }
}

/// Serves a connection until its end.
async fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let settings = &shared.messaging.settings;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream = stream::accept(stream, &shared.accepted, FIRST_BYTES).await?;
    let connection = Arc::new(Connection::new(
        net::canonical(peer),
        net::canonical(local),
        Arc::clone(&shared.unread),
    ));
    let service = {
        let (routes, budget, connection) = (Arc::clone(&shared.routes), Arc::clone(&shared.budget), Arc::clone(&connection));
        let time = settings.request_timeout;
        hyper::service::service_fn(move |request: Request<Incoming>| {
            connection.requested();
            let time = (request.uri().path() != TELEMETRY).then_some(time);
            let mut request = request.map(|body| Inbound::new(body, Arc::clone(&budget), time));
            request.extensions_mut().insert(Arc::clone(&connection));
            routes(request)
        })
    };
    let mut served = std::pin::pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_calls_per_connection)
            .max_header_list_size(settings.max_header_bytes)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut is_stopping = false;
    loop {
        tokio::select! {
            served = served.as_mut() => return Ok(served?),
            () = shared.messaging.stopping(), if !is_stopping => {
                is_stopping = true;
                served.as_mut().graceful_shutdown();
            }
            () = connection.stalled(settings.stall_timeout) => {
                return Err("its client did not read its messages (apogeeGrpcStallTimeoutMillis)".into());
            }
            () = connection.idle(settings.idle_timeout) => return Err("it had no requests (grpcClientIdleTimeMills)".into()),
        }
    }
}
