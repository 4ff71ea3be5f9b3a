//! Frames of the log's file.
//!
//! | Offset | Size | |
//! |---|---|---|
//! | 0 | 4 | `APCL` |
//! | 4 | 4 | length of the content, bytes |
//! | 8 | 8 | number of the frame in its file, from 0 |
//! | 16 | 4 | CRC-32 of number and content |
//! | 20 | | the content: an [`Item`] as JSON |
//!
//! Numbers are big-endian. A frame is written when the one before it is on the device. So the last frame of a file may be torn, and a bad
//! frame with a good one of a later write behind it is damage.

use openraft::{Entry, LogId, Vote};
use serde::{Deserialize, Serialize};

use super::{Identity, Types};

const MAGIC: [u8; 4] = *b"APCL";
const HEADER: usize = 20;
/// Maximum length of a content, bytes.
const MAX_CONTENT: usize = 256 << 20;

/// What a frame says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Item {
    /// Whose file it is; always the first frame.
    Identity(Identity),
    /// The vote.
    Vote(Vote<u64>),
    /// Entries at the end of the log.
    Entries(Vec<Entry<Types>>),
    /// Entries from this index on are removed.
    Truncated(u64),
    /// Entries up to this one are in the snapshot.
    Purged(LogId<u64>),
}

/// Encodes a frame.
pub(super) fn encode(number: u64, item: &Item) -> std::io::Result<Vec<u8>> {
    let content = serde_json::to_vec(item)?;
    if content.len() > MAX_CONTENT {
        return Err(std::io::Error::other(format!("a frame of {} bytes is too large", content.len())));
    }
    Ok(frame(number, &content))
}

/// A frame with this content, which has [`MAX_CONTENT`] bytes at most.
pub(super) fn frame(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + content.len());
    bytes.extend(MAGIC);
    bytes.extend((content.len() as u32).to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend(checksum(number, content).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn checksum(number: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(content);
    hasher.finalize()
}

/// A good frame: its number, its content and its length.
struct Found<'a> {
    number: u64,
    content: &'a [u8],
    len: usize,
}

fn parse(bytes: &[u8]) -> Option<Found<'_>> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    if header[..4] != MAGIC {
        return None;
    }
    let len = usize::try_from(u32::from_be_bytes(*header[4..].first_chunk()?)).ok()?;
    let number = u64::from_be_bytes(*header[8..].first_chunk()?);
    let crc = u32::from_be_bytes(*header[16..].first_chunk()?);
    let content = bytes.get(HEADER..HEADER.checked_add(len)?)?;
    (checksum(number, content) == crc).then_some(Found {
        number,
        content,
        len: HEADER + len,
    })
}

/// The frames of a file.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What they say.
    pub(super) items: Vec<Item>,
    /// Bytes of the good frames; what follows was not acknowledged.
    pub(super) end: usize,
}

/// Reads the frames of a file.
///
/// # Errors
/// The offset of a frame that is damaged and was acknowledged.
pub(super) fn decode(bytes: &[u8]) -> Result<Frames, usize> {
    let mut frames = Frames::default();
    while frames.end < bytes.len() {
        let next = frames.items.len() as u64;
        let found = parse(&bytes[frames.end..]).filter(|found| found.number == next);
        let Some(found) = found else {
            return if has_later(&bytes[frames.end + 1..], next) {
                Err(frames.end)
            } else {
                Ok(frames)
            };
        };
        frames.items.push(serde_json::from_slice(found.content).map_err(|_| frames.end)?);
        frames.end += found.len;
    }
    Ok(frames)
}

/// Whether there is a good frame that was written after frame `number`.
fn has_later(bytes: &[u8], number: u64) -> bool {
    let mut starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| **window == MAGIC);
    starts.any(|(at, _)| parse(&bytes[at..]).is_some_and(|found| found.number > number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(count: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for number in 0..count {
            starts.push(bytes.len());
            bytes.extend(encode(number, &Item::Truncated(number * 7)).unwrap());
        }
        (bytes, starts)
    }

    #[test]
    fn a_torn_end_is_cut_off_and_damage_before_it_is_found() {
        let (bytes, starts) = file(4);
        assert_eq!(decode(&bytes).unwrap().items.len(), 4);
        for cut in starts[3]..bytes.len() {
            let frames = decode(&bytes[..cut]).unwrap();
            assert_eq!((frames.items.len(), frames.end), (3, starts[3]), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            match decode(&damaged) {
                Ok(frames) => assert!(at >= starts[3] && frames.end == starts[3], "{at}"),
                Err(found) => assert!(at < starts[3] && starts.contains(&found) && found <= at, "{at}"),
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        for len in 0..64 {
            let _ = decode(&vec![0xff; len]);
            let _ = decode(&[&MAGIC[..], &vec![0xff; len]].concat());
        }
    }
}
