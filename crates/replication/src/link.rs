//! One connected slave, seen from its master: a thread takes its reports, another one sends the log.

use crate::master::{Shared, SlaveState};
use crate::rate::Rate;
use crate::wire::{HEADER_LEN, REPORT_LEN, header};
use bytes::{Bytes, BytesMut};
use message::LogOffset;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Bytes of the log that are read and written at once.
const ROUND_BYTES: usize = 256 << 10;

/// A slave that has told which offset it needs.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    addr: SocketAddr,
    /// Up to where it has the log, as far as it has said.
    acknowledged: AtomicI64,
    /// Up to where the log was sent; raised before the bytes leave.
    sent: AtomicI64,
    rate: Rate,
    closed: AtomicBool,
    /// Whether the thread that sends waits for something to send.
    is_idle: AtomicBool,
    sender: std::sync::OnceLock<Thread>,
}

impl Link {
    /// Wakes the thread that sends, if it waits.
    pub(crate) fn wake(&self) {
        if self.is_idle.load(Ordering::Relaxed)
            && self.is_idle.swap(false, Ordering::Relaxed)
            && let Some(sender) = self.sender.get()
        {
            sender.unpark();
        }
    }

    pub(crate) fn state(&self, end: i64, max_gap: i64, now: Instant) -> SlaveState {
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        SlaveState {
            addr: self.addr,
            acknowledged,
            sent: self.sent.load(Ordering::Acquire),
            bytes_per_second: self.rate.last_second(now),
            in_sync: end - acknowledged < max_gap,
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(sender) = self.sender.get() {
            sender.unpark();
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("it closed the connection")]
    ByPeer,
    #[error("it said nothing for {0:?} (haHousekeepingInterval)")]
    Silent(Duration),
    #[error(
        "it asks for log offset {asked}, but the log is from {first} to {end}; if it has a log of its own, start it with an empty directory"
    )]
    Outside { asked: i64, first: i64, end: i64 },
    #[error("it acknowledges log offset {offset}, but only what is before {sent} was sent to it")]
    NotSent { offset: i64, sent: i64 },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// Serves a connection until it ends.
pub(crate) fn follow(shared: &Arc<Shared>, id: u64, stream: TcpStream, addr: SocketAddr) {
    let outcome = serve(shared, id, &stream, addr);
    let _ = stream.shutdown(Shutdown::Both);
    if let Err(why) = outcome
        && !shared.is_stopping()
    {
        tracing::warn!(slave = %addr, %why, "the connection to a slave is closed");
    }
}

fn serve(shared: &Arc<Shared>, id: u64, stream: &TcpStream, addr: SocketAddr) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(shared.options.housekeeping))?;
    let mut reports = Reports::new(stream, shared.options.housekeeping);
    let asked = reports.next()?;
    let begin = first_offset(shared, asked)?;
    tracing::info!(slave = %addr, asked, from = begin, "a slave is connected");
    let link = Arc::new(Link {
        id,
        addr,
        acknowledged: AtomicI64::new(asked),
        sent: AtomicI64::new(begin),
        rate: Rate::new(Instant::now()),
        closed: AtomicBool::new(false),
        is_idle: AtomicBool::new(false),
        sender: std::sync::OnceLock::new(),
    });
    // What no slave was ever sent is not believed, even if the log has it.
    if asked > 0 && asked <= shared.sent.load(Ordering::Acquire) {
        shared.acks.acknowledge(id, asked);
    }
    let sending = {
        let (shared, link, stream) = (Arc::clone(shared), Arc::clone(&link), stream.try_clone()?);
        thread::Builder::new().name("ha-send".to_owned()).spawn(move || {
            if let Err(why) = send(&shared, &link, &stream)
                && !link.closed.load(Ordering::Acquire)
                && !shared.is_stopping()
            {
                tracing::warn!(slave = %link.addr, %why, "the log can no longer be sent to a slave");
            }
            // The other thread waits for a report.
            let _ = stream.shutdown(Shutdown::Both);
        })?
    };
    let _ = link.sender.set(sending.thread().clone());
    shared.add(&link);
    // It may have found nothing to send before writes could wake it.
    sending.thread().unpark();
    let outcome = take_reports(shared, &link, &mut reports);
    shared.remove(&link);
    let _ = stream.shutdown(Shutdown::Both);
    link.close();
    let _ = sending.join();
    outcome
}

/// Where the log is sent from. Compat: a slave that has nothing gets the newest file.
fn first_offset(shared: &Shared, asked: i64) -> Result<i64, Closed> {
    let (first, end) = (shared.store.log_range().0.0, shared.store.written().0);
    if asked == 0 {
        let file = shared.store.log_file_bytes();
        return Ok((end - end.rem_euclid(file)).max(first));
    }
    if asked < first || asked > end {
        return Err(Closed::Outside { asked, first, end });
    }
    Ok(asked)
}

