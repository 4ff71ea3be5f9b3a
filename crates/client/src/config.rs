//! A server's own settings: of brokers (25, 26), of name servers (318, 319), as properties text. Cleaning on request (306, 329).

use protocol::{Frame, RequestCode};

use crate::{Client, Error};

impl Client {
    /// A broker's settings as properties text.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn broker_config(&self, address: &str) -> Result<String, Error> {
        self.text(address, RequestCode::GetBrokerConfig).await
    }

    /// Changes settings of a running broker: lines of `key=value`. Returns what it has to say about them: what a value counts as, or
    /// that a key changes nothing.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn update_broker_config(&self, address: &str, properties: &str) -> Result<Option<String>, Error> {
        let request = Frame::request(RequestCode::UpdateBrokerConfig).with_body(properties.to_owned());
        self.ask(address, request).await.map(|answer| answer.remark)
    }

    /// A name server's settings as properties text.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn name_server_config(&self, address: &str) -> Result<String, Error> {
        self.text(address, RequestCode::GetNamesrvConfig).await
    }

    /// Changes settings of a running name server, as [`Client::update_broker_config`].
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn update_name_server_config(&self, address: &str, properties: &str) -> Result<Option<String>, Error> {
        let request = Frame::request(RequestCode::UpdateNamesrvConfig).with_body(properties.to_owned());
        self.ask(address, request).await.map(|answer| answer.remark)
    }

    /// Has a broker delete queue files whose messages are gone.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn clean_expired_queues(&self, address: &str) -> Result<(), Error> {
        self.ask(address, Frame::request(RequestCode::CleanExpiredConsumequeue))
            .await
            .map(drop)
    }

    /// Has a broker delete log files that are past their time.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn delete_expired_log(&self, address: &str) -> Result<(), Error> {
        self.ask(address, Frame::request(RequestCode::DeleteExpiredCommitlog))
            .await
            .map(drop)
    }

    async fn text(&self, address: &str, code: RequestCode) -> Result<String, Error> {
        let answer = self.ask(address, Frame::request(code)).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}
