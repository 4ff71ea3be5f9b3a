//! One frame of the remoting protocol, to and from bytes.
//!
//! ```text
//! offset  size  meaning (big-endian)
//!      0     4  total = 4 + header length + body length (this field is not counted)
//!      4     1  header encoding: 0 JSON, 1 binary
//!      5     3  header length
//!      8     h  header
//!  8 + h     b  body
//! ```
//!
//! Invariants: an impossible length is refused as soon as its bytes are read, before memory is allocated for it; decoding
//! copies neither header nor body (both are slices of the read buffer) and allocates only for a remark and for escaped
//! values. After a [`FrameError`] the start of the next frame is unknown: the connection must be closed.
//!
//! The two header layouts are in `frame/json.rs` and `frame/binary.rs`; writing is in `frame/write.rs`, writing what was read in
//! `frame/forward.rs`.

mod binary;
mod forward;
mod json;
mod write;

pub use write::encode_response_head;

use crate::ext::{Ext, Value};
use crate::language::Language;
use crate::version;
use bytes::{Buf, Bytes, BytesMut};
use message::text;

/// Default maximum length of a frame in bytes, including its length field.
pub const MAX_FRAME_LEN: usize = 16 * 1024 * 1024;
/// Bytes before the header: total length, then encoding and header length.
pub const PREFIX_LEN: usize = 8;
/// Header lengths have 24 bits.
const MAX_HEADER_LEN: usize = 0x00ff_ffff;
/// Flag bit of a response.
pub const FLAG_RESPONSE: i32 = 1;
/// Flag bit of a request that wants no response.
pub const FLAG_ONEWAY: i32 = 2;

/// Encoding of the header. A response has the encoding of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// A JSON object, the default of all official clients.
    #[default]
    Json,
    /// The compact layout, `rocketmq.serialize.type=ROCKETMQ`.
    Binary,
}

/// Why a stream cannot be decoded any further. The connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than allowed.
    #[error("frame has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Length according to the frame, including its length field.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A length field contradicts another.
    #[error("frame lengths contradict each other")]
    Lengths,
    /// Neither JSON nor binary.
    #[error("unknown header encoding {0}")]
    Encoding(u8),
    /// The header's bytes do not follow its encoding.
    #[error("malformed frame header: {0}")]
    Header(&'static str),
}

/// One request or response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// A request code, or how the request ended when [`Frame::is_response`].
    pub code: i32,
    /// The sender's language.
    pub language: Language,
    /// The sender's version as ordinal (see [`crate::version`]); 0 when it did not say.
    pub version: i32,
    /// Pairs a response with its request on one connection.
    pub opaque: i32,
    /// Bits [`FLAG_RESPONSE`] and [`FLAG_ONEWAY`].
    pub flag: i32,
    /// Text for people, usually why something failed.
    pub remark: Option<String>,
    /// How the header was, or will be, written.
    pub encoding: Encoding,
    /// The header's own fields.
    pub ext: Ext,
    /// What follows the header.
    pub body: Bytes,
}

/// Takes one whole frame off the front of `buf`; `None` when more bytes are needed (see [`missing`]).
///
/// # Errors
/// [`FrameError`] if the bytes are not a frame, or a frame longer than `max_len`. Nothing more can be read from this stream.
pub fn decode(buf: &mut BytesMut, max_len: usize) -> Result<Option<Frame>, FrameError> {
    let Some(prefix) = Prefix::read(buf, max_len)? else {
        return Ok(None);
    };
    if buf.len() < prefix.frame_len {
        return Ok(None);
    }
    let mut rest = buf.split_to(prefix.frame_len).freeze();
    rest.advance(PREFIX_LEN);
    let header = rest.split_to(prefix.header_len);
    let mut frame = Frame {
        encoding: prefix.encoding,
        ..Frame::blank()
    };
    match prefix.encoding {
        Encoding::Json => json::decode(&header, &mut frame)?,
        Encoding::Binary => binary::decode(&header, &mut frame)?,
    }
    if !frame.ext.is_empty() {
        frame.ext.set_header(header);
    }
    if !rest.is_empty() {
        frame.body = rest;
    }
    Ok(Some(frame))
}

