//! What concerns all brokers, or any: heartbeats, leaving, and the members of a group.
//!
//! A heartbeat goes to all masters, so that each broker that may get a message or a question for the client knows it before it needs it.
//!
//! Compat: a client believes that each broker has an address of its own, and sends its heartbeat once for each broker of its routes. Here all of them have the address
//! of the proxy: the first one is passed on, and the same one again within [`SAME`] gets the answer of the first.

use super::answer::{Asked, Gather, Reply, Unserved};
use super::session::{Pending, Session};
use bytes::Bytes;
use protocol::assignment::AssignmentRequest;
use protocol::heartbeat::HeartbeatData;
use protocol::{Frame, RequestCode, ResponseCode, json};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A heartbeat that is the same as the last one is answered like it for so long.
const SAME: Duration = Duration::from_secs(1);
/// A larger heartbeat is passed on and not kept: then a group's members are asked of any broker, and a broker that comes back is told with the next one.
const MAX_KEPT_BYTES: usize = 1 << 20;
const RETRY: &str = "%RETRY%";

/// What a client told last.
#[derive(Default)]
pub(super) struct Known {
    /// The body of the last heartbeat.
    last: Bytes,
    /// The last one with all data.
    whole: Option<Frame>,
    /// Changes with the body, and when a broker has to be told again.
    version: u64,
    /// What brokers answered, and when. One that did not is told with the next heartbeat after [`SAME`].
    answer: Option<(Frame, Instant)>,
}

impl Known {
    /// The next heartbeat is passed on, also if it is the same.
    pub(super) fn forget_answer(&mut self) {
        self.version += 1;
        self.answer = None;
    }

    /// Forgets what the client told: it leaves a group, and must not come back with an old heartbeat.
    fn forget(&mut self) {
        self.forget_answer();
        (self.last, self.whole) = (Bytes::new(), None);
    }

    /// Keeps what brokers answered to the heartbeat of this version.
    pub(super) fn keep_answer(&mut self, version: u64, answer: &Frame) {
        if version == self.version {
            self.answer = Some((detached(answer), Instant::now()));
        }
    }

    /// The answer to a heartbeat that was passed on a moment ago, or the version under which it is passed on.
    fn answer_to(&mut self, request: &Frame) -> Result<Frame, u64> {
        if self.last != request.body {
            self.forget_answer();
            let kept = (request.body.len() <= MAX_KEPT_BYTES).then(|| detached(request));
            self.last = kept.as_ref().map(|kept| kept.body.clone()).unwrap_or_default();
            // Compat: a client that uses version 2 of heartbeats sends its data once.
            if !json::read::<HeartbeatData>(&self.last).is_ok_and(|heartbeat| heartbeat.without_sub) {
                self.whole = kept;
            }
        }
        let fresh = self
            .answer
            .as_ref()
            .filter(|(answer, at)| at.elapsed() < SAME && answer.encoding == request.encoding);
        fresh.map(|(answer, _)| answer.clone()).ok_or(self.version)
    }

    /// The last heartbeat, for a broker that has not had it; it has no answer.
    pub(super) fn repeat(&self) -> Option<Frame> {
        self.whole.clone().map(Frame::oneway)
    }

    /// A topic to which a group of the client subscribes.
    fn topic_of(&self, group: &str) -> Option<String> {
        let heartbeat: HeartbeatData = json::read(&self.whole.as_ref()?.body).ok()?;
        let consumers = heartbeat.consumers.into_iter().find(|consumers| consumers.group_name == group)?;
        let topics = consumers.subscriptions.into_iter().map(|subscription| subscription.topic);
        topics.filter(|topic| !topic.starts_with(RETRY)).min()
    }
}

/// A copy in memory of its own: what is kept must not keep the buffer of a read.
fn detached(frame: &Frame) -> Frame {
    Frame {
        ext: frame.ext.detached(),
        body: Bytes::copy_from_slice(&frame.body),
        ..frame.clone()
    }
}

/// Passes a heartbeat to all masters.
pub(super) fn beat(session: &Arc<Session>, request: &Frame) {
    session.expire();
    let known = session.heartbeat().lock().answer_to(request);
    let version = match known {
        Ok(_) if request.is_oneway() => return,
        Ok(answer) => {
            // A client that is gone gets nothing.
            let _ = session.client().send_later(|out| out.forwarded(&answer, request.opaque));
            return;
        }
        Err(version) => version,
    };
    let Some(told) = Told::of(session, RequestCode::HeartBeat, request) else {
        return;
    };
    let (session, request) = (Arc::clone(session), request.clone());
    tokio::spawn(async move {
        match session.shared().directory.masters().await {
            Ok(masters) => pass_to_all(&session, &request, told, masters.keys(), Some(version)).await,
            Err(why) => told.refuse(why),
        }
    });
}

/// Tells all brokers to which there is a connection that the client leaves a group.
pub(super) fn leave(session: &Arc<Session>, request: &Frame) {
    let Some(told) = Told::of(session, RequestCode::UnregisterClient, request) else {
        return;
    };
    session.heartbeat().lock().forget();
    let (session, request) = (Arc::clone(session), request.clone());
    tokio::spawn(async move {
        let brokers = session.connected();
        if brokers.is_empty() {
            // No broker knows the client.
            if let Told::Asked(asked) = told {
                asked.end(Ok(Frame::response_to(&request)));
            }
            return;
        }
        pass_to_all(&session, &request, told, brokers.iter(), None).await;
    });
}

