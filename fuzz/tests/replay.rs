//! Each target on its seeds and on what was found: a failure that was fixed does not come back.
#![allow(missing_docs, clippy::unwrap_used)]

use fuzz::{TARGETS, Target};

/// Says which input it was when a target panics.
struct Running<'a>(&'a Target, &'a str);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} fails on {}", self.0.name, self.1);
        }
    }
}

#[test]
fn no_target_fails_on_its_corpus() {
    for target in TARGETS {
        let (seeds, found) = ((target.seeds)(), target.found().unwrap());
        assert!(seeds.len() > 3, "{}: {} good inputs", target.name, seeds.len());
        assert!(!found.is_empty(), "{}: nothing found", target.name);
        let seeds = seeds.into_iter().enumerate().map(|(number, seed)| (format!("seed {number}"), seed));
        for (name, input) in seeds.chain(found) {
            let running = Running(target, &name);
            (target.run)(&input);
            drop(running);
        }
    }
}
