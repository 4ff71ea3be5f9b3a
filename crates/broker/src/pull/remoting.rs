//! Pulls of the remoting protocol: requests 11 and 361.

use super::{Pulled, Puller};
use crate::asker::{Asker, RemotingResult};
use crate::reply::Reply;
use net::Connection;
use protocol::ext::Value;
use protocol::frame::Frame;
use protocol::pull::PullHeader;
use std::sync::Arc;

/// Handles a pull request.
pub fn serve(puller: &Arc<Puller>, conn: &Arc<Connection>, frame: &Frame, now_ms: i64) {
    let reply = Reply::to(conn, frame);
    match PullHeader::decode(&frame.ext) {
        Ok(header) => puller.pull(Asker::Remoting(reply), &header, now_ms),
        Err(error) => reply.send(Err(error.into())),
    }
}

impl RemotingResult for Pulled {
    fn send(self, reply: &Reply) {
        let mut fields = smallvec::SmallVec::<[(&str, Value<'_>); 7]>::new();
        fields.extend([
            ("suggestWhichBrokerId", Value::Int(self.pull_from)),
            ("nextBeginOffset", Value::Int(self.next.0)),
            ("minOffset", Value::Int(self.min.0)),
            ("maxOffset", Value::Int(self.max.0)),
            ("topicSysFlag", Value::Int(self.topic_sys_flag.into())),
            ("groupSysFlag", Value::Int(self.group_sys_flag.into())),
        ]);
        fields.extend(self.offset_delta.map(|delta| ("offsetDelta", Value::Int(delta))));
        reply.send_records(self.code, self.status, &fields, self.records, self.bytes);
    }
}
