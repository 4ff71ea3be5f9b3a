//! The state for openraft: commands are applied in memory, snapshots are files.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::RaftStateMachine;
use openraft::{
    EmptyNode, Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError, StorageIOError,
    StoredMembership,
};
use parking_lot::{Mutex, RwLock};

use super::Types;
use super::disk_thread::{Job, Jobs};
use super::snapshot::Kept;
use crate::replicas::{Answer, Replicas};

/// The applied state, for readers.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    state: RwLock<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    replicas: Replicas,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
}

impl Applied {
    /// Reads the state. `read` must not block.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Replicas) -> T) -> T {
        read(&self.state.read().replicas)
    }
}

/// The state machine. Clones are the same one.
#[derive(Clone)]
pub(super) struct Machine {
    applied: Arc<Applied>,
    kept: Arc<Mutex<Option<Kept>>>,
    jobs: Jobs,
}

impl Machine {
    pub(super) fn new(kept: Option<Kept>, jobs: Jobs) -> Self {
        let state = kept.as_ref().map_or_else(State::default, |kept| State {
            replicas: kept.state.clone(),
            last: kept.meta.last_log_id,
            membership: kept.meta.last_membership.clone(),
        });
        Self {
            applied: Arc::new(Applied { state: RwLock::new(state) }),
            kept: Arc::new(Mutex::new(kept)),
            jobs,
        }
    }

    pub(super) fn applied(&self) -> Arc<Applied> {
        Arc::clone(&self.applied)
    }

    async fn keep(&self, kept: Kept) -> Result<(), StorageError<u64>> {
        let job = Box::new(kept.clone());
        let written = self.jobs.done(|report| Job::Snapshot(job, report)).await;
        written.map_err(|error| StorageIOError::write_snapshot(Some(kept.meta.signature()), &error))?;
        *self.kept.lock() = Some(kept);
        Ok(())
    }
}

#[expect(clippy::result_large_err, reason = "openraft's error")]
fn sent(kept: &Kept) -> Result<Snapshot<Types>, StorageError<u64>> {
    let state = serde_json::to_vec(&kept.state);
    let state = state.map_err(|error| StorageIOError::read_snapshot(Some(kept.meta.signature()), &error))?;
    Ok(Snapshot {
        meta: kept.meta.clone(),
        snapshot: Box::new(Cursor::new(state)),
    })
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<u64>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let state = self.applied.state.read().clone();
        let place = state
            .last
            .map_or_else(String::new, |id| format!("{}-{}", id.leader_id.term, id.index));
        let kept = Kept {
            meta: SnapshotMeta {
                last_log_id: state.last,
                last_membership: state.membership,
                snapshot_id: format!("{place}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
            },
            state: state.replicas,
        };
        let snapshot = sent(&kept)?;
        self.keep(kept).await?;
        Ok(snapshot)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>), StorageError<u64>> {
        let state = self.applied.state.read();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Option<Answer>>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.applied.state.write();
        let answers = entries.into_iter().map(|entry| {
            state.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => Some(state.replicas.apply(&command)),
                EntryPayload::Membership(membership) => {
                    state.membership = StoredMembership::new(Some(entry.log_id), membership);
                    None
                }
            }
        });
        Ok(answers.collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let replicas: Replicas =
            serde_json::from_slice(snapshot.get_ref()).map_err(|error| StorageIOError::read_snapshot(Some(meta.signature()), &error))?;
        let kept = Kept {
            meta: meta.clone(),
            state: replicas.clone(),
        };
        self.keep(kept).await?;
        *self.applied.state.write() = State {
            replicas,
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<u64>> {
        self.kept.lock().as_ref().map(sent).transpose()
    }
}
