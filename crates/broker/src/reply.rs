//! What a handler answers, and how an answer reaches the client now or later.

use crate::errors::Refusal;
use bytes::Bytes;
use message::text;
use net::Connection;
use protocol::codes::ResponseCode;
use protocol::ext::{Ext, Value};
use protocol::frame::{Encoding, Frame};
use std::sync::Arc;

/// The answer to a request that was done.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Response code; success unless a status is an answer too (pull).
    pub code: ResponseCode,
    /// Text for people.
    pub remark: Option<String>,
    /// Response header fields.
    pub fields: Ext,
    /// Response body.
    pub body: Bytes,
}

impl Answer {
    /// Success with nothing to say.
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

    /// With one more header field.
    #[must_use]
    pub fn with<'v>(mut self, name: &str, value: impl Into<Value<'v>>) -> Self {
        self.fields.push(name, value);
        self
    }

    /// With another code.
    #[must_use]
    pub fn code(mut self, code: ResponseCode) -> Self {
        self.code = code;
        self
    }

    /// With a text for people.
    #[must_use]
    pub fn remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }
}

/// What handlers return.
pub type Outcome = Result<Answer, Refusal>;

/// Where an answer goes. Small, and may be kept for as long as the answer takes.
#[derive(Clone)]
pub struct Reply {
    conn: Arc<Connection>,
    opaque: i32,
    encoding: Encoding,
    oneway: bool,
}

impl Reply {
    /// The place for the answer to `request`, which came over `conn`.
    #[must_use]
    pub fn to(conn: &Arc<Connection>, request: &Frame) -> Self {
        Self::new(conn, request.opaque, request.encoding, request.is_oneway())
    }

    /// The same for a request of which no more is left than its answer needs.
    pub(crate) fn new(conn: &Arc<Connection>, opaque: i32, encoding: Encoding, oneway: bool) -> Self {
        Self {
            conn: conn.clone(),
            opaque,
            encoding,
            oneway,
        }
    }

    /// The connection the request came over.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.conn
    }

    /// The number that ties the answer to its request.
    #[must_use]
    pub fn opaque(&self) -> i32 {
        self.opaque
    }

    /// How the answer's header is encoded: as the request's was.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether nobody waits for an answer.
    #[must_use]
    pub fn is_oneway(&self) -> bool {
        self.oneway
    }

    /// Answers that the broker failed, unless [`Unanswered::was_answered`] is called: for a thread whose panic ends the request only.
    #[must_use]
    pub fn unless_answered(self) -> Unanswered {
        Unanswered(Some(self))
    }

    /// Sends the outcome. Nothing is sent for a one-way request.
    pub fn send(&self, outcome: Outcome) {
        if self.oneway {
            return;
        }
        let answer = outcome.unwrap_or_else(Answer::refused);
        let mut frame = Frame::request(0);
        frame.opaque = self.opaque;
        frame.encoding = self.encoding;
        let mut response = Frame::response_to(&frame).with_code(answer.code);
        // It repeats names and values of requests, and what other clients answered.
        response.remark = answer.remark.map(|remark| text::brief(&remark).into_owned());
        response.ext = answer.fields;
        response.body = answer.body;
        self.conn.send_frame(&response);
    }
}

/// See [`Reply::unless_answered`].
pub struct Unanswered(Option<Reply>);

impl Unanswered {
    /// Nothing more is to be said.
    pub fn was_answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply.send(Err(Refusal::system(
                "the broker failed while it served this request, its log says where",
            )));
        }
    }
}
