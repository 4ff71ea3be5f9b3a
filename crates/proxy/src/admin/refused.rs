//! Errors of operations as refusals of this protocol.

use crate::codes::{Refused, code_of};
use crate::v2::Code;
use ::admin::Error;
use protocol::codes::ResponseCode;

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Call(call) => of_call(call),
            Error::NoCluster { .. } | Error::NoBroker { .. } | Error::NotFound(_) => Code::NotFound,
            Error::Invalid(_) => Code::BadRequest,
            Error::File { .. } | Error::Output(_) | Error::Partly { .. } => Code::InternalServerError,
        };
        let text = match error.advice() {
            Some(advice) => format!("{error}. {advice}"),
            None => error.to_string(),
        };
        Self::new(code, text)
    }
}

impl From<client::Error> for Refused {
    fn from(error: client::Error) -> Self {
        Error::from(error).into()
    }
}

fn of_call(error: &client::Error) -> Code {
    match error {
        client::Error::Unreachable(_) | client::Error::Malformed { .. } | client::Error::TooManyQueues { .. } => Code::InternalServerError,
        client::Error::Unanswered { .. } => Code::ProxyTimeout,
        client::Error::Busy { .. } => Code::TooManyRequests,
        client::Error::NoRoute { .. } => Code::TopicNotFound,
        client::Error::Invalid(_) => Code::BadRequest,
        client::Error::Refused { code, .. } => match ResponseCode::try_from(*code) {
            Ok(ResponseCode::ConsumerNotOnline) => Code::NotFound,
            Ok(ResponseCode::ConsumeMsgTimeout) => Code::ProxyTimeout,
            Ok(code) => code_of(code),
            Err(_) => Code::InternalServerError,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_code_and_advice() {
        let of = |code: ResponseCode| {
            Refused::from(client::Error::Refused {
                address: "h:1".to_owned(),
                request: "R",
                code: code.into(),
                remark: "no".to_owned(),
            })
        };
        assert_eq!(of(ResponseCode::TopicNotExist).code, Code::TopicNotFound);
        assert!(of(ResponseCode::TopicNotExist).text.contains("updateTopic"));
        assert_eq!(of(ResponseCode::SubscriptionGroupNotExist).code, Code::ConsumerGroupNotFound);
        assert_eq!(of(ResponseCode::ConsumeMsgTimeout).code, Code::ProxyTimeout);
        assert_eq!(Refused::from(Error::Invalid("x".to_owned())), Refused::new(Code::BadRequest, "x"));
    }
}
