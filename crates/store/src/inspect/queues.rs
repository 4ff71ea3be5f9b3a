//! Checks the consume queues beside a pass through the log: each queue has a cursor, and since a queue's entries are in log order,
//! one pass finds records without an entry and entries without a record.
//!
//! Memory: a few entries for each queue, out of one budget for all.
//!
//! Not here: which offsets must be complete ([`Judge`] decides), and the files of RocksDB and batch queues of newer Java brokers.

use super::Judge;
use super::report::{EndsByQueue, Findings, Part, QueueEnds, QueueSummary, Severity};
use crate::disk::{Disk, DiskFile, OpenMode, if_exists};
use crate::error::StoreError;
use crate::queue::{ENTRY_LEN, Entry, Extended, OpenFiles, partition};
use message::properties::{self, Indexed};
use message::record::Record;
use message::{hash, names, sys_flag};
use rustc_hash::FxHashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries in memory for all queues together.
const ENTRIES_IN_MEMORY: usize = 2 << 20;
/// Entries read at once for one queue.
const READ_MIN: usize = 16;
const READ_MAX: usize = 4096;
/// Queue files open at once.
const OPEN_FILES: usize = 512;
const LEN: i64 = ENTRY_LEN as i64;
/// Marks the serials of extended entries among open files.
const EXTENDED_SERIAL: u64 = 1 << 63;

const WRONG: &str = "entries that differ from their records";
const MISSING: &str = "records without an entry in their queue";
const DANGLING: &str = "entries that name no record of their queue";
const LOST: &str = "entries whose record was in a damaged part of the log";
const BEYOND: &str = "entries beyond the log's end";
const HOLE: &str = "unwritten entries with written ones behind them";
const ORDER: &str = "entries that go back in the log";
const FILES: &str =
    "queue files of another length than mappedFileSizeConsumeQueue; the queue is not checked (give the configuration with -c FILE)";
const FILE_GAP: &str = "queue files missing between others; entries before the gap are not checked";
const STRAYS: &str = "queue files of deleted messages, left before a gap by a power cut";
const NO_VALUE: &str = "entries whose value is missing in consumequeue_ext; it is read from the record";
const FORMER: &str = "records of a topic or queue that was deleted, or deleted and created again";

/// All queues of a directory.
pub(super) struct Queues {
    disk: Arc<dyn Disk>,
    file_len: i64,
    log_first: i64,
    open: OpenFiles,
    topics: FxHashMap<String, Topic>,
    summary: QueueSummary,
}

#[derive(Default)]
struct Topic {
    queues: FxHashMap<i32, Queue>,
    /// Log offset of the first entry of all its queues: earlier records belong to a deleted topic.
    begins: i64,
}

/// One queue and its cursor.
struct Queue {
    name: String,
    dir: PathBuf,
    serial: u64,
    extended: Option<Extended>,
    /// Bytes, multiples of the file length.
    first: i64,
    end: i64,
    /// The next entry to compare, a queue offset.
    next: i64,
    buffer: Vec<Entry>,
    buffer_at: i64,
    /// The last entry's place in the log.
    last_log_offset: i64,
    /// First entry with a message.
    min: Option<i64>,
    is_judged: bool,
}

/// What is at a cursor.
enum Peeked {
    Entry(Entry),
    /// Not written, or the end of the files.
    Nothing,
}

