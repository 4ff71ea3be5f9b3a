use super::*;
use crate::disk::simulated::SimulatedDisk;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const PRECISION: i64 = 1_000;
/// Ten units and the filler.
const FILE: u64 = 10 * 52 + 20;

fn options() -> TimerOptions {
    TimerOptions {
        root: "/store".into(),
        precision_ms: PRECISION,
        log_file_bytes: FILE,
        slots_in_file: 64,
    }
}

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new("/store/config")).unwrap();
    disk
}

fn open(disk: &SimulatedDisk, is_sound: &dyn Fn(&Unit) -> bool) -> (TimerIndex, Found) {
    TimerIndex::open(Arc::new(disk.clone()), options(), is_sound).unwrap()
}

fn open_whole(disk: &SimulatedDisk) -> (TimerIndex, Found) {
    open(disk, &|_| true)
}

fn unit(value_ms: i64, log_offset: i64) -> Unit {
    Unit {
        value_ms,
        flags: 0,
        written_ms: 5_000,
        log_offset,
        size: 100,
        topic_hash: 7,
    }
}

/// Log offsets of all that waits in a slot, in order of due time, read in pieces of `most`.
fn waiting(index: &TimerIndex, slot_ms: i64, most: usize) -> Vec<i64> {
    let (mut found, mut after) = (Vec::new(), (i64::MIN, i64::MIN));
    loop {
        let before = found.len();
        let is_all = index.read_slot(slot_ms, after, most, &mut found).unwrap();
        assert!(found[before..].is_sorted() && found.len() - before <= most);
        if is_all {
            return found.iter().map(|one| one.log_offset).collect();
        }
        after = found.last().map(|one| (one.due_ms, one.at)).unwrap();
    }
}

fn add(index: &mut TimerIndex, units: &[Unit]) {
    index.add(units, &mut Vec::new()).unwrap();
}

fn save(index: &mut TimerIndex, read_time_ms: i64) -> Result<(), StoreError> {
    let snapshot = index.snapshot(read_time_ms, 9, LogOffset(3), 1);
    snapshot.write().inspect_err(|_| index.take_back(snapshot))
}

#[test]
fn a_unit_has_apaches_bytes() {
    let one = Unit {
        flags: ROLLS,
        ..unit(6_234, 0x0102_0304_0506_0708)
    };
    let bytes = one.encode(-1);
    assert_eq!(bytes[..16], [0, 0, 0, 52, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 3]);
    assert_eq!(
        bytes[16..28],
        [0, 0, 0, 0, 0, 0, 0x13, 0x88, 0, 0, 0x04, 0xD2],
        "written at 5,000, due 1,234 later"
    );
    assert_eq!(bytes[28..36], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Unit::decode(&bytes), Some((-1, one)));
    let mut other = bytes;
    other[15] = 0x13;
    assert_eq!(Unit::decode(&other), None, "an unknown flag");
    assert_eq!(Unit::decode(&[0; 52]), None);
}

#[test]
fn a_value_of_a_whole_slot_is_due_at_its_end_and_any_other_right_after() {
    let (index, _) = open_whole(&disk());
    assert_eq!(
        (index.due_ms(5_000), index.due_ms(5_001), index.due_ms(5_999)),
        (6_000, 5_002, 6_000)
    );
    assert_eq!(
        (index.slot_of(5_000), index.slot_of(5_999), index.slot_of(6_000)),
        (5_000, 5_000, 6_000)
    );
}

#[test]
fn slots_have_their_units_in_order_of_due_time_over_files_and_starts() {
    let disk = disk();
    let (mut index, found) = open_whole(&disk);
    assert!(!found.begins_anew && index.first_slot().is_none());
    for n in 0..40 {
        add(&mut index, &[unit(9_999 - n, n), unit(20_000 + n, 100 + n)]);
    }
    let expected: Vec<i64> = (0..40).rev().collect();
    for most in [1, 7, 40, 1_000] {
        assert_eq!(waiting(&index, 9_000, most), expected, "{most} at once");
    }
    assert_eq!(
        (index.first_slot(), index.count_in(9_000), index.count(), index.slots()),
        (Some(9_000), 40, 80, 2)
    );
    save(&mut index, 1_000).unwrap();
    let before_power_cut = disk.power_cut(3);
    let (index, found) = open_whole(&before_power_cut);
    assert_eq!(
        (found.check.queue_offset, found.check.scan_from, found.known.len()),
        (9, Some(LogOffset(3)), 0)
    );
    assert_eq!(waiting(&index, 9_000, 100), expected);
    // Value 20,000 is the whole slot, so it is the last.
    let after: Vec<i64> = (101..140).chain([100]).collect();
    assert_eq!(waiting(&index, 20_000, 100), after);
}

