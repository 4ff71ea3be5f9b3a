//! Errors of calls, by what the caller can do about them.

use std::io;

use crate::route::MAX_QUEUES;
use message::RecordError;
use net::RequestError;
use protocol::{Frame, HeaderError, JsonError, RequestCode, ResponseCode};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, so nothing was sent: try another address, or retry later.
    #[error("{0}")]
    Unreachable(#[source] io::Error),
    /// Sent, but not answered: it may have been executed, and a retry may execute it twice.
    #[error("{address} did not answer {request}: {reason}")]
    Unanswered {
        /// Address of the server.
        address: String,
        /// Apache's name of the request code.
        request: &'static str,
        /// Why there is no answer.
        reason: RequestError,
    },
    /// Refused for now: slow down and retry, or use another broker.
    #[error("{address} is busy: {remark}")]
    Busy {
        /// Address of the server.
        address: String,
        /// The remark of the answer.
        remark: String,
    },
    /// The topic has no suitable queue: create it, or check its permissions and its brokers.
    #[error("topic {topic}: {reason}")]
    NoRoute {
        /// The topic.
        topic: String,
        /// What is missing.
        reason: String,
    },
    /// A route with more queues than a client accepts. The registration of the broker is wrong.
    #[error(
        "topic {topic}: broker {broker} registered {read} read and {write} write queues; at most {MAX_QUEUES} on all brokers are accepted"
    )]
    TooManyQueues {
        /// The topic.
        topic: String,
        /// The broker with which the limit is exceeded.
        broker: String,
        /// Number of its read queues.
        read: i32,
        /// Number of its write queues.
        write: i32,
    },
    /// Refused: a retry will be refused, too.
    #[error("{address} refused {request} with {}: {remark}", code_name(*code))]
    Refused {
        /// Address of the server.
        address: String,
        /// Apache's name of the request code.
        request: &'static str,
        /// The response code.
        code: i32,
        /// The remark of the answer.
        remark: String,
    },
    /// An answer that does not follow the protocol: report it.
    #[error("{address} sent a malformed answer: {what}")]
    Malformed {
        /// Address of the server.
        address: String,
        /// What is wrong.
        what: String,
    },
    /// An invalid argument, detected before anything was sent.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The response code of a refusal.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The error for the code of an answer of `address`.
    pub(crate) fn of(address: &str, request: i32, answer: &Frame) -> Self {
        let (address, remark) = (address.to_owned(), answer.remark.clone().unwrap_or_default());
        match ResponseCode::try_from(answer.code) {
            Ok(ResponseCode::SystemBusy | ResponseCode::ServiceNotAvailable) => Self::Busy { address, remark },
            _ => Self::Refused {
                address,
                request: request_name(request),
                code: answer.code,
                remark,
            },
        }
    }

    pub(crate) fn unanswered(address: &str, request: i32, reason: RequestError) -> Self {
        match reason {
            RequestError::TooMany | RequestError::OpaqueInUse => Self::Busy {
                address: address.to_owned(),
                remark: reason.to_string(),
            },
            RequestError::Closed | RequestError::TimedOut => Self::Unanswered {
                address: address.to_owned(),
                request: request_name(request),
                reason,
            },
        }
    }
}

/// Turns an error of a decoder into [`Error::Malformed`].
pub(crate) trait OrMalformed<T> {
    fn or_malformed(self, address: &str) -> Result<T, Error>;
}

macro_rules! or_malformed {
    ($($error:ty)*) => {$(
        impl<T> OrMalformed<T> for Result<T, $error> {
            fn or_malformed(self, address: &str) -> Result<T, Error> {
                self.map_err(|error| Error::Malformed { address: address.to_owned(), what: error.to_string() })
            }
        }
    )*};
}
or_malformed!(HeaderError JsonError RecordError);

fn request_name(code: i32) -> &'static str {
    RequestCode::try_from(code).map_or("a request", RequestCode::name)
}

fn code_name(code: i32) -> String {
    ResponseCode::try_from(code).map_or_else(|_| format!("code {code}"), |known| format!("{} ({code})", known.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_the_error_of_its_code() {
        let asked = RequestCode::SendMessageV2.into();
        let busy = Frame::request(ResponseCode::SystemBusy).with_remark("later");
        assert!(matches!(Error::of("a:1", asked, &busy), Error::Busy { .. }));
        let refused = Error::of("a:1", asked, &Frame::request(ResponseCode::NoPermission).with_remark("no"));
        assert_eq!(refused.code(), Some(16));
        assert_eq!(refused.to_string(), "a:1 refused SEND_MESSAGE_V2 with NO_PERMISSION (16): no");
        assert_eq!(
            Error::of("a:1", -5, &Frame::request(9999)).to_string(),
            "a:1 refused a request with code 9999: "
        );
    }

    #[test]
    fn too_many_requests_in_flight_are_busy() {
        assert!(matches!(Error::unanswered("a:1", 10, RequestError::TooMany), Error::Busy { .. }));
        assert!(matches!(
            Error::unanswered("a:1", 10, RequestError::Closed),
            Error::Unanswered { .. }
        ));
    }
}
