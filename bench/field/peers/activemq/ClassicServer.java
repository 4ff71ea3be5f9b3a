import org.apache.activemq.broker.BrokerService;

/** {@code ClassicServer DIRECTORY PORT}: the broker with its defaults: KahaDB, which syncs each persistent message. */
public class ClassicServer {
    public static void main(String[] a) throws Exception {
        BrokerService broker = new BrokerService();
        broker.setPersistent(true);
        broker.setUseJmx(false);
        broker.setDataDirectory(a[0]);
        broker.addConnector("tcp://127.0.0.1:" + a[1]);
        broker.start();
        broker.waitUntilStopped();
    }
}
