//! A script of operations on a store on a simulated disk, the outcomes it was told, and the checks afterwards.

use super::common::{OLD_ENOUGH, ROOT, bodies, open, place_all};
use message::LogOffset;
use message::record::Placement;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::inspect::{InspectOptions, check};
use store::{FlushMode, Store, StoreError, StoreOptions, json_file};

/// The last one holds delayed messages.
const TOPICS: [&str; 4] = ["a", "b", "c", "SCHEDULE_TOPIC_XXXX"];
/// A table of the broker beside the store.
const OFFSETS: &str = "/store/config/consumerOffset.json";
const QUEUES: [i32; 2] = [0, 1];

/// Whether a message's topic was deleted after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    No,
    /// The deletion failed or was interrupted.
    Maybe,
    Yes,
}

/// One message, as its sender knows it.
#[derive(Clone, Debug)]
struct Sent {
    topic: &'static str,
    queue: i32,
    body: String,
    /// `None` if it was refused before it had a place.
    placed: Option<Placement>,
    acknowledged: bool,
    gone: Gone,
    /// Whether retention was requested to delete it.
    may_expire: bool,
}

/// The messages that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// All acknowledged ones.
    All,
    /// All synced ones; of the others a part may be lost, with everything stored after the first lost message.
    AllButTheEnd,
}

/// The state of the script.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) disk: SimulatedDisk,
    mode: FlushMode,
    store: Option<Arc<Store>>,
    sent: Vec<Sent>,
    /// This many messages are on the device, in either mode.
    synced: usize,
    serial: usize,
    /// A topic deletion failed or was interrupted: some of its messages may be in no queue.
    deletion_cut: bool,
    /// Versions of the table of offsets: the last one that is on the disk for sure, and the last one that was tried.
    saved: (u64, u64),
    /// Whether each message must be found by its key too.
    pub(crate) keys_hold: bool,
}

fn small_files(mode: FlushMode) -> StoreOptions {
    let mut options = StoreOptions::small(ROOT, mode);
    options.queue_file_bytes = 80;
    options
}

impl Life {
    /// `seed` decides how much of a failing write is written.
    pub(crate) fn new(mode: FlushMode, seed: u64) -> Self {
        Self {
            disk: SimulatedDisk::new(7 + seed),
            mode,
            store: None,
            sent: Vec::new(),
            synced: 0,
            serial: 0,
            deletion_cut: false,
            saved: (0, 0),
            keys_hold: true,
        }
    }

    /// Uses every operation of the store. Continues after errors as a broker does; stops if the store does not open.
    pub(crate) fn play(&mut self) -> Result<(), StoreError> {
        self.open()?;
        self.send("a", 0, 1, 10);
        self.send("a", 1, 1, 10);
        self.send("a", 0, 3, 10);
        for turn in 0..8 {
            self.send(TOPICS[turn % 2], (turn % 3 / 2) as i32, 1, 300);
        }
        self.save();
        self.checkpoint();
        self.send("b", 0, 2, 10);
        self.send(TOPICS[3], 1, 2, 10);
        self.save();
        self.send("a", 0, 1, 10);
        self.delete("a");
        self.send("a", 0, 1, 10);
        self.send("a", 0, 2, 10);
        self.keep();
        self.send("b", 0, 4, 10);
        self.save();
        self.reopen()?;
        self.send(TOPICS[3], 0, 1, 10);
        self.send("b", 0, 1, 10);
        self.send("a", 0, 1, 10);
        // Files that are not changed from now on are old enough for retention.
        self.disk.advance_clock(OLD_ENOUGH);
        for turn in 0..9 {
            self.send(TOPICS[turn % 2], 0, 1, 300);
        }
        self.expire();
        self.send("c", 0, 1, 10);
        self.save();
        self.send("a", 0, 1, 10);
        self.close();
        Ok(())
    }

    /// Opens the store, which syncs what recovery found.
    pub(crate) fn open(&mut self) -> Result<(), StoreError> {
        self.store = Some(open(Arc::new(self.disk.clone()), small_files(self.mode))?);
        Ok(())
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("open")
    }

