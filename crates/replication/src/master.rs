//! The master's side: the port to which slaves connect, and the list of those that are connected.

use crate::acks::Acks;
use crate::epochs::EpochFile;
use crate::link::{Link, follow};
use parking_lot::{Mutex, RwLock};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::Store;

/// What a master serves its slaves by.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// Where slaves connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Maximum silence of the master: then it sends a heartbeat.
    pub heartbeat: Duration,
    /// A slave that says nothing, or takes nothing, for so long is disconnected.
    pub housekeeping: Duration,
    /// Maximum bytes of the log behind one header.
    pub block_bytes: usize,
    /// Maximum connections. One more is closed.
    pub max_slaves: usize,
    /// A slave counts as in sync while less than so many bytes are missing.
    pub max_gap: i64,
    /// Under a controller: what this broker is there. The acknowledgements have an in-sync set then ([`Acks::begin`]).
    pub member: Option<Member>,
}

/// A broker under a controller.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub id: i64,
    /// The epochs of its log.
    pub epochs: Arc<EpochFile>,
}

/// A connected slave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlaveState {
    /// Its address.
    pub addr: SocketAddr,
    /// Its broker id, under a controller.
    pub id: Option<i64>,
    /// The log offset up to which it has acknowledged.
    pub acknowledged: i64,
    /// The log offset up to which the log was sent.
    pub sent: i64,
    /// Bytes that were sent in the last second.
    pub bytes_per_second: i64,
    /// Whether less than [`MasterOptions::max_gap`] bytes are missing; under a controller, whether it is in the in-sync set.
    pub in_sync: bool,
}

/// Serves slaves until it is stopped. Threads: `ha-accept`, and two for each slave.
#[derive(Debug)]
pub struct Master {
    shared: Arc<Shared>,
    addr: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

/// What the threads of all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) acks: Arc<Acks>,
    pub(crate) options: MasterOptions,
    /// The highest log offset up to which the log was sent to any slave: no slave can have more.
    pub(crate) sent: std::sync::atomic::AtomicI64,
    following: Arc<Following>,
    connections: Mutex<Connections>,
    stopping: AtomicBool,
    next_id: AtomicU64,
}

/// The slaves to which the log is sent. Apart from the rest, so that the store can wake them without owning itself.
#[derive(Debug, Default)]
struct Following {
    links: RwLock<Vec<Arc<Link>>>,
    /// Their number: a write without slaves costs no more than a look at it.
    count: AtomicUsize,
}

impl Following {
    /// Wakes the threads that wait for something to send.
    fn wake(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.links.read().iter().for_each(|link| link.wake());
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Link>>)) {
        let mut links = self.links.write();
        change(&mut links);
        self.count.store(links.len(), Ordering::Relaxed);
    }
}

/// All connections by number, also those that have not asked for an offset yet.
#[derive(Debug, Default)]
struct Connections(Vec<(u64, TcpStream, Option<JoinHandle<()>>)>);

impl Master {
    /// Opens the port. Slaves get what is written from now on, and what they lack. The store has one master at most.
    ///
    /// # Errors
    /// [`io::Error`] if the port cannot be opened, or no thread can be started.
    pub fn start(store: Arc<Store>, acks: Arc<Acks>, options: MasterOptions) -> io::Result<Self> {
        let listener = listen(options.listen)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            store,
            acks,
            options,
            sent: std::sync::atomic::AtomicI64::new(i64::MIN),
            following: Arc::default(),
            connections: Mutex::default(),
            stopping: AtomicBool::new(false),
            next_id: AtomicU64::new(0),
        });
        let (following, acks, store) = (
            Arc::clone(&shared.following),
            Arc::clone(&shared.acks),
            Arc::downgrade(&shared.store),
        );
        let is_member = shared.options.member.is_some();
        shared.store.set_on_written(move || {
            following.wake();
            if is_member && let Some(store) = store.upgrade() {
                acks.written(&store);
            }
        });
        // What was written before.
        shared.acks.change(&shared.store, |_| ());
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("ha-accept".to_owned())
                .spawn(move || accept(&shared, &listener))?
        };
        Ok(Self {
            shared,
            addr,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The slaves to which the log is sent.
    #[must_use]
    pub fn slaves(&self) -> Vec<SlaveState> {
        let end = self.shared.store.written().0;
        let now = Instant::now();
        let members = self.shared.acks.look(|set| set.members().ids.clone());
        let following = self.shared.following.links.read();
        let state = |link: &Arc<Link>| {
            let mut state = link.state(end, self.shared.options.max_gap, now);
            if let (Some(id), Some(members)) = (state.id, &members) {
                state.in_sync = members.contains(&id);
            }
            state
        };
        following.iter().map(state).collect()
    }

    /// Closes the port and the connections, and ends the threads.
    pub fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.shared.stopping.store(true, Ordering::Release);
        // The thread waits for a connection. If this one fails, the port has no room for it, and the thread is about to take another.
        let mut own = self.addr;
        if own.ip().is_unspecified() {
            own.set_ip(match own {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let _ = TcpStream::connect_timeout(&own, Duration::from_secs(1));
        let _ = accepting.join();
        let mut all = std::mem::take(&mut *self.shared.connections.lock());
        all.0
            .iter()
            .for_each(|(_, stream, _)| drop(stream.shutdown(std::net::Shutdown::Both)));
        self.shared.following.wake();
        for thread in all.0.iter_mut().filter_map(|(_, _, thread)| thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    pub(crate) fn add(&self, link: &Arc<Link>) {
        self.following.change(|links| links.push(Arc::clone(link)));
    }

    pub(crate) fn remove(&self, link: &Link) {
        self.following.change(|links| links.retain(|other| other.id != link.id));
        match link.peer {
            Some(peer) => drop(self.acks.change(&self.store, |set| set.disconnect(peer, link.id, now_ms()))),
            None => self.acks.forget(link.id),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Serves a connection on a thread of its own.
    fn open(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr) -> io::Result<()> {
        let mut connections = self.connections.lock();
        if connections.0.len() >= self.options.max_slaves {
            tracing::warn!(
                slave = %addr,
                limit = self.options.max_slaves,
                "closed a connection for replication: there are as many as apogeeMaxSlaves allows"
            );
            return Ok(());
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let closer = stream.try_clone()?;
        let shared = Arc::clone(self);
        connections.0.push((id, closer, None));
        let thread = std::thread::Builder::new().name("ha-acks".to_owned()).spawn(move || {
            follow(&shared, id, stream, addr);
            shared.connections.lock().0.retain(|(other, _, _)| *other != id);
        });
        match thread {
            Ok(thread) => {
                if let Some(opened) = connections.0.last_mut() {
                    opened.2 = Some(thread);
                }
                Ok(())
            }
            Err(error) => {
                connections.0.pop();
                Err(error)
            }
        }
    }
}

/// The clock of in-sync sets, in milliseconds: it goes on while the process is stopped, and no operator sets it.
#[must_use]
pub fn now_ms() -> i64 {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed().as_millis() as i64
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            return;
        }
        if let Err(error) = accepted.and_then(|(stream, addr)| shared.open(stream, addr)) {
            tracing::warn!(%error, "a slave could not connect");
            // Without descriptors or threads the next attempt fails, too.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
