import java.util.concurrent.CompletableFuture;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * A message that consumers get later: level 1 is one second (level 18 two hours).
 *
 * Prints:
 *   close the unpaid order
 *   not before a second: true
 */
public class Delay {
    public static void main(String[] args) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("shop");
        producer.start();
        Message message = new Message("JavaReminders", "close the unpaid order".getBytes());
        message.setDelayTimeLevel(1);
        long sent = System.currentTimeMillis();
        producer.send(message);

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("reminder");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPollNameServerInterval(500); // the topic is new, and has no queue until the message is delivered
        consumer.subscribe("JavaReminders", "*");
        CompletableFuture<String> consumed = new CompletableFuture<>();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            consumed.complete(new String(messages.get(0).getBody()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        System.out.println(consumed.get());
        System.out.println("not before a second: " + (System.currentTimeMillis() - sent >= 1000));

        consumer.shutdown();
        producer.shutdown();
    }
}
