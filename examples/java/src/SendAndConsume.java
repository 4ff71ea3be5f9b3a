import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends messages and consumes them. The client reads the name server's address from the environment variable NAMESRV_ADDR.
 *
 * Prints:
 *   sent 3 orders
 *   consumed [order 1, order 2, order 3]
 */
public class SendAndConsume {
    public static void main(String[] args) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("shop");
        producer.start();
        for (int i = 1; i <= 3; i++) {
            producer.send(new Message("JavaOrders", "new", "order " + i, ("order " + i).getBytes()));
        }
        System.out.println("sent 3 orders");

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("warehouse");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaOrders", "*");
        Set<String> consumed = new ConcurrentSkipListSet<>();
        CountDownLatch all = new CountDownLatch(3);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                consumed.add(new String(message.getBody()));
                all.countDown();
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS; // RECONSUME_LATER: the messages come again
        });
        consumer.start();
        all.await();
        System.out.println("consumed " + consumed);

        consumer.shutdown();
        producer.shutdown();
    }
}
