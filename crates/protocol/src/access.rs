//! Actions and resources of each request: the table for authorisation.
//!
//! They are those of Apache's ACL 2 (annotations of its request headers in 5.5.0). For requests that Apache omits,
//! because the body names the resources or by oversight, the table has what the request does.

use crate::codes::RequestCode;

/// An action of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sends messages, or acts for a producer.
    Publish,
    /// Receives messages, or acts for a consumer.
    Subscribe,
    /// Creates or changes something.
    Create,
    /// Changes something.
    Update,
    /// Deletes something.
    Delete,
    /// Reads one resource.
    Get,
    /// Reads all resources of a kind.
    List,
}

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The cluster as a whole: brokers, name servers, everything that does not belong to one topic or group.
    Cluster,
    /// A topic.
    Topic,
    /// A group of consumers or producers.
    Group,
}

/// Where a request has the name of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Nowhere: the request is about all resources of the kind.
    All,
    /// In this header field; none if the field is absent.
    Field(&'static str),
    /// In this header field, several names separated by this character.
    Fields(&'static str, char),
    /// In the body.
    Body,
}

/// Actions and resources of a request. Each action applies to each resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The actions.
    pub actions: &'static [Action],
    /// The resources.
    pub resources: &'static [(Kind, Named)],
}

const fn access(actions: &'static [Action], resources: &'static [(Kind, Named)]) -> Access {
    Access { actions, resources }
}

const CLUSTER: &[(Kind, Named)] = &[(Kind::Cluster, Named::All)];
const TOPIC: &[(Kind, Named)] = &[(Kind::Topic, Named::Field("topic"))];
const GROUP: &[(Kind, Named)] = &[(Kind::Group, Named::Field("group"))];
const CONSUMER_GROUP: &[(Kind, Named)] = &[(Kind::Group, Named::Field("consumerGroup"))];
const CONSUMER_GROUP_AND_TOPIC: &[(Kind, Named)] = &[(Kind::Group, Named::Field("consumerGroup")), (Kind::Topic, Named::Field("topic"))];
const GROUP_AND_TOPIC: &[(Kind, Named)] = &[(Kind::Group, Named::Field("group")), (Kind::Topic, Named::Field("topic"))];
const PRODUCER_GROUP_AND_TOPIC: &[(Kind, Named)] = &[(Kind::Group, Named::Field("producerGroup")), (Kind::Topic, Named::Field("topic"))];

