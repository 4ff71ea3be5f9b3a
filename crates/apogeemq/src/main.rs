//! The program `apogeemq`: parses arguments, composes roles, installs logging, waits for the signal to stop.
//!
//! Invariant: no decision about messages, routes or files is made here; a role is started from its settings and shut down cleanly.
//! Not here: the roles (crates `nameserver` and `broker`) and the meaning of their keys (their `settings` modules).

mod arguments;
mod bench;
mod cluster;
mod configuration;
mod demo;
mod failure;
mod logging;
mod manual;
mod number;
mod process;
mod roles;
mod screen;
mod store;

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use message::text;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

/// How long the program waits at its end until its error is written.
const TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let words = admin::cli::normalized(std::env::args_os().collect());
    match run(Arguments::parse_from(words)) {
        Ok(code) => code,
        Err(failure) => {
            print_error(format!("apogeemq: {failure}\n"));
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
        Some(Command::Controller(flags)) => roles::serve(roles::Part::Controller, &flags.into()),
        Some(Command::Proxy(flags)) => roles::serve(roles::Part::Proxy, &flags.into()),
        Some(Command::Config(flags)) => manual::show(&flags),
        Some(Command::Bench(arguments)) => bench::run(arguments),
        Some(Command::Admin(arguments)) => administer(&arguments),
        Some(Command::Cluster(arguments)) => cluster::run(&arguments),
        Some(Command::Demo(arguments)) => demo::run(&arguments),
        Some(Command::Store(arguments)) => return store::run(arguments),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Writes an error to stderr. Does not wait for a reader that does not read.
fn print_error(text: String) {
    let (done, written) = mpsc::channel();
    let write = move || {
        let _ = std::io::stderr().write_all(text.as_bytes());
        done.send(())
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = written.recv_timeout(TIMEOUT);
    }
}

fn administer(arguments: &admin::cli::Arguments) -> Result<(), Failure> {
    admin::cli::run(arguments).map_err(|error| {
        // In one line, because part of it may come from a server.
        let failure = Failure::new(text::line(&error.to_string()));
        match error.advice() {
            Some(advice) => failure.advice(advice),
            None => failure,
        }
    })
}
