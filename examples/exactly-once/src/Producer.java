import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * Producer NAMESRV TOPIC DATABASE: sends what is in the outbox table. Killed between a send and its note, it sends that payment again: the topic
 * (dedup.by=KEYS) recognises the number of the payment.
 */
public final class Producer {
    public static void main(String[] args) {
        try {
            sendAll(args);
            // A thread of the client may outlive its end, if the broker went away meanwhile.
            System.exit(0);
        } catch (Exception failed) {
            failed.printStackTrace();
            System.exit(1);
        }
    }

    private static void sendAll(String[] args) throws Exception {
        Connection database = DriverManager.getConnection("jdbc:sqlite:" + args[2] + "?busy_timeout=10000");
        DefaultMQProducer producer = new DefaultMQProducer("payments");
        producer.setNamesrvAddr(args[0]);
        producer.start();
        PreparedStatement sent = database.prepareStatement("update outbox set sent = 1 where id = ?");
        for (String[] payment : waiting(database)) {
            Message message = new Message(args[1], null, "payment-" + payment[0], (payment[1] + " " + payment[2]).getBytes());
            while (!isSent(producer, message)) {
                Thread.sleep(50); // the broker is away: the same message again
            }
            sent.setString(1, payment[0]);
            sent.executeUpdate();
            System.out.println("sent " + payment[0]);
        }
        producer.shutdown();
    }

    private static boolean isSent(DefaultMQProducer producer, Message message) throws InterruptedException {
        try {
            return producer.send(message).getSendStatus() == SendStatus.SEND_OK;
        } catch (InterruptedException stopped) {
            throw stopped;
        } catch (Exception unknown) {
            return false; // it may be stored or not
        }
    }

    private static List<String[]> waiting(Connection database) throws Exception {
        List<String[]> payments = new ArrayList<>();
        ResultSet row = database.createStatement().executeQuery("select id, account, cents from outbox where sent = 0 order by id");
        while (row.next()) {
            payments.add(new String[] {row.getString(1), row.getString(2), row.getString(3)});
        }
        return payments;
    }
}
