import com.rabbitmq.client.*;
import java.io.IOException;
import java.util.*;
import java.util.concurrent.*;

public class Rabbit implements Peer {
    private final ConnectionFactory factory = new ConnectionFactory();
    private final String queue;
    private final ConcurrentNavigableMap<Long, Sent> open = new ConcurrentSkipListMap<>();
    private Channel channel;

    public Rabbit(String address, String queue) {
        factory.setHost(address.split(":")[0]);
        factory.setPort(Integer.parseInt(address.split(":")[1]));
        this.queue = queue;
    }

    private Channel channel() throws Exception { return factory.newConnection().createChannel(); }

    public void create() throws Exception { channel().queueDeclare(queue, true, false, false, null); }

    public void startSending() throws Exception {
        channel = channel();
        channel.confirmSelect();
        channel.addConfirmListener((tag, multiple) -> ended(tag, multiple, null), (tag, multiple) -> ended(tag, multiple, new IOException("refused")));
    }

    private void ended(long tag, boolean multiple, Throwable error) {
        if (!multiple) { open.remove(tag).done(error); return; }
        Map<Long, Sent> all = open.headMap(tag, true);
        all.values().forEach(sent -> sent.done(error));
        all.clear();
    }

    public synchronized void send(byte[] body, Sent sent) throws Exception {
        open.put(channel.getNextPublishSeqNo(), sent);
        channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, body);
    }

    public void consume(Sink sink) throws Exception {
        Channel reading = channel();
        reading.basicQos(256);
        reading.basicConsume(queue, false, new DefaultConsumer(reading) {
            @Override public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) throws IOException {
                try { sink.take(body); } catch (Exception e) { throw new IOException(e); }
                // One acknowledgement for 32, as clients in a hurry do.
                if (envelope.getDeliveryTag() % 32 == 0) reading.basicAck(envelope.getDeliveryTag(), true);
            }
        });
    }

    public void close() { }
}
