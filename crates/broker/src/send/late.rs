//! Answers to sends that could not be given at once: another thread was writing, or the device has to be waited for.
//!
//! Under SYNC_FLUSH a send that waits longer than `syncFlushTimeout` is answered with FLUSH_DISK_TIMEOUT (10): the message
//! is stored, but perhaps not on the device yet. Whoever comes first answers, the flush or the time-out.

use crate::upkeep::Signal;
use bytes::BytesMut;
use net::{Connection, Owed};
use parking_lot::Mutex;
use protocol::codes::ResponseCode;
use protocol::frame::{Encoding, encode_response_head};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Completion;

/// Sends that wait for the device, oldest first.
#[derive(Default)]
pub struct LateFlushes {
    waiting: Mutex<VecDeque<(Instant, Arc<Pending>)>>,
}

/// What will be answered; taken by whoever answers.
struct Pending {
    conn: Arc<Connection>,
    answers: Mutex<Option<Answers>>,
}

struct Answers {
    stored: BytesMut,
    timed_out: BytesMut,
    askers: Vec<(i32, Encoding)>,
    /// The answer says that a topic is there, so it waits until that is saved.
    when_settled: Option<Arc<Signal>>,
    /// Dropped when the answer is sent.
    _owed: Owed,
}

impl Pending {
    fn answer(&self, outcome: Result<(), &str>) {
        let Some(answers) = self.answers.lock().take() else { return };
        match outcome {
            Ok(()) => match &answers.when_settled {
                Some(changed) => send_settled(changed, &self.conn, answers.stored, answers.askers),
                None => send(&self.conn, &answers.stored),
            },
            Err(reason) => refuse(&self.conn, reason, answers.askers.into_iter()),
        }
    }

    fn time_out(&self) {
        let taken = self.answers.lock().take();
        if let Some(answers) = taken {
            send(&self.conn, &answers.timed_out);
        }
    }
}

fn send(conn: &Connection, frames: &[u8]) {
    conn.send(|out| out.head().extend_from_slice(frames));
}

/// Sends the frames when all topics there are now are saved and told to the name servers.
pub(super) fn send_settled(changed: &Signal, conn: &Arc<Connection>, frames: BytesMut, askers: Vec<(i32, Encoding)>) {
    let (conn, owed) = (conn.clone(), conn.owe(frames.len()));
    changed.when_settled(move |saved| {
        match saved {
            Ok(()) => send(&conn, &frames),
            Err(reason) => refuse(
                &conn,
                &format!("the message is stored, but its topic is new, and {reason}"),
                askers.into_iter(),
            ),
        }
        drop(owed);
    });
}

/// Answers all askers that nothing was stored, as far as is known.
pub(super) fn refuse(conn: &Connection, reason: &str, askers: impl Iterator<Item = (i32, Encoding)>) {
    conn.send(|out| {
        for (opaque, encoding) in askers {
            encode_response_head(
                out.head(),
                encoding,
                opaque,
                ResponseCode::ServiceNotAvailable,
                Some(reason),
                &[],
                0,
            );
        }
    });
}

impl LateFlushes {
    /// The completion that answers `stored`, or what else happened. With `timed_out` the answer is due in time.
    pub(super) fn answer_later(
        &self,
        conn: &Arc<Connection>,
        stored: BytesMut,
        timed_out: Option<BytesMut>,
        askers: Vec<(i32, Encoding)>,
        when_settled: Option<Arc<Signal>>,
    ) -> Completion {
        let due = timed_out.is_some();
        let owed = conn.owe(stored.len());
        let answers = Mutex::new(Some(Answers {
            stored,
            timed_out: timed_out.unwrap_or_default(),
            askers,
            when_settled,
            _owed: owed,
        }));
        let pending = Arc::new(Pending {
            conn: conn.clone(),
            answers,
        });
        if due {
            let mut waiting = self.waiting.lock();
            while waiting.front().is_some_and(|(_, oldest)| oldest.answers.lock().is_none()) {
                waiting.pop_front();
            }
            waiting.push_back((Instant::now(), pending.clone()));
        }
        Box::new(move |outcome| pending.answer(outcome.as_ref().copied().map_err(|reason| &**reason)))
    }

    /// Answers those that have waited for `timeout`. Called every now and then.
    pub fn time_out(&self, timeout: Duration) {
        let due: Vec<_> = {
            let mut waiting = self.waiting.lock();
            let count = waiting.iter().take_while(|(since, _)| since.elapsed() >= timeout).count();
            waiting.drain(..count).collect()
        };
        due.iter().for_each(|(_, pending)| pending.time_out());
    }
}
