//! A unit of the timer log: when a message is due, and where it is.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length, 52 |
//! | 8 | position of the unit before it in the same slot, or -1 |
//! | 4 | flags: 1 always, 2 rolls, 4 deletes |
//! | 8 | when it was written, epoch ms |
//! | 4 | from then until it is due, ms |
//! | 8 | log offset of the message |
//! | 4 | bytes of its record |
//! | 4 | Java's hash of the topic it is for |
//! | 8 | 0 |

/// Bytes of a unit.
pub(super) const LEN: usize = 52;
/// Flag of every unit.
const ALWAYS: i32 = 1;
/// The message waits longer than the wheel is wide: when the unit is due, the message is written again.
pub const ROLLS: i32 = 2;
/// The message recalls another one of the same slot.
pub const DELETES: i32 = 4;
/// Apache takes no flags but the lowest four.
const KNOWN_FLAGS: i32 = 0xF;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Names slot and due time, epoch ms; see [`super::TimerIndex::due_ms`].
    pub value_ms: i64,
    /// [`ROLLS`] and [`DELETES`].
    pub flags: i32,
    /// When it was added, epoch ms; within 24 days of `value_ms`.
    pub written_ms: i64,
    /// Log offset of the message.
    pub log_offset: i64,
    /// Bytes of its record.
    pub size: i32,
    /// Java's hash of the topic it is for.
    pub topic_hash: i32,
}

impl Unit {
    /// Whether its message is written again when it is due.
    #[must_use]
    pub fn rolls(&self) -> bool {
        self.flags & ROLLS != 0
    }

    /// Whether its message recalls another one.
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.flags & DELETES != 0
    }

    pub(super) fn encode(&self, prev: i64) -> [u8; LEN] {
        // Compat: the delay is an int; callers keep within it.
        let delay = (self.value_ms - self.written_ms).clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&(LEN as i32).to_be_bytes());
        bytes[4..12].copy_from_slice(&prev.to_be_bytes());
        bytes[12..16].copy_from_slice(&(self.flags | ALWAYS).to_be_bytes());
        bytes[16..24].copy_from_slice(&(self.value_ms - i64::from(delay)).to_be_bytes());
        bytes[24..28].copy_from_slice(&delay.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.log_offset.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.size.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.topic_hash.to_be_bytes());
        bytes
    }

    /// The position of the unit before it, and the unit; `None` if these bytes are none.
    pub(super) fn decode(bytes: &[u8; LEN]) -> Option<(i64, Self)> {
        let int = |at: usize| i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| (i64::from(int(at)) << 32) | i64::from(int(at + 4) as u32);
        let (len, flags) = (int(0), int(12));
        if len != LEN as i32 || flags & !KNOWN_FLAGS != 0 {
            return None;
        }
        let written_ms = long(16);
        let unit = Self {
            value_ms: written_ms.checked_add(int(24).into())?,
            flags: flags & (ROLLS | DELETES),
            written_ms,
            log_offset: long(28),
            size: int(36),
            topic_hash: int(40),
        };
        (unit.log_offset >= 0 && unit.size > 0).then_some((long(4), unit))
    }
}
