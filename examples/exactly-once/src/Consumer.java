import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.util.Collection;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Consumer NAMESRV TOPIC DATABASE: books each payment once. Its offsets are in the database of the balances, not at the broker. */
public final class Consumer {
    public static void main(String[] args) {
        try {
            bookAll(args);
        } catch (Exception failed) {
            // Such as a broker that does not answer yet. Threads of the client would keep the process: it ends, so that it is started again.
            failed.printStackTrace();
            System.exit(1);
        }
    }

    private static void bookAll(String[] args) throws Exception {
        Connection database = DriverManager.getConnection("jdbc:sqlite:" + args[2] + "?busy_timeout=10000");
        database.createStatement().execute("create table if not exists balances (account text primary key, cents int, payments int)");
        database.createStatement().execute("create table if not exists offsets (queue text primary key, next int)");
        database.setAutoCommit(false);

        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer("booking");
        consumer.setNamesrvAddr(args[0]);
        consumer.setAutoCommit(false);
        consumer.start();
        Collection<MessageQueue> queues = consumer.fetchMessageQueues(args[1]);
        consumer.assign(queues);
        for (MessageQueue queue : queues) {
            consumer.seek(queue, next(database, queue.getBrokerName() + "/" + queue.getQueueId()));
        }
        while (true) {
            List<MessageExt> messages = consumer.poll(1000);
            if (messages.isEmpty()) {
                continue;
            }
            for (MessageExt message : messages) {
                if (isNew(database, message.getBrokerName() + "/" + message.getQueueId(), message.getQueueOffset())) {
                    book(database, new String(message.getBody()).split(" "));
                }
            }
            database.commit(); // results and offsets: both or neither
            System.out.println("booked " + messages.size());
        }
    }

    private static long next(Connection database, String queue) throws Exception {
        try (PreparedStatement sql = database.prepareStatement("select next from offsets where queue = ?")) {
            sql.setString(1, queue);
            ResultSet row = sql.executeQuery();
            return row.next() ? row.getLong(1) : 0;
        }
    }

    /** Moves the offset on; false if another consumer, or this one before a second delivery, has done so. */
    private static boolean isNew(Connection database, String queue, long offset) throws Exception {
        String text = "insert into offsets values (?, ?) on conflict (queue) do update set next = excluded.next where next < excluded.next";
        try (PreparedStatement sql = database.prepareStatement(text)) {
            sql.setString(1, queue);
            sql.setLong(2, offset + 1);
            return sql.executeUpdate() == 1;
        }
    }

    private static void book(Connection database, String[] payment) throws Exception {
        String text = "insert into balances values (?, ?, 1) on conflict (account) do update set cents = cents + excluded.cents, payments = payments + 1";
        try (PreparedStatement sql = database.prepareStatement(text)) {
            sql.setString(1, payment[0]);
            sql.setLong(2, Long.parseLong(payment[1]));
            sql.executeUpdate();
        }
    }
}
