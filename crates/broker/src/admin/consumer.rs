//! Codes 307, 309 and 223: requests of operators that the broker forwards to consumers. The response is sent later.

use crate::clients::Consumers;
use crate::clients::table::{Channel, ClientCallError, Member, check_forwarded};
use crate::errors::Refusal;
use crate::group::Groups;
use crate::queues::Log;
use crate::reply::{Answer, Outcome};
use crate::topic::Topics;
use message::id;
use net::RequestError;
use parking_lot::Mutex;
use protocol::diagnose::{ConsumeDirectlyHeader, ConsumerRunningInfoHeader};
use protocol::reset::{ConsumerStatusBody, ConsumerStatusHeader, OffsetsByQueue};
use protocol::{Frame, RequestCode, ResponseCode, json};
use std::sync::Arc;
use std::time::Duration;

/// Timeout of a consumer's response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a consumer's offsets.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit of the bytes of all members' responses together: they are kept until the last one arrived.
const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// Code 307: the state of a consumer. `done` is called once, possibly on another thread.
pub fn running_info<C: Channel>(request: &Frame, consumers: &Consumers<C>, done: impl FnOnce(Outcome) + Send + 'static) {
    let header = ConsumerRunningInfoHeader::decode(&request.ext);
    match header.map_err(Refusal::from) {
        Ok(header) => forward(request, consumers, header.consumer_group, header.client_id, done),
        Err(refusal) => done(Err(refusal)),
    }
}

/// The tables for 309.
#[derive(Clone, Copy)]
pub struct DirectConsumption<'a> {
    /// Access to the message.
    pub log: &'a dyn Log,
    /// For the topic's flags.
    pub topics: &'a Topics,
    /// For the group's flags.
    pub groups: &'a Groups,
    /// Name of this broker.
    pub broker: &'a str,
}

/// Code 309: has a consumer consume one message now. `done` is called once, possibly on another thread.
pub fn consume_directly<C: Channel>(
    request: &Frame,
    consumers: &Consumers<C>,
    tables: &DirectConsumption<'_>,
    done: impl FnOnce(Outcome) + Send + 'static,
) {
    match with_message(request, tables) {
        Ok((frame, group, client)) => forward(&frame, consumers, &group, &client, done),
        Err(refusal) => done(Err(refusal)),
    }
}

/// The request tables the message as its body, the group and the client id.
fn with_message(request: &Frame, tables: &DirectConsumption<'_>) -> Result<(Frame, String, String), Refusal> {
    let header = ConsumeDirectlyHeader::decode(&request.ext)?;
    let client = header
        .client_id
        .ok_or_else(|| Refusal::system("request header field clientId is missing"))?;
    let msg_id = header.msg_id.unwrap_or_default();
    let (_, offset) = id::parse_offset_id(msg_id).ok_or_else(|| Refusal::invalid(format!("msgId {msg_id} is not a message id")))?;
    let mut frame = request.clone();
    frame.body = tables.log.record(offset.0)?;
    frame.ext.push("brokerName", tables.broker);
    if let Some(topic) = header.topic.and_then(|topic| tables.topics.find(topic)) {
        frame.ext.push("topicSysFlag", topic.sys_flag);
    }
    if let Some(rule) = tables.groups.find(header.consumer_group) {
        frame.ext.push("groupSysFlag", rule.group_sys_flag);
    }
    let (group, client) = (header.consumer_group.to_owned(), client.to_owned());
    Ok((frame, group, client))
}

/// Forwards a request to a member of a group, and its response back, unchanged. Both are limited in size.
fn forward<C: Channel>(request: &Frame, consumers: &Consumers<C>, group: &str, client: &str, done: impl FnOnce(Outcome) + Send + 'static) {
    let Some(member) = consumers.find(group, client) else {
        return done(Err(Refusal::system(format!("The Consumer <{group}> <{client}> not online"))));
    };
    let mut frame = Frame::request(request.code);
    frame.ext = request.ext.clone();
    frame.body = request.body.clone();
    let consumer = format!("<{group}> <{client}>");
    member
        .channel
        .call(frame, TIMEOUT, Box::new(move |result| done(to_outcome(result, &consumer))));
}

fn to_outcome(result: Result<Frame, ClientCallError>, consumer: &str) -> Outcome {
    match result {
        Ok(frame) => {
            check_forwarded(&frame).map_err(|error| Refusal::system(format!("the response of consumer {consumer} is {error}")))?;
            Ok(Answer {
                code: ResponseCode::try_from(frame.code).unwrap_or(ResponseCode::SystemError),
                remark: frame.remark,
                fields: frame.ext,
                body: frame.body,
            })
        }
        Err(error @ ClientCallError::TooLong { .. }) => Err(too_long(&error)),
        Err(ClientCallError::Unanswered(RequestError::TimedOut)) => {
            let text = format!("consumer {consumer} Timeout: no response within {} s", TIMEOUT.as_secs());
            Err(Refusal::new(ResponseCode::ConsumeMsgTimeout, text))
        }
        Err(error) => Err(Refusal::system(format!("invoke consumer {consumer} Exception: {error}"))),
    }
}

