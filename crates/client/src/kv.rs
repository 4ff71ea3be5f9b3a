//! The name server's key-value configuration: 100 to 102. Name servers do not share it, so callers set it at each.

use protocol::kv::{KvKeyHeader, KvValueReply, PutKvHeader};
use protocol::{Frame, RequestCode, ResponseCode};

use crate::error::OrMalformed;
use crate::{Client, Error};

impl Client {
    /// Sets a value at one name server.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn put_kv(&self, name_server: &str, namespace: &str, key: &str, value: &str) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::PutKvConfig);
        PutKvHeader { namespace, key, value }.encode(&mut request.ext);
        self.ask(name_server, request).await.map(drop)
    }

    /// A value, from the first name server that answers; `None` when it has none.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::cluster`].
    pub async fn kv(&self, namespace: &str, key: &str) -> Result<Option<String>, Error> {
        let mut request = Frame::request(RequestCode::GetKvConfig);
        KvKeyHeader { namespace, key }.encode(&mut request.ext);
        match self.ask_name_server(request).await {
            Ok((address, answer)) => Ok(KvValueReply::decode(&answer.ext).or_malformed(&address)?.value.map(str::to_owned)),
            Err(error) if error.code() == Some(ResponseCode::QueryNotFound.into()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a value at one name server.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn delete_kv(&self, name_server: &str, namespace: &str, key: &str) -> Result<(), Error> {
        let mut request = Frame::request(RequestCode::DeleteKvConfig);
        KvKeyHeader { namespace, key }.encode(&mut request.ext);
        self.ask(name_server, request).await.map(drop)
    }
}
