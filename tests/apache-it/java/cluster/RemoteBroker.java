package cluster;

import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.broker.offset.ConsumerOffsetManager;
import org.apache.rocketmq.broker.topic.TopicConfigManager;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.mockito.Mockito;
import org.mockito.invocation.InvocationOnMock;
import org.mockito.stubbing.Answer;

/**
 * A broker object for a broker of another process: Apache's tests hold one per broker and ask it for its address, its settings,
 * its topics, the ends of its queues and the offsets of its groups. Here every such question goes out as an admin request; a setter changes the setting at
 * the broker (and it is put back when the JVM ends). Any other question names itself in the failure: it needs the inside of a Java
 * broker, so that test cannot be run against any other.
 */
public final class RemoteBroker {
    private final String name;
    private final String address;
    private final Properties before;
    private final Properties changed = new Properties();
    /** The objects a broker object hands out, made when first asked for. */
    private final Map<Class<?>, Object> parts = new ConcurrentHashMap<>();

    private RemoteBroker(String name) {
        this.name = name;
        this.address = Admin.masterOf(name);
        this.before = Admin.settings(address);
        Runtime.getRuntime().addShutdownHook(new Thread(this::restore));
    }

    /** The stand-in for the master of this name. */
    public static BrokerController of(String name) {
        return Mockito.mock(BrokerController.class, answer(new RemoteBroker(name)::controller));
    }

    private interface Reply {
        Object to(InvocationOnMock question) throws Throwable;
    }

    private static Answer<Object> answer(Reply reply) {
        return question -> "toString".equals(question.getMethod().getName()) ? "a remote broker" : reply.to(question);
    }

    private <T> T part(Class<T> type, Reply reply) {
        return type.cast(parts.computeIfAbsent(type, t -> Mockito.mock(t, answer(reply))));
    }

    private Object controller(InvocationOnMock question) {
        switch (question.getMethod().getName()) {
            case "getBrokerAddr":
                return address;
            case "getBrokerConfig":
                return part(BrokerConfig.class, this::setting);
            case "getMessageStoreConfig":
                return part(MessageStoreConfig.class, this::setting);
            case "getMessageStore":
                return part(DefaultMessageStore.class, this::store);
            case "getTopicConfigManager":
                return part(TopicConfigManager.class, this::topics);
            case "getConsumerOffsetManager":
                return part(ConsumerOffsetManager.class, this::offsets);
            default:
                throw inside(question);
        }
    }

    private Object setting(InvocationOnMock question) {
        String method = question.getMethod().getName();
        if (method.startsWith("set")) {
            set(key(method, "set"), question.getArgument(0));
            return null;
        }
        String key = key(method, method.startsWith("is") ? "is" : "get");
        String value = Admin.settings(address).getProperty(key);
        if (value == null) {
            throw new IllegalStateException(name + " does not tell its setting " + key);
        }
        return parsed(value, question.getMethod().getReturnType());
    }

    static String key(String method, String prefix) {
        String rest = method.substring(prefix.length());
        return Character.toLowerCase(rest.charAt(0)) + rest.substring(1);
    }

    private synchronized void set(String key, Object value) {
        Properties one = new Properties();
        one.setProperty(key, String.valueOf(value));
        Admin.change(address, one);
        changed.putAll(one);
    }

    private static Object parsed(String value, Class<?> type) {
        if (type == boolean.class) {
            return Boolean.valueOf(value);
        } else if (type == int.class) {
            return Integer.valueOf(value);
        } else if (type == long.class) {
            return Long.valueOf(value);
        }
        return value;
    }

    private Object store(InvocationOnMock question) {
        switch (question.getMethod().getName()) {
            case "getMinOffsetInQueue":
                return Admin.minOffset(queue(question));
            case "getMaxOffsetInQueue":
                return Admin.maxOffset(queue(question));
            case "dispatchBehindBytes":
                return Long.valueOf(Admin.runtime(address, "dispatchBehindBytes"));
            default:
                throw inside(question);
        }
    }

    private MessageQueue queue(InvocationOnMock question) {
        return new MessageQueue(question.getArgument(0), name, question.getArgument(1));
    }

    private Object topics(InvocationOnMock question) {
        if (question.getMethod().getName().equals("getTopicConfigTable")) {
            return Admin.topics(address).getTopicConfigTable();
        }
        throw inside(question);
    }

    private Object offsets(InvocationOnMock question) {
        if (question.getMethod().getName().equals("queryOffset")) {
            return Admin.committed(address, question.getArgument(0), question.getArgument(1), question.getArgument(2));
        }
        throw inside(question);
    }

    private static UnsupportedOperationException inside(InvocationOnMock question) {
        String method = question.getMethod().getDeclaringClass().getSimpleName() + "." + question.getMethod().getName();
        return new UnsupportedOperationException(method + " is the inside of a Java broker");
    }

    private synchronized void restore() {
        Properties old = new Properties();
        for (Object key : changed.keySet()) {
            if (before.containsKey(key)) {
                old.put(key, before.get(key));
            }
        }
        if (!old.isEmpty()) {
            Admin.change(address, old);
        }
    }

    /** Waits until the cluster has so many brokers and a topic created "like the cluster" would get all of them. */
    public static void awaitCluster(String cluster, int brokers, int seconds) {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!Admin.routedTo(cluster, brokers)) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("cluster " + cluster + " has brokers " + Admin.brokers() + ", not " + brokers);
            }
            sleep(100);
        }
    }

    /** Waits until every queue follows its log to the end. */
    public static boolean awaitDispatch(Iterable<BrokerController> brokers, long milliseconds) {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(milliseconds);
        do {
            boolean behind = false;
            for (BrokerController broker : brokers) {
                behind |= broker.getMessageStore().dispatchBehindBytes() != 0;
            }
            if (!behind) {
                return true;
            }
            sleep(50);
        } while (System.nanoTime() < end);
        return false;
    }

    private static void sleep(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
