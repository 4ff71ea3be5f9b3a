//! A server: listeners, worker threads, and a clean shutdown.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::arrival::{Slot, arrive};
use crate::budget::Budget;
use crate::clock::uptime;
use crate::gate::Gate;
use crate::intake::Intake;
use crate::listen::bind;
use crate::relief::{close_slow_readers, close_slow_senders};
use crate::session::Encryption;
use crate::worker::Worker;
use crate::{Connection, Limits, Service};

/// Pause after a failed accept that will fail again at once (no descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often `drain` checks whether everything is written.
const STOP_POLL: Duration = Duration::from_millis(2);
/// Time for tasks of closed connections to end.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads are called `name-0`, `name-1` …; Linux shows 15 bytes of it.
    pub name: String,
    /// Where to listen; the index of an address is [`Connection::listener`]. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Worker threads, see [`worker_threads`].
    pub workers: usize,
    /// Limits.
    pub limits: Limits,
    /// What becomes of streams that begin with a TLS handshake, and of others.
    pub encryption: Encryption,
}

/// Returns the number of threads of a setting. Zero means one for every two processors: the kernel's network code, the disk and the
/// background threads use the others, and a thread that is awake serves another connection at half the cost of waking a second thread.
///
/// # Errors
/// `io::Error` if the system does not say how many processors there are.
pub fn worker_threads(asked: usize) -> io::Result<usize> {
    match asked {
        0 => Ok(std::thread::available_parallelism()?.get().div_ceil(2)),
        asked => Ok(asked),
    }
}

/// Result of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOutcome {
    /// Connections that were closed before all their replies were written.
    pub cut: usize,
}

/// State that the tasks of a server share.
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) encryption: Encryption,
    /// Unread bytes of all connections.
    pub(crate) budget: Arc<Budget>,
    /// Memory of incomplete frames of all connections.
    pub(crate) intake: Arc<Intake>,
    pub(crate) workers: Vec<Arc<Worker>>,
    /// Accepted streams that are not closed yet.
    pub(crate) open: AtomicUsize,
    /// The server drains: connections get no more requests.
    pub(crate) draining: AtomicBool,
    /// Ends streams that are no connection yet when the server drains.
    pub(crate) drain: Notify,
}

/// A running server. Dropping it stops it without writing what is queued.
pub struct Server {
    shared: Arc<Shared>,
    local_addrs: Vec<SocketAddr>,
    acceptors: Vec<AbortHandle>,
    threads: Mutex<Vec<(oneshot::Sender<Infallible>, JoinHandle<()>)>>,
}

impl Server {
    /// Binds all addresses, starts the threads and accepts connections. Does not wait for anything else.
    ///
    /// # Errors
    /// `io::Error` if an address cannot be bound (the text has the address) or a thread cannot be started; nothing is left running.
    pub fn start(options: Options, service: Arc<dyn Service>) -> io::Result<Self> {
        let listeners = options.listen.iter().map(|address| bind(*address));
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        Self::start_at(listeners, options, service)
    }

    /// As [`Self::start`], at sockets for the addresses of the options, in their order, that listen already.
    ///
    /// # Errors
    /// `io::Error` if a thread cannot be started.
    pub fn start_at(listeners: Vec<TcpListener>, options: Options, service: Arc<dyn Service>) -> io::Result<Self> {
        let local_addrs = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let (workers, runtimes): (Vec<_>, Vec<_>) = (0..worker_threads(options.workers)?)
            .map(|_| Worker::new())
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let shared = Arc::new(Shared {
            service,
            budget: Arc::new(Budget::new(options.limits.outbox_total_bytes)),
            intake: Arc::new(Intake::new(options.limits.inbound_total_bytes, options.limits.max_frame_bytes)),
            limits: Arc::new(options.limits),
            encryption: options.encryption,
            workers,
            open: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            drain: Notify::new(),
        });
        let mut server = Self {
            shared,
            local_addrs,
            acceptors: Vec::new(),
            threads: Mutex::default(),
        };
        for (index, runtime) in runtimes.into_iter().enumerate() {
            let thread = spawn_worker(format!("{}-{index}", options.name), runtime)?;
            server.threads.lock().push(thread);
        }
        server.begin(listeners);
        Ok(server)
    }

