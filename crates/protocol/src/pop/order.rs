//! The file `consumerOrderInfo.json`: messages that were popped in order and block their queue.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Messages of one queue that a group popped in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct OrderInfo {
    /// Id of the request that popped them.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<String>,
    /// Bit n: message n was acknowledged.
    #[serde(rename = "cm")]
    pub acked: u64,
    /// For how long they are invisible, ms.
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    pub invisible_time: Option<i64>,
    /// When they were popped, or the request was repeated, epoch ms.
    #[serde(rename = "l")]
    pub last_consumed: i64,
    /// The first queue offset, then the distances of the others from it.
    #[serde(rename = "o")]
    pub offsets: Vec<i64>,
    /// How often messages were handed out before, by queue offset.
    #[serde(rename = "oc", skip_serializing_if = "Option::is_none")]
    pub counts: Option<BTreeMap<i64, i32>>,
    /// When messages are visible again whose time was changed, by queue offset, epoch ms.
    #[serde(rename = "ot", skip_serializing_if = "Option::is_none")]
    pub visible_at: Option<BTreeMap<i64, i64>>,
    /// When they were popped, epoch ms.
    #[serde(rename = "popTime")]
    pub pop_time: i64,
    /// Ours only: the client of the group for which messages are held. Apache's broker ignores it.
    #[serde(rename = "apogeeHolder", skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Ours only: until when they are held at most, epoch ms.
    #[serde(rename = "apogeeHeldUntil", skip_serializing_if = "Option::is_none")]
    pub held_until: Option<i64>,
    /// Ours only: bit n: message n is held.
    #[serde(rename = "apogeeHeld", skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct OrderInfos {
    /// By `topic@group`, then by queue.
    pub table: BTreeMap<String, BTreeMap<i32, OrderInfo>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn the_file_of_apaches_broker_is_read_and_written() {
        let text = br#"{"table":{"t@g":{0:{"a":"x","cm":1,"i":60000,"l":7,"o":[5,1,2],"oc":{5:1},"ot":{6:99},"popTime":7}}}}"#;
        let read: OrderInfos = json::read(text).unwrap();
        let info = &read.table["t@g"][&0];
        assert_eq!((&info.offsets[..], info.counts.as_ref().unwrap()[&5]), (&[5, 1, 2][..], 1));
        assert_eq!(json::write(&read), text);
    }
}
