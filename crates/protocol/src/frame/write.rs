//! Writing frames straight into a connection's output buffer.
//!
//! JSON headers have their keys in alphabetical order and no white space, as the Java broker writes them.

use super::{Encoding, FLAG_RESPONSE, Frame, MAX_HEADER_LEN};
use crate::ext::Value;
use crate::language::Language;
use crate::number::Decimal;
use crate::version;
use bytes::{BufMut, BytesMut};

/// Writes the head of a response (lengths and header) for a body of `body_len` bytes that the caller appends, or sends
/// as another buffer, right behind it. Allocates nothing but room in `out`.
pub fn encode_response_head(
    out: &mut BytesMut,
    encoding: Encoding,
    opaque: i32,
    code: impl Into<i32>,
    remark: Option<&str>,
    fields: &[(&str, Value<'_>)],
    body_len: usize,
) {
    let head = Head {
        code: code.into(),
        language: Language::Java,
        version: version::CURRENT,
        opaque,
        flag: FLAG_RESPONSE,
        remark,
    };
    out.reserve(192 + 48 * fields.len() + remark.map_or(0, str::len));
    framed(out, encoding, body_len, |out| match encoding {
        Encoding::Json => json_head(out, &head, fields.iter().copied(), json_value),
        Encoding::Binary => binary_head(out, &head, fields.iter().copied(), binary_value),
    });
}

pub(super) fn frame(frame: &Frame, out: &mut BytesMut) {
    let head = Head {
        code: frame.code,
        language: frame.language,
        version: frame.version,
        opaque: frame.opaque,
        flag: frame.flag,
        remark: frame.remark.as_deref(),
    };
    let fields = frame.ext.iter().map(|(key, value)| (String::from_utf8_lossy(key), value));
    out.reserve(192 + 48 * frame.ext.len() + frame.body.len());
    framed(out, frame.encoding, frame.body.len(), |out| match frame.encoding {
        Encoding::Json => json_head(out, &head, fields, |out, value| json_text(out, &String::from_utf8_lossy(value))),
        Encoding::Binary => binary_head(out, &head, fields, |out, value| out.extend_from_slice(value)),
    });
    out.extend_from_slice(&frame.body);
}

struct Head<'a> {
    code: i32,
    language: Language,
    version: i32,
    opaque: i32,
    flag: i32,
    remark: Option<&'a str>,
}

/// The lengths are known once the header is written, so they are patched in.
fn framed(out: &mut BytesMut, encoding: Encoding, body_len: usize, header: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u64(0);
    header(out);
    let header_len = out.len() - start - 8;
    debug_assert!(header_len <= MAX_HEADER_LEN, "a header of ours is longer than 24 bits can say");
    let mark = match encoding {
        Encoding::Json => 0,
        Encoding::Binary => 1u32 << 24,
    };
    out[start..start + 4].copy_from_slice(&((4 + header_len + body_len) as u32).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&(mark | header_len as u32).to_be_bytes());
}

fn json_head<K: AsRef<str>, V>(
    out: &mut BytesMut,
    head: &Head<'_>,
    fields: impl Iterator<Item = (K, V)>,
    value: impl Fn(&mut BytesMut, V),
) {
    out.extend_from_slice(b"{\"code\":");
    json_int(out, head.code);
    let mut separator: &[u8] = b",\"extFields\":{\"";
    let mut any = false;
    for (key, field) in fields {
        out.extend_from_slice(separator);
        json_text(out, key.as_ref());
        out.extend_from_slice(b"\":\"");
        value(out, field);
        out.put_u8(b'"');
        separator = b",\"";
        any = true;
    }
    out.extend_from_slice(if any { b"},\"flag\":" } else { b",\"flag\":" });
    json_int(out, head.flag);
    out.extend_from_slice(b",\"language\":\"");
    out.extend_from_slice(head.language.name().as_bytes());
    out.extend_from_slice(b"\",\"opaque\":");
    json_int(out, head.opaque);
    if let Some(remark) = head.remark {
        out.extend_from_slice(b",\"remark\":\"");
        json_text(out, remark);
        out.put_u8(b'"');
    }
    out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    json_int(out, head.version);
    out.put_u8(b'}');
}

fn json_int(out: &mut BytesMut, value: i32) {
    out.extend_from_slice(Decimal::new(i64::from(value)).as_bytes());
}

fn json_value(out: &mut BytesMut, value: Value<'_>) {
    match value {
        Value::Int(number) => out.extend_from_slice(Decimal::new(number).as_bytes()),
        Value::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Value::Text(text) => json_text(out, text),
    }
}

/// Text as it stands between JSON quotes.
fn json_text(out: &mut BytesMut, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(found) = rest.iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.extend_from_slice(&rest[..found]);
        json_escape(out, rest[found]);
        rest = &rest[found + 1..];
    }
    out.extend_from_slice(rest);
}

fn json_escape(out: &mut BytesMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        8 => out.extend_from_slice(b"\\b"),
        12 => out.extend_from_slice(b"\\f"),
        _ => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    }
}

fn binary_head<K: AsRef<str>, V>(
    out: &mut BytesMut,
    head: &Head<'_>,
    fields: impl Iterator<Item = (K, V)>,
    value: impl Fn(&mut BytesMut, V),
) {
    out.put_i16(head.code as i16);
    out.put_u8(head.language.code());
    out.put_i16(head.version as i16);
    out.put_i32(head.opaque);
    out.put_i32(head.flag);
    sized(out, |out| out.extend_from_slice(head.remark.unwrap_or_default().as_bytes()));
    sized(out, |out| {
        for (key, field) in fields {
            let key = key.as_ref().as_bytes();
            // Our keys are short names; one that does not fit two bytes of length cannot be sent.
            let Ok(key_len) = u16::try_from(key.len()) else { continue };
            out.put_u16(key_len);
            out.extend_from_slice(key);
            sized(out, |out| value(out, field));
        }
    });
}

fn binary_value(out: &mut BytesMut, value: Value<'_>) {
    match value {
        Value::Int(number) => out.extend_from_slice(Decimal::new(number).as_bytes()),
        Value::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
    }
}

/// Four bytes of length before what `content` writes.
fn sized(out: &mut BytesMut, content: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    content(out);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}
