//! The service Admin: operations of the crate `admin` for gRPC clients.
//!
//! A request is decoded, becomes one operation over a [`Cluster`], and its result is encoded. The cluster is the broker of the process or what name
//! servers know, so the same code serves both; it is asked by the remoting protocol.
//!
//! Invariants
//! - Messages of other clients never wait for this: operations run on a thread of their own, which the first request starts, and use
//!   connections of their own, which it opens.
//! - So many requests are served at a time, each within a time, as the settings say, and each answer has a maximum size.
//! - Addresses come from the cluster only. No request makes the server connect to an address that a client chose.
//!
//! Not here: what an operation does (`admin`), and its result as a table.

mod client;
mod message;
mod process;
mod progress;
mod refused;
mod service;
mod subscription;
mod topic;

use crate::codes::Refused;
use crate::connection::Connection;
use crate::route::name_of;
use crate::service::Messaging;
use crate::v2::{Code, Resource};
use crate::workers::Workers;
use ::admin::Cluster;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::Level;

/// Longest name or id that is taken.
const MAX_NAME_BYTES: usize = 255;
/// Maximum number of topics that a request names.
const MAX_TOPICS: usize = 100;

/// What the service Admin administers.
pub struct Administration {
    /// The broker of the process, or the clusters of name servers.
    pub cluster: Cluster,
    /// The address of the broker of the process for a client that connected to this one; without it the cluster has the addresses.
    pub address_for: Option<Box<dyn Fn(SocketAddr) -> SocketAddr + Send + Sync>>,
    /// Changes the level of the process's log. The text says why it cannot be changed.
    pub change_log_level: Option<fn(Level) -> Result<(), String>>,
}

/// The service.
pub(crate) struct Admin {
    messaging: Arc<Messaging>,
    /// A permit for each connection that may still be opened.
    connections: Arc<Semaphore>,
    administration: OnceLock<Arc<Administration>>,
    requests: Arc<Semaphore>,
    thread: Mutex<Option<Workers>>,
}

/// What an operation works with.
struct Work {
    messaging: Arc<Messaging>,
    administration: Arc<Administration>,
    connections: Arc<Semaphore>,
    /// The connection of the request.
    from: Arc<Connection>,
}

impl Admin {
    pub(crate) fn new(messaging: Arc<Messaging>, connections: Arc<Semaphore>) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(messaging.settings.admin_max_requests)),
            messaging,
            connections,
            administration: OnceLock::new(),
            thread: Mutex::default(),
        }
    }

    /// Serves requests from now on. The first call counts.
    pub(crate) fn serve(&self, administration: Administration) {
        let _ = self.administration.set(Arc::new(administration));
    }

    /// Runs an operation on the thread of this service.
    ///
    /// # Errors
    /// What the operation refuses. `Forbidden` for clients of other machines, `TooManyRequests` if too many are served, `ProxyTimeout` if it
    /// takes too long.
    async fn run<T, F>(&self, from: Arc<Connection>, operation: impl FnOnce(Work) -> F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refused>> + Send + 'static,
    {
        self.check_origin(&from)?;
        let Some(administration) = self.administration.get().cloned() else {
            return Err(Refused::new(Code::InternalServerError, "the server is starting; try again"));
        };
        let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() else {
            let most = self.messaging.settings.admin_max_requests;
            let text = format!("{most} requests of Admin are being served (apogeeGrpcAdminMaxRequests); try again");
            return Err(Refused::new(Code::TooManyRequests, text));
        };
        let operation = operation(Work {
            messaging: Arc::clone(&self.messaging),
            administration,
            connections: Arc::clone(&self.connections),
            from,
        });
        let limit = self.messaging.settings.admin_timeout;
        let served = self.thread()?.spawn(async move {
            let served = tokio::time::timeout(limit, operation).await;
            drop(permit);
            served.unwrap_or_else(|_| {
                let text = format!(
                    "not served within {} ms (apogeeGrpcAdminTimeoutMillis); ask for less, or look at the brokers",
                    limit.as_millis()
                );
                Err(Refused::new(Code::ProxyTimeout, text))
            })
        });
        served
            .await
            .unwrap_or_else(|_| Err(Refused::new(Code::InternalServerError, "the server is stopping")))
    }

    fn check_origin(&self, from: &Connection) -> Result<(), Refused> {
        if is_near(from.peer, from.local) || self.messaging.settings.admin_remote {
            return Ok(());
        }
        let text =
            "Admin serves clients of the server's machine only; set apogeeGrpcAdminRemote=true if all who reach this port may administer";
        Err(Refused::new(Code::Forbidden, text))
    }

    fn thread(&self) -> Result<Handle, Refused> {
        let mut thread = self.thread.lock();
        if let Some(running) = &*thread {
            return Ok(running.first().clone());
        }
        let started = Workers::start(1).map_err(|error| {
            let text = format!("the thread for Admin cannot be started: {error}");
            Refused::new(Code::InternalServerError, text)
        })?;
        Ok(thread.insert(started).first().clone())
    }
}

