//! `apogeemq demo`: the reasons to use a message queue, live in the terminal, on a server inside this process.
//!
//! Each part is a file with one story. It shows what happens, checks what it claims, and ends the program with exit code 1 and what was
//! expected and seen if the claim does not hold. The server has free ports and a temporary directory, and ends with the program.
//!
//! Not here: measurements (`bench`), programs to copy from (`examples`).

mod duplicates;
mod outage;
mod peak;
mod reader;
mod recording;
mod server;
mod streams;
mod terminal;
mod transactions;

use std::fmt::Debug;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::failure::Failure;
use crate::logging;
use crate::number::grouped;
use crate::process::{StopSignals, raise_descriptor_limit};
use server::Server;
use terminal::{Colour, Terminal, paint};

/// How long a part waits for what it claims.
const DEADLINE: Duration = Duration::from_secs(60);

/// Flags of `apogeemq demo`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print lines only, without colours or moving the cursor; automatic if stdout is not a terminal
    #[arg(long)]
    plain: bool,
    /// A tenth of the messages, for tests
    #[arg(long)]
    short: bool,
    /// Also write what the terminal shows into this file, as an animated SVG
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// What every part works with.
struct Stage {
    server: Server,
    terminal: Terminal,
    /// Whether this is the short version.
    short: bool,
    /// Messages that were acknowledged in all parts.
    sent: u64,
}

impl Stage {
    /// A tenth of a number in the short version.
    fn scaled(&self, number: u64) -> u64 {
        if self.short { number / 10 } else { number }
    }
}

/// Runs all parts and prints the result.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Before the first thread: one that does not block the signals would let them end the program with its directory left behind.
    let signals = StopSignals::block().map_err(Failure::new)?;
    let _log = logging::install(Some("error"))?;
    // If this fails, the first connection without a descriptor reports it.
    let _ = raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)?;
    let plain = arguments.plain || !std::io::stdout().is_terminal();
    let mut stage = Stage {
        server: Server::start()?,
        terminal: Terminal::new(plain, arguments.record.is_some()),
        short: arguments.short,
        sent: 0,
    };
    clean_up_when_stopped(signals, stage.server.directory())?;
    let outcome = runtime.block_on(parts(&mut stage));
    // Connections end before the server that serves them.
    drop(runtime);
    let Stage { server, terminal, .. } = stage;
    let stopped = server.stop();
    outcome?;
    stopped?;
    match &arguments.record {
        Some(path) => terminal.write_recording(path),
        None => Ok(()),
    }
}

/// Ctrl-C ends the program, and the server's directory goes with it.
fn clean_up_when_stopped(signals: StopSignals, directory: PathBuf) -> Result<(), Failure> {
    /// Exit code of a program that a signal ended.
    const INTERRUPTED: i32 = 130;
    let wait = move || {
        if signals.wait().is_ok() {
            let _ = std::fs::remove_dir_all(directory);
            std::process::exit(INTERRUPTED);
        }
    };
    std::thread::Builder::new()
        .name("demo-signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(Failure::new)
}

async fn parts(stage: &mut Stage) -> Result<(), Failure> {
    let begun = Instant::now();
    let text = format!(
        "apogeemq demo: name server and broker run in this process, at {}",
        stage.server.name_server
    );
    stage.terminal.say(&text);
    told(stage, outage::TITLE, async |stage| outage::run(stage).await).await?;
    told(stage, peak::TITLE, async |stage| peak::run(stage).await).await?;
    told(stage, streams::TITLE, async |stage| streams::run(stage).await).await?;
    told(stage, transactions::TITLE, async |stage| transactions::run(stage).await).await?;
    told(stage, duplicates::TITLE, async |stage| duplicates::run(stage).await).await?;
    let summary = format!(
        "{} messages in {} s. Every claim above was checked. Next: examples/, or apogeemq --help",
        grouped(stage.sent),
        begun.elapsed().as_secs()
    );
    stage.terminal.blank();
    stage.terminal.say(&summary);
    Ok(())
}

/// Runs a part between its title and its result.
async fn told(stage: &mut Stage, title: &str, part: impl AsyncFnOnce(&mut Stage) -> Result<String, Failure>) -> Result<(), Failure> {
    stage.terminal.blank();
    stage.terminal.say(&paint(Colour::Bold, title));
    match tokio::time::timeout(DEADLINE, part(stage)).await {
        Ok(Ok(claim)) => {
            stage.terminal.settle();
            stage.terminal.say(&format!("  {} {claim}", paint(Colour::Green, "ok")));
            Ok(())
        }
        Ok(Err(failure)) => Err(failed(stage, title, failure)),
        Err(_) => {
            let late = Failure::new(format!("expected: done within {} s, seen: still running", DEADLINE.as_secs()));
            Err(failed(stage, title, late))
        }
    }
}

fn failed(stage: &mut Stage, title: &str, failure: Failure) -> Failure {
    stage.terminal.settle();
    stage.terminal.say(&format!("  {}", paint(Colour::Red, "FAILED")));
    Failure::new(format!("demo, {title:?}: {failure}"))
}

/// Checks a claim.
///
/// # Errors
/// [`Failure`] with what was expected and seen.
fn check<T: PartialEq + Debug>(claim: &str, expected: &T, seen: &T) -> Result<(), Failure> {
    if expected == seen {
        return Ok(());
    }
    Err(Failure::new(format!("{claim}: expected {expected:?}, seen {seen:?}")))
}
