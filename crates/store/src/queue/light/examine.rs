//! Reads the light log of a directory without opening it: for `store check` and `store dump`.

use super::block::{self, Header, Kind};
use super::snapshot;
use crate::disk::{Disk, if_exists};
use crate::queue::entry::Entry;
use message::names;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a light log, as they were found.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    files: Vec<(i64, PathBuf)>,
    /// Names of the queues that are there at the end, by number.
    names: FxHashMap<u32, Arc<str>>,
    /// Where a block dropped the entries from a log offset on, in the order of positions.
    truncations: Vec<(i64, i64)>,
    /// Bytes of the files.
    pub(crate) bytes: u64,
    /// Position behind the last whole block that follows all before it.
    pub(crate) end: i64,
    /// Whether whole blocks end before the files do: what is behind is read from the commit log again.
    pub(crate) is_torn: bool,
    /// Log offset below which the entries of all messages are there, as the light log says.
    pub(crate) covered: Option<i64>,
}

/// Entries of one queue in a row.
#[derive(Debug)]
pub(crate) struct Found<'b> {
    pub(crate) name: &'b Arc<str>,
    /// Queue offset of the first entry.
    pub(crate) first: i64,
    body: &'b [u8],
    /// Entries at this log offset or above it were dropped.
    dropped_from: i64,
}

impl Found<'_> {
    /// Queue offset and entry of those that count.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (i64, Entry)> + '_ {
        let entries = (self.first..).zip(block::entries(self.body));
        entries.filter(|(_, entry)| entry.log_offset < self.dropped_from)
    }
}

impl Examined {
    /// The light log in a directory; `None` if there is none, or if nothing of it can be used: the queues are read from the commit log.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be read.
    pub(crate) fn of(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Self>> {
        let listed = if_exists(disk.list(dir))?.unwrap_or_default();
        let files = listed.iter().filter(|found| !found.is_dir && found.name.len() == 20);
        let mut files: Vec<(i64, PathBuf)> = files
            .filter_map(|found| Some((found.name.parse().ok()?, dir.join(&found.name))))
            .collect();
        files.sort_unstable();
        let snapshot_bytes = if_exists(disk.read(&dir.join(snapshot::NAME)))?;
        if files.is_empty() && snapshot_bytes.is_none() {
            return Ok(None);
        }
        let mut this = Self { files, ..Self::default() };
        if let Some(bytes) = &snapshot_bytes {
            let names = &mut this.names;
            let Some(state) = snapshot::parse(bytes, &mut |name, saved| {
                names.insert(saved.chain.number, Arc::from(name));
            }) else {
                return Ok(None);
            };
            (this.end, this.covered) = (state.end, state.covered);
        }
        this.look(disk)?;
        Ok(Some(this))
    }

    /// Notes names, deletions and truncations, and where whole blocks end.
    fn look(&mut self, disk: &dyn Disk) -> io::Result<()> {
        // What the snapshot says is about blocks before its end; the names of what was deleted before are not in it.
        let known_to = self.end;
        let files = self.files.clone();
        self.end = files.first().map_or(0, |(base, _)| *base);
        for (base, path) in &files {
            let bytes = disk.read(path)?;
            self.bytes += bytes.len() as u64;
            let mut at = 0;
            while let Some((header, body, len)) = Header::whole(bytes.get(at..).unwrap_or_default(), base + at as i64) {
                match header.kind {
                    Kind::File if at > 0 || *base > files[0].0 && header.prev != self.end => {
                        self.is_torn = true;
                        return Ok(());
                    }
                    Kind::Name if header.position >= known_to => {
                        let name = std::str::from_utf8(body).ok().filter(|name| names::can_be_light_queue(name));
                        if let Some(name) = name {
                            self.names.insert(header.number, Arc::from(name));
                        }
                    }
                    Kind::Delete if header.position >= known_to => {
                        self.names.remove(&header.number);
                    }
                    Kind::Truncate => self.truncations.push((header.position, header.log_offset)),
                    Kind::Covered if header.position >= known_to => self.covered = Some(header.log_offset),
                    _ => {}
                }
                at += len;
                self.end = base + at as i64;
            }
            if bytes.get(at..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0)) {
                self.is_torn = true;
                return Ok(());
            }
        }
        self.is_torn = self.end < known_to;
        Ok(())
    }

    /// The queues that are there.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.values()
    }

    /// Passes the entries of the queues that are there to `visit`, in the order of the light log.
    ///
    /// # Errors
    /// [`io::Error`] if a file cannot be read.
    pub(crate) fn entries(&self, disk: &dyn Disk, visit: &mut dyn FnMut(Found<'_>)) -> io::Result<()> {
        // The lowest log offset at which a later block drops entries.
        let mut dropped: Vec<(i64, i64)> = Vec::with_capacity(self.truncations.len());
        for (position, log_offset) in self.truncations.iter().rev() {
            let before = dropped.last().map_or(i64::MAX, |(_, lowest)| *lowest);
            dropped.push((*position, before.min(*log_offset)));
        }
        dropped.reverse();
        for (base, path) in &self.files {
            let bytes = disk.read(path)?;
            let mut at = 0;
            while let Some((header, body, len)) = Header::whole(bytes.get(at..).unwrap_or_default(), base + at as i64) {
                if header.position >= self.end {
                    return Ok(());
                }
                if header.kind == Kind::Entries
                    && let Some(name) = self.names.get(&header.number)
                {
                    let later = dropped.partition_point(|(position, _)| *position < header.position);
                    visit(Found {
                        name,
                        first: header.first,
                        body,
                        dropped_from: dropped.get(later).map_or(i64::MAX, |(_, lowest)| *lowest),
                    });
                }
                at += len;
            }
        }
        Ok(())
    }
}

/// The entries of one light queue from an offset on, in order; `None` if there is no such queue.
///
/// # Errors
/// [`io::Error`] if a file cannot be read.
pub(crate) fn entries_of(disk: &dyn Disk, dir: &Path, name: &str, from: i64) -> io::Result<Option<BTreeMap<i64, Entry>>> {
    let Some(found) = Examined::of(disk, dir)? else { return Ok(None) };
    if !found.names().any(|known| **known == *name) {
        return Ok(None);
    }
    let mut entries = BTreeMap::new();
    found.entries(disk, &mut |block| {
        if **block.name == *name {
            entries.extend(block.entries().filter(|(offset, _)| *offset >= from));
        }
    })?;
    Ok(Some(entries))
}
