//! The report of a run, as text or as one line of JSON.

use std::io::Write;
use std::sync::Arc;

use hdrhistogram::Histogram;
use message::text;
use serde::Serialize;

use super::progress::Used;
use super::totals::{Counter, Totals};
use crate::failure::Failure;
use crate::number::grouped;

/// Latencies in ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Quantiles {
    p50: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    #[serde(rename = "p99.99")]
    p9999: f64,
    max: f64,
}

impl Quantiles {
    fn of(us: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1e3;
        let at = |quantile: f64| ms(us.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: ms(us.max()),
        }
    }

    fn text(&self) -> String {
        let Self {
            p50,
            p99,
            p999,
            p9999,
            max,
        } = self;
        format!("p50 {p50:.3}   p99 {p99:.3}   p99.9 {p999:.3}   p99.99 {p9999:.3}   max {max:.3} ms")
    }
}

/// Resources of the server process.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Server {
    cpu_s: f64,
    cpu_s_per_million: f64,
    cores: f64,
    rss_mb: f64,
    anonymous_rss_mb: f64,
}

/// Result of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    load: String,
    messages: u64,
    seconds: f64,
    messages_per_s: f64,
    mb_per_s: f64,
    latency_ms: Quantiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgement_ms: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    /// Delay of the generator itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_ms: Option<Quantiles>,
    errors: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    error_texts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_cpu_s_per_million: Option<f64>,
}

impl Report {
    /// The sums of all threads over a window of `seconds`.
    pub(super) fn new(load: String, counters: &[Arc<Counter>], seconds: f64, used: Used) -> Self {
        let (all, texts) = sum(counters);
        let per_second = |amount: f64| if seconds > 0.0 { round(amount / seconds) } else { 0.0 };
        Self {
            load,
            messages: all.messages,
            seconds: round(seconds),
            messages_per_s: per_second(all.messages as f64),
            mb_per_s: per_second(all.bytes as f64 / 1e6),
            latency_ms: Quantiles::of(&all.latency),
            acknowledgement_ms: None,
            sent: None,
            late_ms: None,
            errors: all.errors,
            error_texts: texts,
            server: server(used, all.messages, seconds),
            own_cpu_s_per_million: used.own_cpu.map(|cpu| per_million(cpu, all.messages)),
        }
    }

    /// Adds the delay of the generator.
    pub(super) fn with_late(self, us: &Histogram<u64>) -> Self {
        Self {
            late_ms: Some(Quantiles::of(us)),
            ..self
        }
    }

    /// Requests without an answer are errors.
    pub(super) fn with_unanswered(mut self, count: u64) -> Self {
        if count > 0 {
            self.errors += count;
            self.error_texts.push(format!("{count} requests were not answered"));
        }
        self
    }

    /// Adds the acknowledgements. A message that was acknowledged and did not arrive is an error.
    pub(super) fn with_acknowledgements(mut self, counters: &[Arc<Counter>]) -> Self {
        let (acknowledged, texts) = sum(counters);
        let missing = acknowledged.messages.saturating_sub(self.messages);
        self.errors += acknowledged.errors + missing;
        self.error_texts.extend(texts);
        if missing > 0 {
            self.error_texts
                .push(format!("{missing} messages were acknowledged and did not arrive"));
        }
        self.acknowledgement_ms = Some(Quantiles::of(&acknowledged.latency));
        self.sent = Some(acknowledged.messages);
        self
    }

    /// Prints it on stdout.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let text = if json {
            format!("{}\n", text::json(&serde_json::to_string(self).map_err(Failure::new)?))
        } else {
            self.text()
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::new)
    }

    fn text(&self) -> String {
        let mut lines = vec![self.load.clone()];
        let mut line = |name: &str, what: String| lines.push(format!("  {name:<16}{what}"));
        let rate = grouped(self.messages_per_s.round() as u64);
        let (messages, errors) = (grouped(self.messages), plural(self.errors, "error"));
        line(
            "messages",
            format!("{messages} in {:.2} s: {rate}/s, {:.1} MB/s, {errors}", self.seconds, self.mb_per_s),
        );
        line("latency", self.latency_ms.text());
        self.acknowledgement_ms.iter().for_each(|acks| line("acknowledged", acks.text()));
        self.late_ms.iter().for_each(|late| line("sent late by", late.text()));
        if let Some(server) = &self.server {
            let Server {
                cpu_s_per_million: cpu,
                cores,
                rss_mb,
                anonymous_rss_mb,
                ..
            } = server;
            let memory = format!("RSS {rss_mb:.0} MB, of that anonymous {anonymous_rss_mb:.0} MB");
            line("server", format!("{cpu:.2} CPU s per million messages, {cores:.2} cores; {memory}"));
        }
        self.own_cpu_s_per_million
            .iter()
            .for_each(|cpu| line("this program", format!("{cpu:.2} CPU s per million messages")));
        self.error_texts
            .iter()
            .for_each(|text| line("error", text::line(text).into_owned()));
        lines.join("\n") + "\n"
    }
}

