import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * Two groups of consumers that get a part of a topic's messages, chosen by the broker: by tag, and by an SQL expression over properties.
 *
 * Prints:
 *   by SQL: [1500 EUR from FR]
 *   by tag: [15 EUR from FR, 1500 EUR from FR]
 */
public class Filter {
    private static final Map<String, Set<String>> CONSUMED = new ConcurrentSkipListMap<>();
    private static final CountDownLatch ALL = new CountDownLatch(3);

    public static void main(String[] args) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("shop");
        producer.start();
        for (String[] payment : new String[][] {{"FR", "15"}, {"FR", "1500"}, {"DE", "2000"}}) {
            Message message = new Message("JavaAmounts", payment[0], (payment[1] + " EUR from " + payment[0]).getBytes());
            message.putUserProperty("amount", payment[1]);
            producer.send(message);
        }

        DefaultMQPushConsumer byTag = consume("by tag", MessageSelector.byTag("FR || IT"));
        DefaultMQPushConsumer bySql = consume("by SQL", MessageSelector.bySql("TAGS = 'FR' AND amount BETWEEN 1000 AND 9999"));
        ALL.await();
        CONSUMED.forEach((how, messages) -> System.out.println(how + ": " + messages));

        byTag.shutdown();
        bySql.shutdown();
        producer.shutdown();
    }

    private static DefaultMQPushConsumer consume(String how, MessageSelector selector) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(how.replace(' ', '-'));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setHeartbeatBrokerInterval(1000); // heartbeats tell the broker the expression; the default is every 30 s
        consumer.subscribe("JavaAmounts", selector);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                CONSUMED.computeIfAbsent(how, key -> new ConcurrentSkipListSet<>()).add(new String(message.getBody()));
                ALL.countDown();
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }
}
