//! Transactions by the remoting protocol: requests 37 and 323, and what a producer is asked with 39.

use super::{EndTransaction, Outcome, Transactions};
use crate::clock::now_ms;
use crate::core::Core;
use crate::errors::Refusal;
use crate::reply;
use crate::reply::{Answer, Reply};
use message::id;
use net::Connection;
use protocol::frame::Frame;
use protocol::transaction::{COMMIT, EndTransactionHeader, ROLLBACK, ResumeCheckHalfMessageHeader, UNKNOWN};
use std::sync::Arc;

/// About how large an answer is.
const ANSWER_BYTES: usize = 512;

/// Serves request 37. Compat: a producer that does not know yet gets no answer, nor one that says something else.
pub fn end(transactions: &Arc<Transactions>, core: &Core, connection: &Arc<Connection>, frame: &Frame) {
    let reply = Reply::to(connection, frame);
    let header = match EndTransactionHeader::decode(&frame.ext) {
        Ok(header) => header,
        Err(error) => return reply.send(Err(error.into())),
    };
    let outcome = match header.commit_or_rollback {
        COMMIT => Outcome::Commit,
        ROLLBACK => Outcome::Rollback,
        UNKNOWN => return,
        other => {
            let text =
                format!("commitOrRollback is {other}; it must be {COMMIT} to commit, {ROLLBACK} to roll back or {UNKNOWN} for unknown");
            return reply.send(Err(Refusal::system(text)));
        }
    };
    let request = EndTransaction {
        half: header.tran_state_table_offset,
        log_offset: header.commit_log_offset,
        producer_group: header.producer_group,
        outcome,
        is_answer: header.from_transaction_check,
        store_host: core.store_host(connection.local()),
        now_ms: now_ms(),
    };
    let owed = connection.owe(ANSWER_BYTES);
    transactions.end(request, move |outcome| {
        reply.send(outcome.map(|()| Answer::ok()));
        drop(owed);
    });
}

/// Serves request 323. May block.
///
/// # Errors
/// A field is missing, or as [`Transactions::resume`].
pub fn resume(transactions: &Transactions, frame: &Frame) -> reply::Outcome {
    let header = ResumeCheckHalfMessageHeader::decode(&frame.ext)?;
    let (_, log_offset) = id::parse_offset_id(header.msg_id)
        .ok_or_else(|| Refusal::system(format!("{} is not the id of a stored message", header.msg_id)))?;
    transactions.resume(log_offset, now_ms())?;
    Ok(Answer::ok())
}
