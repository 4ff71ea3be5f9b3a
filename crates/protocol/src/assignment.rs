//! Request modes, how a group gets a topic's messages: codes 401 and 402. Not here: code 400 (the broker assigns queues), which is not served.

use crate::json::named_enum::named_enum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

named_enum! {
    /// How the members of a group consume a topic.
    pub enum RequestMode {
        /// Each queue belongs to one member, which pulls.
        Pull = "PULL",
        /// All members pop from all queues.
        Pop = "POP",
    } else Pull
}

/// The body of code 401, and one entry of the answer of 402.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupRequestMode {
    /// The group.
    pub consumer_group: String,
    /// How it reads.
    pub mode: RequestMode,
    /// With POP, how many members share a member's queues; 0 or less: all.
    pub pop_share_queue_num: i32,
    /// The topic.
    pub topic: String,
}

impl Default for GroupRequestMode {
    fn default() -> Self {
        Self {
            consumer_group: String::new(),
            mode: RequestMode::Pull,
            pop_share_queue_num: 0,
            topic: String::new(),
        }
    }
}

/// The answer of code 402, and the file `messageRequestMode.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestModes {
    /// By topic and group.
    pub message_request_mode_map: BTreeMap<String, BTreeMap<String, GroupRequestMode>>,
}
