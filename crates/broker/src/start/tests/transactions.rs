//! Transactions of a whole broker through kills and power cuts, against a plain model of what producers were told.

use super::support::{left_by_crash, records_of, send_to};
use super::*;
use crate::transaction::{EndTransaction, Outcome};
use message::properties::{self, Builder};
use message::{Record, names};
use parking_lot::Mutex;
use proptest::prelude::*;
use protocol::transaction::CheckTransactionStateHeader;
use std::collections::BTreeMap;

const GROUP: &str = "p";
/// System flag of half messages.
const HALF: i32 = 4;

/// A producer that records what it is asked.
struct Producer(u64, Arc<Mutex<Vec<Asked>>>);

/// Where a half message is that it was asked for.
#[derive(Clone, Debug)]
struct Asked {
    key: String,
    half: i64,
    log_offset: i64,
}

impl ProtocolClient for Producer {
    fn id(&self) -> u64 {
        self.0
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    fn send_oneway(&self, request: &Frame) {
        assert_eq!(request.code, i32::from(RequestCode::CheckTransactionState));
        let header = CheckTransactionStateHeader::decode(&request.ext).unwrap();
        let message = Record::parse(&request.body).unwrap();
        assert_eq!((message.topic, message.queue_id, message.body), ("t", 0, &b"body"[..]));
        assert_eq!(message.log_offset.0, header.commit_log_offset);
        self.1.lock().push(Asked {
            key: header.transaction_id.unwrap().to_owned(),
            half: header.tran_state_table_offset,
            log_offset: header.commit_log_offset,
        });
    }

    fn call(&self, _: Frame, _: Duration, done: OnResponse) {
        done(Err(ClientCallError::Congested));
    }

    fn close(&self) {}

    fn is_closed(&self) -> bool {
        false
    }
}

pub(super) struct World {
    disk: SimulatedDisk,
    pub(super) broker: Broker,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl World {
    pub(super) fn new(disk: SimulatedDisk) -> Self {
        let broker = start(&disk, |settings| {
            settings.flush_disk_type = crate::settings::FlushDiskType::Sync;
            settings.transaction_timeout = Duration::from_millis(1);
            settings.transaction_check_interval = Duration::from_hours(24);
            settings.transaction_check_max = 3;
        });
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let world = Self { disk, broker, asked };
        world.join();
        world
    }

    fn join(&self) {
        let channel = ClientChannel::Protocol(Arc::new(Producer(net::Connection::next_id(), self.asked.clone())));
        let member = crate::clients::Member {
            channel,
            client_id: "c".into(),
            language: protocol::Language::Java,
            version: 500,
            last_seen_ms: now_ms(),
            subscribes: 0,
        };
        self.broker.routes.online.producers.join(GROUP, member).unwrap();
    }

    /// Sends a half message; its place.
    fn send(&self, key: &str) -> Option<(i64, i64)> {
        self.send_with(key, &[])
    }

    /// Sends a half message with these properties, too; its place.
    pub(super) fn send_with(&self, key: &str, more: &[(&str, String)]) -> Option<(i64, i64)> {
        let own = Builder::new()
            .with(properties::TRANSACTION_PREPARED, "true")
            .with(properties::PRODUCER_GROUP, GROUP)
            .with(properties::UNIQ_KEY, key);
        let own = more.iter().fold(own, |own, (name, value)| own.with(name, value)).build();
        send_to(&self.broker, "t", HALF, &own)
    }

    pub(super) fn end(&self, half: i64, log_offset: i64, outcome: Outcome, is_answer: bool) -> Result<(), Refusal> {
        let request = EndTransaction {
            half,
            log_offset,
            producer_group: GROUP,
            outcome,
            is_answer,
            store_host: SocketAddr::from(([127, 0, 0, 1], 2)),
            now_ms: now_ms(),
        };
        let (done, ended) = std::sync::mpsc::channel();
        self.broker
            .routes
            .transactions
            .end(request, move |outcome| done.send(outcome).unwrap());
        ended.recv_timeout(SOON).unwrap()
    }

    /// Asks about everything that is open now.
    fn check(&self) -> Vec<Asked> {
        let transactions = &self.broker.routes.transactions;
        until("what is open is known", || transactions.is_recovered());
        std::thread::sleep(Duration::from_millis(2));
        transactions.round().unwrap();
        std::mem::take(&mut *self.asked.lock())
    }

    /// Saves the tables, so that the next start begins later.
    fn save(&self) {
        let transactions = &self.broker.routes.transactions;
        until("what is open is known", || transactions.is_recovered());
        self.broker.tables.save_all().unwrap();
    }

    /// The broker dies, and another one starts on what is left.
    fn crash(self, power_cut: Option<u64>) -> Self {
        let left = left_by_crash(&self.disk, power_cut);
        let _ = self.broker.stop();
        Self::new(left)
    }

    /// Keys of a topic's messages, with how often each is there.
    pub(super) fn keys(&self, topic: &str) -> BTreeMap<String, usize> {
        let mut keys = BTreeMap::new();
        for bytes in &records_of(&self.broker, topic, 0) {
            let record = Record::parse(bytes).unwrap();
            let key = properties::text(record.properties, properties::UNIQ_KEY).unwrap().into_owned();
            *keys.entry(key).or_default() += 1;
        }
        keys
    }
}

#[test]
fn a_transaction_is_delivered_when_it_commits_and_not_when_it_rolls_back() {
    let world = World::new(SimulatedDisk::new(1));
    world.send("first").unwrap();
    let (commits, rolls_back) = (world.send("a").unwrap(), world.send("b").unwrap());
    assert_eq!(world.keys("t"), BTreeMap::new());
    world.end(commits.0, commits.1, Outcome::Commit, false).unwrap();
    world.end(rolls_back.0, rolls_back.1, Outcome::Rollback, false).unwrap();
    assert_eq!(world.keys("t"), BTreeMap::from([("a".to_owned(), 1)]));
    for place in [commits, rolls_back] {
        let refusal = world.end(place.0, place.1, Outcome::Commit, false).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::IllegalOperation, "{refusal}");
    }
    assert!(world.end(commits.0, commits.1 + 1, Outcome::Commit, false).is_err());
    assert!(world.end(77, 0, Outcome::Commit, false).is_err());
    assert_eq!(world.broker.routes.transactions.open(), 1);
    world.broker.stop().unwrap();
}

#[test]
fn a_producer_is_asked_until_it_says_so_and_then_the_message_is_given_up() {
    let world = World::new(SimulatedDisk::new(1));
    let first = world.send("a").unwrap();
    world.send("b").unwrap();
    world.save();
    let asked = world.check();
    assert_eq!(asked.len(), 2);
    world.save();
    let done = world
        .broker
        .routes
        .core
        .offsets
        .committed(names::TRANS_HALF_TOPIC, "CID_RMQ_SYS_TRANS", 0);
    assert_eq!(done, Some(2), "the half messages that were written again are done");
    // The answer to the send comes late: it names the half message from before the check.
    world.end(first.0, first.1, Outcome::Commit, false).unwrap();
    let late = asked.iter().find(|asked| asked.key == "a").unwrap();
    assert!(
        world.end(late.half, late.log_offset, Outcome::Commit, true).is_err(),
        "it is delivered once"
    );
    assert_eq!((world.check().len(), world.check().len()), (1, 1));
    assert_eq!(world.check().len(), 0);
    assert_eq!(world.keys("t"), BTreeMap::from([("a".to_owned(), 1)]));
    assert_eq!(world.keys(names::TRANS_CHECK_MAX_TIME_TOPIC), BTreeMap::from([("b".to_owned(), 1)]));
    assert_eq!(world.broker.routes.transactions.open(), 0);
    // An operator has it checked again.
    let dead = records_of(&world.broker, names::TRANS_CHECK_MAX_TIME_TOPIC, 0);
    let dead = Record::parse(&dead[0]).unwrap().log_offset;
    world.broker.routes.transactions.resume(dead, now_ms()).unwrap();
    let asked = world.check();
    world.end(asked[0].half, asked[0].log_offset, Outcome::Commit, true).unwrap();
    assert_eq!(world.keys("t").get("b"), Some(&1));
    world.broker.stop().unwrap();
}

/// A crash cuts the removal mark off behind a half message that was written again.
#[test]
fn a_half_message_without_its_mark_does_not_come_back_when_its_copy_has_ended() {
    let world = World::new(SimulatedDisk::new(1));
    let first = world.send("a").unwrap();
    let store = &world.broker.store;
    let bytes = store.record_at(message::LogOffset(first.1)).unwrap();
    let half = Record::parse(&bytes).unwrap();
    let properties = Builder::from_bytes(half.properties)
        .with(properties::TRANSACTION_CHECK_TIMES, "1")
        .with(properties::TRANSACTION_FIRST_QUEUE_OFFSET, &first.0.to_string())
        .build();
    let copy = message::record::Draft {
        properties: &properties,
        ..message::record::Draft::of(&half)
    };
    let queue = store.queue(names::TRANS_HALF_TOPIC, 0);
    let ticket = store.append(&[copy], &[queue], now_ms(), &mut Vec::new()).unwrap();
    let (done, stored) = std::sync::mpsc::channel();
    store.complete_then(ticket, true, move |outcome| done.send(outcome.is_ok()).unwrap());
    assert!(stored.recv_timeout(SOON).unwrap());
    let world = world.crash(None);
    assert_eq!(world.check().len(), 1, "one transaction is asked for once");
    world.end(first.0, first.1, Outcome::Rollback, false).unwrap();
    let world = world.crash(None);
    until("what is open is known", || world.broker.routes.transactions.is_recovered());
    assert_eq!(world.broker.routes.transactions.open(), 0);
    assert_eq!(world.check().len(), 0);
    assert_eq!(world.keys("t"), BTreeMap::new());
    world.broker.stop().unwrap();
}

/// What a producer was told, and what it said.
#[derive(Clone, Debug, Default)]
struct Told {
    place: Option<(i64, i64)>,
    outcome: Option<Outcome>,
    /// It was acknowledged.
    is_ended: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Send,
    End(usize, bool),
    EndAgain(usize),
    CheckAndAnswer(u8),
    Save,
    Kill,
    PowerCut(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Send),
        4 => (0..20_usize, any::<bool>()).prop_map(|(which, commits)| Step::End(which, commits)),
        1 => (0..20_usize).prop_map(Step::EndAgain),
        2 => any::<u8>().prop_map(Step::CheckAndAnswer),
        1 => Just(Step::Save),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ];
    prop::collection::vec(step, 1..40)
}

