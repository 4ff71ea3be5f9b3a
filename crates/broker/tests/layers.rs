//! The order of the crate's folders: each imports from those below it only.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

/// From the bottom up. What is added stands above all that it imports.
const LAYERS: &[&[&str]] = &[
    // What everything is made with.
    &[
        "arrival",
        "testing",
        "clock",
        "sync",
        "signal",
        "errors",
        "reply",
        "local_time",
        "attributes",
        "filter",
        "queues",
        "state_file",
        "feature",
        "schedule",
    ],
    &["settings"],
    &["store_options"],
    // Nouns.
    &["stats"],
    &["topic"],
    &["group"],
    &["assignment"],
    &["clients"],
    &["lock"],
    &["offset"],
    // What verbs are made with.
    &["hold", "readers", "destination", "log_writer", "unserved", "watch"],
    &["core"],
    // Verbs.
    &["delay"],
    &["retry", "transaction"],
    &["request_reply", "pull", "query", "registration"],
    &["send", "admin"],
    // What goes on by itself, and the composition.
    &["upkeep"],
    &["inspect", "routes"],
    &["start"],
];

fn layer_of(folder: &str) -> usize {
    let at = LAYERS.iter().position(|layer| layer.contains(&folder));
    at.unwrap_or_else(|| panic!("{folder} has no layer: give it one in this test"))
}

/// The code of a file without its tests, which may import what they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
}

fn look(path: &Path, folder: &str, upwards: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            look(&entry.unwrap().path(), folder, upwards);
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
fn no_folder_imports_from_above_itself() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upwards = Vec::new();
    for entry in fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let folder = path.file_stem().unwrap().to_string_lossy().into_owned();
        if folder != "lib" {
            look(&path, &folder, &mut upwards);
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}
