//! Heartbeats to the name servers, and what their answers change.

use super::members::{Group, Part};
use super::{Acting, MASTER_COMES};
use crate::replication::ask_for_replica_port;
use protocol::register::BrokerHeartbeatHeader;
use protocol::route::{MemberGroupHeader, MemberGroupReply};
use protocol::{Frame, RequestCode, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How long a broker or a name server may take to answer a question.
const TIMEOUT: Duration = Duration::from_secs(3);

impl Acting {
    /// Sends heartbeats and asks who is there, until it is dropped.
    pub(super) async fn watch(self: &Arc<Self>) {
        let (heartbeat, period) = {
            let settings = self.parts.core.settings.current();
            (settings.broker_heartbeat_interval, settings.sync_broker_member_group_period)
        };
        let mut heartbeats = crate::feature::ticks(heartbeat);
        let mut questions = crate::feature::ticks(period);
        loop {
            tokio::select! {
                _ = heartbeats.tick() => self.send_heartbeats(),
                _ = questions.tick() => self.ask_and_act().await,
                () = self.poke.notified() => self.ask_and_act().await,
            }
        }
    }

    /// One to each name server. Nobody waits for the answers; one that cannot be reached delays no other.
    fn send_heartbeats(self: &Arc<Self>) {
        for name_server in self.parts.name_servers.clone() {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = this.send_heartbeat(&name_server).await {
                    tracing::debug!(%error, "no heartbeat at a name server");
                }
            });
        }
    }

    async fn send_heartbeat(&self, name_server: &str) -> io::Result<()> {
        let timeout = self.parts.core.settings.current().send_heartbeat_timeout;
        let local = self.peers.to(name_server, timeout).await?.connection().local();
        let (broker_addr, _) = self.identity.addresses(local);
        let header = BrokerHeartbeatHeader {
            cluster_name: &self.identity.cluster,
            broker_addr: &broker_addr,
            broker_name: &self.identity.broker,
            broker_id: Some(self.identity.broker_id),
            epoch: None,
            max_offset: None,
            confirm_offset: None,
            heartbeat_timeout_ms: None,
            election_priority: None,
        };
        let mut frame = Frame::request(RequestCode::BrokerHeartbeat);
        header.encode(&mut frame.ext);
        self.peers.ask_for(name_server, frame, timeout).await?;
        self.heartbeats.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Who is there, as all name servers together say; `None` if none of them answers.
    pub(super) async fn ask_who_is_there(self: &Arc<Self>) -> Option<Group> {
        let mut asked = JoinSet::new();
        for name_server in self.parts.name_servers.clone() {
            let this = Arc::clone(self);
            asked.spawn(async move { this.ask_for_members(&name_server).await });
        }
        let mut group = None;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(members)) => group.get_or_insert_with(Group::default).add(members),
                Ok(Err(error)) => tracing::debug!(%error, "a name server does not say who of this broker's name is there"),
                Err(error) => tracing::error!(%error, "asking a name server failed"),
            }
        }
        group
    }

    async fn ask_for_members(&self, name_server: &str) -> io::Result<BTreeMap<i64, String>> {
        let header = MemberGroupHeader {
            cluster_name: &self.identity.cluster,
            broker_name: &self.identity.broker,
        };
        let mut frame = Frame::request(RequestCode::GetBrokerMemberGroup);
        header.encode(&mut frame.ext);
        let timeout = self.parts.core.settings.current().send_heartbeat_timeout;
        let answer = self.peers.ask_for(name_server, frame, timeout).await?;
        let reply: MemberGroupReply = json::read(&answer.body).map_err(io::Error::other)?;
        Ok(reply.broker_member_group.map(|group| group.broker_addrs).unwrap_or_default())
    }

    async fn ask_and_act(self: &Arc<Self>) {
        let Some(group) = self.ask_who_is_there().await else { return };
        let part = group.part_of(self.identity.broker_id);
        *self.group.lock() = group;
        if !self.parts.core.role.is_slave() {
            return;
        }
        match part {
            Part::Follow(master) => self.follow(&master).await,
            Part::Act => self.act().await,
            Part::Wait => {
                self.end_acting().await;
                self.note_gone();
            }
            Part::Unknown => {}
        }
    }

    /// The master is registered.
    async fn follow(self: &Arc<Self>, master: &str) {
        self.end_acting().await;
        *self.master_comes.lock() = None;
        let known = self.parts.standings.master().borrow().clone();
        if known.is_some_and(|known| known.clients.as_deref() == Some(master)) {
            return;
        }
        match self.ask_for_replica_port(master).await {
            Ok(slaves) => self.parts.standings.heard_of_master(Some(master), slaves.as_deref()),
            // The next registration tells it as well.
            Err(error) => tracing::debug!(%error, "the master does not say where slaves connect"),
        }
    }

    async fn ask_for_replica_port(&self, master: &str) -> io::Result<Option<String>> {
        let port = ask_for_replica_port(&self.peers, master, TIMEOUT).await?;
        self.heard_master_flushed(port.flushed);
        Ok(port.address)
    }

    async fn act(self: &Arc<Self>) {
        let role = &self.parts.core.role;
        if !role.acts() {
            role.set_acts(true);
            self.times.fetch_add(1, Relaxed);
            tracing::warn!(
                broker = self.identity.broker,
                id = self.identity.broker_id,
                "the master is gone and this slave has the lowest id: it acts for the master"
            );
        }
        // A master that only lost its name servers still delivers.
        let may_deliver = !self.parts.replication.is_connected() && !self.is_master_coming();
        if may_deliver {
            self.note_gone();
        }
        let is_wanted = may_deliver && self.parts.core.settings.current().enable_remote_escape;
        if is_wanted != role.delivers() {
            self.switch_delivery(is_wanted).await;
        }
    }

    /// Begins or ends delivery, on a thread of its own: it may have to read the log, and waits for other brokers.
    async fn switch_delivery(self: &Arc<Self>, on: bool) {
        let (this, (done, switched)) = (Arc::clone(self), oneshot::channel());
        let switch = move || {
            if on {
                this.begin_delivery();
            } else {
                this.end_delivery();
            }
            // The receiver is gone if the broker stops.
            let _: Result<(), ()> = done.send(());
        };
        match std::thread::Builder::new().name("acting".to_owned()).spawn(switch) {
            Ok(_) => drop(switched.await),
            Err(error) => tracing::error!(%error, "delivery for the master did not begin or end, trying again"),
        }
    }

    /// Nobody follows a master that is gone, and does not come.
    fn note_gone(&self) {
        if !self.parts.replication.is_connected() && !self.is_master_coming() {
            self.parts.standings.master_went();
        }
    }

    async fn end_acting(self: &Arc<Self>) {
        let role = &self.parts.core.role;
        if role.delivers() {
            self.switch_delivery(false).await;
        }
        if role.acts() {
            role.set_acts(false);
            tracing::info!("this slave no longer acts for the master");
        }
    }

    /// The master comes online: what this slave did is complete when this returns. Blocks.
    pub(super) fn master_comes(&self, slaves: &str, flushed: Option<i64>) {
        *self.master_comes.lock() = Some(Instant::now() + MASTER_COMES);
        self.heard_master_flushed(flushed);
        self.end_delivery();
        tracing::info!(address = slaves, "the master comes online");
        self.parts.standings.master_comes(slaves);
    }
}
