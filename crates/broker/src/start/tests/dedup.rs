//! Topics that recognise repeated sends, in a whole broker, through kills and power cuts.

use super::support::{left_by_crash, records_of};
use super::*;
use crate::attributes;
use crate::topic::Spec;
use crate::transaction::{EndTransaction, Outcome};
use message::batch;
use message::properties::{self, Builder};
use message::{Record, names};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a producer is told: the queue, the offset in the queue and in the log of each message, and the broker's address; or why not.
type Told = Result<(i32, Vec<(i64, i64)>, SocketAddr), String>;

#[derive(Clone, Default)]
struct Answers(Arc<Mutex<BTreeMap<u32, Told>>>);

fn told(sent: &Sent<'_>) -> Told {
    let places = sent.placements.iter().map(|placed| (placed.queue_offset.0, placed.log_offset.0));
    Ok((sent.queue_id, places.collect(), sent.store_host))
}

impl SendSink for Answers {
    type Asker = u32;

    fn wants_answer(_: u32) -> bool {
        true
    }

    fn refuse(&self, asker: u32, refusal: Refusal) {
        self.0.lock().insert(asker, Err(refusal.to_string()));
    }

    fn answer<'s>(&self, sent: impl Iterator<Item = (u32, Sent<'s>)>) {
        self.0.lock().extend(sent.map(|(asker, sent)| (asker, told(&sent))));
    }

    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (u32, Sent<'s>)> + Clone,
        _: MayBeLate,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static {
        let all: Vec<_> = sent.map(|(asker, sent)| (asker, told(&sent))).collect();
        let answers = self.clone();
        move |ending| {
            let ended = all.into_iter().map(|(asker, told)| match ending {
                Ending::Done => (asker, told),
                Ending::NotCopied | Ending::TimedOut => (asker, Err("timed out".to_owned())),
                Ending::Failed(reason) => (asker, Err(reason.to_string())),
            });
            answers.0.lock().extend(ended);
        }
    }

    fn fail(&self, askers: impl Iterator<Item = u32>, reason: &str) {
        self.0.lock().extend(askers.map(|asker| (asker, Err(reason.to_owned()))));
    }
}

/// A message to send.
#[derive(Clone, Debug, Default)]
struct Message {
    uniq_key: String,
    keys: String,
    /// Delay level; 0 for none.
    delay: u8,
    is_half: bool,
    /// Waits for an hour.
    is_timer: bool,
    /// Those of a batch; the properties above are not used then.
    batch: Vec<Message>,
    body: Vec<u8>,
}

fn message(uniq_key: &str) -> Message {
    Message {
        uniq_key: uniq_key.to_owned(),
        body: b"body".to_vec(),
        ..Message::default()
    }
}

fn batch_of(uniq_keys: &[&str]) -> Message {
    Message {
        batch: uniq_keys.iter().map(|key| message(key)).collect(),
        ..Message::default()
    }
}

fn with_keys(uniq_key: &str, keys: &str) -> Message {
    Message {
        keys: keys.to_owned(),
        ..message(uniq_key)
    }
}

impl Message {
    fn delayed(self) -> Self {
        Self { delay: 18, ..self }
    }

    fn timer(self) -> Self {
        Self { is_timer: true, ..self }
    }

    fn half(self) -> Self {
        Self { is_half: true, ..self }
    }

    fn properties(&self) -> Vec<u8> {
        let mut builder = Builder::new().with(properties::PRODUCER_GROUP, "p");
        if self.is_half {
            builder = builder.with(properties::TRANSACTION_PREPARED, "true");
        }
        for (name, value) in [(properties::UNIQ_KEY, &self.uniq_key), (properties::KEYS, &self.keys)] {
            if !value.is_empty() {
                builder = builder.with(name, value);
            }
        }
        if self.is_timer {
            builder = builder.with(properties::TIMER_DELAY_SEC, "3600");
        }
        if self.delay > 0 {
            builder = builder.with(properties::DELAY, &self.delay.to_string());
        }
        builder.build()
    }

