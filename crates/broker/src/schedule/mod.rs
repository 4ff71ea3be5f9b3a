//! The schedule topic: its queues and the properties of its messages. [`crate::delay`] delivers from it.

mod levels;
mod properties;

pub use levels::{Levels, LevelsText, delay_levels};
pub use properties::{delivered_properties, level_of, level_of_queue, queue_of, waiting_properties};