/// Passes a request to several brokers. The answer is kept as that of this version of the heartbeat.
async fn pass_to_all(
    session: &Arc<Session>,
    request: &Frame,
    told: Told,
    brokers: impl ExactSizeIterator<Item = &Arc<str>>,
    version: Option<u64>,
) {
    if brokers.len() == 0 {
        return told.refuse(Unserved::unreachable("no broker is registered at the name servers of the proxy"));
    }
    let gather = match told {
        Told::Asked(asked) => Some(Gather::new(asked, brokers.len(), version)),
        Told::OneWay(_) => None,
    };
    for broker in brokers {
        session.pass(broker, request, gather.clone().map(Reply::Part));
    }
    if let Some(gather) = gather {
        gather.hurry().await;
    }
}

/// Something that all brokers are told.
enum Told {
    Asked(Asked),
    OneWay(#[allow(dead_code, reason = "it counts while it exists")] Pending),
}

impl Told {
    /// `None` if there are too many requests.
    fn of(session: &Arc<Session>, code: RequestCode, request: &Frame) -> Option<Self> {
        match request.is_oneway() {
            true => session.pending(request).map(Self::OneWay),
            false => session.asked(code, request).map(Self::Asked),
        }
    }

    fn refuse(self, why: Unserved) {
        match self {
            Self::Asked(asked) => asked.end(Err(why)),
            Self::OneWay(_) => tracing::debug!(reason = why.text(), "a one-way request was dropped"),
        }
    }
}

/// Passes a question about a group (38, 203) to a broker that knows its members: one of a topic to which the group subscribes, and for all members
/// the same one, so that they see the same.
pub(super) async fn pass_to_one_of_group(session: Arc<Session>, request: Frame, asked: Asked) {
    let group = request.ext.text("consumerGroup").unwrap_or_default();
    let topic = session.heartbeat().lock().topic_of(group);
    pass_to_one(&session, &request, asked, topic.as_deref(), group).await;
}

/// Passes a request for an assignment (400) to a broker of its topic, for all members of a group the same one.
pub(super) async fn pass_to_one_of_topic(session: Arc<Session>, request: Frame, asked: Asked) {
    match json::read::<AssignmentRequest>(&request.body) {
        Ok(body) => pass_to_one(&session, &request, asked, Some(&body.topic), &body.consumer_group).await,
        Err(error) => asked.end(Err(malformed(&error))),
    }
}

/// Passes a request to any broker.
pub(super) async fn pass_to_any(session: Arc<Session>, request: Frame, asked: Asked) {
    pass_to_one(&session, &request, asked, None, "").await;
}

/// Passes a request to a master of a topic, or to one of all if there is none: the one that `key` chooses, or the next one that can be reached.
async fn pass_to_one(session: &Arc<Session>, request: &Frame, asked: Asked, topic: Option<&str>, key: &str) {
    let directory = &session.shared().directory;
    let of_topic = match topic {
        Some(topic) => directory.masters_of(topic).await,
        None => Ok(Arc::default()),
    };
    let names = match of_topic {
        Ok(names) if names.is_empty() => match directory.masters().await {
            Ok(masters) => Arc::new(masters.keys().cloned().collect()),
            Err(why) => return asked.end(Err(why)),
        },
        Ok(names) => names,
        Err(why) => return asked.end(Err(why)),
    };
    let mut hasher = rustc_hash::FxHasher::default();
    key.hash(&mut hasher);
    let first = usize::try_from(hasher.finish() >> 33).unwrap_or(0);
    let in_turn = || (0..names.len()).map(|at| &names[(first + at) % names.len()]);
    let chosen = in_turn().find(|name| !session.has_failed(name)).or_else(|| in_turn().next());
    match chosen {
        Some(name) => session.pass(name, request, Some(Reply::Client(asked))),
        None => asked.end(Err(Unserved::unreachable(
            "no broker is registered at the name servers of the proxy",
        ))),
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Unserved {
    Unserved::new(ResponseCode::InvalidParameter, format!("malformed body: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(body: &'static [u8]) -> Frame {
        Frame::request(RequestCode::HeartBeat).with_body(body)
    }

    #[test]
    fn the_same_heartbeat_again_has_the_answer_of_the_first_until_something_changes() {
        let mut known = Known::default();
        let (one, other) = (heartbeat(b"{}"), heartbeat(b"{ }"));
        let version = known.answer_to(&one).unwrap_err();
        assert_eq!(known.answer_to(&one), Err(version), "nobody has answered it");
        let answer = Frame::response_to(&one);
        known.keep_answer(version, &answer);
        assert_eq!(known.answer_to(&one), Ok(answer.clone()));
        assert!(known.answer_to(&other).is_err());
        known.keep_answer(version, &answer);
        assert!(known.answer_to(&other).is_err(), "that was the answer to another one");
        let version = known.answer_to(&one).unwrap_err();
        known.keep_answer(version, &answer);
        known.forget_answer();
        assert!(known.answer_to(&one).is_err());
        assert!(known.repeat().is_some_and(|repeat| repeat.is_oneway() && repeat.body == one.body));
    }

    #[test]
    fn the_topic_of_a_group_is_not_its_retry_topic() {
        let mut known = Known::default();
        let body = br#"{"clientID":"c","consumerDataSet":[{"groupName":"g","subscriptionDataSet":[{"topic":"%RETRY%g"},{"topic":"t"}]}]}"#;
        assert!(known.answer_to(&heartbeat(body)).is_err());
        assert_eq!(known.topic_of("g").as_deref(), Some("t"));
        assert!(known.answer_to(&heartbeat(br#"{"clientID":"c","withoutSub":true}"#)).is_err());
        assert_eq!(known.topic_of("g").as_deref(), Some("t"), "the short one does not say it");
        assert_eq!(known.topic_of("h"), None);
    }
}