impl Queues {
    /// The queues whose directories are in `dir`; none if it does not exist.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        file_len: u64,
        log_first: i64,
        findings: &mut Findings,
    ) -> Result<Self, StoreError> {
        let mut queues = Self {
            disk: Arc::clone(disk),
            file_len: i64::try_from(file_len).unwrap_or(i64::MAX).max(LEN) / LEN * LEN,
            log_first,
            open: OpenFiles::new(OPEN_FILES),
            topics: FxHashMap::default(),
            summary: QueueSummary::default(),
        };
        for topic in list(&**disk, dir)?.into_iter().filter(|entry| entry.is_dir) {
            let topic_dir = dir.join(&topic.name);
            let mut found = Topic {
                begins: i64::MAX,
                ..Topic::default()
            };
            for queue in list(&**disk, &topic_dir)? {
                let Some(id) = queue.name.parse::<i32>().ok().filter(|id| queue.is_dir && *id >= 0) else {
                    continue;
                };
                let serial = queues.summary.queues as u64;
                queues.summary.queues += 1;
                let mut opened = queues.open_queue(&topic.name, id, topic_dir.join(&queue.name), serial, findings)?;
                opened.extended = Extended::find(&**disk, dir, &topic.name, id, EXTENDED_SERIAL | serial)
                    .map_err(|e| StoreError::io("look for extended entries of", &topic_dir, e))?;
                found.queues.insert(id, opened);
            }
            queues.summary.topics += usize::from(!found.queues.is_empty());
            queues.topics.insert(topic.name, found);
        }
        queues.find_beginnings()?;
        Ok(queues)
    }

    fn open_queue(&self, topic: &str, id: i32, dir: PathBuf, serial: u64, findings: &mut Findings) -> Result<Queue, StoreError> {
        let mut files: Vec<(i64, u64)> = list(&*self.disk, &dir)?
            .into_iter()
            .filter(|entry| !entry.is_dir && entry.name.len() == 20)
            .filter_map(|entry| Some((entry.name.parse().ok()?, entry.len)))
            .collect();
        files.sort_unstable();
        let name = format!("{topic}/{id}");
        let fits = |at: usize, (base, len): (i64, u64)| {
            let whole = len == self.file_len.unsigned_abs();
            // A killed Java broker may leave the last one short.
            base % self.file_len == 0 && (whole || (at + 1 == files.len() && len < self.file_len.unsigned_abs()))
        };
        let odd = files.iter().enumerate().find(|(at, file)| !fits(*at, **file));
        if let Some((_, (base, len))) = odd {
            findings.add(Severity::Damage, Part::Queues, FILES, || {
                format!("{name}: file {base:020} has {len} bytes, not {}", self.file_len)
            });
        }
        let mut queue = Queue {
            dir,
            serial,
            extended: None,
            first: 0,
            end: 0,
            next: 0,
            buffer: Vec::new(),
            buffer_at: 0,
            last_log_offset: -1,
            min: None,
            is_judged: odd.is_none(),
            name,
        };
        if let Some((last, last_len)) = files.last().copied().filter(|_| odd.is_none()) {
            (queue.first, queue.end) = (last, last + i64::try_from(last_len).unwrap_or(0) / LEN * LEN);
            while files.iter().any(|(base, _)| base + self.file_len == queue.first) {
                queue.first -= self.file_len;
            }
            if let Some((stray, _)) = files.iter().rev().find(|(base, _)| *base < queue.first) {
                let is_expired = self.last_log_offset_in(&queue, *stray)? < self.log_first;
                let (severity, what) = if is_expired {
                    (Severity::Recovery, STRAYS)
                } else {
                    (Severity::Damage, FILE_GAP)
                };
                findings.add(severity, Part::Queues, what, || {
                    format!("{}: nothing from {:020} to {:020}", queue.name, stray + self.file_len, queue.first)
                });
            }
            queue.next = queue.first / LEN;
        }
        Ok(queue)
    }

    /// Log offset of the message of a file's last entry.
    fn last_log_offset_in(&self, queue: &Queue, base: i64) -> Result<i64, StoreError> {
        let path = queue.dir.join(format!("{base:020}"));
        let mut bytes = [0; ENTRY_LEN];
        let file = self.disk.open(&path, OpenMode::Read);
        file.and_then(|file| file.read_at(&mut bytes, (self.file_len - LEN).unsigned_abs()))
            .map_err(|e| StoreError::io("read", &path, e))?;
        Ok(Entry::decode(&bytes).log_offset)
    }

    /// Moves each cursor to the first entry with a message in the log.
    fn find_beginnings(&mut self) -> Result<(), StoreError> {
        let log_first = self.log_first;
        let reader = self.reader();
        for topic in reader.topics.values_mut() {
            for queue in topic.queues.values_mut() {
                if let Peeked::Entry(entry) = reader.files.peek(queue, log_first)? {
                    queue.min = Some(queue.next);
                    topic.begins = topic.begins.min(entry.log_offset);
                }
            }
        }
        Ok(())
    }

    fn reader(&mut self) -> Reader<'_> {
        let chunk = (ENTRIES_IN_MEMORY / self.summary.queues.max(1)).clamp(READ_MIN, READ_MAX);
        Reader {
            files: Files {
                disk: &*self.disk,
                open: &self.open,
                file_len: self.file_len,
                chunk,
            },
            topics: &mut self.topics,
            summary: &mut self.summary,
        }
    }

    /// End in the log of the last entry's message of all queues. The search trusts the queues: after a clean shutdown only.
    pub(super) fn log_end(&mut self) -> Result<i64, StoreError> {
        let reader = self.reader();
        let mut end = 0;
        for queue in reader.topics.values().flat_map(|topic| topic.queues.values()) {
            end = end.max(reader.files.last_log_end(queue)?);
        }
        Ok(end)
    }

    /// Compares a record with its entry. Records come in log order.
    pub(super) fn meet(&mut self, record: &Record<'_>, judge: &Judge, findings: &mut Findings) -> Result<(), StoreError> {
        if !sys_flag::is_in_queue(record.sys_flag) || record.sys_flag & sys_flag::INNER_BATCH != 0 {
            return Ok(());
        }
        let log_first = self.log_first;
        let mut reader = self.reader();
        reader.meet(
            record.topic,
            record.queue_id,
            Some(record.queue_offset.0),
            record,
            log_first,
            judge,
            findings,
        )?;
        // Light queues: further queues have the same record.
        if let Some(queues) = properties::text(record.properties, properties::INNER_MULTI_DISPATCH) {
            for name in queues.split(',').filter(|name| !name.is_empty()) {
                reader.meet(name, 0, None, record, log_first, judge, findings)?;
            }
        }
        Ok(())
    }

    /// Checks the entries for which no record was found, and the unwritten rest.
    pub(super) fn finish(
        &mut self,
        log_end: i64,
        judge: &Judge,
        findings: &mut Findings,
    ) -> Result<(QueueSummary, EndsByQueue), StoreError> {
        let log_first = self.log_first;
        let reader = self.reader();
        let mut ends = EndsByQueue::default();
        for (topic, known) in reader.topics.iter_mut() {
            for (id, queue) in known.queues.iter_mut().filter(|(_, queue)| queue.is_judged) {
                reader.files.drain(queue, log_first, log_end, judge, findings)?;
                let max = queue.next;
                let min = queue.min.unwrap_or(max);
                ends.insert((topic.clone(), *id), QueueEnds { min, max });
            }
        }
        Ok((self.summary.clone(), ends))
    }
}

