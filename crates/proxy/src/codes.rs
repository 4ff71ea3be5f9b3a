//! Codes of answers: what a refusal of the broker is in this protocol.

use crate::v2::{Code, Status};
use broker::errors::Refusal;
use protocol::codes::ResponseCode;

/// Why a request is refused: a code and a text that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Refused {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::new(code_of(refusal.code), refusal.text)
    }
}

/// What a code of the remoting protocol is in this one.
pub(crate) fn code_of(code: ResponseCode) -> Code {
    match code {
        ResponseCode::SystemBusy | ResponseCode::PollingFull => Code::TooManyRequests,
        ResponseCode::RequestCodeNotSupported => Code::NotImplemented,
        ResponseCode::SubscriptionGroupNotExist => Code::ConsumerGroupNotFound,
        ResponseCode::TopicNotExist => Code::TopicNotFound,
        ResponseCode::NoPermission => Code::Forbidden,
        ResponseCode::InvalidParameter | ResponseCode::IllegalOperation => Code::BadRequest,
        ResponseCode::MessageIllegal => Code::MessageCorrupted,
        ResponseCode::SubscriptionParseFailed => Code::IllegalFilterExpression,
        ResponseCode::QueryNotFound => Code::OffsetNotFound,
        ResponseCode::PollingTimeout => Code::RequestTimeout,
        ResponseCode::FlushDiskTimeout => Code::MasterPersistenceTimeout,
        ResponseCode::NoMessage => Code::MessageNotFound,
        ResponseCode::LmqQuotaExceeded => Code::LiteTopicQuotaExceeded,
        ResponseCode::LiteSubscriptionQuotaExceeded => Code::LiteSubscriptionQuotaExceeded,
        _ => Code::InternalServerError,
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Self {
            code: refused.code.into(),
            message: refused.text,
        }
    }
}

/// Success.
pub(crate) fn ok() -> Status {
    Status {
        code: Code::Ok.into(),
        message: "OK".to_owned(),
    }
}

/// The status of an answer with several outcomes.
pub(crate) fn of_all<'a>(statuses: impl Iterator<Item = Option<&'a Status>>) -> Status {
    let mut statuses = statuses.flatten();
    let Some(first) = statuses.next() else {
        return Refused::new(Code::InternalServerError, "there is no result").into();
    };
    if statuses.all(|status| status.code == first.code) {
        // Some clients show no other text.
        return first.clone();
    }
    Status {
        code: Code::MultipleResults.into(),
        message: Code::MultipleResults.as_str_name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_outcomes_have_one_status() {
        let of = |codes: &[Code]| {
            let statuses: Vec<Status> = codes.iter().map(|code| Refused::new(*code, "").into()).collect();
            of_all(statuses.iter().map(Some)).code()
        };
        assert_eq!(of(&[Code::Ok, Code::Ok]), Code::Ok);
        assert_eq!(of(&[Code::TopicNotFound; 2]), Code::TopicNotFound);
        assert_eq!(of(&[Code::Ok, Code::TopicNotFound]), Code::MultipleResults);
        assert_eq!(of(&[]), Code::InternalServerError);
    }
}
