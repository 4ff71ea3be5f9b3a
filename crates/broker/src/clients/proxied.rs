//! Clients behind a proxy: it sends their heartbeats over one connection, and each is a member of its groups under its own client id.
//!
//! A client is told by connection and client id. What it is asked goes over the connection with its client id. Its groups count for the
//! limits of the connection.
//!
//! Invariant: a client in the table has an open connection, but for the time until the next look ([`Proxied::take_closed`]).

use super::channel::{ClientChannel, ProtocolClient, call};
use super::heartbeat::Heartbeat;
use super::holders::Departure;
use super::table::{Channel, OnResponse};
use super::{Online, handler};
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use crate::stats::BrokerStats;
use net::Connection;
use parking_lot::Mutex;
use protocol::heartbeat::{CLIENT, CLIENT_ADDRESS, HeartbeatData, PROXIED, UnregisterClientHeader, VISIBLE_AFTER};
use protocol::pop::MAX_HOLD_MS;
use protocol::{Frame, RequestCode, ResponseCode};
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// A client behind a proxy.
struct ProxiedClient {
    /// Unique among the connections of all protocols.
    id: u64,
    client_id: Box<str>,
    address: SocketAddr,
    connection: Arc<Connection>,
    is_closed: AtomicBool,
}

impl ProtocolClient for ProxiedClient {
    fn id(&self) -> u64 {
        self.id
    }

    fn owner(&self) -> u64 {
        self.connection.id()
    }

    fn peer(&self) -> SocketAddr {
        self.address
    }

    /// Only what clients of a proxy can be told: they need not know when the members of their group change, and there may be thousands.
    fn send_oneway(&self, request: &Frame) {
        if request.code == i32::from(RequestCode::CheckTransactionState) {
            let mut request = request.clone();
            request.ext.push(CLIENT, &*self.client_id);
            self.connection.send_later(|out| request.encode(out.head()));
        }
    }

    fn call(&self, mut request: Frame, timeout: Duration, done: OnResponse) {
        let is_known = matches!(
            RequestCode::try_from(request.code),
            Ok(RequestCode::GetConsumerRunningInfo | RequestCode::ConsumeMessageDirectly)
        );
        if !is_known {
            let answer = Frame::response_to(&request)
                .with_code(ResponseCode::RequestCodeNotSupported)
                .with_remark("clients behind a proxy do not know this request");
            return done(Ok(answer));
        }
        request.ext.push(CLIENT, &*self.client_id);
        call(&self.connection, request, timeout, done);
    }

    /// The connection is that of other clients, too.
    fn close(&self) {
        self.is_closed.store(true, SeqCst);
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst) || self.connection.is_closed()
    }
}

/// By connection, then by client id.
type Table = FxHashMap<u64, FxHashMap<Box<str>, Arc<ProxiedClient>>>;

/// The clients behind proxies.
#[derive(Default)]
pub struct Proxied(Mutex<Table>);

impl Proxied {
    /// The client of a proxy's connection, added if it is not known; `address` is the client's own.
    pub fn of(&self, connection: &Arc<Connection>, client_id: &str, address: Option<SocketAddr>) -> ClientChannel {
        let mut table = self.0.lock();
        let clients = table.entry(connection.id()).or_default();
        if let Some(known) = clients.get(client_id).filter(|known| !known.is_closed()) {
            return ClientChannel::Protocol(Arc::clone(known) as _);
        }
        let client = Arc::new(ProxiedClient {
            id: Connection::take_id(),
            client_id: client_id.into(),
            address: address.unwrap_or_else(|| connection.peer()),
            connection: Arc::clone(connection),
            is_closed: AtomicBool::new(false),
        });
        clients.insert(client_id.into(), Arc::clone(&client));
        ClientChannel::Protocol(client)
    }

