//! Which messages a subscription selects.
//!
//! | Kind | Compared with | Module |
//! |---|---|---|
//! | tags | the tag's hash in the queue entry | [`tags`] |
//! | SQL92 expression | the properties in the record | [`sql`] |
//!
//! Expressions that consumer groups told in heartbeats are compiled and kept in [`registered`], and saved as Apache's broker saves them
//! ([`table`]). Not here: how a pull reads (`pull/`).

pub mod registered;
pub mod sql;
pub mod table;
pub mod tags;

pub use registered::{FilterLimits, Filters, Registered};
pub use sql::{Expression, SqlLimits, Verdict};
pub use tags::{MAX_TAGS, TagFilter};

use protocol::heartbeat::TAG;

/// Whether this type of expression means tags.
#[must_use]
pub fn is_tag_type(expression_type: &str) -> bool {
    expression_type.is_empty() || expression_type == TAG
}
