//! A transport that is not plain TCP, with everything that makes TLS different and nothing that makes it secret: a handshake of three
//! round trips, records that are numbered and scrambled, one state for both directions, and key updates that the reader has to answer.
//!
//! A record is a type, a length of two bytes, and so many bytes. A data record is a checksum of four bytes and plain bytes, both XORed with
//! a pad that depends on the key and the record's number. So a record that is lost, repeated or out of order fails the session.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, BytesMut};
use net::session::{Acceptor, Connector, HANDSHAKE_BYTE, Received, Session};

const DATA: u8 = 0x17;
const KEY_UPDATE: u8 = 0x18;
const END: u8 = 0x15;
const ALERT: u8 = 0x19;
/// Messages of a handshake, in turns, the client first.
const MESSAGES: u64 = 6;
/// Data records before a key update.
const RECORDS_OF_A_KEY: u64 = 16;
const MAX_PLAIN: usize = 16 << 10;
pub(crate) const SECRET: u64 = 42;

/// One direction.
struct Direction {
    key: u64,
    records: u64,
}

impl Direction {
    fn pad(&self) -> u128 {
        u128::from(mix(self.key ^ self.records)) << 64 | u128::from(mix(self.key.wrapping_add(self.records)))
    }

    fn update(&mut self) {
        self.key = mix(self.key);
        self.records = 0;
    }
}

pub(crate) struct Toy {
    secret: u64,
    is_client: bool,
    /// Messages of the handshake that were sent or received.
    messages: u64,
    sending: Direction,
    receiving: Direction,
    /// Key updates that were answered.
    pub(crate) answered: usize,
}

impl Toy {
    pub(crate) fn client(secret: u64) -> Self {
        Self::new(secret, true)
    }

    fn new(secret: u64, is_client: bool) -> Self {
        let direction = |by_client: bool| Direction {
            key: mix(secret.wrapping_add(u64::from(by_client))),
            records: 0,
        };
        Self {
            secret,
            is_client,
            messages: 0,
            sending: direction(is_client),
            receiving: direction(!is_client),
            answered: 0,
        }
    }

    /// What the handshake's message of this number says. The first two say nothing that depends on the secret.
    fn proof(&self, message: u64) -> u64 {
        mix(message ^ if message < 2 { 0 } else { self.secret })
    }

    fn speak(&mut self, out: &mut BytesMut) {
        while self.is_handshaking() && self.messages.is_multiple_of(2) == self.is_client {
            put(out, HANDSHAKE_BYTE, &self.proof(self.messages).to_be_bytes());
            self.messages += 1;
        }
    }

    fn record(&mut self, kind: u8, body: &mut [u8], plain: &mut BytesMut, out: &mut BytesMut) -> io::Result<Received> {
        match kind {
            HANDSHAKE_BYTE if self.is_handshaking() => {
                if body != self.proof(self.messages).to_be_bytes() {
                    put(out, ALERT, b"");
                    return Err(failed("the secrets differ"));
                }
                self.messages += 1;
                self.speak(out);
            }
            ALERT => return Err(failed("the other end found the secrets to differ")),
            _ if self.is_handshaking() => return Err(failed("data before the handshake's end")),
            DATA if body.len() >= 4 => {
                scramble(body, self.receiving.pad());
                self.receiving.records += 1;
                let (check, data) = body.split_at(4);
                if check != checksum(data).to_be_bytes() {
                    return Err(failed("a record is out of order"));
                }
                plain.extend_from_slice(data);
            }
            KEY_UPDATE => {
                self.receiving.update();
                if body == [1] {
                    put(out, KEY_UPDATE, &[0]);
                    self.sending.update();
                    self.answered += 1;
                }
            }
            END => return Ok(Received::Ended),
            _ => return Err(failed("unknown record")),
        }
        Ok(Received::Open)
    }
}

impl Session for Toy {
    fn is_handshaking(&self) -> bool {
        self.messages < MESSAGES
    }

    fn receive(&mut self, records: &mut BytesMut, plain: &mut BytesMut, out: &mut BytesMut) -> io::Result<Received> {
        self.speak(out);
        while let [kind, high, low, ..] = records[..] {
            let end = 3 + usize::from(u16::from_be_bytes([high, low]));
            if records.len() < end {
                break;
            }
            let mut record = records.split_to(end);
            if self.record(kind, &mut record[3..], plain, out)? == Received::Ended {
                return Ok(Received::Ended);
            }
        }
        Ok(Received::Open)
    }

    fn seal(&mut self, plain: &[IoSlice<'_>], out: &mut BytesMut) -> io::Result<usize> {
        let mut taken = 0;
        for part in plain.iter().flat_map(|slice| slice.chunks(MAX_PLAIN)) {
            if self.sending.records == RECORDS_OF_A_KEY {
                put(out, KEY_UPDATE, &[1]);
                self.sending.update();
            }
            out.put_u8(DATA);
            out.put_u16(u16::try_from(part.len() + 4).unwrap());
            let begin = out.len();
            out.put_u32(checksum(part));
            out.extend_from_slice(part);
            scramble(&mut out[begin..], self.sending.pad());
            self.sending.records += 1;
            taken += part.len();
        }
        Ok(taken)
    }

    fn end(&mut self, out: &mut BytesMut) {
        put(out, END, b"");
    }
}

pub(crate) fn put(out: &mut BytesMut, kind: u8, body: &[u8]) {
    out.put_u8(kind);
    out.put_u16(u16::try_from(body.len()).unwrap());
    out.extend_from_slice(body);
}

/// A request for a key update.
pub(crate) fn key_update() -> Vec<u8> {
    vec![KEY_UPDATE, 0, 1, 1]
}

fn failed(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30)
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^ value >> 31
}

