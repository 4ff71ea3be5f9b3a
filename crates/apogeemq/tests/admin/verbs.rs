//! Effect and output of each verb, by feature; later verbs use the state that earlier ones left.

use serde_json::Value;

use crate::common::{apogeemq, free_port};
use crate::{CLUSTER, Cluster, eventually, text, word};

pub(crate) fn topics(cluster: &Cluster) {
    assert_eq!(
        cluster.change("updateTopic", &["-c", CLUSTER, "-t", "orders", "-r", "2", "-w", "2"]),
        1
    );
    assert_eq!(
        cluster.change(
            "updateTopic",
            &["-b", &cluster.broker, "-t", "ordered", "-r", "2", "-w", "2", "-o", "true"]
        ),
        2
    );
    let broker = cluster.broker_name();
    let conf = cluster.one("updateOrderConf", &["-t", "ordered", "-m", "get"]);
    assert_eq!(conf["orderConf"], format!("{broker}:2"));
    cluster.change("updateOrderConf", &["-t", "ordered", "-m", "put", "-v", "x:1"]);
    cluster.change("updateOrderConf", &["-t", "ordered", "-m", "delete"]);
    assert!(
        cluster
            .refused("updateOrderConf", &["-t", "ordered", "-m", "get"])
            .contains("no order configuration")
    );

    let list = cluster.home.path("topics.json");
    std::fs::write(
        &list,
        r#"[{"topicName":"t1","readQueueNums":1,"writeQueueNums":1},{"topicName":"t2"}]"#,
    )
    .unwrap();
    cluster.change("updateTopicList", &["-c", CLUSTER, "-f", list.to_str().unwrap()]);
    let names = cluster.one("topicList", &[]);
    for topic in ["orders", "ordered", "t1", "t2"] {
        assert!(
            names["topics"].as_array().unwrap().iter().any(|name| name == topic),
            "{topic} in {names}"
        );
    }

    let route = cluster.one("topicRoute", &["-t", "orders"]);
    assert_eq!(route["queueDatas"][0]["writeQueueNums"], 2);
    assert_eq!(route["brokerDatas"][0]["brokerAddrs"]["0"], cluster.broker.as_str());
    assert_eq!(cluster.one("topicClusterList", &["-t", "orders"])["clusters"][0], CLUSTER);
    assert_eq!(cluster.one("topicStatus", &["-t", "orders"])["queues"].as_array().unwrap().len(), 2);
    let shares = cluster.one("allocateMQ", &["-t", "orders", "-i", "1.1.1.1,2.2.2.2"]);
    assert_eq!(shares["result"]["2.2.2.2"][0]["queueId"], 1);

    cluster.change("updateTopicPerm", &["-b", &cluster.broker, "-t", "t1", "-p", "4"]);
    let route = cluster.one("topicRoute", &["-t", "t1"]);
    assert_eq!(
        (&route["queueDatas"][0]["perm"], &route["queueDatas"][0]["readQueueNums"]),
        (&4.into(), &1.into())
    );
    assert!(cluster.table("topicRoute", &["-t", "orders"]).starts_with("CLUSTER"));
}

