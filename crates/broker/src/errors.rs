//! Converts errors to response codes; no other module does.

use crate::logical_queue::NotLeader;
use message::names::NameError;
use net::jobs::Busy;
use protocol::codes::ResponseCode;
use protocol::header::HeaderError;
use protocol::json::JsonError;
use store::{AppendError, StoreError};

/// Why a request failed: the code and remark of the response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Response code.
    pub code: ResponseCode,
    /// The remark: the reason and what to do; in Apache's words where users search for them.
    pub text: String,
    /// Response header fields.
    pub fields: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal with this code and remark.
    pub fn new(code: ResponseCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            fields: Vec::new(),
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// An invalid parameter (29).
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(ResponseCode::InvalidParameter, text)
    }

    /// A filter that `enablePropertyFilter` forbids, or of a type that does not exist: Apache's remark and code.
    pub fn filter(kind: &str) -> Self {
        let why = match kind {
            "SQL92" => ": enablePropertyFilter is false",
            _ => "",
        };
        Self::system(format!("The broker does not support consumer to filter message by {kind}{why}"))
    }

    /// A refusal with Apache's catch-all code (1).
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(ResponseCode::SystemError, text)
    }
}

/// Checks the length of a name that the broker stores; `what` names it in the remark.
///
/// # Errors
/// `InvalidParameter` (29) if it has more than `max` bytes.
pub(crate) fn check_length(what: &str, name: &str, max: usize) -> Result<(), Refusal> {
    if name.len() <= max {
        return Ok(());
    }
    Err(Refusal::invalid(format!("a {what} has {} bytes, the limit is {max}", name.len())))
}

/// "is" or "are", for a sentence about the feature.
pub(crate) fn is_or_are(feature: &str) -> &'static str {
    let head = feature.split(" of ").next().unwrap_or(feature);
    if head.ends_with('s') || head.contains(" and ") {
        "are"
    } else {
        "is"
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

impl From<Busy> for Refusal {
    fn from(error: Busy) -> Self {
        Self::new(ResponseCode::SystemBusy, error.to_string())
    }
}

impl From<NotLeader> for Refusal {
    fn from(error: NotLeader) -> Self {
        Self::new(ResponseCode::NotLeaderForQueue, error.to_string())
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
        Self::system(format!("the request body is not valid JSON for this request: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_or_are_agrees_with_the_feature() {
        for feature in [
            "transactions",
            "static topics",
            "timer messages",
            "authentication and ACL",
            "light message queues",
        ] {
            assert_eq!(is_or_are(feature), "are", "{feature}");
        }
        for feature in [
            "POP consumption",
            "replication",
            "recall of delayed messages",
            "RocksDB storage",
            "cleaning of expired files",
            "a feature RocketMQ itself removed",
            "ACL 1.0 (removed in RocketMQ 5.3.3)",
        ] {
            assert_eq!(is_or_are(feature), "is", "{feature}");
        }
    }

    #[test]
    fn a_filter_that_a_setting_forbids_is_refused_with_the_setting() {
        let refusal = Refusal::filter("SQL92");
        assert_eq!(refusal.code, ResponseCode::SystemError);
        assert_eq!(
            refusal.text,
            "The broker does not support consumer to filter message by SQL92: enablePropertyFilter is false"
        );
        assert_eq!(
            Refusal::filter("XYZ").text,
            "The broker does not support consumer to filter message by XYZ"
        );
    }
}
