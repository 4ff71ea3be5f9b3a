import java.util.*;
import java.util.concurrent.*;
import org.apache.rocketmq.client.apis.consumer.*;
import org.apache.rocketmq.client.apis.message.*;
import org.apache.rocketmq.client.apis.producer.*;

/** Lite topics, which SDKs before 5.2 do not have: they are built without this file. */
public class Lite implements Scenarios.Scenario {
    private final String topic = Scenarios.name("lite");
    private final Map<String, List<String>> got = new ConcurrentHashMap<>();
    private final Set<String> failed = ConcurrentHashMap.newKeySet();

    private void send(Producer producer, String liteTopic, String body) throws Exception {
        producer.send(Scenarios.message(topic, body).setLiteTopic(liteTopic).build());
    }

    private List<String> of(String liteTopic) { return got.getOrDefault(liteTopic, List.of()); }

    private ConsumeResult take(MessageView view) {
        String body = Scenarios.body(view);
        if (body.equals("1") && failed.add(view.getLiteTopic().get())) return ConsumeResult.FAILURE;
        got.computeIfAbsent(view.getLiteTopic().get(), name -> new CopyOnWriteArrayList<>()).add(body);
        return ConsumeResult.SUCCESS;
    }

    @Override public void run() throws Exception {
        List<String> expected = List.of("0", "1", "2");
        try (LitePushConsumer consumer = Scenarios.PROVIDER.newLitePushConsumerBuilder().setClientConfiguration(Scenarios.conf)
                 .setConsumerGroup(Scenarios.name("g-lite")).bindTopic(topic).setMessageListener(this::take).build();
             Producer producer = Scenarios.producer(topic, null)) {
            consumer.subscribeLite("one");
            consumer.subscribeLite("two");
            Scenarios.check(consumer.getLiteTopicSet().equals(Set.of("one", "two")), "subscribed " + consumer.getLiteTopicSet());
            for (String body : expected) for (String liteTopic : List.of("one", "two", "three")) send(producer, liteTopic, body);
            Scenarios.await("both lite topics", () -> of("one").size() == 3 && of("two").size() == 3);
            Scenarios.check(of("one").equals(expected) && of("two").equals(expected), "in order, with the one that failed: " + got);
            consumer.unsubscribeLite("two");
            send(producer, "two", "nobody");
            send(producer, "one", "last");
            Scenarios.await("the last message", () -> of("one").contains("last"));
            Scenarios.check(of("two").equals(expected) && of("three").isEmpty(), "only of lite topics that are subscribed to: " + got);
        }
    }
}
