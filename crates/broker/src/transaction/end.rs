//! How a transaction ends: its producer says so.

use super::half::{Half, malformed};
use super::mark::Mark;
use super::window::NotOpen;
use super::{MAX_WAITING, Read, Transactions};
use crate::destination::Destination;
use crate::errors::Refusal;
use crate::log_writer::{Incomplete, WaitFor};
use crate::schedule;
use crate::timer::when;
use message::record::Draft;
use protocol::codes::ResponseCode;
use std::net::SocketAddr;
use std::sync::Arc;
use store::{ConsumeQueue, ReadSource, Ticket};

/// What a producer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is delivered.
    Commit,
    /// It is not.
    Rollback,
}

/// A transaction ends.
#[derive(Clone, Copy, Debug)]
pub struct EndTransaction<'a> {
    /// The half message's offset in their queue.
    pub half: i64,
    /// The half message's log offset.
    pub log_offset: i64,
    /// The group that sent it.
    pub producer_group: &'a str,
    /// How.
    pub outcome: Outcome,
    /// Whether this answers a check.
    pub is_answer: bool,
    /// The address written into the removal mark.
    pub store_host: SocketAddr,
    /// Epoch milliseconds.
    pub now_ms: i64,
}

impl EndTransaction<'_> {
    /// To keep for a while: the producer group apart from the rest.
    fn detached(self) -> (EndTransaction<'static>, String) {
        let group = self.producer_group.to_owned();
        let rest = EndTransaction {
            producer_group: "",
            ..self
        };
        (rest, group)
    }
}

/// Why it did not end.
enum Failed {
    /// The half message is not in memory.
    Cold,
    /// The checker writes the half message again right now.
    Checked,
    Refused(Refusal),
}

