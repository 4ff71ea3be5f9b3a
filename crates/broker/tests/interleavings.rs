//! The hold under a scheduler that explores interleavings: `src/hold/parked.rs`, compiled over its primitives. Nobody may be parked for ever
//! beside the message it waits for, and nobody is answered twice.
#![allow(missing_docs, dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../src/hold/parked.rs"]
mod hold;

mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

use hold::{Bounds, Hold, Waits};
use shuttle::sync::Arc;
use shuttle::thread;
use sync::{AtomicUsize, Ordering};

const SCHEDULES: usize = 5_000;
const BOUNDS: Bounds = Bounds {
    places: 10,
    places_of_one: 10,
};

/// A pull from the first message on.
struct Pull {
    answered: Arc<AtomicUsize>,
    connection: Arc<AtomicUsize>,
}

impl Waits for Pull {
    fn queue(&self) -> (&str, i32) {
        ("t", 0)
    }

    fn owner(&self) -> u64 {
        1
    }

    fn is_gone(&self) -> bool {
        self.connection.load(Ordering::SeqCst) == 0
    }

    fn tags(&self) -> Option<&[i32]> {
        None
    }
}

/// A queue, who waits for it, and one client.
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

    /// As the broker does with a pull: read, park, look again.
    fn pull(&self) {
        let pull = Pull {
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

    /// As the broker does with a message that was stored.
    fn store(&self) {
        self.stored.fetch_add(1, Ordering::SeqCst);
        if !self.hold.is_empty() {
            self.hold.take("t", 0, 0, 64).requests.into_iter().for_each(answer);
        }
    }
}

fn answer(pull: Pull) {
    pull.answered.fetch_add(1, Ordering::SeqCst);
}

fn explore(run: fn(&Arc<World>)) {
    let run = move || run(&World::new());
    shuttle::check_random(run, SCHEDULES);
    shuttle::check_pct(run, SCHEDULES, 3);
}

fn together(world: &Arc<World>, acts: &[fn(&World)]) {
    let threads: Vec<_> = acts
        .iter()
        .map(|act| {
            let (world, act) = (world.clone(), *act);
            thread::spawn(move || act(&world))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_message_that_comes_while_a_pull_is_parked_answers_it_once() {
    explore(|world| {
        together(world, &[World::pull, World::pull, World::store]);
        assert_eq!((world.answered.load(Ordering::SeqCst), world.hold.len()), (2, 0));
    });
}

#[test]
fn a_message_and_the_end_of_its_time_answer_a_pull_once() {
    explore(|world| {
        let expire = |world: &World| world.hold.expired(2_000, 64).requests.into_iter().for_each(answer);
        together(world, &[World::pull, World::store, expire]);
        assert_eq!((world.answered.load(Ordering::SeqCst), world.hold.len()), (1, 0));
    });
}

#[test]
fn a_closed_connection_leaves_no_pull_behind() {
    explore(|world| {
        let close = |world: &World| {
            world.connection.store(0, Ordering::SeqCst);
            world.hold.forget(1);
        };
        together(world, &[World::pull, World::pull, close]);
        assert_eq!((world.answered.load(Ordering::SeqCst), world.hold.len()), (0, 0));
    });
}
