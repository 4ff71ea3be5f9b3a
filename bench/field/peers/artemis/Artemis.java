import jakarta.jms.*;
import org.apache.activemq.artemis.jms.client.ActiveMQConnectionFactory;

public class Artemis implements Peer {
    private final ActiveMQConnectionFactory factory;
    private final String queue;
    private Session session;
    private MessageProducer producer;

    public Artemis(String address, String queue) {
        factory = new ActiveMQConnectionFactory("tcp://" + address + "?confirmationWindowSize=1048576");
        this.queue = queue;
    }

    public void create() { }

    private Session session(int acknowledge) throws JMSException {
        Connection connection = factory.createConnection();
        connection.start();
        return connection.createSession(false, acknowledge);
    }

    public void startSending() throws Exception {
        session = session(Session.AUTO_ACKNOWLEDGE);
        producer = session.createProducer(session.createQueue(queue));
        producer.setDeliveryMode(DeliveryMode.PERSISTENT);
    }

    public void send(byte[] body, Sent sent) throws Exception {
        BytesMessage message = session.createBytesMessage();
        message.writeBytes(body);
        producer.send(message, new CompletionListener() {
            @Override public void onCompletion(Message message) { sent.done(null); }
            @Override public void onException(Message message, Exception error) { sent.done(error); }
        });
    }

    public void consume(Sink sink) throws Exception {
        Session reading = session(Session.DUPS_OK_ACKNOWLEDGE);
        reading.createConsumer(reading.createQueue(queue)).setMessageListener(message -> {
            try { sink.take(message.getBody(byte[].class)); } catch (Exception e) { throw new RuntimeException(e); }
        });
    }

    public void close() { }
}
