//! What brokers ask or tell a client: notifications, checks of transactions, questions of tools, replies.

use super::answer::Unserved;
use super::session::Session;
use super::upstream::{Slot, Upstream};
use net::{Connection, Service};
use protocol::{Frame, RequestCode, ResponseCode};
use std::sync::Arc;

/// Passes what a broker asks on to the client.
pub(super) struct FromBroker {
    session: Arc<Session>,
    upstream: Arc<Upstream>,
    _slot: Slot,
}

impl Service for FromBroker {
    fn serve(&self, broker: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            if frame.is_oneway() {
                self.tell(frame);
            } else {
                self.ask(broker, &frame);
            }
        }
        self.upstream.mind_client(&self.session, broker);
    }

    fn closed(&self, _broker: &Arc<Connection>) {
        // It has to be told again who its clients are.
        self.session.forget_heartbeat();
    }
}

impl FromBroker {
    /// For the connection `upstream`, which `slot` counts.
    pub(super) fn new(session: Arc<Session>, upstream: Arc<Upstream>, slot: Slot) -> Self {
        Self {
            session,
            upstream,
            _slot: slot,
        }
    }

    fn tell(&self, mut frame: Frame) {
        let client = self.session.client();
        let is_check = frame.code == i32::from(RequestCode::CheckTransactionState);
        // Compat: Apache's brokers do not say who asks; a client ends the transaction at the broker that is named here.
        let _ = if is_check && frame.ext.bytes("bname").is_none() {
            frame.ext.push("bname", self.upstream.name());
            client.send_later(|out| out.frame(&frame))
        } else {
            client.send_later(|out| out.forwarded(&frame, frame.opaque))
        };
    }

    /// Brokers choose their opaques independently, so the client gets one of the proxy's.
    fn ask(&self, broker: &Arc<Connection>, request: &Frame) {
        let (broker, opaque, encoding) = (Arc::clone(broker), request.opaque, request.encoding);
        let timeout = self.session.shared().settings.request_timeout;
        self.session.client().forward_renumbered(request, timeout, move |outcome| {
            // A broker that is gone gets nothing.
            let _ = match outcome {
                Ok(answer) => broker.send_later(|out| out.forwarded(&answer, opaque)),
                Err(error) => {
                    let why = Unserved::new(
                        ResponseCode::SystemError,
                        format!("the client of the proxy did not answer: {error}"),
                    );
                    broker.send_later(|out| out.frame(&why.frame(opaque, encoding)))
                }
            };
        });
    }
}
