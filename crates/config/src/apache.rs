//! The keys of Apache's configuration classes, and those among them that must not be ignored silently.
//!
//! The list has every key of Apache RocketMQ 5.5.0 and of the 5.3 line that a broker, name server, remoting, TLS, authentication,
//! controller or tiered-store configuration takes, and those of older versions that published files still carry. A listed key
//! that no role declares is accepted, has no effect, and is named once in the log, with a reason if it needs one. Not here:
//! defaults and meanings, which belong to the role that declares the key.

/// One name per line, sorted.
const NAMES: &str = include_str!("apache_keys.txt");

/// A key that asks for a feature that is not implemented, and that must not be ignored: the user would believe to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingFeature {
    /// Key.
    pub name: &'static str,
    /// Values that do not ask for the feature.
    harmless: &'static [&'static str],
    /// What is missing, as text.
    pub reason: &'static str,
}

impl MissingFeature {
    /// The accepted values, as text.
    pub fn harmless_values(&self) -> String {
        if self.harmless.is_empty() {
            "empty".to_owned()
        } else {
            self.harmless.join(", ")
        }
    }

    /// Whether this value asks for the missing feature.
    pub fn asks(&self, value: &str) -> bool {
        !value.is_empty() && !self.harmless.iter().any(|harmless| harmless.eq_ignore_ascii_case(value))
    }
}

const OFF: &[&str] = &["false"];

const MISSING_FEATURES: &[MissingFeature] = &[
    MissingFeature {
        name: "aclEnable",
        harmless: OFF,
        reason: "access control is not implemented yet",
    },
    MissingFeature {
        name: "authenticationEnabled",
        harmless: OFF,
        reason: "authentication is not implemented yet",
    },
    MissingFeature {
        name: "authorizationEnabled",
        harmless: OFF,
        reason: "authorization is not implemented yet",
    },
    MissingFeature {
        name: "enableDLegerCommitLog",
        harmless: OFF,
        reason: "the log of DLedger is not implemented; slaves follow a master (brokerRole)",
    },
    MissingFeature {
        name: "duplicationEnable",
        harmless: OFF,
        reason: "a master without its own dispatch is not implemented; slaves follow a master (brokerRole)",
    },
    MissingFeature {
        name: "storeType",
        harmless: &["default"],
        reason: "consume queues in RocksDB are not implemented; queues are files",
    },
    MissingFeature {
        name: "messageStorePlugIn",
        harmless: &[],
        reason: "store plug-ins are Java classes",
    },
];

/// Keys that are refused rather than ignored.
pub fn missing_features() -> &'static [MissingFeature] {
    MISSING_FEATURES
}

/// Keys without effect that need an explanation: what the user may expect, and what is true.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("abortFile", PATH),
    (
        "checkTransactionMessageEnable",
        "a key of RocketMQ 3, which current Apache brokers do not read either",
    ),
    (
        "compatibleWithOldNameSrv",
        "the brokers of a name are asked for with request 901, which name servers serve since 5.0; older ones know no acting master",
    ),
    (
        "fetchNameSrvAddrByDnsLookup",
        "name servers come from namesrvAddr; host names in it are resolved for every connection",
    ),
    ("fetchNamesrvAddrByAddressServer", "name servers come from namesrvAddr"),
    ("filterServerNums", "there are no filter servers, as in Apache's broker since 5.1.1"),
    ("haSlaveFallbehindMax", "Apache names it haMaxGapNotInSync since 5.0"),
    (
        "mapedFileSizeCommitLog",
        "Apache's broker reads mappedFileSizeCommitLog since 4.8, and so does this one",
    ),
    (
        "mapedFileSizeConsumeQueue",
        "Apache's broker reads mappedFileSizeConsumeQueue since 4.8, and so does this one; its unit is bytes, 20 a message",
    ),
    ("storeCheckpoint", PATH),
    ("storePathConsumeQueue", PATH),
    ("storePathIndex", PATH),
    (
        "transientStorePoolEnable",
        "messages are written to the page cache at once; there is no pool whose content a crash would lose",
    ),
];

const PATH: &str = "the path follows from storePathRootDir, as in Apache's broker";

/// Why a key has no effect here; `None` if its name says enough.
pub fn without_effect(name: &str) -> Option<&'static str> {
    WITHOUT_EFFECT.iter().find(|(key, _)| *key == name).map(|(_, reason)| *reason)
}

/// All names Apache knows, sorted.
pub fn names_of_apache() -> impl Iterator<Item = &'static str> {
    NAMES.lines()
}

/// Like [`names_of_apache`], with a lifetime that can be combined with shorter-lived names.
pub(crate) fn names<'a>() -> impl Iterator<Item = &'a str> {
    NAMES.lines()
}

/// Whether a key of this exact name exists in Apache's configuration.
pub fn is_known_to_apache(name: &str) -> bool {
    known(name).is_some()
}

/// The name with a static lifetime, if it is in the list.
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
    fn every_refused_key_is_a_key_of_apache() {
        assert!(MISSING_FEATURES.iter().all(|feature| is_known_to_apache(feature.name)));
    }

    #[test]
    fn every_explained_key_is_in_the_list() {
        assert!(WITHOUT_EFFECT.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(WITHOUT_EFFECT.iter().all(|(name, _)| is_known_to_apache(name)));
        assert!(without_effect("storePathIndex").is_some_and(|reason| reason.contains("storePathRootDir")));
        assert_eq!(without_effect("sendMessageThreadPoolNums"), None);
    }

    #[test]
    fn harmless_values_are_accepted() {
        let feature = |name: &str| MISSING_FEATURES.iter().find(|feature| feature.name == name).unwrap();
        assert!(feature("aclEnable").asks("true") && !feature("aclEnable").asks("False"));
        assert!(feature("storeType").asks("defaultRocksDB") && !feature("storeType").asks("default"));
        assert!(!feature("messageStorePlugIn").asks(""));
    }
}
