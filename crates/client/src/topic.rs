//! Topics: creating (17), deleting (215 at brokers, 216 at name servers), listing (206).

use message::names;
use protocol::topic::{CreateTopicHeader, DeleteTopicInNameServerHeader, TopicConfig, TopicHeader, TopicList};
use protocol::{Frame, RequestCode, json};

use crate::error::Understood;
use crate::{Client, Error};

impl Client {
    /// Creates a topic at a broker, or changes its settings. Attributes are not sent.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn create_topic(&self, address: &str, config: &TopicConfig) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::UpdateAndCreateTopic);
        let header = CreateTopicHeader {
            topic: &config.topic_name,
            default_topic: Some(names::AUTO_CREATE_TOPIC),
            read_queue_nums: config.read_queue_nums,
            write_queue_nums: config.write_queue_nums,
            perm: config.perm,
            topic_filter_type: Some(config.topic_filter_type.name()),
            topic_sys_flag: Some(config.topic_sys_flag),
            order: config.order,
            attributes: None,
            force: false,
        };
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Deletes a topic at a broker, with its messages.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn delete_topic(&self, address: &str, topic: &str) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::DeleteTopicInBroker);
        TopicHeader { topic }.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Deletes a topic's route at all name servers.
    ///
    /// # Errors
    /// As [`Client::ask`], of the first name server that fails; the others are asked nevertheless.
    pub async fn delete_route(&self, topic: &str) -> Result<(), Error> {
        let header = DeleteTopicInNameServerHeader { topic, cluster_name: None };
        let mut outcome = Ok(());
        for address in self.name_servers() {
            let mut request = Frame::request(RequestCode::DeleteTopicInNamesrv);
            header.encode(&mut request.ext);
            outcome = outcome.and(self.ask(address, request).await.map(drop));
        }
        outcome
    }

    /// The names of all topics the name servers know.
    ///
    /// # Errors
    /// As [`Client::cluster`].
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        let request = Frame::request(RequestCode::GetAllTopicListFromNameserver);
        let (address, answer) = self.ask_name_server(request).await?;
        let list: TopicList = json::read(&answer.body).understood(&address)?;
        Ok(list.topic_list.into_iter().collect())
    }
}
