//! Delivery of delayed messages on a simulated disk: full disks, kills and power failures.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use broker::alarm::Alarm;
use broker::arrival::ArrivalListener;
use broker::delay::table::{self, DelayOffsetsFile};
use broker::delay::{DelayArrivals, DelayOffsets, Delivery, DeliveryParts};
use broker::log_writer::LogWriter;
use broker::schedule::{Levels, delay_levels, queue_of, waiting_properties};
use broker::state_file::{SavedTable, StateFile};
use broker::stats::BrokerStats;
use broker::topic::{TopicLimits, Topics};
use config::shape::Shape;
use message::properties::{self, Builder};
use message::record::Draft;
use message::{QueueOffset, Record, names};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};
use store::{Arrival, Arrivals, DueTopic, FlushMode, IndexOptions, Limits, ReadSource, ReadStatus, Store, StoreOptions};

const ROOT: &str = "/store";
const TOPIC: &str = "orders";
const DEADLINE: Duration = Duration::from_secs(30);

const LEVELS: &str = "0s 1s";

fn levels(text: &str) -> Levels {
    delay_levels().parse(text).unwrap()
}

fn options(mode: FlushMode, levels: &Levels) -> StoreOptions {
    let mut options = StoreOptions {
        queue_file_bytes: 2_000,
        index: Some(IndexOptions { slots: 100, items: 1_000 }),
        checkpoint_bytes: 8 << 10,
        checkpoint_interval: Duration::from_millis(100),
        ..StoreOptions::small(ROOT, mode)
    };
    options.log.segment_bytes = 16 << 10;
    options.log.tail_bytes = 4 << 10;
    options.due = DueTopic {
        name: names::SCHEDULE_TOPIC.into(),
        delays_ms: levels.delays_ms().to_vec(),
    };
    options.retention.interval = Duration::from_millis(5);
    options.retention.clean_forcibly = false;
    options
}

/// Wakes the delivery thread on arrivals, as the broker does.
struct Wake(Arc<Alarm>);

impl Arrivals for Wake {
    fn arrived(&self, messages: &mut dyn Iterator<Item = Arrival<'_>>) {
        let arrivals = DelayArrivals(self.0.clone());
        messages.for_each(|message| arrivals.arrived(&message));
    }
}

/// The parts of a broker that delivery needs.
struct World {
    store: Arc<Store>,
    offsets: Arc<DelayOffsets>,
    file: DelayOffsetsFile,
    delivery: Delivery,
    levels: Levels,
    mode: FlushMode,
}

impl World {
    fn open(disk: &SimulatedDisk, mode: FlushMode) -> Self {
        Self::with_levels(disk, mode, LEVELS)
    }

