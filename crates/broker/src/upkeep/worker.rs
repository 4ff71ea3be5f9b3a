//! The task of the upkeep. See the table in `mod.rs` for what it does when.

use super::{Signal, StateFile};
use crate::assignment::{Modes, table as mode_table};
use crate::clients::table::Channel;
use crate::clients::{Consumers, Producers, notify};
use crate::delay::{DelayOffsets, table as delay_table};
use crate::group::{Groups, table as group_table};
use crate::lock::OrderLocks;
use crate::offset::{Offsets, table as offset_table};
use crate::registration::Registration;
use crate::routes::now_ms;
use crate::settings::BrokerSettings;
use crate::stats::BrokerStats;
use crate::topic::{Topics, table as topic_table};
use config::Live;
use protocol::DataVersion;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::disk::{Disk, local_day};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const LOOK_FOR_SILENT_EVERY: Duration = Duration::from_secs(10);
/// Before a change is looked at, so that changes that come together are saved and told together.
const GATHER: Duration = Duration::from_millis(2);
/// After a table could not be saved.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The files of the tables.
#[derive(Clone, Debug)]
pub struct Files {
    topics: StateFile,
    groups: StateFile,
    offsets: StateFile,
    modes: StateFile,
    delays: StateFile,
}

impl Files {
    /// In the directory of a store.
    #[must_use]
    pub fn new(disk: &Arc<dyn Disk>, store_root: &Path) -> Self {
        let file = |name| StateFile::new(Arc::clone(disk), store_root, name);
        Self {
            topics: file(topic_table::FILE),
            groups: file(group_table::FILE),
            offsets: file(offset_table::FILE),
            modes: file(mode_table::FILE),
            delays: file(delay_table::FILE),
        }
    }

    /// Fills the tables with what was saved.
    ///
    /// # Errors
    /// A file is there and cannot be read; the broker must not start then.
    pub fn load(&self, topics: &Topics, groups: &Groups, (offsets, delays): (&Offsets, &DelayOffsets), modes: &Modes) -> io::Result<()> {
        topic_table::load(topics, &self.topics)?;
        group_table::load(groups, &self.groups)?;
        mode_table::load(modes, &self.modes)?;
        offset_table::load(offsets, &self.offsets)?;
        delay_table::load(delays, &self.delays)
    }

    /// Where the progress of delayed messages is saved.
    #[must_use]
    pub fn delays(&self) -> StateFile {
        self.delays.clone()
    }
}

/// All that has to be kept up.
#[derive(Debug)]
pub struct Upkeep<C> {
    /// Raised by topics and groups.
    pub signal: Arc<Signal>,
    /// Saved and registered.
    pub topics: Arc<Topics>,
    /// Saved.
    pub groups: Arc<Groups>,
    /// Saved.
    pub offsets: Arc<Offsets>,
    /// Saved.
    pub modes: Arc<Modes>,
    /// Saved, if there is a store to deliver in.
    pub delays: Option<delay_table::OffsetsFile>,
    /// The silent among them are taken out.
    pub consumers: Arc<Consumers<C>>,
    /// The silent among them are taken out.
    pub producers: Arc<Producers<C>>,
    /// Expired ones are forgotten.
    pub locks: Arc<OrderLocks>,
    /// Sampled.
    pub stats: Arc<BrokerStats>,
    /// How often, and whether.
    pub settings: Arc<Live<BrokerSettings>>,
    /// Where tables are saved.
    pub files: Files,
    /// Who is told of topics.
    pub registration: Registration,
}

/// What of the tables is on the disk, and what is registered.
#[derive(Default)]
struct Kept {
    topics: Option<DataVersion>,
    groups: Option<DataVersion>,
    /// Changes of the request modes; without one there is no file.
    modes: u64,
    registered: Option<DataVersion>,
}

