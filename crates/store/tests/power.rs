//! Power cuts, kills, I/O errors and full disks at every call by which the store changes something.
//!
//! A script uses every operation of the store. It runs once for each n with the fault at the n-th call, until it ends before the
//! fault: the store has threads of its own, so the number of calls varies a little. A failure prints its case: flush mode, n, the
//! seed that chose what survived, and the call.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/script.rs"]
mod script;

use script::{Life, Promise};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use store::disk::simulated::{Fault, Lasts, SimulatedDisk};
use store::{FlushMode, StoreOptions};

/// Far more than any test here takes.
const DEADLINE: Duration = Duration::from_secs(30);
/// More calls than the script makes.
const MOST_CALLS: u64 = 5_000;

/// For long runs: `STORE_ROUNDS=20 STORE_SEED=5 cargo test --release -p store --test power -- --nocapture` runs all of it twenty
/// times, each with another choice of what survives, from seed 5 on.
fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

thread_local! {
    static ROUND: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn seed(n: u64) -> u64 {
    ROUND.get().wrapping_mul(1_000_003).wrapping_add(n)
}

fn rounds() -> std::ops::Range<u64> {
    let first = from_environment("STORE_SEED", 0);
    first..first + from_environment("STORE_ROUNDS", 1)
}

/// Prints the case if a test fails within it.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case: {}", self.0);
        }
    }
}

/// Runs something that must not hang.
fn in_time<T: Send + 'static>(case: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(work()).unwrap_or(()));
    match result.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs: {case}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Runs the script with a fault at each call in turn; `look` gets what is left each time.
fn at_every_call(name: &str, mode: FlushMode, trouble: impl Fn(&SimulatedDisk, u64), look: fn(&mut Life, FlushMode, u64)) {
    for round in rounds() {
        let calls = at_every_call_once(name, mode, round, &trouble, look);
        if rounds().count() > 1 {
            eprintln!("{name}, {mode:?}, round {round}: {calls} calls");
        }
    }
}

fn at_every_call_once(
    name: &str,
    mode: FlushMode,
    round: u64,
    trouble: &impl Fn(&SimulatedDisk, u64),
    look: fn(&mut Life, FlushMode, u64),
) -> u64 {
    for n in 1..MOST_CALLS {
        let mut life = Life::new(mode, round);
        trouble(&life.disk, n);
        let told = format!("{name} at call {n}, {mode:?}, STORE_SEED={round}");
        let case = told.clone();
        let reached = in_time(&told, move || {
            ROUND.set(round);
            let case = Case(case);
            let _ = life.play();
            let call = life.disk.first_failure();
            let _case = Case(format!("{}: {call:?}", case.0));
            look(&mut life, mode, n);
            call.is_some()
        });
        if !reached {
            assert!(n > 100, "the script does next to nothing");
            return n - 1;
        }
    }
    panic!("the script does not end");
}

/// The calls that opening makes on a disk.
fn calls_of_opening(life: &Life, disk: &SimulatedDisk) -> u64 {
    let mut life = life.on(disk.process_killed());
    life.open().unwrap();
    let calls = life.disk.calls();
    life.close();
    calls
}

fn promise_at_power_cut(mode: FlushMode) -> Promise {
    match mode {
        FlushMode::Sync => Promise::All,
        FlushMode::Async => Promise::AllButTheEnd,
    }
}

fn sends_work(life: &mut Life) {
    for (topic, queue, count) in [("a", 0, 2), ("b", 1, 1), ("c", 0, 3)] {
        assert!(life.send(topic, queue, count, 20), "sends work");
    }
}

/// Common to all faults: the store opens, has what it promised, takes more messages, and shuts down cleanly with consistent files.
fn comes_back(mut life: Life, promise: Promise) -> Life {
    life.must_keep(promise);
    sends_work(&mut life);
    assert!(life.close(), "it stops in order");
    life.must_be_whole();
    life
}

fn after_a_power_cut(life: &mut Life, mode: FlushMode, n: u64) {
    life.close();
    for way in 0..3 {
        let _case = Case(format!("way {way}, seed {}", seed(way)));
        let promise = promise_at_power_cut(mode);
        let found = life.disk.power_cut(seed(way));
        match way {
            // Another fault during recovery.
            0 => {
                let calls = calls_of_opening(life, &found);
                let again = life.on(found);
                let cut = 1 + n * 7 % calls;
                again.disk.cut_at(cut);
                let _case = Case(format!("cut again at call {cut} of {calls} of the recovery"));
                let mut opened = again.on(again.disk.clone());
                let _ = opened.open();
                opened.close();
                comes_back(again.on(again.disk.power_cut(seed(n))), promise);
            }
            // Another fault after the store has worked again.
            1 => {
                let mut back = life.on(found);
                back.must_keep(promise);
                sends_work(&mut back);
                let mut again = back.on(back.disk.power_cut(seed(n)));
                back.close();
                again.must_keep(promise);
                again.close();
            }
            // And another one after a clean shutdown.
            _ => {
                let back = comes_back(life.on(found), promise);
                comes_back(back.on(back.disk.power_cut(seed(n))), Promise::All);
            }
        }
    }
}

fn after_the_process_died(life: &mut Life, mode: FlushMode, n: u64) {
    life.close();
    let mut back = life.on(life.disk.process_killed());
    back.must_keep(Promise::All);
    sends_work(&mut back);
    let found = back.disk.power_cut(seed(n));
    let mut again = back.on(found);
    assert!(back.close(), "it stops in order");
    let _case = Case(format!("power cut after the restart, seed {n}"));
    again.must_keep(promise_at_power_cut(mode));
    again.close();
}

