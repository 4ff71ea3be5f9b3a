package org.apache.rocketmq.test.base;

import cluster.RemoteBroker;
import cluster.RemoteNameServer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.client.consumer.MQPullConsumer;
import org.apache.rocketmq.client.consumer.MQPushConsumer;
import org.apache.rocketmq.client.producer.MQProducer;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.attribute.CQType;
import org.apache.rocketmq.common.attribute.TopicMessageType;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.test.client.rmq.RMQAsyncSendProducer;
import org.apache.rocketmq.test.client.rmq.RMQNormalConsumer;
import org.apache.rocketmq.test.client.rmq.RMQNormalProducer;
import org.apache.rocketmq.test.client.rmq.RMQTransactionalProducer;
import org.apache.rocketmq.test.clientinterface.AbstractMQConsumer;
import org.apache.rocketmq.test.clientinterface.AbstractMQProducer;
import org.apache.rocketmq.test.clientinterface.MQConsumer;
import org.apache.rocketmq.test.factory.ConsumerFactory;
import org.apache.rocketmq.test.listener.AbstractListener;
import org.apache.rocketmq.test.util.MQAdminTestUtils;
import org.apache.rocketmq.test.util.MQRandomUtils;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.admin.MQAdminExt;

/**
 * The base class of Apache's tests, for a cluster that is already running.
 *
 * <p>Apache's own class of this name starts a name server and three brokers inside the JVM. The compiled tests link against its
 * members, so those are all here; the servers are where {@code -Dnamesrv}, {@code -Dcluster} and {@code -Dbrokers} say.
 */
public class BaseConf {
    public static final String NAMESRV_ADDR = System.getProperty("namesrv");
    protected static final String CLUSTER_NAME = System.getProperty("cluster");
    private static final String[] BROKER_NAMES = System.getProperty("brokers").split(",");
    protected static final String BROKER1_NAME = BROKER_NAMES[0];
    protected static final String BROKER2_NAME = BROKER_NAMES[1];
    protected static final String BROKER3_NAME = BROKER_NAMES[2];

    // The compiler copied these into the tests: they cannot be chosen.
    protected static final int BROKER_NUM = 3;
    protected static final int WAIT_TIME = 5;
    protected static final int CONSUME_TIME = 2 * 60 * 1000;
    protected static final int QUEUE_NUMBERS = 8;
    private static final int CLUSTER_SECONDS = 30;

    protected static NamesrvController namesrvController;
    protected static BrokerController brokerController1;
    protected static BrokerController brokerController2;
    protected static BrokerController brokerController3;
    protected static List<BrokerController> brokerControllerList;
    protected static Map<String, BrokerController> brokerControllerMap;

    /** What {@link #shutdown()} ends, in the order in which it was made: one test removes by position. */
    protected static List<Object> mqClients = new ArrayList<>();
    protected static boolean debug;
    /** Producers whose test expects exactly what they could send: with a broker that refuses all of it, it would pass. */
    private static final List<AbstractMQProducer> MUST_SEND = new ArrayList<>();

    /** Clients take their time to end; the next test does not wait for those of the last one. */
    private static final ExecutorService ENDING = Executors.newCachedThreadPool(work -> {
        Thread thread = new Thread(work, "ending");
        thread.setDaemon(true);
        return thread;
    });

    static {
        System.setProperty(RemotingCommand.REMOTING_VERSION_KEY, Integer.toString(MQVersion.CURRENT_VERSION));
        RemoteBroker.awaitCluster(CLUSTER_NAME, BROKER_NUM, CLUSTER_SECONDS);
        IntegrationTestBase.initMQAdmin(NAMESRV_ADDR);
        namesrvController = RemoteNameServer.make();
        Map<String, BrokerController> brokers = new HashMap<>();
        for (String name : BROKER_NAMES) {
            brokers.put(name, RemoteBroker.of(name));
        }
        brokerController1 = brokers.get(BROKER1_NAME);
        brokerController2 = brokers.get(BROKER2_NAME);
        brokerController3 = brokers.get(BROKER3_NAME);
        brokerControllerMap = Collections.unmodifiableMap(brokers);
        brokerControllerList = Collections.unmodifiableList(Arrays.asList(brokerController1, brokerController2, brokerController3));
    }

    public static void waitBrokerRegistered(String nsAddr, String clusterName, int expectedBrokerNum) {
        RemoteBroker.awaitCluster(clusterName, expectedBrokerNum, CLUSTER_SECONDS);
    }

    public boolean awaitDispatchMs(long timeMs) throws Exception {
        return RemoteBroker.awaitDispatch(brokerControllerList, timeMs);
    }

    public static Set<String> getBrokers() {
        return new HashSet<>(Arrays.asList(BROKER_NAMES));
    }

    public static String initTopic() {
        return initTopicOnSampleTopicBroker(CLUSTER_NAME);
    }

    public static String initTopic(TopicMessageType type) {
        return initTopicOnSampleTopicBroker(CLUSTER_NAME, type);
    }

    public static String initTopicWithName(String topic) {
        return initTopicOnSampleTopicBroker(topic, CLUSTER_NAME);
    }

