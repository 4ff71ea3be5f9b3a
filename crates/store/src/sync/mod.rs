//! Locks, atomics, threads, channels and the monotonic clock that threads of the store share state with.
//!
//! Usually these are `parking_lot`'s and the standard library's. With the feature `explore` they are `shuttle`'s, which runs all
//! threads of a test in an order of its choice, another one in each run (`tests/explore.rs`). Code that threads share takes them
//! from here. Not here: `Arc`, `OnceLock`, and locks of tests.

mod broken;

#[cfg(not(feature = "explore"))]
pub(crate) use broken::Broken;
#[cfg(feature = "explore")]
pub use broken::{Broken, break_order};
pub(crate) use broken::{is_broken, linger};

#[cfg(not(feature = "explore"))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::{atomic, mpsc};
    pub(crate) use std::thread::{self, JoinHandle};
    pub(crate) use std::time::Instant;
}

#[cfg(not(feature = "explore"))]
pub(crate) use real::*;

#[cfg(feature = "explore")]
mod explored;

#[cfg(feature = "explore")]
pub(crate) use explored::*;
