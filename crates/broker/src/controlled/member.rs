//! The thread `member`: starts and stops the broker in the role that it is to have.

use super::controllers::{Controllers, Progress};
use super::decide::{Change, RunsAs, Told, Wanted, change_of_role};
use super::identity::IdentityFiles;
use super::watch::{UnsafeStop, Watch};
use crate::core::Core;
use crate::place::{Elected, Place};
use crate::settings::BrokerSettings;
use crate::start::{Broker, StartError, Stop};
use net::OpenSockets;
use net::session::Transport;
use parking_lot::Mutex;
use replication::{EpochFile, Member, now_ms};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::disk::Disk;
use store::{LastStop, StoreError};
use tokio::sync::{Notify, watch};

/// Answers that are on their way when a broker changes its role leave within this time.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a store of the last role may take to be closed by all who use it.
const CLOSING: Duration = Duration::from_secs(10);
/// How long a master that is to stop waits until another one is elected.
const ELECTION: Duration = Duration::from_secs(3);
/// It stops when clients have sent nothing to it for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Time between two looks at that.
const LOOK: Duration = Duration::from_millis(20);
/// How long a start waits for a role before it goes on in the background.
const FIRST_ROLE: Duration = Duration::from_secs(5);

/// A broker whose role the controllers decide. Its port is open while it has one.
pub struct ControlledBroker {
    events: Sender<Event>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

/// What the thread `member` hears.
pub(super) enum Event {
    /// With the time until when it may take messages as the master.
    Told(Told, i64),
    Stop,
}

/// What the running broker, the thread `member` and the watch share.
pub(super) struct Shared {
    /// Of the running broker. Nobody keeps a clone: the store is closed with the broker.
    core: Mutex<Option<Core>>,
    /// How far the log was when the broker last ran.
    progress: Mutex<Progress>,
    pub(super) poke: Notify,
    pub(super) stop: Notify,
    broken: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// The broker is to stop: a master hands over before.
    is_leaving: AtomicBool,
}

impl Shared {
    /// Whether the broker is to stop, and hands over before.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Looks at the running broker.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Core) -> T) -> Option<T> {
        self.core.lock().as_ref().map(look)
    }

    /// How far the log is.
    pub(super) fn progress(&self) -> Progress {
        let now = self.with(progress_of);
        let mut last = self.progress.lock();
        if let Some(now) = now {
            *last = now;
        }
        *last
    }

    fn fail(&self) {
        if let Some(act) = &*self.broken.lock() {
            act();
        }
    }
}

fn progress_of(core: &Core) -> Progress {
    let epochs = core.place.as_ref().map(|place| place.member.epochs.epochs());
    Progress {
        epoch: epochs.and_then(|epochs| epochs.last()).map_or(0, |last| last.number),
        end: core.store.written().0,
        confirmed: core.store.confirmed().0,
    }
}

impl ControlledBroker {
    /// Asks the controllers of the settings for an id and a role, and starts the broker in it. Returns when it runs, or after five seconds
    /// without a role, which it then waits for in the background.
    ///
    /// # Errors
    /// [`StartError`]: the directory cannot be used, or the broker could not be started in its first role.
    pub fn start(settings: BrokerSettings, transport: Transport, name_servers: &[String], disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        let root = &settings.store_path_root_dir;
        disk.create_dir_all(root)?;
        let epochs = Arc::new(EpochFile::open(disk.clone(), &root.join("epochFileCheckpoint"))?);
        let stop = LastStop::of(&*disk, root)?;
        let unsafe_stop = epochs.epochs().last().filter(|_| stop == LastStop::Unknown).map(|last| UnsafeStop {
            epoch: last.number,
            has_lost: settings.flush_disk_type == crate::settings::FlushDiskType::Async,
        });
        let timeout = settings.controller_heartbeat_timeout / 3;
        let controllers = Controllers::new(&settings, transport.connector.clone(), timeout);
        let (events, heard) = channel();
        let shared = Arc::new(Shared {
            core: Mutex::default(),
            progress: Mutex::default(),
            poke: Notify::new(),
            stop: Notify::new(),
            broken: Mutex::default(),
            is_leaving: AtomicBool::new(false),
        });
        let last = epochs.epochs().last();
        shared.progress.lock().epoch = last.map_or(0, |last| last.number);
        let watch = Watch {
            controllers,
            files: IdentityFiles::new(disk.clone(), &settings),
            settings: settings.clone(),
            shared: Arc::clone(&shared),
            events: events.clone(),
            unsafe_stop,
        };
        let (first, started) = channel();
        let member = MemberThread {
            shared: Arc::clone(&shared),
            settings,
            transport,
            name_servers: name_servers.to_vec(),
            disk,
            epochs,
            sockets: Arc::default(),
            running: None,
            first: Some(first),
            watch: Some(watch),
        };
        let thread = std::thread::Builder::new()
            .name("member".to_owned())
            .spawn(move || member.run(&heard))?;
        let broker = Self {
            events,
            shared,
            thread: Some(thread),
        };
        match started.recv_timeout(FIRST_ROLE) {
            Ok(Ok(())) => Ok(broker),
            Ok(Err(error)) => {
                // What failed first is what the operator has to know.
                let _ = broker.stop();
                Err(error)
            }
            Err(_) => {
                tracing::warn!("this broker has no role yet and takes no connections: no controller has named a master");
                Ok(broker)
            }
        }
    }

