//! `apogeemq cluster --local 3`: a cluster on this machine for trying out what happens when a part of it dies. Each part is a process of this
//! program with a configuration file of its own, so that it can be killed and started again by hand.
//!
//! Name servers have the controllers in their processes; the brokers have one name, and all in-sync replicas acknowledge.
//!
//! Not here: measurements; a cluster for work, which is on several machines (docs/controller.md).

mod part;
mod watch;

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::logging;
use crate::process::StopSignals;
use part::Part;

/// Most brokers of a local cluster.
const MOST: u16 = 5;

/// Flags of `apogeemq cluster`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Start so many brokers on loopback, from 1 to 5, and name servers with controllers: three, or with fewer than three brokers one
    #[arg(long, value_name = "BROKERS", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    local: u16,
    /// Directory for configuration files, logs and data
    #[arg(long, value_name = "DIR", default_value = "./data/cluster")]
    data: PathBuf,
    /// Port of the first name server; the others and the controllers are above it
    #[arg(long, value_name = "PORT", default_value_t = 9_876, value_parser = clap::value_parser!(u16).range(1_024..=60_000))]
    namesrv_port: u16,
    /// Port of the first broker; the others are above it
    #[arg(long, value_name = "PORT", default_value_t = 10_911, value_parser = clap::value_parser!(u16).range(1_024..=60_000))]
    broker_port: u16,
}

/// Starts all parts, shows who leads, and stops them with the program.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Before the first thread: one that does not block the signals would let them end the program with its processes left behind.
    let signals = StopSignals::block().map_err(Failure::new)?;
    let _log = logging::install(Some("error"))?;
    let mut parts = part::all(arguments);
    std::fs::create_dir_all(&arguments.data).map_err(|error| Failure::new(format!("{}: {error}", arguments.data.display())))?;
    for part in &mut parts {
        part.start(&arguments.data)?;
    }
    println!("{}", introduction(&parts, arguments));
    let watching = watch::Watching::start(parts)?;
    let waited = signals.wait().map_err(Failure::new);
    println!("stopping");
    watching.stop();
    waited
}

fn introduction(parts: &[Part], arguments: &Arguments) -> String {
    let mut text = format!("A cluster in {}\n\n", arguments.data.display());
    for part in parts {
        text.push_str(&format!(
            "  {:<4} {:<28} {:<16} process {}\n",
            part.name,
            part.what(),
            part.address(),
            part.process()
        ));
    }
    let names: Vec<String> = parts.iter().filter(|part| !part.is_broker()).map(Part::address).collect();
    text.push_str(&format!("\n  Clients: name servers {}\n", names.join(";")));
    text.push_str("  Try it:  kill -9 a process, or kill -STOP and later -CONT it; what happens is shown here\n");
    text.push_str("  Stop it: Ctrl-C\n");
    text
}
