//! A blocking socket and its answers.
//!
//! Only the few header fields that a load needs are searched, directly in the JSON text as both brokers write it. Other headers
//! go through the full decoder of `protocol`.

use std::borrow::Cow;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use net::session::{Connector, SEAL_MAX_BYTES, Session};
use protocol::frame::{self, FLAG_RESPONSE, Frame, MAX_FRAME_LEN, PREFIX_LEN};
use protocol::number::parse_i64;

use crate::failure::Failure;

/// Time-out of an answer and of a write.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before the next write to a full socket.
const FULL_PAUSE: Duration = Duration::from_micros(200);
const FIRST_BUFFER: usize = 64 << 10;
/// Bytes of records that are read at once.
const RECORDS_BYTES: usize = 64 << 10;
const HANDSHAKE_READ_BYTES: usize = 4 << 10;

/// A connection to a broker. Clones are the same connection, for another thread.
#[derive(Clone)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    address: Arc<str>,
    secured: Option<Arc<Secured>>,
}

impl Socket {
    /// Connects, and runs the handshake of the connector's session.
    pub(super) fn connect(address: &str, connector: Option<&dyn Connector>) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot connect to {address}: {error}"));
        let stream = connect(address).map_err(failed)?;
        let secured = connector.map(|connector| Secured::handshake(connector, host_of(address), &stream));
        Ok(Self {
            secured: secured.transpose().map_err(failed)?.map(Arc::new),
            stream: Arc::new(stream),
            address: address.into(),
        })
    }

    /// Sends all bytes. The socket may be non-blocking, if another thread polls it; then this retries after a pause.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(secured) = self.secured.clone() else {
            return self.send_raw(bytes);
        };
        let records = secured.seal(bytes).map_err(|error| self.failure(&error))?;
        self.send_raw(&records)
    }

    /// What has to be sent for these bytes. Only one thread sends on a connection.
    pub(super) fn sealed<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Failure> {
        match &self.secured {
            None => Ok(Cow::Borrowed(bytes)),
            Some(secured) => Ok(Cow::Owned(secured.seal(bytes).map_err(|error| self.failure(&error))?.to_vec())),
        }
    }

    /// Adds what was received with the first `count` bytes, if the connection has a session. Gives the buffer back.
    pub(super) fn opened(&self, records: Vec<u8>, count: usize, answers: &mut Answers) -> Result<(), Failure> {
        if let Some(secured) = &self.secured {
            let plain = secured.open(&records[..count]).map_err(|error| self.failure(&error))?;
            answers.push(&plain);
        }
        answers.records = records;
        Ok(())
    }

    /// Whether bytes on the wire are records of a session.
    pub(super) fn is_secured(&self) -> bool {
        self.secured.is_some()
    }

    fn send_raw(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        let mut waiting_since = None;
        while !bytes.is_empty() {
            match (&*self.stream).write(bytes) {
                Ok(count) => (bytes, waiting_since) = (&bytes[count..], None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if waiting_since.get_or_insert_with(Instant::now).elapsed() > TIMEOUT {
                        return Err(self.failure(&error));
                    }
                    std::thread::sleep(FULL_PAUSE);
                }
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Ok(())
    }

    /// Waits for bytes; 0 if the peer closed the connection.
    pub(super) fn read(&mut self, answers: &mut Answers) -> Result<usize, Failure> {
        if !self.is_secured() {
            let count = self.read_raw(answers.room())?;
            answers.filled(count);
            return Ok(count);
        }
        let mut records = answers.take_records();
        let count = self.read_raw(&mut records)?;
        self.opened(records, count, answers)?;
        Ok(count)
    }

    fn read_raw(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        loop {
            match (&*self.stream).read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| self.failure(&error)),
            }
        }
    }

    /// The same connection for a thread that polls many. It becomes non-blocking.
    pub(super) fn for_waiting_with_others(&self) -> Result<tokio::net::TcpStream, Failure> {
        let clone = self.stream.set_nonblocking(true).and_then(|()| self.stream.try_clone());
        clone
            .and_then(tokio::net::TcpStream::from_std)
            .map_err(|error| self.failure(&error))
    }

    /// Makes it blocking again, after it was polled with others.
    pub(super) fn wait_alone(&self) -> Result<(), Failure> {
        self.stream.set_nonblocking(false).map_err(|error| self.failure(&error))
    }

    /// Removes the time-out of reads: for connections without answers for a long time.
    pub(super) fn wait_without_end(&self) -> Result<(), Failure> {
        self.stream.set_read_timeout(None).map_err(|error| self.failure(&error))
    }

    /// Shuts the connection down, which ends blocked reads.
    pub(super) fn shut_down(&self) {
        // A closed connection needs no shutdown.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The error if the peer closed the connection.
    pub(super) fn closed(&self) -> Failure {
        Failure::new(format!("{} closed the connection", self.address))
    }

    /// The error for an I/O error.
    pub(super) fn failure(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Failure::new(format!("{} did not answer for {} s", self.address, TIMEOUT.as_secs()))
            }
            _ => Failure::new(format!("connection to {}: {error}", self.address)),
        }
    }
}

