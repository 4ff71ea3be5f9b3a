//! Lists of topics (206, 224, 304, 311 to 313) and the clusters (106): answers that grow with the whole table. They are kept encoded as
//! long as nothing changes, and made aside when they are not there.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use net::Connection;
use protocol::topic::TopicsByClusterHeader;
use protocol::{Frame, json};
use serde::Serialize;

use crate::embedded::Rewrite;
use crate::encoded::ListVariant;
use crate::java_order::{Table, ordered};
use crate::names::checked;
use crate::problem::Problem;
use crate::routes::Units;
use crate::server::{NameServer, Served};

/// What a name costs in a list beside its bytes: quotes and a comma.
const AROUND_NAME: usize = 3;

/// Which list.
#[derive(Debug, Clone)]
pub(crate) enum List {
    /// 206.
    All,
    /// 224, of this cluster.
    OfCluster(String),
    /// 304.
    System,
    /// 311 to 313.
    Units(Units),
    /// 106.
    Clusters,
}

impl List {
    /// Under which name it is kept.
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

/// As [`protocol::topic::TopicList`], of shared names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicList<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_addr: Option<String>,
    topic_list: Vec<&'a str>,
}

pub(crate) fn all(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
    enabled(names.settings.current().enable_all_topic_list)?;
    answer(names, conn, request, List::All)
}

pub(crate) fn of_cluster(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
    enabled(names.settings.current().enable_topic_list)?;
    let header = TopicsByClusterHeader::decode(&request.ext)?;
    let cluster = checked("cluster", header.cluster)?;
    answer(names, conn, request, List::OfCluster(cluster.to_owned()))
}

pub(crate) fn units(names: &NameServer, conn: &Arc<Connection>, request: &Frame, units: Units) -> Result<Served, Problem> {
    enabled(names.settings.current().enable_topic_list)?;
    answer(names, conn, request, List::Units(units))
}

fn enabled(setting: bool) -> Result<(), Problem> {
    if setting { Ok(()) } else { Err(Problem::Disabled) }
}

/// Compat: as with Apache, `enableTopicList` does not count for [`List::System`].
pub(crate) fn answer(names: &NameServer, conn: &Arc<Connection>, request: &Frame, list: List) -> Result<Served, Problem> {
    let rewrite = Rewrite::new(names.local_broker.as_ref(), conn.local().ip());
    let seen = rewrite.as_ref().map(|rewrite| rewrite.seen().to_owned());
    if let Some(body) = kept(names, &list, seen.clone()).0 {
        return Ok(Served::Now(Frame::response_to(request).with_body(body)));
    }
    let code = request.code;
    names.aside(&names.work, conn, request, 0, move |names, answer| {
        // The job before it may have been for the same list.
        let (kept, variant) = kept(names, &list, seen);
        if let Some(body) = kept {
            return Ok(answer.with_body(body));
        }
        let body = write(names, &list, rewrite.as_ref(), code)?;
        names.encoded_lists.keep(&list.name(), variant, body.clone());
        Ok(answer.with_body(body))
    })
}

/// The list as it was sent since the last change, and what to keep it under. Taken before the list is made, so that a list is never
/// older than its stamp.
fn kept(names: &NameServer, list: &List, seen: Option<String>) -> (Option<Bytes>, ListVariant) {
    let stamp = names.routes.read().list_stamp();
    let variant = ListVariant { stamp, seen };
    (names.encoded_lists.find(&list.name(), &variant), variant)
}

fn write(names: &NameServer, list: &List, rewrite: Option<&Rewrite>, code: i32) -> Result<Bytes, Problem> {
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
    // A cluster may be called as one of its brokers.
    topics.dedup();
    let topic_list = topics.iter().map(|topic| &**topic).collect();
    let body: Bytes = json::write(&TopicList { broker_addr, topic_list }).into();
    Ok(body)
}

fn clusters(names: &NameServer, rewrite: Option<&Rewrite>) -> Bytes {
    let mut info = names.routes.read().cluster_info();
    if let Some(rewrite) = rewrite {
        info.brokers_mut().for_each(|data| rewrite.broker(data));
    }
    json::write(&info).into()
}
