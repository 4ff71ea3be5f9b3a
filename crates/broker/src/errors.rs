//! From an error to the answer the client gets: the one table of response codes.

use message::names::NameError;
use net::jobs::Busy;
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

    /// A filter that is not there: Apache's words and code for a broker whose setting forbids it, and the reason, which is another here.
    pub fn filter(kind: &str) -> Self {
        let why = match kind {
            "SQL92" => ": SQL filters are not in this version of ApogeeMQ, whatever enablePropertyFilter says",
            _ => "",
        };
        Self::system(format!("The broker does not support consumer to filter message by {kind}{why}"))
    }

    /// What Apache answers with its catch-all code (1).
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(ResponseCode::SystemError, text)
    }
}

/// Checks the length of a name that is kept; `what` it is stands in the text.
///
/// # Errors
/// It has more than `max` bytes (29).
pub(crate) fn check_length(what: &str, name: &str, max: usize) -> Result<(), Refusal> {
    if name.len() <= max {
        return Ok(());
    }
    Err(Refusal::invalid(format!("a {what} has {} bytes, the limit is {max}", name.len())))
}

/// The verb that goes with the name of a feature.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_agree_in_number_with_what_they_name() {
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
    fn sql_is_refused_because_it_is_not_here_and_not_because_of_a_setting() {
        let refusal = Refusal::filter("SQL92");
        assert_eq!(refusal.code, ResponseCode::SystemError);
        assert!(
            refusal
                .text
                .starts_with("The broker does not support consumer to filter message by SQL92: SQL filters are not in this version")
        );
        assert_eq!(
            Refusal::filter("XYZ").text,
            "The broker does not support consumer to filter message by XYZ"
        );
    }
}
