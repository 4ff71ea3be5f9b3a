//! Scenarios of explored threads, what they were told, and what must hold.

mod bound;
mod compaction;
mod hanging;
mod told;
mod truncation;

use message::record::{Draft, Record};
use message::{LogOffset, QueueOffset};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicI64, Ordering::SeqCst};
use shuttle::sync::{Arc as SharedByShuttle, mpsc};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use store::disk::Disk;
use store::disk::simulated::SimulatedDisk;
use store::{AppendError, Boundary, FlushMode, Limits, ReadSource, ReadStatus, Store, StoreOptions};
pub(crate) use told::{Found, Left, Told};

pub(crate) use bound::bound;
pub(crate) use compaction::{compaction, deletion_of_a_compacted_topic};
pub(crate) use hanging::{hanging_creation, hanging_syncs};
pub(crate) use truncation::{reads_across_truncation, truncation};

/// A scenario in a flush mode.
pub(crate) type Life = fn(FlushMode);

const ROOT: &str = "/store";
/// Retention deletes a log file that was not changed for this time.
const OLD_ENOUGH: Duration = Duration::from_secs(100 * 3600);
/// Store timestamps begin here.
const BEGIN_MS: i64 = 1_700_000_000_000;

pub(crate) fn options(mode: FlushMode) -> StoreOptions {
    StoreOptions {
        // Few keys may wait: of a batch all are dropped and indexed from the log.
        max_index_backlog: 1,
        ..StoreOptions::small(ROOT, mode)
    }
}

pub(crate) fn open(disk: &SimulatedDisk, mode: FlushMode) -> Arc<Store> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(disk, options(mode)).expect("the store opens").0
}

/// A store, its disk, and what its users were told.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) mode: FlushMode,
    pub(crate) disk: SimulatedDisk,
    pub(crate) store: Arc<Store>,
    pub(crate) told: SharedByShuttle<shuttle::sync::Mutex<Told>>,
    clock: SharedByShuttle<AtomicI64>,
}