impl<E: Into<Refusal>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl Transactions {
    /// Ends a transaction. `done` is called once, here or from another thread, and must not block. It is done when what ends it is as durable
    /// as a send would be (Compat: Apache does not wait for the device here).
    pub fn end(self: &Arc<Self>, request: EndTransaction<'_>, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        if request.half < self.start_end && !self.is_recovered() {
            return self.wait(request, done);
        }
        match self.try_end(&request, ReadSource::PageCache) {
            Ok(ticket) => self.complete(ticket, done),
            Err(Failed::Refused(refusal)) => done(Err(refusal)),
            Err(Failed::Cold) => self.end_by_reader(request, done),
            Err(Failed::Checked) => self.wait(request, done),
        }
    }

    fn complete(&self, ticket: Ticket, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        let wait = WaitFor {
            flush: true,
            topics: false,
            slaves: true,
        };
        self.core.log.complete_then(ticket, wait, |outcome| match outcome {
            // Compat: as in Apache's broker the transaction has ended then.
            Ok(()) | Err(Incomplete::NotCopied(_)) => done(Ok(())),
            Err(reason) => done(Err(Refusal::system(reason.to_string()))),
        });
    }

    /// Whether it is known what was open at the start.
    pub(crate) fn is_recovered(&self) -> bool {
        self.state.lock().is_recovered
    }

    /// Ends it when it is known which transactions were open at the start, and the checker holds no half message.
    fn wait(self: &Arc<Self>, request: EndTransaction<'_>, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        let mut state = self.state.lock();
        if state.is_recovered && !state.is_checking {
            drop(state);
            return self.end(request, done);
        }
        if state.waiting.len() >= MAX_WAITING {
            drop(state);
            let text = "too many ends of transactions wait until it is known which are open; the producer will be asked";
            return done(Err(Refusal::new(ResponseCode::SystemBusy, text)));
        }
        let (this, (request, group)) = (Arc::clone(self), request.detached());
        state.waiting.push(Box::new(move || this.end_slowly(request, &group, done)));
    }

    fn end_by_reader(self: &Arc<Self>, request: EndTransaction<'_>, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        let (this, (request, group)) = (Arc::clone(self), request.detached());
        let job = move |done| this.end_slowly(request, &group, done);
        self.core
            .threads
            .reader
            .run_own_with(done, job, |done, busy| done(Err(busy.into())));
    }

    /// May wait for the disk.
    fn end_slowly(self: &Arc<Self>, request: EndTransaction<'_>, group: &str, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        let request = EndTransaction {
            producer_group: group,
            ..request
        };
        match self.try_end(&request, ReadSource::Disk) {
            Ok(ticket) => self.complete(ticket, done),
            Err(Failed::Refused(refusal)) => done(Err(refusal)),
            Err(Failed::Cold) => done(Err(Refusal::system("the half message cannot be read now"))),
            Err(Failed::Checked) => self.wait(request, done),
        }
    }

    fn try_end(&self, request: &EndTransaction<'_>, source: ReadSource) -> Result<Ticket, Failed> {
        let bytes = match self.read(request.half, source)? {
            Read::Record(bytes) => bytes,
            Read::Cold => return Err(Failed::Cold),
            Read::Missing => return Err(Refusal::system("Find prepared transaction message failed").into()),
        };
        let half = Half::parse(&bytes).map_err(|why| malformed(request.half, &why))?;
        self.check(request, &half)?;
        let mark_queue = self.mark_queue();
        let claimed = {
            let mut state = self.state.lock();
            let claimed = state.window.claim(request.half, half.first, mark_queue.assigned().0);
            if claimed == Err(NotOpen::Busy) && state.is_checking {
                return Err(Failed::Checked);
            }
            claimed
        };
        let current = claimed.map_err(|error| not_open(error, request.half))?;
        let appended = self.append(request, &half, current, mark_queue);
        let mut state = self.state.lock();
        match appended {
            Ok(Ended { ticket, mark }) => {
                state.window.marked(mark, current);
                state.window.finish(current, half.first);
                state.count(&half.topic, -1, request.now_ms);
                drop(state);
                if request.outcome == Outcome::Rollback {
                    self.forget_key(&half);
                }
                Ok(ticket)
            }
            Err(refusal) => {
                state.window.release(current);
                Err(refusal.into())
            }
        }
    }

    /// Compat: Apache's checks in its order, with its words.
    fn check(&self, request: &EndTransaction<'_>, half: &Half<'_>) -> Result<(), Refusal> {
        let timeout_ms = self.core.settings.current().transaction_timeout.as_millis() as i64;
        if !request.is_answer && half.is_too_late(timeout_ms, request.now_ms) {
            let text = "the transaction ends later than CHECK_IMMUNITY_TIME_IN_SECONDS of its message allows; its producer will be asked";
            return Err(Refusal::new(ResponseCode::IllegalOperation, text));
        }
        if *half.producer_group != *request.producer_group {
            return Err(Refusal::system("The producer group wrong"));
        }
        if half.record.queue_offset.0 != request.half {
            return Err(Refusal::system("The transaction state table offset wrong"));
        }
        if half.record.log_offset.0 != request.log_offset {
            return Err(Refusal::system("The commit log offset wrong"));
        }
        Ok(())
    }

    fn append(&self, request: &EndTransaction<'_>, half: &Half<'_>, current: i64, mark_queue: Arc<ConsumeQueue>) -> Result<Ended, Refusal> {
        let mark = Mark::of(std::iter::once(current));
        let mark = mark.draft(request.store_host, request.now_ms);
        let log = &self.core.log;
        let mut placements = Vec::with_capacity(2);
        let ended = |ticket, mark: &message::record::Placement| Ended {
            ticket,
            mark: mark.queue_offset.0,
        };
        if request.outcome == Outcome::Rollback {
            let ticket = log.append(&[mark], &[mark_queue], request.now_ms, &mut placements)?;
            return Ok(ended(ticket, &placements[0]));
        }
        let settings = self.core.settings.current();
        let Some(topic) = self.core.topics.find(&half.topic) else {
            let text = format!("topic[{}] of the transaction does not exist any more", half.topic);
            return Err(Refusal::new(ResponseCode::TopicNotExist, text));
        };
        let level = schedule::level_of(half.delay)?;
        let destination = Destination::at(level, &half.timer, &settings, request.now_ms)?;
        let (stored_in, queue_id) = destination.place(&half.topic, half.queue_id);
        let own = half.committed_properties();
        let properties = match destination {
            Destination::Schedule { level, due_ms } => schedule::waiting_properties(&own, level, due_ms, &half.topic, half.queue_id),
            Destination::Timer { value_ms } => when::waiting_properties(&own, value_ms, &half.topic, half.queue_id),
            _ => own,
        };
        let committed = Draft {
            topic: stored_in,
            queue_id,
            properties: &properties,
            ..half.committed(request.log_offset)
        };
        let queue = log.queue(stored_in, queue_id);
        if destination.is_deleted(&topic) {
            let text = format!("topic[{}] of the transaction is being deleted", half.topic);
            return Err(Refusal::new(ResponseCode::TopicNotExist, text));
        }
        let bytes = committed.encoded_len() as i64;
        let ticket = log.append(&[committed, mark], &[queue, mark_queue], request.now_ms, &mut placements)?;
        match destination {
            Destination::Schedule { .. } => self.core.stats.waits(queue_id, bytes),
            Destination::Timer { .. } => {}
            _ => topic.counters.stored(1, bytes, 1),
        }
        Ok(ended(ticket, &placements[1]))
    }
}

/// What ended a transaction was appended.
struct Ended {
    ticket: Ticket,
    /// Queue offset of its removal mark.
    mark: i64,
}

fn not_open(error: NotOpen, half: i64) -> Refusal {
    match error {
        NotOpen::Ended => Refusal::new(
            ResponseCode::IllegalOperation,
            format!("the transaction of half message {half} has ended already"),
        ),
        NotOpen::Busy => Refusal::new(
            ResponseCode::SystemBusy,
            format!("the transaction of half message {half} is being ended right now"),
        ),
    }
}
