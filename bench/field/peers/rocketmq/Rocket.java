import java.util.*;
import org.apache.rocketmq.client.consumer.*;
import org.apache.rocketmq.client.consumer.listener.*;
import org.apache.rocketmq.client.producer.*;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.*;

/** Of Apache's broker and of ApogeeMQ. */
public class Rocket implements Peer {
    private final String namesrv, topic;
    private DefaultMQProducer producer;

    public Rocket(String namesrv, String topic) { this.namesrv = namesrv; this.topic = topic; }

    public void create() throws Exception {
        startSending();
        producer.createTopic("TBW102", topic, 8, new HashMap<>());
        producer.shutdown();
    }

    public void startSending() throws Exception {
        producer = new DefaultMQProducer("field-senders");
        producer.setNamesrvAddr(namesrv);
        producer.start();
    }

    public void send(byte[] body, Sent sent) throws Exception {
        producer.send(new Message(topic, body), new SendCallback() {
            @Override public void onSuccess(SendResult result) {
                sent.done(result.getSendStatus() == SendStatus.SEND_OK ? null : new IllegalStateException(result.getSendStatus().name()));
            }
            @Override public void onException(Throwable error) { sent.done(error); }
        });
    }

    public void consume(Sink sink) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("field-readers");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeMessageBatchMaxSize(32);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                try { sink.take(message.getBody()); } catch (Exception e) { throw new RuntimeException(e); }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    public void close() { }
}
