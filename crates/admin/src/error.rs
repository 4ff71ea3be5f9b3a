//! Why an operation failed, and what to do about it.

use std::io;
use std::path::PathBuf;

use protocol::ResponseCode;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server could not be asked, or refused.
    #[error("{0}")]
    Call(#[from] client::Error),
    /// No cluster of that name.
    #[error("there is no cluster {name}; the name server knows {}", listed(known))]
    NoCluster {
        /// As asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// No broker of that name with a master.
    #[error("there is no broker {name} with a master; the name server knows {}", listed(known))]
    NoBroker {
        /// As asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// There is nothing of what was looked for.
    #[error("{0}")]
    NotFound(String),
    /// The caller's own mistake.
    #[error("{0}")]
    Invalid(String),
    /// A file that cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The result cannot be printed.
    #[error("cannot print the result: {0}")]
    Output(io::Error),
    /// Told in the result: some of what was to be done is not.
    #[error("{failed} of {steps} steps failed, see above")]
    Partly {
        /// How many failed.
        failed: usize,
        /// Of how many.
        steps: usize,
    },
}

impl Error {
    /// What to do about it, where that can be said.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Call(error) => advice(error),
            Self::NoCluster { .. } | Self::NoBroker { .. } => Some("Clusters and brokers there are: apogeemq admin clusterList"),
            _ => None,
        }
    }
}

/// What to do about a call that failed.
pub(crate) fn advice(error: &client::Error) -> Option<&'static str> {
    use client::Error as Call;
    match error {
        Call::Unreachable(_) => {
            Some("Is the server running, and is that its address? Name servers are given by -n HOST:PORT[;HOST:PORT] or by NAMESRV_ADDR.")
        }
        Call::Unanswered { .. } => Some("It may have happened all the same; look before repeating. To wait longer: --timeout SECONDS."),
        Call::Busy { .. } => Some("Try again later."),
        Call::NoRoute { .. } => Some(TOPICS),
        Call::TooManyQueues { .. } => {
            Some("Set its queues with apogeemq admin updateTopic; if the broker is not yours, see who it is: apogeemq admin clusterList")
        }
        Call::Refused { code, .. } => refusal(*code),
        Call::Malformed { .. } | Call::Invalid(_) => None,
    }
}

const TOPICS: &str = "Topics there are: apogeemq admin topicList; new ones: apogeemq admin updateTopic";

fn refusal(code: i32) -> Option<&'static str> {
    Some(match ResponseCode::try_from(code).ok()? {
        ResponseCode::TopicNotExist => TOPICS,
        ResponseCode::RequestCodeNotSupported => "That server lacks the feature; `apogeemq admin clusterList` shows versions.",
        ResponseCode::SubscriptionGroupNotExist => "A group is made by its first consumer, or by apogeemq admin updateSubGroup",
        ResponseCode::ConsumerNotOnline => "No consumer of that group is connected; members: apogeemq admin consumerConnection -g GROUP",
        ResponseCode::NoPermission => "The server's settings or its access control forbid it.",
        _ => return None,
    })
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
