//! Controllers and epochs.

use super::{Page, Show, Table, or_dash};
use crate::controller::{Controllers, Election, Epochs, SyncStates};

impl Show for Controllers {
    fn show(&self, out: &mut Page) {
        out.fields([
            ("group", self.group.clone()),
            ("leader", or_dash(self.leader_id.as_deref())),
            ("leader address", or_dash(self.leader_address.as_deref())),
        ]);
        for peer in &self.peers {
            out.fields([("controller", peer)]);
        }
    }
}

impl Show for SyncStates {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new([
            "BROKER",
            ">ID",
            "ADDRESS",
            "ROLE",
            "IN SYNC",
            "ALIVE",
            ">MASTER EPOCH",
            ">SET EPOCH",
        ]);
        for broker in &self.brokers {
            let replicas = &broker.replicas;
            let inside = replicas.in_sync_replicas.iter().map(|replica| (replica, true));
            let outside = replicas.not_in_sync_replicas.iter().map(|replica| (replica, false));
            for (replica, in_sync) in inside.chain(outside) {
                let is_master = replicas.master_broker_id == Some(replica.broker_id);
                table.row([
                    broker.broker_name.clone(),
                    replica.broker_id.to_string(),
                    replica.broker_address.clone(),
                    (if is_master { "master" } else { "slave" }).to_owned(),
                    in_sync.to_string(),
                    replica.alive.to_string(),
                    replicas.master_epoch.to_string(),
                    replicas.sync_state_set_epoch.to_string(),
                ]);
            }
        }
        out.table(&table);
    }
}

impl Show for Election {
    fn show(&self, out: &mut Page) {
        out.fields([
            ("cluster", self.cluster.clone()),
            ("broker", self.broker_name.clone()),
            ("master", or_dash(self.master_id)),
            ("master address", or_dash(self.master_address.as_deref())),
            ("master epoch", or_dash(self.master_epoch)),
            ("set epoch", or_dash(self.sync_state_set_epoch)),
        ]);
    }
}

impl Show for Epochs {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new(["CLUSTER", "BROKER", ">ID", "ADDRESS", ">EPOCH", ">START", ">END"]);
        for broker in &self.brokers {
            for epoch in &broker.epochs {
                table.row([
                    broker.cluster.clone(),
                    broker.broker_name.clone(),
                    broker.broker_id.to_string(),
                    broker.address.clone(),
                    epoch.epoch.to_string(),
                    epoch.start_offset.to_string(),
                    epoch.end_offset.to_string(),
                ]);
            }
        }
        out.table(&table);
    }
}
