//! What the timer files of a directory say, for checks and dumps. Reads only.

use super::log::{Scan, TimerLog};
use super::tail::{self, Tail};
use super::wheel::Wheel;
use super::{TimerCheck, TimerOptions, Unit, Waiting, snapshots};
use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Why an index is built again that a Java broker kept in snapshots.
pub(super) const IN_SNAPSHOTS: &str = "the wheel is in snapshots (timerWheelSnapshotFlush)";

/// Why an index is built again whose wheel is lost.
pub(super) const NO_WHEEL: &str = "timerwheel is missing or damaged";

/// What is wrong with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The next start builds it again from the timer topic's queue, for this reason.
    BuiltAgain(&'static str),
    /// The units of this slot are not one chain up to its last one.
    Chain {
        /// Beginning of the slot, epoch ms.
        slot_ms: i64,
        /// Its last unit.
        last: i64,
    },
    /// A unit that is not due yet, which no slot names.
    Forgotten {
        /// Its position.
        at: i64,
        /// When it is due, epoch ms.
        due_ms: i64,
        /// Log offset of its message.
        log_offset: i64,
    },
}

/// The timer files of a directory.
#[derive(Debug)]
pub(crate) struct TimerFiles {
    options: TimerOptions,
    pub(crate) check: TimerCheck,
    log: Option<TimerLog>,
    wheel: Option<Wheel>,
    /// Log offsets of messages that have their unit, although the check's queue offset may not be behind them.
    known: FxHashSet<i64>,
    /// `timerwheel` is missing or damaged.
    has_no_wheel: bool,
    in_snapshots: bool,
}

impl TimerFiles {
    /// Opens them; none of them need exist.
    ///
    /// # Errors
    /// [`StoreError::Io`] if they cannot be read.
    pub(crate) fn open(disk: &Arc<dyn Disk>, options: &TimerOptions) -> Result<Self, StoreError> {
        let (check_path, wheel_path) = (options.root.join("config/timercheck"), options.root.join("timerwheel"));
        let check = TimerCheck::read(&**disk, &check_path).map_err(|e| StoreError::io("read", &check_path, e))?;
        let log = TimerLog::open(disk.clone(), options.root.join("timerlog"), options.log_file_bytes, OpenMode::Read)?;
        let mut wheel = Wheel::read(&**disk, &wheel_path, options.precision_ms, options.slots_in_file)
            .map_err(|e| StoreError::io("read", &wheel_path, e))?;
        let has_no_wheel = wheel.is_none();
        if has_no_wheel {
            wheel = Some(Wheel::new(options.precision_ms, options.slots_in_file));
        }
        let mut known = FxHashSet::default();
        if let Some(wheel) = &mut wheel {
            wheel.drop_before(check.read_time_ms.div_euclid(options.precision_ms));
            if let Some(log) = &log {
                known = tail::revise(wheel, log, &check)?;
            }
            wheel.drop_below(check.begin);
        }
        Ok(Self {
            options: options.clone(),
            check,
            log,
            wheel,
            known,
            has_no_wheel,
            in_snapshots: !snapshots(&**disk, &options.root)?.is_empty(),
        })
    }

