//! Topics: their type and settings, and their route.

use super::{Work, topic_of};
use crate::codes::{self, Refused};
use crate::message::accepted;
use crate::v2::{Code, DescribeTopicStatusRequest, DescribeTopicStatusResponse, GetTopicRouteRequest, GetTopicRouteResponse, MessageType};
use ::admin::topic;
use broker::attributes::MESSAGE_TYPE;
use protocol::json;

impl Work {
    /// Brokers keep no description of a topic, and not when it was created.
    pub(super) async fn topic_status(&self, told: DescribeTopicStatusRequest) -> Result<DescribeTopicStatusResponse, Refused> {
        let config = topic::settings(self.cluster(), topic_of(told.topic.as_ref())?).await?;
        let kinds = accepted(config.attributes.get(MESSAGE_TYPE).map(String::as_str));
        // Of a topic that takes several types none is told.
        let kind = match kinds.as_slice() {
            [one] => *one,
            _ => MessageType::Unspecified,
        };
        let mut tags = config.attributes;
        tags.insert("perm".to_owned(), config.perm.to_string());
        tags.insert("readQueueNums".to_owned(), config.read_queue_nums.to_string());
        tags.insert("writeQueueNums".to_owned(), config.write_queue_nums.to_string());
        tags.insert("order".to_owned(), config.order.to_string());
        Ok(DescribeTopicStatusResponse {
            status: Some(codes::ok()),
            topic_message_type: kind.into(),
            tags,
            ..DescribeTopicStatusResponse::default()
        })
    }

    /// The broker of the process has the address under which the client reached it, as in the name server's routes. The kind of network and
    /// the protocol that the request names change nothing: a broker has one address.
    pub(super) async fn route(&self, told: GetTopicRouteRequest) -> Result<GetTopicRouteResponse, Refused> {
        let mut route = topic::state::route(self.cluster(), topic_of(told.topic.as_ref())?).await?;
        if let Some(address_for) = &self.administration.address_for {
            let address = address_for(self.from.local).to_string();
            for known in route.broker_datas.iter_mut().flat_map(|data| data.broker_addrs.values_mut()) {
                known.clone_from(&address);
            }
        }
        let text = String::from_utf8(json::write_standard(&route));
        Ok(GetTopicRouteResponse {
            status: Some(codes::ok()),
            topic_route_data: text.map_err(|_| Refused::new(Code::InternalServerError, "the route is not text"))?,
        })
    }
}
