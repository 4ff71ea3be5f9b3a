//! Codes 41 and 42.

use super::OrderLocks;
use crate::reply::{Answer, Outcome};
use protocol::lock::{LockBatchBody, LockBatchReply};
use protocol::{Frame, json};

/// Code 41: locks queues for a client of a group; answers those it holds now.
///
/// # Errors
/// The body is malformed.
pub fn lock(request: &Frame, locks: &OrderLocks, now_ms: i64) -> Outcome {
    let asked: LockBatchBody = json::read(&request.body)?;
    let locked = locks.lock(&asked.consumer_group, &asked.client_id, asked.queues, now_ms);
    Ok(Answer::body(json::write(&LockBatchReply { locked })))
}

/// Code 42: gives queues back.
///
/// # Errors
/// The body is malformed.
pub fn unlock(request: &Frame, locks: &OrderLocks) -> Outcome {
    let asked: LockBatchBody = json::read(&request.body)?;
    locks.unlock(&asked.consumer_group, &asked.client_id, &asked.queues);
    Ok(Answer::ok())
}
