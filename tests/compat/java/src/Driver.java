import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.consumer.ProcessQueue;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * The Java client behind one line of JSON per request: {"id":1,"op":"send","h":"p1",...} gives {"id":1,"ok":{...}} or
 * {"id":1,"error":"...","code":13}. "h" names a client (producer or consumer) started before. Requests run at the same time,
 * each on a thread of its own; the scenario decides what to wait for. One source for every client version: where their
 * packages or signatures differ, reflection is used. "trace" turns the client's own trace on and names the topic, "" the default one.
 * Nothing is asserted here.
 */
public final class Driver {
    // Before an expression that is not of tags.
    private static final String SQL92 = "SQL92:";
    private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().create();
    private static final Map<String, Object> CLIENTS = new ConcurrentHashMap<>();
    private static final Map<String, Inbox> INBOXES = new ConcurrentHashMap<>();
    private static final Object CREATION = new Object();

    private Driver() {
    }

    /** What a request is answered with. */
    interface Operations {
        Object perform(JsonObject request) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        serve(Driver::perform);
    }

    static void serve(Operations operations) throws Exception {
        PrintStream out = System.out;
        System.setOut(System.err);
        ExecutorService threads = Executors.newCachedThreadPool();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8), 1 << 20);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonObject request = GSON.fromJson(line, JsonObject.class);
            threads.execute(() -> answer(request, operations, out));
        }
        Runtime.getRuntime().halt(0);
    }

    private static void answer(JsonObject request, Operations operations, PrintStream out) {
        Map<String, Object> reply = new HashMap<>();
        reply.put("id", request.get("id"));
        try {
            Object result = operations.perform(request);
            reply.put("ok", result == null ? new HashMap<>() : result);
        } catch (Throwable problem) {
            Throwable cause = problem instanceof java.lang.reflect.InvocationTargetException ? problem.getCause() : problem;
            reply.put("error", cause.toString());
            reply.put("code", code(cause));
        }
        byte[] line = (GSON.toJson(reply) + "\n").getBytes(StandardCharsets.UTF_8);
        synchronized (out) {
            out.write(line, 0, line.length);
            out.flush();
        }
    }

    private static Integer code(Throwable problem) {
        for (Throwable t = problem; t != null; t = t.getCause()) {
            if (t instanceof MQBrokerException) {
                return ((MQBrokerException) t).getResponseCode();
            }
            if (t instanceof MQClientException && ((MQClientException) t).getResponseCode() >= 0) {
                return ((MQClientException) t).getResponseCode();
            }
        }
        return null;
    }

    static Object perform(JsonObject r) throws Exception {
        switch (r.get("op").getAsString()) {
            case "producer": return producer(r);
            case "send": return send(r);
            case "recall": return wrap("msg_id", call(client(r), "recallMessage", text(r, "topic"), text(r, "handle")));
            case "ask": return wrap("text", new String(((DefaultMQProducer) client(r)).request(message(r, text(r, "topic")), integer(r, "timeout_ms", 10000)).getBody(), StandardCharsets.UTF_8));
            case "send_batch": return sendBatch(r);
            case "send_many": return sendMany(r);
            case "send_at_rate": return sendAtRate(r);
            case "send_until_stored": return sendUntilStored(r);
            case "transaction_producer": return transactionProducer(r);
            case "send_in_transaction": return sendInTransaction(r);
            case "checked": return wrap("texts", new ArrayList<>(((Outcomes) ((TransactionMQProducer) client(r)).getTransactionListener()).checked));
            case "push": return push(r);
            case "received": return INBOXES.get(handle(r)).wait(integer(r, "from", 0), integer(r, "min", 0), integer(r, "timeout_ms", 10000));
            case "assigned": return assigned(r);
            case "subscribe": ((DefaultMQPushConsumer) client(r)).subscribe(text(r, "topic"), text(r, "sub")); return null;
            case "unsubscribe": ((DefaultMQPushConsumer) client(r)).unsubscribe(text(r, "topic")); return null;
            case "suspend": ((DefaultMQPushConsumer) client(r)).suspend(); return null;
            case "resume": ((DefaultMQPushConsumer) client(r)).resume(); return null;
            case "pull_consumer": return pullConsumer(r);
            case "pull": return pull(r);
            case "commit": return commit(r);
            case "committed": return committed(r);
            case "lite": return lite(r);
            case "assign": ((DefaultLitePullConsumer) client(r)).assign(queues(r)); return null;
            case "poll": return described(((DefaultLitePullConsumer) client(r)).poll(integer(r, "timeout_ms", 1000)));
            case "seek": ((DefaultLitePullConsumer) client(r)).seek(queue(r), r.get("offset").getAsLong()); return null;
            case "seek_begin": ((DefaultLitePullConsumer) client(r)).seekToBegin(queue(r)); return null;
            case "seek_end": ((DefaultLitePullConsumer) client(r)).seekToEnd(queue(r)); return null;
            case "lite_assignment": return queueList(((DefaultLitePullConsumer) client(r)).assignment());
            case "create_topic": return createTopic(r);
            case "publish_queues": return queueList(((DefaultMQProducer) client(r)).fetchPublishMessageQueues(text(r, "topic")));
            case "offsets": return offsets(r);
            case "search": return call(client(r), "searchOffset", queue(r), r.get("timestamp").getAsLong());
            case "view": return described((MessageExt) call(client(r), "viewMessage", text(r, "topic"), text(r, "msg_id")));
            case "query": return query(r);
            case "stop": return stop(r);
            default: throw new UnsupportedOperationException("unsupported: " + r.get("op"));
        }
    }

    // ---- producing --------------------------------------------------------------------------------------------------

    private static Object producer(JsonObject r) throws Exception {
        synchronized (CREATION) { // the compression type of 4.9 and 5.x is a system property read at construction
            System.setProperty("rocketmq.message.compressType", text(r, "compress_type", "ZLIB"));
            start(new DefaultMQProducer(text(r, "group", "producer-" + handle(r)), r.has("trace"), text(r, "trace", null)), r);
        }
        return null;
    }

    private static void start(DefaultMQProducer producer, JsonObject r) throws Exception {
        configure(producer, r);
        producer.setSendMsgTimeout(integer(r, "timeout_ms", 10000));
        producer.setRetryTimesWhenSendFailed(integer(r, "retries", 2));
        producer.setRetryTimesWhenSendAsyncFailed(integer(r, "retries", 2));
        producer.setCompressMsgBodyOverHowmuch(integer(r, "compress_over", 1 << 30));
        producer.setMaxMessageSize(integer(r, "max_size", 4 << 20));
        producer.setDefaultTopicQueueNums(integer(r, "queue_nums", 4));
        producer.start();
        CLIENTS.put(handle(r), producer);
    }

    private static Object transactionProducer(JsonObject r) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(null, text(r, "group"), null, r.has("trace"), text(r, "trace", null));
        producer.setTransactionListener(new Outcomes());
        start(producer, r);
        return null;
    }

    private static Object sendInTransaction(JsonObject r) throws Exception {
        return described(((TransactionMQProducer) client(r)).sendMessageInTransaction(message(r, text(r, "topic")), null));
    }

    /**
     * How transactions end, as their message says. Property "local": commit, rollback, unknown, or never for a local transaction that does
     * not end. Property "check": what checks are answered with, one after the other, the last again and again.
     */
    private static final class Outcomes implements TransactionListener {
        private final List<String> checked = java.util.Collections.synchronizedList(new ArrayList<>());

        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
            String outcome = message.getUserProperty("local");
            while ("never".equals(outcome)) {
                java.util.concurrent.locks.LockSupport.park();
            }
            return state(outcome);
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt message) {
            String text = new String(message.getBody(), StandardCharsets.UTF_8);
            String[] answers = message.getUserProperty("check").split(",");
            synchronized (checked) {
                int before = java.util.Collections.frequency(checked, text);
                checked.add(text);
                return state(answers[Math.min(before, answers.length - 1)]);
            }
        }

        private static LocalTransactionState state(String outcome) {
            switch (outcome) {
                case "commit": return LocalTransactionState.COMMIT_MESSAGE;
                case "rollback": return LocalTransactionState.ROLLBACK_MESSAGE;
                default: return LocalTransactionState.UNKNOW;
            }
        }
    }

    private static void configure(ClientConfig config, JsonObject r) {
        config.setNamesrvAddr(text(r, "namesrv"));
        config.setInstanceName(text(r, "instance", handle(r)));
        config.setPollNameServerInterval(integer(r, "route_ms", 1000));
        config.setHeartbeatBrokerInterval(integer(r, "heartbeat_ms", 5000));
        config.setPersistConsumerOffsetInterval(integer(r, "persist_ms", 1000));
        config.setVipChannelEnabled(flag(r, "vip"));
        config.setUseTLS(flag(r, "tls"));
        config.setMqClientApiTimeout(integer(r, "api_timeout_ms", 3000)); // over it, a heartbeat closes the connection
        if (r.has("unit")) {
            config.setUnitName(text(r, "unit"));
        }
    }

    private static Message message(JsonObject r, String topic) {
        byte[] body = r.has("b64") ? Base64.getDecoder().decode(text(r, "b64")) : text(r, "text", "").getBytes(StandardCharsets.UTF_8);
        Message message = new Message(topic, body);
        if (r.has("tags")) {
            message.setTags(text(r, "tags"));
        }
        if (r.has("keys")) {
            message.setKeys(text(r, "keys"));
        }
        if (r.has("flag")) {
            message.setFlag(r.get("flag").getAsInt());
        }
        if (r.has("delay")) {
            message.setDelayTimeLevel(r.get("delay").getAsInt());
        }
        // Clients before 5.0 cannot say these.
        if (r.has("timer_s")) {
            called(message, "setDelayTimeSec", r.get("timer_s").getAsLong());
        }
        if (r.has("timer_ms")) {
            called(message, "setDelayTimeMs", r.get("timer_ms").getAsLong());
        }
        if (r.has("deliver_ms")) {
            called(message, "setDeliverTimeMs", r.get("deliver_ms").getAsLong());
        }
        if (r.has("raw_props")) {
            r.getAsJsonObject("raw_props").entrySet().forEach(e -> MessageAccessor.putProperty(message, e.getKey(), e.getValue().getAsString()));
        }
        if (r.has("props")) {
            r.getAsJsonObject("props").entrySet().forEach(e -> message.putUserProperty(e.getKey(), e.getValue().getAsString()));
        }
        return message;
    }

    private static Object send(JsonObject r) throws Exception {
        DefaultMQProducer producer = (DefaultMQProducer) client(r);
        Message message = message(r, text(r, "topic"));
        MessageQueue queue = r.has("queue") ? queue(r) : null;
        switch (text(r, "mode", "sync")) {
            case "oneway":
                if (queue == null) {
                    producer.sendOneway(message);
                } else {
                    producer.sendOneway(message, queue);
                }
                return null;
            case "async":
                Waiting waiting = new Waiting(1);
                if (queue == null) {
                    producer.send(message, waiting);
                } else {
                    producer.send(message, queue, waiting);
                }
                return waiting.results().get(0);
            default:
                return described(queue == null ? producer.send(message) : producer.send(message, queue));
        }
    }

    private static Object sendBatch(JsonObject r) throws Exception {
        List<Message> batch = new ArrayList<>();
        for (JsonElement item : r.getAsJsonArray("messages")) {
            batch.add(message(item.getAsJsonObject(), text(r, "topic")));
        }
        DefaultMQProducer producer = (DefaultMQProducer) client(r);
        return described(r.has("queue") ? producer.send(batch, queue(r)) : producer.send(batch));
    }

    /** Texts PREFIX0..PREFIX(n-1), asynchronously one after the other without waiting, or each acknowledged before the next. */
    private static Object sendMany(JsonObject r) throws Exception {
        DefaultMQProducer producer = (DefaultMQProducer) client(r);
        int count = integer(r, "count", 1);
        String prefix = text(r, "prefix", "m");
        MessageQueue queue = r.has("queue") ? queue(r) : null;
        boolean sync = "sync".equals(text(r, "mode", "async"));
        Waiting waiting = new Waiting(count);
        for (int i = 0; i < count; i++) {
            Message message = message(r, text(r, "topic"));
            message.setBody((prefix + i).getBytes(StandardCharsets.UTF_8));
            if (sync) {
                waiting.onSuccess(queue == null ? producer.send(message) : producer.send(message, queue));
            } else if (queue == null) {
                producer.send(message, waiting);
            } else {
                producer.send(message, queue, waiting);
            }
        }
        List<Object> results = waiting.results();
        Map<String, Object> out = new HashMap<>();
        out.put("results", results);
        return out;
    }

    /**
     * "count" texts PREFIXn from "threads" threads, in batches of "batch" if that is above 1. What is not acknowledged is sent again as it is, as an
     * application does that keeps its message, until it is.
     */
    private static Object sendUntilStored(JsonObject r) throws Exception {
        DefaultMQProducer producer = (DefaultMQProducer) client(r);
        int batch = integer(r, "batch", 1);
        int sends = integer(r, "count", 1) / batch;
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
        List<Object> results = java.util.Collections.synchronizedList(new ArrayList<>());
        AtomicInteger next = new AtomicInteger();
        ExecutorService threads = Executors.newFixedThreadPool(integer(r, "threads", 1));
        List<java.util.concurrent.Future<?>> running = new ArrayList<>();
        for (int i = 0; i < integer(r, "threads", 1); i++) {
            running.add(threads.submit(() -> {
                for (int n = next.getAndIncrement(); n < sends; n = next.getAndIncrement()) {
                    List<Message> messages = new ArrayList<>();
                    List<String> texts = new ArrayList<>();
                    for (int m = 0; m < batch; m++) {
                        texts.add(text(r, "prefix", "m") + (n * batch + m));
                        messages.add(new Message(text(r, "topic"), texts.get(m).getBytes(StandardCharsets.UTF_8)));
                    }
                    Map<String, Object> result = new HashMap<>(described(sendUntil(producer, messages, end)));
                    result.put("texts", texts);
                    results.add(result);
                }
                return null;
            }));
        }
        threads.shutdown();
        for (java.util.concurrent.Future<?> one : running) {
            one.get();
        }
        return wrap("results", results);
    }

    private static SendResult sendUntil(DefaultMQProducer producer, List<Message> messages, long end) throws Exception {
        while (true) {
            try {
                SendResult result = messages.size() == 1 ? producer.send(messages.get(0)) : producer.send(messages);
                if (result.getSendStatus() == org.apache.rocketmq.client.producer.SendStatus.SEND_OK) {
                    return result;
                }
            } catch (Exception problem) {
                if (System.nanoTime() > end) {
                    throw problem;
                }
                Thread.sleep(5);
            }
        }
    }

    /**
     * "count" texts PREFIXn of "size" bytes to the queues in turn, "rate" of them a second without waiting for answers (unless 2,000 are
     * due: a machine that stands still is not the broker's refusal), in order: the client's own pool of sending threads would mix them
     * up. Answers how many were acknowledged, and what the others failed with.
     */
    private static Object sendAtRate(JsonObject r) throws Exception {
        DefaultMQProducer producer = (DefaultMQProducer) client(r);
        ExecutorService one = Executors.newSingleThreadExecutor();
        producer.getDefaultMQProducerImpl().setAsyncSenderExecutor(one);
        int count = integer(r, "count", 1);
        double perNano = integer(r, "rate", 1000) / 1e9;
        String padding = new String(new char[integer(r, "size", 0)]).replace('\0', 'x');
        Tally tally = new Tally(count);
        long begin = System.nanoTime();
        for (int sent = 0; sent < count;) {
            int due = (int) Math.min(count, (System.nanoTime() - begin) * perNano);
            for (; sent < due; sent++) {
                String text = text(r, "prefix", "m") + sent + " ";
                String body = text + padding.substring(Math.min(text.length(), padding.length()));
                MessageQueue queue = new MessageQueue(text(r, "topic"), text(r, "broker", "broker-a"), sent % integer(r, "queues", 1));
                tally.unanswered.acquire();
                producer.send(new Message(text(r, "topic"), body.getBytes(StandardCharsets.UTF_8)), queue, tally);
            }
            Thread.sleep(1);
        }
        Map<String, Object> out = tally.result();
        out.put("ms", (System.nanoTime() - begin) / 1_000_000);
        one.shutdown();
        return out;
    }

    private static final class Tally implements SendCallback {
        private final Semaphore unanswered = new Semaphore(2000);
        private final CountDownLatch left;
        private final AtomicInteger acknowledged = new AtomicInteger();
        private final Map<String, Integer> failed = new ConcurrentHashMap<>();

        Tally(int count) {
            left = new CountDownLatch(count);
        }

        @Override
        public void onSuccess(SendResult result) {
            acknowledged.incrementAndGet();
            unanswered.release();
            left.countDown();
        }

        @Override
        public void onException(Throwable problem) {
            failed.merge(problem.toString(), 1, Integer::sum);
            unanswered.release();
            left.countDown();
        }

        Map<String, Object> result() throws InterruptedException {
            if (!left.await(60, TimeUnit.SECONDS)) {
                failed.put("no answer", (int) left.getCount());
            }
            Map<String, Object> out = wrap("acknowledged", acknowledged.get());
            out.put("failed", failed);
            return out;
        }
    }

    private static final class Waiting implements SendCallback {
        private final CountDownLatch left;
        private final List<Object> results = new ArrayList<>();
        private volatile Throwable failure;

        Waiting(int count) {
            left = new CountDownLatch(count);
        }

        @Override
        public void onSuccess(SendResult result) {
            synchronized (results) {
                results.add(described(result));
            }
            left.countDown();
        }

        @Override
        public void onException(Throwable problem) {
            failure = problem;
            left.countDown();
        }

        List<Object> results() throws Exception {
            if (!left.await(60, TimeUnit.SECONDS)) {
                throw new IllegalStateException(left.getCount() + " callbacks are missing after 60 s");
            }
            if (failure instanceof Exception) {
                throw (Exception) failure;
            }
            return results;
        }
    }

    // ---- consuming --------------------------------------------------------------------------------------------------

    private static Object push(JsonObject r) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(text(r, "group"), r.has("trace"), text(r, "trace", null));
        configure(consumer, r);
        setModel(consumer, text(r, "model", "CLUSTERING"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf("CONSUME_FROM_" + text(r, "start", "FIRST_OFFSET")));
        if (r.has("timestamp")) {
            consumer.setConsumeTimestamp(text(r, "timestamp"));
        }
        consumer.setConsumeThreadMax(integer(r, "threads", 4));
        consumer.setConsumeThreadMin(integer(r, "threads", 4));
        consumer.setPullBatchSize(integer(r, "pull_batch", 32));
        consumer.setConsumeMessageBatchMaxSize(integer(r, "consume_batch", 1));
        if (r.has("max_reconsume")) {
            consumer.setMaxReconsumeTimes(r.get("max_reconsume").getAsInt());
        }
        consumer.setSuspendCurrentQueueTimeMillis(integer(r, "suspend_ms", 1000));
        int retryLevel = integer(r, "retry_level", 0);
        for (Map.Entry<String, JsonElement> e : r.getAsJsonObject("subs").entrySet()) {
            String expression = e.getValue().getAsString();
            if (expression.startsWith(SQL92)) {
                consumer.subscribe(e.getKey(), MessageSelector.bySql(expression.substring(SQL92.length())));
            } else {
                consumer.subscribe(e.getKey(), expression);
            }
        }
        Inbox inbox = new Inbox(integer(r, "delay_ms", 0), integer(r, "fail_first", 0), text(r, "journal", null), flag(r, "brief"));
        INBOXES.put(handle(r), inbox);
        if (flag(r, "orderly")) {
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) ->
                inbox.accept(messages, true) ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT);
        } else if (r.has("answers_with")) {
            DefaultMQProducer producer = (DefaultMQProducer) CLIENTS.get(text(r, "answers_with"));
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                try {
                    for (MessageExt message : messages) {
                        String answer = "answer to " + new String(message.getBody(), StandardCharsets.UTF_8);
                        producer.send(MessageUtil.createReplyMessage(message, answer.getBytes(StandardCharsets.UTF_8)));
                    }
                } catch (Exception failure) {
                    failure.printStackTrace();
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                context.setDelayLevelWhenNextConsume(retryLevel);
                return inbox.accept(messages, false) ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
            });
        }
        if (flag(r, "server_rebalance")) {
            // The method is not in 4.9.
            call(consumer, "setClientRebalance", false);
        }
        if (r.has("pop_invisible_ms")) {
            call(consumer, "setPopInvisibleTime", r.get("pop_invisible_ms").getAsLong());
        }
        CLIENTS.put(handle(r), consumer);
        consumer.start();
        return null;
    }

    /** MessageModel moved between 4.9 and 5.x. */
    private static void setModel(Object consumer, String name) throws Exception {
        for (Method method : consumer.getClass().getMethods()) {
            if (method.getName().equals("setMessageModel")) {
                Object[] models = method.getParameterTypes()[0].getEnumConstants();
                for (Object model : models) {
                    if (model.toString().equals(name)) {
                        method.invoke(consumer, model);
                        return;
                    }
                }
            }
        }
        throw new IllegalArgumentException(name);
    }

    /** What a listener was given, in that order. */
    private static final class Inbox {
        private final List<Object> received = new ArrayList<>();
        private final Map<String, AtomicInteger> busy = new ConcurrentHashMap<>();
        private final int delayMs;
        private int failures;
        private final OutputStream journal;
        private final boolean brief;
        private boolean overlapped;

        /** The journal, a file, gets each text as a line before the listener returns: it outlives a killed process. */
        Inbox(int delayMs, int failures, String journal, boolean brief) throws IOException {
            this.journal = journal == null ? null : new FileOutputStream(journal);
            this.brief = brief;
            this.delayMs = delayMs;
            this.failures = failures;
        }

        boolean accept(List<MessageExt> messages, boolean orderly) {
            String key = messages.get(0).getTopic() + messages.get(0).getQueueId();
            AtomicInteger inside = busy.computeIfAbsent(key, k -> new AtomicInteger());
            boolean overlap = inside.incrementAndGet() > 1;
            try {
                if (delayMs > 0) {
                    Thread.sleep(delayMs);
                }
                synchronized (this) {
                    overlapped |= orderly && overlap;
                    for (MessageExt message : messages) {
                        received.add(brief ? inBrief(message) : described(message));
                        if (journal != null) {
                            journal.write((new String(message.getBody(), StandardCharsets.UTF_8) + "\n").getBytes(StandardCharsets.UTF_8));
                        }
                    }
                    notifyAll();
                    return failures-- <= 0;
                }
            } catch (InterruptedException | IOException stopped) {
                return false;
            } finally {
                inside.decrementAndGet();
            }
        }

        synchronized Object wait(int from, int min, int timeoutMs) throws InterruptedException {
            long deadline = System.currentTimeMillis() + timeoutMs;
            while (received.size() < min && System.currentTimeMillis() < deadline) {
                wait(Math.max(1, deadline - System.currentTimeMillis()));
            }
            Map<String, Object> out = new HashMap<>();
            out.put("messages", new ArrayList<>(received.subList(Math.min(from, received.size()), received.size())));
            out.put("next", received.size());
            out.put("overlapped", overlapped);
            return out;
        }
    }

    private static Object assigned(JsonObject r) {
        DefaultMQPushConsumer consumer = (DefaultMQPushConsumer) client(r);
        List<Object> out = new ArrayList<>();
        long[] pending = new long[1];
        Map<MessageQueue, ProcessQueue> table = consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable();
        table.forEach((queue, process) -> {
            if (!process.isDropped() && queue.getTopic().equals(text(r, "topic"))) {
                out.add(queue.getQueueId());
                pending[0] += process.getMsgCount().get();
            }
        });
        Map<String, Object> answer = wrap("queues", out);
        answer.put("pending", pending[0]); // pulled, and the listener has not returned
        return answer;
    }

    private static Object pullConsumer(JsonObject r) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(text(r, "group"));
        configure(consumer, r);
        consumer.start();
        CLIENTS.put(handle(r), consumer);
        return null;
    }

    private static Object pull(JsonObject r) throws Exception {
        DefaultMQPullConsumer consumer = (DefaultMQPullConsumer) client(r);
        long offset = r.get("offset").getAsLong();
        int max = integer(r, "max", 32);
        PullResult result = flag(r, "block") ? consumer.pullBlockIfNotFound(queue(r), text(r, "sub", "*"), offset, max)
            : consumer.pull(queue(r), text(r, "sub", "*"), offset, max);
        Map<String, Object> out = new HashMap<>();
        out.put("status", result.getPullStatus().name());
        out.put("next", result.getNextBeginOffset());
        out.put("min", result.getMinOffset());
        out.put("max", result.getMaxOffset());
        out.put("messages", result.getMsgFoundList() == null ? new ArrayList<>() : described(result.getMsgFoundList()).get("messages"));
        return out;
    }

    private static Object commit(JsonObject r) throws Exception {
        Object client = client(r);
        if (client instanceof DefaultLitePullConsumer) {
            ((DefaultLitePullConsumer) client).commitSync();
        } else {
            DefaultMQPullConsumer consumer = (DefaultMQPullConsumer) client;
            consumer.updateConsumeOffset(queue(r), r.get("offset").getAsLong());
            consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persist(queue(r));
        }
        return null;
    }

    private static Object committed(JsonObject r) throws Exception {
        Object client = client(r);
        return wrap("offset", client instanceof DefaultLitePullConsumer ? ((DefaultLitePullConsumer) client).committed(queue(r))
            : Long.valueOf(((DefaultMQPullConsumer) client).fetchConsumeOffset(queue(r), true)));
    }

    private static Object lite(JsonObject r) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(text(r, "group"));
        configure(consumer, r);
        setModel(consumer, text(r, "model", "CLUSTERING"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf("CONSUME_FROM_" + text(r, "start", "FIRST_OFFSET")));
        consumer.setAutoCommit(flag(r, "auto_commit"));
        consumer.setPullBatchSize(integer(r, "pull_batch", 10));
        if (r.has("topic")) {
            String expression = text(r, "sub", "*");
            if (expression.startsWith(SQL92)) {
                consumer.subscribe(text(r, "topic"), MessageSelector.bySql(expression.substring(SQL92.length())));
            } else {
                consumer.subscribe(text(r, "topic"), expression);
            }
        }
        CLIENTS.put(handle(r), consumer);
        consumer.start();
        return null;
    }

    // ---- asking -----------------------------------------------------------------------------------------------------

    private static Object createTopic(JsonObject r) throws Exception {
        Object client = client(r);
        for (Method method : client.getClass().getMethods()) {
            Class<?>[] types = method.getParameterTypes();
            if (!method.getName().equals("createTopic")) {
                continue;
            }
            if (types.length == 4 && types[3] == Map.class) {
                method.invoke(client, text(r, "key", "TBW102"), text(r, "topic"), integer(r, "queues", 4), new HashMap<String, String>());
                return null;
            }
        }
        call(client, "createTopic", text(r, "key", "TBW102"), text(r, "topic"), integer(r, "queues", 4));
        return null;
    }

    private static Object offsets(JsonObject r) throws Exception {
        Map<String, Object> out = new HashMap<>();
        out.put("min", call(client(r), "minOffset", queue(r)));
        out.put("max", call(client(r), "maxOffset", queue(r)));
        out.put("earliest_ms", call(client(r), "earliestMsgStoreTime", queue(r)));
        return out;
    }

    private static Object query(JsonObject r) throws Exception {
        QueryResult result = ((DefaultMQProducer) client(r)).queryMessage(text(r, "topic"), text(r, "key"), integer(r, "max", 32),
            0, System.currentTimeMillis() + 3600_000);
        return described(result.getMessageList());
    }

    /** Methods that both versions have, with parameter types that one of them generalised. */
    private static Object call(Object target, String name, Object... args) throws Exception {
        for (Method method : target.getClass().getMethods()) {
            if (method.getName().equals(name) && method.getParameterCount() == args.length) {
                try {
                    Object result = method.invoke(target, args);
                    return result instanceof Number ? wrap("value", result).get("value") : result;
                } catch (IllegalArgumentException otherOverload) {
                    continue;
                }
            }
        }
        throw new NoSuchMethodException(name);
    }

    private static Object called(Object target, String name, Object... args) {
        try {
            return call(target, name, args);
        } catch (Exception e) {
            throw new IllegalStateException(name, e);
        }
    }

    private static Object stop(JsonObject r) {
        Object client = CLIENTS.remove(handle(r));
        if (client instanceof DefaultMQProducer) {
            ((DefaultMQProducer) client).shutdown();
        } else if (client instanceof DefaultMQPushConsumer) {
            ((DefaultMQPushConsumer) client).shutdown();
        } else if (client instanceof DefaultMQPullConsumer) {
            ((DefaultMQPullConsumer) client).shutdown();
        } else if (client instanceof DefaultLitePullConsumer) {
            ((DefaultLitePullConsumer) client).shutdown();
        }
        return null;
    }

    // ---- small things -----------------------------------------------------------------------------------------------

    private static Map<String, Object> described(SendResult result) {
        Map<String, Object> out = new HashMap<>();
        out.put("status", result.getSendStatus().name());
        out.put("msg_id", result.getMsgId());
        out.put("offset_msg_id", result.getOffsetMsgId());
        out.put("offset", result.getQueueOffset());
        out.put("region", result.getRegionId());
        try {
            out.put("recall_handle", call(result, "getRecallHandle"));
        } catch (Exception e) {
            // Clients before 5.4 do not have it.
        }
        if (result.getMessageQueue() != null) {
            out.put("queue", result.getMessageQueue().getQueueId());
            out.put("broker", result.getMessageQueue().getBrokerName());
        }
        return out;
    }

    private static Map<String, Object> described(List<MessageExt> messages) {
        List<Object> out = new ArrayList<>();
        messages.forEach(message -> out.add(described(message)));
        return wrap("messages", out);
    }

    /** Queue, offset and the first word: for as many messages as would fill the heap with their descriptions. */
    private static Map<String, Object> inBrief(MessageExt message) {
        Map<String, Object> out = new HashMap<>(4);
        out.put("queue", message.getQueueId());
        out.put("offset", message.getQueueOffset());
        out.put("text", new String(message.getBody(), StandardCharsets.UTF_8).split(" ", 2)[0]);
        return out;
    }

    private static Map<String, Object> described(MessageExt message) {
        Map<String, Object> out = new HashMap<>();
        out.put("topic", message.getTopic());
        out.put("queue", message.getQueueId());
        out.put("offset", message.getQueueOffset());
        out.put("msg_id", message.getMsgId());
        out.put("offset_msg_id", message instanceof MessageClientExt ? ((MessageClientExt) message).getOffsetMsgId() : message.getMsgId());
        out.put("tags", message.getTags());
        out.put("keys", message.getKeys());
        out.put("flag", message.getFlag());
        out.put("props", message.getProperties());
        out.put("sys_flag", message.getSysFlag());
        out.put("reconsumed", message.getReconsumeTimes());
        out.put("born_ms", message.getBornTimestamp());
        out.put("stored_ms", message.getStoreTimestamp());
        byte[] body = message.getBody();
        out.put("size", body.length);
        if (body.length <= 300) {
            try {
                out.put("text", StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body)).toString());
                return out;
            } catch (CharacterCodingException binary) {
                // described by its digest
            }
        }
        out.put("sha256", sha256(body));
        return out;
    }

    private static String sha256(byte[] body) {
        try {
            StringBuilder out = new StringBuilder();
            for (byte b : MessageDigest.getInstance("SHA-256").digest(body)) {
                out.append(String.format("%02x", b));
            }
            return out.toString();
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static Object queueList(Collection<MessageQueue> queues) {
        List<Object> out = new ArrayList<>();
        queues.forEach(queue -> out.add(queue.getQueueId()));
        return wrap("queues", out);
    }

    private static MessageQueue queue(JsonObject r) {
        return new MessageQueue(text(r, "topic"), text(r, "broker", "broker-a"), integer(r, "queue", 0));
    }

    private static Set<MessageQueue> queues(JsonObject r) {
        Set<MessageQueue> out = new java.util.HashSet<>();
        JsonArray ids = r.getAsJsonArray("queues");
        ids.forEach(id -> out.add(new MessageQueue(text(r, "topic"), text(r, "broker", "broker-a"), id.getAsInt())));
        return out;
    }

    private static Map<String, Object> wrap(String name, Object value) {
        Map<String, Object> out = new HashMap<>();
        out.put(name, value);
        return out;
    }

    private static Object client(JsonObject r) {
        Object client = CLIENTS.get(handle(r));
        if (client == null) {
            throw new IllegalStateException("no client " + handle(r));
        }
        return client;
    }

    private static String handle(JsonObject r) {
        return text(r, "h");
    }

    private static String text(JsonObject r, String name) {
        return r.get(name).getAsString();
    }

    private static String text(JsonObject r, String name, String otherwise) {
        return r.has(name) ? text(r, name) : otherwise;
    }

    private static int integer(JsonObject r, String name, int otherwise) {
        return r.has(name) ? r.get(name).getAsInt() : otherwise;
    }

    private static boolean flag(JsonObject r, String name) {
        return r.has(name) && r.get(name).getAsBoolean();
    }
}
