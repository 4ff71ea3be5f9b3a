//! Random bytes for everything that reads bytes of a network, a client or a disk.
//!
//! A target is a function of bytes that must neither panic nor take long, whatever they are; where what was read can be written, it must be
//! read back as the same. Its corpus are good inputs: those recorded from Apache's classes for the tests of `protocol` and `store`, and
//! what an earlier run found (`fuzz/corpus/TARGET`). `cargo test -p fuzz` replays the corpus and a few thousand changes of it; a long run is
//!
//! ```text
//! cargo run --release -p fuzz -- TARGET|all --seconds N [--seed S]
//! ```
//!
//! Inputs are the corpus changed at random from a seed ([`mutate`]), without feedback from coverage: the toolchain this project is built
//! with is a stable one. The same functions can be given to a fuzzer that has it.
//!
//! Not here: servers and sockets, SQL filters and JSON that nobody reads.

pub mod mutate;
pub mod run;
pub mod targets;

/// Something that reads bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line and of its corpus.
    pub name: &'static str,
    /// Reads; must not panic.
    pub run: fn(&[u8]),
    /// Good inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::frame::TARGET,
    targets::header::TARGET,
    targets::body::TARGET,
    targets::register::TARGET,
    targets::record::TARGET,
    targets::properties::TARGET,
    targets::config::TARGET,
    targets::directory::TARGET,
];
