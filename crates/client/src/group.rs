//! Consumer groups: creating (200, 225), deleting (207), settings (201, 352), request mode (401).

use protocol::assignment::GroupRequestMode;
use protocol::group::{DeleteGroupHeader, GroupConfig, GroupConfigList, GroupConfigs, GroupHeader};
use protocol::{Frame, RequestCode, json};

use crate::{Client, Error};

impl Client {
    /// Creates a group at a broker, or changes its settings. Attributes are changes: `+name` sets a value, `-name` removes it.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn create_group(&self, address: &str, config: &GroupConfig) -> Result<(), Error> {
        let request = Frame::request(RequestCode::UpdateAndCreateSubscriptiongroup).with_body(json::write_standard(config));
        self.ask(address, request).await.map(drop)
    }

    /// Creates or changes several groups at a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn create_groups(&self, address: &str, groups: &GroupConfigList) -> Result<(), Error> {
        let request = Frame::request(RequestCode::UpdateAndCreateSubscriptiongroupList).with_body(json::write_standard(groups));
        self.ask(address, request).await.map(drop)
    }

    /// Deletes a group at a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn delete_group(&self, address: &str, group_name: &str, clean_offset: bool) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::DeleteSubscriptiongroup);
        DeleteGroupHeader { group_name, clean_offset }.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// The settings of a group at a broker. A broker that creates groups on first use creates this one.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`]; code 26 if there is no such group.
    pub async fn group_config(&self, address: &str, group: &str) -> Result<GroupConfig, Error> {
        let mut request = Frame::request(RequestCode::GetSubscriptiongroupConfig);
        GroupHeader { group }.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// The settings of all groups of a broker.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn group_configs(&self, address: &str) -> Result<GroupConfigs, Error> {
        self.ask_for(address, Frame::request(RequestCode::GetAllSubscriptiongroupConfig))
            .await
    }

    /// Sets the request mode of a group for a topic.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn set_request_mode(&self, address: &str, mode: &GroupRequestMode) -> Result<(), Error> {
        let request = Frame::request(RequestCode::SetMessageRequestMode).with_body(json::write_standard(mode));
        self.ask(address, request).await.map(drop)
    }
}
