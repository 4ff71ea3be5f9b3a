//! Interleaving tests: files of the broker compiled with the primitives of a scheduler that explores interleavings.
//!
//! The hold (`src/hold/parked.rs`): no pull stays parked although its message has arrived, and none is answered twice.
//! The keys of a topic (`src/dedup/keys.rs`): a message is stored once however many send it, and nobody waits for ever.
//! The topic table (`src/topic/topics.rs`): a message whose topic exists is stored, whatever is deleted concurrently.
#![allow(
    missing_docs,
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "../src/hold/parked.rs"]
mod hold;
#[path = "../src/dedup/keys.rs"]
mod keys;
#[path = "../src/topic/topics.rs"]
mod topics;
#[path = "../src/dedup/window.rs"]
mod window;

mod sync {
    pub(crate) use shuttle::sync::Condvar;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    pub(crate) fn wait<'a, T>(on: &Condvar, guard: shuttle::sync::MutexGuard<'a, T>) -> shuttle::sync::MutexGuard<'a, T> {
        on.wait(guard).unwrap()
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
            self.0.read().unwrap()
        }

        pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap()
        }
    }
}

use broker::topic::{DEFAULT_QUEUES, PERM_INHERIT, PERM_READ, PERM_WRITE};
use broker::{attributes, logical_queue, signal, state_file, stats, topic};
use hold::{Bounds, Hold, Waiter};
use shuttle::sync::Arc;
use shuttle::thread;
use std::collections::{BTreeSet, HashMap};
use sync::{AtomicBool, AtomicUsize, Mutex, Ordering};
use topics::{CreateOnSend, Spec, Topic, TopicLimits, Topics};

const SCHEDULES: usize = 5_000;
const BOUNDS: Bounds = Bounds {
    slots: 10,
    slots_per_connection: 10,
};

/// A pull from the first message.
struct Pull {
    by_content: bool,
    answered: Arc<AtomicUsize>,
    connection: Arc<AtomicUsize>,
}

impl Waiter for Pull {
    fn queue(&self) -> (&str, i32) {
        ("t", 0)
    }

    fn owner(&self) -> u64 {
        1
    }

    fn is_disconnected(&self) -> bool {
        self.connection.load(Ordering::SeqCst) == 0
    }

    fn tags(&self) -> Option<&[i32]> {
        None
    }

    fn is_by_content(&self) -> bool {
        self.by_content
    }
}

/// A queue, its parked pulls, and one client.
struct World {
    hold: Hold<Pull>,
    stored: AtomicUsize,
    answered: Arc<AtomicUsize>,
    connection: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            hold: Hold::new(BOUNDS),
            stored: AtomicUsize::new(0),
            answered: Arc::new(AtomicUsize::new(0)),
            connection: Arc::new(AtomicUsize::new(1)),
        })
    }

    /// Reads, parks and checks again, as the broker does.
    fn pull(&self) {
        self.pull_by(false);
    }

    fn pull_by_content(&self) {
        self.pull_by(true);
    }

    fn pull_by(&self, by_content: bool) {
        let pull = Pull {
            by_content,
            answered: self.answered.clone(),
            connection: self.connection.clone(),
        };
        if self.stored.load(Ordering::SeqCst) > 0 {
            return answer(pull);
        }
        let Ok(id) = self.hold.park(1_000, pull) else { return };
        if self.stored.load(Ordering::SeqCst) > 0
            && let Some(pull) = self.hold.take_one(id)
        {
            answer(pull);
        }
    }

    /// Stores a message, as the broker does.
    fn store(&self) {
        self.stored.fetch_add(1, Ordering::SeqCst);
        if !self.hold.is_empty() {
            self.hold.take("t", 0, 0, 64).requests.into_iter().for_each(answer);
            if self.hold.has_by_content() {
                self.hold.take_by_content("t", 0, 64).requests.into_iter().for_each(answer);
            }
        }
    }
}

fn answer(pull: Pull) {
    pull.answered.fetch_add(1, Ordering::SeqCst);
}

fn explore(run: fn(&Arc<World>)) {
    explore_in(World::new, run);
}