    fn body(&self) -> Vec<u8> {
        if self.batch.is_empty() {
            return self.body.clone();
        }
        let mut out = Vec::new();
        for one in &self.batch {
            let properties = one.properties();
            batch::push(
                &mut out,
                batch::Item {
                    flag: 0,
                    body: &one.body,
                    properties: &properties,
                },
            );
        }
        out
    }
}

struct World {
    disk: SimulatedDisk,
    broker: Broker,
}

impl World {
    /// With topic `t`, which has these attributes.
    fn new(attributes: &str) -> Self {
        let world = Self::on(SimulatedDisk::new(1));
        world.set(attributes);
        world
    }

    fn on(disk: SimulatedDisk) -> Self {
        let broker = start(&disk, |settings| {
            settings.flush_disk_type = crate::settings::FlushDiskType::Sync;
            settings.transaction_check_interval = Duration::from_hours(24);
            settings.max_dedup_keys = 1_000;
        });
        Self { disk, broker }
    }

    fn set(&self, attributes: &str) {
        let changes = attributes::parse(attributes).unwrap();
        self.broker
            .routes
            .core
            .topics
            .update(vec![(Spec::new("t", 1), changes)], now_ms())
            .unwrap();
        self.broker.tables.save_all().unwrap();
    }

    /// Sends messages that were read together.
    fn send_all(&self, messages: &[Message]) -> Vec<Told> {
        let answers = self.begin(messages);
        until("sends are answered", || answers.0.lock().len() == messages.len());
        std::mem::take(&mut *answers.0.lock()).into_values().collect()
    }

    fn begin(&self, messages: &[Message]) -> Answers {
        let answers = Answers::default();
        let encoded: Vec<(Vec<u8>, Vec<u8>)> = messages.iter().map(|one| (one.properties(), one.body())).collect();
        let requests = messages
            .iter()
            .zip(&encoded)
            .zip(0..)
            .map(|((message, (properties, body)), asker)| SendRequest {
                header: protocol::send::SendHeader {
                    producer_group: "p",
                    topic: "t",
                    sys_flag: if message.is_half { 4 } else { 0 },
                    born_timestamp: now_ms(),
                    properties: if message.batch.is_empty() { properties } else { b"" },
                    ..Default::default()
                },
                is_batch: !message.batch.is_empty(),
                body,
                client_version: 500,
                asker,
            });
        self.broker.routes.sender.send(&answers, requests, messages.len(), send_context());
        answers
    }

    fn send(&self, message: &Message) -> Told {
        self.send_all(std::slice::from_ref(message)).remove(0)
    }

    fn end(&self, half: (i64, i64), outcome: Outcome) -> Result<(), Refusal> {
        let request = EndTransaction {
            half: half.0,
            log_offset: half.1,
            producer_group: "p",
            outcome,
            is_answer: false,
            store_host: send_context().store_host,
            now_ms: now_ms(),
        };
        let (done, ended) = std::sync::mpsc::channel();
        let transactions = &self.broker.routes.transactions;
        transactions.end(request, move |outcome| done.send(outcome).unwrap());
        ended.recv_timeout(SOON).unwrap()
    }

    fn crash(self, power_cut: Option<u64>) -> Self {
        let left = left_by_crash(&self.disk, power_cut);
        let _ = self.broker.stop();
        Self::on(left)
    }

    fn restart(self) -> Self {
        self.broker.stop().unwrap();
        Self::on(self.disk)
    }

    /// How often a property has each value, over what is stored in a queue of a topic.
    fn stored(&self, topic: &str, queue_id: i32, property: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for bytes in &records_of(&self.broker, topic, queue_id) {
            let record = Record::parse(bytes).unwrap();
            let value = properties::text(record.properties, property).unwrap_or_default().into_owned();
            *counts.entry(value).or_default() += 1;
        }
        counts
    }

    fn uniq_keys(&self) -> Vec<(String, usize)> {
        self.stored("t", 0, properties::UNIQ_KEY).into_iter().collect()
    }
}

fn each_once(keys: &[&str]) -> Vec<(String, usize)> {
    keys.iter().map(|key| ((*key).to_owned(), 1)).collect()
}

