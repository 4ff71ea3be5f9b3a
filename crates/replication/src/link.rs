//! One connected slave, seen from its master: a thread takes its reports, another one sends the log.

use crate::epochs::Epoch;
use crate::master::{Member, Shared, SlaveState, now_ms};
use crate::rate::Rate;
use crate::wire::{
    EpochHeader, REPORT_LEN, SLAVE_HANDSHAKE_LEN, STATE_REPORT_LEN, SlaveHandshake, header, master_handshake, parse_state_report,
};
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
/// An idle master tells that more is confirmed after this time at the latest, so that readers of a slave see it.
const TELL_CONFIRMED_EVERY: Duration = Duration::from_millis(50);
/// Shortest sleep of an idle master whose slaves have not acknowledged all.
const MIN_PARK: Duration = Duration::from_millis(5);

/// A slave that has told which offset it needs.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    /// Its broker id, under a controller.
    pub(crate) peer: Option<i64>,
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
            id: self.peer,
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
    #[error("it sends what no slave sends under a controller; enableControllerMode has to be the same on both")]
    NoHandshake,
    #[error("it has the broker id {0}, which is that of this broker or none")]
    BadId(i64),
    #[error("this master has no epoch yet")]
    NoEpoch,
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
    let member = shared.options.member.clone();
    let hello = member.as_ref().map(|member| shake_hands(shared, member, stream)).transpose()?;
    let mut reports = Reports::new(stream, shared.options.housekeeping, hello.is_some());
    let asked = reports.next()?;
    let begin = first_offset(shared, asked, hello)?;
    let peer = hello.map(|hello| hello.id);
    tracing::info!(slave = %addr, id = peer, asked, from = begin, "a slave is connected");
    let link = Arc::new(Link {
        id,
        peer,
        addr,
        acknowledged: AtomicI64::new(asked),
        sent: AtomicI64::new(begin),
        rate: Rate::new(Instant::now()),
        closed: AtomicBool::new(false),
        is_idle: AtomicBool::new(false),
        sender: std::sync::OnceLock::new(),
    });
    if let Some(hello) = hello {
        // Its log is cut back to where it is that of this master.
        shared
            .acks
            .change(&shared.store, |set| set.connect(hello.id, id, asked, hello.is_learner, now_ms()));
    } else if asked > 0 && asked <= shared.sent.load(Ordering::Acquire) {
        // What no slave was ever sent is not believed, even if the log has it.
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

/// Under a controller: tells a slave the epochs of this log, by which it cuts back its own.
fn shake_hands(shared: &Shared, member: &Member, mut stream: &TcpStream) -> Result<SlaveHandshake, Closed> {
    let mut bytes = [0; SLAVE_HANDSHAKE_LEN];
    stream.set_read_timeout(Some(shared.options.housekeeping))?;
    stream.read_exact(&mut bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Closed::ByPeer,
        _ if is_timeout(&e) => Closed::Silent(shared.options.housekeeping),
        _ => e.into(),
    })?;
    let hello = SlaveHandshake::parse(&bytes).ok_or(Closed::NoHandshake)?;
    if hello.id == member.id || hello.id < 0 {
        return Err(Closed::BadId(hello.id));
    }
    stream.write_all(&master_handshake(shared.store.written().0, &member.epochs.epochs()))?;
    Ok(hello)
}

/// Where the log is sent from. Compat: a slave that has nothing gets the newest file; under a controller, all files unless it asks otherwise.
fn first_offset(shared: &Shared, asked: i64, hello: Option<SlaveHandshake>) -> Result<i64, Closed> {
    let (first, end) = (shared.store.log_range().0.0, shared.store.written().0);
    if asked == 0 && hello.is_some_and(|hello| !hello.from_last_file) {
        return Ok(first);
    }
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
        match link.peer {
            Some(peer) => {
                let end = shared.store.written().0;
                shared
                    .acks
                    .change(&shared.store, |set| set.acknowledge(peer, link.id, offset, end, now_ms()));
            }
            None if offset > 0 => shared.acks.acknowledge(link.id, offset),
            None => {}
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
    /// Whether reports have a state, as under a controller.
    has_state: bool,
}

impl<'s> Reports<'s> {
    fn new(stream: &'s TcpStream, patience: Duration, has_state: bool) -> Self {
        Self {
            stream,
            patience,
            has_state,
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
                    let len = if self.has_state { STATE_REPORT_LEN } else { REPORT_LEN };
                    let whole = there - there % len;
                    let last = whole.checked_sub(len).map(|at| &self.buffer[at..whole]);
                    let last = match last {
                        Some(report) if self.has_state => Some(parse_state_report(report).ok_or(Closed::NoHandshake)?),
                        Some(report) => report.try_into().ok().map(i64::from_be_bytes),
                        None => None,
                    };
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

/// The headers before the pieces of a log, in the protocol of a link.
struct Headers<'s> {
    shared: &'s Shared,
    /// Under a controller: the epoch of what is sent, and where the next one begins.
    epoch: Option<(Epoch, Option<i64>)>,
    /// Up to where the log was confirmed in the last header.
    told: i64,
}

impl<'s> Headers<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self {
            shared,
            epoch: None,
            told: i64::MIN,
        }
    }

    /// What is sent next begins at this offset. Returns how many bytes may be sent under one header.
    fn begin(&mut self, offset: i64) -> Result<usize, Closed> {
        let Some(member) = &self.shared.options.member else {
            return Ok(ROUND_BYTES);
        };
        if self.epoch.is_none_or(|(_, next)| next.is_some_and(|next| offset >= next)) {
            self.epoch = Some(member.epochs.epochs().at(offset).ok_or(Closed::NoEpoch)?);
        }
        let end = self.epoch.and_then(|(_, next)| next);
        Ok(end.map_or(ROUND_BYTES, |end| (end - offset).clamp(0, ROUND_BYTES as i64) as usize))
    }

    fn confirmed(&self) -> i64 {
        self.shared.store.confirmed().0
    }

    /// Whether more is confirmed than the last header has told.
    fn has_news(&self) -> bool {
        self.epoch.is_some() && self.confirmed() > self.told
    }

    /// Appends the header before so many bytes of the log.
    fn write(&mut self, offset: i64, size: usize, out: &mut Vec<u8>) {
        let Some((epoch, _)) = self.epoch else {
            return out.extend_from_slice(&header(offset, size));
        };
        self.told = self.confirmed();
        let header = EpochHeader {
            offset,
            size: size as i32,
            epoch,
            confirmed: self.told,
        };
        out.extend_from_slice(&header.encode());
    }
}

