//! Codes 307, 309 and 223: what the broker asks of consumers for an operator. The answer comes later.

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

/// How long a consumer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a consumer may take to tell its offsets.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes that the members of a group may tell together: what they tell is kept until the last one has told.
const MAX_GATHERED: usize = 8 << 20;

/// Code 307: what a consumer is doing. `done` is called once, perhaps on another thread.
pub fn running_info<C: Channel>(request: &Frame, consumers: &Consumers<C>, done: impl FnOnce(Outcome) + Send + 'static) {
    let asked = ConsumerRunningInfoHeader::decode(&request.ext);
    match asked.map_err(Refusal::from) {
        Ok(asked) => forward(request, consumers, asked.consumer_group, asked.client_id, done),
        Err(refusal) => done(Err(refusal)),
    }
}

/// What 309 adds to a request on its way.
#[derive(Clone, Copy)]
pub struct Directly<'a> {
    /// Where the message is.
    pub log: &'a dyn Log,
    /// The topic's flags.
    pub topics: &'a Topics,
    /// The group's flags.
    pub groups: &'a Groups,
    /// Name of this broker.
    pub broker: &'a str,
}

/// Code 309: a consumer consumes one message at once. `done` is called once, perhaps on another thread.
pub fn consume_directly<C: Channel>(
    request: &Frame,
    consumers: &Consumers<C>,
    with: &Directly<'_>,
    done: impl FnOnce(Outcome) + Send + 'static,
) {
    match addressed(request, with) {
        Ok((frame, group, client)) => forward(&frame, consumers, &group, &client, done),
        Err(refusal) => done(Err(refusal)),
    }
}

/// The request with the message as its body, and whom it is for.
fn addressed(request: &Frame, with: &Directly<'_>) -> Result<(Frame, String, String), Refusal> {
    let asked = ConsumeDirectlyHeader::decode(&request.ext)?;
    let client = asked
        .client_id
        .ok_or_else(|| Refusal::system("request header field clientId is missing"))?;
    let msg_id = asked.msg_id.unwrap_or_default();
    let (_, offset) = id::parse_offset_id(msg_id).ok_or_else(|| Refusal::invalid(format!("msgId {msg_id} is no message id")))?;
    let mut frame = request.clone();
    frame.body = with.log.record(offset.0)?;
    frame.ext.push("brokerName", with.broker);
    if let Some(topic) = asked.topic.and_then(|topic| with.topics.find(topic)) {
        frame.ext.push("topicSysFlag", topic.sys_flag);
    }
    if let Some(rule) = with.groups.find(asked.consumer_group) {
        frame.ext.push("groupSysFlag", rule.group_sys_flag);
    }
    let (group, client) = (asked.consumer_group.to_owned(), client.to_owned());
    Ok((frame, group, client))
}

/// Hands a request on to a member of a group and its answer back, as they are; neither may be longer than what is forwarded.
fn forward<C: Channel>(request: &Frame, consumers: &Consumers<C>, group: &str, client: &str, done: impl FnOnce(Outcome) + Send + 'static) {
    let Some(member) = consumers.find(group, client) else {
        return done(Err(Refusal::system(format!("The Consumer <{group}> <{client}> not online"))));
    };
    let mut frame = Frame::request(request.code);
    frame.ext = request.ext.clone();
    frame.body = request.body.clone();
    let whom = format!("<{group}> <{client}>");
    member
        .channel
        .call(frame, TIMEOUT, Box::new(move |result| done(answered(result, &whom))));
}

fn answered(result: Result<Frame, ClientCallError>, whom: &str) -> Outcome {
    match result {
        Ok(frame) => {
            check_forwarded(&frame).map_err(|error| Refusal::system(format!("the answer of consumer {whom} is {error}")))?;
            Ok(Answer {
                code: ResponseCode::try_from(frame.code).unwrap_or(ResponseCode::SystemError),
                remark: frame.remark,
                fields: frame.ext,
                body: frame.body,
            })
        }
        Err(error @ ClientCallError::TooLong { .. }) => Err(too_long(&error)),
        Err(ClientCallError::Unanswered(RequestError::TimedOut)) => {
            let text = format!("consumer {whom} Timeout: no answer within {} s", TIMEOUT.as_secs());
            Err(Refusal::new(ResponseCode::ConsumeMsgTimeout, text))
        }
        Err(error) => Err(Refusal::system(format!("invoke consumer {whom} Exception: {error}"))),
    }
}

