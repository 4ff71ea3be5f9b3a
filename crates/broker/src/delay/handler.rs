//! Code 45.

use super::{DelayOffsets, table};
use crate::offset::table::Layout;
use crate::reply::{Answer, Outcome};

/// Code 45: how far each level has been delivered, as a slave copies it.
///
/// # Errors
/// None.
pub fn all(offsets: &DelayOffsets) -> Outcome {
    Ok(Answer::body(table::text(offsets.all(), Layout::Body)))
}