fn explore_in<W: 'static>(new: fn() -> Arc<W>, run: fn(&Arc<W>)) {
    let run = move || run(&new());
    shuttle::check_random(run, SCHEDULES);
    shuttle::check_pct(run, SCHEDULES, 3);
}

fn together<W: Send + Sync + 'static>(world: &Arc<W>, actions: &[fn(&W)]) {
    let threads: Vec<_> = actions
        .iter()
        .map(|act| {
            let (world, act) = (world.clone(), *act);
            thread::spawn(move || act(&world))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_message_that_arrives_while_a_pull_is_parked_answers_it_once() {
    explore(|world| {
        together(world, &[World::pull, World::pull_by_content, World::store]);
        assert_eq!((world.answered.load(Ordering::SeqCst), world.hold.len()), (2, 0));
    });
}

#[test]
fn a_message_and_the_deadline_answer_a_pull_once() {
    explore(|world| {
        let expire = |world: &World| world.hold.expired(2_000, 64).requests.into_iter().for_each(answer);
        together(world, &[World::pull, World::store, expire]);
        assert_eq!((world.answered.load(Ordering::SeqCst), world.hold.len()), (1, 0));
    });
}

#[test]
fn a_closed_connection_leaves_no_parked_pull() {
    explore(|world| {
        let close = |world: &World| {
            world.connection.store(0, Ordering::SeqCst);
            world.hold.forget(1);
        };
        together(world, &[World::pull, World::pull, close]);
        assert_eq!((world.answered.load(Ordering::SeqCst), world.hold.len()), (0, 0));
    });
}

/// A log, the keys of its topic, and what senders of one message were told: its place, or that it was refused.
struct Repeats {
    keys: std::sync::Arc<keys::TopicKeys>,
    stored: AtomicUsize,
    told: Mutex<Vec<Option<i64>>>,
}

impl Repeats {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            keys: std::sync::Arc::new(keys::TopicKeys::new(std::sync::Arc::new(AtomicUsize::new(0)))),
            stored: AtomicUsize::new(0),
            told: Mutex::default(),
        })
    }

    fn send(&self, is_refused: bool) {
        let key = window::Key([1, 1]);
        let shard = keys::shard_of(key);
        let place = loop {
            match self.keys.change(shard, |window| window.claim(key, 0, 100)) {
                window::Claimed::New(seq) => {
                    thread::yield_now();
                    if is_refused {
                        self.keys.end_claims(shard, |window| window.release(seq));
                        break None;
                    }
                    let log_offset = self.stored.fetch_add(1, Ordering::SeqCst) as i64;
                    let place = window::Place {
                        log_offset,
                        queue_offset: 0,
                        queue_id: 0,
                        host: 0,
                    };
                    self.keys.end_claims(shard, |window| window.place(seq, place));
                    break Some(log_offset);
                }
                window::Claimed::Repeat(place) => break Some(place.log_offset),
                window::Claimed::Busy => self.keys.wait_for(key),
            }
        };
        self.told.lock().push(place);
    }
}

#[test]
fn a_message_that_several_send_is_stored_once() {
    explore_in(Repeats::new, |world| {
        together(
            world,
            &[|world| world.send(false), |world| world.send(true), |world| world.send(false)],
        );
        let told = world.told.lock();
        assert_eq!((told.len(), world.stored.load(Ordering::SeqCst)), (3, 1));
        assert!(told.iter().flatten().all(|place| *place == 0), "{told:?}");
        assert!(
            told.iter().flatten().count() >= 2,
            "a refusal is only for the one that is refused: {told:?}"
        );
    });
}

const TOPIC: &str = "t";

/// A queue of the store, with the ids of its messages.
#[derive(Default)]
struct Queue {
    is_retired: AtomicBool,
    messages: Mutex<BTreeSet<usize>>,
}

/// The topics of a broker, the queues of the store, and the acknowledged sends.
struct Deletions {
    topics: Topics,
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    /// The log's append lock.
    appending: Mutex<()>,
    /// Messages that a group has committed.
    committed: Mutex<BTreeSet<usize>>,
    next: AtomicUsize,
    acknowledged: Mutex<Vec<(usize, std::sync::Arc<Topic>)>>,
}

