//! The primitives that [`crate::outbox`] is built of, so that `tests/interleavings.rs` can compile that file over those of a
//! scheduler that explores interleavings.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
