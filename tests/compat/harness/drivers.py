"""Driver processes: one client library each, spoken to in lines of JSON (see java/src/Driver.java for the requests)."""
import base64
import hashlib
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.environ.get('COMPAT_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'apogeemq-compat')


class DriverError(Exception):
    """What the client library threw."""

    def __init__(self, text, code=None):
        super().__init__(text)
        self.code = code


def newest(folder):
    """When anything in a source folder last changed."""
    times = [os.path.getmtime(os.path.join(root, f)) for root, dirs, files in os.walk(folder)
             if 'node_modules' not in root for f in files]
    return max(times, default=0)


def place(name, folder):
    """Where a driver of these very sources is built: several clones share the cache."""
    digest = hashlib.sha256()
    for root, dirs, files in sorted(os.walk(folder)):
        for file in sorted(files):
            path = os.path.join(root, file)
            digest.update(os.path.relpath(path, folder).encode() + open(path, 'rb').read())
    return os.path.join(CACHE, f'{name}-{digest.hexdigest()[:12]}')


def built(stamp, folder, build):
    """Runs `build` unless `stamp` is newer than the sources."""
    if os.path.exists(stamp) and os.path.getmtime(stamp) >= newest(folder):
        return
    build()
    os.makedirs(os.path.dirname(stamp), exist_ok=True)
    open(stamp, 'w').close()


def call_quietly(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode:
        raise SystemExit(f'{" ".join(command)} failed:\n{done.stdout[-4000:]}')


def java_properties(properties):
    """The environment that gives every JVM these system properties."""
    return {'JAVA_TOOL_OPTIONS': ' '.join(f'-D{k}={v}' for k, v in properties.items())} if properties else {}


class Java:
    def __init__(self, version):
        self.name, self.version = f'java-{version}', version
        self.source = os.path.join(HERE, 'java')
        self.out = place(self.name, self.source)

    def build(self):
        source = self.source
        built(os.path.join(self.out, 'built'), source, lambda: call_quietly(
            ['mvn', '-q', '-B', '-f', os.path.join(source, 'pom.xml'), f'-Dclient={self.version}', f'-Dout={self.out}',
             'process-classes']))

    def command(self, work):
        return ['java', '-Xms32m', '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:MaxDirectMemorySize=256m',
                f'-Duser.home={work}', f'-Djava.io.tmpdir={work}', f'-Drocketmq.client.logRoot={work}', f'-Drocketmq.log.root={work}',
                '-Drocketmq.client.rebalance.waitInterval=1000', '-Drocketmq.client.rebalance.lockInterval=1000',
                '-cp', f'{self.out}/classes:{self.out}/lib/*', 'Driver']


class Mqadmin:
    """Apache's mqadmin of the servers' class path, and all that `Java` does: commands and live clients in one process."""
    name = 'mqadmin'

    def build(self):
        source, driver = os.path.join(HERE, 'mqadmin'), os.path.join(HERE, 'java', 'src')
        out, self.lib = os.path.join(CACHE, self.name), self._lib()
        if newest(driver) > newest(out):
            shutil.rmtree(out, ignore_errors=True)
        built(os.path.join(out, 'built'), source, lambda: call_quietly(
            ['javac', '-nowarn', '-Xlint:none', '-cp', f'{self.lib}/*', '-d', out, os.path.join(source, 'Mqadmin.java'),
             os.path.join(driver, 'Driver.java')]))

    def _lib(self):
        return subprocess.run([os.path.join(HERE, 'apache'), 'jars'], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def command(self, work):
        return ['java', '-Xms32m', '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:MaxDirectMemorySize=256m',
                f'-Duser.home={work}', f'-Djava.io.tmpdir={work}', f'-Drocketmq.client.logRoot={work}', f'-Drocketmq.log.root={work}',
                '-Drocketmq.client.rebalance.waitInterval=1000', '-Duser.timezone=UTC',
                f'-Drmq.logback.configurationFile={os.path.join(HERE, "mqadmin", "logback.xml")}',
                '-cp', f'{os.path.join(CACHE, self.name)}:{self.lib}/*', 'Mqadmin']


class Go:
    name = 'go'

    source = os.path.join(HERE, 'go')
    out = os.path.join(place(name, source), 'driver')

    def build(self):
        source, out = self.source, self.out
        built(os.path.join(os.path.dirname(out), 'built'), source, lambda: call_quietly(
            ['go', 'build', '-o', out, '.'], cwd=source, env={**os.environ, 'GOFLAGS': '-mod=readonly -buildvcs=false'}))

    def command(self, work):
        return [self.out]


class Node:
    name = 'node'

    def build(self):
        source, out = os.path.join(HERE, 'node'), os.path.join(CACHE, 'node')

        def install():
            os.makedirs(out, exist_ok=True)
            for file in ('package.json', 'package-lock.json', 'driver.js'):
                shutil.copy(os.path.join(source, file), out)
            call_quietly(['npm', 'ci', '--no-audit', '--no-fund', '--silent'], cwd=out)
        built(os.path.join(out, 'built'), source, install)

    def command(self, work):
        return ['node', os.path.join(CACHE, 'node', 'driver.js')]


class Cpp:
    """The C++ client inside the PyPI package `rocketmq`: a shared library for x86-64."""
    name = 'cpp'

    def build(self):
        source, out = os.path.join(HERE, 'cpp'), os.path.join(CACHE, 'cpp')
        built(os.path.join(out, 'built'), source, lambda: call_quietly(
            [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', out, '--upgrade', 'rocketmq==0.4.4']))

    def command(self, work):
        return ['env', f'PYTHONPATH={os.path.join(CACHE, "cpp")}', sys.executable, os.path.join(HERE, 'cpp', 'driver.py')]


KINDS = {k.name: k for k in (Java('5.5.0'), Java('4.9.8'), Mqadmin(), Go(), Node(), *([Cpp()] if platform.machine() == 'x86_64' else []))}


class Driver:
    """A running driver process. Calls may come from many threads at once."""

    def __init__(self, kind, work, properties=None):
        """`properties`: system properties of a Java library."""
        self.kind, self.name = kind, kind.name
        os.makedirs(work, exist_ok=True)
        self.log = open(os.path.join(work, f'driver-{kind.name}-{id(self):x}.log'), 'wb')
        self.process = subprocess.Popen(kind.command(work), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        cwd=work, env={**os.environ, **java_properties(properties), 'HOME': work}, start_new_session=True)
        self.ids, self.waiting, self.lock = itertools.count(1), {}, threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                reply = json.loads(line)
            except ValueError:  # a library that prints
                self.log.write(line)
                continue
            slot = self.waiting.pop(reply['id'], None)
            if slot:
                slot[1] = reply
                slot[0].set()
        for slot in list(self.waiting.values()):
            slot[0].set()

    def call(self, op, timeout=90, **request):
        body = request.pop('body', None)
        if isinstance(body, bytes):
            request['b64'] = base64.b64encode(body).decode()
        elif body is not None:
            request['text'] = body
        number = next(self.ids)
        slot = self.waiting[number] = [threading.Event(), None]
        line = json.dumps(dict(request, id=number, op=op)).encode() + b'\n'
        with self.lock:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        if not slot[0].wait(timeout):
            raise DriverError(f'{self.name}: {op} did not end in {timeout} s')
        if slot[1] is None:
            raise DriverError(f'{self.name}: the driver died, see {self.log.name}')
        if 'error' in slot[1]:
            raise DriverError(slot[1]['error'], slot[1].get('code'))
        return slot[1]['ok']

    def kill(self):
        """SIGKILL: a client that dies."""
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