#[test]
fn a_repeat_is_answered_like_the_first_send_and_not_stored() {
    let mut world = World::new("+dedup.window.seconds=60");
    let first = world.send(&message("a"));
    assert!(first.is_ok(), "{first:?}");
    world.send(&message("b")).unwrap();
    let later = world.send(&message("c").delayed());
    let timer = world.send(&message("d").timer());
    assert!(timer.is_ok(), "{timer:?}");
    for crash in 0..4 {
        assert_eq!(world.send(&message("a")), first);
        assert_eq!(world.send(&message("c").delayed()), later);
        assert_eq!(world.send(&message("d").timer()), timer);
        assert_eq!(world.stored(names::TIMER_TOPIC, 0, properties::UNIQ_KEY).get("d"), Some(&1));
        assert_eq!(world.uniq_keys(), each_once(&["a", "b"]));
        assert_eq!(world.stored(names::SCHEDULE_TOPIC, 17, properties::UNIQ_KEY).get("c"), Some(&1));
        world = match crash {
            0 => world.restart(),
            1 => world.crash(None),
            _ => world.crash(Some(7)),
        };
    }
    assert_eq!(world.broker.routes.dedup.entries(), 4);
    world.broker.stop().unwrap();
}

#[test]
fn a_topic_without_the_attribute_stores_every_send() {
    let world = World::new("+dedup.by=KEYS");
    (0..2).for_each(|_| drop(world.send(&message("a")).unwrap()));
    assert_eq!(world.uniq_keys(), [("a".to_owned(), 2)]);
    world.set("+dedup.window.seconds=60");
    (0..2).for_each(|_| drop(world.send(&message("b")).unwrap()));
    world.set("-dedup.window.seconds");
    (0..2).for_each(|_| drop(world.send(&message("c")).unwrap()));
    assert_eq!(world.uniq_keys(), [("a".to_owned(), 2), ("b".to_owned(), 1), ("c".to_owned(), 2)]);
    world.broker.stop().unwrap();
}

#[test]
fn repeats_read_together_with_the_first_send_are_answered_like_it() {
    let world = World::new("+dedup.window.seconds=60");
    let sent = ["a", "b", "a", "a", "b", "c"].map(message);
    let told = world.send_all(&sent);
    assert_eq!([&told[2], &told[3]], [&told[0]; 2]);
    assert_eq!(told[4], told[1]);
    assert_eq!(world.uniq_keys(), each_once(&["a", "b", "c"]));
    assert_eq!(world.broker.routes.dedup.repeats(), 3);
    world.broker.stop().unwrap();
}

#[test]
fn of_a_batch_only_what_is_new_is_stored() {
    let world = World::new("+dedup.window.seconds=60");
    let first = world.send(&batch_of(&["a", "b", "c"]));
    let world = world.crash(None);
    assert_eq!(world.send(&batch_of(&["a", "b", "c"])), first);
    let (queue, places, host) = first.unwrap();
    let (_, mixed, _) = world.send(&batch_of(&["d", "b", "e", "d", "a"])).unwrap();
    assert_eq!([mixed[1], mixed[4], mixed[3]], [places[1], places[0], mixed[0]]);
    assert_eq!([mixed[0].0, mixed[2].0], [3, 4]);
    assert_eq!(world.send(&message("c")), Ok((queue, vec![places[2]], host)), "sent again alone");
    assert_eq!(world.uniq_keys(), each_once(&["a", "b", "c", "d", "e"]));
    world.broker.stop().unwrap();
}

#[test]
fn by_keys_another_message_with_the_same_keys_is_a_repeat() {
    let world = World::new("+dedup.window.seconds=60,+dedup.by=KEYS");
    let first = world.send(&with_keys("1", "order 7"));
    assert_eq!(world.send(&with_keys("2", "order 7")), first);
    let world = world.restart();
    assert_eq!(world.send(&with_keys("3", "order 7")), first);
    assert_ne!(world.send(&with_keys("4", "order")), first, "all keys together are the key");
    let without = world.send(&message("5"));
    assert_eq!(world.send(&message("5")), without, "without KEYS it is recognised by UNIQ_KEY");
    world.send(&message("6")).unwrap();
    assert_eq!(world.uniq_keys(), each_once(&["1", "4", "5", "6"]));
    world.broker.stop().unwrap();
}

