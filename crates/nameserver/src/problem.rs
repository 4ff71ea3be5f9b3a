//! Everything that can be wrong with a request, and the one table from there to response codes and texts.

use protocol::register::RegisterError;
use protocol::{Frame, HeaderError, JsonError, RequestCode, ResponseCode};

use crate::kv::KvError;
use crate::routes::Refused;

/// Why a request is not answered with success. The text goes to the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Body(#[from] JsonError),
    #[error(transparent)]
    Registration(#[from] RegisterError),
    #[error("crc32 not match")]
    Checksum,
    #[error(transparent)]
    Refused(#[from] Refused),
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

impl Problem {
    fn code(&self) -> ResponseCode {
        match self {
            Self::Header(_)
            | Self::Body(_)
            | Self::Registration(_)
            | Self::Checksum
            | Self::Refused(_)
            | Self::Kv(_)
            | Self::NotReady
            | Self::Disabled
            | Self::Setting(_) => ResponseCode::SystemError,
            Self::NoRoute(_) => ResponseCode::TopicNotExist,
            Self::NoKey { .. } | Self::NoNamespace(_) => ResponseCode::QueryNotFound,
            Self::Fixed(_) => ResponseCode::NoPermission,
            Self::UnknownCode(_) | Self::NotServed(_) => ResponseCode::RequestCodeNotSupported,
        }
    }

    /// The answer to `request`.
    pub(crate) fn reply(&self, request: &Frame) -> Frame {
        Frame::response_to(request).with_code(self.code()).with_reason(&self.to_string())
    }
}
