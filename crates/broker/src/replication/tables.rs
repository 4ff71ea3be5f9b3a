//! A slave's copies of the master's tables: topics, groups, offsets, progress of delay levels, request modes, and how far timers are done
//! ([`timers`](super::timers)).
//!
//! Asked for by the requests that Apache's slaves use once a minute: topics, groups and modes when the master says that they have changed ([`super::changes`]),
//! the rest every second; all of it every 3 s from a master that does not say. What the master has wins: a change on the slave lasts until then.

use super::changes::PATIENCE;
use super::timers::MasterTimers;
use crate::assignment::{self, Modes};
use crate::core::Core;
use crate::delay::{self, DelayOffsets};
use crate::registration::MasterAddresses;
use crate::{group, offset, static_topic, topic};
use bytes::Bytes;
use net::client::{Peer, PeerOptions};
use net::session::Connector;
use protocol::json::JsonError;
use protocol::replication::{TableVersions, WAIT_FOR_TABLES, WaitForTablesHeader};
use protocol::{Frame, RequestCode, ResponseCode};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Time between two copies of a master that does not say when its tables have changed.
const PERIOD: Duration = Duration::from_secs(3);
/// Time between two copies of what changes with every message that is consumed.
const OFFSETS_PERIOD: Duration = Duration::from_secs(1);
/// Between two copies passes so many times the time that the first took, at least.
const PAUSE_BY_COPY: u32 = 20;
/// How long the master may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tables that change when somebody changes them; copied before those below: a topic comes before its offsets.
const CHANGED_BY_HAND: [RequestCode; 3] = [
    RequestCode::GetAllTopicConfig,
    RequestCode::GetAllSubscriptiongroupConfig,
    RequestCode::GetAllMessageRequestMode,
];
/// Tables that change with every message.
const CHANGED_BY_MESSAGES: [RequestCode; 2] = [RequestCode::GetAllConsumerOffset, RequestCode::GetAllDelayOffset];

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
        // Logged once for each reason.
        let mut last_why = String::new();
        loop {
            let address = master.borrow_and_update().as_ref().and_then(|master| master.clients.clone());
            let copy = async {
                let Some(address) = &address else {
                    return std::future::pending().await;
                };
                let why = match self.copy_from(core, address).await {
                    Err(why) => why.to_string(),
                    Ok(never) => match never {},
                };
                if why != last_why {
                    tracing::warn!(master = address, why, "the master's tables were not copied, retrying");
                    last_why = why;
                }
                tokio::time::sleep(PERIOD).await;
            };
            tokio::select! {
                () = copy => {}
                changed = master.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Copies the tables of this master until that fails.
    async fn copy_from(&self, core: &Core, master: &str) -> io::Result<Infallible> {
        let options = PeerOptions {
            connector: self.connector.clone(),
            ..PeerOptions::default()
        };
        let peer = Peer::connect(master, options).await?;
        let mut timers = MasterTimers::default();
        let mut known: Option<String> = None;
        // The next time at which what changes by messages is copied.
        let mut next = Instant::now();
        loop {
            let versions = self.wait_for_changes(core, &peer, known.as_deref()).await?;
            if versions.is_none() || versions != known {
                self.copy(core, &peer, &CHANGED_BY_HAND).await?;
            }
            if Instant::now() >= next {
                let begun = Instant::now();
                self.copy(core, &peer, &CHANGED_BY_MESSAGES).await?;
                timers.copy_from(core, &peer, TIMEOUT).await?;
                next = Instant::now() + OFFSETS_PERIOD.max(begun.elapsed() * PAUSE_BY_COPY);
            }
            if versions.is_none() {
                tokio::time::sleep(PERIOD).await;
            }
            known = versions;
        }
    }

    /// Waits until the master has other versions than these, for a second at most. `None` if it does not say.
    async fn wait_for_changes(&self, core: &Core, master: &Peer, known: Option<&str>) -> io::Result<Option<String>> {
        let settings = core.settings.current();
        let header = WaitForTablesHeader {
            broker_id: core.place.as_ref().map_or(settings.broker_id as i64, |place| place.member.id),
            known,
        };
        let mut frame = Frame::request(RequestCode::GetAllTopicConfig);
        frame.code = WAIT_FOR_TABLES;
        header.encode(&mut frame.ext);
        let answer = master.request(frame, PATIENCE + TIMEOUT).await.map_err(io::Error::other)?;
        if answer.code == i32::from(ResponseCode::RequestCodeNotSupported) {
            return Ok(None);
        }
        succeeded(&answer, "the question for changed tables")?;
        let versions = TableVersions::decode(&answer.ext).map_err(io::Error::other)?;
        Ok(Some(versions.versions.to_owned()))
    }

    async fn copy(&self, core: &Core, master: &Peer, tables: &[RequestCode]) -> io::Result<()> {
        for code in tables.iter().copied() {
            let answer = master.request(Frame::request(code), TIMEOUT).await.map_err(io::Error::other)?;
            succeeded(&answer, &format!("{code:?}"))?;
            let (this, core) = (self.clone(), core.clone());
            let copied = tokio::task::spawn_blocking(move || this.take_over(&core, code, &answer.body));
            let copied = copied.await.map_err(io::Error::other)?;
            copied.map_err(|error| io::Error::other(format!("{code:?}: {error}")))?;
        }
        Ok(())
    }

    fn take_over(&self, core: &Core, code: RequestCode, body: &Bytes) -> Result<(), JsonError> {
        // A master of Apache has no modes before one is set.
        if body.is_empty() {
            return Ok(());
        }
        match code {
            RequestCode::GetAllTopicConfig => {
                topic::table::copy(&core.topics, body)?;
                static_topic::table::copy(&core.topics, body)
            }
            RequestCode::GetAllSubscriptiongroupConfig => group::table::copy(&core.groups, body),
            RequestCode::GetAllConsumerOffset => offset::table::copy(&core.offsets, body),
            RequestCode::GetAllDelayOffset => delay::table::copy(&self.delays, body),
            _ => assignment::table::copy(&self.modes, body),
        }
    }
}

fn succeeded(answer: &Frame, what: &str) -> io::Result<()> {
    if answer.code == i32::from(ResponseCode::Success) {
        return Ok(());
    }
    let remark = answer.remark.as_deref().unwrap_or_default();
    Err(io::Error::other(format!("{what} was answered with code {}: {remark}", answer.code)))
}