fn too_long(error: &ClientCallError) -> Refusal {
    Refusal::invalid(format!("the request is {error}"))
}

/// Collects the responses of members.
struct Responses<F> {
    left: usize,
    /// Bytes of the responses so far.
    bytes: usize,
    body: ConsumerStatusBody,
    done: Option<F>,
}

/// Code 223: the offsets in memory of the members of a group, or of one member. A member that does not respond is left out. `done`
/// is called once, possibly on another thread.
///
/// Fails if the responses have more than [`MAX_RESPONSE_BYTES`] bytes together.
pub fn status<C: Channel, F: FnOnce(Outcome) + Send + 'static>(request: &Frame, consumers: &Consumers<C>, done: F) {
    let mut frame = Frame::request(RequestCode::GetConsumerStatusFromClient);
    frame.ext = request.ext.clone();
    let members = match check_forwarded(&frame) {
        Ok(()) => requested_members(request, consumers),
        Err(error) => Err(too_long(&error)),
    };
    let members = match members {
        Ok(members) => members,
        Err(refusal) => return done(Err(refusal)),
    };
    let responses = Arc::new(Mutex::new(Responses {
        left: members.len(),
        bytes: 0,
        body: ConsumerStatusBody::default(),
        done: Some(done),
    }));
    for member in members {
        let (responses, client) = (Arc::clone(&responses), member.client_id.to_string());
        let response = move |result| add(&responses, client, result);
        member.channel.call(frame.clone(), STATUS_TIMEOUT, Box::new(response));
    }
}

fn requested_members<C: Channel>(request: &Frame, consumers: &Consumers<C>) -> Result<Vec<Member<C>>, Refusal> {
    let header = ConsumerStatusHeader::decode(&request.ext)?;
    let one = header.client_addr.filter(|client| !client.trim().is_empty());
    let mut members = consumers.members(header.group).unwrap_or_default();
    members.retain(|member| one.is_none_or(|client| client == &*member.client_id));
    if members.is_empty() {
        let text = format!("No Any Consumer online in the consumer group: [{}]", header.group);
        return Err(Refusal::system(text));
    }
    Ok(members)
}