/// The session of a connection. One thread sends and another one may receive.
struct Secured {
    /// The session, and what it has sealed and nobody has sent.
    state: Mutex<(Box<dyn Session>, BytesMut)>,
}

impl Secured {
    fn handshake(connector: &dyn Connector, host: &str, mut stream: &TcpStream) -> io::Result<Self> {
        let mut session = connector.connect(host)?;
        let (mut records, mut plain, mut out) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        loop {
            session.receive(&mut records, &mut plain, &mut out)?;
            stream.write_all(&out.split())?;
            if !session.is_handshaking() {
                // A broker sends nothing before it was asked.
                return Ok(Self {
                    state: Mutex::new((session, out)),
                });
            }
            let mut buffer = [0; HANDSHAKE_READ_BYTES];
            match stream.read(&mut buffer)? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer ended the handshake")),
                count => records.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn seal(&self, bytes: &[u8]) -> io::Result<BytesMut> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, out) = &mut *state;
        for part in bytes.chunks(SEAL_MAX_BYTES) {
            let mut left = part;
            while !left.is_empty() {
                let taken = session.seal(&[IoSlice::new(left)], out)?;
                left = &left[taken..];
            }
        }
        Ok(out.split())
    }

    fn open(&self, records: &[u8]) -> io::Result<BytesMut> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, out) = &mut *state;
        let mut plain = BytesMut::with_capacity(records.len());
        session.receive(&mut BytesMut::from(records), &mut plain, out)?;
        Ok(plain)
    }
}

fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("no such host");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Bytes read and not yet taken: `buffer[start..end]`.
pub(super) struct Answers {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Buffer for records of a session; empty without one.
    records: Vec<u8>,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; FIRST_BUFFER],
            start: 0,
            end: 0,
            records: Vec::new(),
        }
    }

    /// The buffer for records.
    pub(super) fn take_records(&mut self) -> Vec<u8> {
        let mut records = std::mem::take(&mut self.records);
        records.resize(RECORDS_BYTES, 0);
        records
    }

    /// The free part of the buffer. Remaining bytes move to the front. The buffer grows only for an answer that does not fit, so at most
    /// to the maximum length of a frame.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Adds bytes that were read into [`Self::room`].
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Adds bytes.
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// The next complete answer.
    pub(super) fn next(&mut self) -> Result<Option<Answer<'_>>, Failure> {
        let malformed = |error: frame::FrameError| Failure::new(format!("the server sent a malformed frame: {error}"));
        let there = &self.buffer[self.start..self.end];
        if frame::missing(there, MAX_FRAME_LEN).map_err(malformed)? > 0 {
            return Ok(None);
        }
        let word = |at: usize| u32::from_be_bytes([there[at], there[at + 1], there[at + 2], there[at + 3]]) as usize;
        let (total, header) = (4 + word(0), word(4) & 0x00ff_ffff);
        let whole = &self.buffer[self.start..self.start + total];
        self.start += total;
        let (header, body) = whole[PREFIX_LEN..].split_at(header);
        Ok(Some(Answer { whole, header, body }))
    }
}

