//! A session of [`net::session`] over the unbuffered connections of rustls: records and plain bytes stay in the buffers of `net`.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use net::session::{RECORD_MAX_BYTES, Received, Session};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{ClientConfig, ServerConfig};

/// Bytes that a record has beside its plain ones at most, for all versions and cipher suites.
const RECORD_OVERHEAD: usize = 64;
/// First guess for a message of the protocol.
const MESSAGE_BYTES: usize = 2 << 10;
/// Plain bytes of a record at most.
const RECORD_PLAIN_BYTES: usize = 16 << 10;

/// One end of a connection of rustls.
trait End {
    type Data;
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn is_handshaking(&self) -> bool;
}

/// Both kinds of connections have the same methods and no common trait.
macro_rules! end {
    ($connection:ty, $data:ty) => {
        impl End for $connection {
            type Data = $data;

            fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, $data> {
                self.process_tls_records(records)
            }

            fn is_handshaking(&self) -> bool {
                (**self).is_handshaking()
            }
        }
    };
}
end!(UnbufferedServerConnection, ServerConnectionData);
end!(UnbufferedClientConnection, ClientConnectionData);

/// A session for a stream that a server accepted.
///
/// # Errors
/// `io::Error` if rustls refuses the configuration.
pub(crate) fn accepting(config: Arc<ServerConfig>) -> io::Result<Box<dyn Session>> {
    Ok(boxed(UnbufferedServerConnection::new(config).map_err(io::Error::other)?))
}

/// A session for a stream to `host`.
///
/// # Errors
/// `io::Error` if `host` is neither a name nor an IP address.
pub(crate) fn connecting(config: Arc<ClientConfig>, host: &str) -> io::Result<Box<dyn Session>> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    Ok(boxed(UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?))
}

fn boxed<E: End + Send + 'static>(end: E) -> Box<dyn Session> {
    Box::new(TlsSession {
        end,
        pending: BytesMut::new(),
        ended: false,
        failed: false,
    })
}

/// Invariant: rustls remembers positions in the bytes that it was given and that it did not discard. So each call of `process` gets all of
/// them again, in `pending`, also calls that only write.
struct TlsSession<E> {
    end: E,
    /// Received bytes that rustls has not discarded: the beginning of a record, or of a message in several records. At most
    /// [`RECORD_MAX_BYTES`] between two calls.
    pending: BytesMut,
    /// The peer has ended its direction.
    ended: bool,
    /// Nothing more is received or sent.
    failed: bool,
}

/// What one step did.
enum Step {
    /// There may be more to do.
    Continue,
    /// More records are needed.
    Done,
}

impl<E: End> TlsSession<E> {
    /// Handles one state of the connection.
    fn step(&mut self, records: &mut BytesMut, plain: &mut BytesMut, out: &mut BytesMut) -> io::Result<Step> {
        let UnbufferedStatus { mut discard, state } = self.end.process(records);
        let step = match state {
            Err(error) => Err(invalid(error)),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => {
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    Some(Err(error)) => break Err(invalid(error)),
                    None => break Ok(Step::Continue),
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                append(out, MESSAGE_BYTES, |room| message.encode(room)).map(|()| Step::Continue)
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                Ok(Step::Continue)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.ended = true;
                Ok(Step::Continue)
            }
            Ok(ConnectionState::Closed) => {
                self.ended = true;
                Ok(Step::Done)
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
            Ok(other) => Err(invalid(format!("unexpected state {other:?}"))),
        };
        records.advance(discard.min(records.len()));
        step
    }

    /// Handles states until more records are needed. After an error `out` has the alert that tells the peer.
    fn steps(&mut self, records: &mut BytesMut, plain: &mut BytesMut, out: &mut BytesMut) -> io::Result<()> {
        loop {
            match self.step(records, plain, out) {
                Ok(Step::Continue) => {}
                Ok(Step::Done) => return Ok(()),
                Err(error) => {
                    self.failed = true;
                    while matches!(self.step(records, plain, out), Ok(Step::Continue)) {}
                    return Err(error);
                }
            }
        }
    }

    /// Appends what `act` encrypts to `out`, after messages of the protocol that wait.
    fn write(
        &mut self,
        out: &mut BytesMut,
        mut act: impl FnMut(&mut WriteTraffic<'_, E::Data>, &mut BytesMut) -> io::Result<()>,
    ) -> io::Result<()> {
        while !self.failed {
            let UnbufferedStatus { discard, state } = self.end.process(&mut self.pending);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    act(&mut traffic, out)?;
                    self.pending.advance(discard.min(self.pending.len()));
                    return Ok(());
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => append(out, MESSAGE_BYTES, |room| message.encode(room))?,
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(_) => break,
                Err(error) => {
                    self.failed = true;
                    return Err(invalid(error));
                }
            }
            self.pending.advance(discard.min(self.pending.len()));
        }
        Err(ended())
    }
}

impl<E: End + Send> Session for TlsSession<E> {
    fn is_handshaking(&self) -> bool {
        self.end.is_handshaking()
    }

