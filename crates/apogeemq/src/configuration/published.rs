//! Published configuration files: distributions, charts, compose files, tutorials, dumps of a running broker. The settings of each are
//! repeated here without comments, names and addresses. A broker or name server starts with each of them
//! unless it asks for a missing feature, and names the keys that have no effect.

use super::*;

/// The expected result of a file.
enum Expected {
    /// It starts, and the log names these keys with a reason. Keys without a reason are not among them.
    Starts(&'static [&'static str]),
    /// It does not start, and all these keys are named.
    Refused(&'static [&'static str]),
}
use Expected::{Refused, Starts};

const PATHS: [&str; 4] = ["storePathConsumeQueue", "storePathIndex", "storeCheckpoint", "abortFile"];

const BROKERS: &[(&str, &str, Expected)] = &[
    (
        "the distribution's broker.conf",
        "brokerClusterName = DefaultCluster|brokerName = broker-a|brokerId = 0|deleteWhen = 04|fileReservedTime = 48|\
         brokerRole = ASYNC_MASTER|flushDiskType = ASYNC_FLUSH",
        Starts(&[]),
    ),
    (
        "the distribution's synchronous master",
        "brokerClusterName=DefaultCluster|brokerName=broker-a|brokerId=0|deleteWhen=04|fileReservedTime=48|brokerRole=SYNC_MASTER|\
         flushDiskType=ASYNC_FLUSH",
        Starts(&["brokerRole"]),
    ),
    (
        "the distribution's slave",
        "brokerClusterName=DefaultCluster|brokerName=broker-a|brokerId=1|deleteWhen=04|fileReservedTime=48|brokerRole=SLAVE|\
         flushDiskType=ASYNC_FLUSH",
        Starts(&[]),
    ),
    (
        "the distribution's DLedger node",
        "brokerClusterName=RaftCluster|brokerName=RaftNode00|listenPort=30911|namesrvAddr=127.0.0.1:9876|storePathRootDir=/tmp/rmqstore/node00|\
         storePathCommitLog=/tmp/rmqstore/node00/commitlog|enableDLegerCommitLog=true|dLegerGroup=RaftNode00|\
         dLegerPeers=n0-127.0.0.1:40911|dLegerSelfId=n0|sendMessageThreadPoolNums=16",
        Refused(&["enableDLegerCommitLog"]),
    ),
    (
        "the distribution's broker with a controller",
        "brokerClusterName = DefaultCluster|brokerName = broker-a|brokerId = -1|brokerRole = SLAVE|deleteWhen = 04|fileReservedTime = 48|\
         enableControllerMode = true|controllerAddr = 127.0.0.1:9878|namesrvAddr = 127.0.0.1:9876|allAckInSyncStateSet=true",
        Starts(&["brokerId"]),
    ),
    (
        "the tutorial that most tutorials repeat",
        "brokerClusterName=rocketmq-cluster|brokerName=broker-a|brokerId=0|namesrvAddr=rocketmq-nameserver1:9876;rocketmq-nameserver2:9876|\
         defaultTopicQueueNums=4|autoCreateTopicEnable=true|autoCreateSubscriptionGroup=true|listenPort=10911|deleteWhen=04|\
         fileReservedTime=120|mapedFileSizeCommitLog=1073741824|mapedFileSizeConsumeQueue=300000|destroyMapedFileIntervalForcibly=120000|\
         redeleteHangedFileInterval=120000|diskMaxUsedSpaceRatio=88|storePathRootDir=/usr/local/rocketmq/store|\
         storePathCommitLog=/usr/local/rocketmq/store/commitlog|storePathConsumeQueue=/usr/local/rocketmq/store/consumequeue|\
         storePathIndex=/usr/local/rocketmq/store/index|storeCheckpoint=/usr/local/rocketmq/store/checkpoint|\
         abortFile=/usr/local/rocketmq/store/abort|maxMessageSize=65536|flushCommitLogLeastPages=4|flushConsumeQueueLeastPages=2|\
         flushCommitLogThoroughInterval=10000|flushConsumeQueueThoroughInterval=60000|brokerRole=ASYNC_MASTER|flushDiskType=ASYNC_FLUSH|\
         checkTransactionMessageEnable=false|sendMessageThreadPoolNums=128|pullMessageThreadPoolNums=128",
        Starts(&[
            "diskMaxUsedSpaceRatio",
            "mapedFileSizeCommitLog",
            "mapedFileSizeConsumeQueue",
            "checkTransactionMessageEnable",
        ]),
    ),
    (
        "the same, synchronous, with two addresses",
        "brokerIP1=10.0.0.1|brokerIP2=10.0.0.1|brokerClusterName=rocketmq-cluster|brokerName=broker-a|brokerId=0|brokerRole=SYNC_MASTER|\
         flushDiskType=SYNC_FLUSH|defaultTopicQueueNums=4|listenPort=10911|deleteWhen=04|fileReservedTime=120|diskMaxUsedSpaceRatio=88|\
         maxMessageSize=65536",
        Starts(&["brokerRole", "diskMaxUsedSpaceRatio"]),
    ),
    (
        "the same, places left empty and two names misspelt",
        "storePathRootDir=|storePathCommitLog=|storePathConsumeQueue=|storePathIndex=|storeCheckPoint=|abortFile=|\
         flushCommitLogThroughInterval=10000",
        Starts(&["storePathRootDir", "storeCheckPoint", "flushCommitLogThroughInterval"]),
    ),
    (
        "the same, places under other names",
        "storePathRootDir=/opt/store|storePathConsumerQueue=/opt/store/consumequeue|storePathCheckpoint=/opt/store/checkpoint|\
         storePathAbort=/opt/store/abort",
        Starts(&["storePathConsumerQueue", "storePathCheckpoint", "storePathAbort"]),
    ),
    (
        "the same, places elsewhere",
        "storePathRootDir=/data/rocketmq/data|storePathCommitLog=/data/rocketmq/commitlog|storePathConsumeQueue=/data/rocketmq/consumequeue|\
         storePathIndex=/data/rocketmq/index|storeCheckpoint=/data/rocketmq/checkpoint|abortFile=/data/rocketmq/abort",
        Starts(&PATHS),
    ),
    (
        "a second broker of a machine, in a home directory that no shell expands",
        "listenPort=11911|storePathRootDir=~/store-s|storePathCommitLog=~/store-s/commitlog|storePathConsumeQueue=~/store-s/consumequeue|\
         storePathIndex=~/store-s/index|storeCheckpoint=~/store-s/checkpoint|abortFile=~/store-s/abort",
        Starts(&["storePathRootDir", "storePathCommitLog"]),
    ),
    (
        "places of a Windows machine",
        r"storePathRootDir=D:\\rocketmq\\data|storePathCommitLog=D:\\rocketmq\\data\\commitlog",
        Starts(&[]),
    ),
    (
        "a root with a slash behind it, in a container",
        "storePathRootDir=/export/broker-0/|storePathCommitLog=/export/broker-0/commitlog|storePathConsumeQueue=/export/broker-0/consumequeue|\
         useReentrantLockWhenPutMessage=true|waitTimeMillsInSendQueue=300  #more if need be",
        Starts(&[]),
    ),
    (
        "a nearly full developer machine",
        "brokerName = broker-a|brokerId = 0|fileReservedTime = 48|diskMaxUsedSpaceRatio=98|diskSpaceWarningLevelRatio=99|\
         diskSpaceCleanForciblyRatio=97|transactionCheckInterval=1000|listenPort=10991",
        Starts(&["diskMaxUsedSpaceRatio", "diskSpaceWarningLevelRatio", "diskSpaceCleanForciblyRatio"]),
    ),
    (
        "a compose file's broker",
        "brokerName=broker-a|brokerId=0|fileReservedTime=48|diskMaxUsedSpaceRatio=99",
        Starts(&["diskMaxUsedSpaceRatio"]),
    ),
    (
        "ratios as Apache's system properties have them",
        "diskSpaceCleanForciblyRatio=0.85|diskSpaceWarningLevelRatio=0.90|fileReservedTime=72|deleteWhen=04",
        Starts(&["diskSpaceCleanForciblyRatio", "diskSpaceWarningLevelRatio"]),
    ),
    (
        "one that was tuned against \"broker busy\"",
        "sendMessageThreadPoolNums=64|useReentrantLockWhenPutMessage=true|waitTimeMillsInSendQueue=30000|osPageCacheBusyTimeOutMills=5000|\
         maxMessageSize=67108864",
        Starts(&["maxMessageSize"]),
    ),
    (
        "one that was tuned for load",
        "maxMessageSize=10485760|enablePropertyFilter=true|defaultTopicQueueNums=512|useReentrantLockWhenPutMessage=True|\
         sendThreadPoolQueueCapacity=100000|serverWorkerThreads=64|clientWorkerThreads=32|clientCallbackExecutorThreads=64|\
         serverSelectorThreads=4|maxTransferCountOnMessageInMemory=1024|maxTransferBytesOnMessageInMemory=10485760|\
         serverSocketRcvBufSize=10485760|clientSocketSndBufSize=10485760|haListenPort=10912",
        Starts(&[]),
    ),
    (
        "one with comments behind its values",
        "flushDiskType=SYNC_FLUSH          # or ASYNC_FLUSH|brokerRole=SYNC_MASTER            # or ASYNC_MASTER|\
         sendMessageThreadPoolNums=1       # one thread|brokerIP1=192.168.194.199 #of the virtual machine|fileReservedTime=72 # hours|\
         transferMsgByHeap=true            # less direct memory|flushCommitLogTimed=true          # by time",
        Starts(&["flushDiskType", "brokerRole", "brokerIP1", "fileReservedTime"]),
    ),
    (
        "a chart's broker, whose empty variables were put in",
        "brokerClusterName=DefaultCluster|brokerName=broker-0|brokerId=0|brokerIP1=|namesrvAddr=|listenPort=|fileReservedTime=|\
         autoCreateTopicEnable=true|metricsExporterType=PROM|metricsPromExporterPort=5557",
        Starts(&["listenPort", "fileReservedTime"]),
    ),
    (
        "an operator's broker on Kubernetes",
        "brokerClusterName=broker|brokerName=broker-0|brokerId=0|brokerRole=ASYNC_MASTER|flushDiskType=ASYNC_FLUSH|\
         storePathRootDir=/home/rocketmq/store/broker-0-master|storePathCommitLog=/home/rocketmq/store/broker-0-master/commitlog|\
         namesrvAddr=name-service-0.name-service:9876;name-service-1.name-service:9876|slaveReadEnable=true|enableTrace=true",
        Starts(&["enableTrace"]),
    ),
    (
        "name servers from an address server",
        "fetchNamesrvAddrByAddressServer=true|rmqAddressServerDomain=jmenv.tbsite.net",
        Starts(&["fetchNamesrvAddrByAddressServer", "rmqAddressServerDomain"]),
    ),
    (
        "direct memory before the page cache",
        "transientStorePoolEnable=true|transientStorePoolSize=5|fastFailIfNoBufferInStorePool=true|warmMapedFileEnable=true",
        Starts(&["transientStorePoolEnable"]),
    ),
    (
        "filter servers of RocketMQ 4",
        "filterServerNums=1|cleanFileForciblyEnable=true|flushIntervalCommitLog=1000|messageDelyLevel=1s 5s|messageIndexSafe=false|\
         accessMessageInMemoryMaxRatio=40",
        Starts(&["filterServerNums", "messageDelyLevel"]),
    ),
    (
        "delay levels of days, kept for a week",
        "messageDelayLevel=1s 5s 10s 30s 1m 10m 1h 1d 2d|fileReservedTime=168",
        Starts(&[]),
    ),
    (
        "delay levels longer than the log is kept",
        "messageDelayLevel=1s 5s 10s 30s 1m 10m 1h 1d 7d|fileReservedTime=48",
        Starts(&["messageDelayLevel"]),
    ),
    (
        "a list of delay levels with two blanks",
        "messageDelayLevel=1s  5s 10s",
        Starts(&["messageDelayLevel"]),
    ),
    ("access control", "aclEnable=true|brokerName=a", Refused(&["aclEnable"])),
    (
        "access control of 5.3",
        "authenticationEnabled=true|authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider|\
         authorizationEnabled=true|initAuthenticationUser={\"username\":\"u\",\"password\":\"p\"}",
        Refused(&["authenticationEnabled", "authorizationEnabled"]),
    ),
    ("queues in RocksDB", "storeType=defaultRocksDB", Refused(&["storeType"])),
    (
        "two directories for one log",
        "storePathCommitLog=/a/commitlog,/b/commitlog",
        Refused(&["storePathCommitLog"]),
    ),
    (
        "a dump of a broker of RocketMQ 4",
        "rocketmqHome=/usr/local/rocketmq|namesrvAddr=h1:9876|brokerIP1=10.0.0.1|brokerIP2=10.0.0.1|brokerName=broker-a|\
         brokerClusterName=c|brokerId=0|brokerPermission=6|defaultTopicQueueNums=8|autoCreateTopicEnable=false|clusterTopicEnable=true|\
         brokerTopicEnable=true|autoCreateSubscriptionGroup=false|messageStorePlugIn=|flushConsumerOffsetInterval=5000|\
         rejectTransactionMessage=false|fetchNamesrvAddrByAddressServer=false|longPollingEnable=true|shortPollingTimeMills=1000|\
         notifyConsumerIdsChangedEnable=true|highSpeedMode=false|regionId=DefaultRegion|registerBrokerTimeoutMills=6000|slaveReadEnable=false|\
         startAcceptSendRequestTimeStamp=0|traceOn=true|enablePropertyFilter=false|compressedRegister=false|forceRegister=true|\
         serverChannelMaxIdleTimeSeconds=120|serverSocketSndBufSize=131072|mapedFileSizeCommitLog=1073741824|flushIntervalCommitLog=500|\
         cleanResourceInterval=10000|diskMaxUsedSpaceRatio=75|fileReservedTime=72|maxMessageSize=4194304|checkCRCOnRecover=true|\
         flushConsumeQueueThoroughInterval=60000|maxTransferBytesOnMessageInMemory=262144|maxTransferCountOnMessageInMemory=32|\
         maxTransferBytesOnMessageInDisk=65536|maxTransferCountOnMessageInDisk=8|messageIndexEnable=true|maxHashSlotNum=5000000|\
         maxIndexNum=20000000|maxMsgsNumBatch=64|haListenPort=10912|haMasterAddress=|haSlaveFallbehindMax=268435456|brokerRole=SYNC_MASTER|\
         flushDiskType=SYNC_FLUSH|syncFlushTimeout=5000|messageDelayLevel=1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h|\
         flushDelayOffsetInterval=10000|cleanFileForciblyEnable=true|duplicationEnable=false|defaultQueryMaxNum=32|\
         transientStorePoolEnable=false|enableDLegerCommitLog=false|isEnableBatchPush=false",
        Starts(&[
            "brokerRole",
            "fetchNamesrvAddrByAddressServer",
            "mapedFileSizeCommitLog",
            "haSlaveFallbehindMax",
            "transientStorePoolEnable",
            "isEnableBatchPush",
        ]),
    ),
];

