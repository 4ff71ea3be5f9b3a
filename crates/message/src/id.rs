//! Message ids: the offset id, which the broker assigns and which says where a message is stored.
//!
//! Offset id: upper-case hex of store address (4 or 16 bytes), port (4 bytes), commit log offset (8 bytes):
//! 32 or 56 characters.

use crate::LogOffset;
use std::net::{IpAddr, SocketAddr};

/// Maximum length of an offset id, in characters.
pub const MAX_LEN: usize = 56;

/// Writes an offset id into `out` and returns it.
pub fn write_offset_id(out: &mut [u8; MAX_LEN], store_host: SocketAddr, offset: LogOffset) -> &[u8] {
    let address = match store_host.ip() {
        IpAddr::V4(ip) => write_hex(out, 0, &ip.octets()),
        IpAddr::V6(ip) => write_hex(out, 0, &ip.octets()),
    };
    let port = write_hex(out, address, &i32::from(store_host.port()).to_be_bytes());
    let end = write_hex(out, port, &offset.0.to_be_bytes());
    &out[..end]
}

/// An offset id as text.
#[must_use]
pub fn offset_id(store_host: SocketAddr, offset: LogOffset) -> String {
    let mut out = [0; MAX_LEN];
    String::from_utf8_lossy(write_offset_id(&mut out, store_host, offset)).into_owned()
}

/// Parses an offset id; `None` if the text is not one.
#[must_use]
pub fn parse_offset_id(text: &str) -> Option<(SocketAddr, LogOffset)> {
    let bytes = unhex(text)?;
    let (ip, rest) = match bytes.len() {
        16 => (IpAddr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?), &bytes[4..]),
        28 => (IpAddr::from(<[u8; 16]>::try_from(&bytes[..16]).ok()?), &bytes[16..]),
        _ => return None,
    };
    let port = u16::try_from(i32::from_be_bytes(rest[..4].try_into().ok()?)).ok()?;
    let offset = i64::from_be_bytes(rest[4..12].try_into().ok()?);
    Some((SocketAddr::new(ip, port), LogOffset(offset)))
}

/// Writes bytes from `at` on; returns where they end.
fn write_hex(out: &mut [u8; MAX_LEN], at: usize, bytes: &[u8]) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let end = at + 2 * bytes.len();
    for (digits, byte) in out[at..end].chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    end
}

/// Pairs of hex digits and nothing else: `from_str_radix` would take a sign for a digit.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if text.len() > MAX_LEN || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4 | digit(*low)?) as u8);
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_id_is_read_back_as_written() {
        for host in ["127.0.0.1:10911", "[::1]:10911"] {
            let host: SocketAddr = host.parse().unwrap();
            let id = offset_id(host, LogOffset(0x1234));
            assert_eq!(parse_offset_id(&id), Some((host, LogOffset(0x1234))));
        }
        assert_eq!(
            offset_id("127.0.0.1:10911".parse().unwrap(), LogOffset(0)),
            "7F00000100002A9F0000000000000000"
        );
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "7F",
            "zz",
            "7F00000100002A9F000000000000000",
            "7F0000010FFF2A9F0000000000000000+",
            "7F00000100002A9F00000000000000+A",
            "7F00000100002A9F00000000000000-A",
            "7F00000100002A9F00000000000000 A",
            "+F00000100002A9F0000000000000000",
            "7F00000100002A9F000000000000000٣",
            "ééééé",
        ] {
            assert_eq!(parse_offset_id(text), None, "{text}");
        }
    }
}
