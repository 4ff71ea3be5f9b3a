//! Responses of handlers, and how they are sent, at once or later.

use crate::errors::Refusal;
use bytes::Bytes;
use message::text;
use net::Connection;
use protocol::codes::ResponseCode;
use protocol::ext::{Ext, Value};
use protocol::frame::{Encoding, Frame, encode_response_head};
use std::sync::Arc;

/// The response to a request that did not fail.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Response code; other than success where a code is a status (pull).
    pub code: ResponseCode,
    /// Text for people.
    pub remark: Option<String>,
    /// Response header fields.
    pub fields: Ext,
    /// Response body.
    pub body: Bytes,
}

impl Answer {
    /// Success without content.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            code: ResponseCode::Success,
            remark: None,
            fields: Ext::new(),
            body: Bytes::new(),
        }
    }

    fn refused(refusal: Refusal) -> Self {
        let answer = Self::ok().code(refusal.code).remark(refusal.text);
        refusal
            .fields
            .iter()
            .fold(answer, |answer, (name, value)| answer.with(name, &**value))
    }

    /// Success with a body.
    pub fn body(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::ok()
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with<'v>(mut self, name: &str, value: impl Into<Value<'v>>) -> Self {
        self.fields.push(name, value);
        self
    }

    /// Sets the code.
    #[must_use]
    pub fn code(mut self, code: ResponseCode) -> Self {
        self.code = code;
        self
    }

    /// Sets the remark.
    #[must_use]
    pub fn remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }
}

/// The result of a handler.
pub type Outcome = Result<Answer, Refusal>;

/// Sends the response to a request. Small, and may be kept until the response is known.
#[derive(Clone)]
pub struct Reply {
    conn: Arc<Connection>,
    opaque: i32,
    encoding: Encoding,
    oneway: bool,
}

impl Reply {
    /// For the response to `request`, which came over `conn`.
    #[must_use]
    pub fn to(conn: &Arc<Connection>, request: &Frame) -> Self {
        Self::new(conn, request.opaque, request.encoding, request.is_oneway())
    }

    /// The same from the parts of the request that the response needs.
    pub(crate) fn new(conn: &Arc<Connection>, opaque: i32, encoding: Encoding, oneway: bool) -> Self {
        Self {
            conn: conn.clone(),
            opaque,
            encoding,
            oneway,
        }
    }

    /// The connection of the request.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.conn
    }

    /// The id that matches the response to its request.
    #[must_use]
    pub fn opaque(&self) -> i32 {
        self.opaque
    }

    /// Encoding of the response header: the same as the request's.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether the request is one-way, so that no response is sent.
    #[must_use]
    pub fn is_oneway(&self) -> bool {
        self.oneway
    }

    /// Responds with an error when dropped, unless [`Unanswered::was_answered`] is called: for threads that catch the panic of one
    /// request.
    #[must_use]
    pub fn unless_answered(self) -> Unanswered {
        Unanswered(Some(self))
    }

    /// Sends the outcome; nothing for a one-way request.
    pub fn send(&self, outcome: Outcome) {
        if self.oneway {
            return;
        }
        let answer = outcome.unwrap_or_else(Answer::refused);
        let mut frame = Frame::request(0);
        frame.opaque = self.opaque;
        frame.encoding = self.encoding;
        let mut response = Frame::response_to(&frame).with_code(answer.code);
        // Remarks repeat names and values of requests, and responses of other clients.
        response.remark = answer.remark.map(|remark| text::brief(&remark).into_owned());
        response.ext = answer.fields;
        response.body = answer.body;
        self.conn.send_frame(&response);
    }

    /// Sends the answer that another broker gave to the request.
    pub(crate) fn pass_on(&self, answer: Frame) {
        if self.oneway {
            return;
        }
        let response = Frame {
            opaque: self.opaque,
            encoding: self.encoding,
            ..answer
        };
        self.conn.send_frame(&response);
    }

    /// Sends records, of `bytes` together, behind a header of these fields.
    pub(crate) fn send_records(&self, code: ResponseCode, remark: &str, fields: &[(&str, Value<'_>)], records: Vec<Bytes>, bytes: usize) {
        self.conn.send_later(|out| {
            encode_response_head(out.head(), self.encoding, self.opaque, code, Some(remark), fields, bytes);
            records.into_iter().for_each(|record| out.body(record));
        });
    }
}

/// See [`Reply::unless_answered`].
pub struct Unanswered(Option<Reply>);

impl Unanswered {
    /// The request was answered; nothing is sent on drop.
    pub fn was_answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply.send(Err(Refusal::system(
                "internal error while handling this request, see the broker's log",
            )));
        }
    }
}