fn outcome_of(commits: bool) -> Outcome {
    if commits { Outcome::Commit } else { Outcome::Rollback }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_committed_message_is_there_once_and_a_rolled_back_one_never_whatever_happens(seed in any::<u64>(), steps in steps()) {
        let mut world = World::new(SimulatedDisk::new(seed));
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Send => {
                    let key = format!("k{:03}", told.len());
                    let place = world.send(&key);
                    told.insert(key, Told { place, ..Told::default() });
                }
                Step::End(which, commits) => {
                    let nth = which % told.len().max(1);
                    let Some(told) = told.values_mut().nth(nth) else { continue };
                    let Some((half, log_offset)) = told.place else { continue };
                    // A producer says the same each time.
                    let outcome = *told.outcome.get_or_insert(outcome_of(commits));
                    told.is_ended |= world.end(half, log_offset, outcome, false).is_ok();
                }
                Step::EndAgain(which) => {
                    let nth = which % told.len().max(1);
                    let Some(told) = told.values().nth(nth).filter(|told| told.is_ended) else { continue };
                    let (Some((half, log_offset)), Some(outcome)) = (told.place, told.outcome) else { continue };
                    prop_assert!(world.end(half, log_offset, outcome, false).is_err());
                }
                Step::CheckAndAnswer(bits) => {
                    for (asked, nth) in world.check().iter().zip(0_u32..) {
                        let told = told.get_mut(&asked.key).expect("it was sent");
                        prop_assert!(!told.is_ended, "{} has ended and is asked about", asked.key);
                        if bits >> (nth % 7) & 1 == 1 {
                            let outcome = *told.outcome.get_or_insert(outcome_of(bits & 0x80 == 0));
                            told.is_ended |= world.end(asked.half, asked.log_offset, outcome, true).is_ok();
                        }
                    }
                }
                Step::Save => world.save(),
                Step::Kill => world = world.crash(None),
                Step::PowerCut(seed) => world = world.crash(Some(seed)),
            }
            let delivered = world.keys("t");
            for (key, told) in &told {
                let count = delivered.get(key).copied().unwrap_or(0);
                prop_assert!(count <= 1, "{key} is there {count} times");
                prop_assert!(count == 0 || told.outcome == Some(Outcome::Commit), "{key} is there: {told:?}");
                let must_be_there = told.is_ended && told.outcome == Some(Outcome::Commit);
                prop_assert!(count == 1 || !must_be_there, "{key} is lost: {told:?}");
            }
        }
        // In the end nothing is open: each is delivered, rolled back, or given up.
        (0..4).for_each(|_| drop(world.check()));
        prop_assert_eq!(world.broker.routes.transactions.open(), 0);
        let (delivered, dead) = (world.keys("t"), world.keys(names::TRANS_CHECK_MAX_TIME_TOPIC));
        for (key, told) in told.iter().filter(|(_, told)| told.place.is_some() && !told.is_ended) {
            // An end that was not acknowledged may have been taken.
            let is_known = dead.contains_key(key) || delivered.contains_key(key) || told.outcome == Some(Outcome::Rollback);
            prop_assert!(is_known, "{key} is lost: {told:?}");
        }
        world.broker.stop().unwrap();
    }
}
