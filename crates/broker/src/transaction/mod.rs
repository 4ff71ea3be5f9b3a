//! Transactional messages: a message that is delivered if and only if the transaction it belongs to commits.
//!
//! Life of a transaction: a send with `TRAN_MSG=true` is stored as a *half message* in `RMQ_SYS_TRANS_HALF_TOPIC`, where nobody reads it,
//! with its own topic and queue as properties ([`half`]). The producer does its local work and says how that ended (37): commit stores
//! the message in its own topic, and either outcome writes a *removal mark* to `RMQ_SYS_TRANS_OP_HALF_TOPIC`, which names the half
//! message ([`end`]). A producer that says nothing for `transactionTimeOut` is asked (39), every `transactionCheckInterval`: the half
//! message is written again with one check more, and whoever of the group is connected gets it ([`checker`]). After `transactionCheckMax`
//! checks, or when it is about to leave the log, it is put into `TRANS_CHECK_MAX_TIME_TOPIC`; an operator can have it checked again (323).
//!
//! Topics, properties and marks are Apache's, so a directory can change between its broker and this one. Offsets of the group
//! `CID_RMQ_SYS_TRANS` on both topics say below which everything is done.
//!
//! Invariants
//! - A transaction ends once: of several answers one claims it, and which half messages are open survives crashes ([`window`],
//!   [`recovery`]). What ends it is appended in one piece, the removal mark last: a crash can cut the mark off, which
//!   a start finds out, but never the message.
//! - A message is delivered only after a commit. A half message that nobody ends is in the dead topic in the end, not lost.
//! - The saved offsets are never ahead of what is on the device.
//! - With no open transaction the thread sleeps without a timer.
//!
//! An acting master has other brokers take over what is open ([`escape`]).
//!
//! Not here: what a producer does in its transaction, and how a gRPC client is asked ([`crate::clients::FaceClient`]).

mod checker;
mod end;
mod escape;
mod half;
mod mark;
mod recovery;
pub mod remoting;
pub mod table;
mod window;

pub use end::{EndTransaction, Outcome};
pub(crate) use half::{GROWTH_BYTES, half_properties};
pub(crate) use mark::marked;

use crate::clients::{ClientChannel, Producers};
use crate::core::Core;
use crate::dedup::Dedup;
use crate::errors::Refusal;
use crate::feature::Feature;
use crate::log_writer::WaitFor;
use bytes::Bytes;
use half::Half;
use message::{LogOffset, QueueOffset, names};
use parking_lot::{Condvar, Mutex};
use protocol::DataVersion;
use protocol::codes::ResponseCode;
use rustc_hash::FxHashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use store::{ConsumeQueue, Limits, ReadResult, ReadSource, Recovery, StoreError, Ticket};
use window::Window;

/// The group whose offsets say how far transactions are done.
pub(crate) const GROUP: &str = "CID_RMQ_SYS_TRANS";
/// Ends of transactions that wait until a start has read what was open.
const MAX_WAITING: usize = 10_000;

/// Transactions that are open, and the thread that checks them.
pub struct Transactions {
    core: Core,
    producers: Arc<Producers<ClientChannel>>,
    /// Told of messages that are not delivered.
    dedup: Arc<Dedup>,
    /// Half messages below this offset were there when the broker started.
    start_end: i64,
    /// End of the log when the broker started.
    log_end: LogOffset,
    /// Below this offset of the log every commit has its removal mark, as the last process of this broker noted.
    marked_until: Option<LogOffset>,
    state: Mutex<OpenTransactions>,
    /// For the thread: the first transaction is open, or the end.
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct OpenTransactions {
    window: Window,
    /// By topic: open transactions.
    counts: FxHashMap<Box<str>, Count>,
    version: DataVersion,
    /// Changed since it was saved.
    is_dirty: bool,
    /// What was open at the start is known.
    is_recovered: bool,
    /// The checker holds half messages right now.
    is_checking: bool,
    /// Ends of transactions that wait for either.
    waiting: Vec<Box<dyn FnOnce() + Send>>,
    is_stopping: bool,
}

/// Open transactions of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    open: i64,
    /// When that changed, epoch milliseconds.
    changed_ms: i64,
}

/// What reading a half message found.
enum Read {
    Record(Bytes),
    /// It cannot be read without waiting for the disk.
    Cold,
    /// It is not in its queue.
    Missing,
}

impl Transactions {
    /// The transactions of a store, from the saved offsets on. `recovery` is the result of opening the store, `marked_until` what
    /// [`table::TransactionsFile`] has noted.
    #[must_use]
    pub fn new(
        core: &Core,
        producers: Arc<Producers<ClientChannel>>,
        dedup: Arc<Dedup>,
        recovery: Recovery,
        marked_until: Option<LogOffset>,
    ) -> Self {
        let store = &core.store;
        Self {
            core: core.clone(),
            producers,
            dedup,
            start_end: store.max_offset(names::TRANS_HALF_TOPIC, 0).0,
            log_end: recovery.end,
            marked_until,
            state: Mutex::new(OpenTransactions {
                window: Window::new(
                    committed(core, names::TRANS_HALF_TOPIC),
                    committed(core, names::TRANS_OP_HALF_TOPIC),
                ),
                counts: FxHashMap::default(),
                version: DataVersion {
                    timestamp: core.started_ms,
                    ..DataVersion::default()
                },
                is_dirty: false,
                is_recovered: false,
                is_checking: false,
                waiting: Vec::new(),
                is_stopping: false,
            }),
            wake: Condvar::new(),
            thread: Mutex::default(),
        }
    }

