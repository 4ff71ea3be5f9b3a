//! What the timer log has and the saved wheel does not.

use super::log::{Scan, TimerLog};
use super::wheel::Wheel;
use super::{TimerCheck, Unit, unit};
use crate::error::StoreError;
use rustc_hash::FxHashSet;

/// The units that were appended after the last save. Compat: a Java broker leaves some even when it is stopped, since it saves its check
/// first, and not the wheel.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Log offsets of their messages.
    pub(super) known: FxHashSet<i64>,
    /// Where the timer log ends.
    pub(super) end: i64,
}

impl Tail {
    /// Reads them, and puts those that are not due before the check's read time into the wheel. They end before one that is not sound.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the log cannot be read.
    pub(super) fn read(
        wheel: &mut Wheel,
        log: &TimerLog,
        check: &TimerCheck,
        is_sound: &dyn Fn(&Unit) -> bool,
    ) -> Result<Self, StoreError> {
        let mut known = FxHashSet::default();
        let end = log.scan(check.log_flushed, &mut |at, prev, unit| {
            if !(-1..at).contains(&prev) || !is_sound(&unit) {
                return Scan::Stop;
            }
            known.insert(unit.log_offset);
            if at >= check.begin {
                wheel.restore(unit.value_ms, at, check.read_time_ms);
            }
            Scan::Next
        })?;
        Ok(Self { known, end })
    }
}

/// Apache's broker may have up to two batches of 11 messages in the timer log whose queue offset it has not saved.
const BATCHES_LEN: i64 = 32 * unit::LEN as i64;

/// Takes over what Apache's broker saved in the timer log alone: with `timerWheelSnapshotFlush` it writes no `timerwheel`, and its first
/// snapshot ten seconds after its start. Compat: from where its own start reads, the file before that of the last save. Returns log
/// offsets of messages that have their unit, although the check's queue offset may not be behind them.
///
/// # Errors
/// [`StoreError::Io`] if the log cannot be read.
pub(super) fn revise(wheel: &mut Wheel, log: &TimerLog, check: &TimerCheck) -> Result<FxHashSet<i64>, StoreError> {
    let mut known = FxHashSet::default();
    if check.scan_from.is_some() || check.log_flushed > log.capacity_end() {
        return Ok(known);
    }
    let from = log.file_before(check.log_flushed).max(check.begin);
    log.scan(from, &mut |at, _, unit| {
        if at >= check.log_flushed {
            return Scan::Stop;
        }
        if at >= check.log_flushed - BATCHES_LEN {
            known.insert(unit.log_offset);
        }
        wheel.restore(unit.value_ms, at, check.read_time_ms);
        Scan::Next
    })?;
    Ok(known)
}