impl World {
    pub(crate) fn new(mode: FlushMode) -> Self {
        let disk = SimulatedDisk::new(thread_rng().r#gen());
        Self {
            mode,
            store: open(&disk, mode),
            disk,
            told: SharedByShuttle::default(),
            clock: SharedByShuttle::new(AtomicI64::new(BEGIN_MS)),
        }
    }

    /// The time, which advances with each call.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// Sends messages to a queue with one append and waits for the outcome; returns whether they were acknowledged. Looks up the
    /// queue again if its topic was deleted meanwhile.
    pub(crate) fn send(&self, topic: &'static str, queue_id: i32, count: usize) -> bool {
        let bodies = (0..count).map(|_| self.told.lock().unwrap().next_body(topic));
        self.send_bodies(topic, queue_id, bodies.collect())
    }

    fn send_bodies(&self, topic: &'static str, queue_id: i32, bodies: Vec<String>) -> bool {
        let count = bodies.len();
        let properties: Vec<Vec<u8>> = bodies
            .iter()
            .map(|body| format!("KEYS\u{1}{}\u{2}", key_of(body)).into_bytes())
            .collect();
        let draft = |(body, properties)| Draft {
            properties,
            ..Draft::new(topic, queue_id, str::as_bytes(body))
        };
        let drafts: Vec<Draft<'_>> = bodies
            .iter()
            .map(String::as_str)
            .zip(properties.iter().map(Vec::as_slice))
            .map(draft)
            .collect();
        loop {
            let queues = vec![self.store.queue(topic, queue_id); count];
            let now_ms = self.now_ms();
            // Sometimes long enough for a whole deletion.
            (0..thread_rng().gen_range(0..30)).for_each(|_| thread::yield_now());
            let life = self.told.lock().unwrap().life_of(topic);
            let mut placed = Vec::new();
            let ticket = match self.store.append(&drafts, &queues, now_ms, &mut placed) {
                Ok(ticket) => ticket,
                Err(AppendError::QueueRetired { .. }) => continue,
                Err(_) => return false,
            };
            self.told.lock().unwrap().sent(topic, queue_id, life, &bodies, &placed);
            let (done, outcome) = mpsc::channel();
            let told = self.told.clone();
            let last = bodies[count - 1].clone();
            self.store.complete_then(ticket, true, move |outcome| {
                if outcome.is_ok() {
                    told.lock().unwrap().acknowledge(&bodies);
                }
                done.send((last, outcome.is_ok())).unwrap();
            });
            let (last, is_stored) = outcome.recv().unwrap();
            // An acknowledged message can be found, unless retention deleted it.
            let is_removed = || placed.last().is_some_and(|placed| placed.log_offset < self.store.log_range().0);
            let is_there = || self.find(&last).is_some() || !self.told.lock().unwrap().lives_on(topic, life) || is_removed();
            assert!(!is_stored || is_there(), "{last} is acknowledged and not there");
            return is_stored;
        }
    }

    fn delete(&self, topic: &'static str) {
        self.told.lock().unwrap().deletion_begins(topic);
        self.store.delete_topic(topic).expect("it is deleted");
        let acknowledged = self.told.lock().unwrap().deletion_ends(topic);
        let deleted: Vec<String> = acknowledged.into_iter().filter(|body| self.find(body).is_none()).collect();
        self.told.lock().unwrap().deleted(&deleted);
    }

    fn find(&self, body: &str) -> Option<Found> {
        let place = self.told.lock().unwrap().place_of(body)?;
        read(&self.store, place.0, place.1, place.2)
            .into_iter()
            .find(|found| found.body == body)
    }

    /// Reads a queue: everything from its first offset on is a message that was sent, in order, and as durable as the mode says; a
    /// search by time finds its end.
    pub(crate) fn look(&self, topic: &'static str, queue_id: i32) {
        let max = self.store.max_offset(topic, queue_id).0;
        let latest = self
            .store
            .offset_by_time(topic, queue_id, BEGIN_MS + 1_000_000, Boundary::Lower)
            .unwrap()
            .0;
        let is_new_life = || self.store.max_offset(topic, queue_id).0 < max;
        assert!(latest >= max || is_new_life(), "a search for now finds {latest} of {max}");
        let found = read(&self.store, topic, queue_id, self.store.min_offset(topic, queue_id).0);
        let flushed = self.store.flushed();
        for (pair, at) in found.windows(2).zip(1..) {
            assert!(
                pair[0].store_timestamp <= pair[1].store_timestamp,
                "{topic}/{queue_id} at {at}: time goes back"
            );
        }
        for one in &found {
            assert!(
                self.mode == FlushMode::Async || one.log_end <= flushed.0,
                "{} is seen before it is synced",
                one.body
            );
            let is_there = self.store.record_at(LogOffset(one.log_offset)).is_ok();
            let is_removed = || one.log_offset < self.store.log_range().0.0;
            assert!(is_there || is_removed(), "{} is seen and not found by its place", one.body);
            self.told.lock().unwrap().check_seen(one);
        }
        if let Some(last) = found.last() {
            let at = self
                .store
                .offset_by_time(topic, queue_id, last.store_timestamp, Boundary::Lower)
                .unwrap()
                .0;
            assert!(
                at <= last.queue_offset || is_new_life(),
                "a search for the time of {} finds {at}",
                last.body
            );
        }
    }

    /// The disk after a kill or power cut now, and what had been told before.
    pub(crate) fn cut(&self) -> Left {
        let told = self.told.lock().unwrap().clone();
        let flushed = self.store.flushed().0;
        let by_kill = thread_rng().r#gen();
        let disk = match by_kill {
            true => self.disk.process_killed(),
            false => self.disk.power_cut(thread_rng().r#gen()),
        };
        Left {
            mode: self.mode,
            disk,
            told,
            later: self.told.clone(),
            flushed: if by_kill { i64::MAX } else { flushed },
        }
    }

    /// Kills or cuts at a moment of the scheduler's choice.
    pub(crate) fn cut_sometime(self) -> Left {
        for _ in 0..thread_rng().gen_range(0..40) {
            thread::yield_now();
        }
        self.cut()
    }
}

/// The key of a message is its beginning.
pub(crate) fn key_of(body: &str) -> &str {
    &body[..body.len().min(5)]
}

/// The messages of a queue from an offset on.
pub(crate) fn read(store: &Store, topic: &str, queue_id: i32, from: i64) -> Vec<Found> {
    let limits = Limits {
        messages: 32,
        bytes: 1 << 20,
        scan: 800,
    };
    let (mut at, mut all) = (QueueOffset(from), Vec::new());
    loop {
        let read = store
            .read(topic, queue_id, at, limits, &|_| true, ReadSource::Disk)
            .expect("a queue can be read");
        assert!(read.damaged.is_none(), "{topic}/{queue_id}: {:?}", read.damaged);
        if read.status != ReadStatus::Found {
            return all;
        }
        all.extend(read.records.iter().map(|bytes| {
            let record = Record::parse(bytes).expect("a record");
            assert!(record.crc_matches());
            assert_eq!((record.topic, record.queue_id), (topic, queue_id));
            Found::of(&record)
        }));
        at = read.next;
    }
}

/// Senders, a reader, a checkpoint, and a cut.
pub(crate) fn sends_and_reads(mode: FlushMode) {
    let world = World::new(mode);
    let (a, b, c, d) = (world.clone(), world.clone(), world.clone(), world.clone());
    let threads = [
        thread::spawn(move || {
            a.send("a", 0, 1);
            a.send("a", 1, 2);
        }),
        thread::spawn(move || {
            b.send("a", 0, 2);
            b.send("b", 0, 1);
        }),
        thread::spawn(move || (0..2).for_each(|_| c.look("a", 0))),
        thread::spawn(move || d.store.delete_topic("none").unwrap()),
    ];
    let left = world.clone().cut_sometime();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.look("a", 0);
    world.store.close().expect("it stops");
    left.must_hold();
}

/// One sender and one reader: with few threads each of their steps meets each of the other's.
pub(crate) fn reads(mode: FlushMode) {
    let world = World::new(mode);
    let (a, b) = (world.clone(), world.clone());
    let threads = [
        thread::spawn(move || (0..2).for_each(|_| _ = a.send("a", 0, 1))),
        thread::spawn(move || (0..4).for_each(|_| b.look("a", 0))),
    ];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.store.close().expect("it stops");
}

/// Keys that are indexed from the log, beside checkpoints.
pub(crate) fn keys(mode: FlushMode) {
    let world = World::new(mode);
    let (a, b) = (world.clone(), world.clone());
    let threads = [
        thread::spawn(move || (0..2).for_each(|_| _ = a.send("a", 0, 2))),
        thread::spawn(move || (0..2).for_each(|_| b.store.delete_topic("none").unwrap())),
    ];
    let left = world.clone().cut_sometime();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    left.must_hold();
    // Again after all checkpoints except that of the shutdown.
    let left = world.cut();
    world.store.close().expect("it stops");
    left.must_hold();
}

/// The store's keeper indexes keys from the log beside a checkpoint, and the process ends when that is written.
pub(crate) fn end_after_checkpoint(mode: FlushMode) {
    let world = World::new(mode);
    let a = world.clone();
    let sender = thread::spawn(move || a.send("a", 0, 2));
    while world.store.max_offset("a", 0).0 == 0 {
        thread::yield_now();
    }
    world.store.delete_topic("none").unwrap();
    let left = world.cut();
    sender.join().unwrap();
    world.store.close().expect("it stops");
    left.must_hold();
}

/// Old log files are removed while messages fill new ones and readers read.
pub(crate) fn retention(mode: FlushMode) {
    let world = World::new(mode);
    let large = |world: &World| {
        let body = format!("{}-{}", world.told.lock().unwrap().next_body("a"), "x".repeat(1_500));
        world.send_bodies("a", 0, vec![body])
    };
    let (a, b, c) = (world.clone(), world.clone(), world.clone());
    let threads = [
        thread::spawn(move || (0..4).for_each(|_| _ = large(&a))),
        thread::spawn(move || (0..3).for_each(|_| _ = large(&b))),
        thread::spawn(move || {
            for _ in 0..3 {
                c.disk.advance_clock(OLD_ENOUGH);
                c.store.delete_expired();
                c.look("a", 0);
            }
        }),
    ];
    let left = world.clone().cut_sometime();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.store.close().expect("it stops");
    left.must_hold();
}

/// A topic is deleted while it is sent to, and the process ends when that is acknowledged.
pub(crate) fn end_after_deletion(mode: FlushMode) {
    let world = World::new(mode);
    let a = world.clone();
    let sender = thread::spawn(move || (0..3).for_each(|_| _ = a.send("b", 0, 1)));
    (0..thread_rng().gen_range(0..20)).for_each(|_| thread::yield_now());
    world.delete("b");
    let left = world.cut();
    sender.join().unwrap();
    world.store.close().expect("it stops");
    left.must_hold();
}

/// A topic is deleted, twice, while it is sent to.
pub(crate) fn deletion(mode: FlushMode) {
    let world = World::new(mode);
    let (a, b, c) = (world.clone(), world.clone(), world.clone());
    let threads = [
        thread::spawn(move || (0..3).for_each(|_| _ = a.send("b", 0, 1))),
        thread::spawn(move || {
            b.send("a", 0, 1);
            b.send("b", 0, 2);
        }),
        thread::spawn(move || {
            for _ in 0..2 {
                c.delete("b");
                c.look("b", 0);
            }
        }),
    ];
    let left = world.clone().cut_sometime();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.look("a", 0);
    world.store.close().expect("it stops");
    left.must_hold();
    let at_end = Left {
        mode,
        disk: world.disk.process_killed(),
        told: world.told.lock().unwrap().clone(),
        later: world.told.clone(),
        flushed: i64::MAX,
    };
    at_end.must_hold();
}

/// The store is closed while messages are sent.
pub(crate) fn closing(mode: FlushMode) {
    let world = World::new(mode);
    let (a, b) = (world.clone(), world.clone());
    let threads = [
        thread::spawn(move || (0..2).for_each(|_| _ = a.send("a", 0, 1))),
        thread::spawn(move || _ = b.send("a", 1, 2)),
    ];
    (0..thread_rng().gen_range(0..10)).for_each(|_| thread::yield_now());
    world.store.close().expect("it stops");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // Acknowledged messages are on the device after a shutdown, in either mode.
    let told = world.told.lock().unwrap().clone();
    let left = Left {
        mode,
        disk: world.disk.power_cut(thread_rng().r#gen()),
        flushed: i64::MAX,
        later: world.told.clone(),
        told,
    };
    left.must_hold();
}
