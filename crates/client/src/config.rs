//! Settings of brokers (25, 26) and name servers (318, 319) as properties text; deletion of expired files on request (306, 329);
//! the master's flushed offset that a slave keeps (908).

use protocol::replication::ResetMasterFlushOffsetHeader;
use protocol::{Frame, RequestCode};

use crate::{Client, Error};

impl Client {
    /// A broker's settings as properties text.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn broker_config(&self, address: &str) -> Result<String, Error> {
        self.text(address, RequestCode::GetBrokerConfig).await
    }

    /// Changes settings of a running broker: lines of `key=value`. Returns the broker's notes: what a value counts as, or
    /// that a key has no effect.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn update_broker_config(&self, address: &str, properties: &str) -> Result<Option<String>, Error> {
        let request = Frame::request(RequestCode::UpdateBrokerConfig).with_body(properties.to_owned());
        self.ask(address, request).await.map(|answer| answer.remark)
    }

    /// A name server's settings as properties text.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn name_server_config(&self, address: &str) -> Result<String, Error> {
        self.text(address, RequestCode::GetNamesrvConfig).await
    }

    /// Changes settings of a running name server, like [`Client::update_broker_config`].
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn update_name_server_config(&self, address: &str, properties: &str) -> Result<Option<String>, Error> {
        let request = Frame::request(RequestCode::UpdateNamesrvConfig).with_body(properties.to_owned());
        self.ask(address, request).await.map(|answer| answer.remark)
    }

    /// Tells a broker to delete queue files without messages.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn clean_expired_queues(&self, address: &str) -> Result<(), Error> {
        self.ask(address, Frame::request(RequestCode::CleanExpiredConsumequeue))
            .await
            .map(drop)
    }

    /// Sets the flushed offset of its master that a slave keeps. A master answers with success and ignores it.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn reset_master_flush_offset(&self, address: &str, master_flush_offset: i64) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::ResetMasterFlushOffset);
        ResetMasterFlushOffsetHeader { master_flush_offset }.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Tells a broker to delete expired log files.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn delete_expired_log(&self, address: &str) -> Result<(), Error> {
        self.ask(address, Frame::request(RequestCode::DeleteExpiredCommitlog))
            .await
            .map(drop)
    }

    pub(crate) async fn text(&self, address: &str, code: RequestCode) -> Result<String, Error> {
        let answer = self.ask(address, Frame::request(code)).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}
