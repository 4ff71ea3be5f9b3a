package cluster;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.Request;
import org.junit.runner.Runner;
import org.junit.runner.manipulation.Filter;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/**
 * Runs test classes one after another in this JVM: a line CLASS, CLASS#TEST,TEST or CLASS#!TEST on stdin each. Says on stdout what
 * happens, a line of tab-separated fields each: planned, started, passed, ignored, failed (with the reason), and at last "done".
 * What the tests themselves print goes to stderr, as do stack traces.
 */
public final class Worker extends RunListener {
    private static final int REASON_LENGTH = 300;
    private final PrintStream events;
    private final Set<Description> failed = new HashSet<>();

    private Worker(PrintStream events) {
        this.events = events;
    }

    public static void main(String[] args) throws Exception {
        Worker worker = new Worker(System.out);
        System.setOut(System.err);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            worker.run(line);
            worker.say("done");
        }
        System.exit(0); // clients that a test left behind would keep the JVM
    }

    private void run(String line) {
        String[] parts = line.split("#", 2);
        Runner runner;
        try {
            Request request = Request.aClass(Class.forName(parts[0], false, Worker.class.getClassLoader()));
            runner = (parts.length == 1 ? request : request.filterWith(only(parts[1]))).getRunner();
        } catch (ClassNotFoundException e) {
            say("planned", "(class)");
            say("failed", "(class)", "there is no such class in the published jar");
            return;
        }
        tests(runner.getDescription()).forEach(test -> say("planned", name(test)));
        JUnitCore junit = new JUnitCore();
        junit.addListener(this);
        junit.run(runner);
    }

    private static Filter only(String selection) {
        boolean all = selection.startsWith("!");
        Set<String> names = new HashSet<>(Arrays.asList(selection.substring(all ? 1 : 0).split(",")));
        return new Filter() {
            @Override
            public boolean shouldRun(Description test) {
                return !test.isTest() || names.contains(test.getMethodName()) != all;
            }

            @Override
            public String describe() {
                return selection;
            }
        };
    }

    @Override
    public void testStarted(Description test) {
        say("started", name(test));
    }

    @Override
    public void testFinished(Description test) {
        if (!failed.contains(test)) {
            say("passed", name(test));
        }
    }

    @Override
    public void testIgnored(Description what) {
        tests(what).forEach(test -> say("ignored", name(test)));
    }

    @Override
    public void testAssumptionFailure(Failure failure) {
        testFailure(failure);
    }

    /** Also what fails around the tests of a class, which then stands for all of them. */
    @Override
    public void testFailure(Failure failure) {
        System.err.println(failure.getDescription() + " failed:\n" + failure.getTrace());
        for (Description test : tests(failure.getDescription())) {
            if (failed.add(test)) {
                say("failed", name(test), reason(failure.getException()));
            }
        }
    }

    private static String reason(Throwable thrown) {
        String text = String.valueOf(thrown);
        String where = "";
        for (StackTraceElement frame : thrown.getStackTrace()) {
            if (frame.getFileName() != null && frame.getFileName().endsWith("IT.java")) {
                where = " at " + frame.getFileName() + ":" + frame.getLineNumber();
                break;
            }
        }
        return (text.length() > REASON_LENGTH ? text.substring(0, REASON_LENGTH) + "..." : text) + where;
    }

    private static List<Description> tests(Description what) {
        if (what.isTest()) {
            return Arrays.asList(what);
        }
        List<Description> tests = new ArrayList<>();
        what.getChildren().forEach(child -> tests.addAll(tests(child)));
        return tests;
    }

    private static String name(Description test) {
        return test.getMethodName() == null ? "(class)" : test.getMethodName();
    }

    private void say(String... fields) {
        StringBuilder line = new StringBuilder();
        for (String field : fields) {
            line.append(line.length() == 0 ? "" : "\t").append(field.replaceAll("\\s+", " "));
        }
        events.println(line);
        events.flush();
    }
}
