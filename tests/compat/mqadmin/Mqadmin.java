import com.google.gson.JsonObject;
import com.google.gson.JsonElement;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.remoting.protocol.body.ConsumerRunningInfo;
import org.apache.rocketmq.tools.command.MQAdminStartup;
import org.apache.rocketmq.tools.monitor.DeleteMsgsEvent;
import org.apache.rocketmq.tools.monitor.FailedMsgs;
import org.apache.rocketmq.tools.monitor.MonitorConfig;
import org.apache.rocketmq.tools.monitor.MonitorListener;
import org.apache.rocketmq.tools.monitor.MonitorService;
import org.apache.rocketmq.tools.monitor.UndoneMsgs;

/**
 * Apache's mqadmin, and with it everything {@link Driver} does, in one process. {"op":"mqadmin","args":["topicList","-n",...],"ms":60000}
 * gives {"out":"...","err":"...","ended":true}: what the command printed. One at a time, because they all print to System.out; a
 * command that never ends (clusterRT) is interrupted after "ms". {"op":"monitor","namesrv":"..."} is one round of what startMonitoring
 * does every minute, told event by event.
 */
public final class Mqadmin {
    private static final Object ONE_AT_A_TIME = new Object();

    private Mqadmin() {
    }

    public static void main(String[] args) throws Exception {
        Driver.serve(Mqadmin::perform);
    }

    private static Object perform(JsonObject request) throws Exception {
        switch (request.get("op").getAsString()) {
            case "mqadmin": return command(request);
            case "monitor": return monitor(request);
            default: return Driver.perform(request);
        }
    }

    private static Object command(JsonObject request) throws Exception {
        List<String> args = new ArrayList<>();
        for (JsonElement arg : request.getAsJsonArray("args")) {
            args.add(arg.getAsString());
        }
        synchronized (ONE_AT_A_TIME) {
            PrintStream before = System.out;
            PrintStream beforeErrors = System.err;
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            Thread run = new Thread(() -> Startup.run(args), "mqadmin " + args.get(0));
            run.setDaemon(true);
            boolean ended;
            try {
                System.setOut(new PrintStream(out, true, "UTF-8"));
                System.setErr(new PrintStream(err, true, "UTF-8"));
                run.start();
                run.join(request.get("ms").getAsLong());
                ended = !run.isAlive();
                run.interrupt();
                run.join(10_000);
            } finally {
                System.setOut(before);
                System.setErr(beforeErrors);
            }
            Map<String, Object> told = new HashMap<>();
            told.put("out", new String(out.toByteArray(), StandardCharsets.UTF_8));
            told.put("err", new String(err.toByteArray(), StandardCharsets.UTF_8));
            told.put("ended", ended);
            return told;
        }
    }

    /** The list of commands is open to its heirs only. */
    private static final class Startup extends MQAdminStartup {
        static void run(List<String> args) {
            SUB_COMMANDS.clear(); // main0 adds them all each time
            main0(args.toArray(new String[0]), null);
        }
    }

    private static Object monitor(JsonObject request) throws Exception {
        List<String> events = new ArrayList<>();
        MonitorService monitor;
        synchronized (ONE_AT_A_TIME) {
            System.setProperty(MixAll.NAMESRV_ADDR_PROPERTY, request.get("namesrv").getAsString());
            monitor = new MonitorService(new MonitorConfig(), new Noting(events), null);
        }
        monitor.start();
        try {
            monitor.doMonitorWork();
        } finally {
            monitor.shutdown();
        }
        Map<String, Object> told = new HashMap<>();
        told.put("events", events);
        return told;
    }

    private static final class Noting implements MonitorListener {
        private final List<String> events;

        Noting(List<String> events) {
            this.events = events;
        }

        @Override
        public void beginRound() {
            events.add("begin");
        }

        @Override
        public void reportUndoneMsgs(UndoneMsgs m) {
            events.add("undone " + m.getConsumerGroup() + " " + m.getTopic() + " total " + m.getUndoneMsgsTotal()
                + " in one queue " + m.getUndoneMsgsSingleMQ());
        }

        @Override
        public void reportFailedMsgs(FailedMsgs m) {
            events.add("failed " + m);
        }

        @Override
        public void reportDeleteMsgsEvent(DeleteMsgsEvent e) {
            events.add("deleted " + e.getOffsetMovedEvent());
        }

        @Override
        public void reportConsumerRunningInfo(TreeMap<String, ConsumerRunningInfo> infos) {
            for (ConsumerRunningInfo info : infos.values()) {
                events.add("running " + info.getProperties().getProperty(ConsumerRunningInfo.PROP_CONSUME_TYPE) + " "
                    + info.getSubscriptionSet());
            }
        }

        @Override
        public void endRound() {
            events.add("end");
        }
    }
}