/// The disk fails, and works again only after it is mounted again.
fn after_a_fault_for_ever(life: &mut Life, mode: FlushMode, n: u64) {
    // Such a disk cannot even store the mark that the key index has to be rebuilt.
    life.keys_hold = false;
    if life.is_open() {
        life.must_not_show_refused();
    }
    life.close();
    comes_back(life.on(life.disk.process_killed()), Promise::All);
    let _case = Case(format!("mounted again, seed {n}"));
    comes_back(life.on(life.disk.mounted_again(seed(n))), promise_at_power_cut(mode));
    let _case = Case(format!("power cut, seed {n}"));
    comes_back(life.on(life.disk.power_cut(seed(n))), promise_at_power_cut(mode));
}

/// The disk fails, and works again when the process is restarted. Then the power is cut.
fn after_a_fault(life: &mut Life, mode: FlushMode, n: u64) {
    if life.is_open() {
        life.must_not_show_refused();
    }
    let was_full = life
        .disk
        .first_failure()
        .is_some_and(|call| call.contains("make file /store/commitlog"));
    assert!(
        !was_full || life.takes_messages(),
        "with room for a log file again messages are taken"
    );
    let cut = life.disk.power_cut(seed(n));
    life.close();
    if mode == FlushMode::Sync {
        let _case = Case(format!("power cut before the restart, seed {n}"));
        comes_back(life.on(cut), Promise::All);
    }
    let _case = Case("restart".to_owned());
    let back = comes_back(life.on(life.disk.process_killed()), Promise::All);
    let _case = Case(format!("power cut after the restart, seed {n}"));
    comes_back(back.on(back.disk.power_cut(seed(n))), Promise::All);
}

#[test]
fn power_cut_at_every_call_under_sync_flush_loses_nothing_acknowledged() {
    at_every_call("power cut", FlushMode::Sync, SimulatedDisk::cut_at, after_a_power_cut);
}

#[test]
fn power_cut_at_every_call_under_async_flush_loses_an_end_of_the_log_at_most() {
    at_every_call("power cut", FlushMode::Async, SimulatedDisk::cut_at, after_a_power_cut);
}

#[test]
fn death_of_the_process_at_every_call_loses_nothing_acknowledged() {
    for mode in [FlushMode::Sync, FlushMode::Async] {
        at_every_call("kill", mode, SimulatedDisk::cut_at, after_the_process_died);
    }
}

#[test]
fn a_failed_call_once_is_no_success() {
    for mode in [FlushMode::Sync, FlushMode::Async] {
        for fault in [Fault::Broken, Fault::NoSpace] {
            let plan = move |disk: &SimulatedDisk, n| disk.fail_at(n, fault, Lasts::Once);
            at_every_call(&format!("{fault:?} once"), mode, plan, after_a_fault);
        }
    }
}

#[test]
fn a_disk_that_fails_for_ever_refuses_and_keeps() {
    for mode in [FlushMode::Sync, FlushMode::Async] {
        for fault in [Fault::Broken, Fault::NoSpace] {
            let plan = move |disk: &SimulatedDisk, n| disk.fail_at(n, fault, Lasts::ForEver);
            at_every_call(&format!("{fault:?} for ever"), mode, plan, after_a_fault_for_ever);
        }
    }
}

/// Three senders, each with a queue of its own, until one is refused. How many messages of each were acknowledged.
fn send_from_three_threads(disk: &SimulatedDisk, mode: FlushMode) -> Vec<usize> {
    let Ok(store) = common::open(Arc::new(disk.clone()), StoreOptions::small(common::ROOT, mode)) else {
        return vec![0; 3];
    };
    let until_refused = |queue| (0..40).take_while(|n| common::send(&store, "t", queue, &body(*n)).is_ok()).count();
    let acknowledged = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3).map(|queue| scope.spawn(move || until_refused(queue))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let _ = store.close();
    acknowledged
}

fn body(n: usize) -> String {
    format!("message-{n:03}-{}", "z".repeat(n * 7 % 100))
}

fn have_what_was_acknowledged(disk: SimulatedDisk, mode: FlushMode, acknowledged: &[usize]) {
    let store = common::open(Arc::new(disk), StoreOptions::small(common::ROOT, mode)).unwrap();
    for (queue, acknowledged) in (0..).zip(acknowledged) {
        let found = common::bodies(&store, "t", queue, 0);
        let sent: Vec<String> = (0..found.len()).map(body).collect();
        assert!(
            found == sent && found.len() >= *acknowledged,
            "queue {queue}: {acknowledged} acknowledged, {found:?}"
        );
        common::send(&store, "t", queue, &body(found.len())).unwrap();
    }
    store.close().unwrap();
}

#[test]
fn senders_at_once_keep_what_was_acknowledged_to_each() {
    for mode in [FlushMode::Sync, FlushMode::Async] {
        for n in (1..400).step_by(3) {
            let cut = SimulatedDisk::new(seed(n));
            cut.cut_at(n);
            let broken = SimulatedDisk::new(seed(n));
            broken.fail_at(n, Fault::Broken, Lasts::Once);
            for disk in [cut, broken] {
                let told = format!("three senders, {mode:?}, n {n}, seed {}", seed(n));
                let (case, on) = (Case(told.clone()), disk.clone());
                let acknowledged = in_time(&told, move || send_from_three_threads(&on, mode));
                have_what_was_acknowledged(disk.process_killed(), mode, &acknowledged);
                let promised = if mode == FlushMode::Sync { acknowledged } else { vec![0; 3] };
                have_what_was_acknowledged(disk.power_cut(seed(n)), mode, &promised);
                drop(case);
            }
        }
    }
}
