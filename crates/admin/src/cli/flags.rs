//! Flags that several verbs have, and parsers of values.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::out::Out;
use crate::show::Show;
use crate::{Error, Steps, Target, time};

/// A broker or a cluster; one of them is required.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(super) struct TargetFlags {
    /// Address of a broker
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT")]
    broker: Option<String>,
    /// All brokers of a cluster
    #[arg(short = 'c', long = "clusterName", alias = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

impl TargetFlags {
    pub(super) fn target(&self) -> Result<Target, Error> {
        target(self.broker.as_ref(), self.cluster.as_ref()).ok_or_else(|| Error::Invalid("-b or -c is required".to_owned()))
    }
}

/// A broker, a cluster, or all brokers.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(super) struct OptionalTargetFlags {
    /// Address of a broker
    #[arg(short = 'b', long = "brokerAddr", value_name = "HOST:PORT")]
    broker: Option<String>,
    /// All brokers of a cluster [default: of all clusters]
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

impl OptionalTargetFlags {
    pub(super) fn target(&self) -> Option<Target> {
        target(self.broker.as_ref(), self.cluster.as_ref())
    }
}

fn target(broker: Option<&String>, cluster: Option<&String>) -> Option<Target> {
    let broker = broker.map(|address| Target::Broker(address.trim().to_owned()));
    broker.or_else(|| cluster.map(|name| Target::Cluster(name.trim().to_owned())))
}

/// Repetition of a verb.
#[derive(Debug, Clone, Args)]
pub(super) struct RepeatFlags {
    /// Repeat after this many seconds, until interrupted
    #[arg(short = 'i', long = "interval", value_name = "SECONDS")]
    interval: Option<u64>,
    /// With an interval: end after this many rounds
    #[arg(long, value_name = "COUNT", requires = "interval")]
    rounds: Option<u64>,
}

impl RepeatFlags {
    pub(super) fn rounds(&self) -> Rounds {
        Rounds::new(self.interval, self.rounds)
    }
}

/// The rounds of a verb that repeats.
pub(super) struct Rounds {
    interval: Option<u64>,
    most: Option<u64>,
    done: u64,
}

impl Rounds {
    /// One round without an interval; without a maximum, rounds end only when interrupted.
    pub(super) fn new(interval: Option<u64>, most: Option<u64>) -> Self {
        Self { interval, most, done: 0 }
    }

    /// Waits for the next round; false if there is none.
    pub(super) async fn another(&mut self) -> bool {
        self.done += 1;
        match self.interval {
            Some(seconds) if self.most.is_none_or(|most| self.done < most) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                true
            }
            _ => false,
        }
    }
}

/// `true` or `false`, in any case.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim() {
        yes if yes.eq_ignore_ascii_case("true") => Ok(true),
        no if no.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("true or false is expected".to_owned()),
    }
}

/// Text without blanks around it, not empty.
pub(super) fn name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a name is expected".to_owned()),
        name => Ok(name.to_owned()),
    }
}

/// A time, see [`time::parse`].
pub(super) fn timestamp_ms(text: &str) -> Result<i64, String> {
    time::parse(text).map_err(|error| error.to_string())
}

/// Parses `+name=value,-name,…` to changes by signed name.
pub(super) fn attributes(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut changes = BTreeMap::new();
    for part in text.trim().split(',') {
        let (name, value) = part.split_once('=').map_or((part, ""), |(name, value)| (name, value));
        let well = match value {
            "" => name.starts_with('-') && name.len() > 1 && !part.contains('='),
            _ => name.starts_with('+') && name.len() > 1,
        };
        if !well {
            return Err(format!("{part} is not a change; +name=value sets an attribute, -name removes it"));
        }
        if changes.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(changes)
}

/// A file with a JSON list.
pub(super) fn list_from<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let file = |error| Error::File {
        path: path.to_owned(),
        error,
    };
    let bytes = fs::read(path).map_err(file)?;
    let list: Vec<T> = protocol::json::read(&bytes).map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    match list.is_empty() {
        true => Err(Error::Invalid(format!("{}: the list is empty", path.display()))),
        false => Ok(list),
    }
}

/// Prints the result of several steps. Fails if a step failed.
pub(super) fn print_steps<T: Serialize + Show + Steps>(out: &mut Out, result: &T) -> Result<(), Error> {
    out.emit(result)?;
    result.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_changes_with_a_sign() {
        let changes = attributes("+message.type=FIFO,-old").unwrap();
        assert_eq!(changes["+message.type"], "FIFO");
        assert_eq!(changes["-old"], "");
        for wrong in ["a=b", "+a", "+a=", "-a=b", "+=b", "-", "+a=1,+a=2"] {
            assert!(attributes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn booleans_are_true_or_false() {
        assert_eq!((boolean("TRUE"), boolean(" false ")), (Ok(true), Ok(false)));
        assert!(boolean("yes").is_err());
    }
}
