//! The index file being filled. Its slots and newest items are in memory until they are written; a query sees both.
//!
//! Items are written in blocks, and everything before a checkpoint, in the order items, header, slots. So after a kill the header
//! says what is complete: items below its `next` are whole, and no slot leads beyond them.
//!
//! No file is mapped: an I/O error is an error here, not a signal that ends the process.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::file::{IndexFile, Wanted, find, read_whole};
use super::layout::{HEADER_LEN, IndexOptions, Item, SLOT_LEN};
use crate::disk::DiskFile;

/// Bytes of slots that are read and written together. Blocks are aligned, so a slot is within one.
const PAGE: usize = 4 << 10;
/// Maximum bytes of items that wait to be written.
const ITEMS_WAIT_BYTES: usize = 64 << 10;
/// Maximum pages of one write.
const PAGES_OF_A_WRITE: usize = 64;

/// A block of slots; the header's bytes in the first one are not used.
#[derive(Debug)]
struct Page {
    bytes: [u8; PAGE],
    is_dirty: bool,
}

/// The file being filled.
#[derive(Debug)]
pub(super) struct Filling {
    /// With the header in memory.
    pub(super) known: IndexFile,
    pub(super) file: Arc<dyn DiskFile>,
    options: IndexOptions,
    /// By their place in the file; those that were never used are not in memory.
    pages: Vec<Option<Box<Page>>>,
    /// Items that wait to be written, and the number of the first of them.
    waiting: Vec<u8>,
    waiting_from: u32,
    /// Whether something was added since the last [`Filling::write`] that succeeded.
    is_dirty: bool,
}

impl Filling {
    /// Continues to fill a file whose header is known.
    pub(super) fn new(known: IndexFile, file: Arc<dyn DiskFile>, options: IndexOptions) -> Self {
        let slots_end = options.item_at(0) as usize;
        Self {
            waiting_from: known.header.next,
            known,
            file,
            options,
            pages: std::iter::repeat_with(|| None).take(slots_end.div_ceil(PAGE)).collect(),
            waiting: Vec::new(),
            is_dirty: false,
        }
    }

    /// Number of items that fit.
    pub(super) fn room(&self) -> u32 {
        self.options.items.saturating_sub(self.known.header.next)
    }

    /// Adds an item; the caller has checked that there is room.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be read or written; no key was added then.
    pub(super) fn put(&mut self, key_hash: i32, log_offset: i64, store_timestamp: i64) -> io::Result<()> {
        if self.waiting.len() >= ITEMS_WAIT_BYTES {
            self.write_items()?;
        }
        let next = self.known.header.next;
        let slot_at = self.options.slot_at(self.options.slot_of(key_hash));
        let before = self.swap_slot(slot_at, next)?;
        // A number that no earlier item has leads nowhere.
        let before = if before < next { before } else { 0 };
        let header = &mut self.known.header;
        let item = Item {
            key_hash,
            log_offset,
            // Compat: computed before the first item sets the header's time, so that of a later file's first item counts
            // from the end of the file before.
            seconds: header.seconds(store_timestamp),
            before: before as i32,
        };
        self.waiting.extend_from_slice(&item.encode());
        if next <= 1 {
            header.begin_log = log_offset;
            header.begin_timestamp = store_timestamp;
        }
        header.slots_used += u32::from(before == 0);
        header.next += 1;
        header.end_log = log_offset;
        header.end_timestamp = store_timestamp;
        self.is_dirty = true;
        Ok(())
    }

    /// Sets a slot's number and returns the old one.
    fn swap_slot(&mut self, at: u64, number: u32) -> io::Result<u32> {
        let (page, within) = (at as usize / PAGE, at as usize % PAGE);
        let page = match &mut self.pages[page] {
            Some(page) => page,
            missing => {
                let mut bytes = [0; PAGE];
                self.file.read_at(&mut bytes, (page * PAGE) as u64)?;
                missing.insert(Box::new(Page { bytes, is_dirty: false }))
            }
        };
        let slot = &mut page.bytes[within..within + SLOT_LEN];
        let before = slot.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        slot.copy_from_slice(&number.to_be_bytes());
        page.is_dirty = true;
        Ok(before)
    }

    /// Whether something is in memory only.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Writes what is only in memory to the file, without a sync.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written. What was not written stays in memory for the next call.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.write_items()?;
        self.write_header()?;
        self.write_slots()?;
        self.is_dirty = false;
        Ok(())
    }

    pub(super) fn write_header(&mut self) -> io::Result<()> {
        self.file.write_at(&self.known.header.encode(), 0)
    }

    pub(super) fn write_items(&mut self) -> io::Result<()> {
        self.file.write_at(&self.waiting, self.options.item_at(self.waiting_from))?;
        self.waiting.clear();
        self.waiting_from = self.known.header.next;
        Ok(())
    }

    pub(super) fn write_slots(&mut self) -> io::Result<()> {
        let slots_end = self.options.item_at(0) as usize;
        let is_dirty = |page: &Option<Box<Page>>| page.as_ref().is_some_and(|page| page.is_dirty);
        let mut first = 0;
        while first < self.pages.len() {
            let run = self.pages[first..]
                .iter()
                .take(PAGES_OF_A_WRITE)
                .take_while(|page| is_dirty(page))
                .count();
            if run == 0 {
                first += 1;
                continue;
            }
            let slices: Vec<IoSlice<'_>> = self.pages[first..first + run]
                .iter()
                .flatten()
                .enumerate()
                .map(|(n, page)| {
                    let start = (first + n) * PAGE;
                    let from = if start == 0 { HEADER_LEN } else { 0 };
                    IoSlice::new(&page.bytes[from..PAGE.min(slots_end - start)])
                })
                .collect();
            self.file.write_vectored_at(&slices, (first * PAGE).max(HEADER_LEN) as u64)?;
            self.pages[first..first + run]
                .iter_mut()
                .flatten()
                .for_each(|page| page.is_dirty = false);
            first += run;
        }
        Ok(())
    }

    /// Follows a key's chain.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be read.
    pub(super) fn find(&self, wanted: Wanted, steps: &mut u32, out: &mut Vec<i64>) -> io::Result<()> {
        find(self.options, &self.known.header, wanted, steps, out, |at, bytes| {
            self.read(at, bytes)
        })
    }

    /// Reads a slot or an item, from memory if it is there.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let waiting_at = self.options.item_at(self.waiting_from);
        if let Some(from) = at.checked_sub(waiting_at).map(|from| from as usize)
            && let Some(item) = self.waiting.get(from..from + out.len())
        {
            out.copy_from_slice(item);
            return Ok(());
        }
        let (page, within) = (at as usize / PAGE, at as usize % PAGE);
        if at < self.options.item_at(0)
            && let Some(Some(page)) = self.pages.get(page)
        {
            out.copy_from_slice(&page.bytes[within..within + out.len()]);
            return Ok(());
        }
        read_whole(&*self.file, out, at)
    }
}
