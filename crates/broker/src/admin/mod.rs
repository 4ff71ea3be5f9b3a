//! What operators ask of the broker itself: its settings (25, 26), its state (28, 907), cleaning (306, 316, 329), entries of a
//! queue (321), who consumes what (300, 303, 343, 345); and what it asks of consumers on their behalf (307, 309, 223).
//!
//! What operators ask of a feature is with the feature: topics (17 …) in `topic/`, groups in `group/`, and so on.

pub mod clean;
pub mod config;
pub mod consumer;
pub mod consumption;
pub mod entries;
pub mod state;
