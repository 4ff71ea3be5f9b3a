import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.rocketmq.client.apis.*;
import org.apache.rocketmq.client.apis.consumer.*;
import org.apache.rocketmq.client.apis.message.*;
import org.apache.rocketmq.client.apis.producer.*;

/**
 * Scenarios with the published Java SDK of the gRPC protocol: {@code Scenarios LABEL ENDPOINT plain|tls SUFFIX [NAME…]}. Topics and groups
 * exist, see {@code run}: their names end with SUFFIX. All scenarios run at the same time, each with a topic and groups of its own; one line
 * per scenario.
 */
public class Scenarios {
    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    static final Duration SOON = Duration.ofSeconds(120);
    static ClientConfiguration conf;
    static String suffix;

    interface Scenario { void run() throws Exception; }

    static class Failed extends RuntimeException { Failed(String text) { super(text); } }

    static void check(boolean holds, String what) { if (!holds) throw new Failed(what); }

    static String name(String base) { return base + suffix; }

    static Producer producer(String topic, TransactionChecker checker) throws Exception {
        ProducerBuilder builder = PROVIDER.newProducerBuilder().setClientConfiguration(conf).setTopics(topic);
        return (checker == null ? builder : builder.setTransactionChecker(checker)).build();
    }

    static SimpleConsumer simple(String topic, String group, FilterExpression filter) throws Exception {
        return PROVIDER.newSimpleConsumerBuilder().setClientConfiguration(conf).setConsumerGroup(group)
            .setAwaitDuration(Duration.ofSeconds(5)).setSubscriptionExpressions(Map.of(topic, filter)).build();
    }

    static PushConsumer push(String topic, String group, MessageListener listener) throws Exception {
        return PROVIDER.newPushConsumerBuilder().setClientConfiguration(conf).setConsumerGroup(group)
            .setSubscriptionExpressions(Map.of(topic, FilterExpression.SUB_ALL)).setMessageListener(listener).build();
    }

    static MessageBuilder message(String topic, String body) {
        return PROVIDER.newMessageBuilder().setTopic(topic).setBody(body.getBytes(StandardCharsets.UTF_8));
    }

    static String body(MessageView view) { return StandardCharsets.UTF_8.decode(view.getBody()).toString(); }

    /** Receives until the condition holds; acknowledges everything. */
    static List<MessageView> receive(SimpleConsumer consumer, int count) throws Exception {
        List<MessageView> got = new ArrayList<>();
        long end = System.nanoTime() + SOON.toNanos();
        while (got.size() < count) {
            check(System.nanoTime() < end, "received " + got.size() + " of " + count);
            for (MessageView view : consumer.receive(16, Duration.ofSeconds(30))) {
                got.add(view);
                consumer.ack(view);
            }
        }
        return got;
    }

    /** The message with this body; others are acknowledged. */
    static MessageView find(SimpleConsumer consumer, String body) throws Exception {
        long end = System.nanoTime() + SOON.toNanos();
        while (true) {
            check(System.nanoTime() < end, "not received: " + body);
            for (MessageView view : consumer.receive(1, Duration.ofSeconds(60))) {
                if (body(view).equals(body)) return view;
                consumer.ack(view);
            }
        }
    }

    static void await(String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + SOON.toNanos();
        while (!holds.call()) {
            check(System.nanoTime() < end, "not in time: " + what);
            Thread.sleep(20);
        }
    }

    /** A new group begins with the last message of each queue: its first receives say where that is. */
    static SimpleConsumer begun(String topic, String group, FilterExpression filter) throws Exception {
        SimpleConsumer consumer = simple(topic, group, filter);
        for (List<MessageView> old = consumer.receive(16, Duration.ofSeconds(30)); !old.isEmpty(); old = consumer.receive(16, Duration.ofSeconds(30)))
            for (MessageView view : old) consumer.ack(view);
        return consumer;
    }