fn send(shared: &Shared, link: &Link, stream: &TcpStream) -> Result<(), Closed> {
    let mut next = link.sent.load(Ordering::Acquire);
    let mut last_sent = Instant::now();
    let (mut buffer, mut pieces) = (BytesMut::new(), Vec::new());
    let mut headers = Headers::new(shared);
    while !link.closed.load(Ordering::Acquire) && !shared.is_stopping() {
        pieces.clear();
        let max = headers.begin(next)?;
        let count = shared.store.read_log_bytes(LogOffset(next), max, &mut buffer, &mut pieces)?;
        if count == 0 {
            link.is_idle.store(true, Ordering::Relaxed);
            if shared.store.written_in_order().0 == next {
                let until_heartbeat = shared.options.heartbeat.saturating_sub(last_sent.elapsed());
                let until_news = TELL_CONFIRMED_EVERY.saturating_sub(last_sent.elapsed());
                let is_behind = headers.told < next && headers.epoch.is_some();
                thread::park_timeout(if is_behind { until_news.max(MIN_PARK) } else { until_heartbeat });
            }
            link.is_idle.store(false, Ordering::Relaxed);
            let is_due = last_sent.elapsed() >= shared.options.heartbeat;
            if is_due || headers.has_news() && last_sent.elapsed() >= TELL_CONFIRMED_EVERY {
                let mut heartbeat = Vec::new();
                headers.write(next, 0, &mut heartbeat);
                write_all(stream, &mut [IoSlice::new(&heartbeat)])?;
                last_sent = Instant::now();
            }
            continue;
        }
        let from = next;
        next += count as i64;
        link.sent.store(next, Ordering::Release);
        shared.sent.fetch_max(next, Ordering::AcqRel);
        let blocks = Blocks::cut(from, count, shared.options.block_bytes, &pieces, |offset, size, out| {
            headers.write(offset, size, out);
        });
        write_all(stream, &mut blocks.slices())?;
        last_sent = Instant::now();
        link.rate.add(count, last_sent);
    }
    Ok(())
}

/// A part of the log as it is sent: in blocks, each behind its header.
struct Blocks {
    /// One behind the other, all of one length.
    headers: Vec<u8>,
    header_len: usize,
    /// Pieces of the log and the number of the header before each; one that is in two blocks is there twice.
    pieces: Vec<(usize, Bytes)>,
}

impl Blocks {
    fn cut(from: i64, count: usize, block_bytes: usize, log: &[Bytes], mut header: impl FnMut(i64, usize, &mut Vec<u8>)) -> Self {
        let block_bytes = block_bytes.max(1);
        let starts = (0..count).step_by(block_bytes);
        let blocks = starts.len().max(1);
        let mut headers = Vec::new();
        starts.for_each(|start| header(from + start as i64, block_bytes.min(count - start), &mut headers));
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
        Self {
            header_len: headers.len() / blocks,
            headers,
            pieces,
        }
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.pieces.len());
        let mut block = None;
        for (number, piece) in &self.pieces {
            if block != Some(*number) {
                block = Some(*number);
                let header = &self.headers[number * self.header_len..][..self.header_len];
                slices.push(IoSlice::new(header));
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
        let plain = |offset: i64, size: usize, out: &mut Vec<u8>| out.extend_from_slice(&header(offset, size));
        let blocks = Blocks::cut(100, 10, 4, &log, plain);
        let sent: Vec<u8> = blocks.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        let mut expected = Vec::new();
        for (at, block) in [(100, "abcd"), (104, "efgh"), (108, "ij")] {
            expected.extend(header(at, block.len()));
            expected.extend(block.as_bytes());
        }
        assert_eq!(sent, expected);
    }
}