    pub(crate) fn is_open(&self) -> bool {
        self.store.is_some()
    }

    pub(crate) fn send(&mut self, topic: &'static str, queue: i32, count: usize, size: usize) -> bool {
        let numbers = self.serial..self.serial + count;
        self.serial += count;
        let bodies: Vec<String> = numbers
            .map(|n| format!("{}{queue}-{n:05}-{}", &topic[..1], "x".repeat(size)))
            .collect();
        let texts: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let (placed, outcome) = place_all(self.store(), topic, queue, &texts);
        for (at, body) in bodies.into_iter().enumerate() {
            self.sent.push(Sent {
                topic,
                queue,
                body,
                placed: placed.get(at).copied(),
                acknowledged: outcome.is_ok(),
                gone: Gone::No,
                may_expire: false,
            });
        }
        outcome.is_ok()
    }

    fn checkpoint(&mut self) {
        if self.store().delete_topic("none").is_ok() {
            self.synced = self.sent.len();
        }
    }

    fn delete(&mut self, topic: &str) {
        // Repeats failed deletions, as operators do.
        let deleted = (0..2).any(|_| self.store().delete_topic(topic).is_ok());
        self.deletion_cut |= !deleted;
        for sent in self.sent.iter_mut().filter(|sent| sent.topic == topic) {
            sent.gone = if deleted { Gone::Yes } else { Gone::Maybe };
        }
        if deleted {
            self.synced = self.sent.len();
        }
    }

    /// Replaces the table of offsets, as a broker does every few seconds.
    fn save(&mut self) {
        self.saved.1 += 1;
        let text = format!("{{\"version\":{},\"fill\":\"{}\"}}", self.saved.1, "f".repeat(700));
        if json_file::write(&self.disk, Path::new(OFFSETS), text.as_bytes()).is_ok() {
            self.saved.0 = self.saved.1;
        }
    }

