//! The thread `controlled`: heartbeats to the controllers, and what they say.

use super::Told;
use super::controllers::{Controllers, Failed};
use super::identity::{Asked, IdentityFiles};
use super::member::{Event, Shared};
use crate::feature::ticks;
use crate::place::Elected;
use crate::settings::BrokerSettings;
use parking_lot::Mutex;
use protocol::ResponseCode;
use replication::{Members, Proposal, now_ms};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Heartbeats in the time after which this broker is taken for dead.
const BEATS: u32 = 5;
/// Time between two looks at the in-sync set.
const IN_SYNC_EVERY: Duration = Duration::from_millis(100);
/// Pause before another attempt while no controller answers.
const RETRY: Duration = Duration::from_millis(200);
/// A change of the in-sync set whose answer is lost may be done until so long after it.
const MAY_BE_DONE: Duration = Duration::from_secs(15);
/// Of the time after which this broker is taken for dead, what its lease is shorter, for clocks that differ in speed.
const MARGIN: u32 = 20;

/// Watches the controllers for one broker.
pub(super) struct Watch {
    pub(super) controllers: Controllers,
    pub(super) files: IdentityFiles,
    pub(super) settings: BrokerSettings,
    pub(super) shared: Arc<Shared>,
    pub(super) events: Sender<Event>,
    /// The machine may have lost what this broker had acknowledged.
    pub(super) may_have_lost: bool,
}

/// A running watch.
pub(super) struct Watching {
    thread: JoinHandle<()>,
    id: Arc<AtomicI64>,
}

impl Watching {
    /// The id of this broker, once it has one.
    pub(super) fn id(&self) -> Option<i64> {
        Some(self.id.load(Ordering::Acquire)).filter(|id| *id > 0)
    }

    pub(super) fn join(self) {
        let _ = self.thread.join();
    }
}