const NAME_SERVERS: &[(&str, &str, Expected)] = &[
    ("the least", "listenPort=9876", Starts(&[])),
    (
        "a dump of a name server of 5",
        "rocketmqHome=/opt/rocketmq|kvConfigPath=/root/namesrv/kvConfig.json|configStorePath=/root/namesrv/namesrv.properties|\
         productEnvName=center|clusterTest=false|orderMessageEnable=false|returnOrderTopicConfigToBroker=true|clientRequestThreadPoolNums=8|\
         defaultThreadPoolNums=16|scanNotActiveBrokerInterval=5000|unRegisterBrokerQueueCapacity=3000|supportActingMaster=false|\
         enableAllTopicList=true|enableTopicList=true|notifyMinBrokerIdChanged=false|enableControllerInNamesrv=false|\
         needWaitForService=false|waitSecondsForService=45|deleteTopicWithBrokerRegistration=false|bindAddress=0.0.0.0|listenPort=9876|\
         serverWorkerThreads=8|serverCallbackExecutorThreads=0|serverSelectorThreads=3|serverOnewaySemaphoreValue=256|\
         serverAsyncSemaphoreValue=64|serverChannelMaxIdleTimeSeconds=120|serverSocketBacklog=1024|useEpollNativeSelector=false|\
         clientAsyncSemaphoreValue=65535|connectTimeoutMillis=3000",
        Starts(&[]),
    ),
    (
        "a name server with a controller",
        "enableControllerInNamesrv = true|controllerDLegerGroup = group1|controllerDLegerPeers = n0-127.0.0.1:9878|\
         controllerStorePath = /home/rocketmq",
        Starts(&[]),
    ),
    (
        "one with a semaphore that never existed",
        "serverWorkerThreads=8|serverSemaphoreValue=64|serverSelectorThreads=4",
        Starts(&["serverSemaphoreValue"]),
    ),
    (
        "a look at brokers that takes its time",
        "scanNotActiveBrokerInterval=3600000",
        Starts(&["scanNotActiveBrokerInterval"]),
    ),
    (
        "no list of the topics",
        "enableTopicList=false|enableAllTopicList=false|needWaitForService=true|waitSecondsForService=0",
        Starts(&[]),
    ),
];

