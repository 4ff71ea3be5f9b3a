use std::collections::BTreeSet;
use std::path::PathBuf;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite, blank_ent, log_id};
use openraft::{RaftLogReader, RaftSnapshotBuilder, StorageError, Vote};
use proptest::prelude::*;
use store::disk::simulated::SimulatedDisk;

use super::disk_thread::DiskThread;
use super::file::Opened;
use super::log::LogStore;
use super::machine::Machine;
use super::*;

fn identity() -> Identity {
    Identity {
        group: "g".to_owned(),
        own: "n0".to_owned(),
        all: vec!["n0".to_owned()],
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/controller")
}

fn open(disk: &SimulatedDisk) -> Result<Opened, FileError> {
    file::open(Arc::new(disk.clone()), &dir(), &identity())
}

fn parts(disk: &SimulatedDisk) -> (DiskThread, LogStore, Machine) {
    let opened = open(disk).unwrap();
    let thread = DiskThread::start(opened.log).unwrap();
    let log = LogStore::new(opened.content, thread.jobs());
    let machine = Machine::new(opened.snapshot, thread.jobs());
    (thread, log, machine)
}

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, DiskThread> for Builder {
    async fn build(&self) -> Result<(DiskThread, LogStore, Machine), StorageError<u64>> {
        Ok(parts(&SimulatedDisk::new(1)))
    }
}

#[test]
fn the_storage_keeps_what_openraft_asks_of_it() {
    Suite::test_all(Builder).unwrap();
}

/// What a test does with the storage.
#[derive(Debug, Clone)]
enum Step {
    Vote(u64),
    Append(u64),
    Truncate(u64),
    Purge(u64),
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..9u64).prop_map(Step::Vote),
        6 => (1..5u64).prop_map(Step::Append),
        1 => (0..4u64).prop_map(Step::Truncate),
        1 => (0..6u64).prop_map(Step::Purge),
        1 => Just(Step::Snapshot),
    ]
}

/// What the storage has acknowledged.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    vote: Option<u64>,
    purged: u64,
    last: u64,
    terms: BTreeMap<u64, u64>,
    snapshot: Option<u64>,
}

impl Model {
    async fn read(log: &mut LogStore, machine: &mut Machine) -> Self {
        let state = log.get_log_state().await.unwrap();
        let entries = log.try_get_log_entries(0..).await.unwrap();
        let snapshot = machine.get_current_snapshot().await.unwrap();
        Self {
            vote: log.read_vote().await.unwrap().map(|vote| vote.leader_id.term),
            purged: state.last_purged_log_id.map_or(0, |id| id.index),
            last: state.last_log_id.map_or(0, |id| id.index),
            terms: entries
                .iter()
                .map(|entry| (entry.log_id.index, entry.log_id.leader_id.term))
                .collect(),
            snapshot: snapshot.and_then(|snapshot| snapshot.meta.last_log_id).map(|id| id.index),
        }
    }
}

