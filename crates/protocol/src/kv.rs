//! The name server's key-value configuration: codes 100 to 102 and 219. [`KvTable`] is also the answer of code 28.

use crate::header::header;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The namespace with `broker:queues;…` of ordered topics.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Names and values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct KvTable {
    /// The pairs.
    pub table: BTreeMap<String, String>,
}

header! {
    /// Code 100.
    pub struct PutKvHeader<'a> {
        /// The namespace.
        pub namespace: &'a str = "namespace",
        /// The name.
        pub key: &'a str = "key",
        /// The value.
        pub value: &'a str = "value",
    }
}

header! {
    /// Codes 101 and 102.
    pub struct KvKeyHeader<'a> {
        /// The namespace.
        pub namespace: &'a str = "namespace",
        /// The name.
        pub key: &'a str = "key",
    }
}

header! {
    /// The answer of code 101.
    pub struct KvValueReply<'a> {
        /// The value.
        pub value: Option<&'a str> = "value",
    }
}

header! {
    /// Code 219.
    pub struct KvNamespaceHeader<'a> {
        /// The namespace.
        pub namespace: &'a str = "namespace",
    }
}