    public static String initTopicWithName(String topic, TopicMessageType type) {
        return initTopicOnSampleTopicBroker(topic, CLUSTER_NAME, type);
    }

    public static String initTopicOnSampleTopicBroker(String sample) {
        return initTopicOnSampleTopicBroker(MQRandomUtils.getRandomTopic(), sample);
    }

    public static String initTopicOnSampleTopicBroker(String sample, TopicMessageType type) {
        return initTopicOnSampleTopicBroker(MQRandomUtils.getRandomTopic(), sample, type);
    }

    public static String initTopicOnSampleTopicBroker(String topic, String sample) {
        return initTopicOnSampleTopicBroker(topic, sample, TopicMessageType.NORMAL);
    }

    /** A topic on the brokers that have the topic {@code sample}, which is the name of the cluster or of one broker. */
    public static String initTopicOnSampleTopicBroker(String topic, String sample, TopicMessageType type) {
        IntegrationTestBase.initTopic(topic, NAMESRV_ADDR, sample, QUEUE_NUMBERS, CQType.SimpleCQ, type);
        return topic;
    }

    public static String initConsumerGroup() {
        return initConsumerGroup(MQRandomUtils.getRandomConsumerGroup());
    }

    public static String initConsumerGroup(String group) {
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        return initConsumerGroup(config);
    }

    public static String initConsumerGroup(SubscriptionGroupConfig config) {
        MQAdminTestUtils.createSub(NAMESRV_ADDR, CLUSTER_NAME, config);
        return config.getGroupName();
    }

    public static DefaultMQAdminExt getAdmin(String nsAddr) {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(3_000);
        admin.setNamesrvAddr(nsAddr);
        admin.setPollNameServerInterval(100);
        return remembered(admin);
    }

    public static RMQNormalProducer getProducer(String nsAddr, String topic) {
        return getProducer(nsAddr, topic, false);
    }

    public static RMQNormalProducer getProducer(String nsAddr, String topic, boolean useTLS) {
        RMQNormalProducer producer = remembered(new RMQNormalProducer(nsAddr, topic, useTLS));
        return useTLS ? mustSend(producer) : producer;
    }

    public static RMQNormalProducer getProducer(String nsAddr, String topic, String group, String instance) {
        return remembered(new RMQNormalProducer(nsAddr, topic, group, instance));
    }

    public static RMQAsyncSendProducer getAsyncProducer(String nsAddr, String topic) {
        return remembered(new RMQAsyncSendProducer(nsAddr, topic));
    }

    public static RMQTransactionalProducer getTransactionalProducer(String nsAddr, String topic, TransactionListener listener) {
        return mustSend(remembered(new RMQTransactionalProducer(nsAddr, topic, false, listener)));
    }

    public static RMQNormalConsumer getConsumer(String nsAddr, String topic, String expression, AbstractListener listener) {
        return getConsumer(nsAddr, topic, expression, listener, false);
    }

    public static RMQNormalConsumer getConsumer(String nsAddr, String topic, String expression, AbstractListener listener,
        boolean useTLS) {
        return getConsumer(nsAddr, initConsumerGroup(), topic, expression, listener, useTLS);
    }

    public static RMQNormalConsumer getConsumer(String nsAddr, String group, String topic, String expression,
        AbstractListener listener) {
        return getConsumer(nsAddr, group, topic, expression, listener, false);
    }

    public static RMQNormalConsumer getConsumer(String nsAddr, String group, String topic, String expression,
        AbstractListener listener, boolean useTLS) {
        return remembered(ConsumerFactory.getRMQNormalConsumer(nsAddr, group, topic, expression, listener, useTLS));
    }

    private static <P extends AbstractMQProducer> P mustSend(P producer) {
        MUST_SEND.add(producer);
        return producer;
    }

    private static <C> C remembered(C client) {
        if (debug && client instanceof AbstractMQProducer) {
            ((AbstractMQProducer) client).setDebug();
        } else if (debug && client instanceof AbstractMQConsumer) {
            ((AbstractMQConsumer) client).setDebug();
        }
        mqClients.add(client);
        return client;
    }

    public static void shutdown() {
        List<Object> all = new ArrayList<>(mqClients);
        mqClients.clear();
        shutdown(all);
        boolean sent = MUST_SEND.stream().noneMatch(producer -> producer.getAllMsgBody().isEmpty());
        MUST_SEND.clear();
        if (!sent) {
            throw new AssertionError("not one message was sent, so there was nothing to be tested");
        }
    }

    public static void shutdown(List<Object> clients) {
        clients.forEach(client -> ENDING.execute(() -> end(client)));
    }

    private static void end(Object client) {
        if (client instanceof AbstractMQProducer) {
            ((AbstractMQProducer) client).shutdown();
        } else if (client instanceof MQConsumer) {
            ((MQConsumer) client).shutdown();
        } else if (client instanceof MQAdminExt) {
            ((MQAdminExt) client).shutdown();
        } else if (client instanceof MQProducer) {
            ((MQProducer) client).shutdown();
        } else if (client instanceof MQPushConsumer) {
            ((MQPushConsumer) client).shutdown();
        } else if (client instanceof MQPullConsumer) {
            ((MQPullConsumer) client).shutdown();
        }
    }
}
