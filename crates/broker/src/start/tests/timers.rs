//! Timers of a whole broker: on time, once, through stops, kills, power cuts and retention.

use super::support::{left_by_crash, records_of};
use super::*;
use crate::timer::Recall;
use message::Record;
use message::properties::{self, Builder};
use proptest::prelude::*;
use protocol::timer::RecallHandle;
use std::collections::BTreeMap;
use std::path::Path;
use store::disk::OpenMode;

struct World {
    disk: SimulatedDisk,
    broker: Broker,
    change: fn(&mut BrokerSettings),
}

/// A message that was delivered.
#[derive(Clone, Debug)]
struct Delivered {
    key: String,
    stored_ms: i64,
    properties: Vec<u8>,
}

impl Delivered {
    fn number(&self, name: &str) -> Option<i64> {
        properties::text(&self.properties, name)?.parse().ok()
    }
}

impl World {
    fn new(disk: SimulatedDisk, change: fn(&mut BrokerSettings)) -> Self {
        let broker = start(&disk, |settings| {
            settings.flush_disk_type = crate::settings::FlushDiskType::Sync;
            settings.recall_message_enable = true;
            settings.timer_flush_interval = Duration::from_millis(20);
            settings.mapped_file_size_timer_log = 4_096;
            change(settings);
        });
        Self { disk, broker, change }
    }

    /// Sends a message with this property, and its key in `UNIQ_KEY`. Returns whether it was stored.
    fn send(&self, key: &str, name: &str, value: i64) -> bool {
        self.send_to("t", key, name, value)
    }

    fn send_to(&self, topic: &str, key: &str, name: &str, value: i64) -> bool {
        let own = Builder::new()
            .with(name, &value.to_string())
            .with(properties::UNIQ_KEY, key)
            .build();
        super::support::send_to(&self.broker, topic, 0, &own).is_some()
    }

    /// The messages of a topic, in order.
    fn messages(&self, topic: &str) -> Vec<Delivered> {
        let records = records_of(&self.broker, topic, 0);
        let delivered = records.iter().map(|bytes| {
            let record = Record::parse(bytes).unwrap();
            Delivered {
                key: properties::text(record.properties, properties::UNIQ_KEY).unwrap().into_owned(),
                stored_ms: record.store_timestamp,
                properties: record.properties.to_vec(),
            }
        });
        delivered.collect()
    }

    fn keys(&self, topic: &str) -> Vec<String> {
        self.messages(topic).into_iter().map(|one| one.key).collect()
    }

    fn until_delivered(&self, count: usize) -> Vec<Delivered> {
        until("messages are delivered", || self.messages("t").len() >= count);
        self.messages("t")
    }

    fn recall(&self, handle: &str) -> Result<String, Refusal> {
        let context = send_context();
        let request = Recall {
            topic: "t",
            handle,
            producer_group: "p",
            client: context.client,
            store_host: context.store_host,
            now_ms: now_ms(),
        };
        let (done, ended) = std::sync::mpsc::channel();
        self.broker
            .routes
            .timers
            .recall(request, move |outcome| done.send(outcome).unwrap());
        ended.recv_timeout(SOON).unwrap()
    }

    /// Waits until all that was sent is in the index; the time then.
    fn until_in_index(&self) -> i64 {
        let timers = &self.broker.routes.timers;
        let end = self.broker.store.max_offset(message::names::TIMER_TOPIC, 0).0;
        until("the queue is read", || timers.numbers(now_ms()).enqueued >= end);
        now_ms()
    }

    fn until_idle(&self) {
        let timers = &self.broker.routes.timers;
        until("nothing waits", || timers.numbers(now_ms()).behind == 0 && timers.is_idle());
    }

    fn waiting(&self) -> i64 {
        self.broker.routes.timers.numbers(now_ms()).waiting
    }

    /// The broker dies, and another one starts on what is left.
    fn crash(self, power_cut: Option<u64>) -> Self {
        let left = left_by_crash(&self.disk, power_cut);
        let _ = self.broker.stop();
        Self::new(left, self.change)
    }

    fn restart(self) -> Self {
        self.broker.stop().unwrap();
        Self::new(self.disk, self.change)
    }
}

fn plain(_: &mut BrokerSettings) {}

fn handle(due_ms: i64, uniq_key: &str) -> String {
    let broker_name = &*BrokerSettings::default().broker_name;
    RecallHandle {
        topic: "t",
        broker_name,
        due_ms,
        uniq_key,
    }
    .encode()
}