pub(crate) fn static_topics(cluster: &Cluster) {
    let broker = cluster.broker_name();
    let create = ["-c", CLUSTER, "-t", "static", "-qn", "2"];
    let created = cluster.one("updateStaticTopic", &create);
    assert_eq!(created["changes"].as_array().unwrap().len(), 1);
    let read = |file: &Value| serde_json::from_slice::<Value>(&std::fs::read(word(file)).unwrap()).unwrap();
    assert_eq!(read(&created["before"])["brokerConfigMap"], serde_json::json!({}));
    assert_eq!(
        read(&created["after"])["brokerConfigMap"][&broker]["mappingDetail"]["totalQueues"],
        2
    );
    assert!(cluster.refused("updateStaticTopic", &create).contains("do nothing"));
    assert!(
        cluster
            .refused("updateStaticTopic", &["-b", &broker, "-t", "orders", "-qn", "2"])
            .contains("is not static")
    );

    let route = cluster.one("topicRoute", &["-t", "static"]);
    assert_eq!(
        route["topicQueueMappingByBroker"][&broker]["currIdMap"],
        serde_json::json!({"0": 0, "1": 1})
    );
    assert!(cluster.table("topicRoute", &["-t", "static"]).contains("LOGICAL QUEUE"));
    let sent = cluster.one("sendMessage", &["-t", "static", "-p", "x", "-b", &broker, "-i", "1"]);
    assert_eq!((&sent["status"], &sent["queueOffset"]), (&"SEND_OK".into(), &0.into()));
    let state = cluster.one("topicStatus", &["-t", "static"]);
    let logical = |queue: &&Value| queue["broker"] == "__syslo__global__" && queue["queueId"] == 1;
    assert_eq!(state["queues"].as_array().unwrap().iter().find(logical).unwrap()["maxOffset"], 1);

    let nothing = cluster.one("remappingStaticTopic", &["-b", &broker, "-t", "static"]);
    assert_eq!(nothing["changes"].as_array().unwrap().len(), 1, "the new epoch");
    let file = word(&nothing["after"]);
    assert_eq!(
        cluster.change("remappingStaticTopic", &["-t", "static", "-mf", &file]),
        1,
        "it can be repeated"
    );
    let earlier = word(&created["after"]);
    let old = cluster.verb("updateStaticTopic", &["-t", "static", "-mf", &earlier]);
    assert!(text(&old.stdout).contains("small epoch"), "{}", text(&old.stdout));
    assert_eq!(
        cluster.change("updateStaticTopic", &["-t", "static", "-mf", &earlier, "-fr", "true"]),
        1
    );
    for file in [&created["before"], &created["after"], &nothing["before"], &nothing["after"]] {
        // A name may be given twice.
        let _ = std::fs::remove_file(word(file));
    }
}

pub(crate) fn lite_topics(cluster: &Cluster) {
    let broker = cluster.broker.as_str();
    cluster.change(
        "updateTopic",
        &["-b", broker, "-t", "parent", "-r", "1", "-w", "1", "-a", "+message.type=LITE"],
    );
    let bound = "+lite.bind.topic=parent";
    cluster.change("updateSubGroup", &["-b", broker, "-g", "lites", "--attributes", bound]);
    let first = |document: &Value| document["brokers"][0]["info"].clone();
    let all = first(&cluster.one("getBrokerLiteInfo", &["-b", broker, "-d"]));
    assert_eq!(all["groupMeta"]["parent"][0], "lites");
    let parent = first(&cluster.one("getParentTopicInfo", &["-p", "parent"]));
    assert_eq!((&parent["groups"][0], &parent["liteTopicCount"]), (&"lites".into(), &0.into()));
    assert_eq!(cluster.one("getLiteGroupInfo", &["-p", "parent", "-g", "lites"])["total"], 0);
    let lite = cluster.one("getLiteTopicInfo", &["-p", "parent", "-l", "one", "-s"]);
    assert_eq!(lite["queue"], "%LMQ%$parent$one");
    assert_eq!(first(&lite)["topicOffset"]["maxOffset"], 0);
    let client = first(&cluster.one("getLiteClientInfo", &["-p", "parent", "-g", "lites", "-c", "nobody"]));
    assert_eq!(client["lastAccessTime"], -1, "it is unknown");
    assert_eq!(cluster.change("triggerLiteDispatch", &["-p", "parent", "-g", "lites"]), 1);
}

