//! Message queries: by key or unique key (12), by id (33).
//!
//! The response body is the stored records, one after the other. Queries may read from disk: they are for people, not part of the
//! delivery of messages.

pub mod handler;
