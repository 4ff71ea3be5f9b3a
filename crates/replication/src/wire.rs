//! The bytes of Apache's default HA. All numbers are big-endian.
//!
//! ```text
//! slave  → master: log offset 8            the one it needs, then how far it is
//! master → slave:  log offset 8, size 4, then so many bytes of the log, all of one file; size 0 is a heartbeat
//! ```

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_as_apaches_brokers_write_it() {
        let bytes = header(0x0102_0304_0506_0708, 32 << 10);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x80, 0]);
        assert_eq!(parse_header(&bytes), (0x0102_0304_0506_0708, 32 << 10));
        assert_eq!(parse_header(&[0xff; HEADER_LEN]), (-1, -1));
    }
}
