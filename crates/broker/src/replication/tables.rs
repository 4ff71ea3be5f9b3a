//! A slave's copies of the master's tables: topics, groups, offsets, progress of delay levels, request modes, and how far timers are done
//! ([`timers`](super::timers)).
//!
//! Asked for every 3 s by the requests that Apache's slaves use once a minute. What the master has wins: a change on the slave lasts until then.

use super::timers::MasterTimers;
use crate::assignment::{self, Modes};
use crate::core::Core;
use crate::delay::{self, DelayOffsets};
use crate::registration::MasterAddresses;
use crate::{group, offset, topic};
use bytes::Bytes;
use net::client::{Peer, PeerOptions};
use net::session::Connector;
use protocol::json::JsonError;
use protocol::{Frame, RequestCode, ResponseCode};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Time between two copies.
const PERIOD: Duration = Duration::from_secs(3);
/// How long the master may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The tables, in the order in which they are copied: a topic comes before its offsets.
const TABLES: [RequestCode; 5] = [
    RequestCode::GetAllTopicConfig,
    RequestCode::GetAllSubscriptiongroupConfig,
    RequestCode::GetAllConsumerOffset,
    RequestCode::GetAllDelayOffset,
    RequestCode::GetAllMessageRequestMode,
];

/// Tables that are not in [`Core`], and how the master is reached.
#[derive(Clone)]
pub struct MasterTables {
    /// Progress of delay levels.
    pub delays: Arc<DelayOffsets>,
    /// How groups get messages.
    pub modes: Arc<Modes>,
    /// Makes sessions; without it connections are plain TCP.
    pub connector: Option<Arc<dyn Connector>>,
}

impl MasterTables {
    /// Copies the tables of the master that is named, again and again.
    pub(super) async fn copy_all(&self, core: &Core, mut master: watch::Receiver<Option<MasterAddresses>>) {
        let mut known: Option<(String, Peer)> = None;
        let mut timers = MasterTimers::default();
        // Logged once for each reason.
        let mut last_why = String::new();
        loop {
            let address = master.borrow_and_update().as_ref().and_then(|master| master.clients.clone());
            if let Some(address) = address {
                let kept = known.take().filter(|(of, peer)| *of == address && !peer.is_closed());
                let copied = self.copy_from(core, &address, kept.map(|(_, peer)| peer));
                let copied = async {
                    let peer = copied.await?;
                    timers.copy_from(core, &peer, TIMEOUT).await?;
                    Ok::<_, io::Error>(peer)
                };
                match copied.await {
                    Ok(peer) => {
                        known = Some((address, peer));
                        last_why.clear();
                    }
                    Err(why) => {
                        let why = why.to_string();
                        if why != last_why {
                            tracing::warn!(master = address, why, "the master's tables were not copied, retrying");
                            last_why = why;
                        }
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                changed = master.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn copy_from(&self, core: &Core, master: &str, kept: Option<Peer>) -> io::Result<Peer> {
        let peer = match kept {
            Some(peer) => peer,
            None => {
                let options = PeerOptions {
                    connector: self.connector.clone(),
                    ..PeerOptions::default()
                };
                Peer::connect(master, options).await?
            }
        };
        for code in TABLES {
            let answer = peer.request(Frame::request(code), TIMEOUT).await.map_err(io::Error::other)?;
            if answer.code != i32::from(ResponseCode::Success) {
                let remark = answer.remark.unwrap_or_default();
                return Err(io::Error::other(format!(
                    "{code:?} was answered with code {}: {remark}",
                    answer.code
                )));
            }
            let (this, core) = (self.clone(), core.clone());
            let copied = tokio::task::spawn_blocking(move || this.take_over(&core, code, &answer.body));
            let copied = copied.await.map_err(io::Error::other)?;
            copied.map_err(|error| io::Error::other(format!("{code:?}: {error}")))?;
        }
        Ok(peer)
    }

    fn take_over(&self, core: &Core, code: RequestCode, body: &Bytes) -> Result<(), JsonError> {
        // A master of Apache has no modes before one is set.
        if body.is_empty() {
            return Ok(());
        }
        match code {
            RequestCode::GetAllTopicConfig => topic::table::copy(&core.topics, body),
            RequestCode::GetAllSubscriptiongroupConfig => group::table::copy(&core.groups, body),
            RequestCode::GetAllConsumerOffset => offset::table::copy(&core.offsets, body),
            RequestCode::GetAllDelayOffset => delay::table::copy(&self.delays, body),
            _ => assignment::table::copy(&self.modes, body),
        }
    }
}