    /// Calls `stop` once if the broker cannot go on; then [`Self::stop`] returns an error. It must not block.
    pub fn call_when_broken(&self, stop: impl Fn() + Send + Sync + 'static) {
        *self.shared.broken.lock() = Some(Arc::new(stop));
    }

    /// The role right now, for people.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match self.shared.with(|core| core.role.is_slave()) {
            Some(true) => "slave",
            Some(false) => "master",
            None => "no role yet",
        }
    }

    /// Shuts down cleanly, as [`Broker::stop`]. A master hands over before, and then passes on for a time what clients still send to it
    /// (`apogeeHandOverSeconds`).
    ///
    /// # Errors
    /// As [`Broker::stop`].
    pub fn stop(mut self) -> Result<(), StoreError> {
        self.hand_over();
        // The thread may have ended.
        let _ = self.events.send(Event::Stop);
        let panicked = || StoreError::Failed("the thread of the broker panicked".to_owned());
        self.thread
            .take()
            .map_or(Ok(()), |thread| thread.join().map_err(|_| panicked()).flatten())
    }
}

impl ControlledBroker {
    /// Returns when clients do not need this broker any more, or it cannot be helped.
    fn hand_over(&self) {
        let at_most = self
            .shared
            .with(|core| has_successor(core).then(|| core.settings.current().hand_over_time));
        let Some(at_most) = at_most.flatten().filter(|time| !time.is_zero()) else {
            return;
        };
        let begun = Instant::now();
        self.shared.is_leaving.store(true, Ordering::Release);
        self.shared.poke.notify_one();
        let is_slave = || self.shared.with(|core| core.role.is_slave());
        while is_slave() != Some(true) {
            if self.shared.with(has_successor) == Some(false) {
                // The others stop, too.
                return;
            }
            if begun.elapsed() > ELECTION {
                tracing::warn!("this master stops although no other one was elected in {ELECTION:?}: clients wait until one is");
                return;
            }
            std::thread::sleep(LOOK);
        }
        tracing::warn!(took = ?begun.elapsed(), "this broker has handed over, and passes on what clients still send to it; a second signal stops it at once");
        let elected = now_ms();
        let last_passed_on = || self.shared.with(|core| core.role.passed_on_at()).map(|at| at.max(elected));
        while let Some(last) = last_passed_on()
            && now_ms() - last < QUIET.as_millis() as i64
            && begun.elapsed() < at_most
            && is_slave() == Some(true)
        {
            std::thread::sleep(LOOK);
        }
    }
}

/// Whether this is a master with another replica in the in-sync set.
fn has_successor(core: &Core) -> bool {
    let Some(place) = core.place.as_ref().filter(|place| !place.elected.is_slave()) else {
        return false;
    };
    let others = core.acks.look(|set| set.members().ids.iter().any(|id| *id != place.member.id));
    others.unwrap_or(false)
}

/// A broker in a role.
struct Running {
    broker: Broker,
    epoch: i32,
    /// On a slave: to tell it of another master.
    master: Option<watch::Sender<Option<String>>>,
}

impl Running {
    fn role(&self) -> RunsAs {
        match self.master {
            None => RunsAs::Master { epoch: self.epoch },
            Some(_) => RunsAs::Slave { epoch: self.epoch },
        }
    }

    /// A slave hears of another master, or of the same one.
    fn follow(&mut self, epoch: i32, master: Option<String>) {
        self.epoch = epoch;
        if let Some(known) = &self.master {
            known.send_if_modified(|known| {
                let is_news = *known != master;
                *known = master;
                is_news
            });
        }
    }
}

struct MemberThread {
    shared: Arc<Shared>,
    settings: BrokerSettings,
    transport: Transport,
    name_servers: Vec<String>,
    disk: Arc<dyn Disk>,
    epochs: Arc<EpochFile>,
    sockets: Arc<OpenSockets>,
    running: Option<Running>,
    /// Told of the outcome of the first start.
    first: Option<Sender<Result<(), StartError>>>,
    watch: Option<Watch>,
}

