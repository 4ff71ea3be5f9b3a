//! Sends: a request to one queue of one broker for each message.
//!
//! Messages of a group go to the queue that the group's hash says, of all brokers together, and to no other one: their order counts more.
//! Others go to the queues of all brokers in turn, but those of brokers that are down. Nothing is sent twice: another broker is tried only if no
//! connection could be opened.

use super::route::{Master, Route};
use super::{Cluster, refused};
use crate::codes::Refused;
use crate::message::Incoming;
use crate::send::{Checked, bucket, refused_entry, stored_entry};
use crate::v2::{Code, SendResultEntry};
use ::message::{id, names, properties};
use broker::topic::is_writable;
use bytes::Bytes;
use protocol::send::{SendHeader, SendReply};
use protocol::{Frame, RequestCode, ResponseCode};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Brokers that are tried for one request.
const ATTEMPTS: usize = 3;

impl Cluster {
    pub(crate) async fn send(&self, route: &Route, checked: Checked) -> Vec<SendResultEntry> {
        let mut failure = route.without_queue("writable", &checked.topic);
        let attempts = if checked.group_hash().is_some() { 1 } else { ATTEMPTS };
        for _ in 0..attempts {
            let Some((master, queue_id)) = self.queue_for(route, checked.group_hash()) else {
                break;
            };
            match self.noted(&master.address, self.client.peer(&master.address).await) {
                Ok(_) => return self.send_to(master, queue_id, &checked).await,
                Err(error) => failure = refused(error),
            }
        }
        checked.messages.iter().map(|_| refused_entry(failure.clone())).collect()
    }

    /// Compat: for a message group the queue that Apache's proxy chooses: of all writable queues by broker and number.
    fn queue_for<'r>(&self, route: &'r Route, group_hash: Option<i32>) -> Option<(&'r Master, i32)> {
        let writable = |master: &&Master| is_writable(master.perm) && master.write > 0;
        if let Some(hash) = group_hash {
            let total = route.masters.iter().filter(writable).map(|master| master.write).sum::<i32>();
            let at = (total > 0).then(|| bucket(i64::from(hash), total))?;
            return nth(route.masters.iter().filter(writable), at);
        }
        let now = Instant::now();
        let up = |master: &&Master| writable(master) && !self.down.contains(&master.address, now);
        let any_up = route.masters.iter().any(|master| up(&master));
        let chosen = || {
            route
                .masters
                .iter()
                .filter(|master| if any_up { up(master) } else { writable(master) })
        };
        let total = chosen().map(|master| master.write as usize).sum::<usize>();
        let at = self.send_turn.fetch_add(1, Relaxed).checked_rem(total)?;
        nth(chosen(), at as i32)
    }

    /// Sends all messages at the same time, in their order on one connection.
    async fn send_to(&self, master: &Master, queue_id: i32, checked: &Checked) -> Vec<SendResultEntry> {
        let sends = checked.messages.iter().map(|(message, body)| async move {
            let request = request(master, queue_id, &checked.topic, message, body);
            let answer = self.client.call(&master.address, request).await;
            match self.noted(&master.address, answer) {
                Ok(answer) => self.stored(master, checked, message, &answer),
                Err(error) => {
                    self.routes.expire_unless_recent(&checked.topic);
                    refused_entry(refused(error))
                }
            }
        });
        futures_util::future::join_all(sends).await
    }

    fn stored(&self, master: &Master, checked: &Checked, message: &Incoming, answer: &Frame) -> SendResultEntry {
        let remark = || answer.remark.clone().unwrap_or_default();
        let code = ResponseCode::try_from(answer.code);
        let late = match code {
            Ok(ResponseCode::Success) => None,
            Ok(ResponseCode::FlushDiskTimeout) => Some(Code::MasterPersistenceTimeout),
            Ok(ResponseCode::FlushSlaveTimeout) => Some(Code::SlavePersistenceTimeout),
            Ok(ResponseCode::SlaveNotAvailable) => Some(Code::HaNotAvailable),
            Ok(code) => {
                // Compat: Apache's slaves refuse sends as busy brokers do.
                if matches!(code, ResponseCode::ServiceNotAvailable | ResponseCode::SystemBusy) {
                    self.routes.expire_unless_recent(&checked.topic);
                }
                if code == ResponseCode::ServiceNotAvailable {
                    self.down.failed(&master.address, Instant::now());
                }
                return refused_entry(broker::errors::Refusal::new(code, remark()).into());
            }
            Err(unknown) => return refused_entry(Refused::new(Code::InternalServerError, format!("{unknown}: {}", remark()))),
        };
        if let Some(code) = late {
            return refused_entry(Refused::new(code, remark()));
        }
        let Ok(reply) = SendReply::decode(&answer.ext) else {
            let text = format!("broker {} sent a malformed answer; the message may be stored", master.name);
            return refused_entry(Refused::new(Code::InternalServerError, text));
        };
        let place = id::parse_offset_id(reply.msg_id).map(|(_, log_offset)| (reply.queue_offset, log_offset.0));
        let uniq_key = properties::text(&message.properties, properties::UNIQ_KEY).unwrap_or_default();
        let recall = reply.recall_handle.map(str::to_owned);
        stored_entry(checked, &uniq_key, place, recall, Some(&master.name))
    }
}

/// The master that has the queue of this number, when those of all masters are counted together.
fn nth<'r>(mut masters: impl Iterator<Item = &'r Master>, mut at: i32) -> Option<(&'r Master, i32)> {
    masters.find_map(|master| {
        let found = (at < master.write).then_some((master, at));
        at -= master.write;
        found
    })
}

fn request(master: &Master, queue_id: i32, topic: &str, message: &Incoming, body: &Bytes) -> Frame {
    let mut request = Frame::request(RequestCode::SendMessageV2).with_body(body.clone());
    let header = SendHeader {
        // Compat: the topic stands for the producer group, which the protocol of the client does not have.
        producer_group: topic,
        topic,
        default_topic: names::AUTO_CREATE_TOPIC,
        default_topic_queue_nums: master.write,
        queue_id,
        sys_flag: message.sys_flag,
        born_timestamp: message.born_ms,
        properties: &message.properties,
        reconsume_times: message.reconsume_times,
        broker_name: Some(&master.name),
        ..SendHeader::default()
    };
    header.encode_v2(&mut request.ext);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn queues_of_all_brokers_are_counted_together() {
        let master = |name: &str, write| Master {
            name: Arc::from(name),
            address: name.into(),
            perm: 6,
            read: write,
            write,
        };
        let masters = [master("a", 2), master("b", 3)];
        let of = |at| nth(masters.iter(), at).map(|(master, id)| (master.name.to_string(), id));
        let expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)];
        for (at, (name, id)) in (0..).zip(expected) {
            assert_eq!(of(at), Some((name.to_owned(), id)));
        }
        assert_eq!(of(5), None);
    }
}