#[test]
fn a_slot_that_is_done_does_not_come_back_and_its_files_go() {
    let disk = disk();
    let (mut index, _) = open_whole(&disk);
    add(&mut index, &(0..30).map(|n| unit(9_000 + n, n)).collect::<Vec<_>>());
    add(&mut index, &[unit(30_000, 77)]);
    assert_eq!(index.oldest().unwrap(), Some((0, LogOffset(0))));
    index.remove_slot(9_000);
    assert_eq!(index.oldest().unwrap().map(|(_, at)| at), Some(LogOffset(77)));
    save(&mut index, 10_000).unwrap();
    index.remove_done_files().unwrap();
    assert_eq!(disk.list(Path::new("/store/timerlog")).unwrap().len(), 1);
    let (mut index, found) = open_whole(&disk.power_cut(1));
    assert!(!found.begins_anew);
    assert_eq!((index.first_slot(), waiting(&index, 30_000, 9)), (Some(30_000), vec![77]));
    index.remove_slot(30_000);
    assert_eq!(index.oldest().unwrap(), None);
}

#[test]
fn what_is_left_of_a_slot_replaces_it() {
    let disk = disk();
    let (mut index, _) = open_whole(&disk);
    for (most, done) in [(9, 1), (1, 2)] {
        index.remove_slot(9_000);
        let values = [9_100, 9_101, 9_102, 9_103, 9_104, 9_000];
        add(&mut index, &(0..).zip(values).map(|(n, value)| unit(value, n)).collect::<Vec<_>>());
        let mut all = Vec::new();
        index.read_slot(9_000, (0, 0), 9, &mut all).unwrap();
        let last = &all[done - 1];
        index.keep_only(9_000, (last.due_ms, last.at), most).unwrap();
        // The unit of the whole slot is due last.
        assert_eq!(waiting(&index, 9_000, 9), [0, 1, 2, 3, 4, 5][done..]);
        let mut left = Vec::new();
        index.read_slot(9_000, (0, 0), 9, &mut left).unwrap();
        assert!(left.iter().map(|one| one.due_ms).eq(all[done..].iter().map(|one| one.due_ms)));
        save(&mut index, 9_000).unwrap();
        assert_eq!(waiting(&open_whole(&disk.process_killed()).0, 9_000, 9), [0, 1, 2, 3, 4, 5][done..]);
    }
}

/// A start of Apache's broker reads the queue from the message of the last unit on.
#[test]
fn the_last_unit_is_of_the_last_message_when_a_slot_was_written_again() {
    for units in 1..25 {
        let disk = disk();
        let (mut index, _) = open_whole(&disk);
        add(&mut index, &[unit(9_100, 1), unit(9_200, 2)]);
        add(&mut index, &(3..3 + units).map(|n| unit(15_000 + n, n)).collect::<Vec<_>>());
        for _ in 0..2 {
            index.keep_only(9_000, (0, 0), 1).unwrap();
            save(&mut index, 9_000).unwrap();
            assert_eq!(index.log.last().unwrap().map(|unit| unit.log_offset), Some(2 + units));
            let (after, found) = open_whole(&disk.process_killed());
            assert!(!found.begins_anew);
            assert_eq!(after.wheel.slots().map(|(time, _)| time).collect::<Vec<_>>(), [9, 15]);
            assert_eq!(waiting(&after, 9_000, 9), [1, 2]);
            index = after;
        }
    }
}

#[test]
fn units_whose_messages_were_written_again_are_done() {
    let disk = disk();
    let (mut index, _) = open_whole(&disk);
    add(&mut index, &(0..25).map(|n| unit(9_000 + 700 * n, 10 * n)).collect::<Vec<_>>());
    index.remove_slot(9_000);
    let (mut from, mut below) = (0, Vec::new());
    loop {
        let (next, is_end) = index.read_below(from, LogOffset(150), 4, &mut below).unwrap();
        from = next;
        if is_end {
            break;
        }
        below.drain(..).for_each(|(_, unit)| assert!((20..150).contains(&unit.log_offset)));
    }
    index.begin_at(from);
    assert_eq!(index.oldest().unwrap().map(|(_, at)| at), Some(LogOffset(150)));
    save(&mut index, 0).unwrap();
    let (index, _) = open_whole(&disk.power_cut(1));
    assert_eq!(index.oldest().unwrap().map(|(_, at)| at), Some(LogOffset(150)));
    let mut kept: Vec<i64> = index
        .wheel
        .slots()
        .flat_map(|(time, _)| waiting(&index, time * PRECISION, 99))
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, (15..25).map(|n| 10 * n).collect::<Vec<_>>());
}