    /// Begins at the committed offsets, which a master may have taken over from a slave since [`Self::new`].
    fn begin_at_committed(&self) {
        let (halves, marks) = (
            committed(&self.core, names::TRANS_HALF_TOPIC),
            committed(&self.core, names::TRANS_OP_HALF_TOPIC),
        );
        self.state.lock().window = Window::new(halves, marks);
    }

    /// Whether one more may be opened.
    ///
    /// # Errors
    /// `SystemBusy`: `apogeeMaxOpenTransactions` are open.
    pub(crate) fn check_room(&self, most: usize) -> Result<(), Refusal> {
        let open = self.state.lock().window.open();
        if open < most {
            return Ok(());
        }
        let text = format!("{open} transactions are open, allowed are {most}, see apogeeMaxOpenTransactions; end some first");
        Err(Refusal::new(ResponseCode::SystemBusy, text))
    }

    /// Half messages for a topic were stored.
    pub(crate) fn opened(&self, topic: &str, now_ms: i64) {
        let mut state = self.state.lock();
        state.window.opened();
        state.count(topic, 1, now_ms);
        let is_first = state.window.open() == 1;
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// How many transactions are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state.lock().window.open()
    }

    /// Reads a half message by its offset in their queue.
    fn read(&self, half: i64, source: ReadSource) -> Result<Read, StoreError> {
        let mut read = self.read_from(names::TRANS_HALF_TOPIC, half, 1, source)?;
        Ok(match read.records.pop() {
            Some(record) => Read::Record(record),
            None if read.cold => Read::Cold,
            None => Read::Missing,
        })
    }

    fn read_from(&self, topic: &str, from: i64, messages: usize, source: ReadSource) -> Result<ReadResult, StoreError> {
        const BYTES: usize = 1 << 20;
        let limits = Limits {
            messages,
            bytes: BYTES,
            scan: messages,
        };
        self.core.store.read(topic, 0, QueueOffset(from), limits, &|_| true, source)
    }

    /// Waits until what was appended can be read, or under SYNC_FLUSH and with `flush` is on the device.
    fn finish_append(&self, ticket: Ticket, flush: bool) -> Result<(), Refusal> {
        let (done, written) = std::sync::mpsc::channel();
        let wait = WaitFor {
            flush,
            topics: false,
            slaves: false,
        };
        self.core.log.complete_then(ticket, wait, move |outcome| drop(done.send(outcome)));
        match written.recv() {
            Ok(outcome) => outcome.map_err(|reason| Refusal::system(reason.to_string())),
            Err(_) => Err(Refusal::system("the store was closed before the message was stored")),
        }
    }

    /// The message of a transaction is not delivered: one with its key may be.
    fn forget_key(&self, half: &Half<'_>) {
        let (first, until) = (QueueOffset(half.first), half.record.log_offset);
        self.dedup.forget(&half.topic, half.record.properties, first, until);
    }

    /// The queue of removal marks: the next one has at least the offset that it assigns now.
    fn mark_queue(&self) -> Arc<ConsumeQueue> {
        self.core.log.queue(names::TRANS_OP_HALF_TOPIC, 0)
    }
}

/// Below which offset of a topic everything is done, as far as the committed offset says.
fn committed(core: &Core, topic: &str) -> i64 {
    let committed = core.offsets.committed(topic, GROUP, 0).unwrap_or(0);
    let (min, max) = (core.store.min_offset(topic, 0).0, core.store.max_offset(topic, 0).0);
    committed.clamp(min, max.max(min))
}

impl OpenTransactions {
    /// Counts transactions of a topic that were opened, or below zero ended.
    fn count(&mut self, topic: &str, change: i64, now_ms: i64) {
        self.is_dirty = true;
        if let Some(count) = self.counts.get_mut(topic) {
            count.open += change;
            count.changed_ms = now_ms;
            return;
        }
        let count = Count {
            open: change,
            changed_ms: now_ms,
        };
        self.counts.insert(topic.into(), count);
    }
}

impl Feature for Transactions {
    fn start(self: Arc<Self>) -> io::Result<()> {
        self.begin_at_committed();
        let works = Arc::clone(&self);
        let thread = std::thread::Builder::new()
            .name("transaction".to_owned())
            .spawn(move || checker::run(&works))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn topic_deleted(&self, topic: &str) {
        let mut state = self.state.lock();
        if state.counts.get(topic).is_some_and(|count| count.open <= 0) {
            state.counts.remove(topic);
        }
    }

    fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that checks transactions panicked");
        }
    }
}