    fn with_levels(disk: &SimulatedDisk, mode: FlushMode, text: &str) -> Self {
        let levels = levels(text);
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, _) = Store::open(Arc::clone(&disk), options(mode, &levels)).unwrap();
        let file = StateFile::new(Arc::clone(&disk), Path::new(ROOT), table::TABLE, &[]);
        let offsets = Arc::new(DelayOffsets::new(0));
        table::load(&offsets, &file).unwrap();
        let stats = Arc::new(BrokerStats::new("c", 100));
        let limits = TopicLimits { topics: 10, queues: 8 };
        let topics = Arc::new(Topics::new(vec![], limits, Arc::clone(&stats), Arc::default(), 0));
        let alarm = Arc::new(Alarm::default());
        store.set_arrivals(Box::new(Wake(Arc::clone(&alarm))));
        let parts = DeliveryParts {
            store: Arc::clone(&store),
            log: LogWriter::new(Arc::clone(&store), Arc::default()),
            offsets: Arc::clone(&offsets),
            alarm,
            topics,
            stats,
        };
        let delivery = Delivery::start(&levels, parts).unwrap();
        Self {
            file: DelayOffsetsFile::new(Arc::clone(&offsets), Arc::clone(&store), file, broker::delay::LONGEST_SLEEP),
            store,
            offsets,
            delivery,
            levels,
            mode,
        }
    }

    /// Sends a message with a delay level. Returns whether it was acknowledged.
    fn send(&self, body: &str, level: i32) -> bool {
        let own = Builder::new().with(properties::UNIQ_KEY, &format!("key-of-{body}")).build();
        let now = now_ms();
        let properties = waiting_properties(&own, level, now + self.levels.delay_ms(level), TOPIC, 0);
        let draft = Draft {
            born_timestamp: now,
            properties: &properties,
            ..Draft::new(names::SCHEDULE_TOPIC, queue_of(level), body.as_bytes())
        };
        let queue = self.store.queue(draft.topic, draft.queue_id);
        let Ok(ticket) = self.store.append(&[draft], &[queue], now, &mut Vec::new()) else {
            return false;
        };
        let (done, outcome) = mpsc::channel();
        self.store.complete_then(ticket, true, move |o| done.send(o.is_ok()).unwrap_or(()));
        outcome.recv_timeout(DEADLINE).unwrap()
    }

    /// Bodies of the delivered messages, with their delays in ms.
    fn arrived(&self) -> Vec<(String, i64)> {
        let (mut all, mut at) = (Vec::new(), QueueOffset(0));
        loop {
            let limits = Limits {
                messages: 32,
                bytes: 1 << 20,
                scan: 800,
            };
            let read = self.store.read(TOPIC, 0, at, limits, &|_| true, ReadSource::Disk).unwrap();
            if read.status != ReadStatus::Found {
                return all;
            }
            for bytes in &read.records {
                let record = Record::parse(bytes).unwrap();
                assert!(record.crc_matches());
                let body = String::from_utf8(record.body.to_vec()).unwrap();
                all.push((body, record.store_timestamp - record.born_timestamp));
            }
            at = read.next;
        }
    }

    fn bodies(&self) -> Vec<String> {
        self.arrived().into_iter().map(|(body, _)| body).collect()
    }

    /// Waits until all these bodies are delivered.
    fn wait_for(&self, expected: &[String]) -> Vec<String> {
        wait(|| expected.iter().all(|body| self.bodies().contains(body)));
        self.bodies()
    }

    fn stop(self) {
        self.delivery.stop();
        self.file.save().unwrap();
        self.store.close().unwrap();
    }

    /// Ends threads whose disk has failed; they must not outlive the test.
    fn abandon(self) {
        self.delivery.stop();
        let _ = self.store.close();
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn wait(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "timed out");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("message-{n:03}")).collect()
}

#[test]
fn each_level_is_delivered_in_order_and_after_its_delay() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let world = World::open(&SimulatedDisk::new(1), mode);
        let (later, soon) = (numbered(0..40), numbered(40..80));
        assert!(later.iter().all(|body| world.send(body, 2)));
        assert!(soon.iter().all(|body| world.send(body, 1)));
        let all: Vec<String> = [&soon[..], &later].concat();
        world.wait_for(&all);
        let arrived = world.arrived();
        assert_eq!(arrived.len(), 80);
        for bodies in [&soon, &later] {
            let order: Vec<&String> = arrived.iter().map(|(body, _)| body).filter(|body| bodies.contains(body)).collect();
            assert!(order.iter().zip(bodies.iter()).all(|(came, sent)| *came == sent), "{order:?}");
        }
        assert!(
            arrived.iter().all(|(body, waited)| *waited >= 1_000 || soon.contains(body)),
            "{arrived:?}"
        );
        wait(|| world.offsets.of(1) == Some(40) && world.offsets.of(2) == Some(40));
        world.stop();
    }
}

#[test]
fn pending_messages_keep_their_time_when_the_levels_change() {
    /// The disk after a kill or a power failure.
    type Crash = fn(&SimulatedDisk) -> SimulatedDisk;
    // `None` is a clean stop.
    let ends: [(FlushMode, Option<Crash>); 4] = [
        (FlushMode::Async, None),
        (FlushMode::Async, Some(SimulatedDisk::process_killed)),
        (FlushMode::Sync, Some(SimulatedDisk::process_killed)),
        (FlushMode::Sync, Some(|disk| disk.power_cut(5))),
    ];
    // Fewer and shorter levels, the same delays in another order, longer levels.
    for changed in ["0s", "1s 1s 1s", "1h 1s 0s", "2h 2h 2h"] {
        for (mode, end) in ends {
            let disk = SimulatedDisk::new(4);
            let world = World::with_levels(&disk, mode, "0s 1s 1h");
            assert!(world.send("in an hour", 3) && world.send("in a second", 2));
            let disk = match end {
                None => {
                    world.stop();
                    disk
                }
                Some(end) => {
                    let left = end(&disk);
                    world.abandon();
                    left
                }
            };
            let world = World::with_levels(&disk, mode, changed);
            world.wait_for(&["in a second".to_owned()]);
            let arrived = world.arrived();
            assert_eq!(arrived.len(), 1, "{arrived:?} with levels {changed}");
            assert!(arrived[0].1 >= 1_000, "{arrived:?} with levels {changed}");
            world.stop();
        }
    }
}

