//! Request and response codes: every code of every RocketMQ version up to 5.5, with Apache's constant name.
//!
//! A code is listed whether it is served or not: the matches of broker and name server over [`RequestCode`] have to decide about each, and
//! a refusal names its feature. Values never change meaning; new ones are only added.

/// A number that is not a known code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown code {0}")]
pub struct UnknownCode(pub i32);

macro_rules! request_codes {
    ($($variant:ident = $code:literal $name:literal $feature:literal,)*) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i32)]
        #[allow(missing_docs)]
        pub enum RequestCode {
            $($variant = $code,)*
        }

        impl RequestCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Apache's constant name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The feature's plain name, for "not supported" remarks.
            pub fn feature(self) -> &'static str {
                match self { $(Self::$variant => $feature,)* }
            }
        }

        impl TryFrom<i32> for RequestCode {
            type Error = UnknownCode;
            #[inline]
            fn try_from(code: i32) -> Result<Self, UnknownCode> {
                match code { $($code => Ok(Self::$variant),)* _ => Err(UnknownCode(code)) }
            }
        }
    };
}
request_codes! {
    SendMessage = 10 "SEND_MESSAGE" "send",
    PullMessage = 11 "PULL_MESSAGE" "pull",
    QueryMessage = 12 "QUERY_MESSAGE" "message query",
    QueryBrokerOffset = 13 "QUERY_BROKER_OFFSET" "offsets",
    QueryConsumerOffset = 14 "QUERY_CONSUMER_OFFSET" "offsets",
    UpdateConsumerOffset = 15 "UPDATE_CONSUMER_OFFSET" "offsets",
    UpdateAndCreateTopic = 17 "UPDATE_AND_CREATE_TOPIC" "topics",
    UpdateAndCreateTopicList = 18 "UPDATE_AND_CREATE_TOPIC_LIST" "topics",
    GetAllTopicConfig = 21 "GET_ALL_TOPIC_CONFIG" "topics",
    GetTopicConfigList = 22 "GET_TOPIC_CONFIG_LIST" "topics",
    GetTopicNameList = 23 "GET_TOPIC_NAME_LIST" "topics",
    UpdateBrokerConfig = 25 "UPDATE_BROKER_CONFIG" "server configuration",
    GetBrokerConfig = 26 "GET_BROKER_CONFIG" "server configuration",
    TriggerDeleteFiles = 27 "TRIGGER_DELETE_FILES" "cleaning of expired files",
    GetBrokerRuntimeInfo = 28 "GET_BROKER_RUNTIME_INFO" "statistics",
    SearchOffsetByTimestamp = 29 "SEARCH_OFFSET_BY_TIMESTAMP" "offsets",
    GetMaxOffset = 30 "GET_MAX_OFFSET" "offsets",
    GetMinOffset = 31 "GET_MIN_OFFSET" "offsets",
    GetEarliestMsgStoretime = 32 "GET_EARLIEST_MSG_STORETIME" "offsets",
    ViewMessageById = 33 "VIEW_MESSAGE_BY_ID" "message query",
    HeartBeat = 34 "HEART_BEAT" "client connections",
    UnregisterClient = 35 "UNREGISTER_CLIENT" "client connections",
    ConsumerSendMsgBack = 36 "CONSUMER_SEND_MSG_BACK" "consume retry",
    EndTransaction = 37 "END_TRANSACTION" "transactions",
    GetConsumerListByGroup = 38 "GET_CONSUMER_LIST_BY_GROUP" "client connections",
    CheckTransactionState = 39 "CHECK_TRANSACTION_STATE" "transactions",
    NotifyConsumerIdsChanged = 40 "NOTIFY_CONSUMER_IDS_CHANGED" "client connections",
    LockBatchMq = 41 "LOCK_BATCH_MQ" "queue locks",
    UnlockBatchMq = 42 "UNLOCK_BATCH_MQ" "queue locks",
    GetAllConsumerOffset = 43 "GET_ALL_CONSUMER_OFFSET" "offsets",
    GetAllDelayOffset = 45 "GET_ALL_DELAY_OFFSET" "delayed messages",
    CheckClientConfig = 46 "CHECK_CLIENT_CONFIG" "client connections",
    GetClientConfig = 47 "GET_CLIENT_CONFIG" "client connections",
    UpdateAndCreateAclConfig = 50 "UPDATE_AND_CREATE_ACL_CONFIG" "ACL 1.0 (removed in RocketMQ 5.3.3)",
    DeleteAclConfig = 51 "DELETE_ACL_CONFIG" "ACL 1.0 (removed in RocketMQ 5.3.3)",
    GetBrokerClusterAclInfo = 52 "GET_BROKER_CLUSTER_ACL_INFO" "ACL 1.0 (removed in RocketMQ 5.3.3)",
    UpdateGlobalWhiteAddrsConfig = 53 "UPDATE_GLOBAL_WHITE_ADDRS_CONFIG" "ACL 1.0 (removed in RocketMQ 5.3.3)",
    GetBrokerClusterAclConfig = 54 "GET_BROKER_CLUSTER_ACL_CONFIG" "ACL 1.0 (removed in RocketMQ 5.3.3)",
    GetTimerCheckPoint = 60 "GET_TIMER_CHECK_POINT" "timer messages",
    GetTimerMetrics = 61 "GET_TIMER_METRICS" "timer messages",
    PutKvConfig = 100 "PUT_KV_CONFIG" "name server key-value configuration",
    GetKvConfig = 101 "GET_KV_CONFIG" "name server key-value configuration",
    DeleteKvConfig = 102 "DELETE_KV_CONFIG" "name server key-value configuration",
    RegisterBroker = 103 "REGISTER_BROKER" "broker registration",
    UnregisterBroker = 104 "UNREGISTER_BROKER" "broker registration",
    GetRouteinfoByTopic = 105 "GET_ROUTEINFO_BY_TOPIC" "routes",
    GetBrokerClusterInfo = 106 "GET_BROKER_CLUSTER_INFO" "routes",
    UpdateAndCreateSubscriptiongroup = 200 "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP" "consumer groups",
    GetAllSubscriptiongroupConfig = 201 "GET_ALL_SUBSCRIPTIONGROUP_CONFIG" "consumer groups",
    GetTopicStatsInfo = 202 "GET_TOPIC_STATS_INFO" "statistics",
    GetConsumerConnectionList = 203 "GET_CONSUMER_CONNECTION_LIST" "client connections",
    GetProducerConnectionList = 204 "GET_PRODUCER_CONNECTION_LIST" "client connections",
    WipeWritePermOfBroker = 205 "WIPE_WRITE_PERM_OF_BROKER" "write permission of a broker",
    GetAllTopicListFromNameserver = 206 "GET_ALL_TOPIC_LIST_FROM_NAMESERVER" "topics",
    DeleteSubscriptiongroup = 207 "DELETE_SUBSCRIPTIONGROUP" "consumer groups",
    GetConsumeStats = 208 "GET_CONSUME_STATS" "statistics",
    SuspendConsumer = 209 "SUSPEND_CONSUMER" "a feature RocketMQ itself removed",
    ResumeConsumer = 210 "RESUME_CONSUMER" "a feature RocketMQ itself removed",
    ResetConsumerOffsetInConsumer = 211 "RESET_CONSUMER_OFFSET_IN_CONSUMER" "offset reset",
    ResetConsumerOffsetInBroker = 212 "RESET_CONSUMER_OFFSET_IN_BROKER" "offset reset",
    AdjustConsumerThreadPool = 213 "ADJUST_CONSUMER_THREAD_POOL" "a feature RocketMQ itself removed",
    WhoConsumeTheMessage = 214 "WHO_CONSUME_THE_MESSAGE" "a feature RocketMQ itself removed",
    DeleteTopicInBroker = 215 "DELETE_TOPIC_IN_BROKER" "topics",
    DeleteTopicInNamesrv = 216 "DELETE_TOPIC_IN_NAMESRV" "topics",
    RegisterTopicInNamesrv = 217 "REGISTER_TOPIC_IN_NAMESRV" "topics",
    GetKvlistByNamespace = 219 "GET_KVLIST_BY_NAMESPACE" "name server key-value configuration",
    ResetConsumerClientOffset = 220 "RESET_CONSUMER_CLIENT_OFFSET" "offset reset",
    GetConsumerStatusFromClient = 221 "GET_CONSUMER_STATUS_FROM_CLIENT" "consumer diagnosis",
    InvokeBrokerToResetOffset = 222 "INVOKE_BROKER_TO_RESET_OFFSET" "offset reset",
    InvokeBrokerToGetConsumerStatus = 223 "INVOKE_BROKER_TO_GET_CONSUMER_STATUS" "consumer diagnosis",
    GetTopicsByCluster = 224 "GET_TOPICS_BY_CLUSTER" "topics",
    UpdateAndCreateSubscriptiongroupList = 225 "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST" "consumer groups",
    QueryTopicConsumeByWho = 300 "QUERY_TOPIC_CONSUME_BY_WHO" "statistics",
    RegisterFilterServer = 301 "REGISTER_FILTER_SERVER" "a feature RocketMQ itself removed",
    RegisterMessageFilterClass = 302 "REGISTER_MESSAGE_FILTER_CLASS" "a feature RocketMQ itself removed",
    QueryConsumeTimeSpan = 303 "QUERY_CONSUME_TIME_SPAN" "statistics",
    GetSystemTopicListFromNs = 304 "GET_SYSTEM_TOPIC_LIST_FROM_NS" "topics",
    GetSystemTopicListFromBroker = 305 "GET_SYSTEM_TOPIC_LIST_FROM_BROKER" "topics",
    CleanExpiredConsumequeue = 306 "CLEAN_EXPIRED_CONSUMEQUEUE" "cleaning of expired files",
    GetConsumerRunningInfo = 307 "GET_CONSUMER_RUNNING_INFO" "consumer diagnosis",
    QueryCorrectionOffset = 308 "QUERY_CORRECTION_OFFSET" "offsets",
    ConsumeMessageDirectly = 309 "CONSUME_MESSAGE_DIRECTLY" "consumer diagnosis",
    SendMessageV2 = 310 "SEND_MESSAGE_V2" "send",
    GetUnitTopicList = 311 "GET_UNIT_TOPIC_LIST" "topics",
    GetHasUnitSubTopicList = 312 "GET_HAS_UNIT_SUB_TOPIC_LIST" "topics",
    GetHasUnitSubUnunitTopicList = 313 "GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST" "topics",
    CloneGroupOffset = 314 "CLONE_GROUP_OFFSET" "offset reset",
    ViewBrokerStatsData = 315 "VIEW_BROKER_STATS_DATA" "statistics",
    CleanUnusedTopic = 316 "CLEAN_UNUSED_TOPIC" "topics",
    GetBrokerConsumeStats = 317 "GET_BROKER_CONSUME_STATS" "statistics",
    UpdateNamesrvConfig = 318 "UPDATE_NAMESRV_CONFIG" "server configuration",
    GetNamesrvConfig = 319 "GET_NAMESRV_CONFIG" "server configuration",
    SendBatchMessage = 320 "SEND_BATCH_MESSAGE" "send",
    QueryConsumeQueue = 321 "QUERY_CONSUME_QUEUE" "message query",
    QueryDataVersion = 322 "QUERY_DATA_VERSION" "broker registration",
    ResumeCheckHalfMessage = 323 "RESUME_CHECK_HALF_MESSAGE" "transactions",
    SendReplyMessage = 324 "SEND_REPLY_MESSAGE" "request-reply",
    SendReplyMessageV2 = 325 "SEND_REPLY_MESSAGE_V2" "request-reply",
    PushReplyMessageToClient = 326 "PUSH_REPLY_MESSAGE_TO_CLIENT" "request-reply",
    AddWritePermOfBroker = 327 "ADD_WRITE_PERM_OF_BROKER" "write permission of a broker",
    GetAllProducerInfo = 328 "GET_ALL_PRODUCER_INFO" "client connections",
    DeleteExpiredCommitlog = 329 "DELETE_EXPIRED_COMMITLOG" "cleaning of expired files",
    QueryTopicsByConsumer = 343 "QUERY_TOPICS_BY_CONSUMER" "consumer groups",
    QuerySubscriptionByConsumer = 345 "QUERY_SUBSCRIPTION_BY_CONSUMER" "consumer groups",
    GetTopicConfig = 351 "GET_TOPIC_CONFIG" "topics",
    GetSubscriptiongroupConfig = 352 "GET_SUBSCRIPTIONGROUP_CONFIG" "consumer groups",
    UpdateAndGetGroupForbidden = 353 "UPDATE_AND_GET_GROUP_FORBIDDEN" "consumer groups",
    CheckRocksdbCqWriteProgress = 354 "CHECK_ROCKSDB_CQ_WRITE_PROGRESS" "RocksDB storage",
    ExportRocksdbConfigToJson = 355 "EXPORT_ROCKSDB_CONFIG_TO_JSON" "RocksDB storage",
    LitePullMessage = 361 "LITE_PULL_MESSAGE" "pull",
    RecallMessage = 370 "RECALL_MESSAGE" "recall of delayed messages",
    QueryAssignment = 400 "QUERY_ASSIGNMENT" "server-side queue assignment",
    SetMessageRequestMode = 401 "SET_MESSAGE_REQUEST_MODE" "server-side queue assignment",
    GetAllMessageRequestMode = 402 "GET_ALL_MESSAGE_REQUEST_MODE" "server-side queue assignment",
    UpdateAndCreateStaticTopic = 513 "UPDATE_AND_CREATE_STATIC_TOPIC" "static topics",
    GetBrokerMemberGroup = 901 "GET_BROKER_MEMBER_GROUP" "broker registration",
    AddBroker = 902 "ADD_BROKER" "broker container",
    RemoveBroker = 903 "REMOVE_BROKER" "broker container",
    BrokerHeartbeat = 904 "BROKER_HEARTBEAT" "broker registration",
    NotifyMinBrokerIdChange = 905 "NOTIFY_MIN_BROKER_ID_CHANGE" "replication",
    ExchangeBrokerHaInfo = 906 "EXCHANGE_BROKER_HA_INFO" "replication",
    GetBrokerHaStatus = 907 "GET_BROKER_HA_STATUS" "replication",
    ResetMasterFlushOffset = 908 "RESET_MASTER_FLUSH_OFFSET" "replication",
    ControllerAlterSyncStateSet = 1001 "CONTROLLER_ALTER_SYNC_STATE_SET" "controller",
    ControllerElectMaster = 1002 "CONTROLLER_ELECT_MASTER" "controller",
    ControllerRegisterBroker = 1003 "CONTROLLER_REGISTER_BROKER" "controller",
    ControllerGetReplicaInfo = 1004 "CONTROLLER_GET_REPLICA_INFO" "controller",
    ControllerGetMetadataInfo = 1005 "CONTROLLER_GET_METADATA_INFO" "controller",
    ControllerGetSyncStateData = 1006 "CONTROLLER_GET_SYNC_STATE_DATA" "controller",
    GetBrokerEpochCache = 1007 "GET_BROKER_EPOCH_CACHE" "replication",
    NotifyBrokerRoleChanged = 1008 "NOTIFY_BROKER_ROLE_CHANGED" "replication",
    UpdateControllerConfig = 1009 "UPDATE_CONTROLLER_CONFIG" "controller",
    GetControllerConfig = 1010 "GET_CONTROLLER_CONFIG" "controller",
    CleanBrokerData = 1011 "CLEAN_BROKER_DATA" "controller",
    ControllerGetNextBrokerId = 1012 "CONTROLLER_GET_NEXT_BROKER_ID" "controller",
    ControllerApplyBrokerId = 1013 "CONTROLLER_APPLY_BROKER_ID" "controller",
    BrokerCloseChannelRequest = 1014 "BROKER_CLOSE_CHANNEL_REQUEST" "controller",
    CheckNotActiveBrokerRequest = 1015 "CHECK_NOT_ACTIVE_BROKER_REQUEST" "controller",
    GetBrokerLiveInfoRequest = 1016 "GET_BROKER_LIVE_INFO_REQUEST" "controller",
    GetSyncStateDataRequest = 1017 "GET_SYNC_STATE_DATA_REQUEST" "controller",
    RaftBrokerHeartBeatEventRequest = 1018 "RAFT_BROKER_HEART_BEAT_EVENT_REQUEST" "controller",
    UpdateColdDataFlowCtrConfig = 2001 "UPDATE_COLD_DATA_FLOW_CTR_CONFIG" "cold data control",
    RemoveColdDataFlowCtrConfig = 2002 "REMOVE_COLD_DATA_FLOW_CTR_CONFIG" "cold data control",
    GetColdDataFlowCtrInfo = 2003 "GET_COLD_DATA_FLOW_CTR_INFO" "cold data control",
    SetCommitlogReadMode = 2004 "SET_COMMITLOG_READ_MODE" "cold data control",
    AuthCreateUser = 3001 "AUTH_CREATE_USER" "authentication and ACL",
    AuthUpdateUser = 3002 "AUTH_UPDATE_USER" "authentication and ACL",
    AuthDeleteUser = 3003 "AUTH_DELETE_USER" "authentication and ACL",
    AuthGetUser = 3004 "AUTH_GET_USER" "authentication and ACL",
    AuthListUser = 3005 "AUTH_LIST_USER" "authentication and ACL",
    AuthCreateAcl = 3006 "AUTH_CREATE_ACL" "authentication and ACL",
    AuthUpdateAcl = 3007 "AUTH_UPDATE_ACL" "authentication and ACL",
    AuthDeleteAcl = 3008 "AUTH_DELETE_ACL" "authentication and ACL",
    AuthGetAcl = 3009 "AUTH_GET_ACL" "authentication and ACL",
    AuthListAcl = 3010 "AUTH_LIST_ACL" "authentication and ACL",
    SwitchTimerEngine = 5001 "SWITCH_TIMER_ENGINE" "timer messages",
    DeleteTopicInBrokerList = 5002 "DELETE_TOPIC_IN_BROKER_LIST" "topics",
    DeleteSubscriptionGroupList = 5003 "DELETE_SUBSCRIPTION_GROUP_LIST" "consumer groups",
    PopMessage = 200050 "POP_MESSAGE" "POP consumption",
    AckMessage = 200051 "ACK_MESSAGE" "POP consumption",
    PeekMessage = 200052 "PEEK_MESSAGE" "POP consumption",
    ChangeMessageInvisibletime = 200053 "CHANGE_MESSAGE_INVISIBLETIME" "POP consumption",
    Notification = 200054 "NOTIFICATION" "POP consumption",
    PollingInfo = 200055 "POLLING_INFO" "POP consumption",
    PopRollback = 200056 "POP_ROLLBACK" "POP consumption",
    PopLiteMessage = 200070 "POP_LITE_MESSAGE" "lite topics",
    LiteSubscriptionCtl = 200071 "LITE_SUBSCRIPTION_CTL" "lite topics",
    AckLiteMessage = 200072 "ACK_LITE_MESSAGE" "this acknowledgement of lite topics (200051 is the one that brokers serve)",
    NotifyUnsubscribeLite = 200073 "NOTIFY_UNSUBSCRIBE_LITE" "a notification that only clients get",
    GetBrokerLiteInfo = 200074 "GET_BROKER_LITE_INFO" "lite topics",
    GetParentTopicInfo = 200075 "GET_PARENT_TOPIC_INFO" "lite topics",
    GetLiteTopicInfo = 200076 "GET_LITE_TOPIC_INFO" "lite topics",
    GetLiteClientInfo = 200077 "GET_LITE_CLIENT_INFO" "lite topics",
    GetLiteGroupInfo = 200078 "GET_LITE_GROUP_INFO" "lite topics",
    TriggerLiteDispatch = 200079 "TRIGGER_LITE_DISPATCH" "lite topics",
    BatchAckMessage = 200151 "BATCH_ACK_MESSAGE" "POP consumption",
}

