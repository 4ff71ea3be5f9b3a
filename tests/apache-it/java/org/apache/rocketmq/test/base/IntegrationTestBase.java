package org.apache.rocketmq.test.base;

import java.io.File;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.TopicAttributes;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.attribute.CQType;
import org.apache.rocketmq.common.attribute.TopicMessageType;
import org.apache.rocketmq.logging.org.slf4j.Logger;
import org.apache.rocketmq.logging.org.slf4j.LoggerFactory;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.test.util.MQAdminTestUtils;

/**
 * The other class that Apache's tests link against: topics are made at the running cluster; whoever wants a server inside this
 * JVM is told that there is none.
 */
public class IntegrationTestBase {
    public static Logger logger = LoggerFactory.getLogger(IntegrationTestBase.class);
    public static volatile int commitLogSize = 100 * 1024 * 1024;
    protected static int topicCreateTime = 30; // seconds

    public static String createBaseDir() {
        return new File(System.getProperty("java.io.tmpdir"), "store-" + UUID.randomUUID()).getPath();
    }

    public static NamesrvController createAndStartNamesrv() {
        throw elsewhere();
    }

    public static BrokerController createAndStartBroker(String nsAddr) {
        throw elsewhere();
    }

    public static BrokerController createAndStartBroker(MessageStoreConfig storeConfig, BrokerConfig brokerConfig) {
        throw elsewhere();
    }

    private static UnsupportedOperationException elsewhere() {
        return new UnsupportedOperationException("no Java server is started in this JVM: the cluster runs elsewhere");
    }

    public static boolean initTopic(String topic, String nsAddr, String clusterName, CQType cqType) {
        return initTopic(topic, nsAddr, clusterName, BaseConf.QUEUE_NUMBERS, cqType);
    }

    public static boolean initTopic(String topic, String nsAddr, String clusterName, TopicMessageType type) {
        return initTopic(topic, nsAddr, clusterName, BaseConf.QUEUE_NUMBERS, CQType.SimpleCQ, type);
    }

    public static boolean initTopic(String topic, String nsAddr, String clusterName, int queues, CQType cqType) {
        return initTopic(topic, nsAddr, clusterName, queues, cqType, TopicMessageType.NORMAL);
    }

    public static boolean initTopic(String topic, String nsAddr, String clusterName, int queues, CQType cqType, TopicMessageType type) {
        Map<String, String> attributes = new HashMap<>();
        if (cqType != CQType.SimpleCQ) {
            attributes.put('+' + TopicAttributes.QUEUE_TYPE_ATTRIBUTE.getName(), cqType.name());
        }
        if (type != TopicMessageType.NORMAL) {
            attributes.put('+' + TopicAttributes.TOPIC_MESSAGE_TYPE_ATTRIBUTE.getName(), type.getValue());
        }
        return MQAdminTestUtils.createTopic(nsAddr, clusterName, topic, queues, attributes, topicCreateTime);
    }

    public static void deleteFile(File file) {
        if (file.exists()) {
            UtilAll.deleteFile(file);
        }
    }

    public static void initMQAdmin(String nsAddr) {
        try {
            MQAdminTestUtils.startAdmin(nsAddr);
        } catch (MQClientException e) {
            throw new IllegalStateException("the name server at " + nsAddr + " does not answer", e);
        }
    }
}
