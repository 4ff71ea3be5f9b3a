//! The client that sent a request, as the request's metadata and its connection say.

use crate::codes::Refused;
use crate::connection::Connection;
use crate::v2::Code;
use protocol::Language;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataMap;

/// Longest client id that is taken.
const MAX_ID_BYTES: usize = broker::clients::heartbeat::MAX_CLIENT_ID_BYTES;

/// The client of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) client_id: Box<str>,
    pub(crate) language: Language,
    pub(crate) connection: Arc<Connection>,
    /// How long the client waits for the answer.
    pub(crate) timeout: Option<Duration>,
}

impl Caller {
    /// From a request.
    ///
    /// # Errors
    /// `ClientIdRequired` without an id, or with one that is too long.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Refused> {
        let metadata = request.metadata();
        let client_id = text(metadata, "x-mq-client-id").unwrap_or("");
        if client_id.trim().is_empty() || client_id.len() > MAX_ID_BYTES {
            let text = format!("the header x-mq-client-id must have an id of the client, up to {MAX_ID_BYTES} bytes");
            return Err(Refused::new(Code::ClientIdRequired, text));
        }
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let connection = connection.ok_or_else(|| Refused::new(Code::InternalServerError, "the request came without a connection"))?;
        Ok(Self {
            client_id: client_id.into(),
            language: text(metadata, "x-mq-language").map_or(Language::Other, language),
            connection,
            timeout: text(metadata, "grpc-timeout").and_then(timeout),
        })
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.connection.peer
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.connection.local
    }
}

fn text<'a>(metadata: &'a MetadataMap, name: &str) -> Option<&'a str> {
    metadata.get(name).and_then(|value| value.to_str().ok())
}

/// The remoting protocol has other names for some languages.
fn language(name: &str) -> Language {
    match name {
        "GOLANG" => Language::from_name(b"GO"),
        "DOT_NET" => Language::from_name(b"DOTNET"),
        other => Language::from_name(other.as_bytes()),
    }
}

/// The header `grpc-timeout`: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit() {
        assert_eq!(timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(timeout("12345678n"), Some(Duration::from_nanos(12_345_678)));
        for wrong in ["", "S", "3", "123456789S", "3s", "-3S", "3é"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }
}
