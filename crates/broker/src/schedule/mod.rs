//! The schedule topic: what its queues and the properties of its messages mean. What delivers from it is [`crate::delay`].

mod levels;
mod properties;

pub use levels::{Levels, LevelsText, delay_levels};
pub use properties::{delivered_properties, level_of, level_of_queue, queue_of, waiting_properties};
