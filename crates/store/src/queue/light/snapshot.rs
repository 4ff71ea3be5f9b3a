//! The file `lightqueue/snapshot`: the state of all light queues at a position of the light log.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | mark, in ASCII |
//! | 4 | version, 1 |
//! | 4 | number of queues |
//! | 8 | position in the light log |
//! | 4 | number of the next queue |
//! | 8 | end of the last message, a log offset |
//! | 8 | log offset below which all messages are entered; -1 if unknown |
//! | | for each queue: 2 length of the name, the name, 4 number, 8 minimum, 8 maximum, 8 end of the last message in the log, 8 log offset of the message at the minimum, 8 position of the newest block, 8 its first offset, 8 the older block it names, 4 how many blocks are before |
//! | 4 | CRC-32 of all before |
//!
//! It is replaced as a whole.

use super::Chain;
use super::load::Loaded;
use super::log::WriteState;
use crate::disk::{Disk, OpenMode};
use crate::queue::ConsumeQueue;
use message::names;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Its name in the directory of the light log.
pub(super) const NAME: &str = "snapshot";
const MARK: &[u8; 8] = b"ApogeeLQ";
const VERSION: u32 = 1;
/// Bytes that are written at once.
const PART_BYTES: usize = 1 << 20;

/// A light queue's numbers, of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) log_end: i64,
    pub(super) min_log_offset: i64,
    pub(super) chain: Chain,
}

/// Replaces the file. Returns its length.
pub(super) fn write(disk: &dyn Disk, dir: &Path, state: &WriteState, queues: &[Arc<ConsumeQueue>]) -> io::Result<i64> {
    let path = dir.join(NAME);
    let fresh = crate::disk::with_suffix(&path, ".tmp");
    let file = disk.open(&fresh, OpenMode::WriteOrCreate)?;
    file.set_len(0)?;
    let mut part = MARK.to_vec();
    part.extend_from_slice(&VERSION.to_be_bytes());
    part.extend_from_slice(&(queues.len() as u32).to_be_bytes());
    part.extend_from_slice(&state.end.to_be_bytes());
    part.extend_from_slice(&state.next_number.to_be_bytes());
    part.extend_from_slice(&state.bound.to_be_bytes());
    part.extend_from_slice(&state.covered.unwrap_or(-1).to_be_bytes());
    let (mut crc, mut at) = (crc32fast::Hasher::new(), 0);
    for queue in queues {
        encode(queue, &mut part);
        if part.len() >= PART_BYTES {
            crc.update(&part);
            file.write_at(&part, at)?;
            at += part.len() as u64;
            part.clear();
        }
    }
    crc.update(&part);
    part.extend_from_slice(&crc.finalize().to_be_bytes());
    file.write_at(&part, at)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&fresh, &path)?;
    disk.sync_dir(dir)?;
    Ok(at as i64 + part.len() as i64)
}

fn encode(queue: &ConsumeQueue, out: &mut Vec<u8>) {
    let Some(saved) = queue.saved_light() else { return };
    // Names are shorter: `names::MAX_LIGHT_LEN`.
    out.extend_from_slice(&(queue.topic().len() as u16).to_be_bytes());
    out.extend_from_slice(queue.topic().as_bytes());
    out.extend_from_slice(&saved.chain.number.to_be_bytes());
    let numbers = [
        saved.min,
        saved.max,
        saved.log_end,
        saved.min_log_offset,
        saved.chain.last,
        saved.chain.first,
        saved.chain.jump,
    ];
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    out.extend_from_slice(&saved.chain.depth.to_be_bytes());
}

/// Reads the file into `loaded`. `None` if it is damaged.
pub(super) fn decode(bytes: &[u8], make: &dyn Fn(&str) -> Arc<ConsumeQueue>, loaded: &mut Loaded) -> Option<WriteState> {
    parse(bytes, &mut |name, saved| {
        let queue = make(name);
        queue.restore_light(saved);
        loaded.add(queue, saved.chain.number);
    })
}

/// Reads the file; `each` is called with each queue. `None` if it is damaged.
pub(super) fn parse(bytes: &[u8], each: &mut dyn FnMut(&str, &Saved)) -> Option<WriteState> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if u32::from_be_bytes(*crc) != crc32fast::hash(content) {
        return None;
    }
    let mut rest = content.strip_prefix(MARK)?;
    if take_u32(&mut rest)? != VERSION {
        return None;
    }
    let count = take_u32(&mut rest)?;
    let state = WriteState {
        end: take_i64(&mut rest)?,
        next_number: take_u32(&mut rest)?,
        bound: take_i64(&mut rest)?,
        covered: Some(take_i64(&mut rest)?).filter(|covered| *covered >= 0),
        ..WriteState::default()
    };
    for _ in 0..count {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rest = after;
        let name = std::str::from_utf8(name).ok().filter(|name| names::can_be_light_queue(name))?;
        let number = take_u32(&mut rest)?;
        let saved = Saved {
            min: take_i64(&mut rest)?,
            max: take_i64(&mut rest)?,
            log_end: take_i64(&mut rest)?,
            min_log_offset: take_i64(&mut rest)?,
            chain: Chain {
                number,
                last: take_i64(&mut rest)?,
                first: take_i64(&mut rest)?,
                jump: take_i64(&mut rest)?,
                depth: take_u32(&mut rest)?,
            },
        };
        if saved.min < 0 || saved.min > saved.max || saved.max > super::MAX_OFFSET || saved.chain.last >= state.end {
            return None;
        }
        each(name, &saved);
    }
    (rest.is_empty() && state.end >= 0).then_some(state)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*taken))
}

fn take_i64(rest: &mut &[u8]) -> Option<i64> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i64::from_be_bytes(*taken))
}
