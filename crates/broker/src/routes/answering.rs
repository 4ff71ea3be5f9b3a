//! How a request gets its answer: at once, from another thread, or when what it changed is saved.

use super::Routes;
use crate::clock::now_ms;
use crate::errors::Refusal;
use crate::reply::{Outcome, Reply};
use net::Connection;
use net::jobs::Pool;
use protocol::codes::RequestCode;
use protocol::frame::Frame;
use std::sync::Arc;

/// A request with a larger body is not read here but by an `admin` thread: a heartbeat may be as large as a frame.
const LARGE_BODY_BYTES: usize = 64 << 10;
/// What a request keeps in memory while it waits for a thread, beside its fields and its body.
const REQUEST_BYTES: usize = 512;

/// About how large an answer will be, for [`Connection::owe`].
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// A few fields.
    Fields = 512,
    /// Some records, or what a client tells of itself.
    Records = 256 << 10,
    /// A table, or a part of one.
    Table = 1 << 20,
}

/// What became of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "made and matched at once; a box would be an allocation a request"
)]
pub(super) enum Handled {
    /// This is the answer.
    Now(Outcome),
    /// The answer comes by itself.
    Later,
}

impl Handled {
    /// Sends the answer, if it is there.
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

    /// Has a request answered by a thread of a pool, which gets the request without its body.
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

    /// Has a look-up answered by a thread that may wait for the disk.
    pub(super) fn by_reader(
        self: &Arc<Self>,
        frame: &Frame,
        reply: &Reply,
        serve: impl FnOnce(&Arc<Self>, &Frame) -> Outcome + Send + 'static,
    ) -> Handled {
        self.by(&self.core.threads.reader, Expected::Fields, frame, reply, serve)
    }

    /// Has a request answered that walks over tables, by a thread that nobody's messages wait for.
    pub(super) fn by_admin(
        self: &Arc<Self>,
        frame: &Frame,
        reply: &Reply,
        serve: impl FnOnce(&Arc<Self>, &Frame) -> Outcome + Send + 'static,
    ) -> Handled {
        self.by(&self.core.threads.admin, Expected::Table, frame, reply, serve)
    }

    /// Has a request handled by another thread; what handles it has it answered.
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

    /// Gives the answer when what it says is saved and told to the name servers.
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

    /// As [`Self::when_settled`], for an operator's change of offsets, whose table is saved every few seconds otherwise.
    fn when_offsets_are_saved(&self, outcome: Outcome, reply: &Reply) -> Handled {
        if outcome.is_ok() {
            self.core.changed.raise();
        }
        self.when_settled(outcome, reply)
    }

    /// Has a request answered by a thread of a pool, when the offsets that it changed are saved.
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

/// Sends an answer that a client has yet to give.
pub(super) fn owed_answer(reply: &Reply) -> impl FnOnce(Outcome) + Send + 'static {
    let (answer, owed) = (reply.clone(), reply.connection().owe(Expected::Records as usize));
    move |outcome| {
        answer.send(outcome);
        drop(owed);
    }
}

/// A request to keep for a while: it keeps nothing of the buffer it was read into, nor a body that nobody looks at.
pub(super) fn without_body(frame: &Frame) -> Frame {
    Frame {
        remark: None,
        ext: frame.ext.detached(),
        body: bytes::Bytes::new(),
        ..*frame
    }
}

/// Whether serving a request means to read all of its body.
fn reads_body(code: i32) -> bool {
    use RequestCode as Code;
    matches!(
        Code::try_from(code),
        Ok(Code::HeartBeat
            | Code::CheckClientConfig
            | Code::LockBatchMq
            | Code::UnlockBatchMq
            | Code::UpdateAndCreateTopicList
            | Code::UpdateAndCreateSubscriptiongroup
            | Code::UpdateAndCreateSubscriptiongroupList
            | Code::SetMessageRequestMode)
    )
}
