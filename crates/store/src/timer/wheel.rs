//! The wheel: for each slot of time the last of its units. In memory only slots with units; in the file `timerwheel` all.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | time of the slot, in slots since 1970; -1 if it has no units |
//! | 8 | position of its first unit |
//! | 8 | position of its last unit |
//! | 4 | how many messages wait in it |
//! | 4 | 0 |
//!
//! A slot is at its time modulo the number of slots. Compat: slots of the past stay in Apache's file.

use crate::disk::{Disk, DiskFile, OpenMode, if_exists};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub(super) const SLOT_LEN: usize = 32;
/// Slots that are read at once.
const READ_SLOTS: usize = 1 << 15;

/// The units of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: i32,
}

impl Slot {
    pub(super) const EMPTY: Self = Self {
        first: -1,
        last: -1,
        count: 0,
    };

    /// Adds a unit. Compat: one that recalls a message counts against it.
    pub(super) fn push(&mut self, at: i64, deletes: bool) {
        if self.first < 0 {
            self.first = at;
        }
        self.last = at;
        self.count = self.count.saturating_add(if deletes { -1 } else { 1 });
    }

    /// Whether the unit at this position may be one of its own.
    pub(super) fn holds(&self, at: i64) -> bool {
        (self.first..=self.last).contains(&at)
    }

    fn encode(&self, time: i64) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        bytes[..8].copy_from_slice(&time.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.first.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.last.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> (i64, Self) {
        let long = |at: usize| bytes[at..].first_chunk().map_or(-1, |eight| i64::from_be_bytes(*eight));
        let count = bytes[24..].first_chunk().map_or(0, |four| i32::from_be_bytes(*four));
        let slot = Self {
            first: long(8),
            last: long(16),
            count,
        };
        (long(0), slot)
    }
}

#[derive(Debug)]
pub(super) struct Wheel {
    precision_ms: i64,
    slots_in_file: u32,
    /// By time, in slots since 1970.
    slots: BTreeMap<i64, Slot>,
    /// Sum of all counts.
    count: i64,
    /// What the file does not say yet, by place in it.
    changed: FxHashMap<u32, [u8; SLOT_LEN]>,
}

impl Wheel {
    pub(super) fn new(precision_ms: i64, slots_in_file: u32) -> Self {
        Self {
            precision_ms,
            slots_in_file,
            slots: BTreeMap::new(),
            count: 0,
            changed: FxHashMap::default(),
        }
    }

    pub(super) fn file_len(slots_in_file: u32) -> u64 {
        u64::from(slots_in_file) * SLOT_LEN as u64
    }

    /// From its file; `None` if it does not exist, has another length, or a slot where another one belongs.
    pub(super) fn read(disk: &dyn Disk, path: &Path, precision_ms: i64, slots_in_file: u32) -> io::Result<Option<Self>> {
        let Some(file) = if_exists(disk.open(path, OpenMode::Read))? else {
            return Ok(None);
        };
        if file.len()? != Self::file_len(slots_in_file) {
            return Ok(None);
        }
        let mut wheel = Self::new(precision_ms, slots_in_file);
        let mut at = 0;
        let mut bytes = vec![0; READ_SLOTS * SLOT_LEN];
        while let Some(data) = file.next_data(at)? {
            at = data.start / SLOT_LEN as u64 * SLOT_LEN as u64;
            let read = file.read_at(&mut bytes, at)?;
            for (place, slot) in (at / SLOT_LEN as u64..).zip(bytes[..read].chunks_exact(SLOT_LEN)) {
                let (time, slot) = Slot::decode(slot);
                // Compat: a slot that was never used is all zeros.
                if time > 0 {
                    let is_its_place = time as u64 % u64::from(slots_in_file) == place && time < i64::MAX / 2 / precision_ms;
                    if !is_its_place || slot.first < 0 || slot.last < slot.first {
                        return Ok(None);
                    }
                    wheel.slots.insert(time, slot);
                    wheel.count += i64::from(slot.count);
                } else if time < -1 {
                    return Ok(None);
                }
            }
            at += (read / SLOT_LEN * SLOT_LEN).max(SLOT_LEN) as u64;
        }
        Ok(Some(wheel))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many messages wait, about.
    pub(super) fn count(&self) -> i64 {
        self.count
    }

    /// In order of time.
    pub(super) fn slots(&self) -> impl Iterator<Item = (i64, Slot)> {
        self.slots.iter().map(|(time, slot)| (*time, *slot))
    }

    /// The first slot behind this time, or of all.
    pub(super) fn next(&self, behind: Option<i64>) -> Option<i64> {
        let from = behind.map_or(i64::MIN, |time| time.saturating_add(1));
        self.slots.range(from..).next().map(|(time, _)| *time)
    }

    pub(super) fn get(&self, time: i64) -> Option<Slot> {
        self.slots.get(&time).copied()
    }

    pub(super) fn set(&mut self, time: i64, slot: Slot) {
        let before = self.slots.insert(time, slot);
        self.count += i64::from(slot.count) - before.map_or(0, |slot| i64::from(slot.count));
        self.changed.insert(self.place(time), slot.encode(time));
    }

    pub(super) fn remove(&mut self, time: i64) {
        if let Some(slot) = self.slots.remove(&time) {
            self.count -= i64::from(slot.count);
            self.changed.insert(self.place(time), Slot::EMPTY.encode(-1));
        }
    }

    fn place(&self, time: i64) -> u32 {
        time.rem_euclid(self.slots_in_file.into()) as u32
    }

    /// A unit that was found in the timer log; one of a slot before `read_time_ms` is done.
    pub(super) fn restore(&mut self, value_ms: i64, at: i64, read_time_ms: i64) {
        let time = value_ms.div_euclid(self.precision_ms);
        if time < read_time_ms.div_euclid(self.precision_ms) {
            return;
        }
        let mut slot = self.get(time).unwrap_or(Slot::EMPTY);
        if at > slot.last {
            slot.push(at, false);
            self.set(time, slot);
        }
    }

    /// Forgets slots before this time.
    pub(super) fn drop_before(&mut self, time: i64) {
        self.slots = self.slots.split_off(&time);
        self.count = self.slots.values().map(|slot| i64::from(slot.count)).sum();
    }

    /// Forgets units below this position.
    pub(super) fn drop_below(&mut self, at: i64) {
        let done: Vec<i64> = self.slots().filter(|(_, slot)| slot.last < at).map(|(time, _)| time).collect();
        done.into_iter().for_each(|time| self.remove(time));
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What the file does not say yet, in its order.
    pub(super) fn take_changed(&mut self) -> Vec<(u32, [u8; SLOT_LEN])> {
        let mut changed: Vec<_> = self.changed.drain().collect();
        changed.sort_unstable_by_key(|(place, _)| *place);
        changed
    }

    /// What could not be written; later changes win.
    pub(super) fn put_back(&mut self, slots: Vec<(u32, [u8; SLOT_LEN])>) {
        for (place, slot) in slots {
            self.changed.entry(place).or_insert(slot);
        }
    }
}

/// Writes slots, neighbours at once.
pub(super) fn write(file: &dyn DiskFile, slots: &[(u32, [u8; SLOT_LEN])]) -> io::Result<()> {
    for run in slots.chunk_by(|(before, _), (after, _)| *after == before + 1) {
        let bytes: Vec<u8> = run.iter().flat_map(|(_, slot)| *slot).collect();
        file.write_at(&bytes, u64::from(run[0].0) * SLOT_LEN as u64)?;
    }
    Ok(())
}