    static void normal() throws Exception {
        String topic = name("normal");
        try (SimpleConsumer consumer = begun(topic, name("g-normal"), FilterExpression.SUB_ALL); Producer producer = producer(topic, null)) {
            SendReceipt receipt = producer.send(message(topic, "hello").setTag("a").setKeys("k1", "k2").addProperty("own", "v").build());
            MessageView view = receive(consumer, 1).get(0);
            check(view.getMessageId().equals(receipt.getMessageId()), "message id");
            check(body(view).equals("hello") && view.getTag().get().equals("a") && view.getProperties().get("own").equals("v"), "content");
            check(new HashSet<>(view.getKeys()).equals(Set.of("k1", "k2")) && view.getDeliveryAttempt() == 1, "keys");
            List<CompletableFuture<SendReceipt>> sent = new ArrayList<>();
            for (int n = 0; n < 100; n++) sent.add(producer.sendAsync(message(topic, "n" + n).build()));
            for (CompletableFuture<SendReceipt> one : sent) one.get();
            Set<String> bodies = new HashSet<>();
            receive(consumer, 100).forEach(got -> bodies.add(body(got)));
            check(bodies.size() == 100, "100 different messages");
            String large = "x".repeat(1 << 20);
            producer.send(message(topic, large).build());
            check(body(receive(consumer, 1).get(0)).equals(large), "a large message");
        }
    }

    static void changeInvisible() throws Exception {
        String topic = name("change");
        try (SimpleConsumer consumer = begun(topic, name("g-change"), FilterExpression.SUB_ALL); Producer producer = producer(topic, null)) {
            producer.send(message(topic, "later").build());
            MessageView first = find(consumer, "later");
            consumer.changeInvisibleDuration(first, Duration.ofSeconds(1));
            MessageView again = find(consumer, "later");
            consumer.ack(again);
            check(again.getMessageId().equals(first.getMessageId()) && again.getDeliveryAttempt() == 2, "delivered again, attempt " + again.getDeliveryAttempt());
        }
    }

    static void filters() throws Exception {
        String topic = name("filter");
        try (SimpleConsumer tags = begun(topic, name("g-tags"), new FilterExpression("a || b", FilterExpressionType.TAG));
             SimpleConsumer sql = begun(topic, name("g-sql"), new FilterExpression("n > 1", FilterExpressionType.SQL92));
             Producer producer = producer(topic, null)) {
            int n = 0;
            for (String tag : List.of("a", "b", "c")) producer.send(message(topic, tag).setTag(tag).addProperty("n", String.valueOf(n++)).build());
            Set<String> got = new TreeSet<>();
            receive(tags, 2).forEach(view -> got.add(body(view)));
            check(got.equals(Set.of("a", "b")), "by tags " + got);
            check(body(receive(sql, 1).get(0)).equals("c"), "by SQL");
        }
    }

    static void delayAndRecall() throws Exception {
        String topic = name("delay");
        try (SimpleConsumer consumer = begun(topic, name("g-delay"), FilterExpression.SUB_ALL); Producer producer = producer(topic, null)) {
            long due = System.currentTimeMillis() + 4_000;
            SendReceipt gone = producer.send(message(topic, "recalled").setDeliveryTimestamp(due).build());
            producer.send(message(topic, "kept").setDeliveryTimestamp(due).build());
            RecallReceipt recalled = producer.recallMessage(topic, gone.getRecallHandle());
            check(recalled.getMessageId().equals(gone.getMessageId()), "recalled id");
            MessageView view = receive(consumer, 1).get(0);
            check(body(view).equals("kept"), "only the other one: " + body(view));
            check(System.currentTimeMillis() >= due, "not early");
        }
    }

    static void transactions() throws Exception {
        String topic = name("transaction");
        Set<String> asked = ConcurrentHashMap.newKeySet();
        TransactionChecker checker = view -> {
            asked.add(body(view));
            return body(view).equals("orphan-commit") ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
        };
        try (SimpleConsumer consumer = begun(topic, name("g-transaction"), FilterExpression.SUB_ALL); Producer producer = producer(topic, checker)) {
            for (String body : List.of("commit", "rollback", "orphan-commit", "orphan-rollback")) {
                Transaction transaction = producer.beginTransaction();
                producer.send(message(topic, body).build(), transaction);
                if (body.equals("commit")) transaction.commit();
                if (body.equals("rollback")) transaction.rollback();
            }
            Set<String> got = new TreeSet<>();
            receive(consumer, 2).forEach(view -> got.add(body(view)));
            check(got.equals(Set.of("commit", "orphan-commit")), "committed " + got);
            await("both orphans are asked for", () -> asked.equals(Set.of("orphan-commit", "orphan-rollback")));
        }
    }

