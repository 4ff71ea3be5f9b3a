//! Lists of topics (206, 224, 304, 311 to 313) and the clusters (106): answers that grow with the tables. They are
//! cached until something changes, and encoded on the `work` thread.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use net::Connection;
use protocol::topic::TopicsByClusterHeader;
use protocol::{Frame, json};
use serde::Serialize;

use crate::cache::ListVariant;
use crate::embedded::AddressRewrite;
use crate::error::RequestError;
use crate::java_order::{Table, ordered};
use crate::names::checked;
use crate::routes::Units;
use crate::server::{NameServer, Served};

/// Bytes of a name in a list beside its own: quotes and a comma.
const AROUND_NAME: usize = 3;

/// Which list.
#[derive(Debug, Clone)]
pub(crate) enum List {
    /// 206.
    All,
    /// 224, for this cluster.
    OfCluster(String),
    /// 304.
    System,
    /// 311 to 313.
    Units(Units),
    /// 106.
    Clusters,
}

impl List {
    /// Its name in the cache.
    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::All => "206",
            Self::OfCluster(cluster) => return format!("224 {cluster}").into(),
            Self::System => "304",
            Self::Units(Units::Unit) => "311",
            Self::Units(Units::Subscribed) => "312",
            Self::Units(Units::OnlySubscribed) => "313",
            Self::Clusters => "106",
        })
    }
}

/// Like [`protocol::topic::TopicList`], with borrowed names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicList<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_addr: Option<String>,
    topic_list: Vec<&'a str>,
}

pub(crate) fn all(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    check_enabled(names.settings.current().enable_all_topic_list)?;
    answer(names, conn, request, List::All)
}

pub(crate) fn of_cluster(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    check_enabled(names.settings.current().enable_topic_list)?;
    let header = TopicsByClusterHeader::decode(&request.ext)?;
    let cluster = checked("cluster", header.cluster)?;
    answer(names, conn, request, List::OfCluster(cluster.to_owned()))
}

pub(crate) fn units(names: &NameServer, conn: &Arc<Connection>, request: &Frame, units: Units) -> Result<Served, RequestError> {
    check_enabled(names.settings.current().enable_topic_list)?;
    answer(names, conn, request, List::Units(units))
}

fn check_enabled(setting: bool) -> Result<(), RequestError> {
    if setting { Ok(()) } else { Err(RequestError::Disabled) }
}

/// Compat: like Apache's, [`List::System`] does not depend on `enableTopicList`.
pub(crate) fn answer(names: &NameServer, conn: &Arc<Connection>, request: &Frame, list: List) -> Result<Served, RequestError> {
    let rewrite = AddressRewrite::new(names.local_broker.as_ref(), conn.local().ip());
    let shown = rewrite.as_ref().map(|rewrite| rewrite.shown().to_owned());
    if let Some(body) = cached(names, &list, shown.clone()).0 {
        return Ok(Served::Now(Frame::response_to(request).with_body(body)));
    }
    let code = request.code;
    names.serve_on(&names.work, conn, request, 0, move |names, answer| {
        // An earlier job may have encoded the same list.
        let (cached, variant) = cached(names, &list, shown);
        if let Some(body) = cached {
            return Ok(answer.with_body(body));
        }
        let body = encode(names, &list, rewrite.as_ref(), code)?;
        names.list_cache.insert(&list.name(), variant, body.clone());
        Ok(answer.with_body(body))
    })
}

/// Looks up the list in the cache, and returns the variant under which to insert it. The stamp is read before the list is encoded, so that
/// a list is never older than its stamp.
fn cached(names: &NameServer, list: &List, shown: Option<String>) -> (Option<Bytes>, ListVariant) {
    let stamp = names.routes.read().list_stamp();
    let variant = ListVariant { stamp, shown };
    (names.list_cache.get(&list.name(), &variant), variant)
}

fn encode(names: &NameServer, list: &List, rewrite: Option<&AddressRewrite>, code: i32) -> Result<Bytes, RequestError> {
    let mut broker_addr = None;
    let mut topics = match list {
        List::Clusters => return Ok(clusters(names, rewrite)),
        List::All => names.routes.read().all_topics(),
        List::OfCluster(cluster) => names.routes.read().topics_of_cluster(cluster),
        List::Units(units) => names.routes.read().unit_topics(*units),
        List::System => {
            let (topics, address) = names.routes.read().system_topics();
            broker_addr = address;
            topics
        }
    };
    names.fits(topics.iter().map(|topic| topic.len() + AROUND_NAME).sum(), code)?;
    if let Some((rewrite, address)) = rewrite.zip(broker_addr.as_mut()) {
        rewrite.address(address);
    }
    topics = ordered(topics, Table::Concurrent(8), |topic| topic);
    // A cluster may have the name of one of its brokers.
    topics.dedup();
    let topic_list = topics.iter().map(|topic| &**topic).collect();
    let body: Bytes = json::write(&TopicList { broker_addr, topic_list }).into();
    Ok(body)
}

fn clusters(names: &NameServer, rewrite: Option<&AddressRewrite>) -> Bytes {
    let mut info = names.routes.read().cluster_info();
    if let Some(rewrite) = rewrite {
        info.brokers_mut().for_each(|data| rewrite.broker(data));
    }
    json::write(&info).into()
}
