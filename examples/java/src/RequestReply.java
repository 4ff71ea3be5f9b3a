import java.util.Collections;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * Asks through the queue and waits for the answer. The reply goes to the producer that asked, whoever else uses the topic.
 *
 * Prints:
 *   12 in stock
 */
public class RequestReply {
    public static void main(String[] args) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("shop");
        producer.start();
        producer.createTopic("TBW102", "JavaQuestions", 4, Collections.emptyMap());

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("stock");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaQuestions", "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            try {
                for (Message question : messages) {
                    producer.send(MessageUtil.createReplyMessage(question, "12 in stock".getBytes()));
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            } catch (Exception problem) {
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
        });
        consumer.start();
        Message answer = producer.request(new Message("JavaQuestions", "how many blue shirts?".getBytes()), 30_000);
        System.out.println(new String(answer.getBody()));

        consumer.shutdown();
        producer.shutdown();
    }
}
