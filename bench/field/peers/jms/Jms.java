import jakarta.jms.*;

/** What the clients of Jakarta Messaging have in common. */
abstract class Jms implements Peer {
    private final ConnectionFactory factory;
    private final String queue;
    protected Session session;
    protected MessageProducer producer;

    Jms(ConnectionFactory factory, String queue) {
        this.factory = factory;
        this.queue = queue;
    }

    /** A queue is made by its first use. */
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

    protected Message message(byte[] body) throws JMSException {
        BytesMessage message = session.createBytesMessage();
        message.writeBytes(body);
        return message;
    }

    public void consume(Sink sink) throws Exception {
        Session reading = session(Session.DUPS_OK_ACKNOWLEDGE);
        reading.createConsumer(reading.createQueue(queue)).setMessageListener(message -> {
            try { sink.take(message.getBody(byte[].class)); } catch (Exception e) { throw new RuntimeException(e); }
        });
    }

    public void close() { }
}
