//! Where brokers are: what name servers tell of masters and topics, kept for a while.

use super::answer::Unserved;
use crate::cluster::cache::Cache;
use crate::cluster::settings::ClusterSettings;
use crate::cluster::{Masters, look_up_masters};
use crate::codes::Refused;
use crate::v2::Code;
use net::session::Connector;
use parking_lot::Mutex;
use protocol::ResponseCode;
use protocol::route::{MASTER_ID, TopicRoute};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A broker that is not known is looked up so often at most.
const BETWEEN_LOOK_UPS: Duration = Duration::from_secs(1);

/// What name servers tell.
pub(super) struct Directory {
    client: client::Client,
    /// Its only name is empty.
    masters: Cache<Masters>,
    /// The names of the masters of a topic.
    topics: Cache<Vec<Arc<str>>>,
    looked_up: Mutex<Option<Instant>>,
}

impl Directory {
    pub(super) fn new(settings: &ClusterSettings, connector: Option<Arc<dyn Connector>>) -> Self {
        let mut options = client::Options::with_name_servers(settings.namesrv_addr.iter().cloned());
        options.request_timeout = settings.request_timeout;
        options.connector = connector;
        options.limits.max_pending_requests = settings.max_pending_requests;
        Self {
            client: client::Client::new(options),
            masters: Cache::new(1, settings.route_age),
            topics: Cache::new(settings.max_routes, settings.route_age),
            looked_up: Mutex::default(),
        }
    }

    /// All masters of the cluster.
    pub(super) async fn masters(&self) -> Result<Arc<Masters>, Unserved> {
        let look_up = async {
            *self.looked_up.lock() = Some(Instant::now());
            look_up_masters(&self.client).await.map(Some).map_err(refused)
        };
        let masters = self.masters.get("", look_up).await.map_err(unserved)?;
        Ok(masters.unwrap_or_default())
    }

    /// All masters, if they are known without a look-up.
    pub(super) fn fresh_masters(&self) -> Option<Arc<Masters>> {
        self.masters.fresh("")
    }

    /// The address of a master; `None` if no name server knows it.
    pub(super) async fn master(&self, name: &str) -> Result<Option<Box<str>>, Unserved> {
        if let Some(address) = self.masters().await?.get(name) {
            return Ok(Some(address.clone()));
        }
        // It may have registered a moment ago.
        self.expire_masters();
        Ok(self.masters().await?.get(name).cloned())
    }

    /// A broker is not where it was: the next one who wants a broker looks it up, if nobody did a moment ago.
    pub(super) fn expire_masters(&self) {
        let is_old = self.looked_up.lock().is_none_or(|at| at.elapsed() > BETWEEN_LOOK_UPS);
        if is_old {
            self.masters.expire("");
        }
    }

    /// The names of the masters that have a topic; empty if no name server knows it.
    pub(super) async fn masters_of(&self, topic: &str) -> Result<Arc<Vec<Arc<str>>>, Unserved> {
        let look_up = async {
            match self.client.topic_route(topic).await {
                Ok(route) => Ok(Some(names_of_masters(&route))),
                Err(error) if error.code() == Some(ResponseCode::TopicNotExist.into()) => Ok(None),
                Err(error) => Err(refused(error)),
            }
        };
        let names = self.topics.get(topic, look_up).await.map_err(unserved)?;
        Ok(names.unwrap_or_default())
    }

    /// The route of a topic, from a name server.
    pub(super) async fn route(&self, topic: &str) -> Result<TopicRoute, Unserved> {
        self.client.topic_route(topic).await.map_err(|error| {
            let code = error.code().and_then(|code| ResponseCode::try_from(code).ok());
            let text = match error {
                client::Error::Refused { remark, .. } => remark,
                other => other.to_string(),
            };
            Unserved::new(code.unwrap_or(ResponseCode::SystemError), text)
        })
    }
}

fn names_of_masters(route: &TopicRoute) -> Vec<Arc<str>> {
    let masters = route
        .broker_datas
        .iter()
        .filter(|broker| broker.broker_addrs.contains_key(&MASTER_ID));
    let mut names: Vec<Arc<str>> = masters.map(|broker| broker.broker_name.as_str().into()).collect();
    names.sort();
    names
}

fn refused(error: client::Error) -> Refused {
    Refused::new(Code::InternalServerError, error.to_string())
}

fn unserved(refused: Refused) -> Unserved {
    Unserved::unreachable(format!("the proxy has no answer of a name server: {}", refused.text))
}