fn written(lines: &str) -> (tempfile::TempDir, ServerFlags) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("published.conf");
    std::fs::write(&file, lines.replace('|', "\n")).unwrap();
    let mut flags = ServerFlags::default();
    flags.common.file = Some(file);
    (dir, flags)
}

/// The keys that the log names with a reason.
fn named(configuration: &Configuration) -> Vec<String> {
    let noted = configuration.notes.iter().filter_map(|note| note.keys.first().cloned());
    let left = configuration.leftovers.iter().filter_map(|leftover| match leftover {
        Leftover::WithoutMeaning { reason: None, .. } => None,
        Leftover::WithoutMeaning { name, .. } | Leftover::Unknown { name, .. } => Some(name.clone()),
    });
    let mut named: Vec<_> = noted.chain(left).collect();
    named.sort();
    named.dedup();
    named
}

fn check(part: Part, files: &[(&str, &str, Expected)]) {
    for (what, lines, then) in files {
        let (_dir, flags) = written(lines);
        let read = read(part, &flags, BTreeMap::new());
        match (then, read) {
            (Starts(keys), Ok(configuration)) => {
                let mut expected = keys.to_vec();
                expected.sort_unstable();
                assert_eq!(named(&configuration), expected, "{what}: {:?}", configuration.notes);
            }
            (Refused(keys), Err(failure)) => {
                let text = failure.to_string();
                assert_eq!(text.matches(" is refused: ").count(), keys.len(), "{what}: {text}");
                assert!(keys.iter().all(|key| text.contains(&format!(": {key}="))), "{what}: {text}");
            }
            (Starts(_), Err(failure)) => panic!("{what}: {failure}"),
            (Refused(_), Ok(_)) => panic!("{what} is taken"),
        }
    }
}

