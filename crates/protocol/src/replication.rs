//! How a broker's copies are doing: code 907.

use serde::{Deserialize, Serialize};

/// The answer of code 907: a master tells of the copies connected to it, a slave of its connection to the master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicationStatus {
    /// A slave's view.
    pub ha_client_runtime_info: SlaveStatus,
    /// A master's view, one entry for each connected slave.
    pub ha_connection_info: Vec<CopyStatus>,
    /// Slaves that are close enough to count.
    pub in_sync_slave_nums: i32,
    /// Whether this broker is a master.
    pub master: bool,
    /// End of the master's log.
    pub master_commit_log_max_offset: i64,
}

/// A slave's connection to its master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SlaveStatus {
    /// When something came, epoch ms.
    pub last_read_timestamp: i64,
    /// When something was sent, epoch ms.
    pub last_write_timestamp: i64,
    /// The master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_addr: Option<String>,
    /// How far the master's log is on its disk.
    pub master_flush_offset: i64,
    /// End of the slave's log.
    pub max_offset: i64,
    /// Bytes a second.
    pub transferred_byte_in_second: i64,
}

/// A slave as its master sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CopyStatus {
    /// The slave.
    pub addr: String,
    /// Bytes it lacks.
    pub diff: i64,
    /// Whether it is close enough to count.
    pub in_sync: bool,
    /// What it has acknowledged.
    pub slave_ack_offset: i64,
    /// Where sending to it is.
    pub transfer_from_where: i64,
    /// Bytes a second.
    pub transferred_byte_in_second: i64,
}
