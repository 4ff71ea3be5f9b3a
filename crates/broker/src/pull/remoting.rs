//! Pulls of the remoting protocol: requests 11 and 361.

use super::{Asker, Pulled, Puller};
use crate::reply::Reply;
use net::Connection;
use protocol::ext::Value;
use protocol::frame::{Frame, encode_response_head};
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

pub(super) fn answer(reply: &Reply, pulled: Pulled) {
    let fields = [
        ("suggestWhichBrokerId", Value::Int(0)),
        ("nextBeginOffset", Value::Int(pulled.next.0)),
        ("minOffset", Value::Int(pulled.min.0)),
        ("maxOffset", Value::Int(pulled.max.0)),
        ("topicSysFlag", Value::Int(pulled.topic_sys_flag.into())),
        ("groupSysFlag", Value::Int(pulled.group_sys_flag.into())),
    ];
    reply.connection().send_later(|out| {
        let (encoding, opaque) = (reply.encoding(), reply.opaque());
        let remark = Some(pulled.status);
        encode_response_head(out.head(), encoding, opaque, pulled.code, remark, &fields, pulled.bytes);
        pulled.records.into_iter().for_each(|record| out.body(record));
    });
}
