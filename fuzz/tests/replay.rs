//! The corpus of each target, and some changes of it: what `cargo test` can afford of a long run.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fuzz::TARGETS;
use fuzz::run::{corpus, random, replay};
use std::time::{Duration, Instant};

/// For all targets together about ten times as much, in a build without optimisation.
const TIME: Duration = Duration::from_millis(800);
const INPUTS: u64 = 3_000;

#[test]
fn no_target_fails_on_its_corpus_or_on_changes_of_it() {
    for target in TARGETS {
        let seeds = corpus(target).unwrap();
        assert!(seeds.len() > 3, "{}: {} good inputs", target.name, seeds.len());
        replay(target, &seeds).unwrap_or_else(|failed| panic!("{failed:?}"));
        let begun = Instant::now();
        random(target, &seeds, 7, |count| count < INPUTS && begun.elapsed() < TIME).unwrap_or_else(|failed| panic!("{failed:?}"));
    }
}
