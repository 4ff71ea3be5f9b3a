//! Handlers of replies: codes 324 and 325.

use crate::clients::Producers;
use crate::clients::table::{Channel, ClientCallError};
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use message::properties::{self, Builder, MSG_REGION, TRACE_ON};
use message::text;
use protocol::request_reply::{PUSH_REPLY_TIME, PushReplyHeader, REPLY_TO_CLIENT};
use protocol::send::SendHeader;
use protocol::{Frame, RequestCode, ResponseCode};
use std::net::SocketAddr;
use std::time::Duration;

/// Timeout of the requesting producer's acknowledgement.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Origin and time of a reply, and the properties that the broker adds.
#[derive(Clone, Debug)]
pub struct ReplyOrigin {
    /// Address of the replying client.
    pub from: SocketAddr,
    /// Address of the broker.
    pub at: SocketAddr,
    /// Current time, in ms since 1970.
    pub now_ms: i64,
    /// `regionId`.
    pub region: String,
    /// `traceOn`.
    pub trace_on: bool,
}

/// Codes 324 and 325: forwards a reply to the producer that sent the request. `done` is called once, possibly on another thread,
/// with the response for a reply that is not stored.
pub fn push<C: Channel>(request: &Frame, came: ReplyOrigin, producers: &Producers<C>, done: impl FnOnce(Outcome) + Send + 'static) {
    let forwarded = forwarded(request, &came, producers);
    let add_properties = move |refusal: Refusal| refusal.with(MSG_REGION, came.region).with(TRACE_ON, came.trace_on.to_string());
    match forwarded {
        Ok((channel, frame, client, queue_id)) => {
            let answered = move |result| done(outcome(result, &client, queue_id).map_err(add_properties));
            channel.call(frame, TIMEOUT, Box::new(answered));
        }
        Err(refusal) => done(Err(add_properties(refusal))),
    }
}

/// The reply as a send request, for storing it.
#[must_use]
pub fn as_send(request: &Frame) -> Frame {
    let mut send = request.clone();
    let is_v2 = request.code == i32::from(RequestCode::SendReplyMessageV2);
    send.code = if is_v2 {
        RequestCode::SendMessageV2
    } else {
        RequestCode::SendMessage
    }
    .into();
    send
}

/// The requesting producer, the frame to forward, the client id and the queue id.
fn forwarded<C: Channel>(request: &Frame, came: &ReplyOrigin, producers: &Producers<C>) -> Result<(C, Frame, String, i32), Refusal> {
    let code = RequestCode::try_from(request.code).map_err(|_| Refusal::system("not a reply"))?;
    let header = SendHeader::decode(code, &request.ext)?;
    let client = properties::text(header.properties, REPLY_TO_CLIENT)
        .ok_or_else(|| Refusal::system(format!("reply message properties[{REPLY_TO_CLIENT}] is null")))?;
    let channel = producers
        .find(&client)
        .ok_or_else(|| Refusal::system(format!("push reply message fail, channel of <{client}> not found.")))?;
    let properties = Builder::from_bytes_without(header.properties, &[PUSH_REPLY_TIME, MSG_REGION, TRACE_ON])
        .with(MSG_REGION, &came.region)
        .with(TRACE_ON, if came.trace_on { "true" } else { "false" })
        .with(PUSH_REPLY_TIME, &came.now_ms.to_string())
        .build();
    if properties.len() > properties::MAX_BYTES {
        let text = format!(
            "The properties have {} bytes, the limit is {}.",
            properties.len(),
            properties::MAX_BYTES
        );
        return Err(Refusal::new(ResponseCode::MessageIllegal, text));
    }
    let mut frame = Frame::request(RequestCode::PushReplyMessageToClient);
    let push = PushReplyHeader {
        producer_group: header.producer_group,
        topic: header.topic,
        default_topic: header.default_topic,
        default_topic_queue_nums: header.default_topic_queue_nums,
        queue_id: header.queue_id,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        flag: header.flag,
        // Compat: a JSON header is text, and a Java client closes the connection on invalid UTF-8. Apache sends the same text.
        properties: &text::as_java_reads(&properties),
        reconsume_times: header.reconsume_times,
        unit_mode: header.unit_mode,
        born_host: &address(came.from),
        store_host: &address(came.at),
        store_timestamp: came.now_ms,
    };
    push.encode(&mut frame.ext);
    frame.body = request.body.clone();
    Ok((channel, frame, client.into_owned(), header.queue_id))
}

/// Compat: Java splits at the last colon and writes IPv6 addresses without brackets.
fn address(of: SocketAddr) -> String {
    format!("{}:{}", of.ip(), of.port())
}

