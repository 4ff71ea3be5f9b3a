//! Transactions: codes 37, 39 and 323.

use crate::header::header;

header! {
    /// Code 37: a producer says how a transaction ends. Usually one-way.
    pub struct EndTransactionHeader<'a> {
        /// The message's topic; clients before 5 do not say it.
        pub topic: Option<&'a str> = "topic",
        /// The group that sent the half message.
        pub producer_group: &'a str = "producerGroup",
        /// The half message's offset in the queue of half messages.
        pub tran_state_table_offset: i64 = "tranStateTableOffset",
        /// The half message's log offset.
        pub commit_log_offset: i64 = "commitLogOffset",
        /// [`COMMIT`], [`ROLLBACK`], or [`UNKNOWN`].
        pub commit_or_rollback: i32 = "commitOrRollback",
        /// Whether this answers a check (39).
        pub from_transaction_check: bool = "fromTransactionCheck",
        /// The id the client gave the message.
        pub msg_id: Option<&'a str> = "msgId",
        /// The id of the transaction.
        pub transaction_id: Option<&'a str> = "transactionId",
    }
}

/// The transaction commits.
pub const COMMIT: i32 = 8;
/// The transaction rolls back.
pub const ROLLBACK: i32 = 12;
/// The producer does not know yet.
pub const UNKNOWN: i32 = 0;

header! {
    /// Code 39: the broker asks a producer how a transaction ends; the answer is a 37. The body is the half message, with its own topic.
    pub struct CheckTransactionStateHeader<'a> {
        /// The topic of half messages.
        pub topic: Option<&'a str> = "topic",
        /// The half message's offset in the queue of half messages.
        pub tran_state_table_offset: i64 = "tranStateTableOffset",
        /// The half message's log offset.
        pub commit_log_offset: i64 = "commitLogOffset",
        /// The id the client gave the message.
        pub msg_id: Option<&'a str> = "msgId",
        /// The id of the transaction: the same.
        pub transaction_id: Option<&'a str> = "transactionId",
        /// The id that names the half message by address and log offset.
        pub offset_msg_id: Option<&'a str> = "offsetMsgId",
        /// The broker that asks.
        pub broker_name: Option<&'a str> = "bname",
    }
}

header! {
    /// Code 323: a message that was given up is to be checked again.
    pub struct ResumeCheckHalfMessageHeader<'a> {
        /// Its topic.
        pub topic: Option<&'a str> = "topic",
        /// The id that names it by address and log offset.
        pub msg_id: &'a str = "msgId",
    }
}