#[test]
fn messages_are_delivered_at_their_times_and_in_their_order() {
    let world = World::new(SimulatedDisk::new(1), plain);
    assert!(world.send("now", properties::TIMER_DELAY_MS, -5));
    let due = now_ms() + 1_500;
    for (key, after) in [("c", 300), ("a", 0), ("d", 301), ("b", 299)] {
        assert!(world.send(key, properties::TIMER_DELIVER_MS, due + after));
    }
    let sent = now_ms();
    assert!(world.send("ms", properties::TIMER_DELAY_MS, 250));
    assert!(world.send("s", properties::TIMER_DELAY_SEC, 1));
    // Unless the machine is very slow, all are in the index before the first is due.
    let in_time = world.until_in_index() < due;
    let messages = world.until_delivered(7);
    let of = |key: &str| messages.iter().find(|one| one.key == key).unwrap();
    for (key, at) in [
        ("a", due),
        ("b", due + 299),
        ("c", due + 300),
        ("d", due + 301),
        ("ms", sent + 250),
        ("s", sent + 1_000),
    ] {
        assert!(of(key).stored_ms >= at, "{:?} is early", of(key));
        assert!(of(key).number(properties::TIMER_DEQUEUE_MS).unwrap() >= of(key).number(properties::TIMER_ENQUEUE_MS).unwrap());
        assert_eq!(of(key).number(properties::REAL_QID), None);
    }
    assert_eq!(messages[0].key, "now");
    let absolute: Vec<&str> = messages.iter().map(|one| &*one.key).filter(|key| "abcd".contains(key)).collect();
    if in_time {
        assert_eq!(absolute, ["a", "b", "c", "d"]);
    }
    world.until_idle();
    let world = world.restart();
    assert_eq!(world.messages("t").len(), 7, "a stop delivers nothing twice");
    world.broker.stop().unwrap();
}

#[test]
fn a_recalled_message_is_not_delivered() {
    let world = World::new(SimulatedDisk::new(1), plain);
    let due = now_ms() + 8_000;
    for key in ["a", "b", "c"] {
        assert!(world.send(key, properties::TIMER_DELIVER_MS, due));
    }
    assert_eq!(world.recall(&handle(due, "b")), Ok("b".to_owned()));
    let messages = world.until_delivered(2);
    assert!(messages.iter().all(|one| one.key != "b" && one.stored_ms >= due), "{messages:?}");
    world.until_idle();
    assert_eq!(world.keys("t").len(), 2);
    for (wrong, code) in [
        (handle(due, "a"), ResponseCode::IllegalOperation),
        ("no handle".to_owned(), ResponseCode::IllegalOperation),
    ] {
        assert_eq!(world.recall(&wrong).unwrap_err().code, code, "{wrong}");
    }
    world.broker.stop().unwrap();
}

#[test]
fn a_message_that_is_written_again_and_again_is_on_time() {
    let world = World::new(SimulatedDisk::new(1), |settings| {
        settings.timer_precision_ms = 100;
        settings.timer_roll_window_slots = 10;
    });
    let due = now_ms() + 5_000;
    assert!(world.send("far", properties::TIMER_DELIVER_MS, due));
    assert!(world.send("recalled", properties::TIMER_DELIVER_MS, due));
    world.recall(&handle(due, "recalled")).unwrap();
    let messages = world.until_delivered(1);
    assert!(messages[0].stored_ms >= due, "{messages:?}");
    assert!(messages[0].number(properties::TIMER_ROLL_TIMES).unwrap() >= 3, "{messages:?}");
    world.until_idle();
    assert_eq!(world.keys("t"), ["far"]);
    world.broker.stop().unwrap();
}

#[test]
fn a_recall_holds_when_it_was_to_be_written_again_while_the_broker_was_down() {
    let world = World::new(SimulatedDisk::new(1), |settings| {
        settings.timer_precision_ms = 100;
        settings.timer_roll_window_slots = 5;
    });
    let due = now_ms() + 1_500;
    for key in ["recalled", "kept"] {
        assert!(world.send(key, properties::TIMER_DELIVER_MS, due));
    }
    until("they wait", || world.waiting() == 2);
    world.recall(&handle(due, "recalled")).unwrap();
    let change = world.change;
    let disk = world.disk.clone();
    world.broker.stop().unwrap();
    until("it is due", || now_ms() > due + 500);
    let world = World::new(disk, change);
    world.until_delivered(1);
    world.until_idle();
    assert_eq!(world.keys("t"), ["kept"]);
    world.broker.stop().unwrap();
}

#[test]
fn what_is_too_far_or_no_number_is_refused() {
    let world = World::new(SimulatedDisk::new(1), plain);
    assert!(!world.send("a", properties::TIMER_DELAY_SEC, 3 * 24 * 3_600 + 1));
    assert!(!world.send("a", properties::TIMER_DELAY_MS, i64::MAX));
    assert!(world.send("a", properties::TIMER_DELAY_SEC, 3 * 24 * 3_600));
    until("it waits", || world.waiting() == 1);
    let world = world.restart();
    until("it waits", || world.waiting() == 1);
    assert!(world.keys("t").is_empty());
    world.broker.stop().unwrap();
}

