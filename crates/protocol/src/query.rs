//! Queries for messages: by key (12), by offset message id (33). Answers are consecutive stored records.

use crate::header::header;

/// Index type of code 12: tag.
pub const BY_TAG: &str = "T";
/// Field of code 12 beside the header: "true" if the key is a unique key.
pub const UNIQUE_KEY_QUERY: &str = "_UNIQUE_KEY_QUERY";

header! {
    /// Code 12.
    pub struct QueryMessageHeader<'a> {
        /// The topic.
        pub topic: &'a str = "topic",
        /// The key.
        pub key: &'a str = "key",
        /// Maximum number of messages.
        pub max_num: i32 = "maxNum",
        /// Stored at or after, ms.
        pub begin_timestamp: i64 = "beginTimestamp",
        /// Stored at or before, ms.
        pub end_timestamp: i64 = "endTimestamp",
        /// `K` key, `U` unique key, `T` tag (5.4 and later).
        pub index_type: Option<&'a str> = "indexType",
        /// Where the previous page ended (5.4 and later).
        pub last_key: Option<&'a str> = "lastKey",
        /// [`UNIQUE_KEY_QUERY`].
        pub unique_key: bool = "_UNIQUE_KEY_QUERY",
    }
}

header! {
    /// The answer of code 12: how far the index is.
    pub struct QueryMessageReply {
        /// Store time of the newest indexed record, ms.
        pub index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        /// Its log offset.
        pub index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset",
    }
}

header! {
    /// Code 33.
    pub struct ViewMessageHeader<'a> {
        /// The topic, if the client knows it.
        pub topic: Option<&'a str> = "topic",
        /// The log offset.
        pub offset: i64 = "offset",
    }
}