pub(crate) fn groups(cluster: &Cluster) {
    cluster.change("updateSubGroup", &["-c", CLUSTER, "-g", "readers", "-r", "3", "-d", "true"]);
    let settings = cluster.one("getConsumerConfig", &["-g", "readers"]);
    assert_eq!(settings["brokers"][0]["config"]["retryMaxTimes"], 3);
    assert!(
        cluster
            .refused("getConsumerConfig", &["-g", "nobody"])
            .contains("no broker has a consumer group nobody")
    );
    assert!(
        cluster.refused("getConsumerConfig", &["-g", "nobody"]).contains("no broker has"),
        "looking creates nothing"
    );
    let list = cluster.home.path("groups.json");
    std::fs::write(&list, r#"[{"groupName":"g1"},{"groupName":"g2","retryMaxTimes":1}]"#).unwrap();
    cluster.change("updateSubGroupList", &["-b", &cluster.broker, "-f", list.to_str().unwrap()]);
    assert_eq!(
        cluster.one("getConsumerConfig", &["-g", "g2"])["brokers"][0]["config"]["retryMaxTimes"],
        1
    );
    let mode = ["-b", &cluster.broker, "-t", "orders", "-g", "readers", "-m"];
    assert_eq!(cluster.change("setConsumeMode", &[&mode[..], &["PULL"]].concat()), 1);
    assert_eq!(cluster.change("setConsumeMode", &[&mode[..], &["POP", "-q", "2"]].concat()), 1);
}

/// Sends and queries messages; returns the unique key of one in queue 0.
pub(crate) fn messages(cluster: &Cluster) -> String {
    let broker = cluster.broker_name();
    let send = |body, tag| {
        let flags = ["-t", "orders", "-p", body, "-k", "k1 k2", "-c", tag, "-b", &broker, "-i", "0"];
        cluster.one("sendMessage", &flags)
    };
    let sent = send("first", "A");
    assert_eq!((&sent["status"], &sent["queueOffset"]), (&"SEND_OK".into(), &0.into()));
    send("second", "B");
    cluster.one(
        "sendMessage",
        &["-t", "orders", "-p", "-third-", "-b", &broker, "-i", "1", "-m", "true"],
    );
    let (key, offset_id) = (word(&sent["msgId"]), word(&sent["offsetMsgId"]));

    for id in [&key, &offset_id] {
        let found = cluster.one("queryMsgById", &["-t", "orders", "-i", id]);
        assert_eq!(
            (&found["body"], &found["tags"], &found["msgId"]),
            (&"first".into(), &"A".into(), &key.as_str().into())
        );
    }
    let found = eventually(|| {
        let output = cluster.verb("queryMsgByKey", &["-t", "orders", "-k", "k2", "--output", "json"]);
        let found: Value = serde_json::from_slice(&output.stdout).ok()?;
        (found["messages"].as_array().unwrap().len() == 2).then_some(found)
    });
    assert_eq!(found["messages"][1]["body"], "second");
    assert_eq!(
        cluster.one("queryMsgByUniqueKey", &["-t", "orders", "-i", &key, "-a"])["queueOffset"],
        0
    );
    let at = cluster.one("queryMsgByOffset", &["-t", "orders", "-b", &broker, "-i", "0", "-o", "1"]);
    assert_eq!(at["body"], "second");
    let outside = cluster.refused("queryMsgByOffset", &["-t", "orders", "-b", &broker, "-i", "0", "-o", "9"]);
    assert!(outside.contains("from 0 on, below 2"), "{outside}");

    assert_eq!(cluster.json("printMsg", &["-t", "orders"]).len(), 3);
    assert_eq!(cluster.json("printMsg", &["-t", "orders", "-s", "B"])[0]["body"], "second");
    let counted = cluster.one("printMsgByQueue", &["-t", "orders", "-a", &broker, "-i", "0", "-f", "true"]);
    assert_eq!((&counted["messages"], &counted["tags"]["A"]), (&2.into(), &1.into()));
    let printed = cluster.json(
        "printMsgByQueue",
        &["-t", "orders", "-a", &broker, "-i", "0", "-p", "true", "-d", "true"],
    );
    assert_eq!((printed.len(), &printed[0]["body"]), (3, &"first".into()));
    assert_eq!(cluster.json("consumeMessage", &["-t", "orders", "-c", "2"]).len(), 2);
    let from = cluster.json("consumeMessage", &["-t", "orders", "-b", &broker, "-i", "0", "-o", "1"]);
    assert_eq!((from.len(), &from[0]["queueOffset"]), (1, &1.into()));
    let entries = cluster.one("queryCq", &["-t", "orders", "-q", "0", "-i", "0"]);
    assert_eq!(
        (&entries["maxQueueIndex"], entries["queueData"].as_array().unwrap().len()),
        (&2.into(), 2)
    );

    let traced = cluster.one(
        "sendMessage",
        &["-t", "orders", "-p", "traced", "-b", &broker, "-i", "1", "-m", "true"],
    );
    let trace = eventually(|| {
        let output = cluster.verb("queryMsgTraceById", &["-i", &word(&traced["msgId"]), "--output", "json"]);
        serde_json::from_slice::<Value>(&output.stdout).ok()
    });
    assert_eq!(
        (&trace["steps"][0]["kind"], &trace["steps"][0]["success"]),
        (&"Pub".into(), &true.into())
    );
    assert!(
        cluster
            .refused("queryMsgTraceById", &["-i", "nothing"])
            .contains("has no trace of nothing")
    );

    let resumed = cluster.verb("resumeCheckHalfMessage", &["-i", &offset_id]);
    assert_eq!(resumed.status.code(), Some(1));
    assert!(text(&resumed.stdout).contains("not in TRANS_CHECK_MAX_TIME_TOPIC"));
    assert!(
        cluster
            .refused("resumeCheckHalfMessage", &["-i", &key])
            .contains("is not an offset id")
    );

    let again = cluster.one("queryMsgById", &["-t", "orders", "-i", &offset_id, "-s", "true"]);
    assert_eq!(again["msgId"], key.as_str(), "a message that is sent again keeps its unique key");
    let trips = cluster.one("checkMsgSendRT", &["-t", "t2", "-a", "5", "-s", "10"]);
    assert_eq!((&trips["succeeded"], &trips["failed"]), (&5.into(), &0.into()));
    assert_eq!(cluster.one("sendMsgStatus", &["-b", &broker, "-c", "3"])["succeeded"], 3);
    let round = cluster.one("clusterRT", &["-a", "3", "--rounds", "1", "-c", CLUSTER]);
    assert_eq!(
        (&round["brokers"][0]["broker"], &round["brokers"][0]["succeeded"]),
        (&broker.into(), &3.into())
    );
    key
}

pub(crate) fn clients(cluster: &Cluster, id: &str) {
    let members = cluster.one("consumerConnection", &["-g", "readers"]);
    assert_eq!(members["connectionSet"][0]["clientId"], "127.0.0.1@test");
    assert_eq!(members["subscriptionTable"]["orders"]["subString"], "*");
    let status = cluster.one("consumerStatus", &["-g", "readers"]);
    assert_eq!(
        (&status["sameSubscription"], &status["clients"][0]["queues"][0]["queueId"]),
        (&true.into(), &0.into())
    );
    let one = cluster.one("consumerStatus", &["-g", "readers", "-i", "127.0.0.1@test"]);
    assert_eq!(one["clients"][0]["properties"]["PROP_CONSUME_TYPE"], "CONSUME_PASSIVELY");
    let producers = cluster.one("producerConnection", &["-g", "writers", "-t", "orders"]);
    assert_eq!(producers["connectionSet"][0]["clientId"], "127.0.0.1@test");
    let all = cluster.one("producer", &["-b", &cluster.broker]);
    assert_eq!(all["data"]["writers"][0]["clientId"], "127.0.0.1@test");
    let pushed = cluster.one(
        "queryMsgByUniqueKey",
        &["-t", "orders", "-i", id, "-g", "readers", "-d", "127.0.0.1@test"],
    );
    assert_eq!(pushed["consumeResult"], "CR_SUCCESS");
    let found = cluster.one("queryMsgById", &["-t", "orders", "-i", id]);
    assert_eq!(
        (&found["tracks"][0]["consumerGroup"], &found["tracks"][0]["state"]),
        (&"readers".into(), &"NOT_CONSUME_YET".into())
    );
    let round = cluster.one("startMonitoring", &["--rounds", "1"]);
    assert_eq!(round["warnings"].as_array().unwrap().len(), 0, "{round}");
}

pub(crate) fn offsets(cluster: &Cluster) {
    let gone = eventually(|| {
        let output = cluster.verb("consumerConnection", &["-g", "readers"]);
        (!output.status.success()).then(|| text(&output.stderr))
    });
    assert!(gone.contains("readers") || gone.contains("CONSUMER_NOT_ONLINE"), "{gone}");
    let reset = cluster.one("resetOffsetByTime", &["-g", "readers", "-t", "orders", "-s", "0"]);
    assert_eq!(reset["queues"].as_array().unwrap().len(), 2);
    assert!(
        reset["queues"].as_array().unwrap().iter().all(|queue| queue["offset"] == 0),
        "{reset}"
    );
    let at = [
        "-g",
        "readers",
        "-t",
        "orders",
        "-s",
        "now",
        "-b",
        &cluster.broker,
        "-q",
        "0",
        "-o",
        "1",
    ];
    assert_eq!(cluster.one("resetOffsetByTime", &at)["queues"][0]["offset"], 1);

    let progress = cluster.one("consumerProgress", &["-g", "readers", "-t", "orders", "-s", "true"]);
    let queue = &progress["queues"][0];
    assert_eq!(
        (&queue["queueId"], &queue["consumerOffset"], &queue["diff"]),
        (&0.into(), &1.into(), &queue["diff"])
    );
    assert_eq!(queue["diff"], queue["brokerOffset"].as_i64().unwrap() - 1);
    let all = cluster.one("consumerProgress", &[]);
    assert!(
        all["groups"].as_array().unwrap().iter().any(|group| group["group"] == "readers"),
        "{all}"
    );
    let stats = cluster.one("brokerConsumeStats", &["-b", &cluster.broker]);
    assert!(
        stats["queues"].as_array().unwrap().iter().any(|row| row["group"] == "readers"),
        "{stats}"
    );

    cluster.change("updateSubGroup", &["-c", CLUSTER, "-g", "copies"]);
    cluster.change("cloneGroupOffset", &["-s", "readers", "-d", "copies", "-t", "orders", "-o", "true"]);
    let copied = cluster.one("consumerProgress", &["-g", "copies", "-t", "orders"]);
    assert_eq!(copied["queues"][0]["consumerOffset"], 1);
    cluster.one("skipAccumulatedMessage", &["-g", "readers", "-t", "orders"]);
    assert_eq!(cluster.one("consumerProgress", &["-g", "readers", "-t", "orders"])["diffTotal"], 0);
    let traffic = cluster.one("statsAll", &["-t", "orders"]);
    assert!(
        traffic["topics"].as_array().unwrap().iter().any(|row| row["group"] == "readers"),
        "{traffic}"
    );
    cluster.one("statsAll", &["-a"]);
    assert!(
        cluster
            .refused("consumerProgress", &["-g", "strangers"])
            .contains("group strangers has no offsets")
    );
}

pub(crate) fn brokers(cluster: &Cluster) {
    let list = cluster.one("clusterList", &["-c", CLUSTER]);
    assert_eq!(
        (&list["brokers"][0]["cluster"], &list["brokers"][0]["active"]),
        (&CLUSTER.into(), &true.into())
    );
    assert!(cluster.table("clusterList", &["-m"]).starts_with("CLUSTER"));
    assert_eq!(cluster.json("clusterList", &["-i", "0", "--rounds", "2"]).len(), 2);
    let state = cluster.one("brokerStatus", &["-b", &cluster.broker]);
    assert!(state["servers"][0]["table"]["putTps"].is_string(), "{state}");
    cluster.change("updateBrokerConfig", &["-c", CLUSTER, "-k", "fileReservedTime", "-v", "71"]);
    let settings = cluster.one("getBrokerConfig", &["-c", CLUSTER]);
    assert_eq!(settings["servers"][0]["table"]["fileReservedTime"], "71");
    let wrong = cluster.verb(
        "updateBrokerConfig",
        &["-b", &cluster.broker, "-k", "fileReservedTime", "-v", "never"],
    );
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stdout).starts_with("FAILED"), "{}", text(&wrong.stdout));
    assert!(text(&wrong.stderr).contains("1 of 1 steps failed"));
    for verb in ["cleanExpiredCQ", "cleanUnusedTopic", "deleteExpiredCommitLog"] {
        assert_eq!(cluster.change(verb, &[]), 1);
        assert_eq!(cluster.change(verb, &["-b", &cluster.broker]), 1);
    }
    let replication = cluster.one("haStatus", &["-b", &cluster.broker]);
    let master = &replication["brokers"][0];
    assert_eq!(
        (&master["address"], &master["master"]),
        (&cluster.broker.as_str().into(), &true.into())
    );
    assert!(master["masterCommitLogMaxOffset"].as_i64().unwrap() > 0, "{replication}");
    assert_eq!(master["haConnectionInfo"].as_array().unwrap().len(), 0, "{replication}");
    let reset = ["-b", &cluster.broker, "-o", "4096"];
    assert_eq!(cluster.change("resetMasterFlushOffset", &reset), 1, "a master ignores it");
    let unreachable = cluster.verb("resetMasterFlushOffset", &["-b", "127.0.0.1:1", "-o", "1"]);
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(
        text(&unreachable.stdout).starts_with("FAILED  127.0.0.1:1"),
        "{}",
        text(&unreachable.stdout)
    );
}

