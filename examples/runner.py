"""What the runners of all languages share: a server, builds in the cache of tests/compat, and the check of what an example prints.

A directory with an executable `run` is a set of examples. It is called with NAMESRV_ADDR, the address of a name server (without it, it
starts a server for itself), and names of examples (none: all). It prints a line for each and ends with `N passed, N failed`.
An example says in its first comment, below `Prints:`, what it prints.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'compat'))
from harness import targets  # noqa: E402
from harness.drivers import CACHE, built, call_quietly, place  # noqa: E402,F401

#: For one example, on a slow machine.
TIMEOUT_S = 90
#: Producers are soon asked how a transaction ended that they did not end.
SETTINGS = {'transactionTimeOut': 1000, 'transactionCheckInterval': 1000}


class Server:
    """A server on free ports in a directory of its own, or the one that NAMESRV_ADDR names."""

    def __enter__(self):
        self.given = os.environ.get('NAMESRV_ADDR')
        self.work = tempfile.mkdtemp(prefix='apogeemq-examples-')
        if not self.given:
            self.target = targets.Apogee(os.path.join(self.work, 'server'), SETTINGS).start()
            os.environ['NAMESRV_ADDR'] = self.target.namesrv
        return self

    def __exit__(self, *_):
        if not self.given:
            self.target.stop()
            del os.environ['NAMESRV_ADDR']
        shutil.rmtree(self.work, ignore_errors=True)


def expected(source):
    """The lines below `Prints:` in the first comment."""
    lines, found = [], False
    for line in open(source, encoding='utf-8'):
        text = re.sub(r'^\s*(//!|//|#|\*)', '', line.rstrip())
        if found and not text and not lines:
            continue
        if found and not text.startswith(('   ', '\t')):
            break
        if found:
            lines.append(text.strip())
        found = found or text.strip() == 'Prints:'
    assert lines, f'{source} does not say what it prints'
    return lines


def problem_of(source, command, work):
    """What is wrong with what an example does, or nothing."""
    environment = {**os.environ, 'HOME': work}
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, cwd=work, env=environment)
    except subprocess.TimeoutExpired as late:
        texts = [(text or b'').decode() for text in (late.stdout, late.stderr)]
        return f'still running after {TIMEOUT_S} s, printed: {texts[0]}\n{texts[1][-2000:]}'
    lines, wanted = done.stdout.splitlines(), expected(source)
    if done.returncode or lines != wanted:
        return f'exit code {done.returncode}, printed: {lines}, not: {wanted}\n{done.stderr[-2000:]}'
    return None


def run(sources, command, topics=()):
    """Runs the examples named on the command line, or all. `command` makes a command from a name and a work directory. `topics` are created
    before, because several clients start at the same moment, and the first of them would have to create them."""
    names = {name: path for name, path in sources.items() if not sys.argv[1:] or name in sys.argv[1:]}
    unknown = set(sys.argv[1:]) - set(sources)
    if unknown:
        raise SystemExit(f'no example {", ".join(sorted(unknown))}; there are {", ".join(sorted(sources))}')
    failed = 0
    with Server() as server, ThreadPoolExecutor(3) as pool:
        for topic in topics:
            call_quietly([targets.apogee_binary(), 'admin', 'updateTopic', '-n', os.environ['NAMESRV_ADDR'], '-c', 'DefaultCluster', '-t', topic])

        def one(name):
            begin, work = time.monotonic(), os.path.join(server.work, name)
            os.makedirs(work)
            return problem_of(names[name], command(name, work), work), time.monotonic() - begin
        for name, (problem, seconds) in zip(names, pool.map(one, names)):
            print(f'{"FAIL" if problem else "ok  "} {name} ({seconds:.1f} s)', flush=True)
            if problem:
                failed += 1
                print('       ' + problem.replace('\n', '\n       '), flush=True)
    print(f'{len(names) - failed} passed, {failed} failed')
    sys.exit(1 if failed else 0)


def files(folder, ending):
    """The examples of a directory that are one file each, by name."""
    return {f[:-len(ending)]: os.path.join(folder, f) for f in sorted(os.listdir(folder)) if f.endswith(ending)}
