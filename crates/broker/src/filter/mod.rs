//! Which messages a subscription selects.
//!
//! | Kind | Compared with | Module |
//! |---|---|---|
//! | tags | the tag's hash in the queue entry | [`tags`] |
//! | SQL92 expression | the properties in the record | [`sql`] |
//!
//! Not here: how a pull reads (`pull/`).

pub mod sql;
pub mod tags;

pub use sql::{Expression, SqlLimits, Verdict};
pub use tags::{MAX_TAGS, TagFilter};
