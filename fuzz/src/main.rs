//! libFuzzer on one target: the one that `FUZZ_TARGET` names. Its arguments are libFuzzer's (`-help=1`); `fuzz/run` knows the right ones.
//!
//! Before it begins it writes the target's seeds into the directory `FUZZ_SEEDS`, which is then given to it as a corpus.
#![no_main]
#![allow(clippy::panic)] // This is a test: it ends with what it was asked wrongly, or with what it found.

use fuzz::{TARGETS, Target};
use std::path::Path;
use std::sync::OnceLock;

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        (target.run)(data);
    }
});

fn choose() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = Target::named(&name) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        panic!("FUZZ_TARGET={name}: it can be {}", names.join(", "));
    };
    if let Some(dir) = std::env::var_os("FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = Path::new(&dir).join(format!("{number:05}"));
            if let Err(error) = std::fs::write(&path, seed) {
                panic!("{}: {error}", path.display());
            }
        }
    }
    let _ = CHOSEN.set(target);
}
