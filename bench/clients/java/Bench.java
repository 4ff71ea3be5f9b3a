import java.nio.ByteBuffer;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.*;
import org.apache.rocketmq.client.producer.*;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.*;

/**
 * The loads of {@code apogeemq bench} through Apache's Java client, with the same words and the same line of JSON. The topic exists.
 *
 * <pre>
 * send --window N [--connections N] [--batch N]     closed loop; each connection is a producer of its own
 * e2e --rate N                                      from the intended send to the listener
 * recv --batch N                                    the backlog, from its first message on
 * </pre>
 */
public class Bench {
    static final long SECOND = 1_000_000_000L;
    static final Map<String, String> options = new HashMap<>();

    static String text(String name) { return Objects.requireNonNull(options.get(name), "--" + name); }

    static int number(String name, int otherwise) { return Integer.parseInt(options.getOrDefault(name, String.valueOf(otherwise))); }

    /** What was measured between {@code from} and {@code to}, in the clock of System.nanoTime. */
    static final class Measured {
        final long from, to;
        final int[] micros = new int[1 << 25];
        final AtomicInteger answers = new AtomicInteger();
        final AtomicLong errors = new AtomicLong();
        volatile String error = "";

        Measured(long from, long to) { this.from = from; this.to = to; }

        void add(long took, long now) {
            if (now < from || now >= to) return;
            int at = answers.getAndIncrement();
            if (at < micros.length) micros[at] = (int) Math.min(took / 1000, Integer.MAX_VALUE);
        }

        void failed(Throwable cause) {
            errors.incrementAndGet();
            error = String.valueOf(cause).replaceAll("[\"\\\\\\p{Cntrl}]", " ");
        }

        /** {@code each}: messages of one answer; CPU in seconds. */
        String report(double seconds, int each, double serverCpu, double ownCpu) {
            int[] sorted = Arrays.copyOf(micros, Math.min(answers.get(), micros.length));
            Arrays.sort(sorted);
            double messages = Math.max(1, (double) answers.get() * each);
            return String.format(Locale.ROOT, "{\"messages_per_s\":%.1f,\"errors\":%d,\"error_texts\":[\"%s\"],\"latency_ms\":{%s},"
                + "\"own_cpu_s_per_million\":%.3f,\"server\":{\"cpu_s_per_million\":%.3f,\"anonymous_rss_mb\":%.1f}}",
                messages / seconds, errors.get(), error, latencies(sorted), ownCpu * 1e6 / messages, serverCpu * 1e6 / messages, memory());
        }

        static String latencies(int[] sorted) {
            StringJoiner parts = new StringJoiner(",");
            double[] shares = {0.5, 0.99, 0.999, 1};
            String[] names = {"p50", "p99", "p99.9", "max"};
            for (int n = 0; n < shares.length && sorted.length > 0; n++)
                parts.add(String.format(Locale.ROOT, "\"%s\":%.3f", names[n], sorted[Math.min(sorted.length - 1, (int) (sorted.length * shares[n]))] / 1e3));
            return parts.toString();
        }
    }

