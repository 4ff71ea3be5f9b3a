//! Whether this broker is a master or a slave, and whether a master may take messages. Under a controller a broker gets another role by a start
//! in its process (`crate::controlled`).

use replication::now_ms;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use store::AppendError;

/// The role, which every part of the broker may ask for at any time.
#[derive(Debug)]
pub struct Role {
    is_slave: AtomicBool,
    /// A slave that acts for its master, which is gone.
    acts: AtomicBool,
    /// It also delivers for it, through other brokers.
    delivers: AtomicBool,
    /// Until when this master may take messages, on the clock of [`now_ms`]; `i64::MAX` without a controller.
    lease_until: AtomicI64,
    /// When this slave last passed a request on to its master, on the clock of [`now_ms`].
    passed_on_at: AtomicI64,
}

impl Role {
    /// A slave or a master.
    #[must_use]
    pub fn new(is_slave: bool) -> Self {
        Self {
            is_slave: AtomicBool::new(is_slave),
            acts: AtomicBool::new(false),
            delivers: AtomicBool::new(false),
            lease_until: AtomicI64::new(i64::MAX),
            passed_on_at: AtomicI64::new(i64::MIN),
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

    /// A request of a client that takes this slave for the master is passed on.
    pub fn passes_on(&self) {
        self.passed_on_at.store(now_ms(), Ordering::Relaxed);
    }

    /// When that last happened, on the clock of [`now_ms`]; long ago if it never did.
    #[must_use]
    pub fn passed_on_at(&self) -> i64 {
        self.passed_on_at.load(Ordering::Relaxed)
    }

    /// This master may take messages until then, on the clock of [`now_ms`]: the controller elects no other one before.
    pub fn set_lease(&self, until_ms: i64) {
        self.lease_until.store(until_ms, Ordering::Release);
    }

    /// This master takes no more messages, because it is to stop and has asked for another one.
    pub fn give_up(&self) {
        self.set_lease(i64::MIN);
    }

    /// Whether it has.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.lease_until.load(Ordering::Acquire) == i64::MIN
    }

    /// Whether this is a master that may be one no more: no controller has confirmed it in time.
    #[must_use]
    pub fn has_lost_lease(&self) -> bool {
        let until = self.lease_until.load(Ordering::Acquire);
        until != i64::MAX && now_ms() >= until
    }

    /// # Errors
    /// `AppendError::NotWritable` on a slave, and on a master that no controller has confirmed in time.
    pub fn check_master(&self) -> Result<(), AppendError> {
        if self.is_slave() {
            return Err(AppendError::NotWritable(
                "this broker is a slave, whose log is a copy of its master's; send to the master".to_owned(),
            ));
        }
        if self.has_lost_lease() {
            return Err(AppendError::NotWritable(
                "no controller has confirmed this master in time (controllerHeartBeatTimeoutMills), another one may be elected; try again"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}
