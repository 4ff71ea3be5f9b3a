//! Whether this broker is a master or a slave. It is set at the start; a controller will change it.

use std::sync::atomic::{AtomicBool, Ordering};
use store::AppendError;

/// The role, which every part of the broker may ask for at any time.
#[derive(Debug)]
pub struct Role {
    is_slave: AtomicBool,
    /// A slave that acts for its master, which is gone.
    acts: AtomicBool,
    /// It also delivers for it, through other brokers.
    delivers: AtomicBool,
}

impl Role {
    /// A slave or a master.
    #[must_use]
    pub fn new(is_slave: bool) -> Self {
        Self {
            is_slave: AtomicBool::new(is_slave),
            acts: AtomicBool::new(false),
            delivers: AtomicBool::new(false),
        }
    }

    /// Whether it is a slave that acts for its master: it serves reads and takes offsets (`acting`).
    #[must_use]
    pub fn acts(&self) -> bool {
        self.acts.load(Ordering::Relaxed)
    }

    /// Whether it acts for its master and delivers for it through other brokers (`escape`).
    #[must_use]
    pub fn delivers(&self) -> bool {
        self.delivers.load(Ordering::Relaxed)
    }

    /// It begins to act for its master, or ends to.
    pub fn set_acts(&self, acts: bool) {
        self.acts.store(acts, Ordering::Relaxed);
    }

    /// It begins to deliver for its master, or ends to.
    pub fn set_delivers(&self, delivers: bool) {
        self.delivers.store(delivers, Ordering::Relaxed);
    }

    /// Whether the log is copied from a master: nothing else may be appended.
    #[must_use]
    pub fn is_slave(&self) -> bool {
        self.is_slave.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `AppendError::NotWritable` on a slave.
    pub fn check_master(&self) -> Result<(), AppendError> {
        if self.is_slave() {
            return Err(AppendError::NotWritable(
                "this broker is a slave, whose log is a copy of its master's; send to the master".to_owned(),
            ));
        }
        Ok(())
    }
}
