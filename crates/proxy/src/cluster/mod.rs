//! Brokers of a cluster, which are asked by the remoting protocol.
//!
//! Name servers tell the brokers of a topic ([`route`]); a handle, a transaction id and a recall handle name the broker that has the
//! message. A broker that cannot be reached is left out at once ([`down`]): receives and sends go to another one. Nothing is kept
//! here that cannot be looked up again ([`cache`]), but which clients are in which groups ([`members`]), and brokers are told of that ([`beats`]).
//!
//! Not here: replicas (only masters are asked), and what several proxies would tell each other: each knows its own clients.

mod beats;
pub(crate) mod cache;
mod down;
mod members;
mod questions;
mod read;
mod route;
mod send;
pub mod settings;
mod verbs;

pub(crate) use route::{Masters, Route, look_up_masters};

use crate::clients::Clients;
use crate::codes::Refused;
use crate::v2::Code;
use beats::Brokers;
use broker::errors::Refusal;
use broker::group::Rule;
use cache::Cache;
use down::Down;
use members::Members;
use net::Limits;
use net::RequestError;
use net::session::Connector;
use protocol::ResponseCode;
use questions::Questions;
use settings::ClusterSettings;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

/// The brokers of a cluster.
pub(crate) struct Cluster {
    client: client::Client,
    settings: ClusterSettings,
    routes: Cache<Route>,
    groups: Cache<Rule>,
    /// Addresses of all masters by name; its only name is empty.
    brokers: Cache<Masters>,
    down: Down,
    /// Each chooses brokers or queues round robin. Not one for all: calls of two kinds that alternate would each meet the same brokers.
    send_turn: AtomicUsize,
    receive_turn: AtomicUsize,
    lookup_turn: AtomicUsize,
    members: Arc<Members>,
    /// What brokers know of them.
    brokers_asked: Brokers,
    /// Receives of one connection that are parked at brokers.
    most_parked: usize,
    /// Held while a topic is created.
    creating: tokio::sync::Mutex<()>,
}

impl Cluster {
    /// `most_parked`: receives of one connection that may be parked at brokers.
    pub(crate) fn new(settings: ClusterSettings, connector: Option<Arc<dyn Connector>>, clients: Arc<Clients>, most_parked: usize) -> Self {
        let members = Arc::new(Members::new(settings.max_memberships));
        let questions = Questions::new(Arc::clone(&members), clients);
        let mut options = client::Options::with_name_servers(settings.namesrv_addr.iter().cloned());
        options.request_timeout = settings.request_timeout;
        options.connector = connector;
        options.service = Some(Arc::new(questions));
        options.limits = Limits {
            max_pending_requests: settings.max_pending_requests,
            ..Limits::default()
        };
        Self {
            client: client::Client::new(options),
            routes: Cache::new(settings.max_routes, settings.route_age),
            groups: Cache::new(settings.max_groups, settings.group_age),
            brokers: Cache::new(1, settings.route_age),
            down: Down::default(),
            send_turn: AtomicUsize::new(0),
            receive_turn: AtomicUsize::new(0),
            lookup_turn: AtomicUsize::new(0),
            members,
            brokers_asked: Brokers::default(),
            most_parked,
            creating: tokio::sync::Mutex::new(()),
            settings,
        }
    }

    pub(crate) fn max_body_bytes(&self) -> usize {
        self.settings.max_message_bytes
    }

    /// The configuration of a group. A broker that creates groups for their first consumers creates it.
    pub(crate) async fn group(&self, name: &str) -> Result<Option<Arc<Rule>>, Refused> {
        let look_up = async {
            let masters = self.masters().await?;
            let now = Instant::now();
            let (down, up): (Vec<_>, Vec<_>) = masters.values().partition(|address| self.down.contains(address, now));
            let mut failure = Refused::new(Code::InternalServerError, "no broker is registered at the name servers");
            for address in up.into_iter().chain(down) {
                match self.noted(address, self.client.group_config(address, name).await) {
                    Ok(rule) => return Ok(Some(rule)),
                    Err(error) if error.code() == Some(ResponseCode::SubscriptionGroupNotExist.into()) => return Ok(None),
                    Err(error @ client::Error::Refused { .. }) => return Err(refused(error)),
                    Err(error) => failure = refused(error),
                }
            }
            Err(failure)
        };
        self.groups.get(name, look_up).await
    }

    /// Notes whether a broker could be reached.
    fn noted<T>(&self, address: &str, outcome: Result<T, client::Error>) -> Result<T, client::Error> {
        match &outcome {
            Err(error) if is_gone(error) => self.down.failed(address, Instant::now()),
            _ => self.down.answered(address),
        }
        outcome
    }
}

/// Whether the broker cannot be reached, or is shutting down.
fn is_gone(error: &client::Error) -> bool {
    match error {
        client::Error::Unreachable(_) => true,
        client::Error::Unanswered { reason, .. } => *reason == RequestError::Closed,
        _ => false,
    }
}

/// What an answer of a broker, or none, is in this protocol.
fn refused(error: client::Error) -> Refused {
    let text = error.to_string();
    match error {
        client::Error::Refused { code, remark, .. } => match ResponseCode::try_from(code) {
            Ok(code) => Refusal::new(code, remark).into(),
            Err(_) => Refused::new(Code::InternalServerError, text),
        },
        client::Error::Busy { .. } => Refused::new(Code::TooManyRequests, text),
        client::Error::Unanswered {
            reason: RequestError::TimedOut,
            ..
        } => Refused::new(Code::ProxyTimeout, format!("{text} (apogeeProxyRequestTimeoutMillis)")),
        client::Error::NoRoute { .. } => Refused::new(Code::TopicNotFound, text),
        _ => Refused::new(Code::InternalServerError, text),
    }
}

fn malformed(what: &dyn std::fmt::Display) -> Refused {
    Refused::new(Code::InternalServerError, format!("a broker sent a malformed answer: {what}"))
}
