//! Sending answers: none is longer than a frame that clients accept, and long bodies are shared, not copied.

use bytes::Bytes;
use net::Connection;
use protocol::frame::{PREFIX_LEN, encode_response_head};
use protocol::{Frame, RequestCode, ResponseCode};

use crate::problem::Problem;

/// From which length on a body is not copied to the outbox.
const SHARED_BODY_BYTES: usize = 16 << 10;
/// Sends an answer to a request of this code; if it is longer than `max`, one that says so instead.
pub(crate) fn send(conn: &Connection, code: i32, reply: Frame, max: usize) {
    let bytes = PREFIX_LEN + reply.most_header_bytes() + reply.body.len();
    if let Err(problem) = fits(bytes, max, code) {
        let empty = Frame {
            body: Bytes::new(),
            ext: Default::default(),
            ..reply
        };
        conn.send_frame(&problem.fill(empty));
    } else if reply.body.len() >= SHARED_BODY_BYTES && reply.ext.is_empty() && reply.remark.is_none() && reply.code == 0 {
        send_body(conn, &reply, reply.body.clone());
    } else {
        conn.send_frame(&reply);
    }
}

/// Sends a successful answer to `like`, a request or an answer without body.
pub(crate) fn send_body(conn: &Connection, like: &Frame, body: Bytes) {
    conn.send(|out| {
        encode_response_head(out.head(), like.encoding, like.opaque, ResponseCode::Success, None, &[], body.len());
        out.body(body);
    });
}

/// Whether an answer of so many bytes to a request of this code can be sent.
///
/// # Errors
/// [`Problem::TooLarge`], which says what to ask for instead.
pub(crate) fn fits(bytes: usize, max: usize, code: i32) -> Result<(), Problem> {
    if bytes <= max {
        return Ok(());
    }
    let instead = RequestCode::try_from(code).map_or("", instead);
    Err(Problem::TooLarge { bytes, max, instead })
}

/// What to ask for where an answer would be too large.
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
