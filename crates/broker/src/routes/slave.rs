//! What a slave refuses, with the codes of Apache's slaves where clients act on them.

use crate::errors::Refusal;
use protocol::{RequestCode, ResponseCode};

/// What a slave may do, beside what every slave does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// It serves pulls.
    pub(super) reads: bool,
    /// It acts for its master and has other brokers store what has to be stored.
    pub(super) pops: bool,
}

/// The refusal of a request that only a master serves; `None` if a slave serves it. Pulls need
/// `slaveReadEnable`, or `enableSlaveActingMaster`: consumers whose route is old ask a slave that acted for some time after its master is back.
pub(super) fn refusal(code: RequestCode, allowed: Allowed) -> Option<Refusal> {
    use RequestCode as Code;
    let unavailable = |code, what: &str| Refusal::new(code, format!("this broker is a slave and {what}; ask the master"));
    match code {
        Code::SendMessage | Code::SendMessageV2 | Code::SendBatchMessage | Code::ConsumerSendMsgBack => {
            Some(busy("this broker is a slave and takes no messages; send to the master"))
        }
        Code::PullMessage | Code::LitePullMessage if !allowed.reads => Some(busy(
            "this broker is a slave and serves no pulls (slaveReadEnable, enableSlaveActingMaster); pull from the master",
        )),
        Code::PopMessage | Code::AckMessage | Code::BatchAckMessage | Code::ChangeMessageInvisibletime if allowed.pops => None,
        Code::EndTransaction | Code::RecallMessage => Some(unavailable(ResponseCode::SlaveNotAvailable, "ends and recalls nothing")),
        Code::SendReplyMessage
        | Code::SendReplyMessageV2
        | Code::PopMessage
        | Code::PopLiteMessage
        | Code::AckMessage
        | Code::BatchAckMessage
        | Code::ChangeMessageInvisibletime
        | Code::ResumeCheckHalfMessage
        | Code::LiteSubscriptionCtl => Some(unavailable(ResponseCode::ServiceNotAvailable, "stores nothing")),
        _ => None,
    }
}

/// Compat: the code has Apache's clients try another broker.
pub(super) fn busy(why: &str) -> Refusal {
    Refusal::new(
        ResponseCode::SystemBusy,
        format!("[REJECTREQUEST]system busy, start flow control for a while: {why}"),
    )
}
