//! Sends to the broker of this process.
//!
//! All messages of a request go to one queue and are appended together; each has an outcome of its own. The requests of a connection that
//! were read together are appended together, too: the first of them lets the others come, then stores them all.

use super::{Local, outcome};
use crate::caller::Caller;
use crate::codes::Refused;
use crate::connection::Connection;
use crate::send::{Checked, bucket, refused_entry, stored_entry};
use crate::time::now_ms;
use crate::v2::{Code, SendResultEntry, Status};
use ::message::names;
use broker::errors::Refusal;
use broker::send::{Ending, MayBeLate, SendContext, SendRequest, SendSink, Sent};
use broker::topic::Topic;
use parking_lot::Mutex;
use protocol::send::SendHeader;
use protocol::version;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::oneshot;

/// Outcomes of the messages of a request.
#[derive(Debug)]
struct Outcomes {
    entries: Vec<Option<SendResultEntry>>,
    left: usize,
    done: Option<oneshot::Sender<()>>,
}

impl Outcomes {
    fn set(&mut self, at: usize, entry: SendResultEntry) {
        if let Some(empty @ None) = self.entries.get_mut(at) {
            *empty = Some(entry);
            self.left -= 1;
        }
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            // The client may be gone.
            let _ = done.send(());
        }
    }
}

/// A request that passed its checks.
#[derive(Debug)]
pub(crate) struct Ready {
    checked: Checked,
    write_queues: i32,
    queue_id: i32,
    outcomes: Mutex<Outcomes>,
}

/// Requests that are stored together.
#[derive(Clone)]
struct Sends(Arc<[Arc<Ready>]>);

/// The first of the requests that are read together. When it is dropped, all that came meanwhile are stored.
struct Turn<'a> {
    local: &'a Local,
    connection: &'a Connection,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let ready = self.connection.take_sends();
        self.local.store(ready, self.connection);
    }
}

impl Local {
    pub(crate) async fn send(&self, caller: &Caller, topic: &Topic, checked: Checked) -> Result<Vec<SendResultEntry>, Refused> {
        let (done, wait) = oneshot::channel();
        let count = checked.messages.len();
        let ready = Arc::new(Ready {
            write_queues: topic.write_queues,
            queue_id: self.queue_for(topic.write_queues.max(1), &checked),
            checked,
            outcomes: Mutex::new(Outcomes {
                entries: vec![None; count],
                left: count,
                done: Some(done),
            }),
        });
        if caller.connection.add_send(Arc::clone(&ready)) {
            let turn = Turn {
                local: self,
                connection: &caller.connection,
            };
            tokio::task::yield_now().await;
            drop(turn);
        }
        outcome(wait).await?;
        let entries = std::mem::take(&mut ready.outcomes.lock().entries);
        Ok(entries.into_iter().flatten().collect())
    }

    /// Stores requests of one connection.
    fn store(&self, ready: Vec<Arc<Ready>>, connection: &Connection) {
        let context = SendContext {
            client: connection.peer,
            store_host: self.broker.core.store_host(connection.local),
            now_ms: now_ms(),
        };
        let most = ready.iter().map(|ready| ready.checked.messages.len()).sum();
        let sends = Sends(ready.into());
        let requests = sends.0.iter().enumerate().flat_map(|(of, ready)| ready.requests(of));
        self.broker.sender.send(&sends, requests, most, context);
    }

    /// One queue for all messages of a request; messages of one group always go to the same. Compat: Apache's proxy chooses the same queue.
    fn queue_for(&self, queues: i32, checked: &Checked) -> i32 {
        match (checked.group_hash(), &*checked.messages) {
            (Some(hash), _) => bucket(i64::from(hash), queues),
            // The broker chooses.
            (None, [_]) => -1,
            _ => (self.next_queue.fetch_add(1, Relaxed) % queues as u32) as i32,
        }
    }
}

impl Ready {
    /// Its messages as the broker takes them; it is the request of this number.
    fn requests(&self, of: usize) -> impl Iterator<Item = SendRequest<'_, Place>> {
        self.checked
            .messages
            .iter()
            .enumerate()
            .map(move |(at, (incoming, body))| SendRequest {
                header: SendHeader {
                    producer_group: &self.checked.topic,
                    topic: &self.checked.topic,
                    default_topic: names::AUTO_CREATE_TOPIC,
                    default_topic_queue_nums: self.write_queues,
                    queue_id: self.queue_id,
                    sys_flag: incoming.sys_flag,
                    born_timestamp: incoming.born_ms,
                    properties: &incoming.properties,
                    reconsume_times: incoming.reconsume_times,
                    ..SendHeader::default()
                },
                is_batch: false,
                body,
                client_version: version::V5_0_0,
                asker: Place { of, at },
            })
    }

    fn stored(&self, sent: &Sent<'_>) -> SendResultEntry {
        let place = sent.placements.first().map(|place| (sent.queue_offset, place.log_offset.0));
        stored_entry(&self.checked, sent.uniq_key, place, sent.recall_handle.clone(), None)
    }
}

/// A message among requests that are stored together: the number of its request, and its own in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    of: usize,
    at: usize,
}

impl Sends {
    fn set(&self, place: Place, entry: SendResultEntry) {
        self.0[place.of].outcomes.lock().set(place.at, entry);
    }
}

impl SendSink for Sends {
    type Asker = Place;

    fn wants_answer(_: Place) -> bool {
        true
    }

    fn refuse(&self, place: Place, refusal: Refusal) {
        self.set(place, refused_entry(refusal.into()));
    }

    fn answer<'s>(&self, sent: impl Iterator<Item = (Place, Sent<'s>)>) {
        sent.for_each(|(place, sent)| self.set(place, self.0[place.of].stored(&sent)));
    }

    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (Place, Sent<'s>)> + Clone,
        _: MayBeLate,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static {
        let sends = self.clone();
        let stored: Vec<(Place, SendResultEntry)> = sent.map(|(place, sent)| (place, self.0[place.of].stored(&sent))).collect();
        move |ending| {
            let failure: Option<Status> = match ending {
                Ending::Done => None,
                Ending::TimedOut => {
                    let text = "the message is stored, but was not on the device within syncFlushTimeout";
                    Some(Refused::new(Code::MasterPersistenceTimeout, text).into())
                }
                Ending::NotCopied => {
                    let text = "the message is stored on the master, but slaves did not acknowledge it within slaveTimeout";
                    Some(Refused::new(Code::SlavePersistenceTimeout, text).into())
                }
                Ending::Failed(reason) => Some(Refused::new(Code::InternalServerError, reason.to_string()).into()),
            };
            for (place, entry) in stored {
                let entry = failure.clone().map_or(entry, |status| SendResultEntry {
                    status: Some(status),
                    ..SendResultEntry::default()
                });
                sends.set(place, entry);
            }
        }
    }

    fn fail(&self, askers: impl Iterator<Item = Place>, reason: &str) {
        askers.for_each(|place| self.set(place, refused_entry(Refused::new(Code::InternalServerError, reason))));
    }
}
