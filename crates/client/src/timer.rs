//! Timers: recalling a message that waits for a time (370), and how many wait (61).

use std::collections::BTreeMap;

use protocol::timer::RecallMessageHeader;
use protocol::{Frame, RequestCode};
use serde::Deserialize;

use crate::{Client, Error};

/// How many messages wait for a time, by topic.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimerCounts {
    /// By topic.
    pub timing_count: BTreeMap<String, TimerCount>,
}

/// How many messages of a topic wait for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimerCount {
    /// Messages.
    pub count: i64,
    /// When the count changed last, epoch ms.
    pub time_stamp: i64,
}

impl Client {
    /// Recalls a message that waits on the broker at this address. `handle` is from the answer to its send. Returns its unique key. Whether
    /// the message still waited is not known then: one that is being delivered is delivered.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`]; code 16 if the broker does not allow recalls (`recallMessageEnable`), 604 if the handle does not
    /// belong to the topic and broker, or its message is due.
    pub async fn recall(&self, address: &str, topic: &str, handle: &str) -> Result<String, Error> {
        let mut request = Frame::request(RequestCode::RecallMessage);
        let header = RecallMessageHeader {
            producer_group: None,
            topic,
            recall_handle: Some(handle),
        };
        header.encode(&mut request.ext);
        let answer = self.ask(address, request).await?;
        Ok(answer.ext.text("msgId").unwrap_or_default().to_owned())
    }

    /// How many messages wait for a time on the broker at this address.
    ///
    /// # Errors
    /// [`Error`] as in [`Client::ask`].
    pub async fn timer_counts(&self, address: &str) -> Result<TimerCounts, Error> {
        self.ask_for(address, Frame::request(RequestCode::GetTimerMetrics)).await
    }
}