fn sum(counters: &[Arc<Counter>]) -> (Totals, Vec<String>) {
    let (mut all, mut all_texts) = (Totals::new(), Vec::<String>::new());
    for counter in counters {
        let (totals, texts) = counter.measured();
        all.add(&totals);
        let new = texts.into_iter().filter(|text| !all_texts.contains(text)).collect::<Vec<_>>();
        all_texts.extend(new);
    }
    all_texts.truncate(3);
    (all, all_texts)
}

fn server(used: Used, messages: u64, seconds: f64) -> Option<Server> {
    let (cpu, memory) = (used.server_cpu?, used.server_memory?);
    Some(Server {
        cpu_s: round(cpu),
        cpu_s_per_million: per_million(cpu, messages),
        cores: if seconds > 0.0 { round(cpu / seconds) } else { 0.0 },
        rss_mb: round(memory.resident),
        anonymous_rss_mb: round(memory.anonymous),
    })
}

fn per_million(cpu: f64, messages: u64) -> f64 {
    round(cpu * 1e6 / messages.max(1) as f64)
}

/// Rounds to three decimals; more are noise.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// `1 queue`, `2 queues`.
pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::totals::Window;
    use super::super::usage::Memory;
    use super::*;
    use std::time::Duration;

    fn counter(messages: u64) -> Arc<Counter> {
        let counter = Counter::new(Window::new(Duration::ZERO, Duration::from_secs(2)));
        (1..=messages).for_each(|n| counter.open().success(0, n * 1_000, 1, 500));
        Arc::new(counter)
    }

    fn used() -> Used {
        Used {
            server_cpu: Some(0.5),
            server_memory: Some(Memory {
                resident: 20.0,
                anonymous: 10.0,
            }),
            own_cpu: Some(0.25),
        }
    }

    #[test]
    fn rates_quantiles_and_costs_come_from_all_threads() {
        let report = Report::new("x".to_owned(), &[counter(600), counter(400)], 2.0, used());
        assert_eq!((report.messages, report.messages_per_s, report.mb_per_s), (1_000, 500.0, 0.25));
        assert_eq!((report.latency_ms.p50 / 10.0).round(), 25.0);
        assert!(report.latency_ms.max >= 600.0 && report.latency_ms.max < 601.0);
        assert_eq!(report.own_cpu_s_per_million, Some(250.0));
        let server = report.server.unwrap();
        assert_eq!(
            (server.cpu_s_per_million, server.cores, server.anonymous_rss_mb),
            (500.0, 0.25, 10.0)
        );
    }

    #[test]
    fn an_acknowledged_message_that_did_not_arrive_is_an_error() {
        let report = Report::new("x".to_owned(), &[counter(8)], 2.0, Used::default());
        let report = report.with_acknowledgements(&[counter(10)]).with_unanswered(3);
        assert_eq!((report.errors, report.sent), (5, Some(10)));
        assert_eq!(report.error_texts.len(), 2);
    }

    #[test]
    fn the_report_is_one_line_of_json_or_text() {
        let report = Report::new("send".to_owned(), &[counter(1_200)], 2.0, used()).with_late(&counter(1).measured().0.latency);
        let json = serde_json::to_string(&report).unwrap();
        assert!(!json.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json["messages_per_s"].as_f64(), json["errors"].as_u64()), (Some(600.0), Some(0)));
        assert!(json["latency_ms"]["p99.9"].is_number() && json["server"]["cpu_s"].is_number());
        let text = report.text();
        assert!(
            text.starts_with("send\n  messages        1,200 in 2.00 s: 600/s, 0.3 MB/s, 0 errors\n"),
            "{text}"
        );
        assert!(text.contains("RSS 20 MB") && text.contains("sent late by"));
    }

    #[test]
    fn a_run_without_messages_has_a_report() {
        let report = Report::new("x".to_owned(), &[], 0.0, used());
        assert_eq!((report.messages_per_s, report.latency_ms.max), (0.0, 0.0));
        assert!(serde_json::to_string(&report).is_ok());
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(
            (plural(1, "queue"), plural(2_000, "queue")),
            ("1 queue".into(), "2,000 queues".into())
        );
    }
}
