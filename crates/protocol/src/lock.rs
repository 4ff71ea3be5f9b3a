//! Locks that ordered consumers take on queues: codes 41 and 42.

use crate::queue::MessageQueue;
use serde::{Deserialize, Serialize};

/// The body of codes 41 and 42.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LockBatchBody {
    /// The client that locks or unlocks.
    pub client_id: String,
    /// Its group.
    pub consumer_group: String,
    /// The queues.
    #[serde(rename = "mqSet")]
    pub queues: Vec<MessageQueue>,
    /// False: the broker locks at its replicas, too.
    pub only_this_broker: bool,
}

/// The answer of code 41.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct LockBatchReply {
    /// The queues that the client has locked.
    #[serde(rename = "lockOKMQSet")]
    pub locked: Vec<MessageQueue>,
}