#[test]
fn a_full_disk_stops_delivery_and_loses_no_message() {
    let disk = SimulatedDisk::new(2);
    let world = World::open(&disk, FlushMode::Async);
    let bodies = numbered(0..30);
    assert!(bodies.iter().all(|body| world.send(body, 2)));
    disk.set_capacity(disk.used());
    // The keeper checks the disk while it has work.
    wait(|| {
        world.store.delete_expired();
        world.store.not_writable().is_some()
    });
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(world.bodies().len() < 30, "delivered to a full disk");
    let before = world.offsets.of(2);
    disk.set_capacity(1 << 30);
    wait(|| {
        world.store.delete_expired();
        world.store.not_writable().is_none()
    });
    assert_eq!(
        world.wait_for(&bodies),
        bodies,
        "every message once and in order; delivered before the disk was full: {before:?}"
    );
    world.stop();
}

#[test]
fn a_restart_continues_at_the_saved_offset() {
    let disk = SimulatedDisk::new(3);
    let world = World::open(&disk, FlushMode::Async);
    assert!(numbered(0..20).iter().all(|body| world.send(body, 1)));
    world.wait_for(&numbered(0..20));
    assert!(numbered(20..40).iter().all(|body| world.send(body, 2)));
    world.stop();
    let world = World::open(&disk, FlushMode::Async);
    assert_eq!(world.wait_for(&numbered(0..40)), numbered(0..40));
    world.stop();
}

#[test]
fn a_lost_progress_file_neither_repeats_nor_loses_messages() {
    for content in [None, Some(&b""[..]), Some(&[0; 120]), Some(b"{\"offsetTable\":{1:")] {
        let disk = SimulatedDisk::new(6);
        let world = World::with_levels(&disk, FlushMode::Async, "0s 1s 1h");
        assert!(numbered(0..20).iter().all(|body| world.send(body, 1)));
        world.wait_for(&numbered(0..20));
        assert!(world.send("in a second", 2) && world.send("in an hour", 3));
        world.stop();
        for name in ["delayOffset.json", "delayOffset.json.bak"] {
            let path = Path::new(ROOT).join("config").join(name);
            disk.remove_file(&path).ok();
            if let Some(content) = content {
                disk.open(&path, OpenMode::WriteOrCreate).unwrap().write_at(content, 0).unwrap();
            }
        }
        let world = World::with_levels(&disk, FlushMode::Async, "0s 1s 1h");
        assert!(world.send("last", 1));
        let expected: Vec<String> = [&numbered(0..20)[..], &["in a second".to_owned(), "last".to_owned()]].concat();
        let mut arrived = world.wait_for(&expected);
        arrived.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(arrived, expected, "{content:?}");
        wait(|| world.offsets.of(1) == Some(21));
        world.stop();
        let world = World::with_levels(&disk, FlushMode::Async, "0s 1s 1h");
        assert_eq!(world.offsets.of(1), Some(21), "{content:?}: saved again");
        world.stop();
    }
}

/// Kills the process or cuts the power while messages are sent and delivered, `rounds` times on one disk.
fn survive(mode: FlushMode, seed: u64, after: impl Fn(&SimulatedDisk, u64) -> SimulatedDisk) -> (Vec<String>, Vec<String>) {
    let mut disk = SimulatedDisk::new(seed);
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let world = World::open(&disk, mode);
        assert_eq!(world.mode, mode);
        for n in 0..25 {
            let body = format!("{round}-{n}");
            if world.send(&body, 1) {
                acknowledged.push(body);
            }
            if n == 7 + round * 3 {
                world.file.save().unwrap();
            }
        }
        disk = after(&disk, seed + round);
        world.abandon();
    }
    let world = World::open(&disk, mode);
    let arrived = world.wait_for(&acknowledged);
    world.stop();
    (acknowledged, arrived)
}

#[test]
fn after_kills_each_message_is_delivered_once() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        for seed in 0..4 {
            let (sent, mut arrived) = survive(mode, seed, |disk, _| disk.process_killed());
            assert_eq!(sent.len(), 100);
            let mut sent = sent;
            sent.sort();
            arrived.sort();
            assert_eq!(arrived, sent, "seed {seed}");
        }
    }
}

#[test]
fn after_power_failures_every_acknowledged_message_is_delivered() {
    for seed in 0..6 {
        let (sent, arrived) = survive(FlushMode::Sync, seed, SimulatedDisk::power_cut);
        assert_eq!(sent.len(), 100);
        assert!(sent.iter().all(|body| arrived.contains(body)), "seed {seed}");
    }
}