    static void pushConsumer() throws Exception {
        String topic = name("push");
        Set<String> got = ConcurrentHashMap.newKeySet();
        AtomicInteger attempts = new AtomicInteger();
        MessageListener listener = view -> {
            if (body(view).equals("warm")) { got.add("warm"); return ConsumeResult.SUCCESS; }
            if (body(view).equals("failing") && view.getDeliveryAttempt() < 3) { attempts.incrementAndGet(); return ConsumeResult.FAILURE; }
            got.add(body(view));
            return ConsumeResult.SUCCESS;
        };
        try (Producer producer = producer(topic, null); PushConsumer consumer = push(topic, name("g-push"), listener)) {
            await("the consumer begins", () -> { producer.send(message(topic, "warm").build()); Thread.sleep(200); return got.contains("warm"); });
            for (int n = 0; n < 50; n++) producer.send(message(topic, "n" + n).build());
            producer.send(message(topic, "failing").build());
            await("all are consumed", () -> got.size() == 52);
            check(attempts.get() == 2, "failed twice: " + attempts);
        }
    }

    /** Takes longer for a message than that is invisible: with ApogeeMQ 3 s, see run. */
    static void slowConsumer() throws Exception {
        String topic = name("slow");
        Map<String, AtomicInteger> got = new ConcurrentHashMap<>();
        MessageListener listener = view -> {
            got.computeIfAbsent(body(view), x -> new AtomicInteger()).incrementAndGet();
            if (body(view).equals("slow")) {
                try { Thread.sleep(10_000); } catch (InterruptedException ended) { return ConsumeResult.FAILURE; }
                got.put("done", new AtomicInteger());
            }
            return ConsumeResult.SUCCESS;
        };
        try (Producer producer = producer(topic, null); PushConsumer consumer = push(topic, name("g-slow"), listener)) {
            await("the consumer begins", () -> { producer.send(message(topic, "warm").build()); Thread.sleep(200); return got.containsKey("warm"); });
            producer.send(message(topic, "slow").build());
            await("it is consumed", () -> got.containsKey("done"));
            Thread.sleep(5_000);
            check(got.get("slow").get() == 1, "delivered once: " + got.get("slow"));
        }
    }

    static void fifo() throws Exception {
        String topic = name("fifo");
        Map<String, List<Integer>> got = new ConcurrentHashMap<>();
        Set<String> failed = ConcurrentHashMap.newKeySet();
        MessageListener listener = view -> {
            String[] parts = body(view).split("-");
            if (parts[0].equals("warm")) { got.computeIfAbsent("warm", x -> new CopyOnWriteArrayList<>()).add(0); return ConsumeResult.SUCCESS; }
            if (parts[1].equals("3") && failed.add(body(view))) return ConsumeResult.FAILURE;
            got.computeIfAbsent(parts[0], x -> new CopyOnWriteArrayList<>()).add(Integer.parseInt(parts[1]));
            return ConsumeResult.SUCCESS;
        };
        try (Producer producer = producer(topic, null); PushConsumer consumer = push(topic, name("g-fifo"), listener)) {
            await("the consumer begins", () -> {
                for (int n = 0; n < 8; n++) producer.send(message(topic, "warm-0").setMessageGroup("w" + n).build());
                Thread.sleep(300);
                return got.containsKey("warm");
            });
            List<Integer> expected = new ArrayList<>();
            for (int n = 0; n < 10; n++) {
                expected.add(n);
                for (String group : List.of("a", "b", "c")) producer.send(message(topic, group + "-" + n).setMessageGroup(group).build());
            }
            for (String group : List.of("a", "b", "c")) {
                await("all of group " + group, () -> got.containsKey(group) && got.get(group).size() >= 10);
                check(got.get(group).equals(expected), "in order " + group + " " + got.get(group));
            }
        }
    }

