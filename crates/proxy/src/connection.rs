//! A connection: its addresses, and how many bytes of messages its client has not read.

use crate::local::Ready;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of messages that clients have not read, all connections together.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    total: AtomicUsize,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Unique among the connections of all protocols.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Requests so far.
    requests: AtomicU64,
    unread: AtomicUsize,
    /// Messages that were read so far.
    progress: AtomicU64,
    /// Messages wait to be read.
    filled: Notify,
    /// Sends that were read together, as far as they are ready to be stored.
    sends: Mutex<Vec<Arc<Ready>>>,
    /// Receives that are parked at brokers, also those that their client gave up.
    parked: AtomicUsize,
    all: Arc<Unread>,
}

/// A receive that is parked at a broker.
#[derive(Debug)]
pub(crate) struct Parked(Arc<Connection>);

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.parked.fetch_sub(1, Relaxed);
    }
}

/// Messages of one answer that are not read yet.
#[derive(Debug)]
pub(crate) struct Owed {
    connection: Arc<Connection>,
    bytes: usize,
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, all: Arc<Unread>) -> Self {
        Self {
            id: net::Connection::take_id(),
            peer,
            local,
            requests: AtomicU64::new(0),
            unread: AtomicUsize::new(0),
            progress: AtomicU64::new(0),
            filled: Notify::new(),
            sends: Mutex::default(),
            parked: AtomicUsize::new(0),
            all,
        }
    }

    /// Whether the client has too many unread messages to get more.
    pub(crate) fn lags(&self, most: usize, most_of_all: usize) -> bool {
        let unread = self.unread.load(Relaxed);
        unread > most || (unread > 0 && self.all.total.load(Relaxed) > most_of_all)
    }

    /// Adds a send. True for the first one: it has to take all of them in its turn.
    pub(crate) fn add_send(&self, ready: Arc<Ready>) -> bool {
        let mut sends = self.sends.lock();
        sends.push(ready);
        sends.len() == 1
    }

    /// The sends that were added since.
    pub(crate) fn take_sends(&self) -> Vec<Arc<Ready>> {
        std::mem::take(&mut *self.sends.lock())
    }

    /// Counts a receive; `None` if there are `most` already.
    pub(crate) fn park(self: &Arc<Self>, most: usize) -> Option<Parked> {
        let parked = Parked(Arc::clone(self));
        (self.parked.fetch_add(1, Relaxed) < most).then_some(parked)
    }

    /// A request begins.
    pub(crate) fn requested(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Returns when no request came for `patience`.
    pub(crate) async fn idle(&self, patience: Duration) {
        let mut before = None;
        loop {
            let now = self.requests.load(Relaxed);
            if before == Some(now) {
                return;
            }
            before = Some(now);
            tokio::time::sleep(patience).await;
        }
    }

    /// Counts messages that are about to be sent.
    pub(crate) fn owe(self: &Arc<Self>, bytes: usize) -> Owed {
        self.unread.fetch_add(bytes, Relaxed);
        self.all.total.fetch_add(bytes, Relaxed);
        self.filled.notify_one();
        Owed {
            connection: Arc::clone(self),
            bytes,
        }
    }

    /// Returns when the client has read nothing for `patience` although messages wait for it.
    pub(crate) async fn stalled(&self, patience: Duration) {
        loop {
            if self.unread.load(Relaxed) == 0 {
                self.filled.notified().await;
                continue;
            }
            let before = self.progress.load(Relaxed);
            tokio::time::sleep(patience).await;
            if self.unread.load(Relaxed) > 0 && self.progress.load(Relaxed) == before {
                return;
            }
        }
    }
}

impl Owed {
    /// So many bytes were taken by the connection.
    pub(crate) fn sent(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.connection.unread.fetch_sub(bytes, Relaxed);
        self.connection.all.total.fetch_sub(bytes, Relaxed);
        self.connection.progress.fetch_add(1, Relaxed);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.sent(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(all: &Arc<Unread>) -> Arc<Connection> {
        let any = SocketAddr::from(([127, 0, 0, 1], 1));
        Arc::new(Connection::new(any, any, Arc::clone(all)))
    }

    #[test]
    fn a_connection_parks_so_many_receives() {
        let connection = connection(&Arc::default());
        let first = connection.park(2);
        assert!(first.is_some() && connection.park(2).is_some_and(|second| second.0.park(2).is_none()));
        drop(first);
        assert!(connection.park(1).is_some());
    }

    #[test]
    fn a_client_that_does_not_read_harms_only_itself() {
        let all = Arc::new(Unread::default());
        let (slow, other) = (connection(&all), connection(&all));
        let mut owed = slow.owe(100);
        assert!(slow.lags(50, 1_000) && !slow.lags(100, 1_000));
        assert!(slow.lags(1_000, 50), "all together have too much, and this one has a part in it");
        assert!(!other.lags(50, 50), "it has no part in it");
        owed.sent(60);
        assert!(!slow.lags(50, 50));
        drop(owed);
        assert_eq!(all.total.load(Relaxed), 0);
    }
}
