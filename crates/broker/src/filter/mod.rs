//! Which messages a subscription selects.
//!
//! | Kind | Compared with | Module |
//! |---|---|---|
//! | tags | the tag's hash in the queue entry | [`tags`] |
//! | SQL92 expression | the properties in the record | [`sql`] |
//!
//! Expressions that consumer groups told in heartbeats are compiled and kept in [`registered`], and saved as Apache's broker saves them
//! ([`table`]). Not here: how a pull reads (`pull/`).

pub mod bloom;
pub mod registered;
pub mod sql;
pub mod table;
pub mod tags;

pub use registered::{FilterLimits, Filters, Registered};
pub use sql::{Expression, SqlLimits, Verdict};
pub use tags::{MAX_TAGS, TagFilter};

use message::hash::java_string_hash;
use protocol::heartbeat::{Subscription, TAG};
use std::collections::BTreeSet;

/// Whether this type of expression means tags.
#[must_use]
pub fn is_tag_type(expression_type: &str) -> bool {
    expression_type.is_empty() || expression_type == TAG
}

/// A subscription as heartbeats tell it, of a request that brings its own expression.
#[must_use]
pub fn subscription(topic: &str, expression_type: Option<&str>, expression: &str, now_ms: i64) -> Subscription {
    let expression_type = expression_type.filter(|told| !is_tag_type(told)).unwrap_or(TAG);
    let tags: BTreeSet<String> = match expression.trim() {
        _ if expression_type != TAG => BTreeSet::new(),
        "" | "*" => BTreeSet::new(),
        some => some
            .split("||")
            .map(|tag| tag.trim().to_owned())
            .filter(|tag| !tag.is_empty())
            .collect(),
    };
    Subscription {
        code_set: tags.iter().map(|tag| java_string_hash(tag)).collect(),
        sub_string: if expression.trim().is_empty() {
            "*".to_owned()
        } else {
            expression.to_owned()
        },
        sub_version: now_ms,
        tags_set: tags,
        topic: topic.to_owned(),
        expression_type: expression_type.to_owned(),
        ..Subscription::default()
    }
}
