//! Clients of the remoting protocol, which use the proxy as name server and as the address of all brokers.
//!
//! The proxy is a router of frames. Each connection of a client ([`session`]) has connections of its own to the brokers that it uses
//! ([`upstream`]), so brokers know each client as itself: members of groups, locks, checks of transactions, replies and questions of tools work as
//! without a proxy, through any number of proxies, and beside clients that reach brokers directly. A request names its broker in its header
//! ([`codes`]); a frame leaves with the bytes of the header that it came with. The proxy looks at few requests: routes ([`route`]) have its own address for
//! all brokers, and what concerns all brokers or any ([`heartbeat`]) has one answer ([`answer`]).
//!
//! Invariants
//! - A client and its connections to brokers are served by one thread. Requests of a client to one broker keep their order.
//! - A request that will be answered is answered once: by its broker, or with the reason why not. When a connection to a broker breaks, all that
//!   it has not answered ends at once.
//! - Nothing is kept of a client but its last heartbeat, which a broker that comes back hears first, and nothing when it is gone.
//! - What is queued for a side that does not read is limited: then the other side is not read.
//!
//! Not here: what a request means, replicas (only masters are asked), administration (ask a broker's port).

mod answer;
mod body;
mod codes;
mod directory;
mod heartbeat;
mod questions;
mod route;
mod session;
pub mod settings;
mod upstream;

use crate::cluster::settings::ClusterSettings;
use directory::Directory;
use net::client::Unread;
use net::session::{Connector, Transport};
use net::{Connection, Limits, Options, Server, Service};
use parking_lot::Mutex;
use protocol::Frame;
use rustc_hash::FxHashMap;
use session::Session;
use settings::RemotingSettings;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// How long answers may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Parts of the table of sessions, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// A running port for clients of the remoting protocol.
pub struct Remoting {
    server: Server,
    shared: Arc<Shared>,
}

impl Remoting {
    /// Opens the port and serves clients with the brokers that name servers know. `transport` says what the port accepts, and opens connections to
    /// brokers and name servers.
    ///
    /// # Errors
    /// `io::Error` if the port cannot be opened (its text has the address), or a thread cannot be started. Nothing is left running.
    pub fn start(settings: RemotingSettings, cluster: &ClusterSettings, transport: Transport) -> io::Result<Self> {
        let limits = Limits {
            max_connections: settings.max_connections,
            max_frame_bytes: settings.max_frame_bytes,
            inbound_total_bytes: settings.inbound_total_bytes,
            outbox_pause_bytes: settings.unread_bytes,
            outbox_close_bytes: settings.close_bytes,
            outbox_total_bytes: settings.unread_total_bytes,
            idle_timeout: settings.idle_timeout,
            ..Limits::default()
        };
        let options = Options {
            name: "remoting".to_owned(),
            listen: vec![SocketAddr::new(settings.bind_address, settings.port)],
            workers: settings.threads,
            limits: limits.clone(),
            encryption: transport.encryption,
        };
        let shared = Arc::new(Shared {
            directory: Directory::new(cluster, transport.connector.clone()),
            connector: transport.connector,
            broker_limits: Limits {
                max_pending_requests: settings.max_pending_requests,
                // Nothing but one frame of a broker is incomplete at a time.
                inbound_total_bytes: settings.max_frame_bytes.saturating_mul(2),
                outbox_close_bytes: usize::MAX,
                ..limits
            },
            unread: Unread::new(settings.unread_total_bytes),
            broker_connections: AtomicUsize::new(0),
            settings,
        });
        let router = Router {
            shared: Arc::clone(&shared),
            sessions: Default::default(),
        };
        let server = Server::start(options, Arc::new(router))?;
        Ok(Self { server, shared })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.local_addrs().first().copied()
    }

    /// Number of open connections of clients.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Number of connections to brokers that are open or being opened.
    #[must_use]
    pub fn broker_connections(&self) -> usize {
        self.shared.broker_connections.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Bytes that clients and brokers have not read yet.
    #[must_use]
    pub fn unread_bytes(&self) -> (usize, usize) {
        (self.server.waiting_bytes(), self.shared.unread.bytes())
    }

    /// Accepts and reads nothing more, and closes when brokers have answered what was asked, at the latest after 5 s. Nobody waits for pulls
    /// and pops that wait for messages. Blocks.
    pub fn stop(self) {
        let outcome = self.server.stop(PATIENCE);
        if outcome.cut > 0 {
            tracing::warn!(
                connections = outcome.cut,
                "closed connections of remoting clients without all of their answers"
            );
        }
    }
}

/// What all connections share.
struct Shared {
    settings: RemotingSettings,
    directory: Directory,
    connector: Option<Arc<dyn Connector>>,
    /// Of one connection to a broker.
    broker_limits: Limits,
    /// What brokers have not read.
    unread: Unread,
    broker_connections: AtomicUsize,
}

/// Finds the session of a connection.
struct Router {
    shared: Arc<Shared>,
    sessions: [Mutex<FxHashMap<u64, Arc<Session>>>; SHARDS],
}

impl Router {
    fn shard(&self, client: &Connection) -> &Mutex<FxHashMap<u64, Arc<Session>>> {
        &self.sessions[(client.id() % SHARDS as u64) as usize]
    }
}

impl Service for Router {
    fn serve(&self, client: &Arc<Connection>, frames: &mut Vec<Frame>) {
        let session = self.shard(client).lock().get(&client.id()).cloned();
        let Some(session) = session else { return frames.clear() };
        let mut taken = 0;
        for frame in frames.iter() {
            session.take(frame);
            taken += 1;
            // A broker does not read, or the client does not read its answers.
            if client.congested() {
                break;
            }
        }
        frames.drain(..taken);
    }

    fn opened(&self, client: &Arc<Connection>) {
        let session = Session::new(Arc::clone(client), Arc::clone(&self.shared));
        self.shard(client).lock().insert(client.id(), session);
    }

    fn closed(&self, client: &Arc<Connection>) {
        let session = self.shard(client).lock().remove(&client.id());
        if let Some(session) = session {
            session.close();
        }
    }
}
