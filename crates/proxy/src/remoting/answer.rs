//! Answers to a client: what a broker answered, why nobody did, or one answer for several brokers.

use super::session::Pending;
use net::{Owed, RequestError};
use parking_lot::Mutex;
use protocol::frame::Encoding;
use protocol::heartbeat::{SUB_CHANGE, SUPPORTS_V2};
use protocol::{Frame, ResponseCode};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer of all brokers waits for those that are slower than the first.
///
/// Compat: clients wait 3 s for the answer to a heartbeat.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Why no broker has answered a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unserved {
    code: ResponseCode,
    text: String,
}

impl Unserved {
    pub(super) fn new(code: ResponseCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The request was not sent. Clients try another broker, or again.
    pub(super) fn unreachable(text: impl Into<String>) -> Self {
        Self::new(ResponseCode::ServiceNotAvailable, text)
    }

    /// A limit is reached; the request was not sent.
    pub(super) fn busy(text: impl Into<String>) -> Self {
        Self::new(ResponseCode::SystemBusy, text)
    }

    /// How a request to a broker ended without an answer.
    pub(super) fn of(broker: &str, error: RequestError) -> Self {
        match error {
            RequestError::Closed => Self::unreachable(format!(
                "the connection of the proxy to broker {broker} closed before it answered; it may have executed the request"
            )),
            RequestError::TimedOut => Self::new(
                ResponseCode::SystemError,
                format!(
                    "broker {broker} did not answer in time (apogeeProxyRemotingRequestTimeoutMillis); it may have executed the request"
                ),
            ),
            RequestError::TooMany => Self::busy(format!(
                "broker {broker} has too many requests of this connection (apogeeProxyRemotingMaxPendingRequests)"
            )),
            RequestError::OpaqueInUse => Self::new(ResponseCode::SystemError, error.to_string()),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The answer to a request with this opaque.
    pub(super) fn frame(&self, opaque: i32, encoding: Encoding) -> Frame {
        let request = Frame {
            opaque,
            encoding,
            ..Frame::request(0)
        };
        Frame::response_to(&request).with_code(self.code).with_reason(&self.text)
    }
}

/// A request of a client that will be answered.
pub(super) struct Asked {
    pending: Pending,
    opaque: i32,
    encoding: Encoding,
    /// The end of the proxy waits for the answer.
    _owed: Option<Owed>,
}

impl Asked {
    /// `owed`: see [`net::Connection::owe`].
    pub(super) fn new(pending: Pending, request: &Frame, owed: Option<Owed>) -> Self {
        Self {
            pending,
            opaque: request.opaque,
            encoding: request.encoding,
            _owed: owed,
        }
    }

    /// Sends the answer, under the opaque of the request.
    pub(super) fn end(self, outcome: Result<Frame, Unserved>) {
        let client = self.pending.session().client();
        // A client that is gone gets nothing.
        let _ = match outcome {
            Ok(answer) if answer.encoding == self.encoding => client.send_later(|out| out.forwarded(&answer, self.opaque)),
            Ok(answer) => {
                let answer = Frame {
                    opaque: self.opaque,
                    encoding: self.encoding,
                    ..answer
                };
                client.send_later(|out| out.frame(&answer))
            }
            Err(unserved) => client.send_later(|out| out.frame(&unserved.frame(self.opaque, self.encoding))),
        };
    }
}

/// Who gets the outcome of a request that was passed on.
pub(super) enum Reply {
    /// The client.
    Client(Asked),
    /// An answer for several brokers.
    Part(Arc<Gather>),
}

impl Reply {
    pub(super) fn end(self, outcome: Result<Frame, Unserved>) {
        match self {
            Self::Client(asked) => asked.end(outcome),
            Self::Part(gather) => gather.part(outcome),
        }
    }
}

/// One answer for several brokers.
pub(super) struct Gather(Mutex<State>);

struct State {
    /// None when it is answered.
    asked: Option<Asked>,
    missing: usize,
    /// The best answer of success.
    best: Option<Frame>,
    /// What the first broker without success answered.
    failure: Option<Result<Frame, Unserved>>,
    /// The version of the heartbeat, if that is what was asked.
    version: Option<u64>,
}

impl Gather {
    /// Of so many brokers, at least one. `version`: that of the heartbeat, if it is one.
    pub(super) fn new(asked: Asked, brokers: usize, version: Option<u64>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            asked: Some(asked),
            missing: brokers,
            best: None,
            failure: None,
            version,
        })))
    }

    fn part(&self, outcome: Result<Frame, Unserved>) {
        let mut state = self.0.lock();
        state.missing = state.missing.saturating_sub(1);
        match outcome {
            Ok(answer) if answer.code == i32::from(ResponseCode::Success) => {
                if state.best.as_ref().is_none_or(|best| needs_more(&answer) > needs_more(best)) {
                    state.best = Some(answer);
                }
            }
            failure => {
                if let Err(unserved) = &failure {
                    tracing::debug!(reason = unserved.text, "a broker did not take what all have to know");
                }
                state.failure.get_or_insert(failure);
            }
        }
        if state.missing == 0 {
            end(state);
        }
    }

    /// Answers after [`PATIENCE`] what is known then, if a broker has answered with success.
    pub(super) async fn hurry(self: Arc<Self>) {
        tokio::time::sleep(PATIENCE).await;
        let state = self.0.lock();
        if state.best.is_some() {
            end(state);
        }
    }
}

/// Sends the answer, without the lock.
fn end(mut state: parking_lot::MutexGuard<'_, State>) {
    let Some(asked) = state.asked.take() else { return };
    let version = state.version;
    let outcome = match state.best.take() {
        Some(best) => {
            if let Some(version) = version {
                asked.pending.session().heartbeat().lock().keep_answer(version, &best);
            }
            Ok(best)
        }
        None => state
            .failure
            .take()
            .unwrap_or_else(|| Err(Unserved::unreachable("no broker answered"))),
    };
    drop(state);
    asked.end(outcome);
}

/// How much an answer to a heartbeat asks of the client: most if it has to send all of its data again, then if it must not leave data out.
fn needs_more(answer: &Frame) -> u8 {
    if answer.ext.bool(SUB_CHANGE) == Some(true) {
        return 2;
    }
    u8::from(answer.ext.bool(SUPPORTS_V2) != Some(true))
}
