//! Messages of this protocol and the broker's: properties on the way in, records on the way out.

mod incoming;
mod outgoing;

pub(crate) use incoming::{Incoming, MessageRules};
pub(crate) use outgoing::{Shown, of_record};

use crate::v2::{MessageType, SystemProperties};

/// Names of properties that are RocketMQ's own: a client may not use them, and does not see them among its own.
const RESERVED: &[&str] = &[
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_MULTI_QUEUE_OFFSET",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_GROUP",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_TIMES",
    "TRACE_ON",
    "TRANSFER_FLAG",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "_SYS_MSG_PRIORITY_",
    "__BORNHOST",
    "__CRC32#",
    "__LITE_TOPIC",
];

/// Sharding key of the remoting protocol, message group of this one. Compat: a client may set it as a property, too.
const SHARDING_KEY: &str = ::message::properties::SHARDING_KEY;
const TRACE_CONTEXT: &str = "TRACE_CONTEXT";
const BORN_HOST: &str = "__BORNHOST";

fn is_reserved(name: &str) -> bool {
    RESERVED.binary_search(&name).is_ok()
}

/// The type of a message. Compat: of several properties the first counts, in this order.
fn kind_of(is_transaction: bool, is_delayed: bool, system: &SystemProperties) -> MessageType {
    let is_some = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if is_transaction {
        MessageType::Transaction
    } else if is_delayed {
        MessageType::Delay
    } else if is_some(&system.message_group) {
        MessageType::Fifo
    } else if system.priority.is_some() {
        MessageType::Priority
    } else if is_some(&system.lite_topic) {
        MessageType::Lite
    } else {
        MessageType::Normal
    }
}

/// The value of a topic's attribute `message.type` for messages of this type.
pub(crate) fn type_name(kind: MessageType) -> &'static str {
    match kind {
        MessageType::Fifo => "FIFO",
        MessageType::Delay => "DELAY",
        MessageType::Transaction => "TRANSACTION",
        MessageType::Priority => "PRIORITY",
        MessageType::Lite => "LITE",
        MessageType::Normal | MessageType::Unspecified => "NORMAL",
    }
}

/// Value of `message.type` of a topic that was created by a consumer: its first message says the type.
pub(crate) const UNSPECIFIED: &str = "UNSPECIFIED";

/// The types of messages that a topic takes, by its attribute `message.type`. Compat: NORMAL without one.
pub(crate) fn accepted(attribute: Option<&str>) -> Vec<MessageType> {
    use MessageType as Type;
    match attribute.unwrap_or("NORMAL") {
        "NORMAL" => vec![Type::Normal],
        "FIFO" => vec![Type::Fifo],
        "DELAY" => vec![Type::Delay],
        "TRANSACTION" => vec![Type::Transaction],
        "PRIORITY" => vec![Type::Priority],
        "LITE" => vec![Type::Lite],
        "MIXED" | UNSPECIFIED => vec![Type::Normal, Type::Fifo, Type::Delay, Type::Transaction, Type::Priority],
        _ => vec![Type::Unspecified],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_sorted_for_the_search() {
        assert!(RESERVED.is_sorted());
        assert!(is_reserved("KEYS") && is_reserved("__LITE_TOPIC") && !is_reserved("keys"));
    }
}
