import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * The steps of one order are consumed in the order in which they were sent: all of them are sent to one queue, which the order's number
 * selects, and an orderly listener takes one message of a queue at a time. Different orders are consumed at the same time.
 *
 * Prints:
 *   order 1: created, paid, shipped
 *   order 2: created, paid, shipped
 *   order 3: created, paid, shipped
 */
public class Order {
    public static void main(String[] args) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("shop");
        producer.start();
        for (String step : new String[] {"created", "paid", "shipped"}) {
            for (int order = 1; order <= 3; order++) {
                Message message = new Message("JavaSteps", "", "order " + order, step.getBytes());
                producer.send(message, (queues, m, id) -> queues.get((Integer) id % queues.size()), order);
            }
        }

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("history");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaSteps", "*");
        Map<String, List<String>> steps = new ConcurrentSkipListMap<>();
        CountDownLatch all = new CountDownLatch(9);
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(message -> {
                steps.computeIfAbsent(message.getKeys(), key -> new ArrayList<>()).add(new String(message.getBody()));
                all.countDown();
            });
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        all.await();
        steps.forEach((order, ofOrder) -> System.out.println(order + ": " + String.join(", ", ofOrder)));

        consumer.shutdown();
        producer.shutdown();
        System.exit(0); // a timer thread of orderly consumers does not end with the consumer (client 5.5.0)
    }
}
