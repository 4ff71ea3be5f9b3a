//! Frees memory that peers hold over a server's limits, by closing those that hold the most.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::clock::uptime_ms;
use crate::gate::Gate;
use crate::server::Shared;
use crate::{Connection, memory};

/// How long connections wait for memory for their frames before slow senders are closed, and how often that is checked.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Closes the connections with the most unread bytes whenever unread bytes are over [`Limits::outbox_total_bytes`](crate::Limits), and
/// returns memory to the system when few are left.
pub(crate) async fn close_slow_readers(shared: Weak<Shared>) {
    while let Some(budget) = shared.upgrade().map(|shared| Arc::clone(&shared.budget)) {
        budget.changed().await;
        let Some(shared) = shared.upgrade() else { return };
        let bound_bytes = budget.bound_bytes();
        let holders = holders(&shared, |conn| Some(conn.unread_bytes()).filter(|bytes| *bytes > 0));
        // Their own sum: connections that were closed a moment ago give back their bytes at any time.
        let sum: usize = holders.iter().map(|(bytes, _)| bytes).sum();
        close_largest(holders, sum.saturating_sub(bound_bytes), |conn, bytes| {
            warn_slow_reader(conn, bytes, bound_bytes);
        });
        if budget.take_relief() {
            memory::trim();
        }
    }
}

/// Whenever connections wait for memory for their frames: closes those that hold some and send too slowly. When then little is held, by those
/// that were closed and by the others, memory is returned to the system.
pub(crate) async fn close_slow_senders(shared: Weak<Shared>) {
    while let Some(intake) = shared.upgrade().map(|shared| Arc::clone(&shared.intake)) {
        intake.shortage().await;
        loop {
            tokio::time::sleep(SHORTAGE_PAUSE).await;
            let Some(shared) = shared.upgrade() else { return };
            let short_bytes = intake.short_bytes();
            if short_bytes == 0 && intake.is_little() {
                break;
            }
            if short_bytes > 0 {
                let (now_ms, bound_bytes) = (uptime_ms(), shared.limits.inbound_total_bytes);
                let holders = holders(&shared, |conn| conn.partial().slow_bytes(now_ms));
                close_largest(holders, short_bytes, |conn, bytes| warn_slow_sender(conn, bytes, bound_bytes));
                // A connection that was woken may not have tried yet.
                intake.wake_next();
            }
        }
        memory::trim();
    }
}

/// Connections that hold memory, with the bytes.
fn holders(shared: &Shared, held: impl Fn(&Connection) -> Option<usize>) -> Vec<(usize, Arc<Connection>)> {
    let all = shared.workers.iter().flat_map(|worker| worker.connections());
    all.filter_map(|conn| Some((held(&conn)?, conn))).collect()
}

/// Closes the connections that hold the most until `needed` bytes are free.
fn close_largest(mut holders: Vec<(usize, Arc<Connection>)>, mut needed: usize, warn: impl Fn(&Connection, usize)) {
    holders.sort_unstable_by_key(|(bytes, _)| *bytes);
    while let Some((bytes, conn)) = holders.pop().filter(|_| needed > 0) {
        warn(&conn, bytes);
        conn.close();
        needed = needed.saturating_sub(bytes);
    }
}

fn warn_slow_reader(conn: &Connection, unread_bytes: usize, outbox_total_bytes: usize) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        let peer = conn.peer();
        tracing::warn!(%peer, unread_bytes, outbox_total_bytes, others, "closing the connection with the most unread replies: all connections together are over the limit");
    }
}

fn warn_slow_sender(conn: &Connection, held_bytes: usize, inbound_total_bytes: usize) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        let peer = conn.peer();
        tracing::warn!(%peer, held_bytes, inbound_total_bytes, others, "closing a connection that sends a large frame too slowly while others wait: all connections together are at the limit");
    }
}
