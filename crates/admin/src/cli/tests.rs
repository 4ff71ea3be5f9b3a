//! Every verb accepts the flags that mqadmin documents, short and long.
use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let words = line.split('~').map(str::trim).map(OsString::from);
    let all = ["apogeemq".into(), "admin".into()].into_iter().chain(words).collect();
    let mut words = normalized(all);
    words.remove(0);
    AdminCommand::try_parse_from(words).map(|alone| alone.arguments)
}

/// A verb with its flags as `mqadmin help VERB` lists them: `short long value`, value `-` for none; flags after `|` are another call's.
const DOCUMENTED: &[(&str, &str)] = &[
    (
        "updateTopic",
        "b brokerAddr h:1,t topic T,r readQueueNums 4,w writeQueueNums 4,p perm 6,o order true,u unit false,s hasUnitSub false,a attributes +a=b",
    ),
    ("updateTopic", "c clusterName C,t topic T"),
    ("updateTopicList", "b brokerAddr h:1,f filename F|c clusterName C,f filename F"),
    ("deleteTopic", "t topic T,c clusterName C"),
    (
        "updateTopicPerm",
        "b brokerAddr h:1,t topic T,p perm 4|c clusterName C,t topic T,p perm 2",
    ),
    (
        "updateOrderConf",
        "t topic T,v orderConf a:1,m method put|t topic T,m method get|t topic T,m method delete",
    ),
    (
        "updateStaticTopic",
        "b brokers a;b,t topic T,qn totalQueueNum 4|c clusters C,t topic T,qn totalQueueNum 4|t topic T,mf mapFile F,fr forceReplace true",
    ),
    (
        "remappingStaticTopic",
        "b brokers a;b,t topic T|c clusters C,t topic T|t topic T,mf mapFile F,fr forceReplace true",
    ),
    ("topicList", "c clusterModel -"),
    ("topicRoute", "t topic T,l list -"),
    ("topicStatus", "t topic T,c cluster C"),
    ("topicClusterList", "t topic T"),
    ("allocateMQ", "t topic T,i ipList 1.1.1.1"),
    ("statsAll", "a activeTopic -,t topic T"),
    (
        "updateSubGroup",
        "b brokerAddr h:1,g groupName G,s consumeEnable true,m consumeFromMinEnable true,d consumeBroadcastEnable true,o consumeMessageOrderly false,q retryQueueNums 1,r retryMaxTimes 16,p groupRetryPolicy {},i brokerId 0,w whichBrokerWhenConsumeSlowly 1,a notifyConsumerIdsChanged true",
    ),
    ("updateSubGroup", "c clusterName C,g groupName G"),
    ("updateSubGroupList", "b brokerAddr h:1,f filename F|c clusterName C,f filename F"),
    (
        "deleteSubGroup",
        "b brokerAddr h:1,g groupName G,r removeOffset true|c clusterName C,g groupName G",
    ),
    ("getConsumerConfig", "g groupName G"),
    (
        "setConsumeMode",
        "b brokerAddr h:1,t topicName T,g groupName G,m mode POP,q popShareQueueNum 2|c clusterName C,t topicName T,g groupName G,m mode PULL",
    ),
    ("consumerConnection", "g consumerGroup G,b brokerAddr h:1"),
    ("consumerStatus", "g consumerGroup G,i clientId I,b brokerAddr h:1,s jstack -"),
    ("producerConnection", "g producerGroup G,t topic T"),
    ("producer", "b broker h:1"),
    ("consumerProgress", "g groupName G,t topicName T,s showClientIP true,c cluster C"),
    (
        "brokerConsumeStats",
        "b brokerAddr h:1,t timeoutMillis 50000,l level 0,o order false",
    ),
    (
        "resetOffsetByTime",
        "g group G,t topic T,s timestamp now,f force true,c cluster C|g group G,t topic T,s timestamp -1,b broker h:1,q queue 0,o offset 7",
    ),
    ("skipAccumulatedMessage", "g group G,t topic T,f force true,c cluster C"),
    ("cloneGroupOffset", "s srcGroup G,d destGroup H,t topic T,o offline true"),
    ("startMonitoring", ""),
    (
        "queryMsgById",
        "t topic T,i msgId I,g consumerGroup G,d clientId D,u unitName U,f bodyFormat UTF-8,c cluster C|t topic T,i msgId I,s sendMessage true",
    ),
    (
        "queryMsgByKey",
        "t topic T,k msgKey K,b beginTimestamp 0,e endTimestamp 9,m maxNum 64,c cluster C",
    ),
    (
        "queryMsgByUniqueKey",
        "i msgId I,g consumerGroup G,d clientId D,t topic T,a showAll -,c cluster C",
    ),
    (
        "queryMsgByOffset",
        "t topic T,b brokerName B,i queueId 0,o offset 7,f bodyFormat UTF-8",
    ),
    (
        "queryMsgTraceById",
        "i msgId I,t traceTopic T,b beginTimestamp 0,e endTimestamp 9,c maxNum 64",
    ),
    ("queryCq", "t topic T,q queue 0,i index 7,c count 10,b broker h:1,g consumer G"),
    (
        "printMsg",
        "t topic T,c charsetName UTF-8,s subExpression *,b beginTimestamp 0,e endTimestamp 9,d printBody true,l lmqParentTopic P",
    ),
    (
        "printMsgByQueue",
        "t topic T,a brokerName B,i queueId 0,c charsetName UTF-8,s subExpression *,b beginTimestamp 0,e endTimestamp 9,p printMsg true,d printBody true,f calculate true",
    ),
    (
        "consumeMessage",
        "t topic T,b brokerName B,i queueId 0,o offset 7,g consumerGroup G,s beginTimestamp 0,e endTimestamp 9,c MessageNumber 3",
    ),
    (
        "sendMessage",
        "t topic T,p body P,k key K,c tags C,b broker B,i qid 0,m msgTraceEnable true",
    ),
    ("checkMsgSendRT", "t topic T,a amount 100,s size 128"),
    ("sendMsgStatus", "b brokerName B,s messageSize 128,c count 50"),
    (
        "clusterRT",
        "a amount 100,s size 128,c cluster C,p printLog true,m machineRoom M,i interval 10",
    ),
    ("clusterList", "m moreStats -,i interval 3,c clusterName C"),
    ("brokerStatus", "b brokerAddr h:1|c clusterName C"),
    ("getBrokerConfig", "b brokerAddr h:1|c clusterName C"),
    (
        "updateBrokerConfig",
        "b brokerAddr h:1,k key K,v value V|c clusterName C,a updateAllBroker true,k key K,v value V",
    ),
    ("cleanExpiredCQ", "b brokerAddr h:1|c cluster C"),
    ("cleanUnusedTopic", "b brokerAddr h:1|c cluster C"),
    ("deleteExpiredCommitLog", "n namesrvAddr h:1,b brokerAddr h:1|c cluster C"),
    ("haStatus", "c clusterName C,i interval 3|b brokerAddr h:1"),
    ("resetMasterFlushOffset", "b brokerAddr h:1,o offset 4096"),
    ("exportConfigs", "c clusterName C,f filePath D"),
    (
        "exportMetadata",
        "c clusterName C,f filePath D,s specialTopic -|b brokerAddr h:1,t topic -|b brokerAddr h:1,g subscriptionGroup -",
    ),
    ("exportMetrics", "c clusterName C,f filePath D"),
    ("getBrokerLiteInfo", "b brokerAddr h:1,d showDetail -|c cluster C"),
    ("getParentTopicInfo", "p parentTopic P"),
    ("getLiteTopicInfo", "p parentTopic P,l liteTopic L,s showClientId -"),
    ("getLiteClientInfo", "p parentTopic P,g group G,c clientId C,s showDetail -"),
    ("getLiteGroupInfo", "p parentTopic P,g group G,l liteTopic L,k topK 20"),
    ("triggerLiteDispatch", "p parentTopic P,g group G,c clientId C,b brokerName B"),
    ("getControllerMetaData", "a controllerAddress h:1"),
    ("getControllerConfig", "a controllerAddress h:1"),
    ("updateControllerConfig", "a controllerAddress h:1,k key K,v value V"),
    (
        "getSyncStateSet",
        "a controllerAddress h:1,b brokerName B,i interval 3|a controllerAddress h:1,c clusterName C",
    ),
    ("getBrokerEpoch", "b brokerName B,i interval 3|c clusterName C"),
    (
        "electMaster",
        "a controllerAddress h:1,b brokerId 1,bn brokerName B,c clusterName C",
    ),
    (
        "cleanBrokerMetadata",
        "a controllerAddress h:1,b brokerControllerIdsToClean 1;2,bn brokerName B,c clusterName C|a controllerAddress h:1,bn brokerName B,l cleanLivingBroker -",
    ),
    ("wipeWritePerm", "b brokerName B"),
    ("addWritePerm", "b brokerName B"),
    ("updateKvConfig", "s namespace S,k key K,v value V"),
    ("deleteKvConfig", "s namespace S,k key K"),
    ("getNamesrvConfig", "n namesrvAddr h:1"),
    ("updateNamesrvConfig", "k key K,v value V"),
    // Not one of mqadmin's.
    ("resumeCheckHalfMessage", "i msgId ID"),
];

