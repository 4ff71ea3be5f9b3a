//! Requests of the remoting protocol: 200050 to 200055 and 200151.

use super::Pops;
use super::ack::{AckRequest, ChangeInvisible, Renewed};
use super::check::Reads;
use super::notify::Notified;
use super::result::PopResult;
use crate::asker::{Asker, RemotingResult};
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome, Reply};
use net::Connection;
use protocol::codes::ResponseCode;
use protocol::ext::Value;
use protocol::frame::Frame;
use protocol::json;
use protocol::pop::{
    AckHeader, BatchAckBody, ChangeInvisibleHeader, ChangeInvisibleReply, NotificationHeader, NotificationReply, PeekHeader,
    PollingInfoHeader, PopHeader,
};
use std::sync::Arc;

/// Code 200050.
pub fn pop(pops: &Arc<Pops>, conn: &Arc<Connection>, frame: &Frame, now_ms: i64) {
    let reply = Reply::to(conn, frame);
    match PopHeader::decode(&frame.ext) {
        Ok(header) => pops.pop(Asker::Remoting(reply), &header, now_ms),
        Err(error) => reply.send(Err(error.into())),
    }
}

/// The answer of a pop or peek.
impl RemotingResult for PopResult {
    fn send(self, reply: &Reply) {
        let mut fields: smallvec::SmallVec<[(&str, Value<'_>); 8]> = smallvec::smallvec![
            ("popTime", Value::Int(self.pop_time)),
            ("invisibleTime", Value::Int(self.invisible_ms)),
            ("reviveQid", Value::Int(self.revive_queue.into())),
            ("restNum", Value::Int(self.rest)),
            ("startOffsetInfo", Value::Text(&self.start_offsets)),
            ("msgOffsetInfo", Value::Text(&self.message_offsets)),
        ];
        if let Some(counts) = &self.order_counts {
            fields.push(("orderCountInfo", Value::Text(counts)));
        }
        if self.is_held {
            fields.push(("apogeeHeld", Value::Text("true")));
        }
        reply.send_records(self.code, remark_of(self.code), &fields, self.records, self.bytes);
    }
}

/// What the answer of a pop with this code says.
pub(crate) fn remark_of(code: ResponseCode) -> &'static str {
    if code == ResponseCode::Success {
        "FOUND"
    } else {
        "NO_MESSAGE_IN_QUEUE"
    }
}

/// Tells a message's new handle.
pub(crate) fn answer_of(renewed: Renewed) -> Answer {
    let mut answer = Answer::ok();
    ChangeInvisibleReply {
        pop_time: renewed.pop_time,
        invisible_time: renewed.invisible_ms,
        revive_queue: renewed.revive_queue,
    }
    .encode(&mut answer.fields);
    answer
}

/// Code 200051.
///
/// # Errors
/// As [`Pops::ack`].
pub fn ack(pops: &Arc<Pops>, frame: &Frame) -> Outcome {
    let header = AckHeader::decode(&frame.ext)?;
    pops.ack(&AckRequest {
        group: header.consumer_group,
        topic: header.topic,
        queue_id: header.queue_id,
        offset: header.offset,
        handle: header.extra_info,
        is_in_flight: header.in_flight.unwrap_or(false),
    })?;
    Ok(Answer::ok())
}

/// Code 200151.
///
/// # Errors
/// As [`Pops::ack_batch`].
pub fn ack_batch(pops: &Arc<Pops>, frame: &Frame) -> Outcome {
    if frame.body.is_empty() {
        return Err(Refusal::new(ResponseCode::NoMessage, "there is nothing to acknowledge"));
    }
    pops.ack_batch(&json::read::<BatchAckBody>(&frame.body)?)?;
    Ok(Answer::ok())
}

/// Code 200053.
///
/// # Errors
/// As [`Pops::change_invisible`].
pub fn change_invisible(pops: &Arc<Pops>, frame: &Frame) -> Outcome {
    let header = ChangeInvisibleHeader::decode(&frame.ext)?;
    let renewed = pops.change_invisible(&ChangeInvisible {
        of: AckRequest {
            group: header.consumer_group,
            topic: header.topic,
            queue_id: header.queue_id,
            offset: header.offset,
            handle: header.extra_info,
            is_in_flight: header.in_flight.unwrap_or(false),
        },
        invisible_ms: header.invisible_time,
        suspend: header.suspend,
    })?;
    Ok(answer_of(renewed))
}

/// Code 200052. May wait for the disk.
pub fn peek(pops: &Pops, frame: &Frame, reply: &Reply, now_ms: i64) {
    let peek = || {
        let header = PeekHeader::decode(&frame.ext)?;
        pops.peek(&header, reply.connection().peer(), now_ms)
    };
    match peek() {
        Ok(result) => result.send(reply),
        Err(refusal) => reply.send(Err(refusal)),
    }
}

impl RemotingResult for Notified {
    fn send(self, reply: &Reply) {
        let mut answer = Answer::ok();
        NotificationReply {
            has_msg: self.has_messages,
            polling_full: self.is_full,
        }
        .encode(&mut answer.fields);
        reply.send(Ok(answer));
    }
}

/// Code 200054.
pub fn notification(pops: &Arc<Pops>, conn: &Arc<Connection>, frame: &Frame, now_ms: i64) {
    let reply = Reply::to(conn, frame);
    match NotificationHeader::decode(&frame.ext) {
        Ok(header) => pops.notification(Asker::Remoting(reply), &header, now_ms),
        Err(error) => reply.send(Err(error.into())),
    }
}

/// Code 200055.
///
/// # Errors
/// As a pop.
pub fn polling_info(pops: &Pops, conn: &Connection, frame: &Frame, now_ms: i64) -> Outcome {
    let header = PollingInfoHeader::decode(&frame.ext)?;
    let settings = pops.core.settings.current();
    let reads = Reads {
        topic: header.topic,
        group: header.consumer_group,
        queue_id: header.queue_id,
    };
    pops.allowed(&settings, reads, conn.peer(), now_ms)?;
    let parked = i32::try_from(pops.polling(&header)).unwrap_or(i32::MAX);
    Ok(Answer::ok().with("pollingNum", parked))
}
