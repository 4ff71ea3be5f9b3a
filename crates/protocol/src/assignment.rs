//! Request modes, how a group gets a topic's messages: codes 401 and 402; and queues that the broker assigns: code 400.

use crate::heartbeat::MessageModel;
use crate::json::named_enum::named_enum;
use crate::queue::MessageQueue;
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

/// The body of code 400: a member asks for its queues of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct AssignmentRequest {
    /// The member.
    pub client_id: String,
    /// Its group.
    pub consumer_group: String,
    /// Whether each member gets all messages, or each message goes to one member.
    pub message_model: MessageModel,
    /// How queues are shared: `AVG` or `AVG_BY_CIRCLE`.
    pub strategy_name: String,
    /// The topic.
    pub topic: String,
}

/// A queue of a member. Queue -1 stands for all queues of the topic on that broker, with POP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AssignedQueue {
    /// The queue.
    pub message_queue: MessageQueue,
    /// How the member gets its messages.
    pub mode: RequestMode,
}

impl Default for AssignedQueue {
    fn default() -> Self {
        Self {
            message_queue: MessageQueue::default(),
            mode: RequestMode::Pull,
        }
    }
}

/// The answer of code 400.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Assignment {
    /// The queues; `None` if the member keeps those that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_queue_assignments: Option<Vec<AssignedQueue>>,
}