/// Access to the entries, apart from the queues that change.
struct Files<'a> {
    disk: &'a dyn Disk,
    open: &'a OpenFiles,
    file_len: i64,
    chunk: usize,
}

struct Reader<'a> {
    files: Files<'a>,
    topics: &'a mut FxHashMap<String, Topic>,
    summary: &'a mut QueueSummary,
}

impl Reader<'_> {
    /// `queue_offset` is `None` if the record does not have it.
    #[allow(clippy::too_many_arguments)]
    fn meet(
        &mut self,
        topic: &str,
        id: i32,
        queue_offset: Option<i64>,
        record: &Record<'_>,
        log_first: i64,
        judge: &Judge,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let at = record.log_offset.0;
        let place = || format!("{topic}/{id} offset {}, log offset {at}", record.queue_offset);
        let known = self.topics.get_mut(topic);
        let begins = known.as_ref().map_or(i64::MAX, |known| known.begins);
        let Some(queue) = known.and_then(|known| known.queues.get_mut(&id)) else {
            // A light queue is created when it is read.
            if queue_offset.is_some() {
                absent(at, at < begins, judge, findings, place);
            }
            return Ok(());
        };
        if !queue.is_judged {
            return Ok(());
        }
        loop {
            let entry = match self.files.peek(queue, log_first)? {
                Peeked::Entry(entry) if entry.log_offset <= at => entry,
                Peeked::Nothing if self.files.skip_hole(queue, queue_offset, at, judge, findings)? => continue,
                _ => {
                    let only_later = queue.last_log_offset < 0 && queue.first == 0 && at < begins;
                    absent(at, only_later, judge, findings, place);
                    return Ok(());
                }
            };
            if entry.log_offset == at {
                self.summary.entries += 1;
                let entry = self.files.resolve(queue, entry)?;
                compare(queue, entry, queue_offset, record, judge, findings);
                queue.take(entry, judge, findings);
                return Ok(());
            }
            findings.add(judge.severity(entry.log_offset), Part::Queues, dangling(entry, judge), || {
                queue.told(entry)
            });
            queue.take(entry, judge, findings);
        }
    }
}

/// A record without an entry in its queue. If it was stored before all messages of its topic, it belongs to a deleted topic:
/// deletion leaves records in the log.
fn absent(at: i64, is_former: bool, judge: &Judge, findings: &mut Findings, place: impl FnOnce() -> String) {
    let (severity, what) = match judge.severity(at) {
        Severity::Damage if is_former => (Severity::Note, FORMER),
        severity => (severity, MISSING),
    };
    findings.add(severity, Part::Queues, what, place);
}

