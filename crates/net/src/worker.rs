//! A worker: one thread with one runtime, its connections, and the coarse scan over them.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

use crate::clock::{millis, uptime_ms};
use crate::quiet::Gate;
use crate::{Connection, Limits};

/// Tasks run between two looks at the sockets, so that a few busy connections cannot hide the others for long.
const TASKS_PER_POLL: u32 = 16;
/// How often connections are checked for silence, and for frames that take too long, at least.
const IDLE_SCAN: Duration = Duration::from_secs(30);
/// No scan is followed by another one before this.
const SHORTEST_SCAN: Duration = Duration::from_millis(10);
/// How often our own requests are checked for time-outs, while there are any.
const ANSWER_SCAN: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    handle: Handle,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    open: AtomicUsize,
    /// Connections with requests left over for their next turn.
    waiting: AtomicUsize,
    /// Some connection waits for an answer: scan often.
    expecting: AtomicBool,
    /// Wakes a scan that sleeps for long.
    hurry: Notify,
}

impl Worker {
    pub(crate) fn new() -> io::Result<(Arc<Self>, Runtime)> {
        let runtime = Builder::new_current_thread().enable_all().event_interval(TASKS_PER_POLL).build()?;
        let worker = Self {
            handle: runtime.handle().clone(),
            connections: Mutex::default(),
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            expecting: AtomicBool::new(false),
            hurry: Notify::new(),
        };
        Ok((Arc::new(worker), runtime))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.handle.spawn(task).abort_handle()
    }

    /// Connections here, also those still on their way.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A connection is on its way here.
    pub(crate) fn announce(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that was announced is gone.
    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection has requests left over for its next turn, or has them no more.
    pub(crate) fn wait_for_turn(&self, waits: bool) {
        if waits {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Connections with requests left over.
    pub(crate) fn waiting_for_turn(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, conn: &Arc<Connection>) {
        let mut connections = self.connections.lock();
        connections.insert(conn.id(), Arc::clone(conn));
        let first = connections.len() == 1;
        drop(connections);
        if first {
            self.hurry.notify_one();
        }
    }

    pub(crate) fn remove(&self, conn: &Connection) {
        self.connections.lock().remove(&conn.id());
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<Connection>> {
        self.connections.lock().get(&id).cloned()
    }

    /// All connections, for calls that must not hold the lock.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().values().cloned().collect()
    }

    /// A request of ours was sent on one of the connections.
    pub(crate) fn expect_answers(&self) {
        if !self.expecting.swap(true, Ordering::AcqRel) {
            self.hurry.notify_one();
        }
    }

    /// Looks for silence and time-outs for ever. Sleeps without a timer while there are no connections.
    pub(crate) async fn scan(self: Arc<Self>, limits: Arc<Limits>) {
        let idle_scan = [limits.idle_timeout, limits.frame_timeout]
            .into_iter()
            .filter(|timeout| !timeout.is_zero())
            .fold(IDLE_SCAN, |least, timeout| least.min(timeout / 4))
            .max(SHORTEST_SCAN);
        loop {
            if self.connections.lock().is_empty() {
                self.hurry.notified().await;
                continue;
            }
            let pause = if self.expecting.load(Ordering::Acquire) {
                ANSWER_SCAN.min(idle_scan)
            } else {
                idle_scan
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.hurry.notified() => continue,
            }
            self.scan_once(&limits);
        }
    }

    fn scan_once(&self, limits: &Limits) {
        let now_ms = uptime_ms();
        let [idle_ms, frame_ms] = [limits.idle_timeout, limits.frame_timeout].map(millis);
        // Before the look, so that a request sent meanwhile asks for a scan of its own.
        self.expecting.store(false, Ordering::Release);
        let mut expecting = false;
        for conn in self.connections() {
            conn.requests().sweep(now_ms);
            expecting |= conn.requests().len() > 0;
            if idle_ms > 0 && now_ms.saturating_sub(conn.last_read_ms()) > idle_ms {
                tracing::info!(peer = %conn.peer(), idle_ms, "closing a silent connection");
                conn.close();
            } else if let Some(age_ms) = conn.partial().age_ms(now_ms).filter(|age_ms| frame_ms > 0 && *age_ms > frame_ms) {
                warn_late(&conn, age_ms);
                conn.close();
            }
        }
        if expecting {
            self.expecting.store(true, Ordering::Release);
        }
    }
}

fn warn_late(conn: &Connection, age_ms: u64) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(peer = %conn.peer(), age_ms, others, "closing a connection whose frame is not complete in time");
    }
}
