//! Which transactions are open when a broker starts: half messages that no removal mark names, from where the saved offsets say.
//!
//! A mark may be missing. A crash can cut it off behind the message of a commit, or behind a half message that was written again, since the
//! log ends at its first incomplete record; and
//! Apache's broker writes marks some seconds after commits. So messages of committed transactions are looked for in the part of the
//! log in which this can have happened, and get their mark.

use super::Transactions;
use super::half::Half;
use super::mark::{Mark, marked};
use crate::clock::now_ms;
use crate::errors::Refusal;
use message::record::Record;
use message::{LogOffset, QueueOffset, names, sys_flag};
use rustc_hash::{FxHashMap, FxHashSet};
use std::net::SocketAddr;
use store::{ReadSource, StoreError};

/// Messages read at once.
const TOGETHER: usize = 256;

/// A half message that seems to be open.
struct Open {
    current: i64,
    topic: Box<str>,
}

/// Reads what is open. What is stored meanwhile is open, too, and not read.
///
/// # Errors
/// The log cannot be read. It can be called again.
pub(super) fn read_open(transactions: &Transactions) -> Result<(), StoreError> {
    let store = &transactions.core.store;
    let (base, marks_from) = {
        let state = transactions.state.lock();
        (state.window.base(), state.window.mark_base())
    };
    let marks = read_marks(transactions, marks_from)?;
    let mut open = read_halves(transactions, base, &marks.below)?;
    mark_replaced(transactions)?;
    if !open.is_empty() {
        let from = unmarked_from(transactions, &marks);
        let committed = committed_from(transactions, from)?;
        let is_committed = |first: i64, current: i64| {
            [first, current].iter().any(|half| {
                let stored_at = store.log_offset_of(names::TRANS_HALF_TOPIC, 0, QueueOffset(*half));
                stored_at.is_some_and(|at| committed.contains(&at.0))
            })
        };
        let ended: Vec<(i64, i64)> = open
            .iter()
            .filter(|(first, open)| is_committed(**first, open.current))
            .map(|(first, open)| (*first, open.current))
            .collect();
        mark_ended(transactions, &ended)?;
        ended.iter().for_each(|(first, _)| drop(open.remove(first)));
    }
    let mut state = transactions.state.lock();
    let now_ms = now_ms();
    state.window.found_open(open.len());
    open.values().for_each(|open| state.count(&open.topic, 1, now_ms));
    state.window.advance();
    drop(state);
    if !open.is_empty() {
        tracing::info!(open = open.len(), "transactions are open");
    }
    Ok(())
}

/// What the removal marks say.
struct Marks {
    /// Half messages below the base that they name.
    below: FxHashSet<i64>,
    /// Log offset of the mark before the last.
    before_last: Option<LogOffset>,
}

fn read_marks(transactions: &Transactions, from: i64) -> Result<Marks, StoreError> {
    let mut marks = Marks {
        below: FxHashSet::default(),
        before_last: None,
    };
    let (mut at, mut last) = (from, None);
    let end = transactions.core.store.max_offset(names::TRANS_OP_HALF_TOPIC, 0).0;
    while at < end {
        let records = transactions
            .read_from(names::TRANS_OP_HALF_TOPIC, at, TOGETHER, ReadSource::Disk)?
            .records;
        if records.is_empty() {
            at += 1;
            continue;
        }
        let mut state = transactions.state.lock();
        for bytes in &records {
            at += 1;
            let Ok(record) = Record::parse(bytes) else { continue };
            at = record.queue_offset.0 + 1;
            marks.before_last = last.replace(record.log_offset).or(marks.before_last);
            let Some(halves) = marked(&record) else { continue };
            let mut highest = -1;
            for half in halves.filter(|half| (0..transactions.start_end).contains(half)) {
                highest = highest.max(half);
                if half < state.window.base() {
                    marks.below.insert(half);
                } else {
                    state.window.set_done(half);
                }
            }
            state.window.marked(record.queue_offset.0, highest);
        }
    }
    Ok(marks)
}

