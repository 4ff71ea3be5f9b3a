/** A message queue and its own client. */
public interface Peer extends AutoCloseable {
    /** How a send ended; {@code error} is null if it was acknowledged. */
    interface Sent { void done(Throwable error); }

    /** Gets a message; it is acknowledged when this returns. */
    interface Sink { void take(byte[] body) throws Exception; }

    /** Makes the topic or queue, as durable as acknowledged messages are by default. */
    void create() throws Exception;

    /** Before the first send. */
    void startSending() throws Exception;

    /** Sends, and tells how it ended later, on any thread. */
    void send(byte[] body, Sent sent) throws Exception;

    /** Delivers from the first message on, until it is closed; returns at once. */
    void consume(Sink sink) throws Exception;
}
