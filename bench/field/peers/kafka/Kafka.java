import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;

public class Kafka implements Peer {
    private final String address, topic;
    private KafkaProducer<byte[], byte[]> producer;

    public Kafka(String address, String topic) { this.address = address; this.topic = topic; }

    public void create() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", address))) {
            admin.createTopics(List.of(new NewTopic(topic, 8, (short) 1))).all().get();
        }
    }

    public void startSending() {
        producer = new KafkaProducer<>(Map.of("bootstrap.servers", address, "acks", "all"), new ByteArraySerializer(), new ByteArraySerializer());
        producer.partitionsFor(topic);
    }

    public void send(byte[] body, Sent sent) { producer.send(new ProducerRecord<>(topic, body), (at, error) -> sent.done(error)); }

    public void consume(Sink sink) {
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", address, "group.id", "field", "auto.offset.reset", "earliest"),
            new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(topic));
        Thread reader = new Thread(() -> {
            while (true) for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                try { sink.take(record.value()); } catch (Exception e) { throw new RuntimeException(e); }
            }
        });
        reader.setDaemon(true);
        reader.start();
    }

    public void close() { }
}
