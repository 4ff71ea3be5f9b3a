package cluster;

import java.util.Collections;
import java.util.Properties;
import java.util.Set;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.body.TopicConfigSerializeWrapper;
import org.apache.rocketmq.remoting.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** One admin client for this JVM: how the stand-ins ask the cluster under test, whose address is {@code -Dnamesrv}. */
final class Admin {
    static final String NAMESRV = System.getProperty("namesrv");
    static final String CLUSTER = System.getProperty("cluster");
    private static final int TIMEOUT_MS = 10_000;
    private static final DefaultMQAdminExt CLIENT = start();

    private Admin() {
    }

    private static DefaultMQAdminExt start() {
        DefaultMQAdminExt client = new DefaultMQAdminExt(TIMEOUT_MS);
        client.setNamesrvAddr(NAMESRV);
        client.setInstanceName("stand-ins");
        ask(() -> {
            client.start();
            return null;
        });
        return client;
    }

    static Set<String> brokers() {
        return ask(() -> CLIENT.examineBrokerClusterInfo().getClusterAddrTable().get(CLUSTER));
    }

    static String masterOf(String broker) {
        return ask(() -> CLIENT.examineBrokerClusterInfo().getBrokerAddrTable().get(broker).getBrokerAddrs().get(0L));
    }

    /** Whether a producer could find this many brokers under a topic's name; a route that is not there yet is a no. */
    static boolean routedTo(String topic, int brokers) {
        try {
            return CLIENT.examineTopicRouteInfo(topic).getBrokerDatas().size() == brokers;
        } catch (Exception notYet) {
            return false;
        }
    }

    static Properties settings(String address) {
        return ask(() -> CLIENT.getBrokerConfig(address));
    }

    static void change(String address, Properties settings) {
        ask(() -> {
            CLIENT.updateBrokerConfig(address, settings);
            return null;
        });
    }

    static Properties nameServerSettings() {
        return ask(() -> CLIENT.getNameServerConfig(Collections.singletonList(NAMESRV)).get(NAMESRV));
    }

    static void changeNameServer(Properties settings) {
        ask(() -> {
            CLIENT.updateNameServerConfig(settings, Collections.singletonList(NAMESRV));
            return null;
        });
    }

    static long minOffset(MessageQueue queue) {
        return ask(() -> CLIENT.minOffset(queue));
    }

    static long maxOffset(MessageQueue queue) {
        return ask(() -> CLIENT.maxOffset(queue));
    }

    static long committed(String address, String group, String topic, int queue) {
        QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(queue);
        return ask(() -> CLIENT.getDefaultMQAdminExtImpl().getMqClientInstance().getMQClientAPIImpl()
            .queryConsumerOffset(address, header, TIMEOUT_MS));
    }

    /** A figure of the broker's runtime information. */
    static String runtime(String address, String name) {
        return ask(() -> CLIENT.fetchBrokerRuntimeStats(address).getTable().get(name));
    }

    static TopicConfigSerializeWrapper topics(String address) {
        return ask(() -> CLIENT.getAllTopicConfig(address, TIMEOUT_MS));
    }

    private interface Question<T> {
        T put() throws Exception;
    }

    private static <T> T ask(Question<T> question) {
        try {
            return question.put();
        } catch (RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
