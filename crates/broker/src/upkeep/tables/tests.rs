//! Tests of every table with damaged files.

use super::*;
use crate::assignment::Modes;
use crate::delay::DelayOffsets;
use crate::filter::Filters;
use crate::filter::bloom::Bloom;
use crate::filter::table::FiltersFile;
use crate::group::Groups;
use crate::offset::Offsets;
use crate::pop::order_table::{OrdersFile, Valid};
use crate::state_file::{NAMES, StateFile, Versioned};
use crate::static_topic::table::Mappings;
use crate::stats::BrokerStats;
use crate::timer::counts::CountsFile;
use crate::topic::{Spec, StaticUpdate, TopicLimits, Topics};
use crate::transaction::table::TransactionsFile;
use proptest::prelude::*;
use protocol::assignment::GroupRequestMode;
use protocol::static_topic::QueueMappingDetail;
use std::path::{Path, PathBuf};
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};

const ROOT: &str = "/s";

/// The tables of a broker with one entry each.
struct World {
    topics: Arc<Topics>,
    groups: Groups,
    offsets: Offsets,
    delays: DelayOffsets,
    modes: Modes,
    transactions: TransactionsFile,
    filters: Arc<Filters>,
    timers: Arc<CountsFile>,
    orders: OrdersFile,
}

/// A group's subscription by an SQL filter.
fn by_sql() -> protocol::heartbeat::Subscription {
    protocol::heartbeat::Subscription {
        topic: "t".to_owned(),
        sub_string: "a > 5".to_owned(),
        sub_version: 1,
        expression_type: "SQL92".to_owned(),
        ..Default::default()
    }
}

/// The file of transactions, for a broker without any.
fn transactions(file: StateFile) -> TransactionsFile {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
    let (store, _) = store::Store::open(disk, store::StoreOptions::small("/other", store::FlushMode::Async)).unwrap();
    TransactionsFile::new(file, store, Arc::new(Offsets::new(Default::default())), std::time::Duration::MAX)
}

fn timers(file: StateFile) -> Arc<CountsFile> {
    CountsFile::new(file, std::time::Duration::MAX)
}

fn orders(file: StateFile) -> OrdersFile {
    OrdersFile::new(file, std::time::Duration::MAX, Valid::Whole)
}

impl World {
    fn new() -> Self {
        let limits = TopicLimits { topics: 10, queues: 64 };
        Self {
            topics: Arc::new(Topics::new(
                vec![Spec::new("s", 1)],
                limits,
                Arc::new(BrokerStats::new("c", 100)),
                Arc::default(),
                0,
            )),
            groups: Groups::new(Default::default(), Arc::default(), 0),
            offsets: Offsets::new(Default::default()),
            delays: DelayOffsets::new(0),
            modes: Modes::new(Arc::default()),
            transactions: transactions(StateFile::new(Arc::new(SimulatedDisk::new(1)), Path::new(ROOT), TABLES[3], &[])),
            filters: Arc::default(),
            timers: timers(StateFile::new(Arc::new(SimulatedDisk::new(1)), Path::new(ROOT), TABLES[7], &[])),
            orders: orders(StateFile::new(Arc::new(SimulatedDisk::new(1)), Path::new(ROOT), TABLES[8], &[])),
        }
    }

    fn load(disk: &SimulatedDisk, without: &[&str]) -> io::Result<Self> {
        let mut world = Self::new();
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let without: Vec<_> = without.iter().map(|name| (*name).to_owned()).collect();
        let file = |table: Table| StateFile::new(Arc::clone(&disk), Path::new(ROOT), table, &without);
        crate::topic::table::load(&world.topics, &file(TABLES[0]))?;
        crate::group::table::load(&world.groups, &file(TABLES[1]))?;
        crate::assignment::table::load(&world.modes, &file(TABLES[2]))?;
        world.transactions = transactions(file(TABLES[3]));
        world.transactions.load()?;
        crate::offset::table::load(&world.offsets, &file(TABLES[4]))?;
        crate::delay::table::load(&world.delays, &file(TABLES[5]))?;
        FiltersFile::new(world.filters.clone(), file(TABLES[6]), Bloom::new(20, 32), 0).load()?;
        world.timers = timers(file(TABLES[7]));
        world.timers.load()?;
        world.orders = orders(file(TABLES[8]));
        world.orders.load()?;
        Mappings(world.topics.clone()).load(&file(TABLES[9]))?;
        Ok(world)
    }

