//! Locks of queues that the brokers of a name agree on (`lockInStrictMode`): a client holds a queue when more than half of `totalReplicas` brokers
//! have locked it for the client. So no two clients hold it while another broker acts for the master.

use super::Acting;
use crate::errors::Refusal;
use crate::lock::{OrderLocks, handler};
use crate::reply::{Answer, Outcome};
use protocol::lock::{LockBatchBody, LockBatchReply};
use protocol::queue::MessageQueue;
use protocol::{Frame, RequestCode, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long another broker may take. Compat: as Apache's.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Acting {
    /// Whether this request for locks (41, 42) is for the other brokers of the name, too.
    ///
    /// # Errors
    /// `SystemError` if the body is malformed.
    pub(crate) fn asks_others(&self, frame: &Frame) -> Result<bool, Refusal> {
        let settings = self.parts.core.settings.current();
        if !settings.lock_in_strict_mode || settings.total_replicas < 2 {
            return Ok(false);
        }
        let body: LockBatchBody = json::read(&frame.body)?;
        Ok(!body.only_this_broker)
    }

    /// Locks queues here, and then at the other brokers; `done` gets the answer: the queues that enough of them have locked.
    ///
    /// # Errors
    /// As [`handler::lock`]; `done` is not called then.
    pub(crate) fn lock(
        self: &Arc<Self>,
        frame: &Frame,
        locks: &OrderLocks,
        now_ms: i64,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), Refusal> {
        let body: LockBatchBody = json::read(&frame.body)?;
        let here = handler::lock_here(&body, locks, now_ms)?;
        let quorum = self.parts.core.settings.current().total_replicas / 2 + 1;
        let body = LockBatchBody {
            queues: here.clone(),
            only_this_broker: true,
            ..body
        };
        let this = Arc::clone(self);
        self.spawn(async move {
            let mut counted: Vec<(MessageQueue, usize)> = here.into_iter().map(|queue| (queue, 1)).collect();
            let mut asked = this.ask_others(RequestCode::LockBatchMq, &body);
            while let Some(answer) = asked.join_next().await {
                let locked = match answer {
                    Ok(Ok(answer)) => json::read::<LockBatchReply>(&answer.body).unwrap_or_default().locked,
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "another broker of the name does not lock queues (lockInStrictMode)");
                        continue;
                    }
                    Err(_) => continue,
                };
                let locked_there = counted.iter_mut().filter(|(queue, _)| locked.contains(queue));
                locked_there.for_each(|(_, count)| *count += 1);
            }
            let locked = counted.into_iter().filter_map(|(queue, count)| (count >= quorum).then_some(queue));
            let reply = LockBatchReply { locked: locked.collect() };
            done(Ok(Answer::body(json::write(&reply))));
        })
    }

    /// Has the other brokers unlock what was unlocked here. Nobody waits for them: a lock that stays expires.
    ///
    /// # Errors
    /// `SystemError` if the body is malformed.
    pub(crate) fn unlock(self: &Arc<Self>, frame: &Frame) -> Result<(), Refusal> {
        let body: LockBatchBody = json::read(&frame.body)?;
        let body = LockBatchBody {
            only_this_broker: true,
            ..body
        };
        let this = Arc::clone(self);
        self.spawn(async move {
            let mut asked = this.ask_others(RequestCode::UnlockBatchMq, &body);
            while let Some(answer) = asked.join_next().await {
                if let Ok(Err(error)) = answer {
                    tracing::warn!(%error, "another broker of the name does not unlock queues; its locks expire");
                }
            }
        })
    }

    fn ask_others(self: &Arc<Self>, code: RequestCode, body: &LockBatchBody) -> JoinSet<io::Result<Frame>> {
        let mut asked = JoinSet::new();
        let frame = Frame::request(code).with_body(json::write(body));
        let group = self.group.lock();
        for (_, address) in group.others(self.identity.broker_id) {
            let (this, frame, address) = (Arc::clone(self), frame.clone(), address.to_owned());
            asked.spawn(async move { this.peers.ask_for(&address, frame, TIMEOUT).await });
        }
        asked
    }

    /// Runs work on the thread `control`.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<(), Refusal> {
        let runtime = self.runtime.get().ok_or_else(|| Refusal::system("this broker is starting"))?;
        runtime.spawn(work);
        Ok(())
    }
}
