//! The primitives that [`crate::hold`] and the table of topics are built of, so that `tests/interleavings.rs` can compile those files
//! over those of a scheduler that explores interleavings.

pub(crate) use parking_lot::{Mutex, RwLock};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