pub(crate) fn name_servers(cluster: &Cluster) {
    let broker = cluster.broker_name();
    cluster.change("wipeWritePerm", &["-b", &broker]);
    assert_eq!(cluster.one("topicRoute", &["-t", "orders"])["queueDatas"][0]["perm"], 4);
    cluster.change("addWritePerm", &["-b", &broker]);
    assert_eq!(cluster.one("topicRoute", &["-t", "orders"])["queueDatas"][0]["perm"], 6);
    cluster.change("updateKvConfig", &["-s", "n", "-k", "k", "-v", "v"]);
    cluster.change("deleteKvConfig", &["-s", "n", "-k", "k"]);
    let setting = || word(&cluster.one("getNamesrvConfig", &[])["servers"][0]["table"]["orderMessageEnable"]);
    assert_eq!(setting(), "false");
    cluster.change("updateNamesrvConfig", &["-k", "orderMessageEnable", "-v", "true"]);
    assert_eq!(setting(), "true");
}

/// A controller of its own: brokers of this program do not follow one.
pub(crate) fn controllers(cluster: &Cluster) {
    let (home, at) = (&cluster.home, format!("127.0.0.1:{}", free_port(&[])));
    let settings = format!("controllerDLegerPeers=n0-{at}\ncontrollerDLegerSelfId=n0\n");
    std::fs::write(home.path("controller.conf"), settings).unwrap();
    let mut command = apogeemq(&home.path("."));
    let _controller = home.run_beside(command.args(["controller", "-c", "controller.conf", "--data", "controller"]));

    let group = eventually(|| {
        let told = cluster.verb("getControllerMetaData", &["-a", &at, "--output", "json"]);
        let told: Value = serde_json::from_slice(&told.stdout).ok()?;
        (told["leaderId"] == "n0").then_some(told)
    });
    assert_eq!(group["leaderAddress"], at.as_str());
    let change = ["-a", &at, "-k", "enableElectUncleanMaster", "-v", "true"];
    assert_eq!(cluster.change("updateControllerConfig", &change), 1);
    let settings = cluster.one("getControllerConfig", &["-a", &at]);
    assert_eq!(settings["servers"][0]["table"]["enableElectUncleanMaster"], "true");
    let nobody = ["-a", &at, "--brokerName", "nobody", "-c", CLUSTER];
    let sets = cluster.one("getSyncStateSet", &["-a", &at, "-b", "nobody"]);
    assert_eq!(sets["brokers"].as_array().unwrap().len(), 0);
    let refused = cluster.refused("electMaster", &[&nobody[..], &["-b", "1"]].concat());
    assert!(refused.contains("CONTROLLER_BROKER_NEED_TO_BE_REGISTERED"), "{refused}");
    let refused = cluster.verb("cleanBrokerMetadata", &nobody);
    assert!(text(&refused.stdout).contains("CONTROLLER_INVALID_CLEAN_BROKER_METADATA") && !refused.status.success());
    let refused = cluster.refused("getBrokerEpoch", &["-b", &cluster.broker_name()]);
    assert!(refused.contains("GET_BROKER_EPOCH"), "{refused}");
}