/// Open ones by the first half message of their transaction.
fn read_halves(transactions: &Transactions, base: i64, ended_below: &FxHashSet<i64>) -> Result<FxHashMap<i64, Open>, StoreError> {
    let mut open: FxHashMap<i64, Open> = FxHashMap::default();
    let mut at = base;
    loop {
        let next = transactions.state.lock().window.next_open(at, transactions.start_end);
        let Some(from) = next else { return Ok(open) };
        let records = transactions
            .read_from(names::TRANS_HALF_TOPIC, from, TOGETHER, ReadSource::Disk)?
            .records;
        let mut state = transactions.state.lock();
        at = from + 1;
        if records.is_empty() {
            state.window.set_done(from);
            continue;
        }
        for (bytes, nth) in records.iter().zip(from..) {
            let half = Half::parse(bytes);
            let offset = half.as_ref().map_or(nth, |half| half.record.queue_offset.0);
            at = offset + 1;
            if offset >= transactions.start_end || state.window.is_done(offset) {
                continue;
            }
            let half = match half {
                Ok(half) => half,
                Err(why) => {
                    tracing::error!(half = offset, why, "a half message cannot be read: its transaction is passed over");
                    state.window.set_done(offset);
                    continue;
                }
            };
            let was_marked = |half: i64| ended_below.contains(&half) || (half >= base && state.window.is_done(half));
            // Compat: Apache's broker repeats half messages that are not checked yet, and a mark may name the one before.
            if half
                .repeats
                .is_some_and(|repeated| half.first == repeated && !open.contains_key(&repeated) && was_marked(repeated))
            {
                state.window.set_done(offset);
                continue;
            }
            if half.first != offset {
                state.window.found_copy(half.first, offset);
            }
            let topic = half.topic.as_ref().into();
            open.insert(half.first, Open { current: offset, topic });
        }
    }
}

/// From where on a commit may lack its removal mark.
fn unmarked_from(transactions: &Transactions, marks: &Marks) -> LogOffset {
    let store = &transactions.core.store;
    let (first, _) = store.log_range();
    let noted = transactions.marked_until.filter(|at| *at <= transactions.log_end);
    let oldest = transactions.state.lock().window.next_open(0, transactions.start_end);
    let oldest = oldest.and_then(|half| store.log_offset_of(names::TRANS_HALF_TOPIC, 0, QueueOffset(half)));
    // No commit stands before its half message.
    let from = noted.or(marks.before_last).unwrap_or(first);
    from.max(oldest.unwrap_or(first)).max(first)
}

/// Log offsets of the half messages whose message was found.
fn committed_from(transactions: &Transactions, from: LogOffset) -> Result<FxHashSet<i64>, StoreError> {
    let mut committed = FxHashSet::default();
    transactions.core.store.scan(from, |record| {
        if record.sys_flag & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_COMMIT {
            committed.insert(record.prepared_offset);
        }
    })?;
    Ok(committed)
}

/// Writes the marks of half messages that later ones replaced: a crash cut them off. Without them a half message would seem to be open
/// again when the later one is done.
fn mark_replaced(transactions: &Transactions) -> Result<(), StoreError> {
    let replaced = transactions.state.lock().window.unmarked().to_vec();
    replaced.chunks(TOGETHER).try_for_each(|halves| write_mark(transactions, halves))?;
    transactions.state.lock().window.clear_unmarked();
    Ok(())
}

/// Writes the marks of transactions that were committed: first half message, and current one.
fn mark_ended(transactions: &Transactions, ended: &[(i64, i64)]) -> Result<(), StoreError> {
    for some in ended.chunks(TOGETHER) {
        let halves: Vec<i64> = some.iter().map(|(_, current)| *current).collect();
        write_mark(transactions, &halves)?;
        let mut state = transactions.state.lock();
        some.iter().for_each(|(first, _)| state.window.found_ended(*first));
    }
    if !ended.is_empty() && !transactions.core.role.is_slave() {
        tracing::warn!(
            count = ended.len(),
            "transactions were committed without being marked as ended: they are marked now"
        );
    }
    Ok(())
}

/// Writes one removal mark.
fn write_mark(transactions: &Transactions, halves: &[i64]) -> Result<(), StoreError> {
    if transactions.core.role.is_slave() {
        // One that acts for its master writes nothing: its master finds the same when it starts.
        return Ok(());
    }
    let (mark, now_ms) = (Mark::of(halves.iter().copied()), now_ms());
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut placed = Vec::with_capacity(1);
    let failed = |error: Refusal| StoreError::Failed(error.to_string());
    let appended = transactions.core.log.append(
        &[mark.draft(unspecified, now_ms)],
        &[transactions.mark_queue()],
        now_ms,
        &mut placed,
    );
    let ticket = appended.map_err(|error| failed(error.into()))?;
    transactions.finish_append(ticket, false).map_err(failed)?;
    transactions.state.lock().window.marked(placed[0].queue_offset.0, mark.highest());
    Ok(())
}