#[test]
fn a_stop_in_the_middle_of_a_slot_delivers_each_once() {
    let mut world = World::new(SimulatedDisk::new(1), plain);
    let now = now_ms();
    for n in 0..300 {
        assert!(world.send(&n.to_string(), properties::TIMER_DELIVER_MS, now + 600 + 5 * n));
    }
    let in_time = world.until_in_index() < now + 600;
    let mut stops = 0;
    while world.messages("t").len() < 300 {
        assert!(now_ms() < now + 60_000);
        std::thread::sleep(Duration::from_millis(150));
        stops += 1;
        world = world.restart();
    }
    let mut keys: Vec<i64> = world.keys("t").iter().map(|key| key.parse().unwrap()).collect();
    // What comes late is delivered when it comes.
    if !in_time {
        keys.sort_unstable();
    }
    assert_eq!(keys, (0..300).collect::<Vec<_>>(), "after {stops} stops");
    world.broker.stop().unwrap();
}

#[test]
fn an_index_that_is_lost_is_built_again() {
    for lost in ["timerlog", "timerwheel", "config/timercheck", "config/timermetrics"] {
        let mut world = World::new(SimulatedDisk::new(1), plain);
        let now = now_ms();
        for n in 0..60 {
            assert!(world.send(&n.to_string(), properties::TIMER_DELIVER_MS, now + 200 + 20 * n));
        }
        world.until_delivered(10);
        world.broker.stop().unwrap();
        let path = Path::new("/store").join(lost);
        match lost {
            "timerlog" => world.disk.remove_dir_all(&path).unwrap(),
            _ => world.disk.remove_file(&path).unwrap(),
        }
        world = World::new(world.disk, plain);
        world.until_delivered(60);
        world.until_idle();
        let mut found: Vec<i64> = world.keys("t").iter().map(|key| key.parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, (0..60).collect::<Vec<_>>(), "without {lost}");
        world.broker.stop().unwrap();
    }
}

#[test]
fn log_files_are_deleted_and_what_waits_in_them_is_written_again_before() {
    let world = World::new(SimulatedDisk::new(1), |settings| {
        settings.mapped_file_size_commit_log = 64 << 10;
        settings.file_reserved_time = Duration::ZERO;
        settings.clean_resource_interval = Duration::from_millis(100);
    });
    let due = now_ms() + 6_000;
    for n in 0..20 {
        assert!(world.send(&n.to_string(), properties::TIMER_DELIVER_MS, due));
    }
    for n in 0..600 {
        assert!(world.send_to("filler", &format!("{n}{}", "x".repeat(800)), properties::TAGS, n));
    }
    until("files are deleted", || {
        world.broker.store.delete_expired();
        world.broker.store.log_range().0.0 > 4 * (64 << 10)
    });
    let delivered = world.keys("t").len();
    assert!(delivered == 0 || now_ms() >= due, "{delivered} are early");
    let world = world.crash(None);
    let mut messages = world.until_delivered(20);
    messages.sort_by_key(|one| one.key.parse::<i64>().unwrap());
    assert!(messages.iter().all(|one| one.stored_ms >= due));
    assert_eq!(
        messages.iter().map(|one| one.key.clone()).collect::<Vec<_>>(),
        (0..20).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    world.until_idle();
    assert_eq!(world.messages("t").len(), 20);
    world.broker.stop().unwrap();
}

#[test]
fn a_transaction_that_commits_waits_for_its_time() {
    let world = super::transactions::World::new(SimulatedDisk::new(1));
    let due = now_ms() + 700;
    let extra = [(properties::TIMER_DELIVER_MS, due.to_string())];
    let place = world.send_with("a", &extra).unwrap();
    world.end(place.0, place.1, crate::transaction::Outcome::Commit, false).unwrap();
    until("it is delivered", || {
        let early = now_ms() < due;
        let is_there = world.keys("t").len() == 1;
        assert!(!(early && is_there && now_ms() < due), "it is early");
        is_there
    });
    world.broker.stop().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Send(i64),
    Recall(usize),
    Wait(u64),
    Stop,
    Kill,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..1_500_i64).prop_map(Step::Send),
        1 => any::<usize>().prop_map(Step::Recall),
        2 => (0..120_u64).prop_map(Step::Wait),
        1 => Just(Step::Stop),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Each message that was acknowledged is delivered once, none before its time; one whose recall was acknowledged in time never.
    #[test]
    fn each_is_delivered_once_through_stops_kills_and_power_cuts(steps in proptest::collection::vec(step(), 10..50)) {
        let mut world = World::new(SimulatedDisk::new(1), plain);
        let mut sent: BTreeMap<String, i64> = BTreeMap::new();
        let mut recalled: BTreeMap<String, i64> = BTreeMap::new();
        let mut log = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            log.push(format!("{} {step:?}", now_ms()));
            match step {
                Step::Send(delay) => {
                    let due = now_ms() + delay;
                    let key = format!("m{n}");
                    prop_assert!(world.send(&key, properties::TIMER_DELIVER_MS, due));
                    sent.insert(key, due);
                }
                Step::Recall(which) => if !sent.is_empty() {
                    let (key, due) = sent.iter().nth(which % sent.len()).unwrap();
                    // In time: there is half a second left when it is acknowledged.
                    if world.recall(&handle(*due, key)).is_ok() && now_ms() + 500 < *due {
                        recalled.insert(key.clone(), *due);
                    } else {
                        recalled.insert(key.clone(), i64::MAX);
                    }
                },
                Step::Wait(ms) => std::thread::sleep(Duration::from_millis(ms)),
                Step::Stop => world = world.restart(),
                Step::Kill => world = world.crash(None),
                Step::PowerCut(seed) => world = world.crash(Some(seed)),
            }
        }
        let last = sent.values().max().copied().unwrap_or_default();
        until("the last one is due", || now_ms() > last);
        world.until_idle();
        let messages = world.messages("t");
        for one in &messages {
            let due = sent[&one.key];
            prop_assert!(one.stored_ms >= due, "{} was due at {due} and is there at {}", one.key, one.stored_ms);
            let same: Vec<_> = messages.iter().filter(|other| other.key == one.key).collect();
            prop_assert_eq!(same.len(), 1, "{:?} after {:?}", same, log);
            prop_assert!(recalled.get(&one.key).is_none_or(|due| *due == i64::MAX), "{} was recalled", one.key);
        }
        for key in sent.keys().filter(|key| !recalled.contains_key(*key)) {
            prop_assert!(messages.iter().any(|one| one.key == *key), "{key} is lost");
        }
        world.broker.stop().unwrap();
    }
}