impl<C: Channel> Upkeep<C> {
    /// Keeps up until `stop` is notified, then saves everything, says goodbye to the name servers and lets go who waits.
    /// Begins with a registration.
    pub async fn run(self, stop: Arc<Notify>) {
        let settings = self.settings.current();
        let mut kept = Kept::default();
        let mut sample = every(SAMPLE_EVERY);
        let mut offsets = every(settings.flush_consumer_offset_interval);
        let mut delays = every(settings.flush_delay_offset_interval);
        let mut silent = every(LOOK_FOR_SILENT_EVERY);
        let mut register = every(settings.register_name_server_period);
        drop(settings);
        if let Err(error) = self.save_tables(&mut kept) {
            tracing::error!(%error, "table not saved at the start");
        }
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => break,
                () = self.signal.changed() => {
                    tokio::time::sleep(GATHER).await;
                    self.settle(&mut kept).await;
                }
                _ = register.tick() => {
                    kept.registered = Some(self.topics.version());
                    self.registration.round(false).await;
                }
                _ = offsets.tick() => self.save_offsets(),
                _ = delays.tick() => self.save_delays(),
                _ = silent.tick() => self.drop_silent(),
                _ = sample.tick() => self.sample(),
            }
        }
        self.end(&mut kept).await;
    }

    /// Saves what changed, tells the name servers, and lets go the answers that waited for it.
    async fn settle(&self, kept: &mut Kept) {
        let raised = self.signal.raised();
        let saved = self.save_tables(kept);
        let version = self.topics.version();
        if kept.registered != Some(version) {
            kept.registered = Some(version);
            self.registration.round(true).await;
        }
        if let Err(error) = saved {
            tracing::error!(%error, "table not saved, trying again");
            tokio::time::sleep(TRY_AGAIN).await;
            self.signal.again();
        }
        // Also when a table could not be saved: the change holds, and an operator sees the error above.
        self.signal.settle(raised);
    }

    fn save_tables(&self, kept: &mut Kept) -> io::Result<()> {
        if kept.topics != Some(self.topics.version()) {
            kept.topics = Some(topic_table::save(&self.topics, &self.files.topics)?);
        }
        if kept.groups != Some(self.groups.version()) {
            kept.groups = Some(group_table::save(&self.groups, &self.files.groups)?);
        }
        if kept.modes != self.modes.changes() {
            kept.modes = mode_table::save(&self.modes, &self.files.modes)?;
        }
        Ok(())
    }

    fn save_offsets(&self) {
        if let Err(error) = offset_table::save_if_dirty(&self.offsets, &self.files.offsets, now_ms()) {
            tracing::error!(%error, "consumer offsets not saved, trying again");
        }
    }

    fn save_delays(&self) {
        if let Some(Err(error)) = self.delays.as_ref().map(delay_table::OffsetsFile::save_if_changed) {
            tracing::error!(%error, "progress of delayed messages not saved, trying again");
        }
    }

    fn sample(&self) {
        let now_ms = now_ms();
        self.stats.sample(now_ms);
        let (put, get) = (self.stats.put_total_without_system(), self.stats.get_total_without_system());
        self.stats.totals().day(local_day(now_ms), put, get);
    }

    fn drop_silent(&self) {
        let notify = self.settings.current().notify_consumer_ids_changed_enable;
        notify::expire(&self.consumers, &self.producers, notify, now_ms());
        self.locks.expire(now_ms());
    }

    async fn end(self, kept: &mut Kept) {
        self.save_offsets();
        self.save_delays();
        if let Err(error) = self.save_tables(kept) {
            tracing::error!(%error, "table not saved at the end");
        }
        self.registration.stop().await;
        self.signal.close();
    }
}

/// Ticks at once and then at every period; what was missed is not made up for.
fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::table::ClientLimits;
    use crate::registration::Identity;
    use crate::topic::{Spec, TopicLimits};
    use store::disk::real::RealDisk;

    fn upkeep(dir: &Path) -> Upkeep<u64> {
        let signal = Arc::new(Signal::default());
        let stats = Arc::new(BrokerStats::new("c", 100));
        let limits = TopicLimits { topics: 10, queues: 64 };
        let topics = Arc::new(Topics::new(vec![], limits, Arc::clone(&stats), Arc::clone(&signal), 0));
        let settings = Arc::new(Live::new(BrokerSettings::default()));
        let identity = Identity {
            cluster: "c".to_owned(),
            broker: "b".to_owned(),
            broker_id: 0,
            host: None,
            replica_host: None,
            port: 1,
            replica_port: 2,
        };
        let registration = Registration::start(&[], identity, &topics, &settings);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Upkeep {
            groups: Arc::new(Groups::new(100, Arc::clone(&signal), 0)),
            offsets: Arc::new(Offsets::new(10)),
            modes: Arc::new(Modes::new(Arc::clone(&signal))),
            delays: None,
            consumers: Arc::new(Consumers::new(ClientLimits::default())),
            producers: Arc::new(Producers::new(ClientLimits::default())),
            locks: Arc::new(OrderLocks::new(10)),
            files: Files::new(&disk, dir),
            signal,
            topics,
            stats,
            settings,
            registration,
        }
    }

    #[tokio::test]
    async fn an_answer_leaves_when_its_change_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let upkeep = upkeep(dir.path());
        let (topics, groups, signal) = (Arc::clone(&upkeep.topics), Arc::clone(&upkeep.groups), Arc::clone(&upkeep.signal));
        let offsets = Arc::clone(&upkeep.offsets);
        let stop = Arc::new(Notify::new());
        let running = tokio::spawn(upkeep.run(Arc::clone(&stop)));
        topics.update(vec![(Spec::new("a", 4), Default::default())], 1).unwrap();
        groups.find_or_create("g", true, 1).unwrap();
        let (done, settled) = tokio::sync::oneshot::channel();
        signal.when_settled(move || done.send(()).unwrap_or_default());
        tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap().unwrap();
        let text = |name: &str| std::fs::read_to_string(dir.path().join("config").join(name)).unwrap_or_default();
        assert!(text("topics.json").contains("\"a\""));
        assert!(text("subscriptionGroup.json").contains("\"g\""));
        offsets.commit("a", "g", 0, 5).unwrap();
        stop.notify_one();
        tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
        assert!(text("consumerOffset.json").contains("0:5"));
        topics.update(vec![(Spec::new("b", 4), Default::default())], 1).unwrap();
        let (done, settled) = tokio::sync::oneshot::channel();
        signal.when_settled(move || done.send(()).unwrap_or_default());
        settled.await.unwrap();
    }
}
