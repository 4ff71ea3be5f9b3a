//! Sending a message back for a later retry: code 36.

use crate::header::header;

header! {
    /// Code 36.
    pub struct SendBackHeader<'a> {
        /// The message's log offset.
        pub offset: i64 = "offset",
        /// The group that could not consume it.
        pub group: &'a str = "group",
        /// The delay level; 0 lets the broker choose, below 0 means the dead letter queue.
        pub delay_level: i32 = "delayLevel",
        /// Its id.
        pub origin_msg_id: Option<&'a str> = "originMsgId",
        /// Its topic.
        pub origin_topic: Option<&'a str> = "originTopic",
        /// Unit mode.
        pub unit_mode: bool = "unitMode",
        /// Maximum number of retries.
        pub max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
}
