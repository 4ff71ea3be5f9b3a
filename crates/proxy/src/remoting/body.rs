//! Requests that name their broker in the body.

use super::codes::Way;
use protocol::lock::LockBatchBody;
use protocol::pop::BatchAckBody;
use protocol::{Frame, json};

/// The broker in the body of a request; `None` if it names none.
///
/// # Errors
/// What is wrong with the body, for the client.
pub(super) fn broker_of(way: Way, request: &Frame) -> Result<Option<String>, String> {
    match way {
        Way::Queues => of_queues(request),
        _ => of_acks(request),
    }
}

fn of_queues(request: &Frame) -> Result<Option<String>, String> {
    let body: LockBatchBody = json::read(&request.body).map_err(|error| format!("malformed body: {error}"))?;
    let mut names = body.queues.into_iter().map(|queue| queue.broker_name);
    let Some(first) = names.next() else { return Ok(None) };
    if names.any(|name| name != first) {
        return Err("the queues are of several brokers: send one request to each".to_owned());
    }
    Ok(Some(first))
}

fn of_acks(request: &Frame) -> Result<Option<String>, String> {
    let named = request.ext.text("bname").filter(|name| !name.is_empty());
    if let Some(name) = named {
        return Ok(Some(name.to_owned()));
    }
    let body: BatchAckBody = json::read(&request.body).map_err(|error| format!("malformed body: {error}"))?;
    Ok(body.broker_name.filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::RequestCode;

    fn of(way: Way, body: &'static str) -> Result<Option<String>, String> {
        broker_of(way, &Frame::request(RequestCode::LockBatchMq).with_body(body))
    }

    #[test]
    fn the_broker_of_queues_and_acknowledgements_is_in_the_body() {
        let queues = r#"{"mqSet":[{"brokerName":"b","queueId":0,"topic":"t"},{"brokerName":"b","queueId":1,"topic":"t"}]}"#;
        assert_eq!(of(Way::Queues, queues), Ok(Some("b".to_owned())));
        assert_eq!(of(Way::Queues, r#"{"mqSet":[]}"#), Ok(None));
        assert!(of(Way::Queues, r#"{"mqSet":[{"brokerName":"a"},{"brokerName":"b"}]}"#).is_err());
        assert!(of(Way::Queues, "nonsense").is_err());
        assert_eq!(of(Way::Acks, r#"{"brokerName":"b","acks":[]}"#), Ok(Some("b".to_owned())));
        assert_eq!(of(Way::Acks, r#"{"acks":[]}"#), Ok(None));
    }
}