/// A call's words with its flags in one of three spellings: `-t T`, `--topic T`, `-topic T`.
fn call(verb: &str, flags: &str, spelling: usize) -> String {
    let mut words = vec![verb.to_owned()];
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        let parts: Vec<_> = flag.split(' ').collect();
        words.push([format!("-{}", parts[0]), format!("--{}", parts[1]), format!("-{}", parts[1])][spelling].clone());
        words.extend((parts[2] != "-").then(|| parts[2].to_owned()));
    }
    words.join("~")
}

#[test]
fn every_verb_accepts_the_flags_of_mqadmin_in_every_spelling() {
    for (verb, calls) in DOCUMENTED {
        for flags in calls.split('|') {
            for spelling in 0..3 {
                let line = call(verb, flags, spelling);
                parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }
}

#[test]
fn every_verb_has_its_flags_checked() {
    let command = AdminCommand::command();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(DOCUMENTED.iter().any(|(name, _)| *name == verb.get_name()), "{}", verb.get_name());
        assert!(verb.get_about().is_some(), "{} has no description", verb.get_name());
    }
}

#[test]
fn the_command_line_is_consistent() {
    AdminCommand::command().debug_assert();
}

#[test]
fn verbs_are_found_in_any_case_and_name_servers_before_and_after_them() {
    for line in ["topiclist", "TOPICLIST", "-n~h:1~topicList", "topicList~-n~h:1~--output~json"] {
        assert!(parse(line).is_ok(), "{line}");
    }
    let after = parse("topicList~-n~h:1;i:2").unwrap();
    assert_eq!(after.common.name_servers, "h:1;i:2");
    assert_eq!(parse("-n~h:1~topicList").unwrap().common.name_servers, "h:1");
}

#[test]
fn a_value_that_looks_like_a_flag_stays_a_value() {
    let words = ["apogeemq", "admin", "sendMessage", "-t", "T", "-p", "-x"]
        .map(OsString::from)
        .to_vec();
    assert_eq!(normalized(words.clone()), words);
    assert!(parse("sendMessage~-t~T~-p~-x").is_ok());
    let other = ["apogeemq", "bench", "-topic"].map(OsString::from).to_vec();
    assert_eq!(normalized(other.clone()), other);
}

#[test]
fn contradicting_flags_are_refused() {
    for line in [
        "updateTopic~-t~T",
        "updateTopic~-t~T~-b~h:1~-c~C",
        "updateTopic~-t~T~-b~h:1~-p~9",
        "updateOrderConf~-t~T~-m~put",
        "resetOffsetByTime~-g~G~-t~T~-s~never",
        "resetOffsetByTime~-g~G~-t~T~-s~now~-q~1",
        "sendMessage~-t~T~-p~x~-i~1",
        "updateSubGroup~-g~G~-c~C~-s~maybe",
        "noSuchVerb",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn the_manual_has_every_verb() {
    let manual = markdown();
    for (verb, _) in DOCUMENTED {
        assert!(manual.contains(&format!("\n## {verb}\n")), "{verb}");
    }
    assert!(manual.contains("| `-t` `--topic` | TOPIC | Name of the topic (required) |"));
}
