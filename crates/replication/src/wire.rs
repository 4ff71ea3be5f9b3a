//! The bytes of Apache's default HA, and of its HA under a controller. All numbers are big-endian.
//!
//! ```text
//! slave  → master: log offset 8            the one it needs, then how far it is
//! master → slave:  log offset 8, size 4, then so many bytes of the log, all of one file; size 0 is a heartbeat
//! ```
//!
//! Under a controller (`AutoSwitchHAConnection`, `AutoSwitchHAClient`):
//!
//! ```text
//! slave  → master: state 4 (handshake), from last file 2, learner 2, broker id 8
//! master → slave:  state 4 (handshake), size of the epochs 4, end of the log 8, last epoch 4, then for each epoch: epoch 4, beginning 8
//! slave  → master: state 4 (transfer), log offset 8
//! master → slave:  state 4 (transfer), size 4, log offset 8, epoch 4, its beginning 8, confirmed offset 8, then the bytes, all of one epoch
//! ```

use crate::epochs::{Epoch, Epochs, MAX_EPOCHS};
use bytes::{Buf, BufMut};

/// Bytes of a report.
pub(crate) const REPORT_LEN: usize = 8;
/// Bytes of the header before a piece of the log.
pub(crate) const HEADER_LEN: usize = 12;

/// The header before `size` bytes of the log from `offset` on.
pub(crate) fn header(offset: i64, size: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&offset.to_be_bytes());
    header[8..].copy_from_slice(&(size as u32).to_be_bytes());
    header
}

/// Offset and size of a header.
pub(crate) fn parse_header(header: &[u8; HEADER_LEN]) -> (i64, i32) {
    let (offset, size) = header.split_at(8);
    let offset = offset.try_into().map_or(0, i64::from_be_bytes);
    let size = size.try_into().map_or(0, i32::from_be_bytes);
    (offset, size)
}

/// Bytes of a slave's handshake under a controller.
pub(crate) const SLAVE_HANDSHAKE_LEN: usize = 16;
/// Bytes of a report under a controller.
pub(crate) const STATE_REPORT_LEN: usize = 12;
/// Bytes of a master's handshake before its epochs.
pub(crate) const MASTER_HANDSHAKE_LEN: usize = 20;
/// Bytes of an epoch in it.
pub(crate) const EPOCH_LEN: usize = 12;
/// Bytes of the header before a piece of the log, under a controller.
pub(crate) const EPOCH_HEADER_LEN: usize = 36;
/// Compat: the state of a connection, the place in Apache's `HAConnectionState`.
const HANDSHAKE: i32 = 1;
const TRANSFER: i32 = 2;

/// What a slave says first under a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlaveHandshake {
    /// With nothing of the log: begin at the newest file, not at the oldest.
    pub(crate) from_last_file: bool,
    /// It never becomes a member of the in-sync set.
    pub(crate) is_learner: bool,
    /// Its broker id.
    pub(crate) id: i64,
}

impl SlaveHandshake {
    pub(crate) fn encode(self) -> [u8; SLAVE_HANDSHAKE_LEN] {
        let mut bytes = [0; SLAVE_HANDSHAKE_LEN];
        bytes[..4].copy_from_slice(&HANDSHAKE.to_be_bytes());
        bytes[4..6].copy_from_slice(&u16::from(self.from_last_file).to_be_bytes());
        bytes[6..8].copy_from_slice(&u16::from(self.is_learner).to_be_bytes());
        bytes[8..].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }

    /// `None` if it is none.
    pub(crate) fn parse(bytes: &[u8; SLAVE_HANDSHAKE_LEN]) -> Option<Self> {
        let mut bytes = &bytes[..];
        (bytes.get_i32() == HANDSHAKE).then(|| Self {
            from_last_file: bytes.get_u16() == 1,
            is_learner: bytes.get_u16() == 1,
            id: bytes.get_i64(),
        })
    }
}

/// A report under a controller.
pub(crate) fn state_report(offset: i64) -> [u8; STATE_REPORT_LEN] {
    let mut bytes = [0; STATE_REPORT_LEN];
    bytes[..4].copy_from_slice(&TRANSFER.to_be_bytes());
    bytes[4..].copy_from_slice(&offset.to_be_bytes());
    bytes
}

/// The offset of a report; `None` if it is none.
pub(crate) fn parse_state_report(mut bytes: &[u8]) -> Option<i64> {
    (bytes.len() == STATE_REPORT_LEN && bytes.get_i32() == TRANSFER).then(|| bytes.get_i64())
}

