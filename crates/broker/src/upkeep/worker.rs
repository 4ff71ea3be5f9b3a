//! The tasks of the upkeep. The table in `mod.rs` lists what they do when.

use super::Tables;
use crate::feature::{Feature, ticks};
use crate::registration::Registration;
use crate::replication::Changes;
use crate::settings::BrokerSettings;
use crate::signal::{Saved, Signal};
use crate::state_file::SavedTable;
use crate::topic::Topics;
use config::Live;
use protocol::DataVersion;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

/// Delay before a change is saved, so that concurrent changes are saved and registered together.
const BATCH_DELAY: Duration = Duration::from_millis(2);
/// Delay before a retry when a table could not be saved.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Between two saves of a table passes so many times the time that the first took, at least.
const PAUSE_BY_SAVE: u32 = 20;

/// The background work of a broker and its data.
pub struct Upkeep {
    /// Raised by changes of topics, groups, request modes and by operators.
    pub signal: Arc<Signal>,
    /// Tables to save.
    pub tables: Tables,
    /// Topics to register.
    pub topics: Arc<Topics>,
    /// Features with background tasks.
    pub features: Vec<Arc<dyn Feature>>,
    /// Interval of registration.
    pub settings: Arc<Live<BrokerSettings>>,
    /// Registration at the name servers.
    pub registration: Registration,
    /// Told of saved changes, which slaves copy.
    pub changes: Arc<Changes>,
}

/// The two steps of a shutdown. Requests are still handled between them.
#[derive(Debug, Default)]
pub struct Ends {
    /// Unregister from the name servers, so that no new client comes.
    pub leave: Notify,
    /// Do not unregister: the broker starts again at once.
    pub stays_registered: AtomicBool,
    /// The last request was answered: save all tables for the last time.
    pub end: Notify,
}

impl Upkeep {
    /// Runs until `ends` is notified. Starts with a registration. Needs a runtime with a thread for blocking work.
    ///
    /// # Errors
    /// `io::Error` if the tables could not be saved at the end: changes acknowledged after the last save are lost.
    pub async fn run(self, ends: Arc<Ends>) -> io::Result<()> {
        let upkeep = Arc::new(self);
        // Concurrent with the first save: the topics from the files and the built-in ones are registered.
        let registering = tokio::spawn(Arc::clone(&upkeep).register());
        if let Err(error) = upkeep.blocking(Tables::save_changes).await {
            tracing::error!(%error, "table not saved at the start");
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&upkeep).settle_changes());
        for table in upkeep.tables.iter() {
            if let Some(period) = table.period() {
                tasks.spawn(save_every(period, Arc::clone(table)));
            }
        }
        for feature in &upkeep.features {
            tasks.spawn(Arc::clone(feature).run());
        }
        ends.leave.notified().await;
        registering.abort();
        if !ends.stays_registered.load(Ordering::Acquire) {
            upkeep.registration.stop().await;
        }
        ends.end.notified().await;
        tasks.shutdown().await;
        let saved = upkeep.blocking(Tables::save_all).await;
        upkeep.signal.close(&outcome(&saved));
        saved
    }

    /// Runs blocking disk I/O on its thread.
    async fn blocking(&self, save: fn(&Tables) -> io::Result<()>) -> io::Result<()> {
        let tables = self.tables.clone();
        tokio::task::spawn_blocking(move || save(&tables)).await.map_err(io::Error::other)?
    }

    /// Saves and registers changes, then calls the callbacks that waited for it.
    async fn settle_changes(self: Arc<Self>) {
        let registered = Mutex::new(None);
        loop {
            self.signal.changed().await;
            tokio::time::sleep(BATCH_DELAY).await;
            let raised = self.signal.raised();
            let saved = self.blocking(Tables::save_changes).await;
            if saved.is_ok() {
                let generation = self.changes.raise();
                self.register_changes(&registered).await;
                self.changes.until_copied(generation).await;
            }
            self.signal.settle(raised, &outcome(&saved));
            if let Err(error) = saved {
                tracing::error!(%error, "table not saved, retrying");
                tokio::time::sleep(RETRY_DELAY).await;
                self.signal.retry();
            }
        }
    }

    /// Registers topics at the name servers if they changed after the last registration.
    async fn register_changes(&self, registered: &Mutex<Option<DataVersion>>) {
        let version = self.topics.version();
        if registered.lock().await.replace(version) != Some(version) {
            self.registration.round(true).await;
        }
    }

    async fn register(self: Arc<Self>) {
        let mut ticks = ticks(self.settings.current().register_name_server_period);
        loop {
            ticks.tick().await;
            self.registration.round(false).await;
        }
    }
}

async fn save_every(period: Duration, table: Arc<dyn SavedTable>) {
    let mut ticks = ticks(period);
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        let saving = Arc::clone(&table);
        let saved = tokio::task::spawn_blocking(move || saving.save()).await;
        if let Err(error) = saved.map_err(io::Error::other).and_then(|saved| saved) {
            tracing::error!(%error, "{} not saved, retrying", table.name());
        }
        // A table of a million entries takes a second.
        tokio::time::sleep((begun.elapsed() * PAUSE_BY_SAVE).saturating_sub(period)).await;
    }
}

