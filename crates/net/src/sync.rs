//! The primitives that [`crate::outbox`], [`crate::intake`] and [`crate::jobs`] are built of, so that `tests/interleavings/main.rs` can compile those files
//! over those of a scheduler that explores interleavings.

pub(crate) use parking_lot::{Condvar, Mutex};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Weak};
pub(crate) use std::thread;
