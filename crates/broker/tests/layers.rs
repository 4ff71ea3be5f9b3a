//! The layers of the crate's modules: each imports only from lower layers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

/// From bottom to top. A new module goes above all that it imports.
const LAYERS: &[&[&str]] = &[
    // Basics.
    &[
        "arrival",
        "testing",
        "clock",
        "sync",
        "signal",
        "errors",
        "reply",
        "local_time",
        "place",
        "role",
        "keyed_hash",
        "logical_queue",
        "attributes",
        "filter",
        "queues",
        "state_file",
        "feature",
        "schedule",
    ],
    &["settings"],
    &["store_options"],
    // Features that only hold state.
    &["stats"],
    &["topic"],
    &["group"],
    &["clients"],
    &["assignment"],
    &["lock"],
    &["offset"],
    // Infrastructure of the requests.
    &["peers"],
    &["escape"],
    &["hold", "asker", "readers", "records", "alarm", "log_writer", "watch"],
    &["core"],
    // Requests.
    &["dedup", "delay", "timer"],
    &["destination"],
    &["retry", "transaction"],
    &["request_reply", "pull", "query", "registration", "static_topic"],
    &["replication"],
    &["pop"],
    &["acting"],
    &["send", "admin", "lite"],
    // Background work, and the composition.
    &["upkeep"],
    &["inspect", "operations", "routes"],
    &["start"],
    &["controlled"],
];

fn layer_of(folder: &str) -> usize {
    let at = LAYERS.iter().position(|layer| layer.contains(&folder));
    at.unwrap_or_else(|| panic!("{folder} has no layer: give it one in this test"))
}

/// The code of a file without its tests, which may import any module.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
}

fn find_upward_imports(path: &Path, folder: &str, upwards: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            find_upward_imports(&entry.unwrap().path(), folder, upwards);
        }
        return;
    }
    if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("tests.rs") {
        return;
    }
    let code = code(path);
    let imports = code
        .lines()
        .filter_map(|line| line.trim_start().trim_start_matches("pub ").strip_prefix("use crate::"));
    for import in imports {
        let names = match import.strip_prefix('{') {
            Some(list) => list.split(['}', ',']).map(str::trim).collect(),
            None => vec![import.split([':', ';']).next().unwrap()],
        };
        for of in names.into_iter().filter(|of| !of.is_empty() && *of != ";" && *of != folder) {
            if layer_of(of) > layer_of(folder) {
                upwards.push(format!("{} imports {of}", path.display()));
            }
        }
    }
}

#[test]
fn no_module_imports_from_a_higher_layer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upwards = Vec::new();
    for entry in fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let folder = path.file_stem().unwrap().to_string_lossy().into_owned();
        if folder != "lib" {
            find_upward_imports(&path, &folder, &mut upwards);
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}