fn dangling(entry: Entry, judge: &Judge) -> &'static str {
    if judge.is_in_hole(entry.log_offset) { LOST } else { DANGLING }
}

fn compare(queue: &Queue, entry: Entry, queue_offset: Option<i64>, record: &Record<'_>, judge: &Judge, findings: &mut Findings) {
    let tags_code = hash::tags_code(&Indexed::of(record.properties).tags);
    // Entries of this topic have delivery times instead of tag hashes.
    let delayed = record.topic == names::SCHEDULE_TOPIC && entry.tags_code >= record.store_timestamp;
    let wrong = if queue_offset.is_some_and(|offset| offset != queue.next) {
        Some(format!("the record has queue offset {}", record.queue_offset))
    } else if entry.size != record.size as i32 {
        Some(format!("the record has {} bytes", record.size))
    } else if !entry.has_value() {
        findings.add(Severity::Note, Part::Queues, NO_VALUE, || queue.told(entry));
        None
    } else if entry.tags_code != tags_code && !delayed {
        Some(format!("the record's tag has code {tags_code}, the entry {}", entry.tags_code))
    } else {
        None
    };
    if let Some(wrong) = wrong {
        findings.add(judge.severity(entry.log_offset), Part::Queues, WRONG, || {
            format!("{}: {wrong}", queue.told(entry))
        });
    }
}

impl Queue {
    fn told(&self, entry: Entry) -> String {
        format!(
            "{} offset {} names {} bytes at {}",
            self.name, self.next, entry.size, entry.log_offset
        )
    }

    /// Moves to the next entry.
    fn take(&mut self, entry: Entry, judge: &Judge, findings: &mut Findings) {
        if entry.log_offset <= self.last_log_offset {
            findings.add(judge.severity(entry.log_offset), Part::Queues, ORDER, || self.told(entry));
        }
        self.last_log_offset = self.last_log_offset.max(entry.log_offset);
        self.next += 1;
    }
}