/// Does the step, and in `model` what it should lead to. `Err`: the disk failed.
async fn run(step: &Step, term: u64, model: &mut Model, log: &mut LogStore, machine: &mut Machine) -> Result<(), ()> {
    match step {
        Step::Vote(vote) => {
            model.vote = Some(*vote);
            log.save_vote(&Vote::new(*vote, 0)).await.map_err(drop)
        }
        Step::Append(count) => {
            let entries: Vec<_> = (model.last + 1..=model.last + count)
                .map(|index| blank_ent::<Types>(term, 0, index))
                .collect();
            model.terms.extend((model.last + 1..=model.last + count).map(|index| (index, term)));
            model.last += count;
            log.blocking_append(entries).await.map_err(drop)
        }
        Step::Truncate(back) => {
            let from = model.last.saturating_sub(*back).max(model.purged) + 1;
            if from > model.last {
                return Ok(());
            }
            model.terms.split_off(&from);
            model.last = from - 1;
            log.truncate(log_id(1, 0, from)).await.map_err(drop)
        }
        Step::Purge(behind) => {
            let to = model.last.saturating_sub(*behind);
            if to <= model.purged {
                return Ok(());
            }
            let term = model.terms[&to];
            model.terms = model.terms.split_off(&(to + 1));
            model.purged = to;
            log.purge(log_id(term, 0, to)).await.map_err(drop)
        }
        Step::Snapshot => {
            let index = machine.applied_state().await.map_err(drop)?.0.map_or(0, |id| id.index) + 1;
            machine.apply([blank_ent::<Types>(term, 0, index)]).await.map_err(drop)?;
            model.snapshot = Some(index);
            machine.build_snapshot().await.map(drop).map_err(drop)
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Power goes at any call of a run, and again during the recovery: what was acknowledged is there, and of the step that was cut off all
    /// or nothing.
    #[test]
    fn a_power_cut_loses_nothing_that_was_acknowledged(steps in proptest::collection::vec(step(), 1..24), cut in any::<u64>(), seed in any::<u64>()) {
        let whole = SimulatedDisk::new(seed);
        runtime().block_on(async {
            let (thread, mut log, mut machine) = parts(&whole);
            let mut model = Model::default();
            for (term, step) in steps.iter().enumerate() {
                run(step, term as u64 + 1, &mut model, &mut log, &mut machine).await.unwrap();
            }
            prop_assert_eq!(Model::read(&mut log, &mut machine).await, model);
            drop((log, machine));
            thread.join();
            Ok(())
        })?;
        let disk = SimulatedDisk::new(seed);
        disk.cut_at(1 + cut % whole.calls());
        let (before, after) = runtime().block_on(async {
            let mut model = Model::default();
            let Ok(opened) = open(&disk) else { return (model.clone(), model) };
            let thread = DiskThread::start(opened.log).unwrap();
            let (mut log, mut machine) = (LogStore::new(opened.content, thread.jobs()), Machine::new(opened.snapshot, thread.jobs()));
            let mut before = model.clone();
            for (term, step) in steps.iter().enumerate() {
                before = model.clone();
                if run(step, term as u64 + 1, &mut model, &mut log, &mut machine).await.is_err() {
                    break;
                }
            }
            drop((log, machine));
            thread.join();
            (before, model)
        });
        let disk = disk.power_cut(seed ^ 1);
        let again = disk.power_cut(seed ^ 2);
        again.cut_at(1 + seed % 4);
        let _ = open(&again);
        for disk in [disk, again.power_cut(seed ^ 3)] {
            let found = runtime().block_on(async {
                let (thread, mut log, mut machine) = parts(&disk);
                let found = Model::read(&mut log, &mut machine).await;
                // It goes on from there.
                log.save_vote(&Vote::new(77, 0)).await.unwrap();
                drop((log, machine));
                thread.join();
                found
            });
            prop_assert!(found == before || found == after, "{:?} is neither {:?} nor {:?}", found, before, after);
            prop_assert_eq!(open(&disk).unwrap().content.vote, Some(Vote::new(77, 0)));
        }
    }
}

#[test]
fn a_log_that_has_grown_is_written_again() {
    let disk = SimulatedDisk::new(3);
    runtime().block_on(async {
        let (thread, mut log, machine) = parts(&disk);
        for round in 0..15_000u64 {
            log.save_vote(&Vote::new(round, 0)).await.unwrap();
        }
        drop((log, machine));
        thread.join();
    });
    let names: BTreeSet<String> = store::disk::Disk::list(&disk, &dir())
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, BTreeSet::from(["lock".to_owned(), "log-0000000002".to_owned()]));
    assert!(open(&disk).unwrap().content.vote.unwrap().leader_id.term == 14_999);
}

#[test]
fn files_of_another_controller_and_damaged_ones_are_refused() {
    let disk = SimulatedDisk::new(4);
    runtime().block_on(async {
        let (thread, mut log, machine) = parts(&disk);
        log.save_vote(&Vote::new(1, 0)).await.unwrap();
        log.save_vote(&Vote::new(2, 0)).await.unwrap();
        drop((log, machine));
        thread.join();
    });
    let other = Identity {
        own: "n1".to_owned(),
        ..identity()
    };
    let refused = file::open(Arc::new(disk.clone()), &dir(), &other).err().unwrap();
    assert!(matches!(refused, FileError::OtherIdentity { .. }), "{refused}");
    let held = open(&disk).unwrap();
    assert!(matches!(open(&disk).err().unwrap(), FileError::InUse(_)));
    drop(held);
    let path = dir().join("log-0000000001");
    let file = store::disk::Disk::open(&disk, &path, store::disk::OpenMode::Write).unwrap();
    file.write_at(b"x", 30).unwrap();
    assert!(matches!(open(&disk).err().unwrap(), FileError::Damaged(_, 0)));
}
