//! `apogeemq store dump`: the content of a directory, one line per item.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use ::store::disk::Disk;
use ::store::disk::real::RealDisk;
use ::store::inspect::{self, InspectOptions, LogItem};
use ::store::timer::Waiting;
use broker::inspect::{ConfigEntry, entries};
use message::properties::{self, Indexed};
use message::record::Record;
use message::{LogOffset, QueueOffset};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::arguments::{
    Bound, CompactionArguments, ConfigArguments, IndexArguments, LogArguments, Output, Place, QueueArguments, TimerArguments, What,
};
use super::{options, print};
use crate::failure::Failure;

pub(super) fn run(what: &What) -> Result<(), Failure> {
    match what {
        What::Log(arguments) => log(arguments),
        What::Queue(arguments) => queue(arguments),
        What::Compaction(arguments) => compaction(arguments),
        What::Index(arguments) => index(arguments),
        What::Timers(arguments) => timers(arguments),
        What::Config(arguments) => config(arguments),
        What::Checkpoint { place } => checkpoint(place),
    }
}

/// Prints lines, up to the limit.
struct Lines {
    output: Output,
    left: u64,
    failure: Option<Failure>,
}

impl Lines {
    fn new(place: &Place, bound: &Bound) -> Self {
        Self {
            output: place.output,
            left: bound.limit,
            failure: None,
        }
    }

    /// Prints an item in the requested format; returns whether to continue.
    fn put(&mut self, piece: &impl Serialize, text: impl FnOnce() -> String) -> ControlFlow<()> {
        let line = match self.output {
            Output::Text => Ok(message::text::line(&text()).into_owned()),
            Output::Json => serde_json::to_string(piece)
                .map(|json| message::text::json(&json).into_owned())
                .map_err(Failure::new),
        };
        self.left -= 1;
        match line.and_then(|line| print(&(line + "\n"))) {
            Ok(true) if self.left > 0 => ControlFlow::Continue(()),
            Ok(_) => ControlFlow::Break(()),
            Err(failure) => {
                self.failure = Some(failure);
                ControlFlow::Break(())
            }
        }
    }

    fn has_room(&self) -> bool {
        self.left > 0 && self.failure.is_none()
    }

    fn end(self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }
}

fn opened(place: &Place) -> Result<(Arc<dyn Disk>, InspectOptions), Failure> {
    let options = options(place, true)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    match disk.exists(&options.root) {
        Ok(true) => Ok((disk, options)),
        Ok(false) => Err(Failure::new(format!("directory {} does not exist", options.root.display()))),
        Err(error) => Err(Failure::new(format!("{}: {error}", options.root.display()))),
    }
}

fn log(arguments: &LogArguments) -> Result<(), Failure> {
    let (disk, options) = opened(&arguments.place)?;
    let mut lines = Lines::new(&arguments.place, &arguments.bound);
    let mut show = |item: LogItem<'_>| match item {
        LogItem::Record(record) => lines.put(&RecordLine::of(record, arguments.body), || text_of(record, arguments.body)),
        LogItem::Hole { from, to, why } => lines.put(&json!({"hole_from": from.0, "hole_to": to.0, "why": why}), || {
            format!("{from} to {to}: {why}")
        }),
    };
    inspect::records(&disk, &options, LogOffset(arguments.from), &mut show).map_err(Failure::new)?;
    lines.end()
}

/// A record as JSON.
#[derive(Serialize)]
struct RecordLine<'a> {
    log_offset: i64,
    bytes: usize,
    topic: &'a str,
    queue: i32,
    queue_offset: i64,
    stored_ms: i64,
    born_ms: i64,
    born_host: SocketAddr,
    store_host: SocketAddr,
    flag: i32,
    sys_flag: i32,
    reconsume_times: i32,
    prepared_offset: i64,
    body_crc: u32,
    body_bytes: usize,
    properties: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl<'a> RecordLine<'a> {
    fn of(record: &Record<'a>, body: usize) -> Self {
        Self {
            log_offset: record.log_offset.0,
            bytes: record.size,
            topic: record.topic,
            queue: record.queue_id,
            queue_offset: record.queue_offset.0,
            stored_ms: record.store_timestamp,
            born_ms: record.born_timestamp,
            born_host: record.born_host,
            store_host: record.store_host,
            flag: record.flag,
            sys_flag: record.sys_flag,
            reconsume_times: record.reconsume_times,
            prepared_offset: record.prepared_offset,
            body_crc: record.body_crc,
            body_bytes: record.body.len(),
            properties: properties::texts(record.properties)
                .map(|(name, value)| (name.into_owned(), value.into()))
                .collect(),
            body: (body > 0).then(|| shown(record.body, body)),
        }
    }
}