    /// Bytes of `timerlog`.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, TimerLog::bytes)
    }

    /// Slots in which messages wait.
    pub(crate) fn slots(&self) -> usize {
        self.wheel.as_ref().map_or(0, Wheel::len)
    }

    /// Why the next start builds the index again, if it does.
    fn built_again(&self) -> Option<&'static str> {
        let (Some(log), Some(wheel)) = (&self.log, &self.wheel) else {
            return Some(match self.log {
                None => "a file of timerlog is missing or has another length",
                Some(_) => NO_WHEEL,
            });
        };
        if self.has_no_wheel && self.check.log_flushed > 0 {
            return Some(NO_WHEEL);
        }
        let check = &self.check;
        if self.in_snapshots {
            return Some(IN_SNAPSHOTS);
        }
        if log.is_empty() && wheel.len() == 0 {
            return (check.queue_offset > 0 || check.log_flushed > 0).then_some("timerlog and timerwheel are missing");
        }
        if check.log_flushed < log.begin() || check.log_flushed > log.capacity_end() {
            return Some("timercheck names a place outside timerlog");
        }
        let lowest = wheel.slots().map(|(_, slot)| slot.first.max(check.begin)).min();
        let is_gone = lowest.is_some_and(|first| first < log.begin());
        is_gone.then_some("a file of timerlog is missing")
    }

    /// Compares log and wheel in one pass over the log, and visits the units that wait. Memory: 40 bytes a slot.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the log cannot be read, and what `waits` returns.
    pub(crate) fn compare(
        &self,
        tell: &mut dyn FnMut(Trouble),
        waits: &mut dyn FnMut(i64, &Unit) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        if let Some(why) = self.built_again() {
            tell(Trouble::BuiltAgain(why));
            return Ok(0);
        }
        let (Some(log), Some(wheel)) = (&self.log, &self.wheel) else {
            return Ok(0);
        };
        let check = &self.check;
        let lowest = check.begin.max(log.begin());
        // The last unit of each slot's chain that was met.
        let mut met: FxHashMap<i64, i64> = FxHashMap::default();
        let (mut units, mut outcome) = (0, Ok(()));
        log.scan(lowest, &mut |at, prev, unit| {
            if at >= check.log_flushed && wheel.slots().next().is_none() {
                return Scan::Stop;
            }
            units += 1;
            let time = unit.value_ms.div_euclid(self.options.precision_ms);
            match wheel.get(time) {
                Some(slot) if slot.holds(at) => {
                    let is_next = match met.get(&time) {
                        None => at == slot.first || prev < lowest,
                        Some(before) => prev == *before,
                    };
                    if is_next {
                        met.insert(time, at);
                        outcome = waits(at, &unit);
                    }
                }
                // What the clock had not reached when this was saved, and is not behind the last save.
                slot if slot.is_none_or(|slot| at > slot.last) => {
                    let due_ms = super::due_ms(unit.value_ms, self.options.precision_ms);
                    let is_saved = at < check.log_flushed && time * self.options.precision_ms > check.changed_ms.max(check.read_time_ms);
                    if is_saved {
                        tell(Trouble::Forgotten {
                            at,
                            due_ms,
                            log_offset: unit.log_offset,
                        });
                    }
                }
                _ => {}
            }
            if outcome.is_ok() { Scan::Next } else { Scan::Stop }
        })?;
        outcome?;
        for (time, slot) in wheel.slots().filter(|(time, slot)| met.get(time) != Some(&slot.last)) {
            tell(Trouble::Chain {
                slot_ms: time * self.options.precision_ms,
                last: slot.last,
            });
        }
        Ok(units)
    }

    /// Takes the units behind the last save into what [`Self::waiting`] visits, as a start does. Returns the log offsets of their messages.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the log cannot be read.
    pub(crate) fn take_tail(&mut self, is_sound: &dyn Fn(&Unit) -> bool) -> Result<FxHashSet<i64>, StoreError> {
        let mut known = std::mem::take(&mut self.known);
        if let (Some(log), Some(wheel)) = (&self.log, &mut self.wheel) {
            known.extend(Tail::read(wheel, log, &self.check, is_sound)?.known);
        }
        Ok(known)
    }

    /// Visits what waits, by due time, from `from_ms` (epoch ms) on, until the visitor ends it. A slot whose chain is broken ends with what
    /// could be read of it.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the log cannot be read.
    pub(crate) fn waiting(&self, from_ms: i64, visit: &mut dyn FnMut(&Waiting) -> ControlFlow<()>) -> Result<(), StoreError> {
        let (Some(log), Some(wheel)) = (&self.log, &self.wheel) else {
            return Ok(());
        };
        let precision_ms = self.options.precision_ms;
        let lowest = self.check.begin.max(log.begin());
        let mut units = Vec::new();
        for (_, slot) in wheel.slots().filter(|(time, _)| (time + 1) * precision_ms >= from_ms) {
            units.clear();
            let walked = log.walk(slot.last, lowest, &mut |at, unit| units.push(Waiting::new(&unit, at, precision_ms)));
            match walked {
                Ok(()) | Err(StoreError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
            units.sort_unstable();
            for one in units.iter().filter(|one| one.due_ms >= from_ms) {
                if visit(one).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
