//! `apogeemq bench`: the seam for the load generator.

use crate::failure::Failure;

/// What is measured, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the load and prints what was measured.
pub(crate) fn run(_arguments: Arguments) -> Result<(), Failure> {
    Err(Failure::new("bench is not there yet"))
}