fn text_of(record: &Record<'_>, body: usize) -> String {
    let properties: Vec<String> = properties::texts(record.properties)
        .map(|(name, value)| format!("{name}={}", value.escape_debug()))
        .collect();
    let mut text = format!(
        "{} {} bytes {}/{} offset {} stored {} body {} bytes {}",
        record.log_offset,
        record.size,
        record.topic.escape_debug(),
        record.queue_id,
        record.queue_offset,
        record.store_timestamp,
        record.body.len(),
        properties.join(" ")
    );
    if body > 0 {
        text.push_str(" : ");
        text.push_str(&shown(record.body, body).escape_debug().to_string());
    }
    text
}

/// The start of a body, as text if it is text.
fn shown(body: &[u8], most: usize) -> String {
    let part = &body[..body.len().min(most)];
    match std::str::from_utf8(part) {
        Ok(text) => text.to_owned(),
        // The limit is within a character.
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(&part[..error.valid_up_to()]).into_owned(),
        Err(_) => part.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn queue(arguments: &QueueArguments) -> Result<(), Failure> {
    let (disk, options) = opened(&arguments.place)?;
    let mut lines = Lines::new(&arguments.place, &arguments.bound);
    let mut show = |offset: QueueOffset, entry: ::store::queue::Entry| {
        let piece = json!({
            "queue_offset": offset.0, "log_offset": entry.log_offset, "bytes": entry.size, "tags_code": entry.tags_code,
        });
        lines.put(&piece, || {
            format!("{offset} at {} {} bytes tag {}", entry.log_offset, entry.size, entry.tags_code)
        })
    };
    let from = QueueOffset(arguments.from);
    inspect::queue_entries(&disk, &options, &arguments.topic, arguments.queue, from, &mut show).map_err(Failure::new)?;
    lines.end()
}

fn compaction(arguments: &CompactionArguments) -> Result<(), Failure> {
    let of = &arguments.of;
    let (disk, options) = opened(&of.place)?;
    let mut lines = Lines::new(&of.place, &of.bound);
    let mut show = |record: &Record<'_>| lines.put(&RecordLine::of(record, arguments.body), || text_of(record, arguments.body));
    inspect::compacted(&*disk, &options, &of.topic, of.queue, QueueOffset(of.from), &mut show).map_err(Failure::new)?;
    lines.end()
}

fn index(arguments: &IndexArguments) -> Result<(), Failure> {
    let (disk, options) = opened(&arguments.place)?;
    let mut lines = Lines::new(&arguments.place, &arguments.bound);
    if let (Some(key), Some(topic)) = (&arguments.key, &arguments.topic) {
        return under_key(&disk, &options, topic, key, lines);
    }
    let mut show = |item: inspect::IndexItem<'_>| {
        let piece = json!({
            "file": item.file, "item": item.number, "key_hash": item.key_hash, "log_offset": item.log_offset.0,
            "stored_ms": item.stored_ms, "before": item.before,
        });
        lines.put(&piece, || {
            format!(
                "{} {} hash {} at {} stored {} before {}",
                item.file, item.number, item.key_hash, item.log_offset, item.stored_ms, item.before
            )
        })
    };
    inspect::index_items(&disk, &options, arguments.file.as_deref(), arguments.from, &mut show).map_err(Failure::new)?;
    lines.end()
}

/// The records of a key in the index, and whether they have the key.
fn under_key(disk: &Arc<dyn Disk>, options: &InspectOptions, topic: &str, key: &str, mut lines: Lines) -> Result<(), Failure> {
    let most = usize::try_from(lines.left).unwrap_or(usize::MAX);
    for at in inspect::indexed_under(disk, options, topic, key, most).map_err(Failure::new)? {
        let mut told = json!({"log_offset": at.0, "record": "none"});
        let mut text = format!("{at} no record");
        let mut look = |item: LogItem<'_>| {
            if let LogItem::Record(record) = item
                && record.log_offset == at
            {
                let has_key = record.topic == topic && Indexed::of(record.properties).has_key(key);
                told = json!({
                    "log_offset": at.0, "record": if has_key { "has the key" } else { "has another key" },
                    "topic": record.topic, "queue": record.queue_id, "queue_offset": record.queue_offset.0,
                });
                let which = if has_key { "" } else { " (another key of the same hash)" };
                text = format!("{at} {}/{} offset {}{which}", record.topic, record.queue_id, record.queue_offset);
            }
            ControlFlow::Break(())
        };
        inspect::records(disk, options, at, &mut look).map_err(Failure::new)?;
        if lines.put(&told, || text).is_break() {
            break;
        }
    }
    lines.end()
}

