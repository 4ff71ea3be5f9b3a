//! POP: acknowledging a message (200051), changing its invisible time (200053), sending it back (36); subscriptions of lite topics (200071).
//!
//! A pop itself (200050, 200070) is a request for [`Client::call_within`], with a header of `protocol::pop` and a time-out after its long
//! polling.

use protocol::lite::{LiteSubscription, LiteSubscriptionBody};
use protocol::pop::{AckHeader, ChangeInvisibleHeader, ChangeInvisibleReply};
use protocol::retry::SendBackHeader;
use protocol::{Frame, RequestCode, json};

use crate::error::OrMalformed;
use crate::{Client, Error};

impl Client {
    /// Acknowledges a message that was popped from the broker at this address.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn ack(&self, address: &str, header: &AckHeader<'_>) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::AckMessage);
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Changes how long a popped message stays invisible; returns the parts of its new handle.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn change_invisible(&self, address: &str, header: &ChangeInvisibleHeader<'_>) -> Result<ChangeInvisibleReply, Error> {
        let mut request = Frame::request(RequestCode::ChangeMessageInvisibletime);
        header.encode(&mut request.ext);
        let answer = self.ask(address, request).await?;
        ChangeInvisibleReply::decode(&answer.ext).or_malformed(address)
    }

    /// Sends a message back to the broker that has it, to be retried, or as a dead letter.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn send_back(&self, address: &str, header: &SendBackHeader<'_>) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::ConsumerSendMsgBack);
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }

    /// Changes the subscriptions of a client of lite topics. What the broker tells the client later comes over this connection.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn subscribe_lite(&self, address: &str, change: &LiteSubscription) -> Result<(), Error> {
        let body = LiteSubscriptionBody {
            subscription_set: vec![change.clone()],
        };
        let request = Frame::request(RequestCode::LiteSubscriptionCtl).with_body(json::write_standard(&body));
        self.ask(address, request).await.map(drop)
    }
}
