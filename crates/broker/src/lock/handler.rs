//! Handlers of queue locks: codes 41 and 42.

use super::OrderLocks;
use crate::clients::heartbeat::MAX_CLIENT_ID_BYTES;
use crate::errors::{Refusal, check_length};
use crate::reply::{Answer, Outcome};
use message::names;
use protocol::lock::{LockBatchBody, LockBatchReply};
use protocol::{Frame, json};

/// Longest broker name in bytes.
const MAX_BROKER_NAME_BYTES: usize = 255;

/// Code 41: locks queues for a client of a group; returns the queues that it holds.
///
/// # Errors
/// `SystemError` if the body is malformed, `InvalidParameter` if a name is invalid or too long.
pub fn lock(request: &Frame, locks: &OrderLocks, now_ms: i64) -> Outcome {
    let body: LockBatchBody = json::read(&request.body)?;
    check(&body)?;
    let locked = locks.lock(&body.consumer_group, &body.client_id, body.queues, now_ms);
    Ok(Answer::body(json::write(&LockBatchReply { locked })))
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