#[test]
fn a_repeated_half_message_is_the_same_transaction() {
    let world = World::new("+dedup.window.seconds=60");
    let first = world.send(&message("a").half());
    assert_eq!(world.send(&message("a").half()), first);
    let world = world.crash(Some(3));
    let again = world.send(&message("a").half());
    assert_eq!(again, first);
    let half = again.unwrap().1[0];
    world.end(half, Outcome::Commit).unwrap();
    assert!(world.end(half, Outcome::Commit).is_err(), "it ends once");
    let world = world.crash(Some(4));
    assert_eq!(world.send(&message("a").half()), first, "also when it is committed");
    assert_eq!(world.uniq_keys(), each_once(&["a"]));
    world.broker.stop().unwrap();
}

#[test]
fn a_transaction_that_was_rolled_back_frees_its_key() {
    let mut world = World::new("+dedup.window.seconds=60,+dedup.by=KEYS");
    for round in 0..3 {
        let send = || world.send(&with_keys(&format!("u{round}"), "order").half()).unwrap().1[0];
        let half = send();
        assert_eq!(half.0, round, "a transaction of its own");
        world.end(half, Outcome::Rollback).unwrap();
        if round > 0 {
            world = world.crash(Some(round as u64));
        }
    }
    let half = world.send(&with_keys("u", "order").half()).unwrap().1[0];
    world.end(half, Outcome::Commit).unwrap();
    assert_eq!(world.uniq_keys(), each_once(&["u"]));
    world.broker.stop().unwrap();
}

#[test]
fn a_repeat_is_not_answered_before_the_first_send_is_on_the_device() {
    let world = World::new("+dedup.window.seconds=60");
    // The first file of the log is there: its creation would wait for a sync, too.
    world.send(&message("before")).unwrap();
    world.disk.hold_syncs();
    let first = world.begin(&[message("a")]);
    let repeat = world.begin(&[message("a")]);
    let answered = || (first.0.lock().len(), repeat.0.lock().len());
    assert_eq!(answered(), (0, 0), "nothing is answered here, and nothing is synced elsewhere");
    world.disk.let_syncs_go();
    until("both are answered", || answered() == (1, 1));
    assert_eq!(first.0.lock().clone(), repeat.0.lock().clone());
    assert_eq!(world.uniq_keys(), each_once(&["a", "before"]));
    world.broker.stop().unwrap();
}

#[test]
fn a_send_that_was_refused_is_no_first_send() {
    let world = World::new("+dedup.window.seconds=60");
    let too_large = Message {
        body: vec![0; 2 << 20],
        ..message("a")
    };
    let refused = world.send(&too_large);
    assert!(
        refused.as_ref().is_err_and(|why| why.contains("larger than a commit log file")),
        "{refused:?}"
    );
    world.send(&message("a")).unwrap();
    assert_eq!(world.uniq_keys(), each_once(&["a"]));
    world.broker.stop().unwrap();
}

#[test]
fn after_the_window_a_message_is_stored_again() {
    let world = World::new("+dedup.window.seconds=1");
    let first = world.send(&message("a"));
    let mut again = first.clone();
    let begun = Instant::now();
    while again == first {
        assert!(begun.elapsed() < SOON, "the window does not end");
        again = world.send(&message("a"));
    }
    assert_eq!(world.uniq_keys(), [("a".to_owned(), 2)]);
    let world = world.restart();
    let read = world.send(&message("a"));
    assert!(read == again || read.unwrap().1[0].0 == 2, "the later one counts, if any");
    world.broker.stop().unwrap();
}

#[test]
fn a_deleted_topic_takes_its_keys_with_it() {
    let world = World::new("+dedup.window.seconds=60");
    world.send(&message("a")).unwrap();
    block_on(async {
        let peer = connect(&world.broker).await;
        assert_eq!(
            ask(&peer, request(RequestCode::DeleteTopicInBroker, &[("topic", "t")], "")).await,
            ResponseCode::Success
        );
    });
    assert_eq!(world.broker.routes.dedup.entries(), 0);
    world.set("+dedup.window.seconds=60");
    assert_eq!(world.send(&message("a")).unwrap().1[0].0, 0);
    assert_eq!(world.uniq_keys(), each_once(&["a"]));
    world.broker.stop().unwrap();
}