macro_rules! response_codes {
    ($($variant:ident = $code:literal $name:literal,)*) => {
        /// How a request ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i32)]
        #[allow(missing_docs)]
        pub enum ResponseCode {
            $($variant = $code,)*
        }

        impl ResponseCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Apache's constant name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl TryFrom<i32> for ResponseCode {
            type Error = UnknownCode;
            fn try_from(code: i32) -> Result<Self, UnknownCode> {
                match code { $($code => Ok(Self::$variant),)* _ => Err(UnknownCode(code)) }
            }
        }
    };
}
response_codes! {
    RpcTimeOut = -1006 "RPC_TIME_OUT",
    RpcSendToChannelFailed = -1004 "RPC_SEND_TO_CHANNEL_FAILED",
    RpcAddrIsNull = -1002 "RPC_ADDR_IS_NULL",
    RpcUnknown = -1000 "RPC_UNKNOWN",
    Success = 0 "SUCCESS",
    SystemError = 1 "SYSTEM_ERROR",
    SystemBusy = 2 "SYSTEM_BUSY",
    RequestCodeNotSupported = 3 "REQUEST_CODE_NOT_SUPPORTED",
    TransactionFailed = 4 "TRANSACTION_FAILED",
    FlushDiskTimeout = 10 "FLUSH_DISK_TIMEOUT",
    SlaveNotAvailable = 11 "SLAVE_NOT_AVAILABLE",
    FlushSlaveTimeout = 12 "FLUSH_SLAVE_TIMEOUT",
    MessageIllegal = 13 "MESSAGE_ILLEGAL",
    ServiceNotAvailable = 14 "SERVICE_NOT_AVAILABLE",
    VersionNotSupported = 15 "VERSION_NOT_SUPPORTED",
    NoPermission = 16 "NO_PERMISSION",
    TopicNotExist = 17 "TOPIC_NOT_EXIST",
    TopicExistAlready = 18 "TOPIC_EXIST_ALREADY",
    PullNotFound = 19 "PULL_NOT_FOUND",
    PullRetryImmediately = 20 "PULL_RETRY_IMMEDIATELY",
    PullOffsetMoved = 21 "PULL_OFFSET_MOVED",
    QueryNotFound = 22 "QUERY_NOT_FOUND",
    SubscriptionParseFailed = 23 "SUBSCRIPTION_PARSE_FAILED",
    SubscriptionNotExist = 24 "SUBSCRIPTION_NOT_EXIST",
    SubscriptionNotLatest = 25 "SUBSCRIPTION_NOT_LATEST",
    SubscriptionGroupNotExist = 26 "SUBSCRIPTION_GROUP_NOT_EXIST",
    FilterDataNotExist = 27 "FILTER_DATA_NOT_EXIST",
    FilterDataNotLatest = 28 "FILTER_DATA_NOT_LATEST",
    InvalidParameter = 29 "INVALID_PARAMETER",
    TransactionShouldCommit = 200 "TRANSACTION_SHOULD_COMMIT",
    TransactionShouldRollback = 201 "TRANSACTION_SHOULD_ROLLBACK",
    TransactionStateUnknow = 202 "TRANSACTION_STATE_UNKNOW",
    TransactionStateGroupWrong = 203 "TRANSACTION_STATE_GROUP_WRONG",
    NoBuyerId = 204 "NO_BUYER_ID",
    NotInCurrentUnit = 205 "NOT_IN_CURRENT_UNIT",
    ConsumerNotOnline = 206 "CONSUMER_NOT_ONLINE",
    ConsumeMsgTimeout = 207 "CONSUME_MSG_TIMEOUT",
    NoMessage = 208 "NO_MESSAGE",
    PollingFull = 209 "POLLING_FULL",
    PollingTimeout = 210 "POLLING_TIMEOUT",
    BrokerNotExist = 211 "BROKER_NOT_EXIST",
    BrokerDispatchNotComplete = 212 "BROKER_DISPATCH_NOT_COMPLETE",
    BroadcastConsumption = 213 "BROADCAST_CONSUMPTION",
    FlowControl = 215 "FLOW_CONTROL",
    NotLeaderForQueue = 501 "NOT_LEADER_FOR_QUEUE",
    IllegalOperation = 604 "ILLEGAL_OPERATION",
    GoAway = 1500 "GO_AWAY",
    ControllerFencedMasterEpoch = 2000 "CONTROLLER_FENCED_MASTER_EPOCH",
    ControllerFencedSyncStateSetEpoch = 2001 "CONTROLLER_FENCED_SYNC_STATE_SET_EPOCH",
    ControllerInvalidMaster = 2002 "CONTROLLER_INVALID_MASTER",
    ControllerInvalidReplicas = 2003 "CONTROLLER_INVALID_REPLICAS",
    ControllerMasterNotAvailable = 2004 "CONTROLLER_MASTER_NOT_AVAILABLE",
    ControllerInvalidRequest = 2005 "CONTROLLER_INVALID_REQUEST",
    ControllerBrokerNotAlive = 2006 "CONTROLLER_BROKER_NOT_ALIVE",
    ControllerNotLeader = 2007 "CONTROLLER_NOT_LEADER",
    ControllerBrokerMetadataNotExist = 2008 "CONTROLLER_BROKER_METADATA_NOT_EXIST",
    ControllerInvalidCleanBrokerMetadata = 2009 "CONTROLLER_INVALID_CLEAN_BROKER_METADATA",
    ControllerBrokerNeedToBeRegistered = 2010 "CONTROLLER_BROKER_NEED_TO_BE_REGISTERED",
    ControllerMasterStillExist = 2011 "CONTROLLER_MASTER_STILL_EXIST",
    ControllerElectMasterFailed = 2012 "CONTROLLER_ELECT_MASTER_FAILED",
    ControllerAlterSyncStateSetFailed = 2013 "CONTROLLER_ALTER_SYNC_STATE_SET_FAILED",
    ControllerBrokerIdInvalid = 2014 "CONTROLLER_BROKER_ID_INVALID",
    ControllerJraftInternalError = 2015 "CONTROLLER_JRAFT_INTERNAL_ERROR",
    ControllerBrokerLiveInfoNotExists = 2016 "CONTROLLER_BROKER_LIVE_INFO_NOT_EXISTS",
    LmqQuotaExceeded = 2017 "LMQ_QUOTA_EXCEEDED",
    LiteSubscriptionQuotaExceeded = 2018 "LITE_SUBSCRIPTION_QUOTA_EXCEEDED",
    UserNotExist = 3001 "USER_NOT_EXIST",
    PolicyNotExist = 3002 "POLICY_NOT_EXIST",
}