impl MemberThread {
    fn run(mut self, heard: &Receiver<Event>) -> Result<(), StoreError> {
        let watching = self.watch.take().map(Watch::spawn).transpose();
        let watching = match watching {
            Ok(watching) => watching,
            Err(error) => {
                self.end_first(Err(error.into()));
                return Ok(());
            }
        };
        let mut outcome = Ok(());
        while let Ok(Event::Told(told, lease_until)) = heard.recv() {
            let Some(id) = watching.as_ref().and_then(|watching| watching.id()) else {
                continue;
            };
            if let Err(error) = self.become_what_is_told(id, &told, lease_until) {
                tracing::error!(%error, "this broker cannot take its role, and stops");
                outcome = Err(StoreError::Failed(error.to_string()));
                self.end_first(Err(error));
                self.shared.fail();
                break;
            }
        }
        self.shared.stop.notify_one();
        if let Some(watching) = watching {
            watching.join();
        }
        self.shared.core.lock().take();
        self.sockets.close();
        let stopped = self.running.take().map_or(Ok(()), |running| running.broker.stop());
        outcome.and(stopped)
    }

    fn end_first(&mut self, outcome: Result<(), StartError>) {
        if let Some(first) = self.first.take() {
            // Nobody waits any more after some seconds.
            let _ = first.send(outcome);
        }
    }

    fn become_what_is_told(&mut self, id: i64, told: &Told, lease_until: i64) -> Result<(), StartError> {
        match change_of_role(id, self.running.as_ref().map(Running::role), told) {
            Change::Stay => Ok(()),
            Change::Follow(master) => {
                if let Some(running) = &mut self.running {
                    running.follow(told.epoch, master);
                }
                Ok(())
            }
            Change::StartAs(wanted) => self.start_as(id, told, &wanted, lease_until),
        }
    }

    fn start_as(&mut self, id: i64, told: &Told, wanted: &Wanted, lease_until: i64) -> Result<(), StartError> {
        let begun = Instant::now();
        self.stop_running();
        let (elected, master) = match wanted {
            Wanted::Master { epoch } => {
                let elected = Elected::Master {
                    epoch: *epoch,
                    members: told.members.clone(),
                    lease_until,
                };
                (elected, None)
            }
            Wanted::Slave { master } => {
                let (sender, receiver) = watch::channel(master.clone());
                (Elected::Slave { master: receiver }, Some(sender))
            }
        };
        let broker = self.start_broker(id, elected)?;
        let shared = Arc::clone(&self.shared);
        broker.call_when_broken(move || shared.fail());
        *self.shared.core.lock() = Some(broker.core());
        self.running = Some(Running {
            broker,
            epoch: told.epoch,
            master,
        });
        tracing::warn!(id, epoch = told.epoch, took = ?begun.elapsed(), master = ?told.master, "this broker is {}", self.role());
        self.end_first(Ok(()));
        // The lease begins, and the in-sync set is looked at.
        self.shared.poke.notify_one();
        Ok(())
    }

    fn role(&self) -> &'static str {
        match &self.running {
            Some(Running { master: None, .. }) => "the master now",
            _ => "a slave now",
        }
    }

    fn stop_running(&mut self) {
        let Some(running) = self.running.take() else { return };
        let last = self.shared.core.lock().take();
        if let Some(core) = &last {
            *self.shared.progress.lock() = progress_of(core);
            // What was changed while running stays.
            self.settings = (*core.settings.current()).clone();
        }
        drop(last);
        let stop = Stop {
            patience: PATIENCE,
            stays_registered: true,
        };
        if let Err(error) = running.broker.stop_by(stop) {
            tracing::error!(%error, "the broker was not stopped cleanly for another role; the start recovers it");
        }
    }

    fn start_broker(&self, id: i64, elected: Elected) -> Result<Broker, StartError> {
        let mut settings = self.settings.clone();
        (settings.broker_role, settings.broker_id) = match elected.is_slave() {
            true => (crate::settings::BrokerRole::Slave, id as u64),
            false => (crate::settings::BrokerRole::SyncMaster, 0),
        };
        let deadline = Instant::now() + CLOSING;
        loop {
            let poked = Arc::clone(&self.shared);
            let place = Place {
                member: Member {
                    id,
                    epochs: Arc::clone(&self.epochs),
                },
                elected: elected.clone(),
                sockets: Arc::clone(&self.sockets),
                poke: Arc::new(move || poked.poke.notify_one()),
            };
            let started = Broker::start_in(
                settings.clone(),
                self.transport.clone(),
                &self.name_servers,
                self.disk.clone(),
                Some(Arc::new(place)),
            );
            match started {
                // A request of the last role that is being served on another thread.
                Err(StartError::Store(StoreError::Locked(_))) if self.first.is_none() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(StartError::Listen(error))
                    if error.kind() == io::ErrorKind::AddrInUse && self.first.is_none() && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                started => return started,
            }
        }
    }
}
