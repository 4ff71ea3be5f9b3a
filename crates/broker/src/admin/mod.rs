//! Admin requests about the broker itself: settings (25, 26), state (28, 907), cleanup (306, 316, 329), queue entries (321),
//! consumption (300, 303, 343, 345), and requests forwarded to consumers (307, 309, 223).
//!
//! Admin requests about a feature are in its module: topics (17 …) in `topic/`, groups in `group/`, and so on.

pub mod clean;
pub mod config;
pub mod consumer;
pub mod consumption;
pub mod entries;
pub mod state;
