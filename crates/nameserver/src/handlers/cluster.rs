//! Members of a broker name (901). The clusters (106) are in `lists.rs`.

use net::Connection;
use protocol::route::{MemberGroupHeader, MemberGroupReply};
use protocol::{Frame, json};

use crate::NameServer;
use crate::embedded::AddressRewrite;
use crate::error::RequestError;
use crate::names::checked;

pub(crate) fn member_group(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Frame, RequestError> {
    let header = MemberGroupHeader::decode(&request.ext)?;
    let (cluster, broker) = (
        checked("clusterName", header.cluster_name)?,
        checked("brokerName", header.broker_name)?,
    );
    let mut group = names.routes.read().member_group(cluster, broker);
    if let Some(rewrite) = AddressRewrite::new(names.local_broker.as_ref(), conn.local().ip()) {
        group.broker_addrs.values_mut().for_each(|address| rewrite.address(address));
    }
    let reply = MemberGroupReply {
        broker_member_group: Some(group),
    };
    Ok(Frame::response_to(request).with_body(json::write(&reply)))
}