    fn receive(&mut self, records: &mut BytesMut, plain: &mut BytesMut, out: &mut BytesMut) -> io::Result<Received> {
        if self.failed {
            return Err(ended());
        }
        if self.pending.is_empty() {
            self.steps(records, plain, out)?;
            if !records.is_empty() {
                self.pending = BytesMut::from(&records[..]);
            }
        } else {
            let mut all = std::mem::take(&mut self.pending);
            all.extend_from_slice(records);
            self.steps(&mut all, plain, out)?;
            if !all.is_empty() {
                self.pending = all;
            }
        }
        records.clear();
        if self.pending.len() > RECORD_MAX_BYTES {
            self.failed = true;
            let text = format!(
                "an incomplete TLS message has {} bytes, at most {RECORD_MAX_BYTES} are allowed",
                self.pending.len()
            );
            return Err(invalid(text));
        }
        Ok(if self.ended { Received::Ended } else { Received::Open })
    }

    fn seal(&mut self, plain: &[IoSlice<'_>], out: &mut BytesMut) -> io::Result<usize> {
        let gathered;
        let whole = match plain {
            [one] => &one[..],
            several => {
                gathered = several.iter().map(|slice| &slice[..]).collect::<Vec<_>>().concat();
                &gathered[..]
            }
        };
        let needed = whole.len() + (whole.len() / RECORD_PLAIN_BYTES + 2) * RECORD_OVERHEAD;
        self.write(out, |traffic, out| append(out, needed, |room| traffic.encrypt(whole, room)))?;
        Ok(whole.len())
    }

    fn end(&mut self, out: &mut BytesMut) {
        // A session that has failed has nothing to end.
        let _ = self.write(out, |traffic, out| {
            append(out, MESSAGE_BYTES, |room| traffic.queue_close_notify(room))
        });
    }
}

/// Why a call did not write.
trait Unwritten: std::error::Error + Send + Sync + 'static {
    /// Bytes that it needs.
    fn required(&self) -> Option<usize>;
}

impl Unwritten for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl Unwritten for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Appends what `write` writes into the room that it gets: `needed` bytes, or more if it asks for more.
fn append<U: Unwritten>(out: &mut BytesMut, needed: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, U>) -> io::Result<()> {
    let begin = out.len();
    let mut room = needed;
    loop {
        out.resize(begin + room, 0);
        match write(&mut out[begin..]) {
            Ok(written) => {
                out.truncate(begin + written);
                return Ok(());
            }
            Err(error) => match error.required().filter(|required| *required > room) {
                Some(required) => room = required,
                None => {
                    out.truncate(begin);
                    return Err(invalid(error));
                }
            },
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "the TLS session has ended")
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs;
    use crate::settings::TlsSettings;

    fn sessions() -> (Box<dyn Session>, Box<dyn Session>) {
        let settings = TlsSettings::default();
        let client = connecting(configs::client(&settings).unwrap().config, "localhost").unwrap();
        let server = accepting(configs::server(&settings).unwrap().unwrap().config).unwrap();
        (client, server)
    }

    /// What a session answers to these bytes, which it gets in parts of `size`; between two of them it tries to write.
    fn answer(session: &mut dyn Session, bytes: &[u8], size: usize, plain: &mut BytesMut) -> BytesMut {
        let mut out = BytesMut::new();
        for part in bytes.chunks(size) {
            let mut records = BytesMut::from(part);
            session.receive(&mut records, plain, &mut out).unwrap();
            assert!(records.is_empty());
            if session.is_handshaking() {
                assert!(session.seal(&[IoSlice::new(b"too early")], &mut BytesMut::new()).is_err() || !session.is_handshaking());
            }
        }
        out
    }

    /// The same handshake message in records of few bytes.
    fn in_small_records(record: &[u8]) -> Vec<u8> {
        let (header, message) = record.split_at(5);
        message
            .chunks(7)
            .flat_map(|part| [&header[..3], &[0, part.len() as u8], part].concat())
            .collect()
    }

    #[test]
    fn messages_may_arrive_in_any_parts_and_records() {
        for size in [1, 6, 100, 5_000] {
            let (mut client, mut server) = sessions();
            let mut plain = BytesMut::new();
            let mut hello = BytesMut::new();
            client.receive(&mut BytesMut::new(), &mut plain, &mut hello).unwrap();
            let flight = answer(&mut *server, &in_small_records(&hello), size, &mut plain);
            let finished = answer(&mut *client, &flight, size, &mut plain);
            answer(&mut *server, &finished, size, &mut plain);
            assert!(!client.is_handshaking() && !server.is_handshaking());
            let mut sealed = BytesMut::new();
            let slices = [IoSlice::new(b"one "), IoSlice::new(b"two")];
            assert_eq!(client.seal(&slices, &mut sealed).unwrap(), 7);
            client.end(&mut sealed);
            let mut received = Received::Open;
            for part in sealed.chunks(size) {
                received = server.receive(&mut BytesMut::from(part), &mut plain, &mut BytesMut::new()).unwrap();
            }
            assert_eq!((&plain[..], received), (&b"one two"[..], Received::Ended));
        }
    }

    #[test]
    fn a_session_that_has_failed_says_so_and_does_nothing_more() {
        let (mut client, mut server) = sessions();
        let mut hello = BytesMut::new();
        client.receive(&mut BytesMut::new(), &mut BytesMut::new(), &mut hello).unwrap();
        // A message that is incomplete, and then something else.
        let begun = in_small_records(&hello)[..24].to_vec();
        let mut out = BytesMut::new();
        server
            .receive(&mut BytesMut::from(&begun[..]), &mut BytesMut::new(), &mut out)
            .unwrap();
        let wrong = [0x17, 3, 3, 0, 1, 7];
        assert!(
            server
                .receive(&mut BytesMut::from(&wrong[..]), &mut BytesMut::new(), &mut out)
                .is_err()
        );
        assert!(server.seal(&[IoSlice::new(b"x")], &mut out).is_err());
        assert!(
            server
                .receive(&mut BytesMut::from(&begun[..]), &mut BytesMut::new(), &mut out)
                .is_err()
        );
        server.end(&mut out);
    }

    #[test]
    fn an_endless_message_is_refused() {
        let (_, mut server) = sessions();
        // A handshake message that says it has 60,000 bytes.
        let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60];
        record.resize(5 + (16 << 10), 0);
        let mut receive = |bytes: &[u8]| server.receive(&mut BytesMut::from(bytes), &mut BytesMut::new(), &mut BytesMut::new());
        assert!(receive(&record).is_ok());
        assert!(receive(&record).is_err());
    }
}