impl Files<'_> {
    /// The entry at the cursor, which skips entries without a message and messages that retention deleted.
    fn peek(&self, queue: &mut Queue, log_first: i64) -> Result<Peeked, StoreError> {
        if !queue.is_judged {
            return Ok(Peeked::Nothing);
        }
        while queue.next * LEN < queue.end {
            let entry = self.entry(queue, queue.next)?;
            if !entry.is_written() {
                return Ok(Peeked::Nothing);
            }
            if !entry.is_blank() && entry.log_offset >= log_first {
                return Ok(Peeked::Entry(entry));
            }
            queue.next += 1;
        }
        Ok(Peeked::Nothing)
    }

    /// An entry with its value, from the extended file if it is there.
    fn resolve(&self, queue: &Queue, entry: Entry) -> Result<Entry, StoreError> {
        let Some(extended) = queue.extended.as_ref().filter(|_| !entry.has_value()) else {
            return Ok(entry);
        };
        let value = extended.value(self.disk, self.open, entry.tags_code, false);
        let value = value.map_err(|e| StoreError::io("read extended entries of", &queue.dir, e))?;
        Ok(Entry {
            tags_code: value.unwrap_or(entry.tags_code),
            ..entry
        })
    }

    /// Whether the entry of a record is behind unwritten ones; then the cursor moves to it.
    fn skip_hole(
        &self,
        queue: &mut Queue,
        queue_offset: Option<i64>,
        log_offset: i64,
        judge: &Judge,
        findings: &mut Findings,
    ) -> Result<bool, StoreError> {
        let Some(to) = queue_offset.filter(|to| *to > queue.next && to.saturating_mul(LEN) < queue.end) else {
            return Ok(false);
        };
        if self.entry(queue, to)?.log_offset != log_offset {
            return Ok(false);
        }
        let count = (to - queue.next).unsigned_abs();
        findings.add_many(count, judge.severity(log_offset), Part::Queues, HOLE, || {
            format!("{} offsets {} to {}", queue.name, queue.next, to - 1)
        });
        queue.next = to;
        Ok(true)
    }

    fn entry(&self, queue: &mut Queue, at: i64) -> Result<Entry, StoreError> {
        let index = usize::try_from(at - queue.buffer_at).ok();
        if let Some(entry) = index.and_then(|index| queue.buffer.get(index)) {
            return Ok(*entry);
        }
        let byte = at * LEN;
        let base = byte - byte.rem_euclid(self.file_len);
        let left = (base + self.file_len).min(queue.end) - byte;
        let count = self.chunk.min(usize::try_from(left / LEN).unwrap_or(0));
        let mut bytes = vec![0; count * ENTRY_LEN];
        let read = self.read(queue, base, (byte - base) as u64, &mut bytes)?;
        let (entries, _) = bytes[..read].as_chunks::<ENTRY_LEN>();
        queue.buffer.clear();
        queue.buffer.extend(entries.iter().map(Entry::decode));
        queue.buffer_at = at;
        // Retention removed the file, or it was truncated: there is nothing.
        Ok(queue.buffer.first().copied().unwrap_or_default())
    }

    fn file(&self, queue: &Queue, base: i64) -> io::Result<Arc<dyn DiskFile>> {
        let path = queue.dir.join(format!("{base:020}"));
        self.open.take((queue.serial, base), || self.disk.open(&path, OpenMode::Read))
    }

    fn read(&self, queue: &Queue, base: i64, at: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        let read = if_exists(self.file(queue, base).and_then(|file| file.read_at(out, at)));
        let read = read.map_err(|e| StoreError::io("read", &queue.dir.join(format!("{base:020}")), e));
        read.map(Option::unwrap_or_default)
    }

    /// End of the last entry's message in a queue without unwritten entries between others; 0 if there is none.
    fn last_log_end(&self, queue: &Queue) -> Result<i64, StoreError> {
        let at = |number: i64| -> Result<Entry, StoreError> {
            let byte = number * LEN;
            let base = byte - byte.rem_euclid(self.file_len);
            let mut bytes = [0; ENTRY_LEN];
            self.read(queue, base, (byte - base) as u64, &mut bytes)?;
            Ok(Entry::decode(&bytes))
        };
        let (first, end) = (queue.first / LEN, queue.end / LEN);
        let written_end = partition(first, end, |number| at(number).map(|entry| entry.is_written()))?;
        if written_end > first {
            Ok(at(written_end - 1)?.log_end())
        } else {
            Ok(0)
        }
    }

    /// Checks the entries that are left, then searches for anything behind the first unwritten one.
    fn drain(&self, queue: &mut Queue, log_first: i64, log_end: i64, judge: &Judge, findings: &mut Findings) -> Result<(), StoreError> {
        while let Peeked::Entry(entry) = self.peek(queue, log_first)? {
            let what = if entry.log_offset >= log_end {
                BEYOND
            } else {
                dangling(entry, judge)
            };
            findings.add(judge.severity(entry.log_offset), Part::Queues, what, || queue.told(entry));
            queue.take(entry, judge, findings);
        }
        let mut byte = queue.next * LEN;
        while byte < queue.end {
            let base = byte - byte.rem_euclid(self.file_len);
            if let Some(entry) = self.written_after(queue, base, (byte - base) as u64)? {
                let severity = judge.severity(entry.log_offset);
                findings.add(severity, Part::Queues, HOLE, || {
                    format!("{} from offset {} on", queue.name, queue.next)
                });
                return Ok(());
            }
            byte = base + self.file_len;
        }
        Ok(())
    }

    /// The first entry written at `at` or after it in a file.
    fn written_after(&self, queue: &Queue, base: i64, at: u64) -> Result<Option<Entry>, StoreError> {
        let failed = |e| StoreError::io("read", &queue.dir.join(format!("{base:020}")), e);
        let file = if_exists(self.file(queue, base)).map_err(failed)?;
        let Some(file) = file else { return Ok(None) };
        let entry_len = ENTRY_LEN as u64;
        let mut bytes = vec![0; READ_MAX * ENTRY_LEN];
        let mut at = at;
        while let Some(data) = file.next_data(at).map_err(failed)? {
            at = at.max(data.start / entry_len * entry_len);
            while at < data.end {
                let read = file.read_at(&mut bytes, at).map_err(failed)?;
                let (entries, _) = bytes[..read].as_chunks::<ENTRY_LEN>();
                let found = entries.iter().map(Entry::decode).find(|entry| *entry != Entry::default());
                if found.is_some() || entries.is_empty() {
                    return Ok(found);
                }
                at += (entries.len() * ENTRY_LEN) as u64;
            }
        }
        Ok(None)
    }
}

/// The names in a directory; none if it does not exist.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<crate::disk::DirEntry>, StoreError> {
    let names = if_exists(disk.list(dir)).map_err(|e| StoreError::io("list", dir, e));
    names.map(Option::unwrap_or_default)
}