    /** User and system time of a process so far, in seconds. */
    static double cpu(String pid) throws Exception {
        String stat = Files.readString(Path.of("/proc", pid, "stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) / 100.0;
    }

    static double memory() {
        try {
            for (String line : Files.readAllLines(Path.of("/proc", text("pid"), "status")))
                if (line.startsWith("RssAnon:")) return Long.parseLong(line.replaceAll("\\D", "")) / 1024.0;
        } catch (java.io.IOException gone) {
            throw new java.io.UncheckedIOException(gone);
        }
        return 0;
    }

    public static void main(String[] words) {
        int code = 0;
        try {
            for (int at = 1; at + 1 < words.length; at += 2) options.put(words[at].replaceFirst("^--", ""), words[at + 1]);
            System.out.println(switch (words[0]) {
                case "send" -> send();
                case "e2e" -> e2e();
                case "recv" -> recv();
                default -> throw new IllegalArgumentException(words[0]);
            });
        } catch (Throwable failed) {
            failed.printStackTrace();
            code = 1;
        }
        System.out.flush();
        // Threads of the client must not keep the process.
        Runtime.getRuntime().halt(code);
    }

    static DefaultMQProducer producer(int number) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("bench-senders");
        producer.setNamesrvAddr(text("namesrv"));
        producer.setInstanceName("bench" + number);
        producer.start();
        return producer;
    }

    static DefaultMQPushConsumer consumer(int batch, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("bench-readers-" + System.nanoTime());
        consumer.setNamesrvAddr(text("namesrv"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPullBatchSize(batch);
        consumer.setConsumeMessageBatchMaxSize(batch);
        consumer.subscribe(text("topic"), "*");
        consumer.registerMessageListener(listener);
        consumer.start();
        return consumer;
    }

    static Measured measured() {
        long from = System.nanoTime() + number("warmup", 3) * SECOND;
        return new Measured(from, from + number("seconds", 10) * SECOND);
    }

    static void sleepUntil(long time) {
        for (long left; (left = time - System.nanoTime()) > 0; ) LockSupport.parkNanos(left);
    }

    static SendCallback whenSent(Measured measured, long begun, Runnable then) {
        return new SendCallback() {
            @Override public void onSuccess(SendResult result) {
                long now = System.nanoTime();
                if (result.getSendStatus() == SendStatus.SEND_OK) measured.add(now - begun, now);
                else measured.failed(new IllegalStateException(result.getSendStatus().name()));
                then.run();
            }
            @Override public void onException(Throwable error) { measured.failed(error); then.run(); }
        };
    }

    static String send() throws Exception {
        int window = number("window", 64), batch = number("batch", 1), connections = number("connections", 1);
        byte[] body = new byte[number("size", 1024)];
        List<DefaultMQProducer> producers = new ArrayList<>();
        for (int n = 0; n < connections; n++) producers.add(producer(n));
        Measured measured = measured();
        List<Thread> threads = new ArrayList<>();
        for (DefaultMQProducer producer : producers) {
            Thread thread = new Thread(() -> loop(producer, body, window, batch, measured));
            thread.start();
            threads.add(thread);
        }
        sleepUntil(measured.from);
        double server = cpu(text("pid")), own = cpu("self");
        sleepUntil(measured.to);
        String report = measured.report(number("seconds", 10), batch, cpu(text("pid")) - server, cpu("self") - own);
        for (Thread thread : threads) thread.join();
        return report;
    }

    static void loop(DefaultMQProducer producer, byte[] body, int window, int batch, Measured measured) {
        Semaphore free = new Semaphore(window);
        try {
            while (System.nanoTime() < measured.to) {
                if (window == 1 && batch == 1) {
                    long begun = System.nanoTime();
                    SendResult result = producer.send(new Message(text("topic"), body));
                    if (result.getSendStatus() != SendStatus.SEND_OK) throw new IllegalStateException(result.getSendStatus().name());
                    measured.add(System.nanoTime() - begun, System.nanoTime());
                    continue;
                }
                free.acquire();
                SendCallback done = whenSent(measured, System.nanoTime(), free::release);
                if (batch == 1) {
                    producer.send(new Message(text("topic"), body), done);
                    continue;
                }
                List<Message> messages = new ArrayList<>(batch);
                for (int n = 0; n < batch; n++) messages.add(new Message(text("topic"), body));
                producer.send(messages, done);
            }
            free.tryAcquire(window, 10, TimeUnit.SECONDS);
        } catch (Exception failed) {
            measured.failed(failed);
        }
    }

    static String e2e() throws Exception {
        AtomicReference<Measured> begun = new AtomicReference<>();
        AtomicLong sent = new AtomicLong(), arrived = new AtomicLong();
        CountDownLatch reads = new CountDownLatch(1);
        consumer(32, (messages, context) -> {
            long now = System.nanoTime();
            for (MessageExt message : messages) {
                if (message.getTags() != null) { reads.countDown(); continue; }
                begun.get().add(now - ByteBuffer.wrap(message.getBody()).getLong(), now);
                arrived.incrementAndGet();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        DefaultMQProducer producer = producer(0);
        // Until the consumer has its queues, which takes up to half a minute if it knew no route at its start.
        for (int tries = 0; !reads.await(1, TimeUnit.SECONDS) && tries < 60; tries++) producer.send(new Message(text("topic"), "probe", new byte[1]));
        Measured measured = measured();
        begun.set(measured);
        Thread pace = new Thread(() -> pace(producer, measured, sent));
        pace.start();
        sleepUntil(measured.from);
        double server = cpu(text("pid")), own = cpu("self");
        sleepUntil(measured.to);
        double[] used = {cpu(text("pid")) - server, cpu("self") - own};
        pace.join();
        for (int tries = 0; arrived.get() < sent.get() && tries < 100; tries++) Thread.sleep(100);
        if (arrived.get() < sent.get()) measured.failed(new IllegalStateException(sent.get() - arrived.get() + " messages did not arrive"));
        return measured.report(number("seconds", 10), 1, used[0], used[1]);
    }

    static void pace(DefaultMQProducer producer, Measured measured, AtomicLong sent) {
        long rate = number("rate", 2000), start = System.nanoTime();
        try {
            for (long n = 0; ; n++) {
                long due = start + n * SECOND / rate;
                if (due >= measured.to) return;
                sleepUntil(due);
                ByteBuffer body = ByteBuffer.allocate(Math.max(8, number("size", 1024))).putLong(0, due);
                producer.send(new Message(text("topic"), body.array()), new SendCallback() {
                    @Override public void onSuccess(SendResult result) { sent.incrementAndGet(); }
                    @Override public void onException(Throwable error) { measured.failed(error); }
                });
            }
        } catch (Exception failed) {
            measured.failed(failed);
        }
    }

    static String recv() throws Exception {
        Measured measured = new Measured(Long.MIN_VALUE, Long.MAX_VALUE);
        AtomicLong first = new AtomicLong(), last = new AtomicLong();
        double server = cpu(text("pid")), own = cpu("self");
        consumer(number("batch", 32), (messages, context) -> {
            long now = System.nanoTime();
            first.compareAndSet(0, now);
            last.set(now);
            measured.answers.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        long begun = System.nanoTime();
        // It is over when nothing came for a second.
        while (System.nanoTime() - (last.get() == 0 ? begun + 60 * SECOND : last.get()) < SECOND) Thread.sleep(20);
        return measured.report((last.get() - first.get()) / 1e9, 1, cpu(text("pid")) - server, cpu("self") - own);
    }
}
