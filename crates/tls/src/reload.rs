//! The current configurations, and the thread that makes them anew when their files change.
//!
//! The thread exists only if files are configured. It compares content, not times: a file that was written anew with the same bytes
//! changes nothing. A certificate and its key cannot be replaced in one step, so a failure is reported only when it is seen twice.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use net::session::{Acceptor, Connector, Encryption, Session, Transport};
use parking_lot::{Mutex, RwLock};
use rustls::{ClientConfig, ServerConfig};

use crate::certificates::File;
use crate::configs::{self, Made, TlsError};
use crate::session;
use crate::settings::{TlsMode, TlsSettings};

/// Time between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(1);

type Make<C> = dyn Fn() -> Result<Made<C>, TlsError> + Send + Sync;

/// A configuration that follows its files.
struct Followed<C> {
    name: &'static str,
    make: Box<Make<C>>,
    current: RwLock<Arc<C>>,
    seen: Mutex<Seen>,
}

/// What the last look found.
struct Seen {
    files: Vec<File>,
    /// Why the files of the last look could not be used.
    failure: Option<String>,
    /// That was logged.
    reported: bool,
}

impl<C> Followed<C> {
    fn new(name: &'static str, made: Made<C>, make: impl Fn() -> Result<Made<C>, TlsError> + Send + Sync + 'static) -> Self {
        Self {
            name,
            make: Box::new(make),
            current: RwLock::new(made.config),
            seen: Mutex::new(Seen {
                files: made.files,
                failure: None,
                reported: false,
            }),
        }
    }

    fn current(&self) -> Arc<C> {
        Arc::clone(&self.current.read())
    }

    fn has_files(&self) -> bool {
        !self.seen.lock().files.is_empty()
    }

    /// Uses the files if they have changed and can be used.
    fn look(&self) {
        let mut seen = self.seen.lock();
        let is_same = |file: &File| File::read(&file.path).is_ok_and(|now| now == *file);
        if seen.failure.is_none() && seen.files.iter().all(is_same) {
            return;
        }
        match (self.make)() {
            Ok(made) => {
                let changed = made.files != seen.files;
                if changed {
                    *self.current.write() = made.config;
                }
                if changed || seen.reported {
                    let files: Vec<_> = made.files.iter().map(|file| file.path.display().to_string()).collect();
                    tracing::warn!(
                        files = files.join(" "),
                        "TLS of {}: new connections use the changed files",
                        self.name
                    );
                }
                *seen = Seen {
                    files: made.files,
                    failure: None,
                    reported: false,
                };
            }
            Err(error) => {
                let failure = error.to_string();
                let again = seen.failure.as_ref() == Some(&failure);
                if again && !seen.reported {
                    tracing::error!("{failure}; TLS of {} continues with the files that it had before", self.name);
                }
                seen.reported = again;
                seen.failure = Some(failure);
            }
        }
    }
}

/// What servers accept: sessions with the current certificate.
pub struct Server(Followed<ServerConfig>);

impl Server {
    /// The current configuration. Take it for each connection: it changes when files change.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.current()
    }

    /// The current configuration with application protocols (ALPN), such as `h2`, the preferred one first.
    pub fn config_with_protocols(&self, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config());
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Acceptor for Server {
    fn accept(&self) -> io::Result<Box<dyn Session>> {
        session::accepting(self.config())
    }
}

/// What the ports of a process accept.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// Connections without TLS.
    Plain,
    /// Connections with and without TLS.
    Both(Arc<Server>),
    /// Connections with TLS.
    Encrypted(Arc<Server>),
}

/// How outgoing connections begin.
pub struct Client(Followed<ClientConfig>);

impl Client {
    /// The current configuration. Take it for each connection: it changes when files change.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.current()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Connector for Client {
    fn connect(&self, host: &str) -> io::Result<Box<dyn Session>> {
        session::connecting(self.config(), host)
    }
}

