//! Sends answers. None is longer than the largest frame that clients accept, and long bodies are shared, not copied.

use bytes::Bytes;
use net::Connection;
use protocol::frame::{PREFIX_LEN, encode_response_head};
use protocol::{Frame, RequestCode, ResponseCode};

use crate::error::RequestError;

/// Bodies of at least this length are not copied to the outbox.
const SHARED_BODY_BYTES: usize = 16 << 10;
/// Sends the answer to a request of this code, or an error if the answer is longer than `max` bytes.
pub(crate) fn send(conn: &Connection, code: i32, reply: Frame, max: usize) {
    let bytes = PREFIX_LEN + reply.most_header_bytes() + reply.body.len();
    if let Err(error) = fits(bytes, max, code) {
        let empty = Frame {
            body: Bytes::new(),
            ext: Default::default(),
            ..reply
        };
        conn.send_frame(&error.fill(empty));
    } else if reply.body.len() >= SHARED_BODY_BYTES && reply.ext.is_empty() && reply.remark.is_none() && reply.code == 0 {
        send_body(conn, &reply, reply.body.clone());
    } else {
        conn.send_frame(&reply);
    }
}

/// Sends a successful answer with this body. `like` is the request, or an answer without body.
pub(crate) fn send_body(conn: &Connection, like: &Frame, body: Bytes) {
    conn.send(|out| {
        encode_response_head(out.head(), like.encoding, like.opaque, ResponseCode::Success, None, &[], body.len());
        out.body(body);
    });
}

/// Checks that an answer of `bytes` to a request of this code fits a frame.
///
/// # Errors
/// [`RequestError::TooLarge`] if it does not; the text says which request to use instead.
pub(crate) fn fits(bytes: usize, max: usize, code: i32) -> Result<(), RequestError> {
    if bytes <= max {
        return Ok(());
    }
    let instead = RequestCode::try_from(code).map_or("", instead);
    Err(RequestError::TooLarge { bytes, max, instead })
}

/// Advice for a client whose answer would be too large.
fn instead(code: RequestCode) -> &'static str {
    match code {
        RequestCode::GetAllTopicListFromNameserver => {
            "ask for the topics of one cluster (request 224), or each broker for its own (request 21, in pages)"
        }
        RequestCode::GetTopicsByCluster
        | RequestCode::GetUnitTopicList
        | RequestCode::GetHasUnitSubTopicList
        | RequestCode::GetHasUnitSubUnunitTopicList => "ask each broker for its own topics (request 21, in pages)",
        RequestCode::GetSystemTopicListFromNs => "ask a broker for its system topics (request 305)",
        RequestCode::GetBrokerClusterInfo => "ask for the brokers of one name (request 901)",
        RequestCode::GetKvlistByNamespace | RequestCode::GetKvConfig => {
            "split the namespace, or ask for single keys with shorter values (request 101)"
        }
        RequestCode::GetRouteinfoByTopic => {
            "ask for the brokers of one zone (__ZONE_NAME with __ZONE_MODE=true), or give the topic to fewer brokers"
        }
        _ => "ask for less",
    }
}
