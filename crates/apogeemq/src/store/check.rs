//! `apogeemq store check`: the report of a directory.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::store::disk::Disk;
use ::store::disk::real::RealDisk;
use ::store::inspect::{self, Finding, Progress, Report, Severity};
use broker::inspect::ConfigFiles;
use message::text;
use serde::Serialize;

use super::arguments::{CheckArguments, Output};
use super::{options, print};
use crate::failure::Failure;

/// Interval of progress lines.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let options = options(&arguments.place, !arguments.no_crc)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let config = ConfigFiles::read(&*disk, &options.root).map_err(Failure::new)?;
    let names = config.names.clone();
    let mut progress = Shown::new(!arguments.quiet && io::stderr().is_terminal());
    let mut report = inspect::check(&disk, &options, &mut |now| progress.show(now)).map_err(Failure::new)?;
    progress.end();
    config.add_to(&mut report);
    let text = match arguments.place.output {
        Output::Text => text(&report, &names),
        Output::Json => json(&report, &names)?,
    };
    print(&text)?;
    Ok(ExitCode::from(u8::from(report.is_damaged())))
}

/// Progress on a terminal.
struct Shown {
    is_wanted: bool,
    last: Instant,
}

impl Shown {
    fn new(is_wanted: bool) -> Self {
        Self {
            is_wanted,
            last: Instant::now(),
        }
    }

    fn show(&mut self, now: Progress) {
        if self.is_wanted && self.last.elapsed() >= PROGRESS_EVERY {
            self.last = Instant::now();
            let mib = |bytes: u64| bytes >> 20;
            // Without stderr there is no progress to show.
            let _ = write!(io::stderr(), "\r{} of {} MiB of log", mib(now.done), mib(now.total));
        }
    }

    fn end(&self) {
        if self.is_wanted {
            let _ = write!(io::stderr(), "\r{:40}\r", "");
        }
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    damaged: bool,
    #[serde(flatten)]
    report: &'a Report,
    config_files: &'a [String],
}

fn json(report: &Report, config_files: &[String]) -> Result<String, Failure> {
    let whole = Whole {
        damaged: report.is_damaged(),
        report,
        config_files,
    };
    let text = serde_json::to_string_pretty(&whole).map_err(Failure::new)?;
    Ok(format!("{}\n", text::json(&text)))
}

fn text(report: &Report, config_files: &[String]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = summary(&mut text, report, config_files);
    for found in &report.findings {
        let _ = finding(&mut text, found);
    }
    let count = |severity| {
        report
            .findings
            .iter()
            .filter(|found| found.severity == severity)
            .map(|found| found.count)
            .sum::<u64>()
    };
    let _ = match (count(Severity::Damage), count(Severity::Recovery)) {
        (0, 0) => writeln!(text, "No damage."),
        (0, waiting) if report.in_use => writeln!(text, "No damage; {waiting} findings may be writes in progress."),
        (0, waiting) => writeln!(text, "No damage; the next start repairs {waiting} findings."),
        (damage, _) => writeln!(text, "DAMAGED: {damage} findings, see above."),
    };
    text
}

fn summary(text: &mut String, report: &Report, config_files: &[String]) -> std::fmt::Result {
    let Report {
        log,
        queues,
        index,
        compaction,
        light,
        timers,
        ..
    } = report;
    writeln!(text, "{}", report.root.display())?;
    writeln!(
        text,
        "  log         {} files, {} bytes; {} records from {} to {}",
        log.files, log.bytes, log.records, log.first_offset, log.end_offset
    )?;
    writeln!(
        text,
        "  queues      {} of {} topics; {} entries that name a record",
        queues.queues, queues.topics, queues.entries
    )?;
    writeln!(text, "  index       {} files, {} items", index.files, index.items)?;
    if compaction.queues > 0 {
        writeln!(text, "  compaction  {} queues, {} messages", compaction.queues, compaction.messages)?;
    }
    if light.queues > 0 {
        writeln!(
            text,
            "  light       {} queues, {} entries, {} bytes",
            light.queues, light.entries, light.bytes
        )?;
    }
    writeln!(
        text,
        "  timers      {} messages and {} recalls wait in {} slots",
        timers.waiting, timers.recalls, timers.slots
    )?;
    match report.checkpoint.as_ref().map(|known| known.dispatched) {
        Some(Some(at)) => writeln!(text, "  checkpoint  log and queues below {at} are synced")?,
        Some(None) => writeln!(text, "  checkpoint  of Apache's form")?,
        None => writeln!(text, "  checkpoint  none")?,
    }
    writeln!(text, "  config      {}", text::line(&config_files.join(" ")))
}

fn finding(text: &mut String, found: &Finding) -> std::fmt::Result {
    let head = match found.severity {
        Severity::Damage => "DAMAGE",
        Severity::Recovery => "next start",
        Severity::Note => "note",
    };
    writeln!(text, "{head}: {} {}", found.count, found.what)?;
    for example in &found.examples {
        writeln!(text, "    {}", text::line(example))?;
    }
    let more = found.count.saturating_sub(found.examples.len() as u64);
    if more > 0 {
        writeln!(text, "    and {more} more")?;
    }
    Ok(())
}
