//! Handlers of queue locks: codes 41 and 42.

use super::OrderLocks;
use crate::clients::heartbeat::MAX_CLIENT_ID_BYTES;
use crate::errors::{Refusal, check_length};
use crate::reply::{Answer, Outcome};
use message::names;
use protocol::lock::{LockBatchBody, LockBatchReply};
use protocol::queue::MessageQueue;
use protocol::{Frame, json};

/// Longest broker name in bytes.
const MAX_BROKER_NAME_BYTES: usize = 255;

/// Code 41: locks queues for a client of a group; returns the queues that it holds.
///
/// # Errors
/// `SystemError` if the body is malformed, `InvalidParameter` if a name is invalid or too long.
pub fn lock(request: &Frame, locks: &OrderLocks, now_ms: i64) -> Outcome {
    let body: LockBatchBody = json::read(&request.body)?;
    let locked = lock_here(&body, locks, now_ms)?;
    Ok(Answer::body(json::write(&LockBatchReply { locked })))
}

/// The queues of a request that its client holds at this broker now.
///
/// # Errors
/// `InvalidParameter` if a name is invalid or too long.
pub fn lock_here(body: &LockBatchBody, locks: &OrderLocks, now_ms: i64) -> Result<Vec<MessageQueue>, Refusal> {
    check(body)?;
    Ok(locks.lock(&body.consumer_group, &body.client_id, body.queues.clone(), now_ms))
}

/// Checks the length of names that are stored with a lock.
fn check(body: &LockBatchBody) -> Result<(), Refusal> {
    names::check_group(&body.consumer_group)?;
    check_length("client id", &body.client_id, MAX_CLIENT_ID_BYTES)?;
    for queue in &body.queues {
        names::check_topic(&queue.topic)?;
        check_length("broker name", &queue.broker_name, MAX_BROKER_NAME_BYTES)?;
    }
    Ok(())
}

/// Code 42: unlocks queues.
///
/// # Errors
/// `SystemError` if the body is malformed.
pub fn unlock(request: &Frame, locks: &OrderLocks) -> Outcome {
    let body: LockBatchBody = json::read(&request.body)?;
    locks.unlock(&body.consumer_group, &body.client_id, &body.queues);
    Ok(Answer::ok())
}