fn add<F: FnOnce(Outcome)>(responses: &Mutex<Responses<F>>, client: String, result: Result<Frame, ClientCallError>) {
    let response = result.ok().filter(|frame| frame.code == i32::from(ResponseCode::Success));
    let bytes = response.as_ref().map_or(0, |frame| frame.body.len());
    let fits = |responses: &Responses<F>| responses.bytes + bytes <= MAX_RESPONSE_BYTES;
    let keep = fits(&responses.lock());
    let response = response.filter(|_| keep);
    let response = response.and_then(|frame| json::read::<ConsumerStatusBody>(&frame.body).ok());
    let mut responses = responses.lock();
    responses.bytes += bytes;
    if let Some(response) = response {
        let offsets = response.message_queue_table;
        responses.body.consumer_table.insert(client, OffsetsByQueue { offsets });
    }
    responses.left -= 1;
    if responses.left > 0 {
        return;
    }
    let outcome = if responses.bytes > MAX_RESPONSE_BYTES {
        let text = format!(
            "the responses of the consumers have {} bytes together, the limit is {MAX_RESPONSE_BYTES}; query one consumer (clientAddr)",
            responses.bytes
        );
        Err(Refusal::system(text))
    } else {
        Ok(Answer::body(json::write(&responses.body)))
    };
    let done = responses.done.take();
    drop(responses);
    if let Some(done) = done {
        done(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Joining;
    use crate::clients::table::ClientLimits;
    use crate::clients::table::MAX_FORWARDED_HEADER;
    use crate::clients::table::testing::Recorder;
    use crate::testing;
    use protocol::Language;
    use protocol::frame::MAX_FRAME_LEN;
    use protocol::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel};
    use std::sync::mpsc;

    fn consumers(channel: &Recorder) -> Consumers<Recorder> {
        let consumers = Consumers::new(ClientLimits::default());
        let joining = Joining {
            member: Member {
                channel: channel.clone(),
                client_id: "c".into(),
                language: Language::Java,
                version: 500,
                last_seen_ms: 0,
                subscribes: 0,
            },
            consume_type: ConsumeType::Passively,
            message_model: MessageModel::Clustering,
            consume_from_where: ConsumeFromWhere::LastOffset,
            subscriptions: None,
            fingerprint: 0,
            notify: false,
        };
        consumers.join("g", joining).unwrap();
        consumers
    }

    fn frame(fields: &[(&str, &str)]) -> Frame {
        testing::frame(RequestCode::GetConsumerRunningInfo, fields)
    }

    fn outcome(ask: impl FnOnce(Box<dyn FnOnce(Outcome) + Send>)) -> Outcome {
        let (done, waits) = mpsc::channel();
        ask(Box::new(move |outcome| done.send(outcome).unwrap()));
        waits.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn a_request_is_forwarded_to_the_member_and_its_response_back() {
        let channel = Recorder::new(1);
        let consumers = consumers(&channel);
        let header = frame(&[("consumerGroup", "g"), ("clientId", "c"), ("jstackEnable", "true")]);
        let answer = outcome(|done| running_info(&header, &consumers, done)).unwrap();
        assert_eq!(answer.fields.text("jstackEnable"), Some("true"));
        assert_eq!(channel.take()[0].code, i32::from(RequestCode::GetConsumerRunningInfo));
        let header = frame(&[("consumerGroup", "g"), ("clientId", "x")]);
        let refusal = outcome(|done| running_info(&header, &consumers, done)).unwrap_err();
        assert_eq!(refusal.text, "The Consumer <g> <x> not online");
    }

    #[test]
    fn offsets_of_the_members_are_collected() {
        let channel = Recorder::new(1);
        let consumers = consumers(&channel);
        let header = frame(&[("topic", "t"), ("group", "g")]);
        let answer = outcome(|done| status(&header, &consumers, done)).unwrap();
        assert!(answer.body.starts_with(b"{"));
        assert_eq!(channel.take()[0].code, i32::from(RequestCode::GetConsumerStatusFromClient));
        let header = frame(&[("topic", "t"), ("group", "x")]);
        let refusal = outcome(|done| status(&header, &consumers, done)).unwrap_err();
        assert_eq!(refusal.text, "No Any Consumer online in the consumer group: [x]");
    }

    #[test]
    fn a_request_that_would_close_a_members_connection_is_refused() {
        let channel = Recorder::new(1);
        let consumers = consumers(&channel);
        // Far below the frame limit as received, far above it once escaped.
        let long = "\u{1}".repeat(MAX_FORWARDED_HEADER / 6);
        let header = frame(&[("consumerGroup", "g"), ("clientId", "c"), ("jstackEnable", "true"), ("x", &long)]);
        let refusal = outcome(|done| running_info(&header, &consumers, done)).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        assert!(refusal.text.contains("too long to be forwarded"), "{}", refusal.text);
        let header = frame(&[("topic", "t"), ("group", "g"), ("x", &long)]);
        let refusal = outcome(|done| status(&header, &consumers, done)).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        assert!(channel.take().is_empty(), "nothing was sent");
        let mut whole = frame(&[("consumerGroup", "g"), ("clientId", "c")]);
        whole.body = vec![0; MAX_FRAME_LEN].into();
        let refusal = outcome(|done| running_info(&whole, &consumers, done)).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        let refusal = to_outcome(Ok(frame(&[("x", &long)])), "<g> <c>").unwrap_err();
        assert!(
            refusal.text.starts_with("the response of consumer <g> <c> is too long"),
            "{}",
            refusal.text
        );
    }

    #[test]
    fn responses_that_are_too_long_together_are_refused() {
        let (done, waits) = mpsc::channel();
        let responses = Mutex::new(Responses {
            left: 2,
            bytes: 0,
            body: ConsumerStatusBody::default(),
            done: Some(move |outcome: Outcome| done.send(outcome).unwrap()),
        });
        let response = |len: usize| Ok(Frame::request(0).with_body(vec![b' '; len]));
        add(&responses, "a".to_owned(), response(MAX_RESPONSE_BYTES));
        add(&responses, "b".to_owned(), response(1));
        assert!(waits.try_recv().unwrap().unwrap_err().text.contains("clientAddr"));
    }

    #[test]
    fn a_member_that_does_not_respond_has_its_own_code() {
        let refusal = to_outcome(Err(RequestError::TimedOut.into()), "<g> <c>").unwrap_err();
        assert_eq!(refusal.code, ResponseCode::ConsumeMsgTimeout);
        assert_eq!(
            to_outcome(Err(RequestError::Closed.into()), "<g> <c>").unwrap_err().code,
            ResponseCode::SystemError
        );
    }
}