    /** The group retries once. */
    static void deadLetters() throws Exception {
        String topic = name("dead"), group = name("g-dead");
        AtomicInteger attempts = new AtomicInteger();
        AtomicBoolean warm = new AtomicBoolean();
        MessageListener listener = view -> {
            if (body(view).equals("warm")) { warm.set(true); return ConsumeResult.SUCCESS; }
            attempts.incrementAndGet();
            return ConsumeResult.FAILURE;
        };
        try (Producer producer = producer(topic, null); PushConsumer consumer = push(topic, group, listener)) {
            await("the consumer begins", () -> { producer.send(message(topic, "warm").build()); Thread.sleep(200); return warm.get(); });
            producer.send(message(topic, "failing").build());
            await("it failed twice", () -> attempts.get() >= 2);
            Thread.sleep(5_000);
            check(attempts.get() == 2, "no third attempt: " + attempts);
        }
    }

    static void wrongUse() throws Exception {
        String topic = name("wrong");
        try (Producer producer = producer(topic, null)) {
            try {
                producer.send(message(topic, "x").setMessageGroup("g").build());
                throw new Failed("a message of another type was stored");
            } catch (IllegalArgumentException | ClientException expected) { }
        }
        try (SimpleConsumer consumer = begun(topic, name("g-wrong"), FilterExpression.SUB_ALL); Producer producer = producer(topic, null)) {
            producer.send(message(topic, "wrong").build());
            MessageView view = null;
            while (view == null) for (MessageView one : consumer.receive(1, Duration.ofSeconds(10))) view = one;
            MessageView expired = view;
            Thread.sleep(12_000);
            try {
                consumer.ack(expired);
                throw new Failed("an expired handle was taken");
            } catch (ClientException expected) {
                check(expected.toString().toLowerCase().matches("(?s).*(expired|handle).*"), expected.toString());
            }
            receive(consumer, 1);
        }
    }

    static boolean passes(String label, String name, Scenario scenario) {
        long begun = System.nanoTime();
        String why = null;
        try {
            scenario.run();
        } catch (Throwable error) {
            why = error.toString();
            if (!(error instanceof Failed)) error.printStackTrace();
        }
        String line = String.format("%s %s [%s] (%.1f s)", why == null ? "ok  " : "FAIL", name, label, (System.nanoTime() - begun) / 1e9);
        System.out.println(why == null ? line : line + "\n       " + why);
        return why == null;
    }

    public static void main(String[] arguments) throws Exception {
        String label = arguments[0];
        conf = ClientConfiguration.newBuilder().setEndpoints(arguments[1]).enableSsl(arguments[2].equals("tls"))
            .setRequestTimeout(Duration.ofSeconds(10)).build();
        suffix = arguments[3];
        Map<String, Scenario> all = new LinkedHashMap<>();
        all.put("normal", Scenarios::normal);
        all.put("changeInvisible", Scenarios::changeInvisible);
        all.put("filters", Scenarios::filters);
        all.put("delayAndRecall", Scenarios::delayAndRecall);
        all.put("transactions", Scenarios::transactions);
        all.put("pushConsumer", Scenarios::pushConsumer);
        all.put("slowConsumer", Scenarios::slowConsumer);
        all.put("fifo", Scenarios::fifo);
        all.put("deadLetters", Scenarios::deadLetters);
        all.put("wrongUse", Scenarios::wrongUse);
        try {
            all.put("lite", (Scenario) Class.forName("Lite").getConstructor().newInstance());
        } catch (ClassNotFoundException old) {
            // The SDK has no lite topics.
        }
        if (List.of(arguments).contains("lostMasters")) all.put("lostMasters", new LostMasters());
        all.keySet().removeAll(Set.of(System.getenv().getOrDefault("WITHOUT", "").split(",")));
        List<String> wanted = List.of(arguments).subList(4, arguments.length);
        if (!wanted.isEmpty()) all.keySet().retainAll(wanted);
        ExecutorService threads = Executors.newFixedThreadPool(Math.max(1, all.size()));
        List<Future<Boolean>> outcomes = new ArrayList<>();
        all.forEach((name, scenario) -> outcomes.add(threads.submit(() -> passes(label, name, scenario))));
        boolean passed = true;
        for (Future<Boolean> outcome : outcomes) passed &= outcome.get();
        System.exit(passed ? 0 : 1);
    }
}
