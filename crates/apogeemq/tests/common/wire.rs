//! A client that writes raw frames, which no client library would send.

use super::DEADLINE;
use bytes::BytesMut;
use protocol::frame::{MAX_FRAME_LEN, decode};
use protocol::{Encoding, Frame};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A connection to a server.
pub(crate) struct Wire {
    stream: TcpStream,
    read: BytesMut,
    opaque: i32,
}

/// Fields of a header, written unchanged.
pub(crate) type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

impl Wire {
    pub(crate) fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            read: BytesMut::new(),
            opaque: 0,
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request and returns its answer.
    pub(crate) fn ask(&mut self, encoding: Encoding, code: i32, fields: Fields<'_>, body: &[u8]) -> Frame {
        self.opaque += 1;
        self.write(&request(encoding, (code, self.opaque), fields, body)).unwrap();
        loop {
            let frame = self.next().unwrap();
            if frame.is_response() && frame.opaque == self.opaque {
                return frame;
            }
        }
    }

    /// The next frame; `None` if the connection was closed.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = decode(&mut self.read, MAX_FRAME_LEN).unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 64 << 10];
            let count = self.stream.read(&mut buffer).unwrap();
            if count == 0 {
                return None;
            }
            self.read.extend_from_slice(&buffer[..count]);
        }
    }
}

/// The frame of a request. JSON text is written unchanged; the caller escapes it.
pub(crate) fn request(encoding: Encoding, (code, opaque): (i32, i32), fields: Fields<'_>, body: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Json => {
            let pair = |(name, value): &(&[u8], &[u8])| [b"\"", *name, b"\":\"", *value, b"\""].concat();
            let fields: Vec<Vec<u8>> = fields.iter().map(pair).collect();
            let head = format!(r#"{{"code":{code},"language":"CPP","version":455,"opaque":{opaque},"flag":0,"extFields":{{"#);
            framed(0, &[head.as_bytes(), &fields.join(&b','), b"}}"].concat(), body)
        }
        Encoding::Binary => {
            let field = |(name, value): &(&[u8], &[u8])| {
                let (name_len, value_len) = ((name.len() as u16).to_be_bytes(), (value.len() as u32).to_be_bytes());
                [&name_len[..], name, &value_len, value].concat()
            };
            let fields: Vec<u8> = fields.iter().flat_map(field).collect();
            let (code, opaque) = ((code as i16).to_be_bytes(), opaque.to_be_bytes());
            let head = [&code[..], &[1, 1, 199], &opaque, &[0; 8], &(fields.len() as u32).to_be_bytes()].concat();
            framed(1, &[head, fields].concat(), body)
        }
    }
}

/// A frame around a header.
pub(crate) fn framed(encoding: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
    let lengths = [4 + header.len() + body.len(), usize::from(encoding) << 24 | header.len()];
    let lengths: Vec<u8> = lengths.iter().flat_map(|len| (*len as u32).to_be_bytes()).collect();
    [&lengths[..], header, body].concat()
}