fn too_long(error: &ClientCallError) -> Refusal {
    Refusal::invalid(format!("the request is {error}"))
}

/// Answers of members, until the last one is in.
struct Gathered<F> {
    left: usize,
    /// Bytes of the answers so far.
    bytes: usize,
    body: ConsumerStatusBody,
    done: Option<F>,
}

/// Code 223: the offsets that the members of a group (or one of them) have in memory. A member that does not answer is left
/// out. `done` is called once, perhaps on another thread.
///
/// Members that tell more than [`MAX_GATHERED`] bytes together are too many to be asked at once.
pub fn status<C: Channel, F: FnOnce(Outcome) + Send + 'static>(request: &Frame, consumers: &Consumers<C>, done: F) {
    let mut frame = Frame::request(RequestCode::GetConsumerStatusFromClient);
    frame.ext = request.ext.clone();
    let members = match check_forwarded(&frame) {
        Ok(()) => asked_members(request, consumers),
        Err(error) => Err(too_long(&error)),
    };
    let members = match members {
        Ok(members) => members,
        Err(refusal) => return done(Err(refusal)),
    };
    let gathered = Arc::new(Mutex::new(Gathered {
        left: members.len(),
        bytes: 0,
        body: ConsumerStatusBody::default(),
        done: Some(done),
    }));
    for member in members {
        let (gathered, client) = (Arc::clone(&gathered), member.client_id.to_string());
        let told = move |result| add(&gathered, client, result);
        member.channel.call(frame.clone(), STATUS_TIMEOUT, Box::new(told));
    }
}

fn asked_members<C: Channel>(request: &Frame, consumers: &Consumers<C>) -> Result<Vec<Member<C>>, Refusal> {
    let asked = ConsumerStatusHeader::decode(&request.ext)?;
    let one = asked.client_addr.filter(|client| !client.trim().is_empty());
    let mut members = consumers.members(asked.group).unwrap_or_default();
    members.retain(|member| one.is_none_or(|client| client == &*member.client_id));
    if members.is_empty() {
        let text = format!("No Any Consumer online in the consumer group: [{}]", asked.group);
        return Err(Refusal::system(text));
    }
    Ok(members)
}

