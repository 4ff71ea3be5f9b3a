//! Sends by the remoting protocol: requests 10, 310 and 320.

use super::Sender;
use super::late::{Ending, MayBeLate};
use super::request::{SendContext, SendRequest, SendSink, Sent};
use crate::errors::Refusal;
use crate::reply::Reply;
use bytes::BytesMut;
use message::id;
use net::Connection;
use protocol::codes::{RequestCode, ResponseCode};
use protocol::ext::Value;
use protocol::frame::{Encoding, Frame, encode_response_head};
use protocol::send::SendHeader;
use std::net::SocketAddr;
use std::sync::Arc;

/// Whether this is the code of a send request.
#[must_use]
pub fn is_send(code: i32) -> bool {
    const CODES: [i32; 3] = [
        RequestCode::SendMessage as i32,
        RequestCode::SendMessageV2 as i32,
        RequestCode::SendBatchMessage as i32,
    ];
    CODES.contains(&code)
}

/// Serves consecutive send requests of one connection, in order.
pub fn serve(sender: &Sender, conn: &Arc<Connection>, frames: &[Frame], store_host: SocketAddr, now_ms: i64) {
    let context = SendContext {
        client: conn.peer(),
        store_host,
        now_ms,
    };
    let requests = frames.iter().filter_map(|frame| match decode(frame) {
        Ok(request) => Some(request),
        Err(refusal) => {
            Reply::to(conn, frame).send(Err(refusal));
            None
        }
    });
    sender.send(conn, requests, frames.len(), context);
}

fn decode(frame: &Frame) -> Result<SendRequest<'_, Asker>, Refusal> {
    let code = RequestCode::try_from(frame.code).map_err(|_| Refusal::system("not a send request"))?;
    Ok(SendRequest {
        header: SendHeader::decode(code, &frame.ext)?,
        is_batch: code == RequestCode::SendBatchMessage,
        body: &frame.body,
        client_version: frame.version,
        asker: Asker {
            opaque: frame.opaque,
            encoding: frame.encoding,
            is_oneway: frame.is_oneway(),
        },
    })
}

/// What identifies a request in its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    opaque: i32,
    encoding: Encoding,
    is_oneway: bool,
}

impl SendSink for Arc<Connection> {
    type Asker = Asker;

    fn wants_answer(asker: Asker) -> bool {
        !asker.is_oneway
    }

    fn refuse(&self, asker: Asker, refusal: Refusal) {
        Reply::new(self, asker.opaque, asker.encoding, asker.is_oneway).send(Err(refusal));
    }

    fn answer<'s>(&self, sent: impl Iterator<Item = (Asker, Sent<'s>)>) {
        self.send(|out| encode_all(out.head(), sent, ResponseCode::Success));
    }

    fn answer_later<'s>(
        &self,
        sent: impl Iterator<Item = (Asker, Sent<'s>)> + Clone,
        may_be_late: MayBeLate,
    ) -> impl FnOnce(Ending<'_>) + Send + 'static {
        let conn = Self::clone(self);
        let askers: Vec<Asker> = sent.clone().map(|(asker, _)| asker).collect();
        let mut done = BytesMut::new();
        encode_all(&mut done, sent.clone(), ResponseCode::Success);
        let mut timed_out = BytesMut::new();
        if may_be_late.flush {
            encode_all(&mut timed_out, sent.clone(), ResponseCode::FlushDiskTimeout);
        }
        let mut not_copied = BytesMut::new();
        if may_be_late.slaves {
            encode_all(&mut not_copied, sent, ResponseCode::FlushSlaveTimeout);
        }
        let owed = conn.owe(done.len());
        move |ending| {
            match ending {
                Ending::Done => send_encoded(&conn, &done),
                Ending::TimedOut => send_encoded(&conn, &timed_out),
                Ending::NotCopied => send_encoded(&conn, &not_copied),
                Ending::Failed(reason) => conn.fail(askers.into_iter(), &reason.to_string()),
            }
            drop(owed);
        }
    }

    fn fail(&self, askers: impl Iterator<Item = Asker>, reason: &str) {
        self.send(|out| {
            for asker in askers {
                encode_response_head(
                    out.head(),
                    asker.encoding,
                    asker.opaque,
                    ResponseCode::ServiceNotAvailable,
                    Some(reason),
                    &[],
                    0,
                );
            }
        });
    }
}

fn send_encoded(conn: &Connection, frames: &[u8]) {
    conn.send(|out| out.head().extend_from_slice(frames));
}

fn encode_all<'s>(out: &mut BytesMut, sent: impl Iterator<Item = (Asker, Sent<'s>)>, code: ResponseCode) {
    sent.for_each(|(asker, sent)| encode(out, asker, &sent, code));
}

fn encode(out: &mut BytesMut, asker: Asker, sent: &Sent<'_>, code: ResponseCode) {
    let mut ids = smallvec::SmallVec::<[u8; 64]>::new();
    for (n, placement) in sent.placements.iter().enumerate() {
        if n > 0 {
            ids.push(b',');
        }
        ids.extend_from_slice(id::write_offset_id(&mut [0; id::MAX_LEN], sent.store_host, placement.log_offset));
    }
    let mut fields = smallvec::SmallVec::<[(&str, Value<'_>); 7]>::new();
    fields.extend([
        ("msgId", Value::Text(std::str::from_utf8(&ids).unwrap_or(""))),
        ("queueId", Value::Int(sent.queue_id.into())),
        ("queueOffset", Value::Int(sent.queue_offset)),
        ("MSG_REGION", Value::Text(sent.region)),
        ("TRACE_ON", Value::Text(sent.trace_on)),
    ]);
    if !sent.uniq_key.is_empty() {
        fields.push(("transactionId", Value::Text(sent.uniq_key)));
    }
    fields.extend(sent.recall_handle.as_deref().map(|handle| ("recallHandle", Value::Text(handle))));
    encode_response_head(out, asker.encoding, asker.opaque, code, None, &fields, 0);
}
