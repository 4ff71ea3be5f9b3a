//! Lines of text: names, hosts, addresses, paths.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Refused, Shape};

/// Longest value of a text key, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Text that satisfies a condition.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    kind: &'static str,
    allowed: &'static str,
    passes: fn(&str) -> bool,
}

/// Any line of text, also an empty one.
pub fn text() -> Text {
    text_that("any text", |_| true)
}

/// Text for which `passes` is true; `allowed` describes it.
pub fn text_that(allowed: &'static str, passes: fn(&str) -> bool) -> Text {
    Text {
        kind: "text",
        allowed,
        passes,
    }
}

/// A name as brokers, clusters and topics have them.
pub fn name() -> Text {
    text_that("1 to 127 characters of A-Z a-z 0-9 _ - . % |", |text| {
        (1..=127).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.%|".contains(&byte))
    })
}

/// A host name or an address, without port.
pub fn host() -> Text {
    Text {
        kind: "host",
        allowed: "a host name or an IP address, without port",
        passes: is_host,
    }
}

/// A host with a port.
pub fn host_and_port() -> Text {
    Text {
        kind: "host:port",
        allowed: "host:port",
        passes: |text| {
            text.rsplit_once(':')
                .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
        },
    }
}

fn is_host(text: &str) -> bool {
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

impl Shape<String> for Text {
    fn kind(&self) -> String {
        self.kind.to_owned()
    }

    fn allowed(&self) -> String {
        self.allowed.to_owned()
    }

    fn parse(&self, text: &str) -> Result<String, Refused> {
        let fits = text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control) && (self.passes)(text);
        if fits { Ok(text.to_owned()) } else { Err(Refused::NotAllowed) }
    }

    fn print(&self, value: &String) -> String {
        value.clone()
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy)]
pub struct Address;

/// An IPv4 or IPv6 address.
pub fn address() -> Address {
    Address
}

impl Shape<IpAddr> for Address {
    fn kind(&self) -> String {
        "address".to_owned()
    }

    fn allowed(&self) -> String {
        "an IPv4 or IPv6 address".to_owned()
    }

    fn parse(&self, text: &str) -> Result<IpAddr, Refused> {
        text.parse().map_err(|_| Refused::NotAllowed)
    }

    fn print(&self, value: &IpAddr) -> String {
        value.to_string()
    }
}

/// A path in the file system.
#[derive(Debug, Clone, Copy)]
pub struct Path;

/// One path. Apache's lists of several, separated by commas, are refused.
pub fn path() -> Path {
    Path
}

impl Shape<PathBuf> for Path {
    fn kind(&self) -> String {
        "path".to_owned()
    }

    fn allowed(&self) -> String {
        "one path".to_owned()
    }

    fn parse(&self, text: &str) -> Result<PathBuf, Refused> {
        if text.contains(',') {
            return Err(Refused::Because(
                "several directories for one store are not implemented yet".to_owned(),
            ));
        }
        let fits = !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control);
        if fits { Ok(PathBuf::from(text)) } else { Err(Refused::NotAllowed) }
    }

    fn print(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_store_paths_are_refused_with_a_reason() {
        assert!(matches!(path().parse("/a,/b"), Err(Refused::Because(_))));
        assert_eq!(path().parse("/a"), Ok(PathBuf::from("/a")));
    }
}
