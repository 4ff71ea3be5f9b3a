//! What brokers ask the proxy over its connections: each question goes to a client of the group that it is about.

use super::members::{Kind, Members};
use crate::clients::{Client, Clients};
use ::message::properties;
use ::message::record::Record;
use broker::clients::ProtocolClient;
use net::{Connection, Service};
use protocol::diagnose::{ConsumeDirectlyHeader, ConsumerRunningInfoHeader};
use protocol::heartbeat::CLIENT;
use protocol::lite::NotifyUnsubscribeLiteHeader;
use protocol::{Frame, RequestCode, ResponseCode};
use std::sync::Arc;
use std::time::Duration;

/// A client has so long to answer what it is asked.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Serves the requests of brokers.
pub(super) struct Questions {
    members: Arc<Members>,
    clients: Arc<Clients>,
}

impl Questions {
    pub(super) fn new(members: Arc<Members>, clients: Arc<Clients>) -> Self {
        Self { members, clients }
    }

    fn serve_one(&self, conn: &Arc<Connection>, frame: Frame) {
        match RequestCode::try_from(frame.code) {
            Ok(RequestCode::CheckTransactionState) => self.check_transaction(&frame),
            Ok(RequestCode::NotifyUnsubscribeLite) => {
                let header = NotifyUnsubscribeLiteHeader::decode(&frame.ext);
                if let Some(client) = header.ok().and_then(|header| self.clients.find(header.client_id)) {
                    client.send_oneway(&frame);
                }
            }
            Ok(RequestCode::GetConsumerRunningInfo) => {
                let group = ConsumerRunningInfoHeader::decode(&frame.ext).map(|header| header.consumer_group.to_owned());
                self.ask(conn, frame, group.unwrap_or_default());
            }
            Ok(RequestCode::ConsumeMessageDirectly) => {
                let group = ConsumeDirectlyHeader::decode(&frame.ext).map(|header| header.consumer_group.to_owned());
                self.ask(conn, frame, group.unwrap_or_default());
            }
            // Clients of the gRPC protocol need not know when the members of their group change.
            _ if frame.is_oneway() => {}
            _ => {
                let answer = Frame::response_to(&frame)
                    .with_code(ResponseCode::RequestCodeNotSupported)
                    .with_remark("a proxy of gRPC clients does not know this request");
                conn.send_frame(&answer);
            }
        }
    }

    /// The client that a broker asks, if it knows clients behind a proxy.
    fn asked(&self, frame: &Frame) -> Option<Arc<Client>> {
        self.clients.find(frame.ext.text(CLIENT)?)
    }

    /// A producer is asked how its transaction ended; the next check asks another one.
    fn check_transaction(&self, frame: &Frame) {
        if let Some(client) = self.asked(frame) {
            return client.send_oneway(frame);
        }
        let record = Record::parse(&frame.body).ok();
        let group = record.and_then(|record| properties::text(record.properties, properties::PRODUCER_GROUP));
        match group.and_then(|group| self.members.one_of(Kind::Producers, &group)) {
            Some(client) => client.send_oneway(frame),
            None => tracing::debug!("a broker asks for a transaction, and its producer is gone"),
        }
    }

    /// Asks the client that the broker names; if that knows the proxy only, any client of the group.
    fn ask(&self, conn: &Arc<Connection>, frame: Frame, group: String) {
        let response = Frame::response_to(&frame);
        let client = self.asked(&frame).or_else(|| self.members.one_of(Kind::Consumers, &group));
        let Some(client) = client else {
            let answer = response
                .with_code(ResponseCode::SystemError)
                .with_remark(format!("group {group} has no client at this proxy"));
            conn.send_frame(&answer);
            return;
        };
        let conn = Arc::clone(conn);
        let done = Box::new(move |outcome: Result<Frame, broker::clients::table::ClientCallError>| {
            let answer = match outcome {
                Ok(told) => {
                    let answer = response.with_code(told.code).with_body(told.body);
                    told.remark.map_or(answer.clone(), |remark| answer.with_remark(remark))
                }
                Err(error) => response
                    .with_code(ResponseCode::SystemError)
                    .with_remark(format!("the client did not answer: {error}")),
            };
            conn.send_frame(&answer);
        });
        client.call(frame, ANSWER_TIME, done);
    }
}

impl Service for Questions {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            self.serve_one(conn, frame);
        }
    }
}
