//! The slave's side: connects to the master, appends what it sends, and reports how far the log is.
//!
//! What is reported is as durable as the slave's flush mode promises. Records are appended while earlier ones are still being synced.
//!
//! Under a controller the log is first cut back to where it is the master's ([`crate::align`]).

use crate::align::align;
use crate::assembly::{Assembly, Broken};
use crate::blocks::{BlockReader, Part};
use crate::epochs::Epoch;
use crate::link::is_timeout;
use crate::master::Member;
use crate::rate::Rate;
use crate::wire::state_report;
use bytes::Bytes;
use message::LogOffset;
use parking_lot::{Condvar, Mutex};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::{AppendError, Completion, RawAppendError, Store, StoreError, Ticket};

/// Bytes of one read from the socket.
const READ_BYTES: usize = 256 << 10;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a slave follows its master by.
#[derive(Clone, Debug)]
pub struct SlaveOptions {
    /// Maximum silence of the slave: then it reports again.
    pub heartbeat: Duration,
    /// A master that says nothing for so long is connected to again.
    pub housekeeping: Duration,
    /// Waits between attempts to connect: the first, doubled up to the last.
    pub retry: [Duration; 2],
    /// Under a controller: what this broker is there.
    pub follower: Option<Follower>,
}

/// A broker that copies a master's log under a controller.
#[derive(Clone, Debug)]
pub struct Follower {
    /// What it is for the controller.
    pub member: Member,
    /// It never becomes a member of the in-sync set.
    pub is_learner: bool,
    /// With an empty log it begins at the master's newest file, not at the oldest.
    pub from_last_file: bool,
}

/// How replication stands on a slave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlaveReport {
    /// The master's HA address, `host:port`, if it is known.
    pub master: Option<Arc<str>>,
    /// Whether it is connected.
    pub connected: bool,
    /// When something was last received, epoch ms; 0 if nothing was.
    pub last_read_ms: i64,
    /// When the slave last reported, epoch ms; 0 if it never did.
    pub last_write_ms: i64,
    /// Bytes that were received in the last second.
    pub bytes_per_second: i64,
    /// Under a controller: whether all that this log had at the start is known to be the master's, and confirmed.
    pub aligned: bool,
}

/// Follows a master until it is stopped. Threads: `ha-slave`, and `ha-report` while it is connected.
#[derive(Debug)]
pub struct Slave {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    options: SlaveOptions,
    state: Mutex<State>,
    changed: Condvar,
    is_aligned: AtomicBool,
    rate: Rate,
    last_read_ms: AtomicI64,
    last_write_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    master: Option<Arc<str>>,
    stream: Option<TcpStream>,
    stopping: bool,
}

impl Slave {
    /// Starts to follow the master that [`Slave::set_master`] names. Nothing else may append to the store.
    ///
    /// # Errors
    /// [`io::Error`] if no thread can be started.
    pub fn start(store: Arc<Store>, options: SlaveOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            store,
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
            is_aligned: AtomicBool::new(false),
            rate: Rate::new(Instant::now()),
            last_read_ms: AtomicI64::new(0),
            last_write_ms: AtomicI64::new(0),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("ha-slave".to_owned()).spawn(move || run(&shared))?
        };
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Follows the master at this HA address (`host:port`) from now on. With the same address as before nothing changes.
    pub fn set_master(&self, addr: Option<&str>) {
        let mut state = self.shared.state.lock();
        if state.master.as_deref() == addr {
            return;
        }
        tracing::info!(from = ?state.master, to = ?addr, "the master's address for replication changed");
        state.master = addr.map(Arc::from);
        state.close();
        self.shared.changed.notify_all();
    }

    /// How replication stands.
    #[must_use]
    pub fn report(&self) -> SlaveReport {
        let state = self.shared.state.lock();
        SlaveReport {
            master: state.master.clone(),
            connected: state.stream.is_some(),
            last_read_ms: self.shared.last_read_ms.load(Ordering::Relaxed),
            last_write_ms: self.shared.last_write_ms.load(Ordering::Relaxed),
            bytes_per_second: self.shared.rate.last_second(Instant::now()),
            aligned: self.is_aligned(),
        }
    }

