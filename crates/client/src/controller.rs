//! A controller's requests for tools: 1002, 1005, 1006, 1009 to 1011, and a broker's epochs (1007).

use protocol::controller::{
    BrokerReplicasInfo, CleanBrokerDataHeader, ControllerMetadata, ElectMasterBody, ElectMasterHeader, EpochCache, MasterHeader,
};
use protocol::{Frame, RequestCode, json};

use crate::error::OrMalformed;
use crate::{Client, Error};

/// Who leads a group of controllers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Controllers {
    /// Name of the group.
    pub group: String,
    /// Id of the leader, if there is one.
    pub leader_id: Option<String>,
    /// `host:port` of the leader, if there is one.
    pub leader_address: Option<String>,
    /// `id:host:port` of all.
    pub peers: Vec<String>,
}

/// The master of a broker name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Elected {
    /// Id of the master.
    pub master_id: Option<i64>,
    /// `host:port` of the master.
    pub master_address: Option<String>,
    /// The master's epoch.
    pub master_epoch: Option<i32>,
    /// Epoch of the in-sync set.
    pub sync_state_set_epoch: Option<i32>,
    /// The brokers of the name, and the in-sync set.
    pub body: ElectMasterBody,
}

impl Client {
    /// Who leads the group of the controller at an address.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn controllers(&self, address: &str) -> Result<Controllers, Error> {
        let answer = self.ask(address, Frame::request(RequestCode::ControllerGetMetadataInfo)).await?;
        let metadata = ControllerMetadata::decode(&answer.ext).or_malformed(address)?;
        let text = |field: Option<&str>| field.filter(|text| !text.is_empty()).map(str::to_owned);
        let peers = metadata.peers.unwrap_or_default().split(';').filter(|peer| !peer.is_empty());
        Ok(Controllers {
            group: text(metadata.group).unwrap_or_default(),
            leader_id: text(metadata.controller_leader_id),
            leader_address: text(metadata.controller_leader_address),
            peers: peers.map(str::to_owned).collect(),
        })
    }

    /// The replicas of broker names, as the leading controller knows them.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn sync_states(&self, leader: &str, broker_names: &[String]) -> Result<BrokerReplicasInfo, Error> {
        let body = json::write(broker_names);
        self.ask_for(leader, Frame::request(RequestCode::ControllerGetSyncStateData).with_body(body))
            .await
    }

    /// Makes a broker the master of its name.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn elect_master(&self, leader: &str, cluster: &str, broker_name: &str, id: i64) -> Result<Elected, Error> {
        let mut request = Frame::request(RequestCode::ControllerElectMaster);
        ElectMasterHeader {
            cluster_name: Some(cluster),
            broker_name,
            broker_id: Some(id),
            designate_elect: true,
            gave_up_epoch: None,
        }
        .encode(&mut request.ext);
        let answer = self.ask(leader, request).await?;
        let header = MasterHeader::decode(&answer.ext).or_malformed(leader)?;
        Ok(Elected {
            master_id: header.master_broker_id,
            master_address: header.master_address.map(str::to_owned),
            master_epoch: header.master_epoch,
            sync_state_set_epoch: header.sync_state_set_epoch,
            body: match &answer.body[..] {
                [] => ElectMasterBody::default(),
                body => json::read(body).or_malformed(leader)?,
            },
        })
    }

    /// Lets the controllers forget brokers of a name. `ids` are separated by `;`; without them, all.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn clean_broker_data(
        &self,
        leader: &str,
        cluster: Option<&str>,
        broker_name: &str,
        ids: Option<&str>,
        living: bool,
    ) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::CleanBrokerData);
        CleanBrokerDataHeader {
            cluster_name: cluster,
            broker_name,
            broker_controller_ids_to_clean: ids,
            is_clean_living_broker: living,
        }
        .encode(&mut request.ext);
        self.ask(leader, request).await.map(drop)
    }

    /// A controller's settings as properties text.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn controller_config(&self, address: &str) -> Result<String, Error> {
        self.text(address, RequestCode::GetControllerConfig).await
    }

    /// Changes settings of a running controller, like [`Client::update_broker_config`].
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn update_controller_config(&self, address: &str, properties: &str) -> Result<Option<String>, Error> {
        let request = Frame::request(RequestCode::UpdateControllerConfig).with_body(properties.to_owned());
        self.ask(address, request).await.map(|answer| answer.remark)
    }

    /// Which part of a broker's log was written in which epoch.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn epochs(&self, broker: &str) -> Result<EpochCache, Error> {
        self.ask_for(broker, Frame::request(RequestCode::GetBrokerEpochCache)).await
    }
}