fn take_reports(shared: &Shared, link: &Link, reports: &mut Reports<'_>) -> Result<(), Closed> {
    loop {
        let offset = reports.next()?;
        let sent = link.sent.load(Ordering::Acquire);
        if offset > sent {
            return Err(Closed::NotSent { offset, sent });
        }
        link.acknowledged.fetch_max(offset, Ordering::AcqRel);
        if offset > 0 {
            shared.acks.acknowledge(link.id, offset);
        }
    }
}

/// Reads reports; of those that are there at once the last one counts.
struct Reports<'s> {
    stream: &'s TcpStream,
    patience: Duration,
    buffer: [u8; 1024],
    /// Bytes of an incomplete report at the buffer's beginning.
    kept: usize,
}

impl<'s> Reports<'s> {
    fn new(stream: &'s TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            buffer: [0; 1024],
            kept: 0,
        }
    }

    fn next(&mut self) -> Result<i64, Closed> {
        let deadline = Instant::now() + self.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Closed::Silent(self.patience));
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut self.buffer[self.kept..]) {
                Ok(0) => return Err(Closed::ByPeer),
                Ok(count) => {
                    let there = self.kept + count;
                    let whole = there - there % REPORT_LEN;
                    let last = whole.checked_sub(REPORT_LEN).map(|at| &self.buffer[at..whole]);
                    let last = last.and_then(|report| report.try_into().ok()).map(i64::from_be_bytes);
                    self.buffer.copy_within(whole..there, 0);
                    self.kept = there - whole;
                    if let Some(offset) = last {
                        return Ok(offset);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_timeout(&e) => return Err(Closed::Silent(self.patience)),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn send(shared: &Shared, link: &Link, stream: &TcpStream) -> Result<(), Closed> {
    let mut next = link.sent.load(Ordering::Acquire);
    let mut last_sent = Instant::now();
    let (mut buffer, mut pieces) = (BytesMut::new(), Vec::new());
    while !link.closed.load(Ordering::Acquire) && !shared.is_stopping() {
        pieces.clear();
        let count = shared
            .store
            .read_log_bytes(LogOffset(next), ROUND_BYTES, &mut buffer, &mut pieces)?;
        if count == 0 {
            link.is_idle.store(true, Ordering::Relaxed);
            if shared.store.written_in_order().0 == next {
                let until_heartbeat = shared.options.heartbeat.saturating_sub(last_sent.elapsed());
                thread::park_timeout(until_heartbeat);
            }
            link.is_idle.store(false, Ordering::Relaxed);
            if last_sent.elapsed() >= shared.options.heartbeat {
                write_all(stream, &mut [IoSlice::new(&header(next, 0))])?;
                last_sent = Instant::now();
            }
            continue;
        }
        let from = next;
        next += count as i64;
        link.sent.store(next, Ordering::Release);
        shared.sent.fetch_max(next, Ordering::AcqRel);
        let blocks = Blocks::cut(from, count, shared.options.block_bytes, &pieces);
        write_all(stream, &mut blocks.slices())?;
        last_sent = Instant::now();
        link.rate.add(count, last_sent);
    }
    Ok(())
}

/// A part of the log as it is sent: in blocks, each behind its header.
struct Blocks {
    headers: Vec<[u8; HEADER_LEN]>,
    /// Pieces of the log and the number of the header before each; one that is in two blocks is there twice.
    pieces: Vec<(usize, Bytes)>,
}

impl Blocks {
    fn cut(from: i64, count: usize, block_bytes: usize, log: &[Bytes]) -> Self {
        let block_bytes = block_bytes.max(1);
        let starts = (0..count).step_by(block_bytes);
        let headers = starts
            .map(|start| header(from + start as i64, block_bytes.min(count - start)))
            .collect();
        let mut pieces = Vec::with_capacity(log.len());
        let mut at = 0;
        for piece in log {
            let mut rest = piece.clone();
            while !rest.is_empty() {
                let part = rest.split_to(rest.len().min(block_bytes - at % block_bytes));
                pieces.push((at / block_bytes, part.clone()));
                at += part.len();
            }
        }
        Self { headers, pieces }
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(self.headers.len() + self.pieces.len());
        let mut block = None;
        for (number, piece) in &self.pieces {
            if block != Some(*number) {
                block = Some(*number);
                slices.push(IoSlice::new(&self.headers[*number]));
            }
            slices.push(IoSlice::new(piece));
        }
        slices
    }
}

fn write_all(mut stream: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_cut_into_blocks_behind_headers() {
        let log = [Bytes::from_static(b"abcde"), Bytes::from_static(b"f"), Bytes::from_static(b"ghij")];
        let blocks = Blocks::cut(100, 10, 4, &log);
        let sent: Vec<u8> = blocks.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        let mut expected = Vec::new();
        for (at, block) in [(100, "abcd"), (104, "efgh"), (108, "ij")] {
            expected.extend(header(at, block.len()));
            expected.extend(block.as_bytes());
        }
        assert_eq!(sent, expected);
    }
}
