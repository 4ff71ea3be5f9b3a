//! Transactions: half messages and how they end (37), the broker's checks (39), having a given-up message checked again (323).
//!
//! A half message is stored and invisible until [`Producer::end`] commits it. A broker that is not told how a transaction ended asks a
//! producer of the group, if one has sent a heartbeat ([`Client::heartbeat`]) over a connection whose service is a [`CheckService`].

use std::sync::Arc;

use message::{Record, id, properties};
use net::{Connection, Service};
use protocol::transaction::{COMMIT, CheckTransactionStateHeader, EndTransactionHeader, ROLLBACK, ResumeCheckHalfMessageHeader, UNKNOWN};
use protocol::{Frame, RequestCode};

use crate::{Client, Error, Message, Producer, Queue};

/// How a local transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalOutcome {
    /// The message is delivered.
    Commit,
    /// The message is dropped.
    Rollback,
    /// Not known yet: the broker asks later.
    Unknown,
}

impl LocalOutcome {
    fn code(self) -> i32 {
        match self {
            Self::Commit => COMMIT,
            Self::Rollback => ROLLBACK,
            Self::Unknown => UNKNOWN,
        }
    }
}

/// A stored half message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    queue: Queue,
    half_offset: i64,
    log_offset: i64,
    unique_key: String,
}

impl Producer {
    /// Stores a half message for one of the topic's queues in turn.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn prepare(&self, message: Message) -> Result<Half, Error> {
        let unique_key = message.unique_key().to_owned();
        let half = message
            .property(properties::TRANSACTION_PREPARED, "true")
            .property(properties::PRODUCER_GROUP, &self.group);
        let sent = self.send(half).await?;
        let place = sent.ids.first().and_then(|id| id::parse_offset_id(id));
        let (_, log_offset) = place.ok_or_else(|| Error::Malformed {
            address: sent.queue.address.to_string(),
            what: format!("the offset id {:?} of a half message", sent.ids),
        })?;
        Ok(Half {
            queue: sent.queue,
            half_offset: sent.offset,
            log_offset: log_offset.0,
            unique_key,
        })
    }

    /// Tells the broker how a transaction ended.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`]. If the answer is lost, the broker asks later.
    pub async fn end(&self, half: &Half, outcome: LocalOutcome) -> Result<(), Error> {
        let header = EndTransactionHeader {
            topic: Some(&half.queue.topic),
            producer_group: &self.group,
            tran_state_table_offset: half.half_offset,
            commit_log_offset: half.log_offset,
            commit_or_rollback: outcome.code(),
            from_transaction_check: false,
            msg_id: Some(&half.unique_key),
            transaction_id: Some(&half.unique_key),
        };
        self.client.end_transaction(&half.queue.address, &header).await
    }
}

/// Answers the checks of brokers; drops their other requests. For [`crate::Options::service`].
///
/// The function gets the half message and looks up how the local transaction ended. It runs on the thread of the connection and must not
/// block.
pub struct CheckService<F>(pub F);

impl<F: Fn(&Record<'_>) -> LocalOutcome + Send + Sync> Service for CheckService<F> {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            if frame.code == i32::from(RequestCode::CheckTransactionState)
                && let Some(answer) = self.answer(&frame)
            {
                conn.send_frame(&answer);
            }
        }
    }
}

impl<F: Fn(&Record<'_>) -> LocalOutcome> CheckService<F> {
    /// The one-way request that answers a check; `None` if the check is malformed.
    fn answer(&self, check: &Frame) -> Option<Frame> {
        let header = CheckTransactionStateHeader::decode(&check.ext).ok()?;
        let half = Record::parse(&check.body).ok()?;
        let group = properties::find(half.properties, properties::PRODUCER_GROUP)?;
        let mut answer = Frame::request(RequestCode::EndTransaction);
        let outcome = EndTransactionHeader {
            topic: Some(half.topic),
            producer_group: std::str::from_utf8(group).ok()?,
            tran_state_table_offset: header.tran_state_table_offset,
            commit_log_offset: header.commit_log_offset,
            commit_or_rollback: (self.0)(&half).code(),
            from_transaction_check: true,
            msg_id: header.msg_id,
            transaction_id: header.transaction_id,
        };
        outcome.encode(&mut answer.ext);
        Some(answer.oneway())
    }
}

impl Client {
    /// Tells a broker how a transaction ended.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn end_transaction(&self, address: &str, header: &EndTransactionHeader<'_>) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::EndTransaction);
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Makes a given-up message a half message again, whose producer is asked. `offset_id` is its offset id.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`]; code 29 if the message was not given up.
    pub async fn resume_check(&self, address: &str, offset_id: &str) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::ResumeCheckHalfMessage);
        let header = ResumeCheckHalfMessageHeader {
            topic: None,
            msg_id: offset_id,
        };
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }
}