impl Deletions {
    fn new() -> Arc<Self> {
        let template = Spec {
            perm: PERM_READ | PERM_WRITE | PERM_INHERIT,
            ..Spec::new("TBW102", 1)
        };
        let limits = TopicLimits { topics: 4, queues: 4 };
        let stats = std::sync::Arc::new(stats::BrokerStats::new("c", 10));
        Arc::new(Self {
            topics: Topics::new(vec![template], limits, stats, std::sync::Arc::default(), 0),
            queues: Mutex::default(),
            appending: Mutex::default(),
            committed: Mutex::default(),
            next: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
        })
    }

    /// A queue with a message whose topic does not exist.
    fn with_unused_queue() -> Arc<Self> {
        let world = Self::new();
        world.append(&world.queue(), 99);
        world
    }

    fn queue(&self) -> Arc<Queue> {
        self.queues.lock().entry(TOPIC.to_owned()).or_default().clone()
    }

    fn append(&self, queue: &Queue, message: usize) -> bool {
        let _appending = self.appending.lock();
        !queue.is_retired.load(Ordering::SeqCst) && queue.messages.lock().insert(message)
    }

    /// As the store does: a checkpoint, then the queue is removed from the table between two appends, then its files are deleted.
    fn delete_queue(&self) {
        thread::yield_now();
        let appending = self.appending.lock();
        if let Some(queue) = self.queues.lock().remove(TOPIC) {
            queue.is_retired.store(true, Ordering::SeqCst);
        }
        drop(appending);
        thread::yield_now();
    }

    /// Sends a message to a topic that may be created, as the broker does.
    fn send(&self) {
        let message = self.next.fetch_add(1, Ordering::SeqCst);
        let request = CreateOnSend {
            topic: TOPIC,
            template: "TBW102",
            queues: 1,
            sys_flag: 0,
            message_type: None,
        };
        loop {
            let Some(topic) = self
                .topics
                .find(TOPIC)
                .or_else(|| self.topics.create_on_send(&request, true, 1).ok().flatten())
            else {
                return;
            };
            let queue = self.queue();
            if !topic.is_deleted() && self.append(&queue, message) {
                self.committed.lock().insert(message);
                return self.acknowledged.lock().push((message, topic));
            }
        }
    }

    /// Code 215.
    fn delete(&self) {
        let _deletion = self.topics.begin_deletion(TOPIC, 2);
        self.delete_queue();
        // Scans the tables of offsets, locks, request modes and counters.
        (0..4).for_each(|_| thread::yield_now());
        *self.committed.lock() = BTreeSet::new();
    }

    /// Code 316.
    fn clean(&self) {
        if let Some(_deletion) = self.topics.begin_cleaning(TOPIC) {
            self.delete_queue();
        }
    }

    /// Acknowledged messages and committed offsets of topics that were not deleted afterwards must exist, and no others.
    fn check(&self) {
        let there = self.queue().messages.lock().clone();
        let committed = self.committed.lock().clone();
        for (message, topic) in self.acknowledged.lock().iter() {
            let is_alive = !topic.is_deleted();
            assert_eq!(there.contains(message), is_alive, "message {message} of {there:?}");
            assert!(!is_alive || committed.contains(message), "the offset of {message}");
        }
        let is_known = self.topics.contains(TOPIC);
        assert!(
            is_known || there.iter().all(|message| *message == 99),
            "{there:?} in a queue without a topic"
        );
    }
}

#[test]
fn a_topic_created_again_during_its_deletion_keeps_its_messages() {
    explore_in(Deletions::new, |world| {
        together(world, &[Deletions::send, Deletions::send, Deletions::delete]);
        world.check();
    });
}

#[test]
fn a_topic_created_during_the_cleanup_of_unused_queues_keeps_its_messages() {
    explore_in(Deletions::with_unused_queue, |world| {
        together(world, &[Deletions::send, Deletions::clean]);
        world.check();
    });
    explore_in(Deletions::new, |world| {
        together(world, &[Deletions::send, Deletions::send, Deletions::clean, Deletions::delete]);
        world.check();
    });
}