fn timers(arguments: &TimerArguments) -> Result<(), Failure> {
    let (disk, options) = opened(&arguments.place)?;
    let mut lines = Lines::new(&arguments.place, &arguments.bound);
    let mut failed = Ok(());
    let mut show = |one: &Waiting| {
        let mut timer = Timer {
            due_ms: one.due_ms,
            what: match (one.recalls(), one.rolls()) {
                (true, _) => "recall",
                (_, true) => "waits on",
                _ => "message",
            },
            log_offset: one.log_offset,
            bytes: i64::from(one.size),
            added_ms: Some(one.written_ms),
            ..Timer::default()
        };
        failed = inspect::records(&disk, &options, LogOffset(one.log_offset), &mut |item| {
            if let LogItem::Record(record) = item
                && record.log_offset.0 == one.log_offset
            {
                timer.describe(record);
            }
            ControlFlow::Break(())
        });
        if failed.is_err() {
            return ControlFlow::Break(());
        }
        lines.put(&timer, || timer.text())
    };
    let shown = inspect::waiting_timers(&disk, &options, arguments.from, &mut show);
    shown.and(failed).map_err(Failure::new)?;
    if lines.has_room() {
        let mut show = |due_ms: i64, record: &Record<'_>| {
            if due_ms < arguments.from {
                return ControlFlow::Continue(());
            }
            let mut timer = Timer {
                due_ms,
                what: "not added yet",
                log_offset: record.log_offset.0,
                bytes: record.size as i64,
                ..Timer::default()
            };
            timer.describe(record);
            lines.put(&timer, || timer.text())
        };
        inspect::timers_to_come(&disk, &options, &mut show).map_err(Failure::new)?;
    }
    lines.end()
}

/// A line about something that waits for a time.
#[derive(Default, Serialize)]
struct Timer {
    due_ms: i64,
    what: &'static str,
    log_offset: i64,
    bytes: i64,
    added_ms: Option<i64>,
    /// None of these if the log does not have its record.
    topic: Option<String>,
    queue: Option<String>,
    uniq_key: Option<String>,
}

impl Timer {
    fn describe(&mut self, record: &Record<'_>) {
        let property = |name| Some(properties::text(record.properties, name).unwrap_or_default().into_owned());
        self.topic = property(properties::REAL_TOPIC);
        self.queue = property(properties::REAL_QID);
        self.uniq_key = property(properties::UNIQ_KEY);
    }

    fn text(&self) -> String {
        let place = match (&self.topic, &self.queue, &self.uniq_key) {
            (Some(topic), Some(queue), Some(key)) => format!("{}/{queue} {}", topic.escape_debug(), key.escape_debug()),
            _ => "no record".to_owned(),
        };
        format!(
            "due {} {} at {} {} bytes {place}",
            self.due_ms, self.what, self.log_offset, self.bytes
        )
    }
}

fn config(arguments: &ConfigArguments) -> Result<(), Failure> {
    let (disk, options) = opened(&arguments.place)?;
    let mut lines = Lines::new(&arguments.place, &arguments.bound);
    let mut show = |entry: ConfigEntry| {
        let piece = json!({"file": entry.file, "table": entry.table, "key": entry.key, "value": entry.value});
        let text = || format!("{} {} {} {}", entry.file, entry.table, entry.key, entry.value);
        lines.put(&piece, text).is_continue()
    };
    entries(&*disk, &options.root, arguments.file.as_deref(), &mut show).map_err(Failure::new)?;
    lines.end()
}

/// Shown for values that a directory of Apache's does not have.
const APACHES: &str = "(of Apache's form)";

fn checkpoint(place: &Place) -> Result<(), Failure> {
    let (disk, options) = opened(place)?;
    let Some(known) = inspect::checkpoint(&*disk, &options).map_err(Failure::new)? else {
        return Err(Failure::new(format!("{} has no checkpoint", options.root.display())));
    };
    let mut lines = Lines::new(place, &Bound { limit: 1 });
    let _ = lines.put(&known, || {
        format!(
            "log synced to the message stored at    {}\nqueues synced to the message stored at {}\nindex synced to the message stored at  {}\n\
             flushed by the master                  {}\nconfirmed by replicas                  {}\nlog and queues synced below log offset {}\nkeys are indexed below log offset      {}",
            known.log_timestamp,
            known.queue_timestamp,
            known.index_timestamp,
            known.master_flushed,
            known.confirmed,
            known.dispatched.map_or(APACHES.to_owned(), |at| at.to_string()),
            known.indexed.map_or(APACHES.to_owned(), |at| at.to_string())
        )
    });
    lines.end()
}