/// The outcome for callbacks that wait for tables to be saved.
fn outcome(saved: &io::Result<()>) -> Saved {
    saved
        .as_ref()
        .copied()
        .map_err(|error| format!("the change is not saved to disk: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::Modes;
    use crate::group::Groups;
    use crate::lock::OrderLocks;
    use crate::offset::Offsets;
    use crate::offset::table::OffsetsFile;
    use crate::registration::{Identity, Standings};
    use crate::state_file::{StateFile, VersionedFile};
    use crate::stats::BrokerStats;
    use crate::topic::{Spec, TopicLimits};
    use crate::{assignment, group, offset, topic};
    use std::path::Path;
    use std::sync::mpsc;
    use store::disk::Disk;
    use store::disk::real::RealDisk;
    use store::disk::simulated::{Fault, Lasts, SimulatedDisk};

    const DEADLINE: Duration = Duration::from_secs(20);

    /// An upkeep on its own thread, with its tables.
    struct World {
        topics: Arc<Topics>,
        groups: Arc<Groups>,
        offsets: Arc<Offsets>,
        signal: Arc<Signal>,
        ends: Arc<Ends>,
        running: std::thread::JoinHandle<io::Result<()>>,
    }

    impl World {
        fn start(disk: Arc<dyn Disk>, dir: &Path) -> Self {
            let signal = Arc::new(Signal::default());
            let stats = Arc::new(BrokerStats::new("c", 100));
            let limits = TopicLimits { topics: 10, queues: 64 };
            let topics = Arc::new(Topics::new(vec![], limits, Arc::clone(&stats), Arc::clone(&signal), 0));
            let groups = Arc::new(Groups::new(Default::default(), Arc::clone(&signal), 0));
            let offsets = Arc::new(Offsets::new(Default::default()));
            let modes = Arc::new(Modes::new(Arc::clone(&signal)));
            let file = |table| StateFile::new(Arc::clone(&disk), dir, table, &[]);
            let tables: Vec<Arc<dyn SavedTable>> = vec![
                Arc::new(VersionedFile::new(Arc::clone(&topics), file(topic::table::TABLE))),
                Arc::new(VersionedFile::new(Arc::clone(&groups), file(group::table::TABLE))),
                Arc::new(VersionedFile::new(modes, file(assignment::table::TABLE))),
                Arc::new(OffsetsFile::new(Arc::clone(&offsets), file(offset::table::TABLE), None, DEADLINE)),
            ];
            let tables = Tables::new(tables);
            let ends = Arc::new(Ends::default());
            let (ended, raised, registered) = (Arc::clone(&ends), Arc::clone(&signal), Arc::clone(&topics));
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let settings = Arc::new(Live::new(BrokerSettings::default()));
                    let registration = Registration::start(&[], None, identity(), &registered, &settings, &Standings::default());
                    let upkeep = Upkeep {
                        signal: raised,
                        tables,
                        topics: registered,
                        features: vec![Arc::new(OrderLocks::new(10, 1 << 20)), stats],
                        settings,
                        registration,
                        changes: Arc::new(Changes::new(0, Arc::new(Live::new(BrokerSettings::default())), None)),
                    };
                    upkeep.run(ended).await
                })
            };
            Self {
                topics,
                groups,
                offsets,
                signal,
                ends,
                running: std::thread::spawn(run),
            }
        }

        /// Waits until all changes so far are settled.
        fn settled(&self) -> Saved {
            let (done, settled) = mpsc::channel();
            self.signal.when_settled(move |saved| done.send(saved).unwrap_or_default());
            settled.recv_timeout(DEADLINE).unwrap()
        }

        fn create_topic(&self, topic: &str) {
            self.topics.update(vec![(Spec::new(topic, 4), Default::default())], 1).unwrap();
        }

        fn end(self) -> io::Result<()> {
            self.ends.leave.notify_one();
            self.ends.end.notify_one();
            self.running.join().unwrap()
        }
    }

    fn identity() -> Identity {
        Identity {
            cluster: "c".to_owned(),
            broker: "b".to_owned(),
            broker_id: 0,
            host: None,
            replica_host: None,
            port: 1,
            replica_port: 2,
        }
    }

    fn saved(disk: &dyn Disk, dir: &Path, name: &str) -> String {
        String::from_utf8(disk.read(&dir.join("config").join(name)).unwrap_or_default()).unwrap()
    }

    #[test]
    fn a_response_is_sent_after_its_change_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let world = World::start(Arc::clone(&disk), dir.path());
        let text = |name| saved(&*disk, dir.path(), name);
        world.create_topic("a");
        world.groups.find_or_create("g", true, 1).unwrap();
        world.settled().unwrap();
        assert!(text("topics.json").contains("\"a\""));
        assert!(text("subscriptionGroup.json").contains("\"g\""));
        // A reset is saved with the next change, a commit every few seconds.
        world.offsets.reset("a", "g", 1, 7).unwrap();
        world.signal.raise();
        world.settled().unwrap();
        assert!(text("consumerOffset.json").contains("1:7"));
        world.offsets.commit("a", "g", 0, 5).unwrap();
        world.end().unwrap();
        assert!(text("consumerOffset.json").contains("0:5"));
    }

    #[test]
    fn a_change_that_cannot_be_saved_is_reported_and_saved_later() {
        let dir = Path::new("/store");
        let disk = SimulatedDisk::new(1);
        let world = World::start(Arc::new(disk.clone()), dir);
        world.create_topic("a");
        world.settled().unwrap();
        disk.fail_at(disk.calls() + 1, Fault::NoSpace, Lasts::ForEver);
        world.create_topic("b");
        let refused = world.settled().unwrap_err();
        assert!(
            refused.contains("not saved to disk") && refused.contains("topics.json"),
            "{refused}"
        );
        disk.heal();
        world.settled().unwrap();
        assert!(saved(&disk, dir, "topics.json").contains("\"b\""));
        disk.fail_at(disk.calls() + 1, Fault::NoSpace, Lasts::ForEver);
        world.create_topic("c");
        assert!(world.end().is_err(), "a stop that loses acknowledged changes is not clean");
    }
}
