//! The one match on the request code. It is exhaustive: a new code does not compile until it is served here or listed as refused, and a
//! refusal names the code's feature.

use std::sync::Arc;

use net::Connection;
use protocol::{Frame, RequestCode as Code};

use crate::error::RequestError;
use crate::handlers::lists::List;
use crate::handlers::{broker, cluster, kv, lists, property, route, topics};
use crate::routes::Units;
use crate::server::{NameServer, Served};

/// Serves a request, or says why not.
///
/// # Errors
/// [`RequestError::UnknownCode`] and [`RequestError::NotServed`] for codes that are not served here, else the error of the handler.
pub(crate) fn dispatch(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    let code = Code::try_from(request.code).map_err(|_| RequestError::UnknownCode(request.code))?;
    let reply = match code {
        // The frequent one: it writes its answer itself.
        Code::GetRouteinfoByTopic => {
            route::by_topic(names, conn, request);
            return Ok(Served::Later);
        }
        Code::PutKvConfig => return kv::put(names, conn, request),
        Code::GetKvConfig => kv::value(names, request),
        Code::DeleteKvConfig => return kv::delete(names, conn, request),
        Code::GetKvlistByNamespace => kv::list(names, request),
        Code::RegisterBroker => return broker::register(names, conn, request),
        Code::UnregisterBroker => return broker::unregister(names, conn, request),
        Code::QueryDataVersion => broker::data_version(names, request),
        Code::BrokerHeartbeat => broker::heartbeat(names, request),
        Code::GetBrokerClusterInfo => return lists::answer(names, conn, request, List::Clusters),
        Code::GetBrokerMemberGroup => cluster::member_group(names, conn, request),
        Code::WipeWritePermOfBroker => topics::wipe_write_perm(names, request),
        Code::AddWritePermOfBroker => topics::add_write_perm(names, request),
        Code::GetAllTopicListFromNameserver => return lists::all(names, conn, request),
        Code::GetTopicsByCluster => return lists::of_cluster(names, conn, request),
        Code::GetSystemTopicListFromNs => return lists::answer(names, conn, request, List::System),
        Code::GetUnitTopicList => return lists::units(names, conn, request, Units::Unit),
        Code::GetHasUnitSubTopicList => return lists::units(names, conn, request, Units::Subscribed),
        Code::GetHasUnitSubUnunitTopicList => return lists::units(names, conn, request, Units::OnlySubscribed),
        Code::DeleteTopicInNamesrv => topics::delete(names, request),
        Code::RegisterTopicInNamesrv => return topics::register(names, conn, request),
        Code::UpdateNamesrvConfig => return property::update(names, conn, request),
        Code::GetNamesrvConfig => property::all(names, request),
        other @ (Code::SendMessage
        | Code::PullMessage
        | Code::QueryMessage
        | Code::QueryBrokerOffset
        | Code::QueryConsumerOffset
        | Code::UpdateConsumerOffset
        | Code::UpdateAndCreateTopic
        | Code::UpdateAndCreateTopicList
        | Code::GetAllTopicConfig
        | Code::GetTopicConfigList
        | Code::GetTopicNameList
        | Code::UpdateBrokerConfig
        | Code::GetBrokerConfig
        | Code::TriggerDeleteFiles
        | Code::GetBrokerRuntimeInfo
        | Code::SearchOffsetByTimestamp
        | Code::GetMaxOffset
        | Code::GetMinOffset
        | Code::GetEarliestMsgStoretime
        | Code::ViewMessageById
        | Code::HeartBeat
        | Code::UnregisterClient
        | Code::ConsumerSendMsgBack
        | Code::EndTransaction
        | Code::GetConsumerListByGroup
        | Code::CheckTransactionState
        | Code::NotifyConsumerIdsChanged
        | Code::LockBatchMq
        | Code::UnlockBatchMq
        | Code::GetAllConsumerOffset
        | Code::GetAllDelayOffset
        | Code::CheckClientConfig
        | Code::GetClientConfig
        | Code::UpdateAndCreateAclConfig
        | Code::DeleteAclConfig
        | Code::GetBrokerClusterAclInfo
        | Code::UpdateGlobalWhiteAddrsConfig
        | Code::GetBrokerClusterAclConfig
        | Code::GetTimerCheckPoint
        | Code::GetTimerMetrics
        | Code::UpdateAndCreateSubscriptiongroup
        | Code::GetAllSubscriptiongroupConfig
        | Code::GetTopicStatsInfo
        | Code::GetConsumerConnectionList
        | Code::GetProducerConnectionList
        | Code::DeleteSubscriptiongroup
        | Code::GetConsumeStats
        | Code::SuspendConsumer
        | Code::ResumeConsumer
        | Code::ResetConsumerOffsetInConsumer
        | Code::ResetConsumerOffsetInBroker
        | Code::AdjustConsumerThreadPool
        | Code::WhoConsumeTheMessage
        | Code::DeleteTopicInBroker
        | Code::ResetConsumerClientOffset
        | Code::GetConsumerStatusFromClient
        | Code::InvokeBrokerToResetOffset
        | Code::InvokeBrokerToGetConsumerStatus
        | Code::UpdateAndCreateSubscriptiongroupList
        | Code::QueryTopicConsumeByWho
        | Code::RegisterFilterServer
        | Code::RegisterMessageFilterClass
        | Code::QueryConsumeTimeSpan
        | Code::GetSystemTopicListFromBroker
        | Code::CleanExpiredConsumequeue
        | Code::GetConsumerRunningInfo
        | Code::QueryCorrectionOffset
        | Code::ConsumeMessageDirectly
        | Code::SendMessageV2
        | Code::CloneGroupOffset
        | Code::ViewBrokerStatsData
        | Code::CleanUnusedTopic
        | Code::GetBrokerConsumeStats
        | Code::SendBatchMessage
        | Code::QueryConsumeQueue
        | Code::ResumeCheckHalfMessage
        | Code::SendReplyMessage
        | Code::SendReplyMessageV2
        | Code::PushReplyMessageToClient
        | Code::GetAllProducerInfo
        | Code::DeleteExpiredCommitlog
        | Code::QueryTopicsByConsumer
        | Code::QuerySubscriptionByConsumer
        | Code::GetTopicConfig
        | Code::GetSubscriptiongroupConfig
        | Code::UpdateAndGetGroupForbidden
        | Code::CheckRocksdbCqWriteProgress
        | Code::ExportRocksdbConfigToJson
        | Code::LitePullMessage
        | Code::RecallMessage
        | Code::QueryAssignment
        | Code::SetMessageRequestMode
        | Code::GetAllMessageRequestMode
        | Code::UpdateAndCreateStaticTopic
        | Code::AddBroker
        | Code::RemoveBroker
        | Code::NotifyMinBrokerIdChange
        | Code::ExchangeBrokerHaInfo
        | Code::GetBrokerHaStatus
        | Code::ResetMasterFlushOffset
        | Code::ControllerAlterSyncStateSet
        | Code::ControllerElectMaster
        | Code::ControllerRegisterBroker
        | Code::ControllerGetReplicaInfo
        | Code::ControllerGetMetadataInfo
        | Code::ControllerGetSyncStateData
        | Code::GetBrokerEpochCache
        | Code::NotifyBrokerRoleChanged
        | Code::UpdateControllerConfig
        | Code::GetControllerConfig
        | Code::CleanBrokerData
        | Code::ControllerGetNextBrokerId
        | Code::ControllerApplyBrokerId
        | Code::BrokerCloseChannelRequest
        | Code::CheckNotActiveBrokerRequest
        | Code::GetBrokerLiveInfoRequest
        | Code::GetSyncStateDataRequest
        | Code::RaftBrokerHeartBeatEventRequest
        | Code::UpdateColdDataFlowCtrConfig
        | Code::RemoveColdDataFlowCtrConfig
        | Code::GetColdDataFlowCtrInfo
        | Code::SetCommitlogReadMode
        | Code::AuthCreateUser
        | Code::AuthUpdateUser
        | Code::AuthDeleteUser
        | Code::AuthGetUser
        | Code::AuthListUser
        | Code::AuthCreateAcl
        | Code::AuthUpdateAcl
        | Code::AuthDeleteAcl
        | Code::AuthGetAcl
        | Code::AuthListAcl
        | Code::SwitchTimerEngine
        | Code::DeleteTopicInBrokerList
        | Code::DeleteSubscriptionGroupList
        | Code::PopMessage
        | Code::AckMessage
        | Code::PeekMessage
        | Code::ChangeMessageInvisibletime
        | Code::Notification
        | Code::PollingInfo
        | Code::PopRollback
        | Code::PopLiteMessage
        | Code::LiteSubscriptionCtl
        | Code::AckLiteMessage
        | Code::NotifyUnsubscribeLite
        | Code::GetBrokerLiteInfo
        | Code::GetParentTopicInfo
        | Code::GetLiteTopicInfo
        | Code::GetLiteClientInfo
        | Code::GetLiteGroupInfo
        | Code::TriggerLiteDispatch
        | Code::BatchAckMessage) => Err(RequestError::NotServed(other)),
    };
    reply.map(Served::Now)
}