pub(crate) fn exports(cluster: &Cluster) {
    let dir = cluster.home.path("export");
    let dir = dir.to_str().unwrap();
    let read = |exported: &Value| -> Value { serde_json::from_slice(&std::fs::read(word(&exported["path"])).unwrap()).unwrap() };
    let configs = read(&cluster.one("exportConfigs", &["-c", CLUSTER, "-f", dir]));
    assert_eq!(configs["clusterScale"]["masterBrokerSize"], 1);
    let metadata = read(&cluster.one("exportMetadata", &["-c", CLUSTER, "-f", dir]));
    assert_eq!(metadata["topicConfigTable"]["orders"]["readQueueNums"], 2);
    assert_eq!(metadata["subscriptionGroupTable"]["readers"]["retryMaxTimes"], 3);
    assert!(metadata["topicConfigTable"].get("%RETRY%readers").is_none());
    let topics = read(&cluster.one("exportMetadata", &["-b", &cluster.broker, "-t", "-s", "-f", dir]));
    assert!(topics["topicConfigTable"].get("%RETRY%readers").is_some());
    let metrics = read(&cluster.one("exportMetrics", &["-c", CLUSTER, "-f", dir]));
    assert!(
        metrics["evaluateReport"][cluster.broker_name()]["runtimeQuota"]["topicSize"]
            .as_i64()
            .unwrap()
            >= 4
    );
}

pub(crate) fn deletions(cluster: &Cluster) {
    cluster.change("deleteSubGroup", &["-c", CLUSTER, "-g", "readers", "-r", "true"]);
    cluster.change("deleteSubGroup", &["-b", &cluster.broker, "-g", "g1"]);
    assert!(cluster.refused("getConsumerConfig", &["-g", "readers"]).contains("no broker has"));
    assert_eq!(cluster.change("deleteTopic", &["-c", CLUSTER, "-t", "orders"]), 2);
    let gone = cluster.refused("topicStatus", &["-t", "orders"]);
    assert!(gone.contains("orders") && gone.contains("topicList"), "{gone}");
    let uses = cluster.one("topicList", &["-c"]);
    assert!(
        uses["topics"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["topic"] == "t2" && row["clusters"][0] == CLUSTER),
        "{uses}"
    );
}
