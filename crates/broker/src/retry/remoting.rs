//! Messages sent back by the remoting protocol: request 36.

use super::send_back::{SendBack, send_back};
use crate::clock::now_ms;
use crate::core::Core;
use crate::reply::{Answer, Reply};
use protocol::frame::Frame;
use protocol::retry::SendBackHeader;
use std::net::SocketAddr;

/// About how large an answer is.
const ANSWER_BYTES: usize = 512;

/// Serves a request. May block.
pub fn serve(core: &Core, frame: &Frame, store_host: SocketAddr, reply: &Reply) {
    let header = match SendBackHeader::decode(&frame.ext) {
        Ok(header) => header,
        Err(error) => return reply.send(Err(error.into())),
    };
    let request = SendBack {
        header,
        client_version: frame.version,
        store_host,
        now_ms: now_ms(),
    };
    let (answer, owed) = (reply.clone(), reply.connection().owe(ANSWER_BYTES));
    send_back(core, &request, move |outcome| {
        answer.send(outcome.map(|()| Answer::ok()));
        drop(owed);
    });
}