#[test]
fn beyond_the_limit_the_oldest_keys_leave_early() {
    let world = World::new("+dedup.window.seconds=60");
    let names: Vec<String> = (0..2_000).map(|n| format!("k{n:04}")).collect();
    for some in names.chunks(100) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        world.send(&batch_of(&some)).unwrap();
    }
    let dedup = &world.broker.routes.dedup;
    assert!(dedup.entries() <= 1_100, "{}", dedup.entries());
    assert!((900..=1_100).contains(&dedup.evicted()), "{}", dedup.evicted());
    let world = world.restart();
    let dedup = &world.broker.routes.dedup;
    assert!(
        (900..=1_000).contains(&dedup.entries()),
        "a start reads no more: {}",
        dedup.entries()
    );
    let last: Vec<&str> = names[1_900..].iter().map(String::as_str).collect();
    world.send(&batch_of(&last)).unwrap();
    assert_eq!(dedup.repeats(), 100);
    world.broker.stop().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    /// Sends these messages in one read.
    Send(Vec<(u8, Shape)>),
    EndTransaction {
        key: u8,
        commits: bool,
    },
    Restart,
    Kill,
    PowerCut(u64),
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Alone,
    /// A batch with the key and the next one.
    Batch,
    Delayed,
    Half,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let shape = prop_oneof![3 => Just(Shape::Alone), 1 => Just(Shape::Batch), 1 => Just(Shape::Delayed), 2 => Just(Shape::Half)];
    let step = prop_oneof![
        8 => prop::collection::vec((0..24_u8, shape), 1..5).prop_map(Step::Send),
        3 => (0..24_u8, any::<bool>()).prop_map(|(key, commits)| Step::EndTransaction { key, commits }),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A key has one place, which each answer names, until its transaction is rolled back; whatever dies meanwhile.
    #[test]
    fn each_key_is_stored_once_whatever_happens(steps in steps()) {
        let mut world = World::new("+dedup.window.seconds=3600");
        let mut places: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
        let mut halves: BTreeMap<u8, bool> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Send(sent) => {
                    let name = |key: u8| format!("k{key}");
                    let messages: Vec<Message> = sent.iter().map(|(key, shape)| match shape {
                        Shape::Alone => message(&name(*key)),
                        Shape::Batch => batch_of(&[&name(*key), &name(key + 1)]),
                        Shape::Delayed => message(&name(*key)).delayed(),
                        Shape::Half => message(&name(*key)).half(),
                    }).collect();
                    let told = world.send_all(&messages);
                    for ((key, shape), told) in sent.iter().zip(told) {
                        let (_, placed, _) = told.unwrap();
                        for (key, place) in (*key..).zip(placed) {
                            let is_first = !places.contains_key(&key);
                            prop_assert_eq!(*places.entry(key).or_insert(place), place, "k{} has one place", key);
                            if is_first && matches!(shape, Shape::Half) {
                                halves.insert(key, false);
                            }
                        }
                    }
                }
                Step::EndTransaction { key, commits } => {
                    let (Some(ended), Some(place)) = (halves.get_mut(&key), places.get(&key)) else { continue };
                    let outcome = if commits { Outcome::Commit } else { Outcome::Rollback };
                    prop_assert_eq!(world.end(*place, outcome).is_ok(), !*ended);
                    let is_over = std::mem::replace(ended, true);
                    if !commits && !is_over {
                        halves.remove(&key);
                        places.remove(&key);
                    }
                }
                Step::Restart => world = world.restart(),
                Step::Kill => world = world.crash(None),
                Step::PowerCut(seed) => world = world.crash(Some(seed)),
            }
            for (key, count) in world.uniq_keys() {
                prop_assert_eq!(count, 1, "{} is there {} times", key, count);
            }
        }
        world.broker.stop().unwrap();
    }
}
