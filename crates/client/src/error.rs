//! Why a call failed, by what the caller will do about it.

use std::io;

use crate::route::MAX_QUEUES;
use message::RecordError;
use net::RequestError;
use protocol::{Frame, HeaderError, JsonError, RequestCode, ResponseCode};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, so nothing was sent: try another address, or later.
    #[error("{0}")]
    Unreachable(#[source] io::Error),
    /// Sent, but not answered: it may or may not have happened, and repeating may do it twice.
    #[error("{address} did not answer {request}: {reason}")]
    Unanswered {
        /// Who.
        address: String,
        /// What was asked, as Apache names it.
        request: &'static str,
        /// Why there is no answer.
        reason: RequestError,
    },
    /// Not done, but may be soon: slow down and repeat, or go to another broker.
    #[error("{address} is busy: {remark}")]
    Busy {
        /// Who.
        address: String,
        /// What it said.
        remark: String,
    },
    /// The topic has no queue that would do: create it, or check its permissions and its brokers.
    #[error("topic {topic}: {reason}")]
    NoRoute {
        /// The topic.
        topic: String,
        /// What is missing.
        reason: String,
    },
    /// A route with more queues than a client takes: whoever registered the broker said so.
    #[error(
        "topic {topic}: broker {broker} registered {read} read and {write} write queues; at most {MAX_QUEUES} on all brokers are taken"
    )]
    TooManyQueues {
        /// The topic.
        topic: String,
        /// The broker whose queues are too many, or one too many.
        broker: String,
        /// Its queues to read.
        read: i32,
        /// Its queues to write.
        write: i32,
    },
    /// Refused: the same request will be refused again.
    #[error("{address} refused {request} with {}: {remark}", code_name(*code))]
    Refused {
        /// Who.
        address: String,
        /// What was asked, as Apache names it.
        request: &'static str,
        /// The response code.
        code: i32,
        /// What it said.
        remark: String,
    },
    /// An answer that is not of this protocol: report it.
    #[error("{address} sent what cannot be understood: {what}")]
    Garbled {
        /// Who.
        address: String,
        /// What is wrong.
        what: String,
    },
    /// The caller's own mistake, noticed before anything was sent.
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

    /// An answer of `address` as the error that its code means.
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
            RequestError::TooMany => Self::Busy {
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

/// What turns a decoder's complaint into [`Error::Garbled`].
pub(crate) trait Understood<T> {
    fn understood(self, address: &str) -> Result<T, Error>;
}

macro_rules! understood {
    ($($complaint:ty)*) => {$(
        impl<T> Understood<T> for Result<T, $complaint> {
            fn understood(self, address: &str) -> Result<T, Error> {
                self.map_err(|error| Error::Garbled { address: address.to_owned(), what: error.to_string() })
            }
        }
    )*};
}
understood!(HeaderError JsonError RecordError);

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
    fn an_answer_is_the_error_its_code_means() {
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
    fn too_many_requests_are_the_same_as_a_busy_broker() {
        assert!(matches!(Error::unanswered("a:1", 10, RequestError::TooMany), Error::Busy { .. }));
        assert!(matches!(
            Error::unanswered("a:1", 10, RequestError::Closed),
            Error::Unanswered { .. }
        ));
    }
}
