//! Errors of requests, and the one table from them to response codes.

use config::UpdateRefused;
use protocol::{Frame, HeaderError, JsonError, RequestCode, ResponseCode};

/// Maximum length of a name or an address, bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Why a request fails. The text goes to the client. What the state refuses is in [`crate::replicas::Refusal`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Body(#[from] JsonError),
    #[error("{0} must have 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    Name(&'static str),
    #[error("Please set the option <brokerControllerIdsToClean> according to the format: '{0}' is not a broker id")]
    Ids(String),
    #[error("Heart beat with empty brokerId")]
    NoBrokerId,
    #[error("the heartbeats of {0} brokers are known, as many as apogeeMaxBrokers allows")]
    TooManyBrokers(usize),
    #[error("The controller is not in leader state")]
    NotLeader,
    #[error("no majority of the controllers agreed within {0} ms (apogeeControllerRequestTimeoutMillis)")]
    TimedOut(u128),
    #[error("{0} requests wait, as many as controllerRequestThreadPoolQueueCapacity allows")]
    Busy(usize),
    #[error("a master of {0} is being elected, or its brokers are being removed, or this controller has just begun to lead; ask again")]
    Electing(String),
    #[error("the controller has stopped working: {0}")]
    Stopped(String),
    #[error("{0}")]
    Peer(String),
    #[error("Can not update config in black list. {0}")]
    Fixed(String),
    #[error("{0}")]
    Setting(String),
    #[error(" request type {0} not supported")]
    UnknownCode(i32),
    #[error(" request type {} not supported: {} ({}) is not a controller's", i32::from(*.0), .0.name(), .0.feature())]
    NotServed(RequestCode),
}

impl From<UpdateRefused> for RequestError {
    fn from(refused: UpdateRefused) -> Self {
        match refused {
            UpdateRefused::AtStart(_) => Self::Fixed(refused.to_string()),
            other => Self::Setting(other.to_string()),
        }
    }
}

impl RequestError {
    fn code(&self) -> ResponseCode {
        match self {
            Self::Header(_) | Self::Body(_) | Self::Name(_) | Self::TimedOut(_) | Self::Stopped(_) | Self::Peer(_) | Self::Setting(_) => {
                ResponseCode::SystemError
            }
            Self::Ids(_) => ResponseCode::ControllerInvalidCleanBrokerMetadata,
            Self::NoBrokerId => ResponseCode::ControllerInvalidRequest,
            Self::TooManyBrokers(_) | Self::Busy(_) | Self::Electing(_) => ResponseCode::SystemBusy,
            Self::NotLeader => ResponseCode::ControllerNotLeader,
            Self::Fixed(_) => ResponseCode::NoPermission,
            Self::UnknownCode(_) | Self::NotServed(_) => ResponseCode::RequestCodeNotSupported,
        }
    }

    /// The answer to `request`.
    pub(crate) fn reply(&self, request: &Frame) -> Frame {
        Frame::response_to(request).with_code(self.code()).with_reason(&self.to_string())
    }
}
