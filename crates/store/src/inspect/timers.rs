//! The timer files: what waits, and whether each of it has its message.

use super::log::LogFiles;
use super::report::{Findings, Part, Severity, TimerSummary};
use super::{InspectOptions, Judge};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::StoreError;
use crate::timer::{TimerFiles, Trouble, Unit};
use message::record::{Peek, peek};
use std::sync::Arc;

const BUILT_AGAIN: &str = "the index of timer messages does not fit together: the next start builds it again from rmq_sys_wheel_timer";
const CHAIN: &str = "slots of timerwheel that do not lead to units of timerlog: a start builds the index again when they are due";
const FORGOTTEN: &str = "units of timerlog that no slot names: their messages are not delivered, until timerlog and timerwheel are removed";
const GONE: &str = "units of timerlog whose message is not in the log: it is not delivered";

/// Enough of a record for its length and offset.
const HEAD: usize = 64;

/// Examines the timer files of a directory.
pub(super) fn examine(
    disk: &Arc<dyn Disk>,
    options: &InspectOptions,
    log: &LogFiles,
    judge: &Judge,
    in_use: bool,
    findings: &mut Findings,
) -> Result<TimerSummary, StoreError> {
    let timers = TimerFiles::open(disk, &options.timer)?;
    let mut records = Records { disk, log, open: None };
    let mut summary = TimerSummary {
        bytes: timers.log_bytes(),
        slots: timers.slots(),
        delivered_before_ms: timers.check.read_time_ms,
        ..TimerSummary::default()
    };
    let mut troubles = Findings::default();
    let mut gone = Vec::new();
    summary.units = timers.compare(
        &mut |trouble| match trouble {
            Trouble::BuiltAgain(why) => troubles.add(Severity::Recovery, Part::Timers, BUILT_AGAIN, || why.to_owned()),
            Trouble::Chain { slot_ms, last } => troubles.add(Severity::Recovery, Part::Timers, CHAIN, || {
                format!("slot {slot_ms}, last unit at {last}")
            }),
            Trouble::Forgotten { at, due_ms, log_offset } => troubles.add(Severity::Damage, Part::Timers, FORGOTTEN, || {
                format!("unit at {at}, log offset {log_offset}, due at {due_ms}")
            }),
        },
        &mut |at, unit| {
            summary.waiting += u64::from(!unit.deletes());
            summary.recalls += u64::from(unit.deletes());
            if !records.has(unit)? && gone.len() < GONE_MAX {
                gone.push((at, unit.log_offset));
            }
            Ok(())
        },
    )?;
    // What a process writes meanwhile is in one file and not yet in the other.
    if !in_use {
        findings.append(troubles);
        for (at, log_offset) in gone {
            findings.add(judge.severity(log_offset), Part::Timers, GONE, || {
                format!("unit at {at}, log offset {log_offset}")
            });
        }
    }
    Ok(summary)
}

/// Units without a message that are counted.
const GONE_MAX: usize = 65_536;

/// Looks records up by their offset.
struct Records<'a> {
    disk: &'a Arc<dyn Disk>,
    log: &'a LogFiles,
    /// The file of the last look, and where it begins.
    open: Option<(i64, Arc<dyn DiskFile>)>,
}

impl Records<'_> {
    /// Whether there is a record of this length.
    fn has(&mut self, unit: &Unit) -> Result<bool, StoreError> {
        let at = unit.log_offset;
        let Some(file) = self.log.files.iter().find(|file| (file.base..file.end()).contains(&at)) else {
            return Ok(false);
        };
        let opened = match &self.open {
            Some((base, opened)) if *base == file.base => opened.clone(),
            _ => {
                let opened = self.disk.open(&file.path, OpenMode::Read);
                let opened = opened.map_err(|e| StoreError::io("open", &file.path, e))?;
                self.open = Some((file.base, opened.clone()));
                opened
            }
        };
        let mut head = [0; HEAD];
        let read = opened
            .read_at(&mut head, (at - file.base) as u64)
            .map_err(|e| StoreError::io("read", &file.path, e))?;
        Ok(matches!(peek(&head[..read]), Peek::Record { size } if size as i64 == i64::from(unit.size)))
    }
}
