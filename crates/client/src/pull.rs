//! Pulling (11): messages of one queue from an offset on, with optional long polling.

use std::time::Duration;

use bytes::Bytes;
use message::Record;
use protocol::heartbeat::{SUB_ALL, TAG};
use protocol::pull::{PullHeader, PullReply, sys_flag};
use protocol::{Frame, RequestCode, ResponseCode};

use crate::error::OrMalformed;
use crate::{Client, Error, Queue};

/// Options of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// Maximum number of messages. Default 32.
    pub max_messages: i32,
    /// Maximum number of bytes. Default: the broker's limit.
    pub max_bytes: Option<i32>,
    /// How long the broker may park the request while there is no message. Default zero: it answers at once.
    pub wait: Duration,
    /// Tags, `A || B`, or `*`. Default all.
    pub filter: String,
    /// An offset to commit with this pull.
    pub commit: Option<i64>,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            max_messages: 32,
            max_bytes: None,
            wait: Duration::ZERO,
            filter: SUB_ALL.to_owned(),
            commit: None,
        }
    }
}

/// Result of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There are messages.
    Found,
    /// There is no message from this offset on (19).
    NothingNew,
    /// No message matches (20): continue at [`Pulled::next_offset`] at once.
    NoMatch,
    /// The offset is outside the queue (21): continue at [`Pulled::next_offset`].
    OffsetMoved,
}

/// A pull's answer.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The result.
    pub outcome: Outcome,
    /// The next offset to pull.
    pub next_offset: i64,
    /// The queue's lowest offset.
    pub min_offset: i64,
    /// The queue's end.
    pub max_offset: i64,
    /// Id of the broker to pull from next; 0 is the master.
    pub suggested_broker: i64,
    /// Consecutive stored records.
    pub body: Bytes,
}

impl Pulled {
    /// The messages.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, Error>> {
        records(&self.body)
    }
}

/// Parses consecutive records; ends after the first malformed one.
pub fn records(body: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Error>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = Record::parse(rest);
        rest = record.as_ref().map_or(&[], |record| &rest[record.size..]);
        Some(record.or_malformed("the broker"))
    })
}

/// Pulls for a group and commits the group's offsets.
pub struct Puller {
    pub(crate) client: Client,
    pub(crate) group: String,
}

impl Puller {
    /// A puller of this group. It does not register at the broker, see [`Client::heartbeat`].
    pub fn new(client: &Client, group: impl Into<String>) -> Self {
        Self {
            client: client.clone(),
            group: group.into(),
        }
    }

    /// Pulls once.
    ///
    /// # Errors
    /// Any [`Error`] except [`Error::NoRoute`].
    pub async fn pull(&self, queue: &Queue, offset: i64, options: &PullOptions) -> Result<Pulled, Error> {
        let request = self.request(queue, offset, options);
        let timeout = self.client.options().request_timeout + options.wait;
        let answer = self.client.call_within(&queue.address, request, timeout).await?;
        pulled(&queue.address, answer)
    }

    fn request(&self, queue: &Queue, offset: i64, options: &PullOptions) -> Frame {
        let mut request = Frame::request(RequestCode::PullMessage);
        let suspend = if options.wait.is_zero() { 0 } else { sys_flag::SUSPEND };
        let commit = options.commit.map_or(0, |_| sys_flag::COMMIT_OFFSET);
        let header = PullHeader {
            consumer_group: &self.group,
            topic: &queue.topic,
            queue_id: queue.id,
            queue_offset: offset,
            max_msg_nums: options.max_messages,
            sys_flag: sys_flag::SUBSCRIPTION | suspend | commit,
            commit_offset: options.commit.unwrap_or(0),
            suspend_timeout_ms: options.wait.as_millis() as i64,
            subscription: Some(&options.filter),
            sub_version: 0,
            expression_type: Some(TAG),
            max_msg_bytes: options.max_bytes,
            request_source: None,
            proxy_forward_client_id: None,
            is_logical: None,
        };
        header.encode(&mut request.ext);
        request
    }
}

fn pulled(address: &str, answer: Frame) -> Result<Pulled, Error> {
    let outcome = match ResponseCode::try_from(answer.code) {
        Ok(ResponseCode::Success) => Outcome::Found,
        Ok(ResponseCode::PullNotFound) => Outcome::NothingNew,
        Ok(ResponseCode::PullRetryImmediately) => Outcome::NoMatch,
        Ok(ResponseCode::PullOffsetMoved) => Outcome::OffsetMoved,
        _ => return Err(Error::of(address, RequestCode::PullMessage.into(), &answer)),
    };
    let reply = PullReply::decode(&answer.ext).or_malformed(address)?;
    Ok(Pulled {
        outcome,
        next_offset: reply.next_begin_offset,
        min_offset: reply.min_offset,
        max_offset: reply.max_offset,
        suggested_broker: reply.suggest_which_broker_id,
        body: answer.body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_after_the_first_malformed_one() {
        let mut all = records(&[0; 200]);
        assert!(matches!(all.next(), Some(Err(Error::Malformed { .. }))));
        assert!(all.next().is_none());
    }
}
