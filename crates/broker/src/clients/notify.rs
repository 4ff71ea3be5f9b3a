//! Code 40: telling the members of a group that members or topics changed, upon which they share the queues out anew.

use super::consumers::{Consumers, Tell};
use super::producers::Producers;
use super::table::Channel;
use protocol::frame::FLAG_ONEWAY;
use protocol::heartbeat::ConsumerGroupHeader;
use protocol::{Frame, RequestCode};

/// Tells these members of a group.
pub fn members_changed<C: Channel>(group: &str, members: &[C]) {
    if members.is_empty() {
        return;
    }
    let mut request = Frame::request(RequestCode::NotifyConsumerIdsChanged);
    request.flag |= FLAG_ONEWAY;
    ConsumerGroupHeader { consumer_group: group }.encode(&mut request.ext);
    for member in members {
        member.tell(&request);
    }
}

/// A connection is gone: its groups' other members are told, if the setting `notifyConsumerIdsChangedEnable` says so.
pub fn closed<C: Channel>(channel: u64, consumers: &Consumers<C>, producers: &Producers<C>, notify: bool) {
    producers.closed(channel);
    tell(consumers.closed(channel), notify);
}

/// Members that were not heard of for too long are taken out and their connections closed. To be called every 10 s.
pub fn expire<C: Channel>(consumers: &Consumers<C>, producers: &Producers<C>, notify: bool, now_ms: i64) {
    let (silent, told) = consumers.expire(now_ms);
    for channel in silent.iter().chain(&producers.expire(now_ms)) {
        channel.close();
    }
    tell(told, notify);
}

fn tell<C: Channel>(told: Tell<C>, notify: bool) {
    if notify {
        for (group, members) in told {
            members_changed(&group, &members);
        }
    }
}
