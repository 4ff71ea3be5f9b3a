//! `apogeemq store`: examines a data directory without starting a broker.
//!
//! ```text
//! check         compares all parts with each other and prints a report
//! dump          prints records, queue entries, index items, timers, configuration entries, the checkpoint
//! export-light  writes light queues as a Java broker keeps them
//! ```
//!
//! The first two only read, also beside a running broker, and accept directories of Apache's. The comparisons are in the crates `store`
//! and `broker` (their modules `inspect`); this module prints them.

mod arguments;
mod check;
mod dump;

pub(crate) use arguments::Arguments;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use ::store::Store;
use ::store::disk::real::RealDisk;
use ::store::inspect::InspectOptions;
use arguments::{ExportLightArguments, Place, Verb};

use crate::configuration;
use crate::failure::Failure;

/// Exit code if a directory cannot be examined.
const CANNOT_EXAMINE: u8 = 2;

/// Runs the command. The exit code is the result.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let done = match arguments.verb {
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Dump(arguments) => dump::run(&arguments.what).map(|()| ExitCode::SUCCESS),
        Verb::ExportLight(arguments) => export_light(&arguments).map(|()| ExitCode::SUCCESS),
    };
    done.map_err(|failure| failure.exit_code(CANNOT_EXAMINE))
}

/// Opens the store as a broker does, closes it, and writes its light queues as a Java broker keeps them.
fn export_light(arguments: &ExportLightArguments) -> Result<(), Failure> {
    let (directory, config) = (&arguments.directory, arguments.config.as_deref());
    let settings = configuration::of_directory(directory, config, configuration::environment())?;
    if !settings.has_light_queues() {
        return Err(Failure::new(
            "light queues are disabled: set enableLmq=true and enableMultiDispatch=true in the file of -c",
        ));
    }
    let opened = Store::open(Arc::new(RealDisk), broker::store_options(&settings));
    let (store, _) = opened.map_err(Failure::new)?;
    let count = store.export_light_queues().map_err(Failure::new)?;
    print(&format!("{count} light queues are in {}/consumequeue now\n", directory.display())).map(drop)
}

fn options(place: &Place, check_crc: bool) -> Result<InspectOptions, Failure> {
    let settings = configuration::of_directory(&place.directory, place.config.as_deref(), configuration::environment())?;
    let of_broker = InspectOptions::of(&broker::store_options(&settings));
    Ok(InspectOptions {
        log_dir: place.commitlog.clone().unwrap_or(of_broker.log_dir),
        check_crc,
        timer: broker::timer_options(&settings),
        ..of_broker
    })
}

/// Writes to stdout. Returns false if the reader has ended, such as `| head`, which is not an error.
fn print(text: &str) -> Result<bool, Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).map_err(Failure::new),
    }
}
