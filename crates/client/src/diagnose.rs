//! Diagnosis of consumers through their broker: their state (307), consuming one message on demand (309).

use protocol::diagnose::{ConsumeDirectlyHeader, ConsumeDirectlyReply, ConsumerRunningInfoHeader, RunningInfo};
use protocol::{Frame, RequestCode};

use crate::{Client, Error};

impl Client {
    /// The state of a consumer, with stack traces if the client supports them.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`]; code 206 if the broker does not know the client.
    pub async fn running_info(
        &self,
        address: &str,
        consumer_group: &str,
        client_id: &str,
        jstack_enable: bool,
    ) -> Result<RunningInfo, Error> {
        let mut request = Frame::request(RequestCode::GetConsumerRunningInfo);
        let header = ConsumerRunningInfoHeader {
            consumer_group,
            client_id,
            jstack_enable,
        };
        header.encode(&mut request.ext);
        self.ask_for(address, request).await
    }

    /// Tells a consumer to consume a stored message now.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask_for`].
    pub async fn consume_directly(&self, address: &str, header: &ConsumeDirectlyHeader<'_>) -> Result<ConsumeDirectlyReply, Error> {
        let mut request = Frame::request(RequestCode::ConsumeMessageDirectly);
        header.encode(&mut request.ext);
        self.ask_for(address, request).await
    }
}
