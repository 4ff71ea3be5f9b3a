//! `apogeemq store`: a data directory looked at without starting anything.
//!
//! ```text
//! check   everything in it against everything else, and a report
//! dump    its records, queue entries, index items, configuration entries, checkpoint
//! ```
//!
//! Both only read, also where a broker is running, and take directories of Apache's. What is compared and how is in the crates `store`
//! and `broker` (their modules `inspect`); here are the words for it.

mod arguments;
mod check;
mod dump;

pub(crate) use arguments::Arguments;

use std::io::{self, Write};
use std::process::ExitCode;

use ::store::inspect::InspectOptions;
use arguments::{Place, Verb};

use crate::configuration;
use crate::failure::Failure;

/// Exit code when nothing can be said about a directory.
const CANNOT_LOOK: u8 = 2;

/// Runs the command; the exit code says what was found.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let done = match arguments.verb {
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Dump(arguments) => dump::run(&arguments.what).map(|()| ExitCode::SUCCESS),
    };
    done.map_err(|failure| failure.exit_code(CANNOT_LOOK))
}

fn options(place: &Place, check_crc: bool) -> Result<InspectOptions, Failure> {
    let settings = configuration::of_directory(&place.directory, place.config.as_deref(), configuration::environment())?;
    let of_broker = InspectOptions::of(&broker::store_options(&settings));
    Ok(InspectOptions {
        log_dir: place.commitlog.clone().unwrap_or(of_broker.log_dir),
        check_crc,
        ..of_broker
    })
}

/// Writes to stdout. Whether somebody still reads it: whoever had enough, as `| head` does, is no error.
fn print(text: &str) -> Result<bool, Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).map_err(Failure::new),
    }
}
