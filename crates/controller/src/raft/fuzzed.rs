//! What the fuzzer does with a controller's files: opens a directory that has them, replays what they say, writes, and opens it again.

use std::path::Path;
use std::sync::Arc;

use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Membership, SnapshotMeta, StoredMembership, Vote};
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};

use super::frame::{self, Item};
use super::snapshot::{self, Kept};
use super::{Identity, file};
use crate::replicas::{Command, Limits, Live, Replicas};

const DIR: &str = "/c";
const LOG: &str = "log-0000000001";

/// A log's file whose frames have these contents, well-formed or not.
#[must_use]
pub fn log_of<'b>(contents: impl Iterator<Item = &'b [u8]>) -> Vec<u8> {
    (0..)
        .zip(contents)
        .flat_map(|(number, content)| frame::frame(number, content))
        .collect()
}

/// A snapshot's file with this content, well-formed or not.
#[must_use]
pub fn snapshot_of(content: &[u8]) -> Vec<u8> {
    snapshot::file(content)
}

/// Opens a directory with these files. If it is not refused, applies what is there, writes, and opens it again.
///
/// # Panics
/// If it is refused then, or says something else.
pub fn open(log: &[u8], snapshot: Option<&[u8]>) {
    let disk = SimulatedDisk::new(1);
    if put(&disk, LOG, log).is_err() || snapshot.is_some_and(|bytes| put(&disk, snapshot::NAME, bytes).is_err()) {
        return;
    }
    let open = || file::open(Arc::new(disk.clone()), Path::new(DIR), &identity());
    let Ok(mut opened) = open() else { return };
    let mut replicas = opened.snapshot.as_ref().map_or_else(Replicas::default, |kept| kept.state.clone());
    for entry in opened.content.entries.values() {
        if let EntryPayload::Normal(command) = &entry.payload {
            let expected = replicas.unchanged(command);
            let answer = replicas.apply(command);
            assert!(expected.is_none_or(|expected| expected == answer), "{command:?}");
        }
    }
    let kept = opened.snapshot.clone();
    let written = opened.log.write(&Item::Vote(Vote::new(9, 0)));
    assert!(written.is_ok(), "{written:?}");
    opened.content.take(&Item::Vote(Vote::new(9, 0)));
    let before = opened.content;
    drop(opened.log);
    let again = open().map(|again| (format!("{:?}", again.content), again.snapshot));
    let again = again.map_err(|error| error.to_string());
    assert!(again == Ok((format!("{before:?}"), kept)), "after a write a start finds: {again:?}");
}

fn put(disk: &SimulatedDisk, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    disk.create_dir_all(Path::new(DIR))?;
    let file = disk.open(&Path::new(DIR).join(name), OpenMode::WriteOrCreate)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.sync_dir(Path::new(DIR))
}

fn identity() -> Identity {
    Identity {
        group: "g".to_owned(),
        own: "n0".to_owned(),
        all: vec!["n0".to_owned()],
    }
}

fn id(index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(1, 0), index)
}

/// Contents of a log's frames and of a snapshot, as a controller writes them.
#[must_use]
pub fn good() -> (Vec<Vec<u8>>, Vec<u8>) {
    let live = Live {
        id: 1,
        epoch: 1,
        max_offset: 100,
        priority: 0,
    };
    let broker = || "b".to_owned();
    let commands = [
        Command::TakeId {
            cluster: "c".to_owned(),
            broker: broker(),
            id: 1,
            check_code: "h:1;1".to_owned(),
            limits: Limits { names: 9, replicas: 9 },
        },
        Command::Register {
            broker: broker(),
            id: 1,
            address: "h:2".to_owned(),
            lease_ms: Some(1_500),
        },
        Command::Elect {
            broker: broker(),
            candidate: Some(1),
            designated: false,
            unclean: false,
            seen_epoch: Some(0),
            alive: vec![live.clone()],
        },
        Command::AlterInSync {
            broker: broker(),
            master: 1,
            master_epoch: 1,
            ids: [1, 2].into(),
            in_sync_epoch: 1,
            alive: vec![live.clone()],
        },
        Command::Clean {
            broker: broker(),
            ids: [2].into(),
            living: true,
            alive: vec![live],
        },
    ];
    let mut replicas = Replicas::default();
    commands.iter().for_each(|command| drop(replicas.apply(command)));
    let entries = (3..).zip(commands).map(|(index, command)| Entry {
        log_id: id(index),
        payload: EntryPayload::Normal(command),
    });
    let membership = Membership::new(vec![[0].into()], None);
    let first = Entry {
        log_id: id(2),
        payload: EntryPayload::Membership(membership),
    };
    let blank = Entry {
        log_id: id(9),
        payload: EntryPayload::Blank,
    };
    let items = [
        Item::Identity(identity()),
        Item::Vote(Vote::new(1, 0)),
        Item::Purged(id(1)),
        Item::Entries([first].into_iter().chain(entries).collect()),
        Item::Entries(vec![blank]),
        Item::Truncated(9),
    ];
    let contents = items.iter().filter_map(|item| serde_json::to_vec(item).ok()).collect();
    let kept = Kept {
        meta: SnapshotMeta {
            last_log_id: Some(id(1)),
            last_membership: StoredMembership::default(),
            snapshot_id: "1-1".to_owned(),
        },
        state: replicas,
    };
    (contents, serde_json::to_vec(&kept).unwrap_or_default())
}
