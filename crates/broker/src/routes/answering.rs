//! When a request is answered: at once, by another thread, or when its change is saved.

use super::Routes;
use crate::clock::now_ms;
use crate::errors::Refusal;
use crate::reply::{Outcome, Reply};
use net::Connection;
use net::jobs::Pool;
use protocol::codes::RequestCode;
use protocol::frame::Frame;
use std::sync::Arc;

/// A request with a larger body is parsed by an `admin` thread: a heartbeat may be as large as a frame.
const LARGE_BODY_BYTES: usize = 64 << 10;
/// Memory of a request that waits for a thread, beside its fields and body.
const REQUEST_BYTES: usize = 512;

/// Estimated size of an answer in bytes, for [`Connection::owe`].
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// A few fields.
    Fields = 512,
    /// Some records, or the answer of a client.
    Records = 256 << 10,
    /// A table, or a part of one.
    Table = 1 << 20,
}

/// The result of serving a request.
#[expect(
    clippy::large_enum_variant,
    reason = "made and matched at once; a box would be an allocation a request"
)]
pub(super) enum Handled {
    /// Answered now.
    Now(Outcome),
    /// The answer is sent later, by whoever has it.
    Later,
}

impl Handled {
    /// Sends the answer if there is one now.
    pub(super) fn send(self, reply: &Reply) {
        if let Self::Now(outcome) = self {
            reply.send(outcome);
        }
    }
}

impl Routes {
    pub(super) fn serve_one(self: &Arc<Self>, conn: &Arc<Connection>, frame: &Frame, now: i64) {
        let reply = Reply::to(conn, frame);
        let handled = if frame.body.len() > LARGE_BODY_BYTES && reads_body(frame.code) {
            let (admin, expected) = (&self.core.threads.admin, Expected::Fields);
            self.later(admin, expected, frame.clone(), &reply, |routes, frame, answer| {
                routes.route(answer.connection(), frame, &answer, now_ms()).send(&answer);
            })
        } else {
            self.route(conn, frame, &reply, now)
        };
        handled.send(&reply);
    }

    /// Serves a request on a thread of this pool, without its body.
    pub(super) fn by(
        self: &Arc<Self>,
        pool: &Pool,
        expected: Expected,
        frame: &Frame,
        reply: &Reply,
        serve: impl FnOnce(&Arc<Self>, &Frame) -> Outcome + Send + 'static,
    ) -> Handled {
        self.later(pool, expected, without_body(frame), reply, |routes, frame, answer| {
            answer.send(serve(routes, frame));
        })
    }

    /// Serves a look-up on a thread that may wait for the disk.
    pub(super) fn by_reader(
        self: &Arc<Self>,
        frame: &Frame,
        reply: &Reply,
        serve: impl FnOnce(&Arc<Self>, &Frame) -> Outcome + Send + 'static,
    ) -> Handled {
        self.by(&self.core.threads.reader, Expected::Fields, frame, reply, serve)
    }

    /// Serves a request that walks over tables, on a thread that no message waits for.
    pub(super) fn by_admin(
        self: &Arc<Self>,
        frame: &Frame,
        reply: &Reply,
        serve: impl FnOnce(&Arc<Self>, &Frame) -> Outcome + Send + 'static,
    ) -> Handled {
        self.by(&self.core.threads.admin, Expected::Table, frame, reply, serve)
    }

    /// Serves a request on another thread; `handle` sends the answer.
    pub(super) fn later(
        self: &Arc<Self>,
        pool: &Pool,
        expected: Expected,
        frame: Frame,
        reply: &Reply,
        handle: impl FnOnce(&Arc<Self>, &Frame, Reply) + Send + 'static,
    ) -> Handled {
        let (routes, answer) = (self.clone(), reply.clone());
        let owed = reply.connection().owe(expected as usize);
        let bytes = REQUEST_BYTES + frame.ext.memory() + frame.body.len();
        let job = move || {
            let unanswered = answer.clone().unless_answered();
            handle(&routes, &frame, answer);
            unanswered.was_answered();
            drop(owed);
        };
        match pool.run(reply.connection(), bytes, job) {
            Ok(()) => Handled::Later,
            Err(busy) => Handled::Now(Err(busy.into())),
        }
    }

    /// Answers when the change is saved and registered with the name servers.
    pub(super) fn when_settled(&self, outcome: Outcome, reply: &Reply) -> Handled {
        if outcome.is_err() {
            return Handled::Now(outcome);
        }
        let (reply, owed) = (reply.clone(), reply.connection().owe(Expected::Fields as usize));
        self.core.changed.when_settled(move |saved| {
            reply.send(saved.map_err(|reason| Refusal::system(&*reason)).and(outcome));
            drop(owed);
        });
        Handled::Later
    }

    /// As [`Self::when_settled`], for offsets changed by an operator: their table would be saved only every few seconds.
    fn when_offsets_are_saved(&self, outcome: Outcome, reply: &Reply) -> Handled {
        if outcome.is_ok() {
            self.core.changed.raise();
        }
        self.when_settled(outcome, reply)
    }

    /// Serves a request on a thread of this pool, and answers when the offsets that it changed are saved.
    pub(super) fn by_until_saved(
        self: &Arc<Self>,
        pool: &Pool,
        frame: &Frame,
        reply: &Reply,
        serve: impl FnOnce(&Arc<Self>, &Frame) -> Outcome + Send + 'static,
    ) -> Handled {
        self.later(pool, Expected::Fields, without_body(frame), reply, |routes, frame, answer| {
            routes.when_offsets_are_saved(serve(routes, frame), &answer).send(&answer);
        })
    }
}

/// Sends the answer that another client will give.
pub(super) fn owed_answer(reply: &Reply) -> impl FnOnce(Outcome) + Send + 'static {
    let (answer, owed) = (reply.clone(), reply.connection().owe(Expected::Records as usize));
    move |outcome| {
        answer.send(outcome);
        drop(owed);
    }
}

/// A copy of a request without its body that does not keep the read buffer in memory.
pub(super) fn without_body(frame: &Frame) -> Frame {
    Frame {
        remark: None,
        ext: frame.ext.detached(),
        body: bytes::Bytes::new(),
        ..*frame
    }
}

/// Whether the whole body of this request is parsed.
fn reads_body(code: i32) -> bool {
    use RequestCode as Code;
    matches!(
        Code::try_from(code),
        Ok(Code::HeartBeat
            | Code::CheckClientConfig
            | Code::LockBatchMq
            | Code::BatchAckMessage
            | Code::UnlockBatchMq
            | Code::UpdateAndCreateTopicList
            | Code::UpdateAndCreateSubscriptiongroup
            | Code::UpdateAndCreateSubscriptiongroupList
            | Code::SetMessageRequestMode)
    )
}