    /// Under a controller: whether all that this log had at the start is known to be the master's, and confirmed, so that readers may see it.
    #[must_use]
    pub fn is_aligned(&self) -> bool {
        self.shared.is_aligned.load(Ordering::Acquire)
    }

    /// Ends the connection and the threads. What was received is appended.
    pub fn stop(&mut self) {
        {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            state.close();
            self.shared.changed.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Why the master is connected to again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("it closed the connection")]
    ByPeer,
    #[error("it said nothing for {0:?} (haHousekeepingInterval)")]
    Silent(Duration),
    #[error(
        "it sends the log from {sent}, but this log ends at {end}: it is not the log of this broker's master, or one was restored; start with an empty directory"
    )]
    Elsewhere { sent: i64, end: LogOffset },
    #[error("it sends a block of {0} bytes")]
    BadBlock(i32),
    #[error("it does not speak the protocol under a controller; enableControllerMode has to be the same on both")]
    NoHandshake,
    #[error("its epochs and those of this log have nothing in common: start with an empty directory")]
    NothingInCommon,
    #[error(
        "this log has {0} bytes of no epoch, written without a controller: start with an empty directory, or let this broker become the first master"
    )]
    WithoutEpoch(i64),
    #[error("the log of the master and this one part at {common}, but this one begins at {first}: start with an empty directory")]
    TooOld { common: i64, first: LogOffset },
    #[error("this log cannot be cut back to {to}: {why}")]
    NotCut { to: i64, why: StoreError },
    #[error("it sends epoch {sent} at {offset}, which is not the next one of this log")]
    OldEpoch { sent: i32, offset: i64 },
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("its records cannot be appended: {0}")]
    Refused(#[from] RawAppendError),
    #[error("the log of the master cannot begin here: {0}")]
    Beginning(StoreError),
    #[error("the log cannot be written: {0}")]
    NotWritten(Arc<str>),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn run(shared: &Arc<Shared>) {
    let [first_wait, last_wait] = shared.options.retry;
    let mut wait = first_wait;
    // Logged once for each reason, not for every attempt.
    let mut last_why = String::new();
    while let Some(master) = shared.wait_for_master() {
        let before = shared.store.written();
        let outcome = connect(&master).and_then(|stream| shared.follow(stream, &master));
        if shared.store.written() > before {
            wait = first_wait;
            last_why.clear();
        }
        if let Err(why) = outcome {
            let why = why.to_string();
            if why != last_why && !shared.state.lock().stopping {
                tracing::warn!(master = &*master, why, "not connected to the master, retrying");
                last_why = why;
            }
        }
        shared.pause(wait, &master);
        wait = (wait * 2).min(last_wait);
    }
}

fn connect(master: &str) -> Result<TcpStream, Ended> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{master} has no address"));
    let addrs: Vec<SocketAddr> = master.to_socket_addrs()?.collect();
    for addr in addrs {
        match TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

impl Shared {
    /// The master's address, as soon as it is known; `None` at the end.
    fn wait_for_master(&self) -> Option<Arc<str>> {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(master) = &state.master {
                return Some(Arc::clone(master));
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits, unless another master is to be followed.
    fn pause(&self, wait: Duration, master: &str) {
        let mut state = self.state.lock();
        if !state.stopping && state.master.as_deref() == Some(master) {
            self.changed.wait_for(&mut state, wait);
        }
    }

    fn follow(self: &Arc<Self>, stream: TcpStream, master: &str) -> Result<(), Ended> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.options.housekeeping))?;
        stream.set_read_timeout(Some(self.options.housekeeping))?;
        {
            let mut state = self.state.lock();
            if state.stopping || state.master.as_deref() != Some(master) {
                return Ok(());
            }
            state.stream = Some(stream.try_clone()?);
        }
        let follower = self.options.follower.as_ref();
        let begun = follower.map(|follower| align(&self.store, follower, &stream, self.options.housekeeping));
        let end = begun.transpose()?.unwrap_or_else(|| self.store.written());
        // The first report says that all of it is as durable as the flush mode promises, also what the last connection has appended.
        self.wait_until_durable(self.store.appended())?;
        let reporter = Arc::new(Reporter::new(end.0, follower.is_some()));
        let reporting = {
            let (shared, reporter, stream) = (Arc::clone(self), Arc::clone(&reporter), stream.try_clone()?);
            thread::Builder::new().name("ha-report".to_owned()).spawn(move || {
                if reporter.run(&shared, &stream).is_err() {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            })?
        };
        tracing::info!(master, from = %end, "connected to the master");
        let outcome = self.receive(&stream, end, &reporter);
        reporter.end();
        self.state.lock().close();
        let _ = stream.shutdown(Shutdown::Both);
        let _ = reporting.join();
        outcome
    }

    fn receive(&self, mut stream: &TcpStream, end: LogOffset, reporter: &Arc<Reporter>) -> Result<(), Ended> {
        let file_bytes = self.store.log_file_bytes();
        let mut assembly = Assembly::new(end, file_bytes);
        let mut blocks = BlockReader::new(self.options.follower.is_some());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) => return Err(Ended::ByPeer),
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if is_timeout(&e) => return Err(Ended::Silent(self.options.housekeeping)),
                Err(e) => return Err(e.into()),
            };
            self.last_read_ms.store(epoch_ms(), Ordering::Relaxed);
            self.rate.add(count, Instant::now());
            let mut rest = &buffer[..count];
            let mut confirmed = None;
            while !rest.is_empty() {
                match blocks.next(&mut rest)? {
                    Some(Part::Header { offset, size, epoch }) => {
                        if let Some((epoch, end)) = epoch {
                            self.learn(epoch, offset)?;
                            confirmed = Some(end);
                        }
                        let is_new = assembly.received().0 == 0 && offset > 0 && size > 0;
                        if is_new {
                            self.store.begin_at(LogOffset(offset)).map_err(Ended::Beginning)?;
                            assembly = Assembly::new(LogOffset(offset), file_bytes);
                        }
                        if offset != assembly.received().0 && assembly.received().0 > 0 {
                            return Err(Ended::Elsewhere {
                                sent: offset,
                                end: assembly.received(),
                            });
                        }
                    }
                    Some(Part::Data(data)) => assembly.push(data),
                    None => {}
                }
            }
            while let Some((at, records)) = assembly.take()? {
                self.append(at, records, reporter)?;
            }
            reporter.received(assembly.received());
            reporter.report(self, stream, false)?;
            if let Some(confirmed) = confirmed {
                self.store.raise_bound(LogOffset(confirmed));
                if confirmed >= end.0 {
                    self.is_aligned.store(true, Ordering::Release);
                }
            }
        }
    }

    /// An epoch that the log does not have begins at or after what is sent next; it is noted before the first record of it.
    fn learn(&self, epoch: Epoch, offset: i64) -> Result<(), Ended> {
        let Some(follower) = &self.options.follower else { return Ok(()) };
        let epochs = &follower.member.epochs;
        let known = epochs.change(|known| known.learn(epoch))?;
        if known {
            return Ok(());
        }
        Err(Ended::OldEpoch {
            sent: epoch.number,
            offset,
        })
    }

    /// Appends whole records; they are reported when they are as durable as the flush mode promises.
    fn append(&self, at: LogOffset, records: Bytes, reporter: &Arc<Reporter>) -> Result<(), Ended> {
        let (mut at, mut records) = (at, records);
        let mut has_waited = false;
        loop {
            match self.store.append_raw(at, &records) {
                Ok(ticket) => return self.complete(ticket, reporter),
                // A queue that begins above 0 or has a gap: what is before has to be published first.
                Err(RawAppendError::OutOfSequence { at: gap, .. }) if gap > at => {
                    let before = records.split_to((gap.0 - at.0) as usize);
                    let ticket = self.store.append_raw(at, &before)?;
                    self.wait(ticket)?;
                    (at, has_waited) = (gap, true);
                }
                Err(RawAppendError::OutOfSequence { .. } | RawAppendError::Refused(AppendError::Busy(_))) if !has_waited => {
                    self.wait(self.store.appended())?;
                    has_waited = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn complete(&self, ticket: Ticket, reporter: &Arc<Reporter>) -> Result<(), Ended> {
        let later = || {
            let reporter = Arc::clone(reporter);
            Box::new(move |outcome| reporter.completed_later(ticket.end(), outcome)) as Completion
        };
        match self.store.complete_here(ticket, true, later) {
            Some(Ok(())) => reporter.completed(ticket.end()),
            Some(Err(why)) => return Err(Ended::NotWritten(why)),
            None => {}
        }
        Ok(())
    }

    /// Waits until an append is as durable as the flush mode promises.
    fn wait_until_durable(&self, ticket: Ticket) -> Result<(), Ended> {
        let (done, outcome) = std::sync::mpsc::channel();
        // The receiver is gone only if this thread is.
        let later = || Box::new(move |written| drop(done.send(written))) as Completion;
        let at_once = self.store.complete_here(ticket, true, later);
        let written = at_once.unwrap_or_else(|| outcome.recv().unwrap_or_else(|_| Err("the append was dropped".into())));
        written.map_err(Ended::NotWritten)
    }

    /// Waits until an append is published. The master tells later what is confirmed, so under a controller this does not wait for it: readers
    /// may see records early that a master may still lose, while a log catches up that has gaps.
    fn wait(&self, ticket: Ticket) -> Result<(), Ended> {
        self.store.raise_bound(ticket.end());
        let (done, outcome) = std::sync::mpsc::channel();
        // The receiver is gone only if this thread is.
        self.store.complete_then(ticket, true, move |written| drop(done.send(written)));
        let written = outcome.recv().unwrap_or_else(|_| Err("the append was dropped".into()));
        written.map_err(Ended::NotWritten)
    }
}

/// Reports how far the log is. What is complete at once is reported by the thread that receives, other things by `ha-report`.
#[derive(Debug)]
struct Reporter {
    state: Mutex<ToReport>,
    changed: Condvar,
    /// Held while a report is written, so that none is cut by another one.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct ToReport {
    /// Up to where the log is as durable as the flush mode promises.
    complete: i64,
    /// Up to where the master has sent it; less than `complete` while the rest of a file's filler is missing.
    received: i64,
    reported: Option<i64>,
    ended: bool,
    /// Whether reports have a state, as under a controller.
    has_state: bool,
}

impl ToReport {
    fn end(&self) -> i64 {
        self.complete.min(self.received)
    }

    fn is_news(&self) -> bool {
        self.reported != Some(self.end())
    }
}

impl Reporter {
    fn new(end: i64, has_state: bool) -> Self {
        let state = ToReport {
            has_state,
            complete: end,
            received: end,
            reported: None,
            ended: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            writing: Mutex::new(()),
        }
    }

    fn completed(&self, end: LogOffset) {
        let mut state = self.state.lock();
        state.complete = end.0.max(state.complete);
    }

    /// As [`Self::completed`], from another thread than the one that receives. After an error the connection ends.
    fn completed_later(&self, end: LogOffset, outcome: Result<(), Arc<str>>) {
        match outcome {
            Ok(()) => self.completed(end),
            Err(_) => self.state.lock().ended = true,
        }
        self.changed.notify_all();
    }

    fn received(&self, end: LogOffset) {
        self.state.lock().received = end.0;
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Reports, if there is something new to report, or in any case. Error if that fails, or the log can no longer be written.
    fn report(&self, shared: &Shared, mut stream: &TcpStream, in_any_case: bool) -> io::Result<()> {
        let _writing = self.writing.lock();
        let (end, has_state) = {
            let mut state = self.state.lock();
            if state.ended {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if !in_any_case && !state.is_news() {
                return Ok(());
            }
            let end = state.end();
            state.reported = Some(end);
            (end, state.has_state)
        };
        match has_state {
            true => stream.write_all(&state_report(end))?,
            false => stream.write_all(&end.to_be_bytes())?,
        }
        shared.last_write_ms.store(epoch_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// Reports what is new, and after every heartbeat interval, until the connection ends.
    fn run(&self, shared: &Shared, stream: &TcpStream) -> io::Result<()> {
        loop {
            let is_quiet = {
                let mut state = self.state.lock();
                let is_quiet = |state: &mut ToReport| !state.ended && !state.is_news();
                self.changed
                    .wait_while_for(&mut state, is_quiet, shared.options.heartbeat)
                    .timed_out()
            };
            self.report(shared, stream, is_quiet)?;
        }
    }
}

fn epoch_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
