//! Fuzz targets for everything that reads bytes of a network, a client or a disk.
//!
//! A target is a function of bytes that must neither panic nor take long, whatever they are; where what was read can be written, it must be
//! read back as the same. Its corpus are good inputs, recorded from Apache's classes for the tests of `protocol` and `store`, and
//! what libFuzzer found beyond them (`fuzz/corpus/TARGET.tar.gz`: the fewest inputs that reach all the code that was reached).
//! `cargo test -p fuzz` replays the corpus; `fuzz/run TARGET SECONDS` looks for more, guided by coverage.
//!
//! Not here: servers and sockets, and JSON that nobody reads.

use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub mod targets;

/// Something that reads bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line and of its corpus.
    pub name: &'static str,
    /// Reads; must not panic.
    pub run: fn(&[u8]),
    /// Good inputs that need not be found.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl Target {
    /// The target of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// The inputs that were found and kept in the tree, by name.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn found(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{}.tar.gz", self.name));
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(path)?));
        let input = |entry: io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Ok((entry.path()?.display().to_string(), bytes))
        };
        archive.entries()?.map(input).collect()
    }
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
    targets::sql::TARGET,
    targets::grpc::TARGET,
    targets::controller::TARGET,
];
