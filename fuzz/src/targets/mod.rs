//! The targets, one file each.

pub mod body;
pub mod config;
pub mod controller;
pub mod directory;
pub mod frame;
pub mod grpc;
pub mod header;
pub mod properties;
pub mod record;
pub mod register;
pub mod sql;

use std::path::{Path, PathBuf};

/// The files of another crate's tests whose names end so; none in a build without the sources.
fn recorded(dir: &str, ending: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(dir);
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // The same order on every machine: a seed then means the same inputs.
    paths.sort();
    let named = paths.into_iter().filter(|path| path.to_string_lossy().ends_with(ending));
    named.filter_map(|path| std::fs::read(path).ok()).collect()
}
