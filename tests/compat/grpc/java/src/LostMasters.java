import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.rocketmq.client.apis.consumer.*;
import org.apache.rocketmq.client.apis.message.*;
import org.apache.rocketmq.client.apis.producer.*;

/**
 * Sends without a pause while masters are lost, and receives all of it. {@code run} loses them: it reads the line {@code sending}, and after each loss writes
 * a line {@code more}, which is answered when more was acknowledged, and at last {@code end}.
 */
public class LostMasters implements Scenarios.Scenario {
    private static final int MORE = 20;
    private static final List<String> GROUPS = List.of("a", "b", "c");

    /** Sends one message after the other; notes what was acknowledged, and the longest time without. */
    private static final class Load {
        final Queue<String> acked = new ConcurrentLinkedQueue<>();
        final AtomicInteger failed = new AtomicInteger();
        volatile boolean isOver;
        private long last, gap;

        boolean send(Producer producer, MessageBuilder message, String body) {
            try {
                producer.send(message.build());
            } catch (Exception refused) {
                failed.incrementAndGet();
                try { Thread.sleep(20); } catch (InterruptedException ended) { return false; }
                return false;
            }
            long now = System.nanoTime();
            if (last != 0) gap = Math.max(gap, now - last);
            last = now;
            acked.add(body);
            return true;
        }

        void more() throws Exception {
            int before = acked.size();
            Scenarios.await("more sends are acknowledged", () -> acked.size() >= before + MORE);
        }

        String said(String what) {
            return String.format("       %s: %d acknowledged, %d failed, none acknowledged for %.2f s at most", what, acked.size(), failed.get(), gap / 1e9);
        }
    }

    private final String topic = Scenarios.name("lost"), ordered = Scenarios.name("lostfifo");
    private final Set<String> received = ConcurrentHashMap.newKeySet();
    /** By group, in the order of their first delivery. */
    private final Map<String, Set<Integer>> inOrder = new ConcurrentHashMap<>();
    private final Load load = new Load(), orderedLoad = new Load();
    private volatile boolean isOver;

    /** Each text once, with the retries of the SDK. */
    private void sendAll(Producer producer) {
        for (int n = 0; !load.isOver; n++) load.send(producer, Scenarios.message(topic, "n" + n), "n" + n);
    }

    /** To each group in turn, each text until it is acknowledged. */
    private void sendInOrder(Producer producer) {
        for (int n = 0; !orderedLoad.isOver; n++)
            for (String group : GROUPS) {
                String body = group + "-" + n;
                while (!orderedLoad.send(producer, Scenarios.message(ordered, body).setMessageGroup(group), body) && !orderedLoad.isOver) { }
            }
    }

    private void receive(SimpleConsumer consumer) {
        while (!isOver) {
            try {
                for (MessageView view : consumer.receive(32, Duration.ofSeconds(10))) acknowledge(consumer, view);
            } catch (Exception lost) {
                try { Thread.sleep(20); } catch (InterruptedException ended) { return; }
            }
        }
    }

    private void acknowledge(SimpleConsumer consumer, MessageView view) {
        try {
            consumer.ack(view);
            received.add(Scenarios.body(view));
        } catch (Exception lost) {
            // It comes again.
        }
    }

    private ConsumeResult take(MessageView view) {
        String[] parts = Scenarios.body(view).split("-");
        inOrder.computeIfAbsent(parts[0], group -> Collections.synchronizedSet(new LinkedHashSet<>())).add(Integer.parseInt(parts[1]));
        return ConsumeResult.SUCCESS;
    }

    private boolean allInOrder() {
        return orderedLoad.acked.stream().map(body -> body.split("-")).allMatch(parts -> inOrder.get(parts[0]).contains(Integer.parseInt(parts[1])));
    }

    @Override public void run() throws Exception {
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ExecutorService threads = Executors.newCachedThreadPool();
        try (SimpleConsumer consumer = Scenarios.begun(topic, Scenarios.name("g-lost"), FilterExpression.SUB_ALL);
             Producer producer = Scenarios.producer(topic, null); Producer orderedProducer = Scenarios.producer(ordered, null);
             PushConsumer orderedConsumer = Scenarios.push(ordered, Scenarios.name("g-lostfifo"), this::take)) {
            Scenarios.await("the consumer in order begins", () -> {
                for (int n = 0; n < 8; n++) orderedProducer.send(Scenarios.message(ordered, "warm-0").setMessageGroup("w" + n).build());
                Thread.sleep(200);
                return inOrder.containsKey("warm");
            });
            threads.execute(() -> receive(consumer));
            threads.execute(() -> sendAll(producer));
            threads.execute(() -> sendInOrder(orderedProducer));
            load.more();
            orderedLoad.more();
            System.out.println("sending");
            while (orders.readLine().equals("more")) {
                load.more();
                orderedLoad.more();
                System.out.println("more");
            }
            load.isOver = orderedLoad.isOver = true;
            Scenarios.await("all are received and acknowledged", () -> received.containsAll(load.acked));
            Scenarios.await("all in order are received", this::allInOrder);
            for (String group : GROUPS) {
                List<Integer> of = new ArrayList<>(inOrder.get(group));
                Scenarios.check(of.equals(new ArrayList<>(new TreeSet<>(of))), "group " + group + " in order: " + of);
            }
            System.out.println(load.said("sends"));
            System.out.println(orderedLoad.said("sends to groups"));
        } finally {
            isOver = load.isOver = orderedLoad.isOver = true;
            threads.shutdownNow();
        }
    }
}
