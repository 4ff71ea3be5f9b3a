package cluster;

import java.util.Properties;
import org.apache.rocketmq.common.namesrv.NamesrvConfig;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.mockito.Mockito;
import org.mockito.invocation.InvocationOnMock;
import org.mockito.stubbing.Answer;

/**
 * A name server object for the name server of another process: Apache's tests change settings through it. As in {@link RemoteBroker}, a
 * setter changes the setting at the server, it is put back when the JVM ends, and any other question names itself in the failure.
 */
public final class RemoteNameServer {
    private final Properties before = Admin.nameServerSettings();
    private final Properties changed = new Properties();

    private RemoteNameServer() {
        Runtime.getRuntime().addShutdownHook(new Thread(this::restore));
    }

    /** The stand-in for the name server of this run. */
    public static NamesrvController make() {
        RemoteNameServer server = new RemoteNameServer();
        NamesrvConfig config = Mockito.mock(NamesrvConfig.class, (Answer<Object>) server::setting);
        return Mockito.mock(NamesrvController.class, (Answer<Object>) question -> {
            switch (question.getMethod().getName()) {
                case "toString":
                    return "a remote name server";
                case "getNamesrvConfig":
                    return config;
                default:
                    throw inside(question);
            }
        });
    }

    private synchronized Object setting(InvocationOnMock question) {
        String method = question.getMethod().getName();
        if ("toString".equals(method)) {
            return "settings of a remote name server";
        }
        if (!method.startsWith("set")) {
            throw inside(question);
        }
        Properties one = new Properties();
        one.setProperty(RemoteBroker.key(method, "set"), String.valueOf(question.<Object>getArgument(0)));
        Admin.changeNameServer(one);
        changed.putAll(one);
        return null;
    }

    private synchronized void restore() {
        Properties old = new Properties();
        for (Object key : changed.keySet()) {
            if (before.containsKey(key)) {
                old.put(key, before.get(key));
            }
        }
        if (!old.isEmpty()) {
            Admin.changeNameServer(old);
        }
    }

    private static UnsupportedOperationException inside(InvocationOnMock question) {
        String method = question.getMethod().getDeclaringClass().getSimpleName() + "." + question.getMethod().getName();
        return new UnsupportedOperationException(method + " is the inside of a Java name server");
    }
}