/// The answer to a slave's handshake: where the log ends, and its epochs.
pub(crate) fn master_handshake(end: i64, epochs: &Epochs) -> Vec<u8> {
    let all = epochs.all();
    let mut bytes = Vec::with_capacity(MASTER_HANDSHAKE_LEN + all.len() * EPOCH_LEN);
    bytes.put_i32(HANDSHAKE);
    bytes.put_i32((all.len() * EPOCH_LEN) as i32);
    bytes.put_i64(end);
    bytes.put_i32(epochs.last().map_or(-1, |last| last.number));
    for epoch in all {
        bytes.put_i32(epoch.number);
        bytes.put_i64(epoch.begin);
    }
    bytes
}

/// Bytes of the epochs behind this beginning of a master's handshake, and its log's end. `None` if it is none.
pub(crate) fn parse_master_handshake(bytes: &[u8; MASTER_HANDSHAKE_LEN]) -> Option<(usize, i64)> {
    let mut bytes = &bytes[..];
    let (state, size, end) = (bytes.get_i32(), bytes.get_i32(), bytes.get_i64());
    let size = usize::try_from(size).ok()?;
    let is_handshake = state == HANDSHAKE && size.is_multiple_of(EPOCH_LEN) && size <= MAX_EPOCHS * EPOCH_LEN && end >= 0;
    is_handshake.then_some((size, end))
}

/// The epochs of a master's handshake. `None` if they do not grow.
pub(crate) fn parse_epochs(bytes: &[u8]) -> Option<Epochs> {
    let epochs = bytes.chunks_exact(EPOCH_LEN).map(|mut bytes| Epoch {
        number: bytes.get_i32(),
        begin: bytes.get_i64(),
    });
    Epochs::from_peer(epochs.collect())
}

/// The header before a piece of the log, under a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochHeader {
    pub(crate) offset: i64,
    pub(crate) size: i32,
    /// The epoch of the piece; an Apache master names the next one in the last header before it.
    pub(crate) epoch: Epoch,
    /// Up to where the log is confirmed.
    pub(crate) confirmed: i64,
}

impl EpochHeader {
    pub(crate) fn encode(self) -> [u8; EPOCH_HEADER_LEN] {
        let mut bytes = [0; EPOCH_HEADER_LEN];
        let mut rest = &mut bytes[..];
        rest.put_i32(TRANSFER);
        rest.put_i32(self.size);
        rest.put_i64(self.offset);
        rest.put_i32(self.epoch.number);
        rest.put_i64(self.epoch.begin);
        rest.put_i64(self.confirmed);
        bytes
    }

    /// `None` if it is none.
    pub(crate) fn parse(bytes: &[u8; EPOCH_HEADER_LEN]) -> Option<Self> {
        let mut bytes = &bytes[..];
        let (state, size, offset) = (bytes.get_i32(), bytes.get_i32(), bytes.get_i64());
        let header = Self {
            offset,
            size,
            epoch: Epoch {
                number: bytes.get_i32(),
                begin: bytes.get_i64(),
            },
            confirmed: bytes.get_i64(),
        };
        (state == TRANSFER && size >= 0).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_under_a_controller_are_as_apaches_brokers_write_them() {
        let hello = SlaveHandshake {
            from_last_file: false,
            is_learner: true,
            id: 2,
        };
        assert_eq!(hello.encode(), [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(SlaveHandshake::parse(&hello.encode()), Some(hello));
        assert_eq!(SlaveHandshake::parse(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(parse_state_report(&state_report(-7)), Some(-7));
        assert_eq!(parse_state_report(&hello.encode()[..12]), None);
        let mut epochs = Epochs::default();
        assert!(epochs.begin(3, 0) && epochs.begin(5, 0x100));
        let bytes = master_handshake(0x200, &epochs);
        assert_eq!(bytes[..20], [0, 0, 0, 1, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 5]);
        assert_eq!(bytes[20..32], [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
        let begin: [u8; MASTER_HANDSHAKE_LEN] = bytes[..20].try_into().unwrap();
        assert_eq!(parse_master_handshake(&begin), Some((24, 0x200)));
        assert_eq!(parse_epochs(&bytes[20..]), Some(epochs));
        assert_eq!(parse_master_handshake(&[0xff; MASTER_HANDSHAKE_LEN]), None);
        let header = EpochHeader {
            offset: 0x100,
            size: 9,
            epoch: Epoch { number: 5, begin: 0x100 },
            confirmed: 0xf0,
        };
        let bytes = header.encode();
        assert_eq!(bytes[..20], [0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 5]);
        assert_eq!(bytes[20..], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0]);
        assert_eq!(EpochHeader::parse(&bytes), Some(header));
        assert_eq!(EpochHeader::parse(&[0xff; EPOCH_HEADER_LEN]), None);
    }

    #[test]
    fn a_header_is_as_apaches_brokers_write_it() {
        let bytes = header(0x0102_0304_0506_0708, 32 << 10);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x80, 0]);
        assert_eq!(parse_header(&bytes), (0x0102_0304_0506_0708, 32 << 10));
        assert_eq!(parse_header(&[0xff; HEADER_LEN]), (-1, -1));
    }
}
