//! Message ids: the offset id a broker gives, which says where a message is stored.
//!
//! Offset id: upper-case hex of store address (4 or 16 bytes), port (4 bytes), commit log offset (8 bytes):
//! 32 or 56 characters.

use crate::LogOffset;
use std::net::{IpAddr, SocketAddr};

/// Most characters of an offset id.
pub const MAX_LEN: usize = 56;

/// Writes an offset id at the end of `out`.
pub fn write_offset_id(out: &mut impl Extend<u8>, store_host: SocketAddr, offset: LogOffset) {
    match store_host.ip() {
        IpAddr::V4(ip) => push_hex(out, &ip.octets()),
        IpAddr::V6(ip) => push_hex(out, &ip.octets()),
    }
    push_hex(out, &i32::from(store_host.port()).to_be_bytes());
    push_hex(out, &offset.0.to_be_bytes());
}

/// An offset id as text.
#[must_use]
pub fn offset_id(store_host: SocketAddr, offset: LogOffset) -> String {
    let mut out = Vec::with_capacity(MAX_LEN);
    write_offset_id(&mut out, store_host, offset);
    String::from_utf8(out).unwrap_or_default()
}

/// Reads an offset id back; `None` when it is not one.
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

fn push_hex(out: &mut impl Extend<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for b in bytes {
        out.extend([DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
    }
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
