import java.util.*;
import org.apache.activemq.artemis.api.core.TransportConfiguration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.remoting.impl.netty.NettyAcceptorFactory;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;

/** {@code ArtemisServer DIRECTORY PORT}: the broker with its defaults, which sync each persistent message, and nobody to ask for a name. */
public class ArtemisServer {
    public static void main(String[] a) throws Exception {
        ConfigurationImpl conf = new ConfigurationImpl();
        conf.setSecurityEnabled(false).setPersistenceEnabled(true).setJournalType(JournalType.NIO);
        conf.setJournalDirectory(a[0] + "/journal").setBindingsDirectory(a[0] + "/bindings").setPagingDirectory(a[0] + "/paging")
            .setLargeMessagesDirectory(a[0] + "/large");
        conf.addAcceptorConfiguration(new TransportConfiguration(NettyAcceptorFactory.class.getName(), Map.of("host", "127.0.0.1", "port", a[1])));
        new EmbeddedActiveMQ().setConfiguration(conf).start();
    }
}
