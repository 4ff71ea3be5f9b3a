//! Transactions: having a given-up message checked again (323).

use protocol::transaction::ResumeCheckHalfMessageHeader;
use protocol::{Frame, RequestCode};

use crate::{Client, Error};

impl Client {
    /// Makes a given-up message a half message again, whose producer is asked. `offset_id` is its offset id.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`]; code 29 if the message was not given up.
    pub async fn resume_check(&self, address: &str, offset_id: &str) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::ResumeCheckHalfMessage);
        let header = ResumeCheckHalfMessageHeader {
            topic: None,
            msg_id: offset_id,
        };
        header.encode(&mut request.ext);
        self.ask(address, request).await.map(drop)
    }
}
