//! Brokers are told that another of their name now has the lowest id (code 905, one-way).
//!
//! Rare (a broker came or went), so one thread is started with the first notice and dials for each. Bounded: notices beyond
//! [`WAITING`] are dropped; brokers find out with their next look at the member group (901).

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use net::client::{Peer, PeerOptions};
use parking_lot::Mutex;
use protocol::register::MinBrokerIdChangeHeader;
use protocol::{Frame, RequestCode};

use crate::routes::MinIdChange;

/// Notices that wait at most.
const WAITING: usize = 256;
/// What connecting to one broker may take.
const PATIENCE: Duration = Duration::from_millis(300);

#[derive(Default)]
pub(crate) struct Notifier {
    queue: Mutex<Option<SyncSender<MinIdChange>>>,
}

impl Notifier {
    /// Has the notice sent soon.
    pub(crate) fn tell(&self, change: MinIdChange) {
        let mut queue = self.queue.lock();
        if queue.is_none() {
            *queue = start();
        }
        if let Some(sender) = queue.as_ref()
            && sender.try_send(change).is_err()
        {
            tracing::warn!("too many notices of new lowest broker ids, one is dropped");
        }
    }
}

fn start() -> Option<SyncSender<MinIdChange>> {
    let (sender, receiver) = sync_channel(WAITING);
    let thread = std::thread::Builder::new().name("namesrv-notify".to_owned());
    match thread.spawn(move || deliver_all(&receiver)) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::warn!(%error, "cannot start the thread that tells brokers of new lowest ids");
            None
        }
    }
}

/// Ends when the name server is dropped.
fn deliver_all(notices: &Receiver<MinIdChange>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::warn!(%error, "cannot tell brokers of new lowest ids"),
    };
    while let Ok(change) = notices.recv() {
        tracing::info!(
            broker = change.broker_name,
            min_id = change.min_id,
            min_address = change.min_address,
            "new lowest broker id"
        );
        let frame = frame(&change);
        for address in &change.tell {
            if let Err(error) = runtime.block_on(deliver(address, &frame)) {
                tracing::warn!(%error, "a broker could not be told of the new lowest id");
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

async fn deliver(address: &str, frame: &Frame) -> std::io::Result<()> {
    let options = PeerOptions {
        connect_timeout: PATIENCE,
        ..PeerOptions::default()
    };
    let peer = Peer::connect(address, options).await?;
    peer.one_way(frame).map_err(std::io::Error::other)
}
