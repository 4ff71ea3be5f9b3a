import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A message that is delivered only if the local transaction commits, such as the insert of the order into a database. A producer that
 * crashed before it said how its transaction ended is asked by the broker.
 *
 * Prints:
 *   delivered [order 1, paid, order 3, crash after payment]
 */
public class Transaction {
    public static void main(String[] args) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer("shop-with-database");
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object outcome) {
                return (LocalTransactionState) outcome; // in earnest: write to the database here
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return LocalTransactionState.COMMIT_MESSAGE; // in earnest: look whether the database has the order
            }
        });
        producer.start();
        send(producer, "order 1, paid", LocalTransactionState.COMMIT_MESSAGE);
        send(producer, "order 2, card refused", LocalTransactionState.ROLLBACK_MESSAGE);
        send(producer, "order 3, crash after payment", LocalTransactionState.UNKNOW);

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("logistics");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPollNameServerInterval(500); // the topic is new, and has no queue until a message commits
        consumer.subscribe("JavaPayments", "*");
        Set<String> delivered = new ConcurrentSkipListSet<>();
        CountDownLatch all = new CountDownLatch(2);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                delivered.add(new String(message.getBody()));
                all.countDown();
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        all.await();
        System.out.println("delivered " + delivered);

        consumer.shutdown();
        producer.shutdown();
    }

    private static void send(TransactionMQProducer producer, String text, LocalTransactionState outcome) throws Exception {
        producer.sendMessageInTransaction(new Message("JavaPayments", text.getBytes()), outcome);
    }
}