#[test]
fn brokers_start_with_published_files_and_name_keys_without_effect() {
    check(Part::Broker, BROKERS);
}

#[test]
fn name_servers_start_with_published_files_and_name_keys_without_effect() {
    check(Part::NameServer, NAME_SERVERS);
}

/// Single values of broker files: key, value, and what it counts as, or `None` if it is refused.
const VALUES: &[(&str, &str, Option<&str>)] = &[
    ("diskMaxUsedSpaceRatio", "75", Some("75")),
    ("diskMaxUsedSpaceRatio", "95", Some("95")),
    ("diskMaxUsedSpaceRatio", "98", Some("95")),
    ("diskMaxUsedSpaceRatio", "99", Some("95")),
    ("diskMaxUsedSpaceRatio", "100", Some("95")),
    ("diskMaxUsedSpaceRatio", "5", Some("10")),
    ("diskMaxUsedSpaceRatio", "0", Some("10")),
    ("diskMaxUsedSpaceRatio", "-1", Some("10")),
    ("diskMaxUsedSpaceRatio", "300", Some("95")),
    ("diskMaxUsedSpaceRatio", "85%", Some("85")),
    ("diskMaxUsedSpaceRatio", "full", None),
    ("diskSpaceCleanForciblyRatio", "97", Some("85")),
    ("diskSpaceCleanForciblyRatio", "10", Some("30")),
    ("diskSpaceWarningLevelRatio", "99", Some("90")),
    ("diskSpaceWarningLevelRatio", "0.98", Some("90")),
    ("diskSpaceWarningLevelRatio", "20", Some("35")),
    ("registerNameServerPeriod", "5000", Some("10000")),
    ("registerNameServerPeriod", "300000", Some("60000")),
    ("registerNameServerPeriod", "-1", Some("10000")),
    ("fileReservedTime", "0", Some("0")),
    ("fileReservedTime", "8760", Some("8760")),
    ("fileReservedTime", "999999999", Some("876000")),
    ("fileReservedTime", "-1", None),
    ("fileReservedTime", "48h", None),
    ("deleteWhen", "4", Some("04")),
    ("deleteWhen", "00", Some("00")),
    ("deleteWhen", "02;04;16", Some("02;04;16")),
    ("deleteWhen", "25", None),
    ("maxMessageSize", "65536", Some("65536")),
    ("maxMessageSize", "10240", Some("10240")),
    ("maxMessageSize", "16777216", Some("16728064")),
    ("maxMessageSize", "536870912", Some("16728064")),
    ("maxMessageSize", "4MB", None),
    ("mappedFileSizeCommitLog", "1073741824", Some("1073741824")),
    ("mappedFileSizeCommitLog", "104857600", Some("104857600")),
    ("mappedFileSizeCommitLog", "2147483648", None),
    ("mappedFileSizeConsumeQueue", "300000", Some("300000")),
    ("mappedFileSizeConsumeQueue", "6000001", Some("6000020")),
    ("defaultTopicQueueNums", "4", Some("4")),
    ("defaultTopicQueueNums", "16", Some("16")),
    ("defaultTopicQueueNums", "5000", Some("1024")),
    ("defaultTopicQueueNums", "0", None),
    ("flushIntervalCommitLog", "1000", Some("1000")),
    ("flushIntervalCommitLog", "1", Some("10")),
    ("flushIntervalCommitLog", "0", Some("10")),
    ("flushConsumerOffsetInterval", "5000", Some("5000")),
    ("flushConsumerOffsetInterval", "1", Some("100")),
    ("syncFlushTimeout", "3000", Some("3000")),
    ("maxTransferCountOnMessageInMemory", "100000", Some("10000")),
    ("maxTransferBytesOnMessageInDisk", "100", Some("1024")),
    ("maxMsgsNumBatch", "5000", Some("1024")),
    ("shortPollingTimeMills", "600000", Some("60000")),
    ("serverChannelMaxIdleTimeSeconds", "86401", Some("86400")),
    ("serverChannelMaxIdleTimeSeconds", "0", Some("86400")),
    ("haListenPort", "0", Some("0")),
    ("haListenPort", "-5", Some("0")),
    ("haListenPort", "10922", Some("10922")),
    ("brokerId", "0", Some("0")),
    ("brokerId", "2", Some("0")),
    ("brokerRole", "SYNC_MASTER", Some("SYNC_MASTER")),
    ("brokerRole", "async_master", Some("ASYNC_MASTER")),
    ("brokerRole", "SLAVE", None),
    ("flushDiskType", "sync_flush", Some("SYNC_FLUSH")),
    ("flushDiskType", "FAST", None),
    ("autoCreateTopicEnable", "True", Some("true")),
    ("autoCreateTopicEnable", "FALSE", Some("false")),
    ("autoCreateTopicEnable", "yes", None),
    ("brokerPermission", "6", Some("6")),
    ("brokerPermission", "9", None),
    ("listenPort", "10911", Some("10911")),
    ("listenPort", "70000", None),
    ("namesrvAddr", "a:9876;b:9876;", Some("a:9876;b:9876")),
    ("namesrvAddr", "rmq_namesrv:9876", Some("rmq_namesrv:9876")),
    ("namesrvAddr", "a", None),
    ("brokerIP1", "host.docker.internal", Some("host.docker.internal")),
    ("brokerIP1", "${BROKER_IP}", None),
    ("startAcceptSendRequestTimeStamp", "0", Some("0")),
    ("startAcceptSendRequestTimeStamp", "-1", Some("0")),
    ("apogeeMaxConnections", "9999999999", Some("1000000")),
    ("apogeeMaxConnections", "0", None),
    ("apogeeMaxConnections", "-1", None),
];

#[test]
fn published_values_count_as_what_is_meant_with_a_warning() {
    for (key, value, counts) in VALUES {
        let (_dir, flags) = written(&format!("{key}={value}"));
        let read = read(Part::Broker, &flags, BTreeMap::new());
        let Some(counts) = counts else {
            assert!(read.is_err(), "{key}={value} is taken");
            continue;
        };
        let configuration = read.unwrap_or_else(|failure| panic!("{key}={value}: {failure}"));
        let settings = configuration.broker.as_ref().unwrap();
        let declared = BrokerSettings::key(key).unwrap();
        assert_eq!((declared.print)(settings), *counts, "{key}={value}");
        let spelling = ["deleteWhen", "autoCreateTopicEnable", "namesrvAddr", "mappedFileSizeConsumeQueue"];
        if counts != value && !spelling.contains(key) {
            let told = |note: &Note| note.keys.iter().any(|named| named == key) && note.text.contains("counts as");
            assert!(configuration.notes.iter().any(told), "{key}={value}: {:?}", configuration.notes);
        }
    }
}
