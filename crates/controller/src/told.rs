//! What brokers are told of a name: its master and its in-sync set, in answers and notifications.

use protocol::controller::{MasterHeader, SyncStateSet};
use protocol::json;

use crate::replicas::BrokerSet;

/// The in-sync set, as a body.
pub(crate) fn in_sync(set: &BrokerSet) -> Vec<u8> {
    json::write(&SyncStateSet {
        sync_state_set: set.in_sync.clone(),
        sync_state_set_epoch: set.in_sync_epoch,
    })
}

/// The master and the epochs, as a header.
pub(crate) fn master_header(set: &BrokerSet) -> MasterHeader<'_> {
    MasterHeader {
        master_broker_id: set.master,
        master_address: set.master_address(),
        master_epoch: Some(set.master_epoch),
        sync_state_set_epoch: Some(set.in_sync_epoch),
    }
}