#[test]
fn files_that_do_not_agree_are_built_again() {
    type Damage<'a> = (&'static str, &'a dyn Fn(&SimulatedDisk));
    let damages: [Damage<'_>; 5] = [
        ("the timer log is gone", &|disk| {
            disk.remove_dir_all(Path::new("/store/timerlog")).unwrap()
        }),
        ("a file is short", &|disk| {
            let file = disk
                .open(Path::new("/store/timerlog/00000000000000000000"), OpenMode::Write)
                .unwrap();
            file.set_len(7).unwrap();
        }),
        ("a file is missing", &|disk| {
            disk.remove_file(Path::new("/store/timerlog/00000000000000000000")).unwrap();
        }),
        ("the wheel is in a snapshot", &|disk| {
            disk.open(Path::new("/store/timerwheel.1040"), OpenMode::WriteOrCreate).unwrap();
        }),
        ("the wheel is ahead", &|disk| {
            let wheel = disk.open(Path::new("/store/timerwheel"), OpenMode::Write).unwrap();
            let mut slot = [0; 32];
            slot[6..8].copy_from_slice(&3_000_i16.to_be_bytes());
            slot[22..24].copy_from_slice(&30_000_i16.to_be_bytes());
            wheel.write_at(&slot, 32).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let disk = disk();
        let (mut index, _) = open_whole(&disk);
        add(&mut index, &(0..25).map(|n| unit(9_000 + n, n)).collect::<Vec<_>>());
        save(&mut index, 5_000).unwrap();
        damage(&disk);
        let (mut index, found) = open_whole(&disk);
        assert!(found.begins_anew && index.slots() == 0, "{what}");
        assert_eq!(found.check.read_time_ms, 5_000, "{what}");
        add(&mut index, &[unit(9_000, 1)]);
        save(&mut index, 5_000).unwrap();
        let (index, found) = open_whole(&disk);
        assert!(!found.begins_anew && waiting(&index, 9_000, 9) == [1], "{what}");
    }
}

#[test]
fn apaches_check_says_nothing_of_ours() {
    let disk = disk();
    let (mut index, _) = open_whole(&disk);
    add(&mut index, &[unit(9_000, 1)]);
    save(&mut index, 5_000).unwrap();
    // Apache's broker writes its 56 bytes.
    let file = disk.open(Path::new("/store/config/timercheck"), OpenMode::Write).unwrap();
    file.write_at(&77_i64.to_be_bytes(), 48).unwrap();
    let (_, found) = open_whole(&disk);
    assert_eq!((found.check.changes, found.check.scan_from), (77, None));
}

/// With `timerWheelSnapshotFlush` it writes no `timerwheel`, and no snapshot in its first ten seconds.
#[test]
fn a_masters_check_replaces_an_index_of_ones_own() {
    let disk = disk();
    let (mut index, _) = open_whole(&disk);
    add(&mut index, &[unit(20_500, 1), unit(30_500, 2)]);
    save(&mut index, 10_000).unwrap();
    drop(index);
    let told = TimerCheck {
        read_time_ms: 40_000,
        log_flushed: 520,
        queue_offset: 12,
        changed_ms: 41_000,
        changes: 3,
        ..TimerCheck::default()
    };
    assert_eq!(TimerCheck::of_master(&told.apaches_part()), Some(told));
    assert_eq!(TimerCheck::of_master(&told.apaches_part()[1..]), None);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    take_over(&shared, options(), told).unwrap();
    let (index, found) = open_whole(&disk);
    assert!(index.slots() == 0 && found.begins_anew, "the own index was of another state");
    assert_eq!(found.check, told);
}

#[test]
fn units_that_apaches_broker_saved_in_the_timer_log_alone_are_found() {
    let disk = disk();
    let (mut index, _) = open_whole(&disk);
    add(&mut index, &[unit(9_000, 1), unit(20_000, 2)]);
    save(&mut index, 5_000).unwrap();
    let wheel = || disk.open(Path::new("/store/timerwheel"), OpenMode::Write).unwrap();
    let mut as_we_left_it = vec![0; Wheel::file_len(64) as usize];
    wheel().read_at(&mut as_we_left_it, 0).unwrap();
    add(&mut index, &(3..14).map(|n| unit(20_000 + n, n)).collect::<Vec<_>>());
    add(&mut index, &[unit(7_000, 77), unit(30_000, 78)]);
    save(&mut index, 8_000).unwrap();
    wheel().write_at(&as_we_left_it, 0).unwrap();
    let check = disk.open(Path::new("/store/config/timercheck"), OpenMode::Write).unwrap();
    check.write_at(&77_i64.to_be_bytes(), 48).unwrap();

    let files = TimerFiles::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), &options()).unwrap();
    let mut troubles = Vec::new();
    files.compare(&mut |trouble| troubles.push(trouble), &mut |_, _| Ok(())).unwrap();
    assert_eq!(troubles, []);
    let (index, found) = open_whole(&disk);
    assert!(
        !found.begins_anew && found.known.len() == 15,
        "the last batch may be behind the saved queue offset"
    );
    let slots: Vec<i64> = index.wheel.slots().map(|(time, _)| time).collect();
    assert_eq!(slots, [9, 20, 30], "what was due before the saved time is done");
    assert_eq!(waiting(&index, 20_000, 99), (3..14).chain([2]).collect::<Vec<_>>());
    assert_eq!(waiting(&index, 30_000, 99), [78]);
}

