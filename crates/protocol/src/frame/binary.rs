//! The binary header (`rocketmq.serialize.type=ROCKETMQ`).
//!
//! ```text
//! offset  size  meaning (big-endian)
//!      0     2  code, truncated to 16 bits
//!      2     1  language
//!      3     2  version
//!      5     4  opaque
//!      9     4  flag
//!     13     4  remark length, then the remark
//!      …     4  length of all ext fields, then each: key length 2, key, value length 4, value
//! ```
//!
//! An ext value of length 0 is an absent field: Apache's decoder reads it as null.

use super::{Frame, FrameError};
use crate::codes;
use crate::ext::{Ext, Span};
use crate::language::Language;

const TRUNCATED: FrameError = FrameError::Header("binary header ends early");

pub(super) fn decode(header: &[u8], frame: &mut Frame) -> Result<(), FrameError> {
    let mut reader = Reader { bytes: header, at: 0 };
    let code = i16::from_be_bytes(reader.array()?);
    let [language] = reader.array()?;
    frame.language = Language::from_code(language);
    frame.version = i32::from(i16::from_be_bytes(reader.array()?));
    frame.opaque = i32::from_be_bytes(reader.array()?);
    frame.flag = i32::from_be_bytes(reader.array()?);
    frame.remark = reader.remark()?;
    frame.code = if frame.is_response() {
        i32::from(code)
    } else {
        codes::widen_binary(code)
    };
    reader.fields(&mut frame.ext)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn remark(&mut self) -> Result<Option<String>, FrameError> {
        let (start, end) = self.long_range()?;
        Ok((start < end).then(|| String::from_utf8_lossy(&self.bytes[start..end]).into_owned()))
    }

    fn fields(&mut self, ext: &mut Ext) -> Result<(), FrameError> {
        let (start, end) = self.long_range()?;
        self.at = start;
        while self.at < end {
            let key_len = usize::from(u16::from_be_bytes(self.array()?));
            let (key_start, key_end) = self.range(key_len)?;
            let (value_start, value_end) = self.long_range()?;
            if value_end > end {
                return Err(TRUNCATED);
            }
            if value_start < value_end && !ext.push_span(Span::header(key_start, key_end), Span::header(value_start, value_end)) {
                return Err(FrameError::Header("too many ext fields"));
            }
        }
        Ok(())
    }

    /// A range preceded by its length in four bytes.
    fn long_range(&mut self) -> Result<(usize, usize), FrameError> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        self.range(len)
    }

    fn range(&mut self, len: usize) -> Result<(usize, usize), FrameError> {
        let start = self.at;
        if len > self.bytes.len() - start {
            return Err(TRUNCATED);
        }
        self.at = start + len;
        Ok((start, self.at))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let bytes = self.bytes[self.at..].first_chunk::<N>().ok_or(TRUNCATED)?;
        self.at += N;
        Ok(*bytes)
    }
}
