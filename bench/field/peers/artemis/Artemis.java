import jakarta.jms.*;
import org.apache.activemq.artemis.jms.client.ActiveMQConnectionFactory;

public class Artemis extends Jms {
    public Artemis(String address, String queue) {
        super(new ActiveMQConnectionFactory("tcp://" + address + "?confirmationWindowSize=1048576"), queue);
    }

    public void send(byte[] body, Sent sent) throws Exception {
        producer.send(message(body), new CompletionListener() {
            @Override public void onCompletion(Message message) { sent.done(null); }
            @Override public void onException(Message message, Exception error) { sent.done(error); }
        });
    }
}
