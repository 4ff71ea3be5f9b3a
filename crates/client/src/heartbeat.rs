//! Membership at a broker: heartbeat (34), unregistering (35).

use protocol::heartbeat::{HeartbeatData, SUB_CHANGE, SUPPORTS_V2, UnregisterClientHeader};
use protocol::{Frame, RequestCode, json};

use crate::{Client, Error};

/// A heartbeat's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The broker supports heartbeats with only a fingerprint (V2).
    pub supports_v2: bool,
    /// The broker needs a full heartbeat again.
    pub say_all_again: bool,
}

impl Client {
    /// Sends a heartbeat. The broker binds it to this connection.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn heartbeat(&self, address: &str, data: &HeartbeatData) -> Result<Acknowledged, Error> {
        let request = Frame::request(RequestCode::HeartBeat).with_body(json::write_standard(data));
        let answer = self.ask(address, request).await?;
        let says = |name: &str| answer.ext.bool(name).unwrap_or(false);
        Ok(Acknowledged {
            supports_v2: says(SUPPORTS_V2),
            say_all_again: says(SUB_CHANGE),
        })
    }

    /// Unregisters this client from a producer group, a consumer group, or both.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn leave(
        &self,
        address: &str,
        client_id: &str,
        producer_group: Option<&str>,
        consumer_group: Option<&str>,
    ) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::UnregisterClient);
        let header = UnregisterClientHeader {
            client_id,
            producer_group,
            consumer_group,
        };
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }
}
