//! The thread `controlled`: heartbeats to the controllers, and what they say.

use super::controllers::{Controllers, Failed};
use super::decide::{Decisions, MAY_BE_DONE_MS, Next, Outcome, Request, Rules, Running, RunsAs, Silence};
use super::identity::{Asked, IdentityFiles};
use super::member::{Event, Shared};
use crate::feature::ticks;
use crate::place::Elected;
use crate::settings::BrokerSettings;
use protocol::ResponseCode;
use replication::{Members, Proposal, now_ms};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

/// Heartbeats in the time after which this broker is taken for dead.
const BEATS: u32 = 5;
/// Time between two looks at the in-sync set.
const IN_SYNC_EVERY: Duration = Duration::from_millis(100);
/// Pause before another attempt while no controller answers.
const RETRY: Duration = Duration::from_millis(200);

/// Watches the controllers for one broker.
pub(super) struct Watch {
    pub(super) controllers: Controllers,
    pub(super) files: IdentityFiles,
    pub(super) settings: BrokerSettings,
    pub(super) shared: Arc<Shared>,
    pub(super) events: Sender<Event>,
    /// The machine may have lost power since this broker ran.
    pub(super) unsafe_stop: Option<UnsafeStop>,
}

/// The last process may have lost the end of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnsafeStop {
    /// The last epoch of the log.
    pub(super) epoch: i32,
    /// What was acknowledged may be lost, too.
    pub(super) has_lost: bool,
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
        let rules = Rules {
            id,
            timeout_ms: self.settings.controller_heartbeat_timeout.as_millis() as i64,
            patience_ms: self.settings.ha_max_time_slave_not_catchup.as_millis() as i64,
            is_learner: self.settings.async_learner,
        };
        let follower = Follower {
            watch: self,
            id,
            decisions: Decisions::new(rules),
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
        if let Some(unsafe_stop) = self.unsafe_stop {
            self.be_silent(id, unsafe_stop).await;
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

    /// See [`Silence`].
    async fn be_silent(&self, id: i64, unsafe_stop: UnsafeStop) {
        let UnsafeStop { epoch, has_lost } = unsafe_stop;
        let (timeout, settings) = (self.settings.controller_heartbeat_timeout, &self.settings);
        let patience = timeout * 2 + Duration::from_secs(5);
        let forgotten = settings.ha_housekeeping_interval + Duration::from_millis(MAY_BE_DONE_MS as u64);
        let put_out = forgotten + patience + settings.ha_max_time_slave_not_catchup;
        let now = now_ms();
        let mut silence = Silence {
            id,
            epoch,
            has_lost,
            forgotten_ms: now + forgotten.as_millis() as i64,
            until_ms: now + patience.as_millis() as i64,
            in_sync_until_ms: now + put_out.as_millis() as i64,
            beat_ms: if has_lost { now + patience.as_millis() as i64 } else { now },
            beat_every_ms: patience.as_millis() as i64,
        };
        tracing::warn!(
            epoch,
            has_lost,
            "this machine may have lost power, and with it the end of the log; waiting until the controllers have another epoch, or this replica is \
             not in the in-sync set"
        );
        loop {
            if let Ok(told) = self.controllers.told().await {
                if silence.is_over(&told, now_ms()) {
                    return;
                }
                if silence.must_beat(&told, now_ms()) {
                    let timeout_ms = timeout.as_millis() as i64;
                    // It is repeated.
                    let _ = self
                        .controllers
                        .beat(id, self.shared.progress(), timeout_ms, settings.broker_election_priority)
                        .await;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// A broker that has its id.
struct Follower {
    watch: Watch,
    id: i64,
    decisions: Decisions,
}

/// The running broker, for decisions.
struct Body<'s>(&'s Shared);

impl Running for Body<'_> {
    fn role(&self) -> Option<RunsAs> {
        let role = self.0.with(|core| match &core.place.as_ref()?.elected {
            Elected::Master { epoch, .. } => Some(RunsAs::Master { epoch: *epoch }),
            // The thread `member` knows its epoch.
            Elected::Slave { .. } => Some(RunsAs::Slave { epoch: 0 }),
        });
        role.flatten()
    }

    fn set_lease(&mut self, until_ms: i64) {
        self.0.with(|core| core.role.set_lease(until_ms));
    }

    fn give_up(&mut self) {
        self.0.with(|core| core.role.give_up());
    }

    fn propose(&mut self, patience_ms: i64) -> Option<Proposal> {
        let proposal = self.0.with(|core| {
            let end = core.store.written().0;
            core.acks.change(&core.store, |set| set.propose(end, patience_ms, now_ms()))
        });
        proposal.flatten().flatten()
    }

    fn told_in_sync(&mut self, members: Members, is_settled: bool) {
        self.0
            .with(|core| core.acks.change(&core.store, |set| set.told(members, is_settled, now_ms())));
    }

    fn can_write(&self) -> bool {
        self.0.with(|core| core.store.not_writable().is_none()).unwrap_or(true)
    }

    fn is_leaving(&self) -> bool {
        self.0.is_leaving()
    }

    fn in_sync(&self) -> BTreeSet<i64> {
        let told = self.0.with(|core| core.acks.look(|set| set.members().ids.clone()));
        told.flatten().unwrap_or_default()
    }
}

impl Follower {
    async fn run(mut self) {
        let period = self.watch.settings.controller_heartbeat_timeout / BEATS;
        let (mut beats, mut looks) = (ticks(period), ticks(IN_SYNC_EVERY));
        let mut last_why = String::new();
        loop {
            let is_beat = tokio::select! {
                _ = beats.tick() => true,
                () = self.watch.shared.poke.notified() => true,
                _ = looks.tick() => false,
            };
            let first = match is_beat {
                true => Some(self.decisions.beat(now_ms())),
                false => self.decisions.look(&mut Body(&self.watch.shared), now_ms()),
            };
            let outcome = match first {
                Some(request) => self.ask(request).await,
                None => Ok(()),
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

    /// Asks, and what follows. Returns the first failure.
    async fn ask(&mut self, mut request: Request) -> Result<(), Failed> {
        let mut failed = None;
        loop {
            let outcome = match self.outcome_of(&request).await {
                Ok(outcome) => outcome,
                Err(why) => {
                    let outcome = match why {
                        Failed::Refused { .. } => Outcome::Refused,
                        Failed::Unknown(_) => Outcome::Unknown,
                    };
                    // Nobody may be elected yet: that is no failure.
                    if !(matches!(request, Request::Elect) && outcome == Outcome::Refused) {
                        failed.get_or_insert(why);
                    }
                    outcome
                }
            };
            match self.decisions.answered(outcome, &mut Body(&self.watch.shared), now_ms()) {
                Next::Ask(next) => request = next,
                Next::Become(told, lease_until) => {
                    // The thread has ended if the broker stops.
                    let _ = self.watch.events.send(Event::Told(told, lease_until));
                    break;
                }
                Next::Rest => break,
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn outcome_of(&self, request: &Request) -> Result<Outcome, Failed> {
        let Watch {
            controllers,
            settings,
            shared,
            ..
        } = &self.watch;
        match request {
            Request::Beat => {
                let timeout_ms = settings.controller_heartbeat_timeout.as_millis() as i64;
                controllers
                    .beat(self.id, shared.progress(), timeout_ms, settings.broker_election_priority)
                    .await?;
                Ok(Outcome::Beaten)
            }
            Request::Told => match controllers.told().await {
                Ok(told) => Ok(Outcome::Told(told)),
                Err(unknown) if unknown.is(ResponseCode::ControllerBrokerMetadataNotExist) => Err(self.register_again(unknown).await),
                Err(other) => Err(other),
            },
            Request::Elect => controllers.elect(self.id, false, None).await.map(Outcome::Told),
            Request::HandOver { to, gave_up } => controllers.elect(*to, true, *gave_up).await.map(Outcome::Told),
            Request::Register => controllers.register(self.id).await.map(|()| Outcome::Registered),
            Request::Alter { epoch, members, replaces } => {
                controllers.alter(self.id, *epoch, members, *replaces).await.map(Outcome::Members)
            }
        }
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
}
