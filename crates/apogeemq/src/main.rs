//! The program `apogeemq`: parses arguments, composes roles, installs logging, waits for the signal to stop.
//!
//! Invariant: no decision about messages, routes or files is taken here; a role is started from its settings and stopped in order.
//! What is not here: the roles (crates `nameserver` and `broker`) and what their keys mean (their `settings` modules).

mod arguments;
mod bench;
mod configuration;
mod failure;
mod logging;
mod manual;
mod process;
mod roles;
mod screen;
mod store;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let words = admin::cli::normalized(std::env::args_os().collect());
    match run(Arguments::parse_from(words)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("apogeemq: {failure}");
            failure.code()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let done = match arguments.command {
        None => roles::serve(roles::Part::Both, &arguments.flags),
        Some(Command::Server(flags)) => roles::serve(roles::Part::Both, &flags),
        Some(Command::Namesrv(flags)) => roles::serve(roles::Part::NameServer, &flags.into()),
        Some(Command::Broker(flags)) => roles::serve(roles::Part::Broker, &flags.into()),
        Some(Command::Config(flags)) => manual::show(&flags),
        Some(Command::Bench(arguments)) => bench::run(arguments),
        Some(Command::Admin(arguments)) => administer(&arguments),
        Some(Command::Store(arguments)) => return store::run(arguments),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn administer(arguments: &admin::cli::Arguments) -> Result<(), Failure> {
    admin::cli::run(arguments).map_err(|error| {
        let failure = Failure::new(&error);
        match error.advice() {
            Some(advice) => failure.advice(advice),
            None => failure,
        }
    })
}
