//! Truncates an index file to the last checkpoint after an unclean stop; keys that are dropped are added again from the log.
//!
//! After a power loss items below the checkpoint are on the device for sure, any others may be missing, and slots may lead to them.
//! So [`rebuild`] computes the slots and the links between items again from the items below, in one pass over the file. After a
//! kill all that was written is there, and [`rewind`] follows only the links of the items that it drops.
//!
//! Dropped items become zeros: after a second crash they must not be taken for items of the log's new end.

use std::io;

use super::file::read_whole;
use super::layout::{Header, ITEM_LEN, IndexOptions, Item, SLOT_LEN};
use crate::disk::DiskFile;
use crate::queue::partition;

/// Items read and written at once.
const CHUNK: usize = 8 * 1024;

/// The header to write after [`rebuild`]; `None` if no item is left.
pub(super) fn rebuild(file: &dyn DiskFile, options: IndexOptions, header: &Header, log_end: i64) -> io::Result<Option<Header>> {
    let mut slots = vec![0u32; options.slots as usize];
    let mut kept = Kept {
        header: Header {
            slots_used: 0,
            next: 1,
            ..*header
        },
        last_log: i64::MIN,
    };
    let mut bytes = vec![0; CHUNK * ITEM_LEN];
    'file: while kept.header.next < options.items {
        let first = kept.header.next;
        let count = CHUNK.min((options.items - first) as usize);
        let chunk = &mut bytes[..count * ITEM_LEN];
        let read = file.read_at(chunk, options.item_at(first))?;
        let (places, _) = chunk[..read].as_chunks_mut::<ITEM_LEN>();
        let mut changed = false;
        let mut done = places.len() < count;
        for place in places {
            let mut item = Item::decode(place);
            if !kept.take(&item, log_end) {
                done = true;
                break;
            }
            let slot = &mut slots[options.slot_of(item.key_hash) as usize];
            kept.header.slots_used += u32::from(*slot == 0);
            if item.before != *slot as i32 {
                item.before = *slot as i32;
                *place = item.encode();
                changed = true;
            }
            *slot = kept.header.next - 1;
        }
        if changed {
            let taken = (kept.header.next - first) as usize;
            file.write_at(&bytes[..taken * ITEM_LEN], options.item_at(first))?;
        }
        if done {
            break 'file;
        }
    }
    if kept.header.next == 1 {
        return Ok(None);
    }
    erase_items(file, options, kept.header.next)?;
    write_slots(file, options, &slots)?;
    file.write_at(&kept.header.encode(), 0)?;
    Ok(Some(kept.header))
}

/// The header to continue with in a file whose items at `log_end` or above are dropped.
///
/// # Errors
/// [`io::Error`] if the file cannot be read; the call may be repeated.
pub(super) fn rewind(file: &dyn DiskFile, options: IndexOptions, header: &Header, log_end: i64) -> io::Result<Header> {
    let item = |number| {
        let mut bytes = [0; ITEM_LEN];
        read_whole(file, &mut bytes, options.item_at(number))?;
        io::Result::Ok(Item::decode(&bytes))
    };
    let is_kept = |number| io::Result::Ok(item(number as u32)?.log_offset < log_end);
    let next = partition(1, i64::from(header.next), is_kept)? as u32;
    let mut rewound = Header { next, ..*header };
    // Newest first. Slots that were not written yet lead to an earlier item.
    for number in (next..header.next).rev() {
        let cut = item(number)?;
        let slot_at = options.slot_at(options.slot_of(cut.key_hash));
        let mut slot = [0; SLOT_LEN];
        read_whole(file, &mut slot, slot_at)?;
        if u32::from_be_bytes(slot) == number {
            file.write_at(&cut.before.to_be_bytes(), slot_at)?;
        }
        rewound.slots_used = rewound.slots_used.saturating_sub(u32::from(cut.before == 0));
    }
    if next > 1 {
        let last = item(next - 1)?;
        rewound.end_log = last.log_offset;
        rewound.end_timestamp = rewound.stored(&last);
    }
    file.write_at(&rewound.encode(), 0)?;
    erase_items(file, options, next)?;
    Ok(rewound)
}

/// Erases all items from a number on.
fn erase_items(file: &dyn DiskFile, options: IndexOptions, from: u32) -> io::Result<()> {
    let mut block = vec![0; CHUNK * ITEM_LEN];
    let mut at = options.item_at(from);
    while let Some(data) = file.next_data(at)? {
        at = data.start;
        while at < data.end {
            let part = block.len().min((data.end - at) as usize);
            let read = file.read_at(&mut block[..part], at)?;
            if read == 0 {
                return Ok(());
            }
            if block[..read].iter().any(|byte| *byte != 0) {
                block[..read].fill(0);
                file.write_at(&block[..read], at)?;
            }
            at += read as u64;
        }
    }
    Ok(())
}

struct Kept {
    header: Header,
    last_log: i64,
}

impl Kept {
    /// Accepts the next item if it was on the device at the checkpoint. An item of zeros is refused; it would be the log's first
    /// record under a hash of 0.
    fn take(&mut self, item: &Item, log_end: i64) -> bool {
        let was_written = *item != Item::default() && item.key_hash >= 0 && item.seconds >= 0;
        if !was_written || item.log_offset < self.last_log.max(0) || item.log_offset >= log_end {
            return false;
        }
        self.last_log = item.log_offset;
        if self.header.next == 1 {
            self.header.begin_log = item.log_offset;
        }
        self.header.end_log = item.log_offset;
        // Rounded down to the second, as the item is; the next item corrects it.
        self.header.end_timestamp = self.header.stored(item);
        self.header.next += 1;
        true
    }
}

fn write_slots(file: &dyn DiskFile, options: IndexOptions, slots: &[u32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK * SLOT_LEN);
    for (at, chunk) in slots.chunks(CHUNK).enumerate() {
        bytes.clear();
        chunk.iter().for_each(|slot| bytes.extend_from_slice(&slot.to_be_bytes()));
        file.write_at(&bytes, options.slot_at((at * CHUNK) as u32))?;
    }
    Ok(())
}
