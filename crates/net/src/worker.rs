//! A worker: one thread with one runtime, its connections, and the coarse scan that finds idle connections and time-outs.

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
use crate::gate::Gate;
use crate::{Connection, Limits};

/// Tasks run between two polls of the sockets, so that a few busy connections do not delay the others for long.
const TASKS_PER_POLL: u32 = 16;
/// Maximum time between two checks for idle connections and late frames.
const IDLE_SCAN: Duration = Duration::from_secs(30);
/// Minimum time between two scans.
const SHORTEST_SCAN: Duration = Duration::from_millis(10);
/// How often our own requests are checked for time-outs while some are in flight.
const ANSWER_SCAN: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    handle: Handle,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    open: AtomicUsize,
    /// Number of connections with requests left for their next turn.
    waiting: AtomicUsize,
    /// Some connection has requests of ours in flight: scan often.
    expecting: AtomicBool,
    /// Wakes a scan that sleeps for long.
    wake_scan: Notify,
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
            wake_scan: Notify::new(),
        };
        Ok((Arc::new(worker), runtime))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.handle.spawn(task).abort_handle()
    }

    /// Number of connections and accepted streams of this worker.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a stream that was accepted for this worker.
    pub(crate) fn announce(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends what [`Self::announce`] counted.
    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a connection has requests left for its next turn, or no longer has.
    pub(crate) fn wait_for_turn(&self, waits: bool) {
        if waits {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Number of connections with requests left for their next turn.
    pub(crate) fn waiting_for_turn(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, conn: &Arc<Connection>) {
        let mut connections = self.connections.lock();
        connections.insert(conn.id(), Arc::clone(conn));
        let first = connections.len() == 1;
        drop(connections);
        if first {
            self.wake_scan.notify_one();
        }
    }

    pub(crate) fn remove(&self, conn: &Connection) {
        self.connections.lock().remove(&conn.id());
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<Connection>> {
        self.connections.lock().get(&id).cloned()
    }

    /// All connections, for callers that must not hold the lock.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().values().cloned().collect()
    }

    /// Notes that a request of ours was sent on one of the connections.
    pub(crate) fn expect_answers(&self) {
        if !self.expecting.swap(true, Ordering::AcqRel) {
            self.wake_scan.notify_one();
        }
    }

    /// Scans without end. Sleeps without a timer while there are no connections.
    pub(crate) async fn scan(self: Arc<Self>, limits: Arc<Limits>) {
        let idle_scan = [limits.idle_timeout, limits.frame_timeout]
            .into_iter()
            .filter(|timeout| !timeout.is_zero())
            .fold(IDLE_SCAN, |least, timeout| least.min(timeout / 4))
            .max(SHORTEST_SCAN);
        loop {
            if self.connections.lock().is_empty() {
                self.wake_scan.notified().await;
                continue;
            }
            let pause = if self.expecting.load(Ordering::Acquire) {
                ANSWER_SCAN.min(idle_scan)
            } else {
                idle_scan
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake_scan.notified() => continue,
            }
            self.scan_once(&limits);
        }
    }

    fn scan_once(&self, limits: &Limits) {
        let now_ms = uptime_ms();
        let [idle_ms, frame_ms] = [limits.idle_timeout, limits.frame_timeout].map(millis);
        // Before the scan, so that a request sent meanwhile causes another one.
        self.expecting.store(false, Ordering::Release);
        let mut expecting = false;
        for conn in self.connections() {
            conn.requests().sweep(now_ms);
            expecting |= conn.requests().len() > 0;
            if idle_ms > 0 && now_ms.saturating_sub(conn.last_read_ms()) > idle_ms {
                tracing::info!(peer = %conn.peer(), idle_ms, "closing an idle connection");
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
        tracing::warn!(peer = %conn.peer(), age_ms, others, "closing a connection whose frame was not complete in time");
    }
}
