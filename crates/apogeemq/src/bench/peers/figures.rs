//! The report of a run with peers: named figures, as text or one line of JSON.

use std::io::Write;
use std::sync::Arc;

use hdrhistogram::Histogram;
use message::text;
use serde_json::{Map, Value, json};

use super::super::progress::Used;
use super::super::totals::{Counter, Totals};
use super::super::usage::{self, Memory};
use crate::failure::Failure;

/// Maximum number of error texts.
const MAX_TEXTS: usize = 3;
/// Column of the figures.
const COLUMN: usize = 36;

/// Resources of the server at one time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    cpu_s: f64,
    memory: Memory,
}

/// The figures, in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Figures {
    load: String,
    pid: Option<u32>,
    values: Vec<(String, f64)>,
    errors: u64,
    texts: Vec<String>,
}

impl Figures {
    /// `pid` is the server's process.
    pub(super) fn new(load: String, pid: Option<u32>) -> Self {
        Self {
            load,
            pid,
            values: Vec::new(),
            errors: 0,
            texts: Vec::new(),
        }
    }

    /// Adds a figure; its name ends with its unit.
    pub(super) fn add(&mut self, name: impl Into<String>, value: f64) {
        self.values.push((name.into(), (value * 1e3).round() / 1e3));
    }

    /// The server's resources now.
    pub(super) fn look(&self) -> Option<Seen> {
        let pid = self.pid?;
        Some(Seen {
            cpu_s: usage::cpu_seconds(pid)?,
            memory: usage::memory(pid)?,
        })
    }

    /// Adds the server's memory now, and returns it.
    pub(super) fn memory(&mut self, when: &str) -> Option<Seen> {
        let seen = self.look()?;
        self.add(format!("{when}_anonymous_mb"), seen.memory.anonymous);
        self.add(format!("{when}_resident_mb"), seen.memory.resident);
        Some(seen)
    }

    /// Adds what each of `count` things has cost since `before`.
    pub(super) fn cost(&mut self, what: &str, before: Option<Seen>, count: u64) {
        let (Some(before), Some(now)) = (before, self.look()) else { return };
        let each = |amount: f64| amount / count.max(1) as f64;
        self.add(format!("{what}_cpu_us_each"), each((now.cpu_s - before.cpu_s) * 1e6));
        let bytes = (now.memory.anonymous - before.memory.anonymous) * 1024.0 * 1024.0;
        self.add(format!("{what}_bytes_each"), each(bytes));
    }

    /// Adds the server's CPU time for each of `count` things in a window.
    pub(super) fn used_for(&mut self, what: &str, used: Used, count: u64) {
        if let Some(cpu) = used.server_cpu {
            self.add(format!("{what}_cpu_us_each"), cpu * 1e6 / count.max(1) as f64);
        }
    }

    /// Adds what the server used in a window of `seconds`.
    pub(super) fn used(&mut self, used: Used, seconds: f64) {
        if let (Some(cpu), Some(memory)) = (used.server_cpu, used.server_memory) {
            self.add("window_cores", cpu / seconds);
            self.add("window_anonymous_mb", memory.anonymous);
            self.add("window_resident_mb", memory.resident);
        }
        used.own_cpu.iter().for_each(|cpu| self.add("this_program_cores", cpu / seconds));
    }

    /// Adds the number of answers of a phase, and their latencies in ms; returns the number. Failed requests are errors.
    pub(super) fn answers(&mut self, what: &str, counters: &[Arc<Counter>]) -> u64 {
        let mut all = Totals::new();
        for counter in counters {
            let (totals, texts) = counter.measured();
            all.add(&totals);
            texts.into_iter().for_each(|text| self.error_text(text));
        }
        self.errors += all.errors;
        self.add(format!("{what}_answers"), all.messages as f64);
        self.quantiles(what, &all.latency);
        all.messages
    }

    /// Adds quantiles of a histogram of µs, in ms.
    pub(super) fn quantiles(&mut self, what: &str, us: &Histogram<u64>) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            self.add(format!("{what}_{name}_ms"), us.value_at_quantile(quantile) as f64 / 1e3);
        }
        self.add(format!("{what}_max_ms"), us.max() as f64 / 1e3);
    }

    /// Adds by how much the generator itself was late.
    pub(super) fn late(&mut self, what: &str, us: &Histogram<u64>) {
        self.add(format!("{what}_sent_late_p50_ms"), us.value_at_quantile(0.5) as f64 / 1e3);
        self.add(format!("{what}_sent_late_p99_ms"), us.value_at_quantile(0.99) as f64 / 1e3);
    }

    /// Requests without an answer are errors.
    pub(super) fn unanswered(&mut self, what: &str, count: u64) {
        if count > 0 {
            self.errors += count;
            self.error_text(format!("{what}: {count} requests were not answered"));
        }
    }

    /// Whether a request failed.
    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    fn error_text(&mut self, text: String) {
        if self.texts.len() < MAX_TEXTS && !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }

    /// Prints it on stdout.
    ///
    /// # Errors
    /// [`Failure`] if stdout cannot be written.
    pub(crate) fn print(&self, as_json: bool) -> Result<(), Failure> {
        let text = if as_json { self.json() } else { self.text() };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::new)
    }

    fn json(&self) -> String {
        let mut object: Map<String, Value> = self.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        object.insert("load".to_owned(), json!(self.load));
        object.insert("errors".to_owned(), json!(self.errors));
        if !self.texts.is_empty() {
            object.insert("error_texts".to_owned(), json!(self.texts));
        }
        format!("{}\n", text::json(&Value::Object(object).to_string()))
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", self.load);
        let mut line = |name: &str, what: &str| out.push_str(&format!("  {:<COLUMN$}{what}\n", name.replace('_', " ")));
        self.values.iter().for_each(|(name, value)| line(name, &value.to_string()));
        line("errors", &self.errors.to_string());
        self.texts.iter().for_each(|text| line("error", &text::line(text)));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::totals::Window;
    use super::*;
    use std::time::Duration;

    #[test]
    fn figures_are_printed_in_order_or_as_json() {
        let counter = Counter::new(Window::new(Duration::ZERO, Duration::from_secs(1)));
        (1..=100).for_each(|n| counter.open().success(0, n * 1_000, 1, 0));
        counter.open().failure(0, || "code 1: no".to_owned());
        let mut figures = Figures::new("two peers".to_owned(), Some(std::process::id()));
        let before = figures.memory("before");
        figures.add("joined_s", 1.234_56);
        assert_eq!(figures.answers("join", &[Arc::new(counter)]), 100);
        figures.unanswered("join", 2);
        figures.cost("join", before, 100);
        let text = figures.text();
        assert!(text.starts_with("two peers\n  before anonymous mb"), "{text}");
        assert!(
            text.contains("joined s                            1.235\n")
                && text.contains("error                               code 1: no\n")
        );
        let json: Value = serde_json::from_str(&figures.json()).unwrap();
        assert_eq!((json["errors"].as_u64(), json["join_answers"].as_f64()), (Some(3), Some(100.0)));
        assert!((json["join_p50_ms"].as_f64().unwrap() - 50.0).abs() < 0.1 && json["join_cpu_us_each"].is_number());
    }
}
