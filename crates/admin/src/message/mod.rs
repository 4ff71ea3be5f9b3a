//! Messages: queries (`query.rs`), reading in bulk (`read.rs`), sending (`send.rs`), consumption (`track.rs`), traces (`trace.rs`) and
//! given-up transactions (`transaction.rs`).

pub mod body;
pub mod query;
pub mod read;
pub mod send;
pub mod trace;
pub mod track;
pub mod transaction;

use std::borrow::Cow;
use std::collections::BTreeMap;

use message::{Record, id, properties};
use serde::Serialize;

use crate::message::body::Body;
use crate::message::track::Track;

/// The group with which messages are read. Its offsets are never committed.
pub(crate) const TOOLS_GROUP: &str = "TOOLS_CONSUMER";

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The id that its producer knows: the unique key, or the offset id if there is none.
    pub msg_id: String,
    /// The id that says where it is stored.
    pub offset_msg_id: String,
    /// The topic.
    pub topic: String,
    /// The tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// Keys, separated by blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// The queue.
    pub queue_id: i32,
    /// Its queue offset.
    pub queue_offset: i64,
    /// Its offset in the log.
    pub commit_log_offset: i64,
    /// How often its consumption failed.
    pub reconsume_times: i32,
    /// When it was created, ms.
    pub born_timestamp: i64,
    /// When it was stored, ms.
    pub store_timestamp: i64,
    /// The producer's address.
    pub born_host: String,
    /// The broker's address.
    pub store_host: String,
    /// System flag bits.
    pub sys_flag: i32,
    /// The user's flag.
    pub flag: i32,
    /// All properties.
    pub properties: BTreeMap<String, String>,
    /// The body.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Which groups consumed it, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Vec<Track>>,
}

impl Found {
    /// A stored record with its body decompressed and read as `charset`.
    pub fn new(record: &Record<'_>, charset: body::Charset) -> Self {
        let property = |name: &str| properties::text(record.properties, name).map(Cow::into_owned);
        let offset_msg_id = id::offset_id(record.store_host, record.log_offset);
        Self {
            msg_id: property(properties::UNIQ_KEY).unwrap_or_else(|| offset_msg_id.clone()),
            offset_msg_id,
            topic: record.topic.to_owned(),
            tags: property(properties::TAGS),
            keys: property(properties::KEYS),
            queue_id: record.queue_id,
            queue_offset: record.queue_offset.0,
            commit_log_offset: record.log_offset.0,
            reconsume_times: record.reconsume_times,
            born_timestamp: record.born_timestamp,
            store_timestamp: record.store_timestamp,
            born_host: record.born_host.to_string(),
            store_host: record.store_host.to_string(),
            sys_flag: record.sys_flag,
            flag: record.flag,
            properties: properties::texts(record.properties)
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
            body: Some(Body::of(record, charset)),
            tracks: None,
        }
    }

    /// Without its body.
    #[must_use]
    pub fn without_body(self) -> Self {
        Self { body: None, ..self }
    }
}