    /// File names of the tables that have their entry.
    fn has(&self) -> Vec<&'static str> {
        let has = [
            self.topics.contains("t"),
            self.groups.contains("g"),
            self.modes.all().0.message_request_mode_map.contains_key("t"),
            self.transactions.marked_until().is_some(),
            self.offsets.committed("t", "g", 0).is_some(),
            self.delays.of(1) == Some(3),
            self.filters.find("g", "t").is_some(),
            self.timers.count_of("t") == 5,
            self.orders.queues() == 1,
            self.topics.mapping("s").is_some(),
        ];
        let names = TABLES.iter().map(|table| table.name);
        names.zip(has).filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }
}

/// A directory with all tables, each saved twice.
fn saved() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let world = World::new();
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let file = |table| StateFile::new(Arc::clone(&on), Path::new(ROOT), table, &[]);
    world.topics.update(vec![(Spec::new("t", 4), Default::default())], 1).unwrap();
    let mapped = StaticUpdate {
        spec: Spec::new("s", 1),
        changes: Default::default(),
        mapping: QueueMappingDetail::new("s", 1, "b", 1),
        broker: "b",
        force: false,
    };
    world.topics.update_static(mapped, 1).unwrap();
    world.groups.find_or_create("g", true, 1).unwrap();
    world
        .modes
        .set(GroupRequestMode {
            consumer_group: "g".to_owned(),
            topic: "t".to_owned(),
            ..GroupRequestMode::default()
        })
        .unwrap();
    world.delays.set(1, 3);
    world.filters.register("g", &[by_sql()], 1);
    for offset in [4, 5] {
        file(crate::topic::table::TABLE).save(&world.topics.content().1).unwrap();
        file(crate::group::table::TABLE).save(&world.groups.content().1).unwrap();
        file(crate::assignment::table::TABLE).save(&world.modes.content().1).unwrap();
        world.offsets.commit("t", "g", 0, offset).unwrap();
        crate::offset::table::save_if_dirty(&world.offsets, &file(crate::offset::table::TABLE), 1).unwrap();
        let text = crate::delay::table::text(world.delays.all(), crate::offset::table::Layout::File);
        file(crate::delay::table::TABLE).save(text.as_bytes()).unwrap();
        let text = format!(r#"{{"apogeeMarkedUntil":{offset},"transactionCount":{{}}}}"#);
        file(crate::transaction::table::TABLE).save(text.as_bytes()).unwrap();
        let text = format!(r#"{{"table":{{"t@g":{{0:{{"cm":0,"i":9,"l":{offset},"o":[{offset}],"popTime":1}}}}}}}}"#);
        file(crate::pop::order_table::TABLE).save(text.as_bytes()).unwrap();
        // Each file object has saved nothing yet.
        FiltersFile::new(world.filters.clone(), file(crate::filter::table::TABLE), Bloom::new(20, 32), 0)
            .save()
            .unwrap();
        let mappings = Mappings(world.topics.clone());
        file(mapping_table::TABLE).save(&mappings.content().1).unwrap();
        let counts = timers(file(crate::timer::counts::TABLE));
        counts.count("t", 5);
        counts.save().unwrap();
    }
    disk
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join("config").join(name)
}

fn put(disk: &SimulatedDisk, name: &str, content: &[u8]) {
    let file = disk.open(&path(name), OpenMode::WriteOrCreate).unwrap();
    file.set_len(0).unwrap();
    file.write_at(content, 0).unwrap();
}

/// All damages of damage after which the content is not a table.
fn damages(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("empty", Vec::new()),
        ("NUL", vec![0; 120]),
        ("NUL of the same length", vec![0; whole.len()]),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("cut by one byte", whole[..whole.len() - 1].to_vec()),
        ("end overwritten with NUL", [&whole[..whole.len() - 8], &[0; 8]].concat()),
        ("cut, and NUL after it", [&whole[..whole.len() - 1], &[0; 64]].concat()),
        ("blanks", b" \n\t".to_vec()),
        ("text", b"not a table".to_vec()),
        ("another shape", b"[1,2]".to_vec()),
        ("an empty list", b"[]".to_vec()),
        ("not UTF-8", vec![0xff; 40]),
    ]
}

