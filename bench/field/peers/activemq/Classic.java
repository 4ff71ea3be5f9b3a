import jakarta.jms.*;
import org.apache.activemq.*;

public class Classic extends Jms {
    public Classic(String address, String queue) { super(new ActiveMQConnectionFactory("tcp://" + address), queue); }

    public void send(byte[] body, Sent sent) throws Exception {
        ((ActiveMQMessageProducer) producer).send(message(body), new AsyncCallback() {
            @Override public void onSuccess() { sent.done(null); }
            @Override public void onException(JMSException error) { sent.done(error); }
        });
    }
}
