//! Request and reply over messages: a consumer's reply (324, 325, with the header of a send) goes to the producer that asked (326).

use crate::header::header;

/// Property of a reply: the client id of the producer that asked.
pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
/// Property that the broker adds: when it forwarded the reply, epoch ms.
pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";

header! {
    /// Code 326. The body is the reply's.
    pub struct PushReplyHeader<'a> {
        /// Group of the replying client.
        pub producer_group: &'a str = "producerGroup",
        /// The topic of replies.
        pub topic: &'a str = "topic",
        /// As in a send.
        pub default_topic: &'a str = "defaultTopic",
        /// As in a send.
        pub default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        /// The queue it is stored in; below 0 any.
        pub queue_id: i32 = "queueId",
        /// Flag bits of the message.
        pub sys_flag: i32 = "sysFlag",
        /// When the reply was created, epoch ms.
        pub born_timestamp: i64 = "bornTimestamp",
        /// The user's flag.
        pub flag: i32 = "flag",
        /// Properties as they are stored.
        pub properties: &'a str = "properties",
        /// How often its consumption failed.
        pub reconsume_times: i32 = "reconsumeTimes",
        /// Unit mode.
        pub unit_mode: bool = "unitMode",
        /// Address of the replying client.
        pub born_host: &'a str = "bornHost",
        /// Address of the broker.
        pub store_host: &'a str = "storeHost",
        /// The broker's current time, epoch ms.
        pub store_timestamp: i64 = "storeTimestamp",
    }
}
