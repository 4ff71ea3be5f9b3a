//! Which queues a member of a group reads and how, where the broker decides: codes 400 to 402.

use crate::heartbeat::MessageModel;
use crate::json::loose::named_enum;
use crate::queue::MessageQueue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

named_enum! {
    /// How the members of a group get a topic's messages.
    pub enum RequestMode {
        /// Each queue belongs to one member, which pulls.
        Pull = "PULL",
        /// All members pop from all queues.
        Pop = "POP",
    }
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

/// The body of code 400.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignment {
    /// Who asks.
    pub client_id: String,
    /// Its group.
    pub consumer_group: String,
    /// Clustering or broadcasting.
    pub message_model: Option<MessageModel>,
    /// Name of the way to share queues: `AVG` or `AVG_BY_CIRCLE`.
    pub strategy_name: Option<String>,
    /// The topic.
    pub topic: String,
}

/// One queue of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assigned {
    /// The queue.
    pub message_queue: MessageQueue,
    /// How it is read.
    pub mode: RequestMode,
}

/// The answer of code 400. Without a list the client keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Assignment {
    /// The queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_queue_assignments: Option<Vec<Assigned>>,
}