fn outcome(result: Result<Frame, ClientCallError>, client: &str, queue_id: i32) -> Outcome {
    match result {
        Ok(frame) if frame.code == i32::from(ResponseCode::Success) => {
            // Compat: Java clients reject a response without these fields.
            Ok(Answer::ok().with("msgId", "0").with("queueId", queue_id).with("queueOffset", 0))
        }
        Ok(_) => Err(Refusal::system(format!("push reply message to {client}fail."))),
        Err(error @ ClientCallError::TooLong { .. }) => Err(Refusal::new(ResponseCode::MessageIllegal, format!("the reply is {error}"))),
        Err(error) => Err(Refusal::system(format!("push reply message to {client}fail. {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::table::testing::Recorder;
    use crate::clients::table::{ClientLimits, Member};
    use protocol::Language;
    use std::sync::mpsc;

    fn reply_to(client: &str) -> Frame {
        let mut frame = Frame::request(RequestCode::SendReplyMessageV2).with_body("answer");
        let properties = format!("{REPLY_TO_CLIENT}\u{1}{client}\u{2}");
        let fields = [
            ("a", "g"),
            ("b", "c_REPLY_TOPIC"),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", "1"),
            ("f", "0"),
            ("g", "5"),
            ("h", "0"),
        ];
        for (name, value) in fields {
            frame.ext.push(name, value);
        }
        frame.ext.push("i", properties.as_str());
        frame
    }

    fn pushed(frame: &Frame, producers: &Producers<Recorder>) -> Outcome {
        let came = ReplyOrigin {
            from: "10.0.0.1:5".parse().unwrap(),
            at: "[::1]:10911".parse().unwrap(),
            now_ms: 7,
            region: "R".to_owned(),
            trace_on: true,
        };
        let (done, waits) = mpsc::channel();
        push(frame, came, producers, move |outcome| done.send(outcome).unwrap());
        waits.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn asker() -> (Producers<Recorder>, Recorder) {
        let producers = Producers::new(ClientLimits::default());
        let channel = Recorder::new(1);
        let member = Member {
            channel: channel.clone(),
            client_id: "asker".into(),
            language: Language::Java,
            version: 500,
            last_seen_ms: 0,
            subscribes: 0,
        };
        producers.join("p", member).unwrap();
        (producers, channel)
    }

    #[test]
    fn a_reply_is_forwarded_to_the_requesting_producer() {
        let (producers, channel) = asker();
        pushed(&reply_to("asker"), &producers).unwrap();
        let sent = channel.take();
        assert_eq!(sent[0].code, i32::from(RequestCode::PushReplyMessageToClient));
        assert_eq!(&sent[0].body[..], b"answer");
        let header = PushReplyHeader::decode(&sent[0].ext).unwrap();
        let added = "MSG_REGION\u{1}R\u{2}TRACE_ON\u{1}true\u{2}PUSH_REPLY_TIME\u{1}7\u{2}";
        assert_eq!(header.properties, format!("REPLY_TO_CLIENT\u{1}asker\u{2}{added}"));
        assert_eq!((header.born_host, header.store_host), ("10.0.0.1:5", "::1:10911"));
        let refusal = pushed(&reply_to("nobody"), &producers).unwrap_err();
        assert_eq!(refusal.text, "push reply message fail, channel of <nobody> not found.");
    }

    #[test]
    fn a_reply_that_would_close_the_producers_connection_is_refused() {
        let (producers, channel) = asker();
        let with = |field: &str, value: String| {
            let mut frame = reply_to("asker");
            frame.ext.push(field, &value);
            frame
        };
        let own = format!("{REPLY_TO_CLIENT}\u{1}asker\u{2}own\u{1}");
        let longest = properties::MAX_BYTES - own.len() - 100;
        pushed(&with("i", format!("{own}{}", "\"".repeat(longest))), &producers).unwrap();
        assert_eq!(channel.take().len(), 1, "the longest properties are forwarded");
        let group = with("a", "\u{3}".repeat(1 << 20));
        for refused in [with("i", format!("{own}{}", "x".repeat(properties::MAX_BYTES))), group] {
            assert_eq!(pushed(&refused, &producers).unwrap_err().code, ResponseCode::MessageIllegal);
        }
        let mut whole = reply_to("asker");
        whole.body = vec![0; 16 << 20].into();
        assert_eq!(pushed(&whole, &producers).unwrap_err().code, ResponseCode::MessageIllegal);
        assert!(channel.take().is_empty(), "nothing was sent");
    }

    #[test]
    fn a_reply_is_stored_as_a_send_with_the_same_header() {
        let send = as_send(&reply_to("asker"));
        let header = SendHeader::decode(RequestCode::SendMessageV2, &send.ext).unwrap();
        assert_eq!((send.code, header.topic, &send.body[..]), (310, "c_REPLY_TOPIC", &b"answer"[..]));
        let old = Frame::request(RequestCode::SendReplyMessage);
        assert_eq!(as_send(&old).code, 10);
    }
}