fn add<F: FnOnce(Outcome)>(gathered: &Mutex<Gathered<F>>, client: String, result: Result<Frame, ClientCallError>) {
    let told = result.ok().filter(|frame| frame.code == i32::from(ResponseCode::Success));
    let bytes = told.as_ref().map_or(0, |frame| frame.body.len());
    let has_room = |gathered: &Gathered<F>| gathered.bytes + bytes <= MAX_GATHERED;
    let is_read = has_room(&gathered.lock());
    let told = told.filter(|_| is_read);
    let told = told.and_then(|frame| json::read::<ConsumerStatusBody>(&frame.body).ok());
    let mut gathered = gathered.lock();
    gathered.bytes += bytes;
    if let Some(told) = told {
        let offsets = told.message_queue_table;
        gathered.body.consumer_table.insert(client, OffsetsByQueue { offsets });
    }
    gathered.left -= 1;
    if gathered.left > 0 {
        return;
    }
    let outcome = if gathered.bytes > MAX_GATHERED {
        let text = format!(
            "the consumers told {} bytes together, at most {MAX_GATHERED} are gathered; ask one of them (clientAddr)",
            gathered.bytes
        );
        Err(Refusal::system(text))
    } else {
        Ok(Answer::body(json::write(&gathered.body)))
    };
    let done = gathered.done.take();
    drop(gathered);
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
    fn a_request_goes_to_the_member_and_its_answer_back() {
        let channel = Recorder::new(1);
        let consumers = consumers(&channel);
        let asked = frame(&[("consumerGroup", "g"), ("clientId", "c"), ("jstackEnable", "true")]);
        let answer = outcome(|done| running_info(&asked, &consumers, done)).unwrap();
        assert_eq!(answer.fields.text("jstackEnable"), Some("true"));
        assert_eq!(channel.take()[0].code, i32::from(RequestCode::GetConsumerRunningInfo));
        let asked = frame(&[("consumerGroup", "g"), ("clientId", "x")]);
        let refusal = outcome(|done| running_info(&asked, &consumers, done)).unwrap_err();
        assert_eq!(refusal.text, "The Consumer <g> <x> not online");
    }

    #[test]
    fn offsets_of_the_members_are_gathered() {
        let channel = Recorder::new(1);
        let consumers = consumers(&channel);
        let asked = frame(&[("topic", "t"), ("group", "g")]);
        let answer = outcome(|done| status(&asked, &consumers, done)).unwrap();
        assert!(answer.body.starts_with(b"{"));
        assert_eq!(channel.take()[0].code, i32::from(RequestCode::GetConsumerStatusFromClient));
        let asked = frame(&[("topic", "t"), ("group", "x")]);
        let refusal = outcome(|done| status(&asked, &consumers, done)).unwrap_err();
        assert_eq!(refusal.text, "No Any Consumer online in the consumer group: [x]");
    }

    #[test]
    fn what_would_close_the_connection_of_a_member_is_refused_to_who_asks() {
        let channel = Recorder::new(1);
        let consumers = consumers(&channel);
        // Far below the longest frame as it was read, far above it once it is escaped.
        let long = "\u{1}".repeat(MAX_FORWARDED_HEADER / 6);
        let asked = frame(&[("consumerGroup", "g"), ("clientId", "c"), ("jstackEnable", "true"), ("x", &long)]);
        let refusal = outcome(|done| running_info(&asked, &consumers, done)).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        assert!(refusal.text.contains("too long to be forwarded"), "{}", refusal.text);
        let asked = frame(&[("topic", "t"), ("group", "g"), ("x", &long)]);
        let refusal = outcome(|done| status(&asked, &consumers, done)).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        assert!(channel.take().is_empty(), "nothing was sent");
        let mut whole = frame(&[("consumerGroup", "g"), ("clientId", "c")]);
        whole.body = vec![0; MAX_FRAME_LEN].into();
        let refusal = outcome(|done| running_info(&whole, &consumers, done)).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        let refusal = answered(Ok(frame(&[("x", &long)])), "<g> <c>").unwrap_err();
        assert!(
            refusal.text.starts_with("the answer of consumer <g> <c> is too long"),
            "{}",
            refusal.text
        );
    }

    #[test]
    fn members_that_tell_too_much_together_are_refused() {
        let (done, waits) = mpsc::channel();
        let gathered = Mutex::new(Gathered {
            left: 2,
            bytes: 0,
            body: ConsumerStatusBody::default(),
            done: Some(move |outcome: Outcome| done.send(outcome).unwrap()),
        });
        let told = |len: usize| Ok(Frame::request(0).with_body(vec![b' '; len]));
        add(&gathered, "a".to_owned(), told(MAX_GATHERED));
        add(&gathered, "b".to_owned(), told(1));
        assert!(waits.try_recv().unwrap().unwrap_err().text.contains("clientAddr"));
    }

    #[test]
    fn a_member_that_does_not_answer_has_its_own_code() {
        let refusal = answered(Err(RequestError::TimedOut.into()), "<g> <c>").unwrap_err();
        assert_eq!(refusal.code, ResponseCode::ConsumeMsgTimeout);
        assert_eq!(
            answered(Err(RequestError::Closed.into()), "<g> <c>").unwrap_err().code,
            ResponseCode::SystemError
        );
    }
}
