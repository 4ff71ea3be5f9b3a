//! What becomes of a request, by its code; and which broker it names.

use protocol::RequestCode::{self, *};
use protocol::ext::Ext;

/// Who serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The broker that its header names.
    Named,
    /// The broker of the queues in its body (locks).
    Queues,
    /// The broker in its body (acknowledgements of several messages).
    Acks,
    /// A broker of the topic in its body that knows the members of the group.
    Assignment,
    /// A broker that knows the members of the group in its header.
    Group,
    /// Any broker: it only looks at the request.
    Any,
    /// All brokers, with one answer.
    Heartbeat,
    /// All brokers that the client is connected to, with one answer.
    Unregister,
    /// The proxy, which asks a name server.
    Route,
    /// Nobody here.
    Refused,
}

/// The way of a request.
///
/// Compat: Apache's proxy serves fewer. It refuses queue assignments, request-reply and queries; and it answers checks of client settings itself.
pub(super) fn way(code: RequestCode) -> Way {
    match code {
        SendMessage | SendMessageV2 | SendBatchMessage | SendReplyMessage | SendReplyMessageV2 | ConsumerSendMsgBack | EndTransaction
        | RecallMessage => Way::Named,
        PullMessage
        | LitePullMessage
        | PopMessage
        | PeekMessage
        | AckMessage
        | ChangeMessageInvisibletime
        | Notification
        | PollingInfo
        | PopLiteMessage
        | LiteSubscriptionCtl => Way::Named,
        QueryConsumerOffset | UpdateConsumerOffset | SearchOffsetByTimestamp | GetMaxOffset | GetMinOffset | GetEarliestMsgStoretime => {
            Way::Named
        }
        QueryMessage | ViewMessageById => Way::Named,
        LockBatchMq | UnlockBatchMq => Way::Queues,
        BatchAckMessage => Way::Acks,
        QueryAssignment => Way::Assignment,
        GetConsumerListByGroup | GetConsumerConnectionList => Way::Group,
        CheckClientConfig => Way::Any,
        HeartBeat => Way::Heartbeat,
        UnregisterClient => Way::Unregister,
        GetRouteinfoByTopic => Way::Route,
        _ => Way::Refused,
    }
}

/// Whether the broker may hold the answer back until there is a message. Nobody waits for these when the proxy stops.
pub(super) fn is_poll(code: RequestCode) -> bool {
    matches!(code, PullMessage | LitePullMessage | PopMessage | PopLiteMessage | Notification)
}

/// The broker that a header names.
///
/// Compat: requests with the short names of a message's fields have it in `n`, the others in `bname`. Clients before 5.0 have neither.
pub(super) fn broker_of(code: RequestCode, ext: &Ext) -> Option<&str> {
    let key = match code {
        SendMessageV2 | SendBatchMessage | SendReplyMessageV2 => "n",
        _ => "bname",
    };
    ext.text(key).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_apaches_proxy_serves_is_served() {
        for code in [
            10, 310, 320, 36, 37, 370, 34, 35, 46, 11, 361, 200_050, 15, 200_051, 200_053, 203, 38, 30, 31, 14, 29, 41, 42, 105, 32,
        ] {
            let code = RequestCode::try_from(code).unwrap();
            assert_ne!(way(code), Way::Refused, "{code:?}");
        }
        for code in [17, 25, 26, 106, 207, 215, 3_001] {
            assert_eq!(way(RequestCode::try_from(code).unwrap()), Way::Refused);
        }
    }

    #[test]
    fn the_name_of_a_broker_is_in_the_field_of_its_code() {
        let ext = Ext::new().with("n", "short").with("bname", "long");
        assert_eq!(broker_of(SendMessageV2, &ext), Some("short"));
        assert_eq!(broker_of(SendMessage, &ext), Some("long"));
        assert_eq!(broker_of(PullMessage, &Ext::new().with("bname", "")), None);
    }
}
