//! The two ends of a stream with a [`Session`].
//!
//! A session is one state for both directions, and any thread writes. So it is behind a lock, together with the records that the socket
//! has not taken. The lock is held over a non-blocking write: records must reach the socket in the order in which they were
//! sealed. It is never held over a call that waits. Two threads can compete for it: the one writer that the outbox allows, and the
//! connection's own task, because records that it reads may require a response (key updates).

use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::session::{RECORD_MAX_BYTES, Received, SEAL_MAX_BYTES, Session};
use crate::spare;

/// While more than this many bytes of records are unsent, nothing is read, because records may require responses.
const UNSENT_PAUSE_BYTES: usize = 2 * SEAL_MAX_BYTES;
/// Bytes of records that are read at once, if so many may be read: a record has 16 KiB of plain bytes at most, and a read and what it leads to
/// costs more than a record.
const READ_RECORDS_BYTES: usize = 64 << 10;
/// Slices that one call of [`Session::seal`] gets at most.
const SLICES: usize = 64;

struct SessionState {
    session: Box<dyn Session>,
    /// Records that the socket has not taken.
    unsent: BytesMut,
}

/// The writing end, and the session of both ends.
pub(crate) struct SecuredWrite {
    state: Mutex<SessionState>,
    socket: OwnedWriteHalf,
}

impl SecuredWrite {
    /// Seals plain bytes and writes the records. Returns how many plain bytes were taken; records that the socket does not take are kept.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock();
        self.send(&mut state)?;
        let mut part = [IoSlice::new(&[]); SLICES];
        let used = first_bytes(slices, &mut part);
        let SessionState { session, unsent } = &mut *state;
        if unsent.capacity() == 0 {
            *unsent = spare::out_buffer();
        }
        let taken = session.seal(&part[..used], unsent)?;
        match self.send(&mut state) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Writes records that the socket has not taken; `WouldBlock` while it does not take all.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.send(&mut self.state.lock())
    }

    /// Memory of records that the socket has not taken.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.state.lock().unsent.capacity()
    }

    /// Writes unsent records; ready when the socket has taken all. Registers the connection's task.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.socket.as_ref().poll_write_ready(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    /// Seals the record that ends our direction and writes it if the socket takes it.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        let SessionState { session, unsent } = &mut *state;
        session.end(unsent);
        // If the socket is full or has failed, the peer sees the end of the stream only.
        let _ = self.send(&mut state);
    }

    pub(crate) fn socket(&self) -> &OwnedWriteHalf {
        &self.socket
    }

    fn send(&self, state: &mut SessionState) -> io::Result<()> {
        while !state.unsent.is_empty() {
            match self.socket.try_write(&state.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => state.unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        spare::give_out_buffer(std::mem::take(&mut state.unsent));
        Ok(())
    }
}

/// The first [`SEAL_MAX_BYTES`] of some slices. Returns how many slices that are.
fn first_bytes<'a>(slices: &'a [IoSlice<'_>], part: &mut [IoSlice<'a>; SLICES]) -> usize {
    let (mut used, mut left) = (0, SEAL_MAX_BYTES);
    for (slot, slice) in part.iter_mut().zip(slices) {
        let taken = slice.len().min(left);
        *slot = IoSlice::new(&slice[..taken]);
        used += 1;
        left -= taken;
        if left == 0 {
            break;
        }
    }
    used
}

/// The reading end. Used by the connection's task only.
pub(crate) struct SecuredRead {
    socket: OwnedReadHalf,
    shared: Arc<SecuredWrite>,
    /// The beginning of a record; at most [`RECORD_MAX_BYTES`].
    records: BytesMut,
    /// Bytes of records that nobody has read yet, where few may be read; less than two records.
    plain: BytesMut,
    ended: bool,
}