/// TLS of one process. Changed files are noticed until this is dropped.
#[derive(Debug)]
pub struct Tls {
    mode: TlsMode,
    server: Option<Arc<Server>>,
    client: Option<Arc<Client>>,
    /// Ends the thread.
    _end: Option<Sender<()>>,
}

impl Tls {
    /// Reads all files for servers and outgoing connections, and starts the thread that looks at them if there are any.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be used, if settings do not fit together, or if the mode is enforcing and there is no certificate.
    pub fn open(settings: &TlsSettings) -> Result<Self, TlsError> {
        let server = match settings.mode {
            TlsMode::Disabled => None,
            TlsMode::Permissive | TlsMode::Enforcing => open_server(settings)?,
        };
        if server.is_none() && settings.mode == TlsMode::Enforcing {
            let text = "tls.server.mode=enforcing and tls.test.mode.enable=false need tls.server.certPath and tls.server.keyPath";
            return Err(TlsError::Settings(text.to_owned()));
        }
        let client = open_client(settings)?;
        let end = follow(server.clone(), client.clone())?;
        Ok(Self {
            mode: settings.mode,
            server,
            client,
            _end: end,
        })
    }

    /// What the ports of the process accept.
    pub fn accepted(&self) -> Accepted {
        match (self.mode, &self.server) {
            (TlsMode::Disabled, _) | (_, None) => Accepted::Plain,
            (TlsMode::Permissive, Some(server)) => Accepted::Both(server.clone()),
            (TlsMode::Enforcing, Some(server)) => Accepted::Encrypted(server.clone()),
        }
    }

    /// How outgoing connections begin; `None` if they are plain.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref()
    }

    /// Both for `net`.
    pub fn transport(&self) -> Transport {
        Transport {
            encryption: match self.accepted() {
                Accepted::Plain => Encryption::Disabled,
                Accepted::Both(server) => Encryption::Permissive(server),
                Accepted::Encrypted(server) => Encryption::Enforcing(server),
            },
            connector: self.client.clone().map(|client| client as Arc<dyn Connector>),
        }
    }

    /// For outgoing connections of a program that does not run for long: files are read once.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be used.
    pub fn connector_once(settings: &TlsSettings) -> Result<Option<Arc<dyn Connector>>, TlsError> {
        Ok(open_client(settings)?.map(|client| client as Arc<dyn Connector>))
    }
}

fn open_server(settings: &TlsSettings) -> Result<Option<Arc<Server>>, TlsError> {
    let Some(made) = configs::server(settings)? else {
        return Ok(None);
    };
    let own = settings.clone();
    let make = move || configs::server(&own)?.ok_or_else(|| TlsError::Settings("no certificate".to_owned()));
    Ok(Some(Arc::new(Server(Followed::new("servers", made, make)))))
}

fn open_client(settings: &TlsSettings) -> Result<Option<Arc<Client>>, TlsError> {
    if !settings.is_outgoing() {
        return Ok(None);
    }
    let made = configs::client(settings)?;
    let own = settings.clone();
    let make = move || configs::client(&own);
    Ok(Some(Arc::new(Client(Followed::new("outgoing connections", made, make)))))
}

/// Starts the thread if there is a file to look at. Dropping the sender ends it.
fn follow(server: Option<Arc<Server>>, client: Option<Arc<Client>>) -> Result<Option<Sender<()>>, TlsError> {
    let server = server.filter(|server| server.0.has_files());
    let client = client.filter(|client| client.0.has_files());
    if server.is_none() && client.is_none() {
        return Ok(None);
    }
    let (end, ended) = channel();
    let run = move || look_until_the_end(&ended, server.as_deref(), client.as_deref());
    std::thread::Builder::new()
        .name("tls-files".to_owned())
        .spawn(run)
        .map_err(|error| TlsError::File {
            path: PathBuf::from("thread tls-files"),
            error,
        })?;
    Ok(Some(end))
}

fn look_until_the_end(ended: &Receiver<()>, server: Option<&Server>, client: Option<&Client>) {
    while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        if let Some(server) = server {
            server.0.look();
        }
        if let Some(client) = client {
            client.0.look();
        }
    }
}
