//! The primitives of [`crate::hold`], of the topic table and of the keys of [`crate::dedup`], so that `tests/interleavings.rs` can compile
//! those files with the primitives of a scheduler that explores interleavings.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Waits for a notification; may return without one.
pub(crate) fn wait<'a, T>(on: &Condvar, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    on.wait(&mut guard);
    guard
}
