//! The files in `config` of a data directory.

use super::recorded;
use crate::Target;
use broker::inspect::{ConfigFiles, entries};
use std::path::Path;
use store::disk::simulated::SimulatedDisk;
use store::disk::{Disk, OpenMode};

/// See the module.
pub const TARGET: Target = Target {
    name: "config",
    run,
    seeds,
};

const ROOT: &str = "/s";
const NAMES: [&str; 6] = [
    "topics.json",
    "subscriptionGroup.json",
    "consumerOffset.json",
    "delayOffset.json",
    "topics.json.bak",
    "consumerOffset.json.bak",
];

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = recorded("protocol/tests/golden", ".json");
    seeds.push(b"{\"offsetTable\":{\"t@g\":{0:5,1:9}},\"dataVersion\":{\"counter\":1}}".to_vec());
    seeds
}

/// The same bytes as every file: what one of them is, another must stand.
fn run(data: &[u8]) {
    let disk = SimulatedDisk::new(1);
    let config = Path::new(ROOT).join("config");
    let made = disk.create_dir_all(&config).and_then(|()| {
        NAMES
            .iter()
            .try_for_each(|name| disk.open(&config.join(name), OpenMode::WriteOrCreate)?.write_at(data, 0))
    });
    assert!(made.is_ok());
    assert!(ConfigFiles::read(&disk, Path::new(ROOT)).is_ok());
    let _ = entries(&disk, Path::new(ROOT), None, &mut |_| true);
    let _ = broker::offset::table::parse(data);
}