#[derive(Clone, Debug)]
enum Step {
    Add(i64, u8),
    RemoveFirst,
    Save,
    PowerCut(u64),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (9..40_i64, 1..9_u8).prop_map(|(slot, count)| Step::Add(slot, count)),
        2 => Just(Step::RemoveFirst),
        2 => Just(Step::Save),
        1 => any::<u64>().prop_map(Step::PowerCut),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// After any crash, what waited at the last save waits, what was done by then is done, and nothing else is there than what was added.
    #[test]
    fn crashes_forget_nothing_that_was_saved(steps in proptest::collection::vec(step(), 1..60)) {
        let mut disk = disk();
        let (mut index, _) = open_whole(&disk);
        let mut added: BTreeMap<i64, i64> = BTreeMap::new();
        let mut now: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        // Waiting at the last save; of those, the slots that were removed since.
        let (mut saved, mut removed, mut done) = (now.clone(), BTreeSet::new(), BTreeSet::new());
        let (mut read_time, mut next) = (0, 0);
        for step in steps {
            match step {
                Step::Add(slot, count) => {
                    let units: Vec<Unit> = (0..count).map(|n| {
                        let log_offset = next;
                        next += 1;
                        let value = slot * PRECISION + i64::from(n);
                        added.insert(log_offset, value);
                        now.entry(slot).or_default().insert(log_offset);
                        unit(value, log_offset)
                    }).collect();
                    add(&mut index, &units);
                    read_time = read_time.min(slot * PRECISION);
                }
                Step::RemoveFirst => if let Some(slot) = index.first_slot() {
                    let units = now.remove(&(slot / PRECISION)).unwrap_or_default();
                    done.extend(units);
                    removed.insert(slot / PRECISION);
                    index.remove_slot(slot);
                    read_time = index.first_slot().unwrap_or(slot);
                },
                Step::Save => {
                    save(&mut index, read_time).unwrap();
                    saved = now.clone();
                    removed.clear();
                    let saved_done = std::mem::take(&mut done);
                    let gone: Vec<i64> = saved_done.into_iter().collect();
                    gone.iter().for_each(|gone| { added.remove(gone); });
                    // Their log offsets are never found again: they are no longer sound.
                }
                Step::PowerCut(_) | Step::Kill => {
                    disk = if let Step::PowerCut(seed) = step { disk.power_cut(seed) } else { disk.process_killed() };
                    let sound = |unit: &Unit| added.get(&unit.log_offset) == Some(&unit.value_ms);
                    let (after, found) = open(&disk, &sound);
                    prop_assert!(!found.begins_anew || saved.values().all(BTreeSet::is_empty), "the files agree");
                    index = after;
                    let mut seen = BTreeMap::new();
                    for (time, _) in index.wheel.slots().collect::<Vec<_>>() {
                        let units = waiting(&index, time * PRECISION, 3);
                        let set: BTreeSet<i64> = units.iter().copied().collect();
                        prop_assert_eq!(set.len(), units.len(), "each once");
                        seen.insert(time, set);
                    }
                    for (slot, units) in &saved {
                        let there = seen.get(slot).cloned().unwrap_or_default();
                        prop_assert!(removed.contains(slot) || units.is_subset(&there), "slot {slot} has {there:?}, not {units:?}");
                    }
                    for (slot, units) in &seen {
                        for unit in units {
                            prop_assert_eq!(added.get(unit).map(|value| value / PRECISION), Some(*slot));
                        }
                    }
                    now = seen;
                    // What was lost is not added again here.
                    done.clear();
                    save(&mut index, 0).unwrap();
                    read_time = 0;
                    saved = now.clone();
                    removed.clear();
                }
            }
        }
    }
}
