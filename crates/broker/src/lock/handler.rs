//! Codes 41 and 42.

use super::OrderLocks;
use crate::clients::heartbeat::MAX_CLIENT_ID_BYTES;
use crate::errors::{Refusal, check_length};
use crate::reply::{Answer, Outcome};
use message::names;
use protocol::lock::{LockBatchBody, LockBatchReply};
use protocol::{Frame, json};

/// Most bytes of a broker's name.
const MAX_BROKER_NAME_BYTES: usize = 255;

/// Code 41: locks queues for a client of a group; answers those it holds now.
///
/// # Errors
/// The body is malformed, or a name in it.
pub fn lock(request: &Frame, locks: &OrderLocks, now_ms: i64) -> Outcome {
    let asked: LockBatchBody = json::read(&request.body)?;
    check(&asked)?;
    let locked = locks.lock(&asked.consumer_group, &asked.client_id, asked.queues, now_ms);
    Ok(Answer::body(json::write(&LockBatchReply { locked })))
}

/// Names that are kept with a lock are no longer than any client makes them.
fn check(asked: &LockBatchBody) -> Result<(), Refusal> {
    names::check_group(&asked.consumer_group)?;
    check_length("client id", &asked.client_id, MAX_CLIENT_ID_BYTES)?;
    for queue in &asked.queues {
        names::check_topic(&queue.topic)?;
        check_length("broker name", &queue.broker_name, MAX_BROKER_NAME_BYTES)?;
    }
    Ok(())
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
