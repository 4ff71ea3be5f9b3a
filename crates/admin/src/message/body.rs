//! A message's body in readable form: decompressed, and as text if it is text.

use std::fmt::Write;
use std::io::Read;
use std::str::FromStr;

use flate2::read::ZlibDecoder;
use message::{Record, sys_flag};
use serde::Serialize;

/// Maximum size of a decompressed body in bytes. A broker accepts 4 MiB by default.
const MAX_INFLATED: u64 = 16 << 20;

/// How a body is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8; other bodies are shown in hex.
    #[default]
    Utf8,
    /// ISO-8859-1: one character per byte.
    Latin1,
    /// Hex.
    Hex,
}

impl FromStr for Charset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.trim().to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" | "US-ASCII" | "ASCII" => Ok(Self::Utf8),
            "ISO-8859-1" | "LATIN1" => Ok(Self::Latin1),
            "HEX" => Ok(Self::Hex),
            _ => Err("UTF-8, ISO-8859-1 or hex is expected".to_owned()),
        }
    }
}

/// A body in readable form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    /// Size in bytes, decompressed if possible.
    pub body_size: usize,
    /// As text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// In hex, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_hex: Option<String>,
    /// The compression that could not be undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressed: Option<&'static str>,
}

impl Body {
    /// The body of a record.
    pub fn of(record: &Record<'_>, charset: Charset) -> Self {
        let (bytes, compressed) = plain(record);
        let text = match charset {
            _ if compressed.is_some() => None,
            Charset::Utf8 => std::str::from_utf8(&bytes).ok().map(str::to_owned),
            Charset::Latin1 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            Charset::Hex => None,
        };
        Self {
            body_size: bytes.len(),
            body_hex: text.is_none().then(|| hex(&bytes)),
            body: text,
            compressed,
        }
    }

    /// The body in one line.
    pub fn shown(&self) -> String {
        match (&self.body, &self.body_hex, self.compressed) {
            (Some(text), ..) => text.clone(),
            (None, Some(hex), Some(by)) => format!("{} bytes compressed by {by}: {hex}", self.body_size),
            (None, Some(hex), None) => format!("{} bytes that are not text: {hex}", self.body_size),
            (None, None, _) => String::new(),
        }
    }
}

/// The decompressed body, or the stored body and its compression if that is not supported.
pub(crate) fn plain(record: &Record<'_>) -> (Vec<u8>, Option<&'static str>) {
    if record.sys_flag & sys_flag::COMPRESSED == 0 {
        return (record.body.to_vec(), None);
    }
    let by = match (record.sys_flag & sys_flag::COMPRESSION_TYPE_MASK) >> 8 {
        1 => "LZ4",
        2 => "ZSTD",
        _ => "zlib",
    };
    match inflated(record.body).filter(|_| by == "zlib") {
        Some(bytes) => (bytes, None),
        None => (record.body.to_vec(), Some(by)),
    }
}

fn inflated(body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(body).take(MAX_INFLATED + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_INFLATED).then_some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use message::record::{Draft, Placement};
    use message::{LogOffset, QueueOffset};
    use std::io::Write as _;

    fn body(bytes: &[u8], flag: i32, charset: Charset) -> Body {
        let draft = Draft {
            sys_flag: flag,
            ..Draft::new("t", 0, bytes)
        };
        let place = Placement {
            queue_offset: QueueOffset(0),
            log_offset: LogOffset(0),
            store_timestamp: 1,
        };
        let mut out = BytesMut::new();
        draft.encode(place, &mut out);
        Body::of(&Record::parse(&out).unwrap(), charset)
    }

    #[test]
    fn text_is_shown_as_text_and_the_rest_in_hex() {
        assert_eq!(body("grüße".as_bytes(), 0, Charset::Utf8).shown(), "grüße");
        assert_eq!(body(b"gr\xfc\xdfe", 0, Charset::Latin1).shown(), "grüße");
        assert_eq!(body(b"\xff\x00", 0, Charset::Utf8).shown(), "2 bytes that are not text: ff00");
        assert_eq!("hex".parse(), Ok(Charset::Hex));
        assert!("GBK".parse::<Charset>().is_err());
    }

    #[test]
    fn compressed_bodies_are_decompressed_if_supported() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&[b'a'; 5_000]).unwrap();
        let deflated = encoder.finish().unwrap();
        let unfolded = body(&deflated, sys_flag::COMPRESSED, Charset::Utf8);
        assert_eq!((unfolded.body_size, unfolded.compressed), (5_000, None));
        let other = body(b"\x01", sys_flag::COMPRESSED | 2 << 8, Charset::Utf8);
        assert_eq!(other.shown(), "1 bytes compressed by ZSTD: 01");
    }
}
