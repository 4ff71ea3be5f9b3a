//! Routes (105): as a name server tells them, with the proxy as the address of all brokers.

use super::answer::{Asked, Unserved};
use super::session::Session;
use protocol::route::{MASTER_ID, RouteHeader, TopicRoute};
use protocol::{Frame, ResponseCode};
use std::sync::Arc;

/// Answers with the route of a topic.
pub(super) async fn answer(session: Arc<Session>, request: Frame, asked: Asked) {
    let header = match RouteHeader::decode(&request.ext) {
        Ok(header) => header,
        Err(error) => return asked.end(Err(Unserved::new(ResponseCode::InvalidParameter, error.to_string()))),
    };
    let route = match session.shared().directory.route(header.topic).await {
        Ok(route) => route,
        Err(why) => return asked.end(Err(why)),
    };
    let address = session.shared().settings.address_for(session.client().local());
    let route = through_proxy(route, &address);
    let body = route.encode(request.version, header.accept_standard_json_only.unwrap_or(false));
    asked.end(Ok(Frame::response_to(&request).with_body(body)));
}

/// The route with one address for all masters. Slaves are left out, and with them brokers that have no master.
fn through_proxy(mut route: TopicRoute, address: &str) -> TopicRoute {
    route.broker_datas.retain(|broker| broker.broker_addrs.contains_key(&MASTER_ID));
    for broker in &mut route.broker_datas {
        broker.broker_addrs = [(MASTER_ID, address.to_owned())].into();
    }
    let (brokers, queues) = (&route.broker_datas, &mut route.queue_datas);
    queues.retain(|queues| brokers.iter().any(|broker| broker.broker_name == queues.broker_name));
    route.filter_server_table.clear();
    route
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::route::{BrokerData, QueueData};

    #[test]
    fn all_masters_have_the_address_of_the_proxy_and_slaves_are_left_out() {
        let broker = |name: &str, ids: &[i64]| BrokerData {
            broker_name: name.to_owned(),
            broker_addrs: ids.iter().map(|id| (*id, format!("{name}:{id}"))).collect(),
            ..BrokerData::default()
        };
        let queues = |name: &str| QueueData {
            broker_name: name.to_owned(),
            ..QueueData::default()
        };
        let route = TopicRoute {
            broker_datas: vec![broker("a", &[0, 1]), broker("slaves", &[1, 2]), broker("b", &[0])],
            queue_datas: vec![queues("a"), queues("slaves"), queues("b"), queues("gone")],
            order_topic_conf: Some("a:4".to_owned()),
            ..TopicRoute::default()
        };
        let told = through_proxy(route, "proxy:8080");
        let brokers: Vec<_> = told
            .broker_datas
            .iter()
            .map(|broker| (&*broker.broker_name, &broker.broker_addrs))
            .collect();
        let proxy = [(MASTER_ID, "proxy:8080".to_owned())].into();
        assert_eq!(brokers, [("a", &proxy), ("b", &proxy)]);
        let queues: Vec<_> = told.queue_datas.iter().map(|queues| &*queues.broker_name).collect();
        assert_eq!(queues, ["a", "b"]);
        assert_eq!(told.order_topic_conf.as_deref(), Some("a:4"));
    }
}
