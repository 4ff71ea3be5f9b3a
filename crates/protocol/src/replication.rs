//! Replication status of a broker: code 907. What master and slave tell each other: code 906. The master's flushed offset: code 908.

use crate::header::header;
use serde::{Deserialize, Serialize};

/// Code of a question that only this broker's slaves ask: whether topics, groups or request modes have changed. It is answered when they have, or after a
/// while; others answer that they do not know the code.
pub const WAIT_FOR_TABLES: i32 = 901_104;

header! {
    /// The question [`WAIT_FOR_TABLES`].
    pub struct WaitForTablesHeader<'a> {
        /// Id of the slave.
        pub broker_id: i64 = "brokerId",
        /// The versions that the slave has; absent if it has copied nothing yet.
        pub known: Option<&'a str> = "known",
    }
}

header! {
    /// The answer to [`WAIT_FOR_TABLES`].
    pub struct TableVersions<'a> {
        /// What the master has, to be sent with the next question when it is copied.
        pub versions: &'a str = "versions",
    }
}

header! {
    /// Code 906, and its answer. A master tells a slave where it is; a slave asks its master with an empty header.
    pub struct ExchangeHaInfoHeader<'a> {
        /// The master's address for replicas.
        pub master_ha_address: Option<&'a str> = "masterHaAddress",
        /// End of the master's log at its start.
        pub master_flush_offset: Option<i64> = "masterFlushOffset",
        /// The master's address for clients.
        pub master_address: Option<&'a str> = "masterAddress",
    }
}

header! {
    /// Code 908.
    pub struct ResetMasterFlushOffsetHeader {
        /// The offset that a slave keeps as flushed by its master.
        pub master_flush_offset: i64 = "masterFlushOffset",
    }
}

/// The answer of code 907: a master reports the connected replicas, a slave its connection to the master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicationStatus {
    /// A slave's view.
    pub ha_client_runtime_info: SlaveStatus,
    /// A master's view, one entry for each connected slave.
    pub ha_connection_info: Vec<CopyStatus>,
    /// Number of slaves that are in sync.
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
    /// When data was last received, epoch ms.
    pub last_read_timestamp: i64,
    /// When data was last sent, epoch ms.
    pub last_write_timestamp: i64,
    /// The master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_addr: Option<String>,
    /// Flushed offset of the master.
    pub master_flush_offset: i64,
    /// End of the slave's log.
    pub max_offset: i64,
    /// Bytes per second.
    pub transferred_byte_in_second: i64,
}

/// A slave as seen by its master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CopyStatus {
    /// The slave.
    pub addr: String,
    /// Bytes that it has not received yet.
    pub diff: i64,
    /// Whether it is in sync.
    pub in_sync: bool,
    /// Acknowledged offset.
    pub slave_ack_offset: i64,
    /// Offset up to which the master has sent.
    pub transfer_from_where: i64,
    /// Bytes per second.
    pub transferred_byte_in_second: i64,
}
