//! The primitives that [`crate::hold`] is built of, so that `tests/interleavings.rs` can compile that file over those of a scheduler
//! that explores interleavings.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
