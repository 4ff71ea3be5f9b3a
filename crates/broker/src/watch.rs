//! Watches for a violated invariant of the store, after which nothing in memory can be trusted: the broker has to stop.

use crate::feature::{self, Feature, Work};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::Store;

/// How often the store is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub struct StoreWatch {
    store: Arc<Store>,
    stop: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl StoreWatch {
    /// Watches this store.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            stop: OnceLock::new(),
        }
    }

    /// `stop` is called once when an invariant was violated. It must not block; the first one given counts.
    pub fn call_when_broken(&self, stop: impl Fn() + Send + Sync + 'static) {
        let _ = self.stop.set(Box::new(stop));
    }
}

impl Feature for StoreWatch {
    fn run(self: Arc<Self>) -> Work {
        let mut is_told = false;
        Box::pin(feature::every(ASK_EVERY, move |_| {
            if is_told || !self.store.has_broken_invariant() {
                return;
            }
            let Some(stop) = self.stop.get() else { return };
            is_told = true;
            tracing::error!(
                "a bug: an invariant of the store is violated (the panic logged before names it). The broker stops; what was \
                 acknowledged is in the log, and the next start recovers it. Please report the panic"
            );
            stop();
        }))
    }
}