    /// No offset goes back: the table is the last one that was saved, or one that was tried after it.
    fn check_saved(&self) {
        let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes);
        let (table, _) = json_file::read(&self.disk, Path::new(OFFSETS), parse).expect("the table can be read");
        let version = table.map_or(0, |table| table["version"].as_u64().unwrap());
        assert!(
            version >= self.saved.0 && version <= self.saved.1,
            "version {version} of {:?}",
            self.saved
        );
    }

    fn keep(&self) {
        let _ = self.store().run_background_work();
    }

    fn expire(&mut self) {
        self.sent.iter_mut().for_each(|sent| sent.may_expire = true);
        self.store().delete_expired();
        self.keep();
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.close();
        self.open()
    }

    /// Shuts the store down, cleanly if the disk permits. Acknowledged messages are on the device then.
    pub(crate) fn close(&mut self) -> bool {
        let Some(store) = self.store.take() else { return false };
        let closed = store.close();
        if closed.is_ok() {
            self.synced = self.sent.len();
        }
        closed.is_ok()
    }

    /// After a clean shutdown: log, queues, index and checkpoint are consistent.
    pub(crate) fn must_be_whole(&self) {
        let mut look = InspectOptions::of(&small_files(self.mode));
        look.index = look.index.filter(|_| self.keys_hold);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let mut report = check(&disk, &look, &mut |_| {}).expect("the directory can be looked at");
        if self.deletion_cut {
            report
                .findings
                .retain(|found| found.what != "records without an entry in their queue");
        }
        assert!(
            !report.is_damaged() && report.stopped_in_order,
            "a check finds {:#?}",
            report.findings
        );
    }

    /// The same script on what is left of its disk.
    pub(crate) fn on(&self, disk: SimulatedDisk) -> Self {
        Self {
            disk,
            store: None,
            ..self.clone()
        }
    }

    /// Opens the store and compares its content with what was told. From then on its content is what was told.
    pub(crate) fn must_keep(&mut self, promise: Promise) {
        self.check_saved();
        self.open().expect("the store opens");
        self.check(promise);
        let found = self.found();
        let known = self.sent[..self.synced]
            .iter()
            .filter(|sent| found.contains_key(&sent.body))
            .count();
        self.sent.retain(|sent| found.contains_key(&sent.body));
        for sent in &mut self.sent {
            (sent.acknowledged, sent.gone) = (true, Gone::No);
        }
        self.synced = match self.mode {
            FlushMode::Sync => self.sent.len(),
            // A start after a kill leaves the sync to the flusher.
            FlushMode::Async => known,
        };
    }

    /// Readable bodies with their queue offsets, which are consecutive from the minimum on.
    fn found(&self) -> HashMap<String, (&'static str, i32, i64)> {
        let mut found = HashMap::new();
        for topic in TOPICS {
            for queue in QUEUES {
                let min = self.store().min_offset(topic, queue).0;
                let read = bodies(self.store(), topic, queue, min);
                let max = self.store().max_offset(topic, queue).0;
                assert_eq!(
                    read.len() as i64,
                    max - min,
                    "{topic}/{queue}: not all from {min} to {max} can be read"
                );
                for (body, offset) in read.into_iter().zip(min..) {
                    let twice = found.insert(body, (topic, queue, offset));
                    assert!(twice.is_none(), "{topic}/{queue}: twice: {twice:?}");
                }
            }
        }
        found
    }

    fn check(&self, promise: Promise) {
        let found = self.found();
        let topics = self.store().topics();
        assert!(topics.iter().all(|topic| TOPICS.contains(&&**topic)), "topics {topics:?}");
        for (body, place) in &found {
            let sent = self.sent.iter().find(|sent| sent.body == *body);
            let sent = sent.unwrap_or_else(|| panic!("invented: {body:.12}"));
            let placed = sent
                .placed
                .unwrap_or_else(|| panic!("{body:.12} was refused before it had a place"));
            assert_eq!((sent.topic, sent.queue, placed.queue_offset.0), *place, "{body:.12} is elsewhere");
            assert_ne!(sent.gone, Gone::Yes, "{body:.12} was deleted");
            let key = format!("k{}", &body[..12]);
            let by_key = || self.store().query(sent.topic, &key, 0, i64::MAX, 8).unwrap().records.len();
            if by_key() == 0 {
                // A fault kept the index behind: it catches up in the background.
                self.keep();
            }
            let found = by_key();
            assert!(found == 1 || !self.keys_hold, "{body:.12} is found {found} times by its key");
        }
        let first = self.store().log_range().0;
        let mut lost = None;
        for (at, sent) in self.sent.iter().enumerate() {
            if !sent.is_due(first) {
                continue;
            }
            let is_there = found.contains_key(&sent.body);
            match promise {
                Promise::All => assert!(is_there, "lost: {sent:?}"),
                Promise::AllButTheEnd => {
                    assert!(is_there || at >= self.synced, "lost though synced: {sent:?}");
                    assert!(!is_there || lost.is_none(), "lost before {sent:?}: {lost:?}");
                    lost = lost.or((!is_there).then_some(sent));
                }
            }
        }
    }

    /// Whether the last message was accepted.
    pub(crate) fn takes_messages(&self) -> bool {
        self.sent.last().is_some_and(|sent| sent.acknowledged)
    }

    /// While the store runs: no reader sees refused messages.
    pub(crate) fn must_not_show_refused(&self) {
        let found = self.found();
        let shown = |sent: &&Sent| !sent.acknowledged && found.contains_key(&sent.body);
        let shown = self.sent.iter().find(shown);
        assert!(shown.is_none(), "refused and visible: {shown:?}");
    }
}

impl Sent {
    /// Whether it must be there if nothing was lost.
    fn is_due(&self, first: LogOffset) -> bool {
        let expired = self.may_expire && self.placed.is_some_and(|placed| placed.log_offset < first);
        self.acknowledged && self.gone == Gone::No && !expired
    }
}
