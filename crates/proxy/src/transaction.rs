//! Transactions: the id of one, and its end. [`crate::clients`] asks producers.
//!
//! A transaction id says where the half message is, so that any proxy can end the transaction.

use crate::caller::Caller;
use crate::codes::{self, Refused};
use crate::route::{check_topic, name_of};
use crate::service::Messaging;
use crate::v2::{Code, EndTransactionRequest, EndTransactionResponse, TransactionResolution, TransactionSource};
use broker::transaction::Outcome;
use std::fmt;

/// Where a half message is, and its unique key: `key-half offset-log offset`, the offsets in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionId<'a> {
    pub(crate) uniq_key: &'a str,
    pub(crate) half: i64,
    pub(crate) log_offset: i64,
    /// Name of the broker.
    pub(crate) broker: Option<&'a str>,
}

impl<'a> TransactionId<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        // Keys and names of brokers may have the separator, too.
        let with_broker = || {
            let mut at = text.match_indices('@');
            at.find_map(|(at, _)| {
                let id = Self::parse_place(&text[..at])?;
                Some(Self {
                    broker: Some(&text[at + 1..]),
                    ..id
                })
            })
        };
        Self::parse_place(text).or_else(with_broker)
    }

    fn parse_place(text: &'a str) -> Option<Self> {
        let (rest, log_offset) = text.rsplit_once('-')?;
        let (uniq_key, half) = rest.rsplit_once('-')?;
        let number = |digits: &str| i64::from_str_radix(digits, 16).ok().filter(|number| *number >= 0);
        Some(Self {
            uniq_key,
            half: number(half)?,
            log_offset: number(log_offset)?,
            broker: None,
        })
    }
}

impl fmt::Display for TransactionId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{:x}-{:x}", self.uniq_key, self.half, self.log_offset)?;
        self.broker.map_or(Ok(()), |broker| write!(out, "@{broker}"))
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
        let is_answer = request.source() == TransactionSource::SourceServerCheck;
        self.backend.end_transaction(caller, topic, id, ends_as, is_answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_is_read_back() {
        for (uniq_key, broker) in [("01-AB", None), ("01-AB", Some("b-a")), ("0@1-2-3", Some("b@c")), ("0@1", None)] {
            let id = TransactionId {
                uniq_key,
                half: 17,
                log_offset: 1 << 40,
                broker,
            };
            assert_eq!(TransactionId::parse(&id.to_string()), Some(id));
        }
        for wrong in ["", "x", "a-b", "a-b-", "k-1-g", "k-1--2"] {
            assert_eq!(TransactionId::parse(wrong), None, "{wrong}");
        }
    }
}
