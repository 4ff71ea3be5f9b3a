use super::*;

const SEEDS: u64 = 200;

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new("/s")).unwrap();
    disk
}

fn content(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    disk.read(Path::new(path)).ok()
}

#[test]
fn what_was_synced_survives_every_cut() {
    let disk = disk();
    let file = disk.create(Path::new("/s/f"), 10_000, Allocate::Sparse).unwrap();
    file.write_at(b"kept", 5_000).unwrap();
    file.sync_data().unwrap();
    file.write_at(b"maybe", 9_000).unwrap();
    for seed in 0..SEEDS {
        let found = content(&disk.power_cut(seed), "/s/f").unwrap();
        assert_eq!(found.len(), 10_000);
        assert_eq!(&found[5_000..5_004], b"kept");
    }
}

#[test]
fn unsynced_writes_survive_in_every_combination() {
    let disk = disk();
    let file = disk.create(Path::new("/s/f"), 3 * 4096, Allocate::Sparse).unwrap();
    for page in 0..3 {
        file.write_at(&[1], page * 4096).unwrap();
    }
    let mut seen = HashSet::new();
    for seed in 0..SEEDS {
        let found = content(&disk.power_cut(seed), "/s/f").unwrap();
        seen.insert([found[0], found[4096], found[8192]]);
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn long_write_is_torn_at_sectors_only() {
    let disk = disk();
    let file = disk.create(Path::new("/s/f"), 16 * 512, Allocate::Sparse).unwrap();
    file.write_at(&[7; 16 * 512], 0).unwrap();
    let mut torn = 0;
    for seed in 0..SEEDS {
        let found = content(&disk.power_cut(seed), "/s/f").unwrap();
        let sectors: HashSet<&[u8]> = found.chunks(512).collect();
        assert!(found.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        torn += usize::from(sectors.len() > 1);
    }
    assert!(torn > 20, "{torn}");
}

#[test]
fn older_version_of_a_sector_never_covers_a_newer_one_that_was_synced() {
    let disk = disk();
    let file = disk.create(Path::new("/s/f"), 512, Allocate::Sparse).unwrap();
    let mut seen = HashSet::new();
    file.write_at(&[1], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&[2], 0).unwrap();
    file.write_at(&[3], 0).unwrap();
    for seed in 0..SEEDS {
        seen.insert(content(&disk.power_cut(seed), "/s/f").unwrap()[0]);
    }
    assert_eq!(seen, HashSet::from([1, 2, 3]));
}

#[test]
fn growing_file_is_found_with_any_length_it_had() {
    let disk = disk();
    let file = disk.open(Path::new("/s/f"), OpenMode::WriteOrCreate).unwrap();
    disk.sync_dir(Path::new("/s")).unwrap();
    for end in 1..4u64 {
        file.write_at(&[9; 4096], (end - 1) * 4096).unwrap();
    }
    let lengths: HashSet<usize> = (0..SEEDS)
        .map(|seed| content(&disk.power_cut(seed), "/s/f").unwrap().len())
        .collect();
    assert_eq!(lengths, HashSet::from([0, 4096, 8192, 12_288]));
}

#[test]
fn what_was_cut_off_does_not_come_back_when_the_file_grows_again() {
    let disk = disk();
    let file = disk.open(Path::new("/s/f"), OpenMode::WriteOrCreate).unwrap();
    file.write_at(&[9; 100], 0).unwrap();
    file.set_len(10).unwrap();
    file.set_len(100).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/s")).unwrap();
    let expected: Vec<u8> = [vec![9; 10], vec![0; 90]].concat();
    assert_eq!(content(&disk, "/s/f").unwrap(), expected);
    assert_eq!(content(&disk.power_cut(3), "/s/f").unwrap(), expected);
}

#[test]
fn names_need_their_directory_synced() {
    let disk = disk();
    let file = disk.open(Path::new("/s/a"), OpenMode::WriteOrCreate).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    let there = |disk: &SimulatedDisk| (0..SEEDS).filter(|seed| content(&disk.power_cut(*seed), "/s/a").is_some()).count();
    assert!((1..SEEDS as usize).contains(&there(&disk)));
    disk.sync_dir(Path::new("/s")).unwrap();
    assert_eq!(there(&disk), SEEDS as usize);
    disk.remove_file(Path::new("/s/a")).unwrap();
    assert!((1..SEEDS as usize).contains(&there(&disk)));
    disk.sync_dir(Path::new("/s")).unwrap();
    assert_eq!(there(&disk), 0);
}

#[test]
fn replace_cut_at_every_call_leaves_old_or_new_content_reachable() {
    let path = Path::new("/s/c.json");
    let script = |disk: &SimulatedDisk| disk.replace(path, b"first").and_then(|()| disk.replace(path, b"second"));
    let whole = disk();
    let before = whole.calls();
    script(&whole).unwrap();
    for n in before + 1..=whole.calls() {
        let disk = disk();
        disk.cut_at(n);
        assert!(script(&disk).is_err());
        for seed in 0..40 {
            let found = disk.power_cut(seed);
            let main = content(&found, "/s/c.json");
            let bak = content(&found, "/s/c.json.bak");
            let first_was_done = n > before + (whole.calls() - before - 1) / 2;
            if let Some(content) = main.or(bak) {
                assert!(content == b"first" || content == b"second", "call {n}, seed {seed}: {content:?}");
            } else {
                assert!(!first_was_done, "call {n}, seed {seed}: lost; {:?}", disk.first_failure());
            }
        }
    }
}

#[test]
fn created_file_is_whole_or_not_there_at_every_cut() {
    let path = Path::new("/s/t/f");
    let script = |disk: &SimulatedDisk| {
        disk.create_dir_all(parent(path))
            .and_then(|()| disk.create(path, 4096, Allocate::Reserved))
    };
    let whole = disk();
    let before = whole.calls();
    script(&whole).unwrap();
    for n in before + 1..=whole.calls() {
        let disk = disk();
        disk.cut_at(n);
        assert!(script(&disk).is_err());
        assert!(disk.list(Path::new("/s")).is_err(), "a machine that is off answers nothing");
        for seed in 0..40 {
            if let Some(found) = content(&disk.power_cut(seed), "/s/t/f") {
                assert_eq!(found, vec![0; 4096], "call {n}, seed {seed}");
            }
        }
    }
    assert_eq!(content(&whole.power_cut(1), "/s/t/f").unwrap(), vec![0; 4096]);
}

#[test]
fn a_file_created_again_after_a_cut_is_whole_or_not_there() {
    let path = Path::new("/s/f");
    let mut was_left = 0;
    for (first, second) in (1..6).flat_map(|first| (1..6).map(move |second| (first, second))) {
        let disk = disk();
        disk.cut_at(disk.calls() + first);
        assert!(disk.create(path, 4096, Allocate::Sparse).is_err());
        for seed in 0..SEEDS {
            let found = disk.power_cut(seed);
            was_left += usize::from(content(&found, "/s/f.tmp").is_some());
            found.cut_at(found.calls() + second);
            let made = found.create(path, 4096, Allocate::Sparse);
            for seed in 0..20 {
                let found = content(&found.power_cut(seed), "/s/f");
                let is_whole = found.as_ref().is_some_and(|found| *found == vec![0; 4096]);
                assert!(
                    is_whole || (found.is_none() && made.is_err()),
                    "cuts {first} and {second}: {found:?}"
                );
            }
        }
    }
    assert!(was_left > 0);
}

#[test]
fn fault_comes_at_its_call_once_or_for_ever() {
    let disk = disk();
    let file = disk.open(Path::new("/s/a"), OpenMode::WriteOrCreate).unwrap();
    disk.fail_at(disk.calls() + 2, Fault::NoSpace, Lasts::Once);
    file.write_at(b"1", 0).unwrap();
    assert_eq!(file.write_at(b"2", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(b"3", 0).unwrap();
    disk.fail_at(disk.calls() + 1, Fault::Broken, Lasts::ForEver);
    assert!(file.write_at(b"4", 0).is_err());
    assert!(file.sync_data().is_err());
    let mut read = [0];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), 1, "reads go on");
    disk.heal();
    file.write_at(b"5", 0).unwrap();
}

#[test]
fn sync_after_a_failed_sync_does_not_make_the_lost_write_durable() {
    let disk = disk();
    let file = disk.create(Path::new("/s/f"), 1, Allocate::Sparse).unwrap();
    file.write_at(b"x", 0).unwrap();
    disk.fail_at(disk.calls() + 1, Fault::Broken, Lasts::Once);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "/s/f").unwrap(), b"x");
    assert!((0..SEEDS).all(|seed| content(&disk.power_cut(seed), "/s/f").unwrap() == [0]));
}

#[test]
fn killed_process_loses_nothing_and_its_unsynced_writes_stay_unsynced() {
    let disk = disk();
    let file = disk.open(Path::new("/s/a"), OpenMode::WriteOrCreate).unwrap();
    file.write_at(b"x", 0).unwrap();
    let next = disk.process_killed();
    assert_eq!(content(&next, "/s/a").unwrap(), b"x");
    assert!((0..SEEDS).any(|seed| content(&next.power_cut(seed), "/s/a").is_none()));
}

#[test]
fn evicted_file_is_not_read_from_the_cache() {
    let disk = disk();
    let file = disk.create(Path::new("/s/f"), 8, Allocate::Sparse).unwrap();
    let mut out = [0; 8];
    assert_eq!(file.read_cached_at(&mut out, 0).unwrap(), 8);
    disk.evict();
    assert_eq!(file.read_cached_at(&mut out, 0).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(file.read_at(&mut out, 4).unwrap(), 4);
    assert_eq!(file.read_cached_at(&mut out, 0).unwrap(), 8);
}

#[test]
fn same_seed_finds_the_same_disk() {
    let disk = disk();
    let file = disk.create(Path::new("/s/f"), 100_000, Allocate::Sparse).unwrap();
    file.write_at(&[1; 100_000], 0).unwrap();
    for seed in 0..20 {
        assert_eq!(content(&disk.power_cut(seed), "/s/f"), content(&disk.power_cut(seed), "/s/f"));
    }
}