impl SecuredRead {
    /// Ready when a read would find something. Sends what earlier reads have to answer.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.shared.poll_flush(cx)?;
        if !self.plain.is_empty() || self.ended {
            return Poll::Ready(Ok(()));
        }
        if flushed.is_pending() && self.shared.state.lock().unsent.len() > UNSENT_PAUSE_BYTES {
            return Poll::Pending;
        }
        self.socket.as_ref().poll_read_ready(cx)
    }

    /// Appends up to `most` plain bytes to `buffer`; 0 is the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut, most: usize) -> Poll<io::Result<usize>> {
        loop {
            if !self.plain.is_empty() {
                let bytes = most.min(self.plain.len());
                buffer.extend_from_slice(&self.plain[..bytes]);
                self.plain.advance(bytes);
                if self.plain.is_empty() {
                    spare::give_out_buffer(std::mem::take(&mut self.plain));
                }
                return Poll::Ready(Ok(bytes));
            }
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            let limit = most.clamp(RECORD_MAX_BYTES, READ_RECORDS_BYTES);
            let before = buffer.len();
            let mut records = spare::out_buffer();
            records.extend_from_slice(&std::mem::take(&mut self.records));
            let read = poll_read_records(&mut self.socket, cx, &mut records, limit);
            let result = match &read {
                // The session may have kept the beginning of a record, so there may be more plain bytes than were read.
                Poll::Ready(Ok(bytes)) if limit + RECORD_MAX_BYTES <= most => self.receive(&mut records, *bytes, buffer),
                Poll::Ready(Ok(bytes)) => {
                    let mut plain = spare::out_buffer();
                    let result = self.receive(&mut records, *bytes, &mut plain);
                    if plain.is_empty() {
                        spare::give_out_buffer(plain);
                    } else {
                        self.plain = plain;
                    }
                    result
                }
                _ => Ok(()),
            };
            if !records.is_empty() {
                self.records = BytesMut::from(&records[..]);
            }
            spare::give_out_buffer(records);
            ready!(read)?;
            result?;
            if buffer.len() > before {
                return Poll::Ready(Ok(buffer.len() - before));
            }
        }
    }

    /// Processes records, of which the last `read` bytes are new, and appends what they carry to `plain`.
    fn receive(&mut self, records: &mut BytesMut, read: usize, plain: &mut BytesMut) -> io::Result<()> {
        if read == 0 {
            self.ended = true;
            return if records.is_empty() {
                Ok(())
            } else {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended within a record"))
            };
        }
        let mut state = self.shared.state.lock();
        let SessionState { session, unsent } = &mut *state;
        let received = session.receive(records, plain, unsent);
        // Bytes that the socket does not take now are sent by the next write, or when it is writable (`poll_ready`).
        match self.shared.send(&mut state) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        drop(state);
        self.ended = received? == Received::Ended;
        Ok(())
    }
}

/// Appends received bytes to `records`, at most `limit` in all, which limits the plain bytes too.
fn poll_read_records(socket: &mut OwnedReadHalf, cx: &mut Context<'_>, records: &mut BytesMut, limit: usize) -> Poll<io::Result<usize>> {
    if records.len() >= RECORD_MAX_BYTES {
        return Poll::Ready(Err(too_long()));
    }
    let free = limit - records.len();
    records.reserve(free);
    pin!(socket.read_buf(&mut records.limit(free))).poll(cx)
}

fn too_long() -> io::Error {
    let text = format!("a record has more than {RECORD_MAX_BYTES} bytes, which is the maximum");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Runs the handshake of a session over a connected stream. `records` is what was read already. Memory stays below three times
/// [`RECORD_MAX_BYTES`] beside the session's own. The caller sets the deadline, by dropping this.
///
/// # Errors
/// `InvalidData` or what the session says if the handshake fails, `UnexpectedEof` if the peer ends the stream, or the error of the
/// socket.
pub(crate) async fn handshake(
    (mut read, mut write): (OwnedReadHalf, OwnedWriteHalf),
    mut session: Box<dyn Session>,
    mut records: BytesMut,
) -> io::Result<(SecuredRead, Arc<SecuredWrite>)> {
    let (mut plain, mut out) = (BytesMut::new(), BytesMut::new());
    let mut ended = false;
    loop {
        match session.receive(&mut records, &mut plain, &mut out) {
            Ok(received) => ended |= received == Received::Ended,
            Err(error) => {
                // The alert, as far as the socket takes it.
                let _ = write.try_write(&out);
                return Err(error);
            }
        }
        write.write_all_buf(&mut out).await?;
        if !session.is_handshaking() {
            break;
        }
        let bytes = std::future::poll_fn(|cx| poll_read_records(&mut read, cx, &mut records, RECORD_MAX_BYTES)).await?;
        if ended || bytes == 0 {
            let text = "the peer ended the connection during the handshake";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
    }
    let shared = Arc::new(SecuredWrite {
        state: Mutex::new(SessionState {
            session,
            unsent: BytesMut::new(),
        }),
        socket: write,
    });
    let reading = SecuredRead {
        socket: read,
        shared: Arc::clone(&shared),
        records,
        plain,
        ended,
    };
    Ok((reading, shared))
}
