//! The snapshot's file: the state at an index of the log.
//!
//! | Offset | Size | |
//! |---|---|---|
//! | 0 | 4 | `APCS` |
//! | 4 | 4 | CRC-32 of the rest, big-endian |
//! | 8 | | [`Kept`] as JSON |

use std::io;

use openraft::{EmptyNode, SnapshotMeta};
use serde::{Deserialize, Serialize};

use crate::replicas::Replicas;

/// Name of the file.
pub(super) const NAME: &str = "snapshot";
const MAGIC: [u8; 4] = *b"APCS";
const HEADER: usize = 8;

/// A snapshot. Controllers send each other the JSON of its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) meta: SnapshotMeta<u64, EmptyNode>,
    pub(super) state: Replicas,
}

/// Encodes the file.
pub(super) fn encode(kept: &Kept) -> io::Result<Vec<u8>> {
    Ok(file(&serde_json::to_vec(kept)?))
}

/// The file with this content.
pub(super) fn file(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + content.len());
    bytes.extend(MAGIC);
    bytes.extend(crc32fast::hash(content).to_be_bytes());
    bytes.extend(content);
    bytes
}

/// Reads the file.
///
/// # Errors
/// The offset of what is damaged.
#[expect(clippy::needless_pass_by_value, reason = "the file is not used afterwards")]
pub(super) fn decode(bytes: Vec<u8>) -> Result<Kept, usize> {
    let (header, content) = bytes.split_first_chunk::<HEADER>().ok_or(0usize)?;
    if header[..4] != MAGIC || header[4..] != crc32fast::hash(content).to_be_bytes() {
        return Err(0);
    }
    serde_json::from_slice(content).map_err(|error| HEADER + error.column())
}
