//! What Apache's configuration classes know: all their keys by name, and the few whose wish must not be passed over in silence.
//!
//! The list has every key of Apache RocketMQ 5.5.0 and of the 5.3 line that a broker, name server, remoting, TLS, authentication,
//! controller or tiered-store configuration takes, and those of older versions that published files still carry. A key that is here and
//! is not declared by a role is accepted, changes nothing and is named once in the log, with the reason where there is more to say. What
//! is not here: defaults and meanings, which belong to the role that declares the key.

/// One name a line, sorted.
const NAMES: &str = include_str!("apache_keys.txt");

/// A key that asks for something not there yet, where going on without it would deceive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Key.
    pub name: &'static str,
    /// Values that ask for nothing.
    harmless: &'static [&'static str],
    /// What is missing, in words.
    pub reason: &'static str,
}

impl Wish {
    /// Values that are accepted, in words.
    pub fn harmless_values(&self) -> String {
        if self.harmless.is_empty() {
            "empty".to_owned()
        } else {
            self.harmless.join(", ")
        }
    }

    /// Whether this value asks for what is not there.
    pub fn asks(&self, value: &str) -> bool {
        !value.is_empty() && !self.harmless.iter().any(|harmless| harmless.eq_ignore_ascii_case(value))
    }
}

const OFF: &[&str] = &["false"];

const WISHES: &[Wish] = &[
    Wish {
        name: "aclEnable",
        harmless: OFF,
        reason: "access control is not there yet",
    },
    Wish {
        name: "authenticationEnabled",
        harmless: OFF,
        reason: "authentication is not there yet",
    },
    Wish {
        name: "authorizationEnabled",
        harmless: OFF,
        reason: "authorization is not there yet",
    },
    Wish {
        name: "tls.server.mode",
        harmless: &["disabled", "permissive"],
        reason: "TLS is not there yet",
    },
    Wish {
        name: "enableDLegerCommitLog",
        harmless: OFF,
        reason: "replication is not there yet",
    },
    Wish {
        name: "enableControllerMode",
        harmless: OFF,
        reason: "replication and its controller are not there yet",
    },
    Wish {
        name: "enableControllerInNamesrv",
        harmless: OFF,
        reason: "the controller is not there yet",
    },
    Wish {
        name: "enableSlaveActingMaster",
        harmless: OFF,
        reason: "replication is not there yet",
    },
    Wish {
        name: "duplicationEnable",
        harmless: OFF,
        reason: "replication is not there yet",
    },
    Wish {
        name: "storeType",
        harmless: &["default"],
        reason: "consume queues in RocksDB are not there, queues are files",
    },
    Wish {
        name: "messageStorePlugIn",
        harmless: &[],
        reason: "store plug-ins are Java classes",
    },
];

/// Keys whose wish is refused rather than passed over.
pub fn not_there_yet() -> &'static [Wish] {
    WISHES
}

/// Keys without effect of which more is to be said than that: what whoever set it may believe, and what is so.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("abortFile", PLACE),
    (
        "checkTransactionMessageEnable",
        "a key of RocketMQ 3 that Apache's broker of today does not read either",
    ),
    (
        "fetchNameSrvAddrByDnsLookup",
        "name servers come from namesrvAddr; a host name in it is looked up again with every connection",
    ),
    ("fetchNamesrvAddrByAddressServer", "name servers come from namesrvAddr"),
    ("filterServerNums", "there are no filter servers, as in Apache's broker since 5.1.1"),
    (
        "haSlaveFallbehindMax",
        "replication is not there yet; Apache names it haMaxGapNotInSync since 5.0",
    ),
    (
        "inSyncReplicas",
        "replication is not there yet: an acknowledged message is on this broker only",
    ),
    (
        "mapedFileSizeCommitLog",
        "Apache's broker reads mappedFileSizeCommitLog since 4.8, and so does this one",
    ),
    (
        "mapedFileSizeConsumeQueue",
        "Apache's broker reads mappedFileSizeConsumeQueue since 4.8, and so does this one; its unit is bytes, 20 a message",
    ),
    (
        "minInSyncReplicas",
        "replication is not there yet: an acknowledged message is on this broker only",
    ),
    ("slaveReadEnable", "replication is not there yet"),
    ("storeCheckpoint", PLACE),
    ("storePathConsumeQueue", PLACE),
    ("storePathIndex", PLACE),
    (
        "transientStorePoolEnable",
        "messages are written to the page cache at once, none waits in a pool that a crash would lose",
    ),
];

const PLACE: &str = "the place follows storePathRootDir, in Apache's broker as in this one";

/// What is to be said of a key that changes nothing here; `None` where the name says enough.
pub fn without_effect(name: &str) -> Option<&'static str> {
    WITHOUT_EFFECT.iter().find(|(key, _)| *key == name).map(|(_, reason)| *reason)
}

/// All names Apache knows, sorted.
pub fn names_of_apache() -> impl Iterator<Item = &'static str> {
    NAMES.lines()
}

/// As [`names_of_apache`], to be put beside names that live shorter.
pub(crate) fn names<'a>() -> impl Iterator<Item = &'a str> {
    NAMES.lines()
}

/// Whether a key of this exact name exists in Apache's configuration.
pub fn is_known_to_apache(name: &str) -> bool {
    known(name).is_some()
}

/// The name as the list has it, if it does.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    names_of_apache().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_without_repetition() {
        let all: Vec<_> = names_of_apache().collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(all.len() > 500, "{}", all.len());
    }

    #[test]
    fn every_wish_is_a_key_of_apache() {
        assert!(WISHES.iter().all(|wish| is_known_to_apache(wish.name)));
    }

    #[test]
    fn what_is_said_of_a_key_is_found_by_its_name_in_the_list() {
        assert!(WITHOUT_EFFECT.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(WITHOUT_EFFECT.iter().all(|(name, _)| is_known_to_apache(name)));
        assert!(without_effect("storePathIndex").is_some_and(|reason| reason.contains("storePathRootDir")));
        assert_eq!(without_effect("sendMessageThreadPoolNums"), None);
    }

    #[test]
    fn harmless_values_ask_for_nothing() {
        let wish = |name: &str| WISHES.iter().find(|wish| wish.name == name).unwrap();
        assert!(wish("aclEnable").asks("true") && !wish("aclEnable").asks("False"));
        assert!(wish("tls.server.mode").asks("enforcing") && !wish("tls.server.mode").asks("permissive"));
        assert!(!wish("messageStorePlugIn").asks(""));
    }
}
