//! Brokers and name servers.

use super::{Page, Show, Table, decimal, or_dash};
use crate::broker::{BrokerReplication, BrokerSummary, ClusterState, Replication, Tables};
use crate::export::Exported;
use crate::time;

/// [`ClusterState`] with the totals of yesterday and today.
#[derive(serde::Serialize)]
#[serde(transparent)]
pub struct Totals(pub ClusterState);

impl Show for ClusterState {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new([
            "CLUSTER",
            "BROKER",
            ">ID",
            "ADDRESS",
            "VERSION",
            ">IN TPS",
            "SEND QUEUE",
            ">OUT TPS",
            "PULL QUEUE",
            ">TIMER BEHIND",
            ">LOCK MS",
            ">HOURS",
            ">DISK",
            "ACTIVE",
        ]);
        for row in &self.brokers {
            let queue = |size, wait| format!("{} ({} ms)", or_dash(size), or_dash(wait));
            table.row([
                row.broker.cluster.clone(),
                row.broker.name.clone(),
                row.broker.id.to_string(),
                row.broker.address.clone(),
                or_dash(row.version.as_deref()),
                decimal(row.in_tps),
                queue(row.send_queue_size, row.send_queue_wait_ms),
                decimal(row.out_tps),
                queue(row.pull_queue_size, row.pull_queue_wait_ms),
                format!("{}-{}", or_dash(row.timer_read_behind), or_dash(row.timer_offset_behind)),
                or_dash(row.page_cache_lock_ms),
                decimal(row.oldest_hours),
                decimal(row.disk_ratio),
                or_dash(row.active),
            ]);
        }
        out.table(&table);
        unreachable(out, &self.brokers);
    }
}

impl Show for Totals {
    fn show(&self, out: &mut Page) {
        let mut table = Table::new([
            "CLUSTER",
            "BROKER",
            ">ID",
            ">IN YESTERDAY",
            ">OUT YESTERDAY",
            ">IN TODAY",
            ">OUT TODAY",
        ]);
        for row in &self.0.brokers {
            table.row([
                row.broker.cluster.clone(),
                row.broker.name.clone(),
                row.broker.id.to_string(),
                or_dash(row.in_yesterday),
                or_dash(row.out_yesterday),
                or_dash(row.in_today),
                or_dash(row.out_today),
            ]);
        }
        out.table(&table);
        unreachable(out, &self.0.brokers);
    }
}

fn unreachable(out: &mut Page, brokers: &[BrokerSummary]) {
    for row in brokers {
        if let Some(error) = &row.error {
            out.line(format_args!("FAILED  {}  {error}", row.broker.address));
        }
    }
}

impl Show for Tables {
    fn show(&self, out: &mut Page) {
        for server in &self.servers {
            out.heading(&server.address);
            match &server.error {
                Some(error) => out.line(format_args!("FAILED  {error}")),
                None => out.fields(&server.table),
            }
        }
    }
}

impl Show for Replication {
    fn show(&self, out: &mut Page) {
        for broker in &self.brokers {
            out.heading(&broker.address);
            match broker.state.master {
                true => master(out, broker),
                false => replica(out, broker),
            }
        }
    }
}

fn master(out: &mut Page, broker: &BrokerReplication) {
    let state = &broker.state;
    out.fields([
        ("Role:", "master".to_owned()),
        ("Log end:", state.master_commit_log_max_offset.to_string()),
        ("Replicas:", state.ha_connection_info.len().to_string()),
        ("In sync:", state.in_sync_slave_nums.to_string()),
    ]);
    if state.ha_connection_info.is_empty() {
        return;
    }
    let mut table = Table::new(["REPLICA", ">ACK OFFSET", ">DIFF", ">KB/S", "STATE", ">SENT FROM"]);
    for replica in &state.ha_connection_info {
        table.row([
            replica.addr.clone(),
            replica.slave_ack_offset.to_string(),
            replica.diff.to_string(),
            kilobytes(replica.transferred_byte_in_second),
            if replica.in_sync { "in sync" } else { "behind" }.to_owned(),
            replica.transfer_from_where.to_string(),
        ]);
    }
    out.table(&table);
}

fn replica(out: &mut Page, broker: &BrokerReplication) {
    let state = &broker.state.ha_client_runtime_info;
    out.fields([
        ("Role:", "replica".to_owned()),
        ("Master:", or_dash(state.master_addr.as_deref())),
        ("Log end:", state.max_offset.to_string()),
        ("KB/s:", kilobytes(state.transferred_byte_in_second)),
        ("Last read:", time::shown(state.last_read_timestamp)),
        ("Last write:", time::shown(state.last_write_timestamp)),
        ("Master synced to:", state.master_flush_offset.to_string()),
    ]);
}

fn kilobytes(bytes: i64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

impl Show for Exported {
    fn show(&self, out: &mut Page) {
        out.line(format_args!("exported to {}", self.path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Table as Named;

    #[test]
    fn a_server_that_did_not_answer_is_listed_with_its_error() {
        let table = |address: &str, error: Option<&str>| Named {
            address: address.to_owned(),
            table: [("key".to_owned(), "value".to_owned())].into(),
            error: error.map(str::to_owned),
        };
        let tables = Tables {
            servers: vec![table("a:1", None), table("b:1", Some("no"))],
        };
        assert_eq!(tables.shown(), "a:1\nkey  value\n\nb:1\nFAILED  no\n");
    }
}
