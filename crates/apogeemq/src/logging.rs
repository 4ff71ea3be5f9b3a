//! Structured log lines on stderr; quiet unless asked.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::failure::Failure;

/// What is logged when nobody says otherwise.
const DEFAULT: &str = "warn";

/// Installs the log for the whole process.
pub(crate) fn install(levels: Option<&str>) -> Result<(), Failure> {
    let targets = parse(levels.unwrap_or(DEFAULT))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .try_init()
        .map_err(Failure::new)
}

fn parse(levels: &str) -> Result<Targets, Failure> {
    levels.parse().map_err(|_| {
        Failure::new(format!("--log {levels} is refused"))
            .advice("Allowed is off, error, warn, info, debug or trace, or a list such as warn,broker=debug")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_taken_and_anything_else_is_refused() {
        assert!(parse("info").is_ok() && parse("warn,broker=debug").is_ok() && parse("off").is_ok());
        assert!(parse("broker=loud").is_err());
    }
}
