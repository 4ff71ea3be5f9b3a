import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.LockSupport;

/**
 * The same load through a peer's own client: {@code Load CLASS ADDRESS TOPIC WORD NUMBER…}; prints one line of JSON.
 *
 * <pre>
 * create                                   the topic
 * send SECONDS WARMUP SIZE WINDOW          so many sends that are not acknowledged at a time
 * paced SECONDS WARMUP SIZE RATE           so many sends a second; latency counts from when a send was due
 * receive COUNT                            so many messages, from the first on
 * </pre>
 */
public class Load {
    static final long MILLION = 1_000_000L, SECOND = 1_000_000_000L;

    /** Sends that were acknowledged within the time that counts, and how long each took, in ns. */
    static final class Times {
        final long[] nanos = new long[1 << 24];
        final AtomicInteger count = new AtomicInteger();
        /** Acknowledged, whenever. */
        final AtomicLong all = new AtomicLong();
        final AtomicLong errors = new AtomicLong();
        volatile Throwable last;

        void add(long took) {
            int at = count.getAndIncrement();
            if (at < nanos.length) nanos[at] = took;
        }

        String report(double seconds) {
            int kept = Math.min(count.get(), nanos.length);
            long[] sorted = Arrays.copyOf(nanos, kept);
            Arrays.sort(sorted);
            StringBuilder out = new StringBuilder(String.format("{\"messages\":%d,\"all\":%d,\"per_s\":%.1f,\"errors\":%d", count.get(), all.get(),
                count.get() / seconds, errors.get()));
            for (double share : new double[] {50, 99, 99.9})
                out.append(String.format(",\"p%s\":%.3f", share == 99.9 ? "99_9" : String.valueOf((int) share),
                    kept == 0 ? 0 : sorted[Math.min(kept - 1, (int) (kept * share / 100))] / 1e6));
            if (last != null) out.append(",\"error\":\"").append(last.toString().replaceAll("[\"\\\\\\p{Cntrl}]", " ")).append('"');
            return out.append('}').toString();
        }
    }

    public static void main(String[] a) {
        int code = 0;
        try {
            System.out.println(run(a));
        } catch (Throwable failed) {
            failed.printStackTrace();
            code = 1;
        }
        System.out.flush();
        // Threads of a client must not keep the process.
        Runtime.getRuntime().halt(code);
    }

    static String run(String[] a) throws Exception {
        Peer peer = (Peer) Class.forName(a[0]).getConstructor(String.class, String.class).newInstance(a[1], a[2]);
        long[] numbers = Arrays.stream(a).skip(4).mapToLong(Long::parseLong).toArray();
        return switch (a[3]) {
            case "create" -> { peer.create(); yield "{}"; }
            case "send" -> send(peer, numbers[0], numbers[1], (int) numbers[2], (int) numbers[3]);
            case "paced" -> paced(peer, numbers[0], numbers[1], (int) numbers[2], numbers[3]);
            case "receive" -> receive(peer, numbers[0]);
            default -> throw new IllegalArgumentException(a[3]);
        };
    }

    static byte[] body(int size) {
        byte[] body = new byte[size];
        ThreadLocalRandom.current().nextBytes(body);
        return body;
    }

    static String send(Peer peer, long seconds, long warmup, int size, int window) throws Exception {
        peer.startSending();
        byte[] body = body(size);
        Semaphore free = new Semaphore(window);
        Times times = new Times();
        long from = System.nanoTime() + warmup * SECOND, to = from + seconds * SECOND;
        for (long now = System.nanoTime(); now < to; now = System.nanoTime()) {
            free.acquire();
            long begun = System.nanoTime();
            peer.send(body.clone(), error -> {
                long end = System.nanoTime();
                free.release();
                if (error != null) { times.errors.incrementAndGet(); times.last = error; return; }
                times.all.incrementAndGet();
                if (end >= from && end < to) times.add(end - begun);
            });
        }
        free.tryAcquire(window, 10, TimeUnit.SECONDS);
        return times.report(seconds);
    }

    static String paced(Peer peer, long seconds, long warmup, int size, long rate) throws Exception {
        peer.startSending();
        byte[] body = body(size);
        Times times = new Times();
        AtomicLong open = new AtomicLong();
        long start = System.nanoTime(), from = start + warmup * SECOND, to = from + seconds * SECOND;
        for (long n = 0; ; n++) {
            long due = start + n * SECOND / rate;
            if (due >= to) break;
            for (long left; (left = due - System.nanoTime()) > 0; ) LockSupport.parkNanos(left);
            open.incrementAndGet();
            peer.send(body.clone(), error -> {
                open.decrementAndGet();
                if (error != null) { times.errors.incrementAndGet(); times.last = error; return; }
                times.all.incrementAndGet();
                if (due >= from) times.add(System.nanoTime() - due);
            });
        }
        for (long end = System.nanoTime() + 10 * SECOND; open.get() > 0 && System.nanoTime() < end; ) Thread.sleep(1);
        return times.report(seconds);
    }

    static String receive(Peer peer, long count) throws Exception {
        AtomicLong got = new AtomicLong(), first = new AtomicLong(), last = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        peer.consume(body -> {
            long now = System.nanoTime();
            first.compareAndSet(0, now);
            if (got.incrementAndGet() == count) { last.set(now); done.countDown(); }
        });
        if (!done.await(300, TimeUnit.SECONDS)) return String.format("{\"messages\":%d,\"error\":\"only %d of %d came\"}", got.get(), got.get(), count);
        return String.format("{\"messages\":%d,\"per_s\":%.1f}", count, count * 1e9 / (last.get() - first.get()));
    }
}
