//! Structured log lines on stderr; quiet by default.
//!
//! An event is always one line: its values are untrusted and are escaped here, where lines are formatted
//! ([`message::text::line`]). Warnings that a client can provoke are limited to [`gate::RATE`]. A thread that logs never waits for
//! the reader of the log: lines go through a bounded [`queue`], and lines that do not fit are counted and reported.

mod gate;
mod queue;

use std::fmt;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use message::text;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};

use crate::failure::Failure;
use gate::Gates;
use queue::Queue;

/// Default level.
const DEFAULT: &str = "warn";
/// Maximum length of a line in bytes; the rest is cut off.
const MAX_LINE: usize = 16 << 10;
/// Target of the lines of openraft.
const CONSENSUS: &str = "openraft";
/// How long the program waits at its end for the reader of the log.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Changes which lines are logged. Like the log, there is one in a process.
static LEVELS: OnceLock<Handle<Targets, Registry>> = OnceLock::new();

/// The log of the process. Dropping it writes the queued lines, if the log is read.
pub(crate) struct Log(Arc<Queue>);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.drain(DRAIN_TIMEOUT);
    }
}

/// Installs the log for the whole process.
pub(crate) fn install(levels: Option<&str>) -> Result<Log, Failure> {
    let targets = parse(levels.unwrap_or(DEFAULT))?;
    let queue = Arc::new(Queue::default());
    let gates = Arc::new(Gates::new(Arc::clone(&queue)));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Lines {
            format: Format::default().with_ansi(false),
            gates: Arc::clone(&gates),
        })
        .with_writer({
            let queue = Arc::clone(&queue);
            move || Entry(Arc::clone(&queue))
        });
    queue::write_from(&queue, gates, io::stderr())
        .map_err(|error| Failure::new(format!("cannot start the thread that writes the log: {error}")))?;
    let (filter, levels) = reload::Layer::new(targets);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(Failure::new)?;
    let _ = LEVELS.set(levels);
    let for_panics = Arc::clone(&queue);
    std::panic::set_hook(Box::new(move |panic| report(panic, &for_panics)));
    Ok(Log(queue))
}

/// Logs lines of this level and above from now on, of all targets.
///
/// # Errors
/// A text, if the log is not installed.
pub(crate) fn change_level(level: Level) -> Result<(), String> {
    let levels = LEVELS.get().ok_or("the log of this process is not installed")?;
    let targets = quiet(Targets::new().with_default(level));
    levels
        .reload(targets)
        .map_err(|error| format!("the level was not changed: {error}"))
}

fn parse(levels: &str) -> Result<Targets, Failure> {
    let targets = levels.parse().map_err(|_| {
        Failure::new(format!("--log {levels} is refused"))
            .advice("Allowed: off, error, warn, info, debug or trace, or a list such as warn,broker=debug")
    })?;
    Ok(if levels == "off" || levels.contains(CONSENSUS) {
        targets
    } else {
        quiet(targets)
    })
}

/// Without the lines of the library that controllers agree by, which are for its authors: it repeats an unreachable controller several
/// times a second, and crate `controller` logs what operators need. Naming it in `--log` shows them.
fn quiet(targets: Targets) -> Targets {
    targets.with_target(CONSENSUS, LevelFilter::OFF)
}

/// Logs a panic at every level. Writing it directly to stderr could block.
fn report(panic: &PanicHookInfo<'_>, queue: &Queue) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("?");
    let trace = std::backtrace::Backtrace::capture();
    let what = format!("{}ERROR panic: thread {name}: {}", now(), text::line(&panic.to_string()));
    let told = match trace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("{what}\n{}\n", text::lines(&trace.to_string())),
        _ => format!("{what}\n"),
    };
    queue.put(told.as_bytes());
    if name == "main" {
        queue.drain(DRAIN_TIMEOUT);
    }
}

/// The time at the start of a line.
fn now() -> String {
    let mut time = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time.push(' ');
    time
}

/// Formats an event as one line.
struct Lines<F> {
    format: F,
    gates: Arc<Gates>,
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if !self.gates.admits(event.metadata()) {
            return Ok(());
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(cut(&text::line(line.trim_end_matches('\n'))))?;
        writer.write_char('\n')
    }
}

fn cut(line: &str) -> &str {
    &line[..line.floor_char_boundary(MAX_LINE)]
}

/// Writes a line, which arrives in one call, to the queue.
struct Entry(Arc<Queue>);

impl io::Write for Entry {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_accepted_and_anything_else_is_refused() {
        assert!(parse("info").is_ok() && parse("warn,broker=debug").is_ok() && parse("off").is_ok());
        assert!(parse("broker=loud").is_err());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "é".repeat(MAX_LINE);
        assert_eq!(cut(&long).len(), MAX_LINE);
        assert_eq!(cut(&long[..long.len() - 2]).len(), MAX_LINE);
        assert_eq!(cut(&format!("x{long}")).len(), MAX_LINE - 1);
    }

    /// The lines that `during` logs.
    fn logged(during: impl FnOnce()) -> String {
        let queue = Arc::new(Queue::default());
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(Lines {
                format: Format::default().with_ansi(false),
                gates: Arc::new(Gates::new(Arc::clone(&queue))),
            })
            .with_writer({
                let queue = Arc::clone(&queue);
                move || Entry(Arc::clone(&queue))
            });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), during);
        String::from_utf8(queue.take_now().0).unwrap()
    }

    #[test]
    fn an_event_is_one_line_with_any_values() {
        let forged = "9.9.9.9:1\n2026-11-26T00:00:00Z ERROR store: forged \u{1b}[2J\u{202e}\u{200b}\r";
        let text = logged(|| {
            tracing::warn!(address = forged, shown = %forged, debug = ?forged, "broker {forged}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.ends_with('\n') && text.contains("WARN") && text.contains("forged"), "{text}");
        let told = text.trim_end_matches('\n');
        assert_eq!(text::line(told), told, "no control characters are left");
    }

    #[test]
    fn warnings_of_one_call_site_are_limited_and_others_are_not() {
        let text = logged(|| {
            for n in 0..gate::BURST * 3 {
                tracing::warn!(n, "provoked");
                tracing::info!(n, "asked for");
            }
            tracing::warn!("of another site");
        });
        let count = |what: &str| text.matches(what).count();
        let most = gate::BURST as usize;
        assert!((most..most * 3).contains(&count("provoked")), "{}", count("provoked"));
        assert_eq!((count("asked for"), count("of another site")), (most * 3, 1));
    }
}
