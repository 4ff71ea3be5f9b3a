//! Notifies brokers that the lowest broker id of their name has changed (code 905, one-way).
//!
//! This is rare, so one thread is started with the first notification and connects for each. Notifications beyond [`MAX_QUEUED`] are
//! dropped; brokers learn of the change with their next query of the member group (901).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use net::client::{Peer, PeerOptions};
use net::session::Connector;
use parking_lot::Mutex;
use protocol::register::MinBrokerIdChangeHeader;
use protocol::{Frame, RequestCode};

use crate::routes::MinIdChange;

/// Maximum number of queued notifications.
const MAX_QUEUED: usize = 256;
/// Limit on connecting to one broker.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

#[derive(Default)]
pub(crate) struct Notifier {
    connector: Option<Arc<dyn Connector>>,
    queue: Mutex<Option<SyncSender<MinIdChange>>>,
}

impl Notifier {
    /// Connects to brokers with sessions of `connector`, or plainly.
    pub(crate) fn new(connector: Option<Arc<dyn Connector>>) -> Self {
        Self {
            connector,
            queue: Mutex::default(),
        }
    }

    /// Queues a notification.
    pub(crate) fn notify(&self, change: MinIdChange) {
        let mut queue = self.queue.lock();
        if queue.is_none() {
            *queue = start(self.connector.clone());
        }
        if let Some(sender) = queue.as_ref()
            && sender.try_send(change).is_err()
        {
            tracing::warn!("more than {MAX_QUEUED} notifications of new lowest broker ids are queued, one is dropped");
        }
    }
}

fn start(connector: Option<Arc<dyn Connector>>) -> Option<SyncSender<MinIdChange>> {
    let (sender, receiver) = sync_channel(MAX_QUEUED);
    let thread = std::thread::Builder::new().name("namesrv-notify".to_owned());
    match thread.spawn(move || send_all(&receiver, connector.as_ref())) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::warn!(%error, "cannot start the thread that notifies brokers of new lowest ids");
            None
        }
    }
}

/// Ends when the name server is dropped.
fn send_all(notifications: &Receiver<MinIdChange>, connector: Option<&Arc<dyn Connector>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::warn!(%error, "cannot notify brokers of new lowest ids"),
    };
    while let Ok(change) = notifications.recv() {
        tracing::info!(
            broker = change.broker_name,
            min_id = change.min_id,
            min_address = change.min_address,
            "new lowest broker id"
        );
        let frame = frame(&change);
        for address in &change.recipients {
            if let Err(error) = runtime.block_on(send(address, connector.cloned(), &frame)) {
                tracing::warn!(%error, "cannot notify a broker of the new lowest id");
            }
        }
    }
}

fn frame(change: &MinIdChange) -> Frame {
    let header = MinBrokerIdChangeHeader {
        min_broker_id: Some(change.min_id),
        broker_name: Some(&change.broker_name),
        min_broker_addr: Some(&change.min_address),
        offline_broker_addr: change.offline_address.as_deref(),
        ha_broker_addr: change.ha_address.as_deref(),
    };
    let mut frame = Frame::request(RequestCode::NotifyMinBrokerIdChange).oneway();
    header.encode(&mut frame.ext);
    frame
}

async fn send(address: &str, connector: Option<Arc<dyn Connector>>, frame: &Frame) -> std::io::Result<()> {
    let options = PeerOptions {
        connect_timeout: CONNECT_TIMEOUT,
        connector,
        ..PeerOptions::default()
    };
    let peer = Peer::connect(address, options).await?;
    peer.one_way(frame).map_err(std::io::Error::other)
}
