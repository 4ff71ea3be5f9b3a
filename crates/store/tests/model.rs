//! The store equals a list of bodies for each queue after any sequence of operations.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{PLENTY, ROOT, bodies, open, send_all};
use message::QueueOffset;
use message::record::Record;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::disk::simulated::SimulatedDisk;
use store::{FlushMode, Limits, ReadSource, ReadStatus, Store, StoreOptions};

const TOPICS: [&str; 3] = ["one", "two", "three"];

#[derive(Clone, Debug)]
enum Step {
    /// Topic, queue, messages, bytes of each.
    Send(usize, i32, usize, usize),
    /// Topic, queue, a position of 0 to 99 percent.
    Read(usize, i32, usize),
    Delete(usize),
    /// The page cache is dropped.
    Evict,
    Keep,
    Reopen,
    Kill,
    /// A power cut with this seed; only under SYNC_FLUSH, where that loses nothing.
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let queue = || (0..TOPICS.len(), 0..2i32);
    prop_oneof![
        12 => (queue(), 1..6usize, 0..600usize).prop_map(|((t, q), count, size)| Step::Send(t, q, count, size)),
        6 => (queue(), 0..100usize).prop_map(|((t, q), percent)| Step::Read(t, q, percent)),
        1 => (0..TOPICS.len()).prop_map(Step::Delete),
        1 => Just(Step::Evict),
        1 => Just(Step::Keep),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// The expected content.
type Model = BTreeMap<(usize, i32), Vec<String>>;

struct World {
    mode: FlushMode,
    disk: SimulatedDisk,
    /// `None` only between two starts.
    store: Option<Arc<Store>>,
    model: Model,
    serial: usize,
}

impl World {
    fn new(mode: FlushMode) -> Self {
        let disk = SimulatedDisk::new(3);
        Self {
            mode,
            store: Some(Self::open(&disk, mode)),
            disk,
            model: Model::new(),
            serial: 0,
        }
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().unwrap()
    }

    fn open(disk: &SimulatedDisk, mode: FlushMode) -> Arc<Store> {
        open(Arc::new(disk.clone()), StoreOptions::small(ROOT, mode)).unwrap()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Send(topic, queue, count, size) => self.send(topic, queue, count, size),
            Step::Read(topic, queue, percent) => self.read(topic, queue, percent),
            Step::Delete(topic) => {
                self.store().delete_topic(TOPICS[topic]).unwrap();
                self.model.retain(|(t, _), _| *t != topic);
            }
            Step::Evict => self.disk.evict(),
            Step::Keep => self.store().run_background_work().unwrap(),
            Step::Reopen => self.start_on(None),
            Step::Kill => self.start_on(Some(self.disk.process_killed())),
            Step::PowerCut(seed) if self.mode == FlushMode::Sync => self.start_on(Some(self.disk.power_cut(seed))),
            Step::PowerCut(_) => {}
        }
    }

    /// Ends the store and starts it again: on its disk, or on what was left of it before.
    fn start_on(&mut self, disk: Option<SimulatedDisk>) {
        self.store.take().unwrap().close().unwrap();
        if let Some(disk) = disk {
            self.disk = disk;
        }
        self.store = Some(Self::open(&self.disk, self.mode));
    }

    fn send(&mut self, topic: usize, queue: i32, count: usize, size: usize) {
        let numbers = self.serial..self.serial + count;
        self.serial += count;
        let sent: Vec<String> = numbers.map(|n| format!("{n:012}{}", "y".repeat(size))).collect();
        let texts: Vec<&str> = sent.iter().map(String::as_str).collect();
        let placed = send_all(self.store(), TOPICS[topic], queue, &texts).unwrap();
        let list = self.model.entry((topic, queue)).or_default();
        for (placement, body) in placed.iter().zip(&sent) {
            assert_eq!(placement.queue_offset, QueueOffset(list.len() as i64));
            list.push(body.clone());
        }
    }

    fn read(&self, topic: usize, queue: i32, percent: usize) {
        let none = Vec::new();
        let list = self.model.get(&(topic, queue)).unwrap_or(&none);
        let from = list.len() * percent / 100;
        assert_eq!(bodies(self.store(), TOPICS[topic], queue, from as i64), list[from..]);
        let name = TOPICS[topic];
        assert_eq!(
            (self.store().min_offset(name, queue).0, self.store().max_offset(name, queue).0),
            (0, list.len() as i64)
        );
        let limits = Limits { messages: 3, ..PLENTY };
        let read = self
            .store()
            .read(name, queue, QueueOffset(from as i64), limits, &|_| true, ReadSource::Disk)
            .unwrap();
        assert_eq!(read.status == ReadStatus::Found, from < list.len());
        assert_eq!(read.records.len(), 3.min(list.len() - from), "as many as asked for");
        if let Some(body) = list.get(from) {
            let found = self.store().query(name, &format!("k{}", &body[..12]), 0, i64::MAX, 8).unwrap();
            let found: Vec<_> = found.records.iter().map(|bytes| Record::parse(bytes).unwrap().body).collect();
            assert_eq!(found, [body.as_bytes()], "by its key");
        }
    }

    fn read_everything(&self) {
        for topic in 0..TOPICS.len() {
            (0..2).for_each(|queue| self.read(topic, queue, 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn store_equals_a_list_for_each_queue(steps in prop::collection::vec(step(), 1..60), is_sync: bool) {
        let mut world = World::new(if is_sync { FlushMode::Sync } else { FlushMode::Async });
        for step in &steps {
            world.take(step);
        }
        world.read_everything();
        world.start_on(None);
        world.read_everything();
        world.store().close().unwrap();
    }
}
