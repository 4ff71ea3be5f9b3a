//! 106: all clusters and brokers; 901: the brokers of one name.

use net::Connection;
use protocol::route::{MemberGroupHeader, MemberGroupReply};
use protocol::{Frame, json};

use crate::NameServer;
use crate::embedded::Rewrite;
use crate::problem::Problem;

pub(crate) fn info(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Frame, Problem> {
    let mut info = names.routes.read().cluster_info();
    if let Some(rewrite) = Rewrite::new(names.local_broker.as_ref(), conn.local().ip()) {
        info.broker_addr_table.values_mut().for_each(|data| rewrite.broker(data));
    }
    Ok(Frame::response_to(request).with_body(json::write(&info)))
}

pub(crate) fn member_group(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Frame, Problem> {
    let header = MemberGroupHeader::decode(&request.ext)?;
    let mut group = names.routes.read().member_group(header.cluster_name, header.broker_name);
    if let Some(rewrite) = Rewrite::new(names.local_broker.as_ref(), conn.local().ip()) {
        group.broker_addrs.values_mut().for_each(|address| rewrite.address(address));
    }
    let reply = MemberGroupReply {
        broker_member_group: Some(group),
    };
    Ok(Frame::response_to(request).with_body(json::write(&reply)))
}
