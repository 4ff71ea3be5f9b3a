//! Transactions: the id of one, and its end. [`crate::clients`] asks producers.
//!
//! A transaction id says where the half message is, so that any proxy can end the transaction.

use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::outcome::outcome;
use crate::route::{check_topic, name_of};
use crate::service::Messaging;
use crate::time::now_ms;
use crate::v2::{Code, EndTransactionRequest, EndTransactionResponse, TransactionResolution, TransactionSource};
use ::message::record::Placement;
use broker::transaction::{EndTransaction, Outcome};
use std::fmt;
use tokio::sync::oneshot;

/// Where a half message is, and its unique key: `key-half offset-log offset`, the offsets in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionId<'a> {
    pub(crate) uniq_key: &'a str,
    pub(crate) half: i64,
    pub(crate) log_offset: i64,
}

impl<'a> TransactionId<'a> {
    pub(crate) fn of(place: &Placement, uniq_key: &'a str) -> Self {
        Self {
            uniq_key,
            half: place.queue_offset.0,
            log_offset: place.log_offset.0,
        }
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (rest, log_offset) = text.rsplit_once('-')?;
        let (uniq_key, half) = rest.rsplit_once('-')?;
        let number = |digits: &str| i64::from_str_radix(digits, 16).ok().filter(|number| *number >= 0);
        Some(Self {
            uniq_key,
            half: number(half)?,
            log_offset: number(log_offset)?,
        })
    }
}

impl fmt::Display for TransactionId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{:x}-{:x}", self.uniq_key, self.half, self.log_offset)
    }
}

impl Messaging {
    pub(crate) async fn end_transaction(&self, caller: &Caller, request: EndTransactionRequest) -> EndTransactionResponse {
        let outcome = self.ended(caller, &request).await;
        EndTransactionResponse {
            status: Some(outcome.map_or_else(Into::into, |()| codes::ok())),
        }
    }

    async fn ended(&self, caller: &Caller, request: &EndTransactionRequest) -> Result<(), Refused> {
        let topic = name_of(request.topic.as_ref());
        check_topic(topic)?;
        let invalid = |why: &str| {
            let text = format!("{why}: use the transaction id of the answer to the send, or of the check");
            Refused::new(Code::InvalidTransactionId, text)
        };
        if request.transaction_id.trim().is_empty() {
            return Err(invalid("transaction id cannot be empty"));
        }
        let id = TransactionId::parse(&request.transaction_id).ok_or_else(|| invalid("the transaction id is none"))?;
        let ends_as = match request.resolution() {
            TransactionResolution::Commit => Outcome::Commit,
            TransactionResolution::Rollback => Outcome::Rollback,
            // The producer is asked again.
            TransactionResolution::Unspecified => return Ok(()),
        };
        let (done, ended) = oneshot::channel();
        let end = EndTransaction {
            half: id.half,
            log_offset: id.log_offset,
            producer_group: topic,
            outcome: ends_as,
            is_answer: request.source() == TransactionSource::SourceServerCheck,
            store_host: self.broker.core.store_host(caller.local()),
            now_ms: now_ms(),
        };
        self.broker.transactions.end(end, move |outcome| {
            let _ = done.send(outcome);
        });
        Ok(outcome(ended).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_is_read_back() {
        let id = TransactionId {
            uniq_key: "01-AB",
            half: 17,
            log_offset: 1 << 40,
        };
        assert_eq!(TransactionId::parse(&id.to_string()), Some(id));
        for wrong in ["", "x", "a-b", "a-b-", "k-1-g", "k-1--2"] {
            assert_eq!(TransactionId::parse(wrong), None, "{wrong}");
        }
    }
}
