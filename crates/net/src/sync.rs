//! The primitives that [`crate::outbox`] and [`crate::jobs`] are built of, so that `tests/interleavings.rs` can compile those files
//! over those of a scheduler that explores interleavings.

pub(crate) use parking_lot::{Condvar, Mutex};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Weak};
pub(crate) use std::thread;
