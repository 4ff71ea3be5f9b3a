//! `apogeemq store` from the outside: exit codes, both formats, no changes, directories of a Java broker.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::apogeemq;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A directory of a Java broker, and a file with its sizes.
fn golden() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/golden/clean");
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    copy(&from, &data);
    let conf = dir.path().join("broker.conf");
    std::fs::write(&conf, "mappedFileSizeConsumeQueue=1200\nmaxHashSlotNum=1000\nmaxIndexNum=1000\n").unwrap();
    (dir, data, conf)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn tree(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            files.extend(tree(&entry.path()));
        } else {
            let modified = entry.metadata().unwrap().modified().unwrap();
            files.insert(entry.path(), (std::fs::read(entry.path()).unwrap(), modified));
        }
    }
    files
}

fn store(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = apogeemq(Path::new(".")).arg("store").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_directory_of_a_java_broker_has_no_damage_and_is_not_changed() {
    let (_dir, data, conf) = golden();
    let before = tree(&data);
    let (data, conf) = (data.to_str().unwrap(), conf.to_str().unwrap());
    // Its index has fewer slots than our broker accepts, so it is omitted.
    std::fs::write(conf, "mappedFileSizeConsumeQueue=1200\nmessageIndexEnable=false\n").unwrap();
    let (code, text, told) = store(&["check", data, "-c", conf]);
    assert_eq!((code, told.as_str()), (0, ""), "{text}");
    assert!(text.contains("No damage."), "{text}");
    let (code, json, _) = store(&["check", data, "-c", conf, "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, report["damaged"].as_bool()), (0, Some(false)));
    assert_eq!(report["log"]["records"], report["queues"]["entries"]);
    assert_eq!(tree(Path::new(data)), before);
}

#[test]
fn damage_is_reported_and_sets_the_exit_code() {
    let (_dir, data, conf) = golden();
    std::fs::write(&conf, "mappedFileSizeConsumeQueue=1200\nmessageIndexEnable=false\n").unwrap();
    let queue = data.join("consumequeue/golden-a/0").join(format!("{:020}", 0));
    let mut bytes = std::fs::read(&queue).unwrap();
    bytes[11] ^= 1;
    std::fs::write(&queue, bytes).unwrap();
    let (code, text, _) = store(&["check", data.to_str().unwrap(), "-c", conf.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(
        text.contains("DAMAGE: 1 entries that differ from their records\n    golden-a/0 offset 0 names"),
        "{text}"
    );
}

#[test]
fn a_directory_that_cannot_be_checked_is_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text, told) = store(&["check", dir.path().to_str().unwrap()]);
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(told.contains("is no store"), "{told}");
    assert_eq!(store(&["dump", "log", "/no/such/directory"]).0, 2);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn items_are_printed_up_to_the_limit() {
    let (_dir, data, _) = golden();
    let before = tree(&data);
    std::fs::create_dir(data.join("config")).unwrap();
    std::fs::write(data.join("config/consumerOffset.json"), "{\"offsetTable\":{\"t@g\":{0:5}}}").unwrap();
    let path = data.to_str().unwrap();
    let lines = |arguments: &[&str]| {
        let (code, text, told) = store(arguments);
        assert_eq!((code, told.as_str()), (0, ""), "{arguments:?}");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let log = lines(&["dump", "log", path, "--limit", "3", "-o", "json", "--body", "20"]);
    assert_eq!(log.len(), 3);
    let first: serde_json::Value = serde_json::from_str(&log[0]).unwrap();
    assert_eq!((first["log_offset"].as_i64(), first["queue_offset"].as_i64()), (Some(0), Some(0)));
    let from = first["bytes"].to_string();
    assert!(lines(&["dump", "log", path, "--from", &from, "-l", "1"])[0].starts_with(&format!("{from} ")));
    let queue = lines(&["dump", "queue", path, "golden-a", "0", "--from", "2", "-l", "2"]);
    assert!(queue.len() == 2 && queue[0].starts_with("2 at "), "{queue:?}");
    assert_eq!(lines(&["dump", "config", path]), ["consumerOffset.json offsetTable t@g {\"0\":5}"]);
    assert!(lines(&["dump", "checkpoint", path, "-o", "json"])[0].contains("\"dispatched\":null"));
    let (code, _, told) = store(&["dump", "index", path]);
    assert!(code == 2 && told.contains("maxHashSlotNum"), "{told}");
    std::fs::remove_dir_all(data.join("config")).unwrap();
    assert_eq!(tree(&data), before);
}
