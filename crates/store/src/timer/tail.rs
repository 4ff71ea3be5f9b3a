//! What the timer log has behind the last save.

use super::log::{Scan, TimerLog};
use super::wheel::Wheel;
use super::{TimerCheck, Unit};
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
        let precision_ms = wheel.precision_ms();
        let slot_from = check.read_time_ms.div_euclid(precision_ms);
        let mut known = FxHashSet::default();
        let end = log.scan(check.log_flushed, &mut |at, prev, unit| {
            if !(-1..at).contains(&prev) || !is_sound(&unit) {
                return Scan::Stop;
            }
            known.insert(unit.log_offset);
            let time = unit.value_ms.div_euclid(precision_ms);
            if at >= check.begin && time >= slot_from {
                wheel.restore(time, at);
            }
            Scan::Next
        })?;
        Ok(Self { known, end })
    }
}
