//! Pulls from logical queues of static topics: from this broker, or by way of the one that has the messages.

use super::{Pulled, Puller};
use crate::asker::Asker;
use crate::errors::Refusal;
use crate::logical_queue::Mapping;
use crate::static_topic::forward::Forwarder;
use crate::static_topic::offsets::refused;
use crate::static_topic::pull::{LogicalPull, source};
use bytes::{Buf, Bytes};
use message::QueueOffset;
use protocol::codes::ResponseCode;
use protocol::pull::{PullHeader, PullReply, sys_flag};
use protocol::{Frame, RequestCode};
use std::sync::Arc;
use std::time::Duration;

/// How long a client waits for the answer that another broker has no more messages, before it is known where the queue continues.
const MOVING_WAIT: Duration = Duration::from_millis(200);
/// Bytes owed to a connection while another broker is asked.
const EXPECTED_BYTES: usize = 256 << 10;

impl Puller {
    pub(super) fn pull_logical(self: &Arc<Self>, asker: Asker<Pulled>, header: &PullHeader<'_>, mapping: &Arc<Mapping>, now_ms: i64) {
        let source = match source(mapping, header) {
            Ok(source) => source,
            Err(not_leader) => return asker.refuse(not_leader.into()),
        };
        let Some(broker) = source.broker else {
            return self.pull_physical(asker, &source.header, Some(Box::new(source.pull)), now_ms);
        };
        let begun = match self.forwarder.begin() {
            Ok(begun) => begun,
            Err(refusal) => return asker.refuse(refusal),
        };
        let mut request = Frame::request(RequestCode::PullMessage);
        let requested = source.header.queue_offset;
        PullHeader {
            // Added with the broker's name.
            is_logical: None,
            ..source.header
        }
        .encode(&mut request.ext);
        let may_wait = header.has(sys_flag::SUSPEND) && source.pull.may_wait();
        let owed = asker.reply().map(|reply| reply.connection().owe(EXPECTED_BYTES));
        let (forwarder, topic, pull) = (Arc::clone(&self.forwarder), header.topic.to_owned(), source.pull);
        begun.run(async move {
            match ask(&forwarder, &topic, &broker, request, requested, &pull).await {
                Ok(pulled) => {
                    if may_wait && pulled.code == ResponseCode::PullNotFound {
                        tokio::time::sleep(MOVING_WAIT).await;
                    }
                    asker.answer(pulled);
                }
                Err(refusal) => asker.refuse(refusal),
            }
            drop(owed);
        });
    }

    /// Has the clients of parked pulls of a topic repeat them, because its queues were moved.
    pub fn mapping_changed(self: &Arc<Self>, topic: &str) {
        if self.hold.is_empty() {
            return;
        }
        let pulls = self.hold.take_if(|pull| pull.logical.is_some() && *pull.topic.name == *topic);
        net::together(|| pulls.into_iter().for_each(|pull| self.resume(pull)));
    }
}

/// Pulls from another broker.
async fn ask(
    forwarder: &Forwarder,
    topic: &str,
    broker: &str,
    request: Frame,
    requested: i64,
    pull: &LogicalPull,
) -> Result<Pulled, Refusal> {
    let answer = forwarder.ask(topic, broker, request).await?;
    let mut pulled = pulled(answer)?;
    pull.translate(Some(requested), &mut pulled);
    Ok(pulled)
}

/// The result in the answer of another broker.
fn pulled(answer: Frame) -> Result<Pulled, Refusal> {
    let (code, status) = match ResponseCode::try_from(answer.code) {
        Ok(code @ ResponseCode::Success) => (code, "FOUND"),
        Ok(code @ ResponseCode::PullNotFound) => (code, "OFFSET_OVERFLOW_ONE"),
        Ok(code @ ResponseCode::PullRetryImmediately) => (code, "NO_MATCHED_MESSAGE"),
        Ok(code @ ResponseCode::PullOffsetMoved) => (code, "OFFSET_OVERFLOW_BADLY"),
        _ => return Err(refused(&answer)),
    };
    let header = PullReply::decode(&answer.ext)?;
    Ok(Pulled {
        code,
        status,
        next: QueueOffset(header.next_begin_offset),
        min: QueueOffset(header.min_offset),
        max: QueueOffset(header.max_offset),
        offset_delta: None,
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        group_sys_flag: header.group_sys_flag.unwrap_or(0),
        pull_from: 0,
        bytes: answer.body.len(),
        records: records(answer.body)?,
    })
}

/// The records of an answer's body, each of which begins with its length.
fn records(mut body: Bytes) -> Result<Vec<Bytes>, Refusal> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let len = body.get(..4).map_or(0, |mut len| len.get_u32() as usize);
        if len < 4 || len > body.len() {
            return Err(Refusal::system("another broker answered a pull with a damaged record"));
        }
        records.push(body.split_to(len));
    }
    Ok(records)
}
