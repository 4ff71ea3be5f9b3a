//! Making an index file right after an unclean stop: what is below the checkpoint is on the disk for sure, of the rest
//! anything may be missing, and slots may lead into it.
//!
//! So the slots and the links between the items are made again from the items below the checkpoint, which needs one pass
//! over the file, and the items above are forgotten; they are put again from the log.

use std::io;

use super::layout::{Header, ITEM_LEN, IndexOptions, Item, SLOT_LEN};
use crate::disk::DiskFile;

/// Items that are read and written at once.
const CHUNK: usize = 8 * 1024;

/// The header to write after [`rebuild`]; `None` when no item is left.
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
    write_slots(file, options, &slots)?;
    file.write_at(&kept.header.encode(), 0)?;
    Ok(Some(kept.header))
}

struct Kept {
    header: Header,
    last_log: i64,
}

impl Kept {
    /// Takes the next item when it is one that was on the disk at the checkpoint. An item of zeros only is taken for none; it
    /// would be the log's first record under a hash of 0.
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
        // To the second below: the item keeps no more. It is put right by the next item.
        self.header.end_timestamp = self.header.begin_timestamp.saturating_add(i64::from(item.seconds) * 1000);
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
