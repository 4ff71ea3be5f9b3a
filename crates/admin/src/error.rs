//! Errors of operations, with advice.

use std::io;
use std::path::PathBuf;

use protocol::ResponseCode;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to a server failed or was refused.
    #[error("{0}")]
    Call(#[from] client::Error),
    /// There is no cluster with that name.
    #[error("there is no cluster {name}; the name server knows {}", listed(known))]
    NoCluster {
        /// The requested name.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// There is no broker with that name and a master.
    #[error("there is no broker {name} with a master; the name server knows {}", listed(known))]
    NoBroker {
        /// The requested name.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// Nothing was found.
    #[error("{0}")]
    NotFound(String),
    /// An invalid argument.
    #[error("{0}")]
    Invalid(String),
    /// A file that cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// The result cannot be printed.
    #[error("cannot print the result: {0}")]
    Output(io::Error),
    /// Some steps failed; the result has their errors.
    #[error("{failed} of {steps} steps failed, see above")]
    Partly {
        /// Number of failed steps.
        failed: usize,
        /// Number of steps.
        steps: usize,
    },
}

impl Error {
    /// Advice, if there is any.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Call(error) => advice(error),
            Self::NoCluster { .. } | Self::NoBroker { .. } => Some("To list clusters and brokers: apogeemq admin clusterList"),
            _ => None,
        }
    }
}

/// Advice for a failed call.
pub(crate) fn advice(error: &client::Error) -> Option<&'static str> {
    use client::Error as Call;
    match error {
        Call::Unreachable(_) => {
            Some("Is the server running at that address? Name servers are given by -n HOST:PORT[;HOST:PORT] or by NAMESRV_ADDR.")
        }
        Call::Unanswered { .. } => Some("It may have been executed; check before you repeat it. To wait longer: --timeout SECONDS."),
        Call::Busy { .. } => Some("Try again later."),
        Call::NoRoute { .. } => Some(TOPICS),
        Call::TooManyQueues { .. } => {
            Some("Set its queues with apogeemq admin updateTopic; if you do not know the broker, see apogeemq admin clusterList")
        }
        Call::Refused { code, .. } => refusal(*code),
        Call::Malformed { .. } | Call::Invalid(_) => None,
    }
}

const TOPICS: &str = "To list topics: apogeemq admin topicList; to create one: apogeemq admin updateTopic";

fn refusal(code: i32) -> Option<&'static str> {
    Some(match ResponseCode::try_from(code).ok()? {
        ResponseCode::TopicNotExist => TOPICS,
        ResponseCode::RequestCodeNotSupported => "That server lacks the feature; `apogeemq admin clusterList` shows versions.",
        ResponseCode::SubscriptionGroupNotExist => "A group is created by its first consumer, or by apogeemq admin updateSubGroup",
        ResponseCode::ConsumerNotOnline => "No consumer of that group is connected; members: apogeemq admin consumerConnection -g GROUP",
        ResponseCode::NoPermission => "The server's settings or its access control forbid it.",
        _ => return None,
    })
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
