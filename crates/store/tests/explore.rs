//! The store's threads under a scheduler that explores interleavings: senders, leader, relief, flushers, keeper, readers, deletion,
//! search, checkpoint and shutdown run in an order of its choice, over a simulated disk whose power is cut at a moment of its
//! choice.
//!
//! Each of the wrong orders ([`Broken`]) is restored and must be caught.
//!
//! For long runs: `EXPLORE_RUNS=100000 EXPLORE_SEED=7 cargo test --profile fuzz -p store --features explore --test explore`. A
//! failure prints its seed and run; the same seed finds it again.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod explored;

use explored::{
    Life, bound, closing, compaction, deletion, deletion_of_a_compacted_topic, end_after_checkpoint, end_after_deletion, hanging_creation,
    hanging_syncs, keys, reads, reads_across_truncation, retention, sends_and_reads, truncation,
};
use shuttle::Config;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use store::FlushMode;
use store::explore::{Broken, break_order};

/// Runs of each test, a part of them with each scheduler.
const RUNS: usize = 300;
/// Runs in which a broken order must be caught.
const RUNS_TO_CATCH: usize = 20_000;
/// Maximum steps of one run, so that an endless run fails.
const STEPS: usize = 2_000_000;

/// One test at a time: the wrong order belongs to the process.
static ALONE: Mutex<()> = Mutex::new(());

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn config() -> Config {
    let mut config = Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS);
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    config.failure_persistence = shuttle::FailurePersistence::None;
    config
}

fn run(scheduler: impl Scheduler + 'static, life: fn(FlushMode), mode: FlushMode) {
    shuttle::Runner::new(scheduler, config()).run(move || life(mode));
}

/// Explores a scenario in both flush modes: half of the runs with random choices, half with few preemptions at random places.
fn explore(life: fn(FlushMode)) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (runs, seed) = (from_environment("EXPLORE_RUNS", RUNS), from_environment("EXPLORE_SEED", 1));
    for mode in [FlushMode::Async, FlushMode::Sync] {
        run(RandomScheduler::new_from_seed(seed, runs / 4), life, mode);
        run(PctScheduler::new_from_seed(seed, 3, runs / 4), life, mode);
    }
}

/// Restores a wrong order and explores until a run fails.
fn must_be_caught(broken: Broken, life: fn(FlushMode), mode: FlushMode) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    break_order(Some(broken));
    let caught = catch_unwind(AssertUnwindSafe(|| {
        run(RandomScheduler::new_from_seed(3, RUNS_TO_CATCH / 2), life, mode);
        run(PctScheduler::new_from_seed(3, 3, RUNS_TO_CATCH / 2), life, mode);
    }));
    break_order(None);
    assert!(caught.is_err(), "{broken:?} was not caught in {RUNS_TO_CATCH} runs");
}

#[test]
fn what_is_acknowledged_is_there_and_what_is_seen_stays() {
    explore(sends_and_reads);
}

#[test]
fn retention_takes_nothing_that_is_needed() {
    explore(retention);
}

#[test]
fn every_key_is_found_after_a_kill_and_a_power_cut() {
    explore(keys);
    explore(end_after_checkpoint);
}

#[test]
fn a_deleted_topic_stays_deleted_and_its_successor_is_whole() {
    explore(deletion);
    explore(end_after_deletion);
}

#[test]
fn a_stop_keeps_all_that_was_acknowledged_before_and_meanwhile() {
    explore(closing);
}

#[test]
fn a_log_that_is_truncated_shows_whole_messages_and_goes_on() {
    explore(truncation);
    explore(reads_across_truncation);
}

#[test]
fn nobody_reads_what_replicas_do_not_have() {
    explore(bound);
}

#[test]
fn a_compacted_topic_has_the_last_of_each_key_while_it_is_compacted() {
    explore(compaction);
    explore(deletion_of_a_compacted_topic);
}

#[test]
fn senders_with_room_wait_neither_for_a_sync_nor_for_a_new_file() {
    explore(hanging_syncs);
    explore(hanging_creation);
}

#[test]
fn broken_orders_are_caught() {
    let lives: [(Broken, Life, FlushMode); 15] = [
        (Broken::PublishedBeforeWritten, sends_and_reads, FlushMode::Async),
        (Broken::PublishedBeforeConfirmed, reads, FlushMode::Async),
        (Broken::AnsweredBeforePublished, reads, FlushMode::Async),
        (Broken::PublishedBeforeSynced, reads, FlushMode::Sync),
        (Broken::PublishedBeforeReplicated, bound, FlushMode::Async),
        (Broken::PublishedBeforeReplicated, bound, FlushMode::Sync),
        (Broken::StampedBeforeLocked, sends_and_reads, FlushMode::Async),
        (Broken::AskedForKeysAfterSync, end_after_checkpoint, FlushMode::Sync),
        (Broken::AppendedToRetired, end_after_deletion, FlushMode::Async),
        (Broken::DeletedWithoutCheckpoint, end_after_deletion, FlushMode::Sync),
        (Broken::AppendedWhileClosing, closing, FlushMode::Async),
        (Broken::ReadAcrossTruncation, reads_across_truncation, FlushMode::Async),
        (Broken::SyncUnderWakeLock, hanging_syncs, FlushMode::Async),
        (Broken::WaitedForFileInAppend, hanging_creation, FlushMode::Async),
        (Broken::LogDeletedBeforeCopied, compaction, FlushMode::Async),
    ];
    for (broken, life, mode) in lives {
        let begun = std::time::Instant::now();
        must_be_caught(broken, life, mode);
        eprintln!("{broken:?} caught after {:?}", begun.elapsed());
    }
}