/// Actions and resources of a code. The match is exhaustive: a new code does not compile without an entry.
#[must_use]
#[allow(clippy::too_many_lines, reason = "it is a table")]
pub const fn of(code: RequestCode) -> Access {
    use Action::{Create, Delete, Get, List, Publish, Subscribe, Update};
    use RequestCode as Code;
    match code {
        // Messages.
        Code::SendMessage | Code::RecallMessage | Code::EndTransaction | Code::CheckTransactionState => access(&[Publish], TOPIC),
        // Its header has single-letter names; `b` is the topic.
        Code::SendMessageV2 | Code::SendBatchMessage => access(&[Publish], &[(Kind::Topic, Named::Field("b"))]),
        Code::SendReplyMessage => access(&[Publish], PRODUCER_GROUP_AND_TOPIC),
        Code::SendReplyMessageV2 => access(&[Publish], &[(Kind::Group, Named::Field("a")), (Kind::Topic, Named::Field("b"))]),
        Code::PushReplyMessageToClient => access(&[Subscribe], PRODUCER_GROUP_AND_TOPIC),
        Code::PullMessage
        | Code::LitePullMessage
        | Code::UpdateConsumerOffset
        | Code::PopMessage
        | Code::PopLiteMessage
        | Code::PeekMessage
        | Code::AckMessage
        | Code::AckLiteMessage
        | Code::ChangeMessageInvisibletime
        | Code::PopRollback
        | Code::Notification
        | Code::ConsumeMessageDirectly => access(&[Subscribe], CONSUMER_GROUP_AND_TOPIC),
        Code::BatchAckMessage | Code::LiteSubscriptionCtl => {
            access(&[Subscribe], &[(Kind::Group, Named::Body), (Kind::Topic, Named::Body)])
        }
        Code::NotifyUnsubscribeLite => access(&[Subscribe], CONSUMER_GROUP),
        Code::ConsumerSendMsgBack => access(
            &[Subscribe],
            &[(Kind::Group, Named::Field("group")), (Kind::Topic, Named::Field("originTopic"))],
        ),
        Code::QueryMessage => access(&[Subscribe, Get], TOPIC),
        Code::ViewMessageById | Code::GetParentTopicInfo => access(&[Get], TOPIC),
        Code::ResumeCheckHalfMessage => access(&[Update], TOPIC),

        // Clients.
        Code::HeartBeat => access(&[Publish, Subscribe], &[(Kind::Group, Named::Body)]),
        Code::UnregisterClient => access(
            &[Publish, Subscribe],
            &[
                (Kind::Group, Named::Field("producerGroup")),
                (Kind::Group, Named::Field("consumerGroup")),
            ],
        ),
        Code::GetConsumerListByGroup | Code::NotifyConsumerIdsChanged => access(&[Subscribe], CONSUMER_GROUP),
        Code::LockBatchMq | Code::UnlockBatchMq | Code::CheckClientConfig | Code::QueryAssignment => {
            access(&[Subscribe], &[(Kind::Group, Named::Body), (Kind::Topic, Named::Body)])
        }
        Code::GetConsumerConnectionList | Code::GetConsumerRunningInfo => access(&[Get], CONSUMER_GROUP),
        Code::GetProducerConnectionList | Code::GetAllProducerInfo | Code::GetClientConfig => access(&[Get], CLUSTER),
        Code::InvokeBrokerToGetConsumerStatus | Code::GetConsumerStatusFromClient => access(&[Get], GROUP_AND_TOPIC),
        Code::PollingInfo => access(&[Get], CONSUMER_GROUP_AND_TOPIC),

        // Topics.
        Code::UpdateAndCreateTopic | Code::UpdateAndCreateStaticTopic => access(&[Create], TOPIC),
        Code::UpdateAndCreateTopicList => access(&[Create], &[(Kind::Topic, Named::Body)]),
        Code::DeleteTopicInBroker => access(&[Delete], TOPIC),
        Code::DeleteTopicInBrokerList => access(&[Delete], &[(Kind::Topic, Named::Body)]),
        Code::GetTopicConfig
        | Code::GetTopicStatsInfo
        | Code::SearchOffsetByTimestamp
        | Code::GetMaxOffset
        | Code::GetMinOffset
        | Code::GetEarliestMsgStoretime
        | Code::QueryTopicConsumeByWho
        | Code::QueryBrokerOffset
        | Code::GetLiteTopicInfo
        | Code::CheckRocksdbCqWriteProgress => access(&[Get], TOPIC),
        Code::GetAllTopicConfig
        | Code::GetTopicConfigList
        | Code::GetTopicNameList
        | Code::GetTopicsByCluster
        | Code::GetAllTopicListFromNameserver
        | Code::GetSystemTopicListFromNs
        | Code::GetSystemTopicListFromBroker
        | Code::GetUnitTopicList
        | Code::GetHasUnitSubTopicList
        | Code::GetHasUnitSubUnunitTopicList => access(&[List], &[(Kind::Topic, Named::All)]),

        // Groups and their offsets.
        Code::UpdateAndCreateSubscriptiongroup | Code::UpdateAndCreateSubscriptiongroupList => {
            access(&[Create], &[(Kind::Group, Named::Body)])
        }
        Code::DeleteSubscriptiongroup => access(&[Delete], &[(Kind::Group, Named::Field("groupName"))]),
        Code::DeleteSubscriptionGroupList => access(&[Delete], &[(Kind::Group, Named::Body)]),
        Code::GetSubscriptiongroupConfig | Code::QueryTopicsByConsumer | Code::GetLiteGroupInfo => access(&[Get], GROUP),
        Code::GetAllSubscriptiongroupConfig => access(&[List], &[(Kind::Group, Named::All)]),
        Code::QueryConsumerOffset | Code::QueryConsumeQueue => access(&[Get], CONSUMER_GROUP_AND_TOPIC),
        Code::QuerySubscriptionByConsumer | Code::QueryConsumeTimeSpan => access(&[Get], GROUP_AND_TOPIC),
        Code::GetConsumeStats => access(
            &[Get],
            &[
                (Kind::Group, Named::Field("consumerGroup")),
                (Kind::Topic, Named::Field("topic")),
                (Kind::Topic, Named::Fields("topicList", ';')),
            ],
        ),
        Code::QueryCorrectionOffset => access(
            &[Get],
            &[
                (Kind::Group, Named::Fields("filterGroups", ',')),
                (Kind::Group, Named::Field("compareGroup")),
                (Kind::Topic, Named::Field("topic")),
            ],
        ),
        Code::CloneGroupOffset => access(
            &[Update],
            &[
                (Kind::Group, Named::Field("srcGroup")),
                (Kind::Group, Named::Field("destGroup")),
                (Kind::Topic, Named::Field("topic")),
            ],
        ),
        Code::InvokeBrokerToResetOffset | Code::ResetConsumerClientOffset | Code::UpdateAndGetGroupForbidden => {
            access(&[Update], GROUP_AND_TOPIC)
        }
        Code::TriggerLiteDispatch => access(&[Update], GROUP),
        Code::SetMessageRequestMode => access(&[Update], &[(Kind::Group, Named::Body), (Kind::Topic, Named::Body)]),

        // Reading the cluster.
        Code::GetBrokerConfig
        | Code::GetNamesrvConfig
        | Code::GetBrokerRuntimeInfo
        | Code::GetAllConsumerOffset
        | Code::GetAllDelayOffset
        | Code::GetAllMessageRequestMode
        | Code::GetTimerCheckPoint
        | Code::GetTimerMetrics
        | Code::GetKvConfig
        | Code::GetKvlistByNamespace
        | Code::GetRouteinfoByTopic
        | Code::GetBrokerClusterInfo
        | Code::ViewBrokerStatsData
        | Code::GetBrokerConsumeStats
        | Code::QueryDataVersion
        | Code::GetBrokerMemberGroup
        | Code::GetBrokerHaStatus
        | Code::GetBrokerEpochCache
        | Code::ControllerGetReplicaInfo
        | Code::ControllerGetMetadataInfo
        | Code::ControllerGetSyncStateData
        | Code::ControllerGetNextBrokerId
        | Code::GetControllerConfig
        | Code::GetBrokerLiveInfoRequest
        | Code::GetSyncStateDataRequest
        | Code::CheckNotActiveBrokerRequest
        | Code::GetColdDataFlowCtrInfo
        | Code::GetBrokerLiteInfo
        | Code::GetLiteClientInfo
        | Code::ExportRocksdbConfigToJson
        | Code::GetBrokerClusterAclInfo
        | Code::GetBrokerClusterAclConfig
        | Code::AuthGetUser
        | Code::AuthListUser
        | Code::AuthGetAcl
        | Code::AuthListAcl => access(&[Get], CLUSTER),

        // Changing the cluster.
        Code::UpdateBrokerConfig
        | Code::UpdateNamesrvConfig
        | Code::UpdateControllerConfig
        | Code::TriggerDeleteFiles
        | Code::CleanExpiredConsumequeue
        | Code::DeleteExpiredCommitlog
        | Code::CleanUnusedTopic
        | Code::PutKvConfig
        | Code::DeleteKvConfig
        | Code::RegisterBroker
        | Code::UnregisterBroker
        | Code::BrokerHeartbeat
        | Code::WipeWritePermOfBroker
        | Code::AddWritePermOfBroker
        | Code::DeleteTopicInNamesrv
        | Code::RegisterTopicInNamesrv
        | Code::AddBroker
        | Code::RemoveBroker
        | Code::NotifyMinBrokerIdChange
        | Code::ExchangeBrokerHaInfo
        | Code::ResetMasterFlushOffset
        | Code::ControllerAlterSyncStateSet
        | Code::ControllerElectMaster
        | Code::ControllerRegisterBroker
        | Code::ControllerApplyBrokerId
        | Code::NotifyBrokerRoleChanged
        | Code::CleanBrokerData
        | Code::BrokerCloseChannelRequest
        | Code::RaftBrokerHeartBeatEventRequest
        | Code::UpdateColdDataFlowCtrConfig
        | Code::RemoveColdDataFlowCtrConfig
        | Code::SetCommitlogReadMode
        | Code::SwitchTimerEngine
        | Code::UpdateAndCreateAclConfig
        | Code::DeleteAclConfig
        | Code::UpdateGlobalWhiteAddrsConfig
        | Code::AuthCreateUser
        | Code::AuthUpdateUser
        | Code::AuthDeleteUser
        | Code::AuthCreateAcl
        | Code::AuthUpdateAcl
        | Code::AuthDeleteAcl => access(&[Update], CLUSTER),

        // Removed by RocketMQ itself.
        Code::SuspendConsumer
        | Code::ResumeConsumer
        | Code::ResetConsumerOffsetInConsumer
        | Code::ResetConsumerOffsetInBroker
        | Code::AdjustConsumerThreadPool
        | Code::WhoConsumeTheMessage
        | Code::RegisterFilterServer
        | Code::RegisterMessageFilterClass => access(&[Update], CLUSTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_actions_and_resources() {
        for code in RequestCode::ALL {
            let access = of(*code);
            assert!(!access.actions.is_empty() && !access.resources.is_empty(), "{code:?}");
        }
    }

    #[test]
    fn sends_have_their_topic_in_the_field_of_their_header() {
        let topic = |code| of(code).resources[0];
        assert_eq!(topic(RequestCode::SendMessage), (Kind::Topic, Named::Field("topic")));
        assert_eq!(topic(RequestCode::SendMessageV2), (Kind::Topic, Named::Field("b")));
    }
}
