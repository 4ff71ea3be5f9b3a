//! Errors of requests, and the one table from them to response codes and texts.

use net::jobs::Busy;
use protocol::register::RegisterError;
use protocol::{Frame, HeaderError, JsonError, RequestCode, ResponseCode};

use crate::kv::KvError;
use crate::names::{MAX_NAME_BYTES, truncated};
use crate::routes::{LeftOut, Refused};

/// Why a request fails. The text goes to the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Body(#[from] JsonError),
    #[error(transparent)]
    Registration(#[from] RegisterError),
    #[error("crc32 not match")]
    Checksum,
    #[error("{0} must have 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    Name(&'static str),
    #[error("a data version has {0} bytes, at most 4096 are allowed")]
    VersionTooLong(usize),
    #[error("brokerId {0} must not be negative")]
    BrokerId(i64),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("register broker failed: {0}")]
    LeftOut(#[from] LeftOut),
    #[error(
        "register broker failed for {count} of the topics, the first is '{first}': a name must have 1 to {MAX_NAME_BYTES} bytes and no control characters"
    )]
    TopicNames { count: usize, first: String },
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("the answer has {bytes} bytes, a frame holds {max} (com.rocketmq.remoting.frameMaxLength): {instead}")]
    TooLarge { bytes: usize, max: usize, instead: &'static str },
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error("name server not ready")]
    NotReady,
    #[error("disable")]
    Disabled,
    #[error("No topic route info in name server for the topic: {0}")]
    NoRoute(String),
    #[error("No config item, Namespace: {namespace} Key: {key}")]
    NoKey { namespace: String, key: String },
    #[error("No config item, Namespace: {0}")]
    NoNamespace(String),
    #[error("Can not update config in black list. {0}")]
    Fixed(String),
    #[error("{0}")]
    Setting(String),
    #[error(" request type {0} not supported")]
    UnknownCode(i32),
    #[error(" request type {} not supported: {} ({}) is not a name server's", i32::from(*.0), .0.name(), .0.feature())]
    NotServed(RequestCode),
}

impl RequestError {
    fn code(&self) -> ResponseCode {
        match self {
            Self::Header(_)
            | Self::Body(_)
            | Self::Registration(_)
            | Self::Checksum
            | Self::Name(_)
            | Self::BrokerId(_)
            | Self::VersionTooLong(_)
            | Self::Refused(_)
            | Self::LeftOut(_)
            | Self::TopicNames { .. }
            | Self::TooLarge { .. }
            | Self::Kv(_)
            | Self::NotReady
            | Self::Disabled
            | Self::Setting(_) => ResponseCode::SystemError,
            Self::Busy(_) => ResponseCode::SystemBusy,
            Self::NoRoute(_) => ResponseCode::TopicNotExist,
            Self::NoKey { .. } | Self::NoNamespace(_) => ResponseCode::QueryNotFound,
            Self::Fixed(_) => ResponseCode::NoPermission,
            Self::UnknownCode(_) | Self::NotServed(_) => ResponseCode::RequestCodeNotSupported,
        }
    }

    /// No route for a topic, whose name is cut to its maximum length.
    pub(crate) fn no_route(topic: &str) -> Self {
        Self::NoRoute(truncated(topic).to_owned())
    }

    /// The answer to `request`.
    pub(crate) fn reply(&self, request: &Frame) -> Frame {
        self.fill(Frame::response_to(request))
    }

    /// Puts code and text into an empty answer.
    pub(crate) fn fill(&self, answer: Frame) -> Frame {
        answer.with_code(self.code()).with_reason(&self.to_string())
    }
}