    fn begin(&mut self, listeners: Vec<TcpListener>) {
        for worker in &self.shared.workers {
            worker.spawn(Arc::clone(worker).scan(Arc::clone(&self.shared.limits)));
        }
        if let Some(worker) = self.shared.workers.first() {
            worker.spawn(close_slow_readers(Arc::downgrade(&self.shared)));
            worker.spawn(close_slow_senders(Arc::downgrade(&self.shared)));
        }
        for (index, listener) in listeners.into_iter().enumerate() {
            let worker = &self.shared.workers[index % self.shared.workers.len()];
            self.acceptors
                .push(worker.spawn(accept_all(Arc::clone(&self.shared), listener, index)));
        }
    }

    /// The bound addresses, in the order of [`Options::listen`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Unread bytes: those that sockets did not take.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.budget.charged_bytes()
    }

    /// Bytes of incomplete frames and handshakes, as [`Limits::inbound_total_bytes`] counts them, without the reserve.
    pub fn inbound_bytes(&self) -> usize {
        self.shared.intake.charged_bytes()
    }

    /// The limits of this server.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.shared.limits
    }

    /// Closes the connection with this id. Returns whether there was one.
    pub fn close(&self, id: u64) -> bool {
        let found = self.shared.workers.iter().find_map(|worker| worker.find(id));
        found.inspect(|conn| conn.close()).is_some()
    }

    /// Stops accepting connections. Open ones stay open.
    pub fn stop_accepting(&self) {
        for acceptor in &self.acceptors {
            acceptor.abort();
        }
    }

    /// Stops accepting and reading, waits until all queued responses and all announced ones ([`Connection::owe`]) are written, but at most
    /// for `patience`, then closes all connections. A `serve` in progress ends first. Requests that were read and not served are dropped
    /// without a response. When this returns, no request is being served and nothing is sent any more. Blocks; must not be called on a
    /// worker thread.
    ///
    /// The service answers its parked requests before it calls this.
    pub fn drain(&self, patience: Duration) -> StopOutcome {
        self.stop_accepting();
        // A stream that becomes a connection meanwhile is in the workers' lists below, or sees this.
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.drain.notify_waiters();
        self.each(Connection::drain);
        self.wait_closed(patience);
        let cut = self.connections();
        if cut > 0 {
            self.each(Connection::close);
            self.wait_closed(STOP_GRACE);
        }
        StopOutcome { cut }
    }

    /// Drains the server and ends its threads. Blocks; must not be called on a worker thread.
    pub fn stop(&self, patience: Duration) -> StopOutcome {
        let outcome = self.drain(patience);
        self.end_threads();
        outcome
    }

    fn each(&self, act: fn(&Connection)) {
        for conn in self.shared.workers.iter().flat_map(|worker| worker.connections()) {
            act(&conn);
        }
    }

    fn wait_closed(&self, patience: Duration) {
        let deadline = uptime().saturating_add(patience);
        while self.connections() > 0 && uptime() < deadline {
            std::thread::sleep(STOP_POLL);
        }
    }

    fn end_threads(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for (end, thread) in threads {
            drop(end);
            if thread.join().is_err() {
                tracing::error!("a network thread had panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting();
        self.end_threads();
    }
}

fn spawn_worker(name: String, runtime: Runtime) -> io::Result<(oneshot::Sender<Infallible>, JoinHandle<()>)> {
    let (end, ended) = oneshot::channel::<Infallible>();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // Nothing is ever sent; dropping the sender ends the wait.
        drop(runtime.block_on(ended));
        // Dropping the runtime drops its tasks, which closes their connections.
        drop(runtime);
    })?;
    Ok((end, thread))
}

async fn accept_all(shared: Arc<Shared>, listener: TcpListener, index: usize) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot wait for connections"),
    };
    loop {
        // Deregistered from this thread's poller: the worker that serves the stream registers it with its own.
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => admit(&shared, stream, peer, index),
            Err(error) if exhausted(&error) => {
                warn_accept(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The connection was closed before it was accepted.
            Err(_) => {}
        }
    }
}

/// Whether an error of `accept` concerns the process or the system (descriptors, memory) and not just one connection.
fn exhausted(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

/// Passes an accepted stream to the worker with the fewest connections, or closes it if there are too many.
fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, index: usize) {
    if shared.open.load(Ordering::Relaxed) >= shared.limits.max_connections {
        return warn_full(peer, shared.limits.max_connections);
    }
    let Some(worker) = shared.workers.iter().min_by_key(|worker| worker.open()) else {
        return;
    };
    let slot = Slot::take(shared, worker);
    worker.spawn(arrive(slot, stream, peer, index));
}

fn warn_full(peer: SocketAddr, max_connections: usize) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(%peer, max_connections, others, "refusing a connection: max_connections are open");
    }
}

fn warn_accept(error: &io::Error) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(%error, others, "cannot accept connections");
    }
}