    /// The client, if it is known.
    #[must_use]
    pub fn find(&self, connection: u64, client_id: &str) -> Option<ClientChannel> {
        let table = self.0.lock();
        let client = table.get(&connection)?.get(client_id)?;
        Some(ClientChannel::Protocol(Arc::clone(client) as _))
    }

    /// The client is in no group any more.
    pub fn forget(&self, connection: u64, client_id: &str) {
        let mut table = self.0.lock();
        if let Some(clients) = table.get_mut(&connection) {
            clients.remove(client_id);
            if clients.is_empty() {
                table.remove(&connection);
            }
        }
    }

    /// A connection was closed: the ids of its clients, which are forgotten.
    pub(super) fn take_all(&self, connection: u64) -> Vec<u64> {
        let clients = self.0.lock().remove(&connection).unwrap_or_default();
        clients.values().map(|client| client.id).collect()
    }

    /// The ids of the clients that were closed, which are forgotten.
    pub(super) fn take_closed(&self) -> Vec<u64> {
        let mut closed = Vec::new();
        self.0.lock().retain(|_, clients| {
            closed.extend(clients.extract_if(|_, client| client.is_closed()).map(|(_, client)| client.id));
            !clients.is_empty()
        });
        closed
    }

    /// Clients of all connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().values().map(FxHashMap::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// Whether a heartbeat or a goodbye is about a client behind the proxy that sends it.
#[must_use]
pub fn is_of_proxy(frame: &Frame) -> bool {
    frame.ext.bool(PROXIED).unwrap_or(false)
}

/// The channel of the client whose heartbeat this is. A heartbeat without groups, with which a proxy asks whether the broker knows clients
/// behind it, adds none.
pub fn channel_of(frame: &Frame, data: &HeartbeatData, connection: &Arc<Connection>, online: &Online) -> ClientChannel {
    if !is_of_proxy(frame) || data.consumers.is_empty() && data.producers.is_empty() {
        return ClientChannel::Remoting(Arc::clone(connection));
    }
    let address = frame.ext.text(CLIENT_ADDRESS).and_then(|address| address.parse().ok());
    online.proxied.of(connection, &data.client_id, address)
}

/// The client of a heartbeat joins its groups. One behind a proxy that is in none then, because a limit is reached, is forgotten.
///
/// # Errors
/// As [`Heartbeat::join`].
pub fn join(heartbeat: Heartbeat<ClientChannel>, online: &Online, stats: &BrokerStats) -> Result<bool, Refusal> {
    let (channel, client_id) = heartbeat.client();
    let outcome = heartbeat.join(&online.notices, &online.producers, stats);
    if channel.id() != channel.owner() && !online.is_member(channel.id()) {
        online.proxied.forget(channel.owner(), &client_id);
    }
    outcome
}

/// Code 35 of a client behind a proxy: it leaves the groups that are named, or all.
///
/// # Errors
/// `SystemError` if the client id is missing.
pub fn unregister(frame: &Frame, connection: &Connection, online: &Online) -> Outcome {
    let request = UnregisterClientHeader::decode(&frame.ext)?;
    let departure = match frame.ext.optional_int::<i64>(VISIBLE_AFTER)? {
        Some(after_ms) => Departure::Goodbye(after_ms.clamp(0, MAX_HOLD_MS)),
        None => Departure::Lost,
    };
    if let Some(channel) = online.proxied.find(connection.id(), request.client_id) {
        if request.producer_group.is_none() && request.consumer_group.is_none() {
            online.connection_closed(channel.id(), departure);
        }
        let notify = online.settings.current().notify_consumer_ids_changed_enable;
        handler::leave(&request, &channel, departure, &online.notices, &online.producers, |_| notify);
        if !online.is_member(channel.id()) {
            online.proxied.forget(connection.id(), request.client_id);
        }
    }
    if let (Some(group), Departure::Goodbye(after_ms)) = (request.consumer_group, departure) {
        // Its membership may have ended before.
        online.consumers.goodbye(group, request.client_id, after_ms);
    }
    Ok(Answer::ok())
}
