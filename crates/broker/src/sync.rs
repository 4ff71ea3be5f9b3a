//! The primitives of [`crate::hold`] and of the topic table, so that `tests/interleavings.rs` can compile those files with the
//! primitives of a scheduler that explores interleavings.

pub(crate) use parking_lot::{Mutex, RwLock};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
