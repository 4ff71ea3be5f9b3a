//! Walks through the commit log: every whole record in order, and what is between them.
//!
//! If no whole record begins at an offset, the walk searches the next one, which is recognised by its own log offset: bytes that
//! only look like a record have another one. So one bad sector hides one record and not all behind it.

use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;
use crate::log::segment::{Segment, parse_name};
use crate::log::window::{Bad, Found, READ_BYTES, Window};
use message::record::{MAGIC_V1, MAGIC_V2, Record};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One log file, not open.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    /// Offset of its first byte.
    pub(super) base: i64,
    /// Bytes of the file.
    pub(super) len: i64,
    pub(super) path: PathBuf,
}

impl LogFile {
    pub(super) fn end(&self) -> i64 {
        self.base.saturating_add(self.len)
    }
}

/// The log files of a directory, oldest first.
#[derive(Debug)]
pub(super) struct LogFiles {
    disk: Arc<dyn Disk>,
    pub(super) files: Vec<LogFile>,
    /// Names of empty files: their creation was interrupted.
    pub(super) unfinished: Vec<String>,
}

/// An item of the walk.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    /// A whole record.
    Record(&'a Record<'a>),
    /// A part without a whole record begins here.
    Hole(Hole),
    /// A file is missing.
    Missing {
        /// Where it would begin.
        from: i64,
        /// Where the next one begins.
        to: i64,
    },
    /// The walk has passed a file.
    FileDone(&'a LogFile),
}

/// A part of the log without a whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) from: i64,
    /// Where the next record of the file begins; otherwise the end of what was written, `from` if that is nothing.
    pub(super) to: i64,
    /// What is wrong at `from`; `None` if nothing was written.
    pub(super) why: Option<Bad>,
}

impl Hole {
    /// The same as text.
    pub(super) fn reason(&self) -> String {
        self.why.map_or_else(|| "nothing is written here".to_owned(), |why| why.to_string())
    }
}

impl LogFiles {
    /// The files of a directory.
    ///
    /// # Errors
    /// `StoreError::Io` if the directory cannot be listed.
    pub(super) fn list(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, StoreError> {
        let entries = disk.list(dir).map_err(|e| StoreError::io("list", dir, e))?;
        let mut files = Vec::new();
        let mut unfinished = Vec::new();
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            match parse_name(&entry.name) {
                Some(_) if entry.len == 0 => unfinished.push(entry.name),
                Some(base) => files.push(LogFile {
                    base,
                    len: i64::try_from(entry.len).unwrap_or(i64::MAX),
                    path: dir.join(&entry.name),
                }),
                None => {}
            }
        }
        files.sort_unstable_by_key(|file| file.base);
        Ok(Self {
            disk: Arc::clone(disk),
            files,
            unfinished,
        })
    }

    /// Offset of the first byte; 0 if there are no files.
    pub(super) fn first(&self) -> i64 {
        self.files.first().map_or(0, |file| file.base)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len.unsigned_abs()).sum()
    }

    pub(super) fn open(&self, file: &LogFile) -> Result<Segment, StoreError> {
        let opened = self.disk.open(&file.path, OpenMode::Read);
        Ok(Segment {
            base: file.base,
            len: file.len,
            file: opened.map_err(|e| StoreError::io("open", &file.path, e))?,
        })
    }

    /// Calls `visit` with each item from `from` on, until that ends the walk. With `patience` (a directory in use) the first part
    /// without a record at or above that offset ends the walk: it may be in the middle of a write.
    ///
    /// # Errors
    /// `StoreError::Io` if the log cannot be read, and the errors of `visit`.
    pub(super) fn walk(
        &self,
        from: i64,
        check_crc: bool,
        patience: Option<i64>,
        visit: &mut dyn FnMut(Seen<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut before: Option<i64> = None;
        for file in self.files.iter().filter(|file| file.end() > from) {
            if let Some(end) = before.filter(|end| *end != file.base)
                && visit(Seen::Missing { from: end, to: file.base })?.is_break()
            {
                return Ok(());
            }
            before = Some(file.end());
            let segment = self.open(file)?;
            if walk_file(&segment, from, check_crc, patience, visit)?.is_break() || visit(Seen::FileDone(file))?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Log offset of the first whole record at or after `from`.
    ///
    /// # Errors
    /// `StoreError::Io` if the file cannot be opened.
    pub(super) fn record_from(&self, from: i64) -> Result<Option<i64>, StoreError> {
        for file in self.files.iter().filter(|file| file.end() > from) {
            let (next, _) = next_record(&self.open(file)?, from.max(file.base), false)?;
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }
}

fn walk_file(
    segment: &Segment,
    from: i64,
    check_crc: bool,
    patience: Option<i64>,
    visit: &mut dyn FnMut(Seen<'_>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<ControlFlow<()>, StoreError> {
    let mut window = Window::new(segment, from.max(segment.base));
    let mut at = from.max(segment.base);
    loop {
        let why = match window.look(at, check_crc)? {
            Found::Record(record) => {
                if visit(Seen::Record(&record))?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                at += record.size as i64;
                continue;
            }
            Found::NextFile => return Ok(ControlFlow::Continue(())),
            Found::Nothing => None,
            Found::Bad(why) => Some(why),
        };
        if patience.is_some_and(|limit| at >= limit) {
            return visit(Seen::Hole(Hole {
                from: at,
                to: at,
                why: None,
            }))
            .map(|_| ControlFlow::Break(()));
        }
        let (next, dirty_end) = next_record(segment, at + 1, check_crc)?;
        let to = next.unwrap_or(dirty_end.max(if why.is_some() { at + 1 } else { at }));
        if visit(Seen::Hole(Hole { from: at, to, why }))?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        match next {
            Some(next) => at = next,
            None => return Ok(ControlFlow::Continue(())),
        }
    }
}

/// The first whole record that begins at or after `from` in a file, and the end of the non-zero bytes before it.
fn next_record(segment: &Segment, from: i64, check_crc: bool) -> Result<(Option<i64>, i64), StoreError> {
    let failed = |e| StoreError::Io {
        action: "read",
        path: format!("commit log after {from}"),
        source: e,
    };
    let mut window = Window::new(segment, from);
    let mut block = vec![0; READ_BYTES];
    let mut dirty_end = segment.base;
    let mut position = segment.position(from);
    while let Some(data) = segment.file.next_data(position).map_err(failed)? {
        position = data.start.max(position);
        while position < data.end {
            let want = block.len().min(usize::try_from(data.end - position).unwrap_or(usize::MAX));
            let read = segment.file.read_at(&mut block[..want], position).map_err(failed)?;
            let bytes = &block[..read];
            let base = segment.base + position as i64;
            for start in magics(bytes).map(|at| base + at as i64 - 4).filter(|start| *start >= from) {
                if matches!(window.look(start, check_crc)?, Found::Record(_)) {
                    return Ok((Some(start), dirty_end.min(start)));
                }
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                dirty_end = base + last as i64 + 1;
            }
            // A magic number may be split between two blocks.
            position += if read == want && read > 8 && position + (read as u64) < data.end {
                read as u64 - 3
            } else {
                data.end - position
            };
        }
    }
    Ok((None, dirty_end))
}

/// Position of a record's magic number in the bytes.
fn magics(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let [first, ..] = MAGIC_V1.to_be_bytes();
    memchr::memchr_iter(first, bytes).filter(move |at| {
        let magic = bytes.get(*at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        matches!(magic, Some(MAGIC_V1 | MAGIC_V2))
    })
}