impl From<RequestCode> for i32 {
    #[inline]
    fn from(code: RequestCode) -> Self {
        code as Self
    }
}

impl From<ResponseCode> for i32 {
    #[inline]
    fn from(code: ResponseCode) -> Self {
        code as Self
    }
}

/// Restores codes from 200000 on (POP, lite topics), which a binary header truncates to 16 bits.
///
/// Compat: Apache's server does not map them back, so its clients can use POP with JSON headers only. No code of 16 bits
/// falls into the two ranges, so mapping is safe.
pub fn widen_binary(code: i16) -> i32 {
    const TRUNCATED_BITS: i32 = 3 << 16;
    match i32::from(code) {
        cut @ (3442..=3471 | 3543) => cut + TRUNCATED_BITS,
        whole => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number() {
        for &code in RequestCode::ALL {
            assert_eq!(RequestCode::try_from(i32::from(code)), Ok(code));
        }
        for &code in ResponseCode::ALL {
            assert_eq!(ResponseCode::try_from(i32::from(code)), Ok(code));
        }
        assert_eq!(RequestCode::try_from(9999), Err(UnknownCode(9999)));
    }

    #[test]
    fn codes_truncated_to_sixteen_bits_are_restored_without_collision() {
        for &code in RequestCode::ALL {
            let number = i32::from(code);
            assert_eq!(widen_binary(number as i16), number, "{}", code.name());
        }
    }
}