#[test]
fn a_message_for_a_deleted_topic_blocks_nobody() {
    let world = World::new(SimulatedDisk::new(1), plain);
    let due = now_ms() + 3_000;
    assert!(world.send_to("gone", "a", properties::TIMER_DELIVER_MS, due));
    assert!(world.send("b", properties::TIMER_DELIVER_MS, due));
    block_on(async {
        let peer = connect(&world.broker).await;
        let delete = request(RequestCode::DeleteTopicInBroker, &[("topic", "gone")], "");
        assert_eq!(ask(&peer, delete).await, ResponseCode::Success);
    });
    world.until_delivered(1);
    world.until_idle();
    assert_eq!(world.keys("t"), ["b"]);
    world.broker.stop().unwrap();
}

/// The timer files of a world.
const FILES: [&str; 4] = [
    "timerlog/00000000000000000000",
    "timerwheel",
    "config/timercheck",
    "config/timermetrics",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::with_cases(8) })]

    /// Whatever stands in the timer files, the broker starts and delivers what is in the log. Bytes are changed where units, slots and
    /// numbers are; a slot that was erased whole is not noticed, but named by `store check`.
    #[test]
    fn damaged_timer_files_lose_nothing(
        file in 0..FILES.len(),
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(1u8.., 1..40),
        seed in any::<u64>(),
    ) {
        let world = World::new(SimulatedDisk::new(seed), plain);
        let due = now_ms() + 700;
        for n in 0..40i64 {
            // A slow machine refuses some.
            until("it is sent", || world.send(&n.to_string(), properties::TIMER_DELIVER_MS, due + n % 3 * 400));
        }
        until("they are in the index", || world.broker.routes.timers.numbers(now_ms()).behind == 0);
        world.broker.stop().unwrap();
        let path = Path::new("/store").join(FILES[file]);
        let content = world.disk.read(&path).unwrap();
        let used: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
        if !used.is_empty() {
            let at = used[at.index(used.len())];
            let part = &bytes[..bytes.len().min(content.len() - at)];
            world.disk.open(&path, OpenMode::Write).unwrap().write_at(part, at as u64).unwrap();
        }
        let world = World::new(world.disk, plain);
        until("all are delivered", || {
            let keys = world.keys("t");
            (0..40).all(|n| keys.contains(&n.to_string()))
        });
        prop_assert!(world.messages("t").iter().all(|one| one.stored_ms >= due));
        world.broker.stop().unwrap();
    }
}
