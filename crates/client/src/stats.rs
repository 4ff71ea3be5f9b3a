//! Statistics: a broker's runtime information (28), progress of groups (208, 303, 317), counters (315), consumer groups of a topic (300),
//! connections (203, 204, 328), replication (907).

use protocol::diagnose::{ConsumeTimeSpanHeader, ConsumeTimeSpans};
use protocol::group::GroupList;
use protocol::heartbeat::ConsumerGroupHeader;
use protocol::kv::KvTable;
use protocol::replication::ReplicationStatus;
use protocol::stats::{
    BrokerConsumeStatsHeader, BrokerStatsData, BrokerStatsHeader, ConsumeStats, ConsumeStatsHeader, ConsumeStatsList, ConsumerConnection,
    ProducerConnection, ProducerGroupHeader, ProducerTable,
};
use protocol::topic::TopicHeader;
use protocol::{Frame, RequestCode, ResponseCode};

use crate::{Client, Error};

impl Client {
    /// A broker's runtime information, by name.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn broker_state(&self, address: &str) -> Result<KvTable, Error> {
        self.ask_for(address, Frame::request(RequestCode::GetBrokerRuntimeInfo)).await
    }

    /// A group's progress at a broker, in one or all of its topics.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn progress(&self, address: &str, consumer_group: &str, topic: Option<&str>) -> Result<ConsumeStats, Error> {
        let mut request = Frame::request(RequestCode::GetConsumeStats);
        let header = ConsumeStatsHeader {
            consumer_group,
            topic,
            topic_list: None,
        };
        header.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// Store times of a topic's queues at a broker, and how far behind a group is in each.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn time_spans(&self, address: &str, group: &str, topic: &str) -> Result<ConsumeTimeSpans, Error> {
        let mut request = Frame::request(RequestCode::QueryConsumeTimeSpan);
        ConsumeTimeSpanHeader { topic, group }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// The progress of all groups at a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn progress_of_all(&self, address: &str, is_order: bool) -> Result<ConsumeStatsList, Error> {
        let mut request = Frame::request(RequestCode::GetBrokerConsumeStats);
        BrokerConsumeStatsHeader { is_order }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// A counter of a broker, such as `TOPIC_PUT_NUMS` of a topic; `None` if nothing was counted.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn counter(&self, address: &str, stats_name: &str, stats_key: &str) -> Result<Option<BrokerStatsData>, Error> {
        let mut request = Frame::request(RequestCode::ViewBrokerStatsData);
        BrokerStatsHeader { stats_name, stats_key }.encode(&mut request.ext);
        match self.ask_for(address, request).await {
            Ok(counted) => Ok(Some(counted)),
            // Compat: before the first message the Java broker has no counter and answers with this code.
            Err(error) if error.code() == Some(ResponseCode::SystemError.into()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The groups that consume a topic at a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn groups_of_topic(&self, address: &str, topic: &str) -> Result<GroupList, Error> {
        let mut request = Frame::request(RequestCode::QueryTopicConsumeByWho);
        TopicHeader { topic }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// The consumers of a group that are connected to a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`]; code 206 if there are none.
    pub async fn consumer_connections(&self, address: &str, consumer_group: &str) -> Result<ConsumerConnection, Error> {
        let mut request = Frame::request(RequestCode::GetConsumerConnectionList);
        ConsumerGroupHeader { consumer_group }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// The producers of a group that are connected to a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn producer_connections(&self, address: &str, producer_group: &str) -> Result<ProducerConnection, Error> {
        let mut request = Frame::request(RequestCode::GetProducerConnectionList);
        ProducerGroupHeader { producer_group }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// All producers that are connected to a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn producers(&self, address: &str) -> Result<ProducerTable, Error> {
        self.ask_for(address, Frame::request(RequestCode::GetAllProducerInfo)).await
    }

    /// The replication status of a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn replication(&self, address: &str) -> Result<ReplicationStatus, Error> {
        self.ask_for(address, Frame::request(RequestCode::GetBrokerHaStatus)).await
    }
}