impl Work {
    fn cluster(&self) -> &Cluster {
        &self.administration.cluster
    }

    /// A deployment is a cluster.
    ///
    /// # Errors
    /// `NotFound` if there is none with this name.
    async fn check_deployment(&self, name: Option<&str>) -> Result<(), Refused> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        match self.cluster().members(name).await {
            Ok(_) => Ok(()),
            Err(::admin::Error::NoCluster { known, .. }) => {
                let text = format!(
                    "deployment_name {} is not the name of a cluster ({}); leave it out, or name one",
                    ::message::text::brief(name),
                    known.join(", ")
                );
                Err(Refused::new(Code::NotFound, text))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a connection comes from this machine.
fn is_near(peer: SocketAddr, local: SocketAddr) -> bool {
    peer.ip().is_loopback() || peer.ip() == local.ip()
}

/// The name of a topic of any kind.
///
/// # Errors
/// `IllegalTopic` if there is none, or it is too long.
fn topic_of(resource: Option<&Resource>) -> Result<&str, Refused> {
    checked(name_of(resource), "topic", Code::IllegalTopic)
}

/// # Errors
/// `IllegalConsumerGroup` if there is none, or it is too long.
fn group_of(resource: Option<&Resource>) -> Result<&str, Refused> {
    checked(name_of(resource), "group", Code::IllegalConsumerGroup)
}

/// Names of topics; empty if none is named.
///
/// # Errors
/// `BadRequest` if there are too many; `IllegalTopic` if one has no name.
fn topics_of(resources: &[Resource]) -> Result<Vec<&str>, Refused> {
    if resources.len() > MAX_TOPICS {
        let text = format!("{} topics; at most {MAX_TOPICS} in a request", resources.len());
        return Err(Refused::new(Code::BadRequest, text));
    }
    resources.iter().map(|resource| topic_of(Some(resource))).collect()
}

/// # Errors
/// `code` if the text is empty or too long.
fn checked<'a>(text: &'a str, what: &str, code: Code) -> Result<&'a str, Refused> {
    match text.len() {
        0 => Err(Refused::new(code, format!("the request names no {what}"))),
        1..=MAX_NAME_BYTES => Ok(text),
        bytes => Err(Refused::new(
            code,
            format!("the name of the {what} has {bytes} bytes; at most {MAX_NAME_BYTES}"),
        )),
    }
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        name: name.to_owned(),
        ..Resource::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_the_same_machine_are_near() {
        let near = |peer: &str, local: &str| is_near(peer.parse().unwrap(), local.parse().unwrap());
        assert!(near("127.0.0.1:5", "127.0.0.1:8081") && near("[::1]:5", "[::1]:8081"));
        assert!(near("10.0.0.1:5", "10.0.0.1:8081"), "by the machine's own address");
        assert!(!near("10.0.0.2:5", "10.0.0.1:8081") && !near("[fd00::2]:5", "[fd00::1]:8081"));
    }

    #[test]
    fn names_have_a_length() {
        assert_eq!(topic_of(resource("%RETRY%g").as_ref()).unwrap(), "%RETRY%g");
        assert_eq!(topic_of(None).unwrap_err().code, Code::IllegalTopic);
        let long = group_of(resource(&"g".repeat(256)).as_ref()).unwrap_err();
        assert_eq!(
            (long.code, long.text.contains("256 bytes; at most 255")),
            (Code::IllegalConsumerGroup, true)
        );
        let many = vec![Resource::default(); 101];
        assert_eq!(topics_of(&many).unwrap_err().code, Code::BadRequest);
    }
}
