import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;

/**
 * What Apache's filter says. A line has an expression and property strings, in hexadecimal, with blanks between; the answer is REFUSED,
 * or one letter for each property string: T, F, N (null) or E (evaluation throws).
 */
public class Verdicts {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(new java.io.BufferedOutputStream(System.out, 1 << 16), false, "US-ASCII");
        for (String line; (line = in.readLine()) != null; ) {
            String[] fields = line.split(" ", -1);
            out.println(verdicts(fields));
        }
        out.flush();
    }

    private static String verdicts(String[] fields) {
        Expression compiled;
        try {
            compiled = FilterFactory.INSTANCE.get("SQL92").compile(text(fields[0]));
        } catch (Throwable refused) {
            return "REFUSED";
        }
        StringBuilder verdicts = new StringBuilder();
        for (int i = 1; i < fields.length; i++) {
            verdicts.append(verdict(compiled, MessageDecoder.string2messageProperties(text(fields[i]))));
        }
        return verdicts.toString();
    }

    private static char verdict(Expression compiled, Map<String, String> properties) {
        try {
            Object value = compiled.evaluate(new EvaluationContext() {
                @Override
                public Object get(String name) {
                    return properties.get(name);
                }

                @Override
                @SuppressWarnings({"unchecked", "rawtypes"})
                public Map<String, Object> keyValues() {
                    return (Map) properties;
                }
            });
            return value == null ? 'N' : (Boolean) value ? 'T' : 'F';
        } catch (Throwable thrown) {
            return 'E';
        }
    }

    private static String text(String hex) {
        byte[] bytes = new byte[hex.length() / 2];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
        }
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
