//! Requests that only a master serves, and that come to a slave under a controller, go on to its master.
//!
//! A client learns who the master is when it asks a name server for its routes again, up to half a minute after an election, and sends all its retries to the broker
//! that it knows. While that one runs, as a slave, it passes them on: once, so a request that another broker has passed on is refused.
//!
//! The answer is the master's. A request that may have been stored is not passed on again; only while the master is not reached, or is none yet, is it tried again, for
//! `forwardTimeout`. In a message that was passed on, the address of its producer is this broker's.

use super::answering::Expected;
use super::slave::busy;
use super::{Handled, Routes};
use crate::errors::Refusal;
use crate::peers::Peers;
use crate::place::Elected;
use crate::reply::Reply;
use net::session::Connector;
use protocol::{Frame, RequestCode, ResponseCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Field of a request that a slave has passed on.
const PASSED_ON: &str = "apogeePassedOn";
/// Field of the answer of a broker that is not the master, to such a request.
const NOT_MASTER: &str = "apogeeNotMaster";
/// Pause before the master is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// The connection to the master.
pub(crate) struct ToMaster {
    peers: Peers,
    /// Held while it is opened, so that there is one.
    connecting: tokio::sync::Mutex<()>,
    /// Bytes of requests that wait for its answer.
    waiting: AtomicUsize,
}

/// The master is not reached, or is none yet: nothing was stored.
struct NotYet(String);

impl ToMaster {
    /// Without a connection yet; those to come are of `connector`, or plain.
    pub(crate) fn new(connector: Option<Arc<dyn Connector>>) -> Self {
        Self {
            peers: Peers::new(connector),
            connecting: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The master's answer.
    async fn ask(&self, master: &watch::Receiver<Option<String>>, frame: &Frame, patience: Duration) -> Result<Frame, Refusal> {
        let until = Instant::now() + patience;
        loop {
            let address = master.borrow().clone();
            let left = until.saturating_duration_since(Instant::now());
            let NotYet(why) = match address {
                Some(address) => match self.ask_at(&address, frame, left).await? {
                    Ok(answer) => return Ok(answer),
                    Err(not_yet) => not_yet,
                },
                None => NotYet("no master is elected".to_owned()),
            };
            if left <= AGAIN {
                return Err(busy(&format!(
                    "this broker is a slave, and its master does not take what it passes on: {why}"
                )));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn ask_at(&self, address: &str, frame: &Frame, left: Duration) -> Result<Result<Frame, NotYet>, Refusal> {
        let connected = {
            let _one = self.connecting.lock().await;
            self.peers.to(address, left).await
        };
        let peer = match connected {
            Ok(peer) => peer,
            Err(error) => return Ok(Err(NotYet(error.to_string()))),
        };
        if frame.is_oneway() {
            // Nobody hears of an error.
            let _ = peer.one_way(frame);
            return Ok(Ok(Frame::response_to(frame)));
        }
        match peer.request(frame.clone(), left).await {
            Ok(answer) if answer.ext.text(NOT_MASTER).is_some() => Ok(Err(NotYet(format!("{address} is not the master yet")))),
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => {
                let text = format!("this broker is a slave, and its master {address} did not answer what it has passed on: {error}");
                Err(Refusal::new(ResponseCode::ServiceNotAvailable, text))
            }
        }
    }
}

/// Whether a request may go on to the master: those that neither wait there for messages nor belong to the client's connection.
pub(super) fn may_pass_on(code: RequestCode) -> bool {
    use RequestCode as Code;
    matches!(
        code,
        Code::SendMessage
            | Code::SendMessageV2
            | Code::SendBatchMessage
            | Code::ConsumerSendMsgBack
            | Code::EndTransaction
            | Code::RecallMessage
            | Code::AckMessage
            | Code::BatchAckMessage
            | Code::ChangeMessageInvisibletime
    )
}

impl Routes {
    /// Another master is being elected, because this one is to stop. The client's connection is closed when that is done, and its next attempt is passed on: a refusal
    /// now would use up all its attempts at once.
    pub(super) fn hold_until_role_changes(&self, frame: &Frame, reply: &Reply) -> Handled {
        if frame.ext.text(PASSED_ON).is_some() {
            // The other broker asks again, the next master.
            return Handled::Now(Err(busy("this master is to stop").with(NOT_MASTER, "true")));
        }
        let begun = match self.forwarder.begin() {
            Ok(begun) if !frame.is_oneway() => begun,
            Ok(_) => return Handled::Later,
            Err(busy) => return Handled::Now(Err(busy)),
        };
        let (reply, patience) = (reply.clone(), self.core.settings.current().forward_timeout);
        let owed = reply.connection().owe(Expected::Fields as usize);
        begun.run(async move {
            tokio::time::sleep(patience).await;
            reply.send(Err(busy("this master is to stop, and no other one was elected in time")));
            drop(owed);
        });
        Handled::Later
    }

    /// Passes a request on to the master, if it may be; otherwise it is refused.
    pub(super) fn pass_on(self: &Arc<Self>, code: RequestCode, frame: &Frame, reply: &Reply, refusal: Refusal) -> Handled {
        let Some(Elected::Slave { master }) = self.core.place.as_ref().map(|place| &place.elected) else {
            return Handled::Now(Err(refusal));
        };
        if frame.ext.text(PASSED_ON).is_some() {
            return Handled::Now(Err(refusal.with(NOT_MASTER, "true")));
        }
        let settings = self.core.settings.current();
        if !may_pass_on(code) || settings.hand_over_time.is_zero() {
            return Handled::Now(Err(refusal));
        }
        let bytes = frame.ext.memory() + frame.body.len();
        if self.to_master.waiting.load(Ordering::Relaxed) + bytes > settings.max_waiting_read_bytes {
            return Handled::Now(Err(busy(
                "too many bytes of requests wait for the master (apogeeMaxWaitingReadBytes)",
            )));
        }
        let begun = match self.forwarder.begin() {
            Ok(begun) => begun,
            Err(busy) => return Handled::Now(Err(busy)),
        };
        self.core.role.passes_on();
        self.to_master.waiting.fetch_add(bytes, Ordering::Relaxed);
        let mut frame = frame.clone();
        frame.ext.push(PASSED_ON, true);
        let (routes, reply, master) = (Arc::clone(self), reply.clone(), master.clone());
        let owed = reply.connection().owe(Expected::Fields as usize);
        begun.run(async move {
            match routes.to_master.ask(&master, &frame, settings.forward_timeout).await {
                Ok(answer) => reply.pass_on(answer),
                Err(refusal) => reply.send(Err(refusal)),
            }
            routes.to_master.waiting.fetch_sub(bytes, Ordering::Relaxed);
            drop(owed);
        });
        Handled::Later
    }
}
