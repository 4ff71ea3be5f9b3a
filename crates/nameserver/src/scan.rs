//! Periodic scan for expired brokers, every `scanNotActiveBrokerInterval`. Sleeps without a timer while no broker is registered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};

use parking_lot::Mutex;

use crate::NameServer;

/// Wakes the scan when the first broker registers.
#[derive(Default)]
pub(crate) struct ScanWaker {
    thread: Mutex<Option<Thread>>,
}

impl ScanWaker {
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.lock().as_ref() {
            thread.unpark();
        }
    }
}

/// A running scan. Stops when dropped.
pub struct Scan {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// Starts the thread.
    ///
    /// # Errors
    /// `io::Error` if the thread cannot be started.
    pub fn start(names: Arc<NameServer>) -> std::io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = std::thread::Builder::new()
            .name("namesrv-scan".to_owned())
            .spawn(move || scan(&names, &stop))?;
        Ok(Self {
            stopped,
            thread: Some(thread),
        })
    }
}

fn scan(names: &NameServer, stopped: &AtomicBool) {
    let interval = names.settings.current().scan_not_active_broker_interval;
    *names.scan_waker.thread.lock() = Some(std::thread::current());
    while !stopped.load(Ordering::Acquire) {
        if names.live_brokers() == 0 {
            std::thread::park();
        } else {
            std::thread::park_timeout(interval);
        }
        names.tick(names.now_ms());
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that scans for expired brokers has panicked");
            }
        }
    }
}