fn scramble(bytes: &mut [u8], pad: u128) {
    for chunk in bytes.chunks_mut(16) {
        if let Ok(whole) = <[u8; 16]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u128::from_be_bytes(whole) ^ pad).to_be_bytes());
        } else {
            chunk.iter_mut().zip(pad.to_be_bytes()).for_each(|(byte, pad)| *byte ^= pad);
        }
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let (wholes, rest) = bytes.as_chunks::<16>();
    let sum = wholes
        .iter()
        .fold(0, |sum: u128, whole| sum.rotate_left(7) ^ u128::from_be_bytes(*whole));
    let sum = rest.iter().fold(sum, |sum, byte| sum.rotate_left(7) ^ u128::from(*byte));
    (sum ^ sum >> 32 ^ sum >> 64 ^ sum >> 96) as u32
}

/// Both ends' factory.
#[derive(Debug)]
pub(crate) struct Toys(pub(crate) u64);

impl Acceptor for Toys {
    fn accept(&self) -> io::Result<Box<dyn Session>> {
        Ok(Box::new(Toy::new(self.0, false)))
    }
}

impl Connector for Toys {
    fn connect(&self, host: &str) -> io::Result<Box<dyn Session>> {
        assert_eq!(host, "127.0.0.1");
        Ok(Box::new(Toy::new(self.0, true)))
    }
}

/// A blocking client's stream. The handshake is run by the first read or write.
pub(crate) struct ToyStream {
    shared: Arc<Shared>,
    records: BytesMut,
    plain: BytesMut,
    ended: bool,
}

struct Shared {
    tcp: TcpStream,
    handshake: Mutex<Option<io::Result<()>>>,
    state: Mutex<(Toy, BytesMut)>,
    /// Held by who writes to the socket.
    wire: Mutex<()>,
}

impl Shared {
    fn establish(&self) -> io::Result<()> {
        let mut handshake = self.handshake.lock().unwrap();
        match handshake.get_or_insert_with(|| self.run_handshake()) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.kind().into()),
        }
    }

    fn run_handshake(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let (toy, out) = &mut *state;
        let (mut records, mut plain) = (BytesMut::new(), BytesMut::new());
        loop {
            toy.receive(&mut records, &mut plain, out)?;
            (&self.tcp).write_all(&out.split())?;
            if !toy.is_handshaking() {
                assert!(records.is_empty() && plain.is_empty());
                return Ok(());
            }
            // A record of the handshake, and no more.
            let mut record = [0; 11];
            (&self.tcp).read_exact(&mut record[..3])?;
            let end = 3 + usize::from(record[2]);
            (&self.tcp).read_exact(&mut record[3..end])?;
            records.extend_from_slice(&record[..end]);
        }
    }

    /// Writes what is sealed.
    fn write(&self) -> io::Result<()> {
        loop {
            let out = self.state.lock().unwrap().1.split();
            if out.is_empty() {
                return Ok(());
            }
            (&self.tcp).write_all(&out)?;
        }
    }
}

impl ToyStream {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        let shared = Shared {
            tcp,
            handshake: Mutex::new(None),
            state: Mutex::new((Toy::client(SECRET), BytesMut::new())),
            wire: Mutex::default(),
        };
        Self::of(Arc::new(shared))
    }

    fn of(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            records: BytesMut::new(),
            plain: BytesMut::new(),
            ended: false,
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.shared.tcp
    }

    /// For writing only.
    pub(crate) fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.shared))
    }

    /// Key updates that this end has answered.
    pub(crate) fn answered(&self) -> usize {
        self.shared.state.lock().unwrap().0.answered
    }
}

impl Read for ToyStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.shared.establish() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
            result => result?,
        }
        while self.plain.is_empty() && !self.ended {
            let mut chunk = [0; 65_536];
            let read = (&self.shared.tcp).read(&mut chunk)?;
            self.records.extend_from_slice(&chunk[..read]);
            let mut state = self.shared.state.lock().unwrap();
            let (toy, out) = &mut *state;
            let received = toy.receive(&mut self.records, &mut self.plain, out)?;
            let replies = !out.is_empty();
            drop(state);
            self.ended = read == 0 || received == Received::Ended;
            // Otherwise whoever writes sends them.
            if replies && let Ok(_writing) = self.shared.wire.try_lock() {
                // Nobody is there to read them when the server has closed.
                let _ = self.shared.write();
            }
        }
        let read = self.plain.len().min(buffer.len());
        self.plain.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}

impl Write for ToyStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.shared.establish()?;
        let part = &buffer[..buffer.len().min(64 << 10)];
        let _writing = self.shared.wire.lock().unwrap();
        let mut state = self.shared.state.lock().unwrap();
        let (toy, out) = &mut *state;
        let taken = toy.seal(&[IoSlice::new(part)], out)?;
        drop(state);
        self.shared.write()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