fn all() -> Vec<&'static str> {
    TABLES.iter().map(|table| table.name).collect()
}

#[test]
fn every_table_is_loaded_even_with_nul_bytes_after_it() {
    assert_eq!(World::load(&saved(), &[]).unwrap().has(), all());
    let disk = saved();
    for name in all() {
        let whole = disk.read(&path(name)).unwrap();
        put(&disk, name, &[&whole[..], &[0; 64]].concat());
    }
    assert_eq!(World::load(&disk, &[]).unwrap().has(), all());
    assert!(!disk.exists(&path("topics.json.bad")).unwrap());
}

#[test]
fn a_damaged_file_is_replaced_by_its_backup() {
    for table in &TABLES {
        let whole = saved().read(&path(table.name)).unwrap();
        for (kind, content) in damages(&whole) {
            let disk = saved();
            put(&disk, table.name, &content);
            assert_eq!(World::load(&disk, &[]).unwrap().has(), all(), "{} {kind}", table.name);
            let renamed = disk.read(&path(&format!("{}.bad", table.name))).unwrap();
            assert_eq!(renamed, content, "{} {kind}", table.name);
        }
    }
}

#[test]
fn a_damaged_table_is_rebuilt_or_the_start_fails_with_the_remedy() {
    for table in &TABLES {
        let whole = saved().read(&path(table.name)).unwrap();
        for (kind, content) in damages(&whole) {
            let disk = saved();
            put(&disk, table.name, &content);
            put(&disk, &format!("{}.bak", table.name), &content);
            let loaded = World::load(&disk, &[]);
            let without: Vec<_> = all().into_iter().filter(|name| *name != table.name).collect();
            if table.is_made_again {
                assert_eq!(loaded.unwrap().has(), without, "{} {kind}", table.name);
                continue;
            }
            let Some(error) = loaded.err() else {
                panic!("{} {kind}", table.name)
            };
            let text = error.to_string();
            let flag = format!("--start-without {}", table.name);
            for expected in [path(table.name).to_str().unwrap(), table.holds, table.without, ".bak", &flag] {
                assert!(text.contains(expected), "{kind}: {expected} in {text}");
            }
            assert_eq!(
                disk.read(&path(table.name)).unwrap(),
                content,
                "{} {kind}: no file is changed",
                table.name
            );
            let others: Vec<_> = without.clone();
            assert!(
                World::load(&disk, &others).is_err(),
                "{} {kind}: the flag names another file",
                table.name
            );
            assert_eq!(World::load(&disk, &[table.name]).unwrap().has(), without, "{} {kind}", table.name);
            let renamed = disk.read(&path(&format!("{}.bad", table.name))).unwrap();
            assert_eq!(renamed, content, "{} {kind}", table.name);
            assert_eq!(
                World::load(&disk, &[]).unwrap().has(),
                without,
                "{} {kind}: the file is a new table",
                table.name
            );
        }
    }
}

#[test]
fn the_flag_keeps_a_file_that_can_be_read() {
    assert_eq!(World::load(&saved(), &all()).unwrap().has(), all());
    assert_eq!(World::load(&SimulatedDisk::new(1), &all()).unwrap().has(), Vec::<&str>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A truncated file is refused or replaced; it is never loaded as a partial table.
    #[test]
    fn a_truncated_file_is_never_loaded_partially(which in 0..TABLES.len(), cut in 0.0..1.0f64, nul in any::<bool>()) {
        let name = TABLES[which].name;
        let disk = saved();
        let whole = disk.read(&path(name)).unwrap();
        let mut content = whole[..(whole.len() as f64 * cut) as usize].to_vec();
        if nul {
            content.resize(whole.len(), 0);
        }
        put(&disk, name, &content);
        put(&disk, &format!("{name}.bak"), &content);
        match World::load(&disk, &[]) {
            Ok(world) => prop_assert!(TABLES[which].is_made_again && !world.has().contains(&name)),
            Err(error) => {
                let flag = format!("--start-without {name}");
                prop_assert!(error.to_string().contains(&flag));
            }
        }
    }
}

#[test]
fn all_tables_are_known_by_name() {
    assert_eq!(TABLES.map(|table| table.name), NAMES);
}