/// One answer.
pub(super) struct Answer<'a> {
    whole: &'a [u8],
    header: &'a [u8],
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    /// The opaque of the request.
    #[inline]
    pub(super) fn opaque(&self) -> u32 {
        // It is near the end.
        let found = find_last(self.json(), b"\"opaque\":").and_then(digits);
        found.unwrap_or_else(|| self.decode().map_or(0, |frame| i64::from(frame.opaque))) as u32
    }

    /// Whether it is a request of the server, such as a notification, and no answer.
    #[inline]
    pub(super) fn is_request(&self) -> bool {
        // It is near the start.
        let found = find(self.json(), b"\"flag\":").and_then(digits);
        let flag = found.unwrap_or_else(|| self.decode().map_or(0, |frame| i64::from(frame.flag)));
        flag & i64::from(FLAG_RESPONSE) == 0
    }

    /// The response code.
    #[inline]
    pub(super) fn code(&self) -> i64 {
        let found = self.json().strip_prefix(b"{\"code\":").and_then(digits);
        found.unwrap_or_else(|| self.decode().map_or(-1, |frame| i64::from(frame.code)))
    }

    /// The next offset of a pull.
    pub(super) fn next_offset(&self) -> Option<i64> {
        let found = find_last(self.json(), b"\"nextBeginOffset\":\"").and_then(digits);
        found.or_else(|| self.decode()?.ext.long("nextBeginOffset"))
    }

    /// The remark of the answer, escaped.
    pub(super) fn remark(&self) -> String {
        let said = self.decode().and_then(|frame| frame.remark).unwrap_or_default();
        format!("code {}: {}", self.code(), said.lines().next().unwrap_or_default())
    }

    /// The header if it is JSON.
    #[inline]
    fn json(&self) -> &[u8] {
        if self.header.starts_with(b"{") { self.header } else { &[] }
    }

    /// The whole answer.
    pub(super) fn decode(&self) -> Option<Frame> {
        frame::decode(&mut BytesMut::from(self.whole), MAX_FRAME_LEN).ok().flatten()
    }
}

/// The text after the first occurrence of a key.
fn find<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(key.len()).position(|window| window == key)?;
    Some(&text[at + key.len()..])
}

/// The text after the last occurrence of a key.
fn find_last<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(key.len()).rposition(|window| window == key)?;
    Some(&text[at + key.len()..])
}

/// The integer at the start of a text.
fn digits(text: &[u8]) -> Option<i64> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
    parse_i64(&text[..len])
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Encoding;

    fn answers(bytes: &[u8]) -> Answers {
        let mut answers = Answers::new();
        answers.buffer[..bytes.len()].copy_from_slice(bytes);
        answers.end = bytes.len();
        answers
    }

    fn reply(encoding: Encoding) -> Frame {
        let mut reply = Frame::request(19)
            .with_remark("\"opaque\":5")
            .with_field("nextBeginOffset", 77)
            .with_body("xyz");
        (reply.opaque, reply.flag, reply.encoding) = (1_234_567_890, 1, encoding);
        reply
    }

    #[test]
    fn the_fields_of_an_answer_are_found_in_either_encoding() {
        for encoding in [Encoding::Json, Encoding::Binary] {
            let mut answers = answers(&reply(encoding).to_bytes());
            let answer = answers.next().unwrap().unwrap();
            assert_eq!(
                (answer.opaque(), answer.code(), answer.next_offset()),
                (1_234_567_890, 19, Some(77))
            );
            assert!(!answer.is_request());
            assert_eq!((answer.body, answer.remark().as_str()), (&b"xyz"[..], "code 19: \"opaque\":5"));
            assert!(answers.next().unwrap().is_none());
        }
    }

    #[test]
    fn requests_of_the_server_are_told_from_answers() {
        for encoding in [Encoding::Json, Encoding::Binary] {
            let mut notification = Frame::request(40).oneway();
            notification.encoding = encoding;
            let mut answers = answers(&notification.to_bytes());
            assert!(answers.next().unwrap().unwrap().is_request());
        }
    }

    #[test]
    fn json_of_other_servers_is_read() {
        let header = b"{ \"opaque\" : 12, \"code\": 0, \"flag\":1}";
        let mut bytes = ((header.len() + 4) as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&(header.len() as u32).to_be_bytes());
        bytes.extend_from_slice(header);
        let mut answers = answers(&bytes);
        let answer = answers.next().unwrap().unwrap();
        assert_eq!((answer.opaque(), answer.code()), (12, 0));
    }

    #[test]
    fn an_incomplete_answer_waits_and_a_malformed_one_ends_the_run() {
        let bytes = reply(Encoding::Json).to_bytes();
        assert!(answers(&bytes[..bytes.len() - 1]).next().unwrap().is_none());
        assert!(answers(b"HTTP/1.1 400 Bad Request").next().is_err());
    }
}
