//! The look for silent brokers, every `scanNotActiveBrokerInterval`. Sleeps without a timer while no broker is registered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};

use parking_lot::Mutex;

use crate::NameServer;

/// Wakes the scan when the first broker comes.
#[derive(Default)]
pub(crate) struct ScanBell {
    sleeper: Mutex<Option<Thread>>,
}

impl ScanBell {
    pub(crate) fn ring(&self) {
        if let Some(thread) = self.sleeper.lock().as_ref() {
            thread.unpark();
        }
    }
}

/// A running scan. Dropping it ends it.
pub struct Scan {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(names: Arc<NameServer>) -> std::io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = std::thread::Builder::new()
            .name("namesrv-scan".to_owned())
            .spawn(move || scan(&names, &until))?;
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

fn scan(names: &NameServer, ended: &AtomicBool) {
    let interval = names.settings.current().scan_not_active_broker_interval;
    *names.scan_bell.sleeper.lock() = Some(std::thread::current());
    while !ended.load(Ordering::Acquire) {
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
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the scan for silent brokers had panicked");
            }
        }
    }
}