impl Watch {
    pub(super) fn spawn(self) -> io::Result<Watching> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .thread_name("controlled-disk")
            .max_blocking_threads(1)
            .enable_all()
            .build()?;
        let id = Arc::new(AtomicI64::new(0));
        let known = Arc::clone(&id);
        let thread = std::thread::Builder::new().name("controlled".to_owned()).spawn(move || {
            let stop = Arc::clone(&self.shared);
            runtime.block_on(async move {
                tokio::select! {
                    () = stop.stop.notified() => {}
                    () = self.run(&known) => {}
                }
            });
        })?;
        Ok(Watching { thread, id })
    }

    async fn run(self, known: &AtomicI64) {
        let id = self.until_it_works(known).await;
        let follower = Follower {
            watch: self,
            id,
            proposed: Mutex::default(),
        };
        follower.run().await;
    }

    /// Takes an id, registers, and has a master elected if there is none; again until it works.
    async fn until_it_works(&self, known: &AtomicI64) -> i64 {
        let mut last_why = String::new();
        loop {
            match self.begin(known).await {
                Ok(id) => return id,
                Err(why) => {
                    let why = why.to_string();
                    if why != last_why {
                        tracing::warn!(
                            controllers = self.controllers.addresses(),
                            why,
                            "this broker has no role yet, trying again"
                        );
                        last_why = why;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn begin(&self, known: &AtomicI64) -> Result<i64, Failed> {
        let id = self.take_id().await?;
        if self.may_have_lost {
            self.wait_for_another_master(id).await;
        }
        self.controllers.register(id).await?;
        known.store(id, Ordering::Release);
        Ok(id)
    }

    async fn take_id(&self) -> Result<i64, Failed> {
        if let Some(id) = self.files.id()? {
            return Ok(id);
        }
        let asked = match self.files.asked()? {
            Some(asked) => asked,
            None => {
                let asked = Asked {
                    id: self.controllers.next_id().await?,
                    check_code: format!("{};{}", self.controllers.own_address().await?, crate::clock::now_ms()),
                };
                self.files.ask(&asked)?;
                asked
            }
        };
        match self.controllers.take_id(asked.id, &asked.check_code).await {
            Ok(()) => {}
            Err(refused @ Failed::Refused { .. }) => {
                self.files.forget_asked()?;
                return Err(refused);
            }
            Err(unknown) => return Err(unknown),
        }
        self.files.take(asked.id)?;
        tracing::info!(id = asked.id, "the controllers have given this broker an id");
        Ok(asked.id)
    }

    /// Without a heartbeat of this broker the controllers elect another one that is in sync, if one lives.
    async fn wait_for_another_master(&self, id: i64) {
        let patience = self.settings.controller_heartbeat_timeout * 2 + Duration::from_secs(5);
        let deadline = Instant::now() + patience;
        tracing::warn!(
            ?patience,
            "this machine may have lost power, and messages that were acknowledged before they were on its disk; waiting for another replica to become \
             the master"
        );
        while Instant::now() < deadline {
            if let Ok(told) = self.controllers.told().await
                && told.master.as_ref().is_some_and(|(master, _)| *master != id)
            {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// A broker that has its id.
struct Follower {
    watch: Watch,
    id: i64,
    proposed: Mutex<Option<Open>>,
}

/// A change of the in-sync set that may be done.
struct Open {
    proposal: Proposal,
    /// When an attempt was last made whose outcome is not known.
    lost_at: Option<Instant>,
}

impl Follower {
    async fn run(self) {
        let period = self.watch.settings.controller_heartbeat_timeout / BEATS;
        let (mut beats, mut looks) = (ticks(period), ticks(IN_SYNC_EVERY));
        let mut last_why = String::new();
        loop {
            let outcome = tokio::select! {
                _ = beats.tick() => self.beat().await,
                () = self.watch.shared.poke.notified() => self.beat().await,
                _ = looks.tick() => self.look_at_in_sync_set().await,
            };
            match outcome {
                Ok(()) => last_why.clear(),
                Err(why) => {
                    let why = why.to_string();
                    if why != last_why {
                        tracing::warn!(
                            controllers = self.watch.controllers.addresses(),
                            why,
                            "no answer from the controllers"
                        );
                        last_why = why;
                    }
                }
            }
        }
    }

    /// A heartbeat, and what the leading controller says then.
    async fn beat(&self) -> Result<(), Failed> {
        let Watch {
            controllers,
            settings,
            shared,
            ..
        } = &self.watch;
        let timeout_ms = settings.controller_heartbeat_timeout.as_millis() as i64;
        let sent_ms = now_ms();
        controllers
            .beat(self.id, shared.progress(), timeout_ms, settings.broker_election_priority)
            .await?;
        let told = match controllers.told().await {
            Ok(told) => told,
            Err(unknown) if unknown.is(ResponseCode::ControllerBrokerMetadataNotExist) => {
                return Err(self.register_again(unknown).await);
            }
            Err(other) => return Err(other),
        };
        let told = match told.master {
            None if !settings.async_learner => self.elect(told).await?,
            _ => told,
        };
        self.take(told, sent_ms, timeout_ms).await
    }

    /// The controllers do not know this name any more.
    async fn register_again(&self, why: Failed) -> Failed {
        tracing::error!(
            "the controllers do not know this broker: their state was removed; stop the broker, remove brokerIdentity, and start it again"
        );
        match self.watch.controllers.register(self.id).await {
            Ok(()) => why,
            Err(refused) => refused,
        }
    }

    async fn elect(&self, told: Told) -> Result<Told, Failed> {
        match self.watch.controllers.elect(self.id).await {
            Ok(elected) => Ok(elected),
            // Nobody may be elected yet.
            Err(Failed::Refused { .. }) => Ok(told),
            Err(unknown) => Err(unknown),
        }
    }

    async fn take(&self, mut told: Told, sent_ms: i64, timeout_ms: i64) -> Result<(), Failed> {
        let Watch {
            controllers,
            shared,
            events,
            ..
        } = &self.watch;
        let is_master = told.master.as_ref().is_some_and(|(id, _)| *id == self.id);
        let running = shared.with(|core| core.place.as_ref().map(|place| place.elected.clone())).flatten();
        match running {
            Some(Elected::Master { epoch, .. }) if is_master && epoch == told.epoch => {
                let lease = sent_ms + timeout_ms - timeout_ms / i64::from(MARGIN);
                shared.with(|core| core.role.set_lease(lease));
                self.told_in_sync(told.members, false);
                return Ok(());
            }
            None if is_master && told.members.ids.len() > 1 => {
                // A start of a broker that still is the master.
                let alone = BTreeSet::from([self.id]);
                told.members = controllers.alter(self.id, told.epoch, &alone, told.members.epoch).await?;
            }
            _ => {}
        }
        // The thread has ended if the broker stops.
        let _ = events.send(Event::Told(told));
        Ok(())
    }

    fn told_in_sync(&self, members: Members, is_settled: bool) {
        let mut open = self.proposed.lock();
        let is_over = |open: &Open| open.lost_at.is_some_and(|at| at.elapsed() > MAY_BE_DONE);
        let is_newer = open.as_ref().is_some_and(|open| members.epoch > open.proposal.replaces);
        let is_settled = is_settled || is_newer || open.as_ref().is_some_and(is_over);
        if is_settled {
            *open = None;
        }
        drop(open);
        self.watch
            .shared
            .with(|core| core.acks.change(&core.store, |set| set.told(members, is_settled, now_ms())));
    }

    /// Proposes a change of the in-sync set if one is due, or again if its answer was lost.
    async fn look_at_in_sync_set(&self) -> Result<(), Failed> {
        let Watch {
            controllers,
            settings,
            shared,
            ..
        } = &self.watch;
        let patience_ms = settings.ha_max_time_slave_not_catchup.as_millis() as i64;
        let due = shared.with(|core| {
            let epoch = match &core.place.as_ref()?.elected {
                Elected::Master { epoch, .. } => *epoch,
                Elected::Slave { .. } => return None,
            };
            let end = core.store.written().0;
            let proposal = core
                .acks
                .change(&core.store, |set| set.propose(end, patience_ms, now_ms()))
                .flatten();
            Some((epoch, proposal))
        });
        let Some((epoch, proposal)) = due.flatten() else {
            *self.proposed.lock() = None;
            return Ok(());
        };
        let proposal = {
            let mut open = self.proposed.lock();
            if let Some(proposal) = proposal {
                tracing::info!(members = ?proposal.members, replaces = proposal.replaces, "the in-sync set is to change");
                *open = Some(Open { proposal, lost_at: None });
            }
            let again = open
                .as_ref()
                .filter(|open| open.lost_at.is_none_or(|at| at.elapsed() <= MAY_BE_DONE));
            match again {
                Some(open) => open.proposal.clone(),
                None => return Ok(()),
            }
        };
        match controllers.alter(self.id, epoch, &proposal.members, proposal.replaces).await {
            Ok(members) => {
                tracing::warn!(members = ?members.ids, epoch = members.epoch, "the in-sync set has changed");
                self.told_in_sync(members, true);
                Ok(())
            }
            Err(refused @ Failed::Refused { .. }) => {
                let told = controllers.told().await?;
                let is_known = self.proposed.lock().as_ref().is_none_or(|open| open.lost_at.is_none());
                self.told_in_sync(told.members, is_known);
                Err(refused)
            }
            Err(unknown) => {
                if let Some(open) = &mut *self.proposed.lock() {
                    open.lost_at = Some(Instant::now());
                }
                Err(unknown)
            }
        }
    }
}
