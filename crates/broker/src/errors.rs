//! From an error to the answer the client gets: the one table of response codes.

use message::names::NameError;
use protocol::codes::ResponseCode;
use protocol::header::HeaderError;
use protocol::json::JsonError;
use store::{AppendError, StoreError};

/// A request that is not done, with the code and the text the client gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Response code.
    pub code: ResponseCode,
    /// Why, and what can be done; Apache's words where users search for them.
    pub text: String,
    /// Response header fields that come with it.
    pub fields: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal with its text.
    pub fn new(code: ResponseCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            fields: Vec::new(),
        }
    }

    /// With one more header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The request's parameters are wrong (29).
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(ResponseCode::InvalidParameter, text)
    }

    /// What Apache answers with its catch-all code (1).
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(ResponseCode::SystemError, text)
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::system(error.to_string())
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Self::system(error.to_string())
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::TooLarge { .. } => ResponseCode::MessageIllegal,
            AppendError::NotWritable(_) => ResponseCode::ServiceNotAvailable,
            AppendError::QueueRetired { .. } => ResponseCode::TopicNotExist,
            AppendError::Busy(_) => ResponseCode::SystemBusy,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::DiskFull(_) => ResponseCode::ServiceNotAvailable,
            _ => ResponseCode::SystemError,
        };
        Self::new(code, error.to_string())
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::system(format!("request body is not the JSON this request needs: {error}"))
    }
}
