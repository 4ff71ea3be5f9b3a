//! Forwarding: a frame that was read leaves with the bytes of its header.
//!
//! Nothing is lost that this crate does not know or would write in another way: properties that are not UTF-8, languages of newer
//! clients, further keys of a JSON header. Only the opaque may be another one.

use super::{Encoding, Frame, PREFIX_LEN, json, write};
use bytes::{BufMut, BytesMut};

/// Where the opaque is in a binary header.
const BINARY_OPAQUE: std::ops::Range<usize> = 5..9;

impl Frame {
    /// Appends lengths and header as they were read, but with this opaque. The body, which has to follow, is not appended. For a frame that was
    /// decoded and not changed: changes of its fields are not written. A header without ext fields is not kept, and is written anew.
    pub fn encode_head_as_read(&self, opaque: i32, out: &mut BytesMut) {
        let header = self.ext.header();
        if header.is_empty() {
            return write::frame_head(self, opaque, out);
        }
        let start = out.len();
        out.reserve(PREFIX_LEN + header.len() + 16);
        out.put_u64(0);
        match self.encoding {
            _ if opaque == self.opaque => out.put_slice(header),
            Encoding::Binary => {
                out.put_slice(header);
                if let Some(old) = out[start + PREFIX_LEN..].get_mut(BINARY_OPAQUE) {
                    old.copy_from_slice(&opaque.to_be_bytes());
                }
            }
            Encoding::Json => {
                let Some(old) = json::opaque_of(header) else {
                    out.truncate(start);
                    return write::frame_head(self, opaque, out);
                };
                out.put_slice(&header[..old.start]);
                out.put_slice(crate::number::Decimal::new(opaque.into()).as_bytes());
                out.put_slice(&header[old.end..]);
            }
        }
        let header_len = out.len() - start - PREFIX_LEN;
        // A frame that was read fits into its length fields, and a few digits more do, too.
        let mark = match self.encoding {
            Encoding::Json => 0,
            Encoding::Binary => 1_u32 << 24,
        };
        out[start..start + 4].copy_from_slice(&((4 + header_len + self.body.len()) as u32).to_be_bytes());
        out[start + 4..start + PREFIX_LEN].copy_from_slice(&(mark | header_len as u32).to_be_bytes());
    }
}