/// Number of bytes missing from the frame at the front of `buf`, 0 if it is complete. A reader should reserve them.
///
/// # Errors
/// [`FrameError`] as in [`decode`].
pub fn missing(buf: &[u8], max_len: usize) -> Result<usize, FrameError> {
    let known = Prefix::read(buf, max_len)?;
    Ok(known.map_or(PREFIX_LEN, |prefix| prefix.frame_len).saturating_sub(buf.len()))
}

struct Prefix {
    frame_len: usize,
    header_len: usize,
    encoding: Encoding,
}

impl Prefix {
    #[inline]
    fn read(buf: &[u8], max_len: usize) -> Result<Option<Self>, FrameError> {
        let Some((total, rest)) = buf.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let total = u32::from_be_bytes(*total) as usize;
        if total < PREFIX_LEN - 4 {
            return Err(FrameError::Lengths);
        }
        if total + 4 > max_len {
            return Err(FrameError::TooLong {
                len: total + 4,
                max: max_len,
            });
        }
        let Some(mark) = rest.first_chunk::<4>() else { return Ok(None) };
        let header_len = u32::from_be_bytes([0, mark[1], mark[2], mark[3]]) as usize;
        if header_len > total - 4 {
            return Err(FrameError::Lengths);
        }
        let encoding = match mark[0] {
            0 => Encoding::Json,
            1 => Encoding::Binary,
            other => return Err(FrameError::Encoding(other)),
        };
        Ok(Some(Self {
            frame_len: total + 4,
            header_len,
            encoding,
        }))
    }
}

impl Frame {
    /// A JSON request without fields and body. The connection that sends it sets `opaque`.
    pub fn request(code: impl Into<i32>) -> Self {
        Self {
            code: code.into(),
            version: version::CURRENT,
            ..Self::blank()
        }
    }

    /// A successful answer (code 0) to `request`, in its encoding.
    ///
    /// Compat: we answer as JAVA, since older clients' language enum does not know RUST.
    pub fn response_to(request: &Self) -> Self {
        Self {
            opaque: request.opaque,
            flag: FLAG_RESPONSE,
            version: version::CURRENT,
            encoding: request.encoding,
            ..Self::blank()
        }
    }

    /// The frame of an empty header.
    fn blank() -> Self {
        Self {
            code: 0,
            language: Language::Java,
            version: 0,
            opaque: 0,
            flag: 0,
            remark: None,
            encoding: Encoding::Json,
            ext: Ext::new(),
            body: Bytes::new(),
        }
    }

    /// With another code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<i32>) -> Self {
        self.code = code.into();
        self
    }

    /// With a remark.
    #[must_use]
    pub fn with_remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    /// With a remark that repeats untrusted text: escaped and of limited length.
    #[must_use]
    pub fn with_reason(self, reason: &str) -> Self {
        self.with_remark(text::brief(reason))
    }

    /// With one more ext field.
    #[must_use]
    pub fn with_field<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.ext.push(key, value);
        self
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Marked as one-way: no response is wanted.
    #[must_use]
    pub fn oneway(mut self) -> Self {
        self.flag |= FLAG_ONEWAY;
        self
    }

    /// Whether the sender wants no response.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// Whether this answers a request.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_head(out);
        out.extend_from_slice(&self.body);
    }

    /// Appends lengths and header to `out`; the body, which has to follow, is not appended.
    pub fn encode_head(&self, out: &mut BytesMut) {
        write::frame_head(self, self.opaque, out);
    }

    /// Maximum number of bytes of the encoded header: escaping makes text up to six times as long. A frame that was read may
    /// be too long to be written again.
    pub fn most_header_bytes(&self) -> usize {
        write::most_header_bytes(self)
    }

    /// The whole frame as new bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(PREFIX_LEN + 256 + self.body.len());
        self.encode(&mut out);
        out.freeze()
    }
}

#[cfg(test)]
mod tests;
