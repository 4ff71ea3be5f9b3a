//! Requests of the remoting protocol: 200070, 200071, and 200051 and 200053 with a lite topic.

use super::{LiteAck, LiteChange, LitePop, LitePopResult, Lites};
use crate::asker::{Asker, RemotingResult};
use crate::clients::ClientChannel;
use crate::errors::Refusal;
use crate::pop::remoting::{answer_of, remark_of};
use crate::reply::{Answer, Outcome, Reply};
use net::Connection;
use protocol::codes::ResponseCode;
use protocol::ext::Value;
use protocol::frame::Frame;
use protocol::json;
use protocol::lite::{LiteSubscriptionBody, PopLiteHeader};
use protocol::pop::{AckHeader, ChangeInvisibleHeader, ORDER_REVIVE_QUEUE};
use std::sync::Arc;

/// Whether an acknowledgement, or a change of the invisible time, is of a message of a lite topic.
#[must_use]
pub fn is_of_lite_topic(frame: &Frame) -> bool {
    frame.ext.text("liteTopic").is_some_and(|name| !name.trim().is_empty())
}

/// Code 200070.
pub fn pop(lites: &Arc<Lites>, conn: &Arc<Connection>, frame: &Frame, now_ms: i64) {
    let reply = Reply::to(conn, frame);
    match PopLiteHeader::decode(&frame.ext) {
        Ok(header) => {
            let request = LitePop {
                client: header.client_id,
                group: header.consumer_group,
                topic: header.topic,
                most: header.max_msg_num,
                invisible_ms: header.invisible_time,
                poll_ms: header.poll_time,
                born_ms: header.born_time,
                attempt: header.attempt_id,
                hold_ms: header.hold_time,
            };
            lites.pop(Asker::Remoting(reply), &request, now_ms);
        }
        Err(error) => reply.send(Err(error.into())),
    }
}

impl RemotingResult for LitePopResult {
    fn send(self, reply: &Reply) {
        let counts = self.order_counts();
        let mut fields: smallvec::SmallVec<[(&str, Value<'_>); 5]> = smallvec::smallvec![
            ("popTime", Value::Int(self.pop_time)),
            ("invisibleTime", Value::Int(self.invisible_ms)),
            ("reviveQid", Value::Int(ORDER_REVIVE_QUEUE.into())),
            ("orderCountInfo", Value::Text(&counts)),
        ];
        if self.is_held {
            fields.push(("apogeeHeld", Value::Text("true")));
        }
        reply.send_records(self.code, remark_of(self.code), &fields, self.records, self.bytes);
    }
}

/// Code 200051 with a lite topic.
///
/// # Errors
/// As [`Lites::ack`].
pub fn ack(lites: &Arc<Lites>, frame: &Frame) -> Outcome {
    let header = AckHeader::decode(&frame.ext)?;
    lites.ack(&LiteAck {
        group: header.consumer_group,
        topic: header.topic,
        lite_topic: header.lite_topic.unwrap_or_default(),
        queue_id: header.queue_id,
        offset: header.offset,
        handle: header.extra_info,
        is_in_flight: header.in_flight.unwrap_or(false),
    })?;
    Ok(Answer::ok())
}

/// Code 200053 with a lite topic.
///
/// # Errors
/// As [`Lites::change_invisible`].
pub fn change_invisible(lites: &Arc<Lites>, frame: &Frame) -> Outcome {
    let header = ChangeInvisibleHeader::decode(&frame.ext)?;
    let renewed = lites.change_invisible(&LiteChange {
        of: LiteAck {
            group: header.consumer_group,
            topic: header.topic,
            lite_topic: header.lite_topic.unwrap_or_default(),
            queue_id: header.queue_id,
            offset: header.offset,
            handle: header.extra_info,
            is_in_flight: true,
        },
        invisible_ms: header.invisible_time,
        suspend: header.suspend,
    })?;
    Ok(answer_of(renewed))
}

/// Code 200071.
///
/// # Errors
/// The first change that is refused; those before it are made.
pub fn subscribe(lites: &Arc<Lites>, frame: &Frame, channel: &ClientChannel) -> Outcome {
    let body = if frame.body.is_empty() {
        LiteSubscriptionBody::default()
    } else {
        json::read::<LiteSubscriptionBody>(&frame.body)?
    };
    if body.subscription_set.is_empty() {
        return Err(Refusal::new(
            ResponseCode::IllegalOperation,
            "the request has no change of lite subscriptions",
        ));
    }
    for change in &body.subscription_set {
        lites.subscribe(change, channel)?;
    }
    Ok(Answer::ok())
}
