//! The files of a controller: its log and its snapshot.
//!
//! Input: what the rest is (1 byte): 0 a log's file, 1 the contents of a log's frames, one a line, 2 a snapshot's file beside a good log,
//! 3 a snapshot's content beside it. A start may refuse; it must not panic, and what it opens is the same after the next start.

use crate::Target;
use controller::fuzzed::{good, log_of, open, snapshot_of};

/// See the module.
pub const TARGET: Target = Target {
    name: "controller",
    run,
    seeds,
};

fn good_log() -> Vec<u8> {
    log_of(good().0.iter().map(Vec::as_slice))
}

fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => open(rest, None),
        1 => open(&log_of(rest.split(|byte| *byte == b'\n')), None),
        2 => open(&good_log(), Some(rest)),
        _ => open(&good_log(), Some(&snapshot_of(rest))),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let (contents, snapshot) = good();
    let input = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
    let mut seeds = vec![
        input(0, &good_log()),
        input(1, &contents.join(&b'\n')),
        input(2, &snapshot_of(&snapshot)),
        input(3, &snapshot),
    ];
    // Fewer frames, for shorter inputs.
    seeds.extend((1..contents.len()).map(|count| input(1, &contents[..count].join(&b'\n'))));
    seeds
}
