//! Topics: creating (17, 18, static ones 513), deleting (215 at brokers, 216 at name servers), listing (21, 206, 305), the settings of one (351), their state (202), unused ones (316).

use message::names;
use protocol::stats::TopicStatsTable;
use protocol::topic::{
    CreateTopicHeader, DeleteTopicInNameServerHeader, TopicConfig, TopicConfigAndMapping, TopicConfigHeader, TopicConfigList, TopicConfigs,
    TopicHeader, TopicList,
};
use protocol::{Frame, RequestCode, json};

use crate::error::OrMalformed;
use crate::{Client, Error};

impl Client {
    /// Creates a topic at a broker, or changes its settings. Attributes are changes: `+name` sets a value, `-name` removes it.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn create_topic(&self, address: &str, config: &TopicConfig) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::UpdateAndCreateTopic);
        let attributes = attribute_changes(config);
        let header = CreateTopicHeader {
            attributes: (!attributes.is_empty()).then_some(&attributes),
            ..header_of(config)
        };
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Creates or changes a static topic at a broker, with its mapping. With `force` the broker accepts a mapping that contradicts its own.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn create_static_topic(&self, address: &str, topic: &TopicConfigAndMapping, force: bool) -> Result<(), Error> {
        let config = &topic.config;
        let mut request = Frame::request(RequestCode::UpdateAndCreateStaticTopic);
        let header = CreateTopicHeader {
            force,
            ..header_of(config)
        };
        header.encode(&mut request.ext);
        let request = request.with_body(json::write_standard(&topic.mapping_detail));
        self.ask(address, request).await.map(drop)
    }

    /// Creates or changes several topics at a broker: all, or none if one is refused.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn create_topics(&self, address: &str, topics: &TopicConfigList) -> Result<(), Error> {
        let request = Frame::request(RequestCode::UpdateAndCreateTopicList).with_body(json::write_standard(topics));
        self.ask(address, request).await.map(drop)
    }

    /// The settings of all topics of a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn topic_configs(&self, address: &str) -> Result<TopicConfigs, Error> {
        self.ask_for(address, Frame::request(RequestCode::GetAllTopicConfig)).await
    }

    /// The settings of one topic of a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`]; code 17 if there is no such topic, 3 from brokers before 5.0.
    pub async fn topic_config(&self, address: &str, topic: &str) -> Result<TopicConfig, Error> {
        let mut request = Frame::request(RequestCode::GetTopicConfig);
        TopicConfigHeader { topic, is_logical: None }.encode(&mut request.ext);
        let found: TopicConfigAndMapping = self.ask_for(address, request).await?;
        Ok(found.config)
    }

    /// As [`Client::topic_config`], with the mapping of a static topic.
    ///
    /// # Errors
    /// As [`Client::topic_config`].
    pub async fn topic_config_and_mapping(&self, address: &str, topic: &str) -> Result<TopicConfigAndMapping, Error> {
        let mut request = Frame::request(RequestCode::GetTopicConfig);
        let is_logical = Some(true);
        TopicConfigHeader { topic, is_logical }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// The system topics of a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn system_topics(&self, address: &str) -> Result<TopicList, Error> {
        self.ask_for(address, Frame::request(RequestCode::GetSystemTopicListFromBroker))
            .await
    }

    /// The first and last offsets of a topic's queues at a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn topic_stats(&self, address: &str, topic: &str) -> Result<TopicStatsTable, Error> {
        let mut request = Frame::request(RequestCode::GetTopicStatsInfo);
        TopicHeader { topic }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// Tells a broker to delete the queues of topics that it no longer has.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn clean_unused_topics(&self, address: &str) -> Result<(), Error> {
        self.ask(address, Frame::request(RequestCode::CleanUnusedTopic)).await.map(drop)
    }

    /// Deletes a topic at a broker, with its messages.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn delete_topic(&self, address: &str, topic: &str) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::DeleteTopicInBroker);
        TopicHeader { topic }.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Deletes a topic's route at one name server, for one cluster or all.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn delete_route_at(&self, name_server: &str, topic: &str, cluster_name: Option<&str>) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::DeleteTopicInNamesrv);
        DeleteTopicInNameServerHeader { topic, cluster_name }.encode(&mut request.ext);
        self.ask(name_server, request).await.map(drop)
    }

    /// The names of all topics that the name servers have.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::cluster`].
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        let request = Frame::request(RequestCode::GetAllTopicListFromNameserver);
        let (address, answer) = self.ask_name_server(request).await?;
        let list: TopicList = json::read(&answer.body).or_malformed(&address)?;
        Ok(list.topic_list.into_iter().collect())
    }
}

/// The settings of a topic without its attributes.
fn header_of(config: &TopicConfig) -> CreateTopicHeader<'_> {
    CreateTopicHeader {
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
    }
}

/// `+name=value,-name,…`.
fn attribute_changes(config: &TopicConfig) -> String {
    let change = |(name, value): (&String, &String)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    };
    config.attributes.iter().map(change).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_sent_as_changes() {
        let mut config = TopicConfig::new("t", 1);
        assert_eq!(attribute_changes(&config), "");
        config.attributes = [("+a".to_owned(), "1".to_owned()), ("-b".to_owned(), String::new())].into();
        assert_eq!(attribute_changes(&config), "+a=1,-b");
    }
}
