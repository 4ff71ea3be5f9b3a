"""What the scenarios run against: ApogeeMQ or the Java broker, each in a directory and on ports of its own."""
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

from . import wire
from .drivers import HERE, java_properties

ROOT = os.path.dirname(os.path.dirname(HERE))
_ports, _ports_lock = set(), threading.Lock()


def free_port(span=1):
    """A port that is free now, as are those below and above it that a broker also takes (VIP -2, replication +1)."""
    with _ports_lock:
        while True:
            port = random.randint(21000, 31990)  # below the range from which outgoing connections take theirs
            wanted = range(port - 2, port + 2) if span > 1 else [port]
            if any(p in _ports for p in wanted) or not all(_bindable(p) for p in wanted):
                continue
            _ports.update(wanted)
            return port


def _bindable(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(('127.0.0.1', port))
            return True
        except OSError:
            return False


def wait_for(condition, deadline=30, why='the condition'):
    """Polls until `condition()` is truthy; the value is returned. Exceptions of the last try are shown."""
    end, problem = time.monotonic() + deadline, None
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, TimeoutError, wire.Closed) as e:
            problem = e
        if time.monotonic() > end:
            raise AssertionError(f'{why}: not within {deadline} s' + (f' ({problem})' if problem else ''))
        time.sleep(0.05)


class Target:
    """A name server and a broker. `settings` are lines of the broker's properties file that differ from the common ones.
    `directory` is where in `work` the store is. `plain`: servers accept plain connections."""

    def __init__(self, work, settings=None, roles='both', namesrv=None, bind='127.0.0.1', plain=True):
        self.work, self.roles, self.bind, self.plain = work, roles, bind, plain
        os.makedirs(work, exist_ok=True)
        self.namesrv_port = free_port() if namesrv is None else None
        self.broker_port = free_port(span=4)
        self.namesrv = namesrv or f'127.0.0.1:{self.namesrv_port}'
        self.broker = f'127.0.0.1:{self.broker_port}'
        # Both sides alike: a long busy threshold for a loaded machine, and small files, of which some are even rolled.
        self.settings = {'waitTimeMillsInSendQueue': 20000, 'osPageCacheBusyTimeOutMills': 20000,
                         'mappedFileSizeCommitLog': 64 << 20, 'maxHashSlotNum': 100_000, 'maxIndexNum': 400_000, **(settings or {})}

    def ready(self):
        """Waits until the name server routes to the broker."""
        def routed():
            with wire.Connection(self.namesrv) as c:
                answer = c.ask(wire.CLUSTER_INFO)
                return answer.code == 0 and self.broker.split(':')[1] in answer.body.decode()
        if self.roles == 'both' and self.plain:
            wait_for(routed, 60, 'the broker is routed to')
        return self

    def freeze(self):
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.pid, signal.SIGCONT)


class Apache(Target):
    kind, directory = 'apache', 'store'

    def __init__(self, *args, version=None, **more):
        """`version`: another one than that of apache.pom.xml."""
        super().__init__(*args, **more)
        self.environment = {**os.environ, **({'APACHE_VERSION': version} if version else {})}
        # What is a line of broker.conf for ApogeeMQ is a system property for Java.
        properties = {k: self.settings.pop(k) for k in list(self.settings) if k.startswith('tls.')}
        self.environment.update(java_properties(properties))

    def _run(self, *args):
        done = subprocess.run([os.path.join(HERE, 'apache'), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=self.environment)
        if done.returncode:
            raise AssertionError(f'apache {" ".join(args)}: {done.stdout[-3000:]}')

    def start(self):
        with open(os.path.join(self.work, 'namesrv-extra.conf' if self.roles == 'namesrv' else 'extra.conf'), 'w') as f:
            f.writelines(f'{k}={v}\n' for k, v in self.settings.items())
        if self.roles == 'namesrv':
            self._run('namesrv', self.work, str(self.namesrv_port))
        elif self.roles == 'broker':
            self._run('broker', self.work, self.namesrv, str(self.broker_port))
        else:
            self._run('up', self.work, str(self.namesrv_port), str(self.broker_port))
        return self.ready()

    @property
    def pid(self):
        """Of the broker."""
        return int(open(os.path.join(self.work, 'broker.pid')).read())

    def stop(self, kill=False):
        self._run('kill' if kill else 'down', self.work)

    def restart(self, kill=False):
        """Stops the broker (SIGTERM or SIGKILL) and starts it again on its store; the name server stays."""
        self._run('kill' if kill else 'down', self.work, 'broker')
        self._run('broker', self.work, self.namesrv, str(self.broker_port))
        self.ready()


def apogee_binary():
    given = os.environ.get('APOGEEMQ_BIN')
    found = [given] if given else [os.path.join(ROOT, 'target', p, 'apogeemq') for p in ('release', 'debug')]
    found = [p for p in found if os.path.exists(p)]
    if not found:
        raise SystemExit('no apogeemq binary: cargo build, or set APOGEEMQ_BIN')
    return max(found, key=os.path.getmtime)


class Apogee(Target):
    kind, directory = 'apogee', 'data'
    grpc_port = 0
    process = None
    #: Of the process, beside those of the tests.
    environment = {}

    def start(self):
        conf = os.path.join(self.work, 'broker.conf')
        common = dict(brokerClusterName='DefaultCluster', brokerName='broker-a', brokerId=0, autoCreateTopicEnable='true',
                      listenPort=self.broker_port)
        with open(conf, 'w') as f:
            f.writelines(f'{k}={v}\n' for k, v in {**common, **self.settings}.items())
        command = [apogee_binary()]
        if self.roles == 'namesrv':
            command += ['namesrv', *self.of_names(), '--namesrv-port', str(self.namesrv_port)]
        elif self.roles == 'broker':
            command += ['broker', '-n', self.namesrv, '-c', conf, '--broker-port', str(self.broker_port), '--grpc-port', str(self.grpc_port)]
        else:
            command += ['server', '-c', conf, '--namesrv-port', str(self.namesrv_port), '--broker-port', str(self.broker_port), '--grpc-port', '0']
        command += ['--bind', self.bind, '--data', os.path.join(self.work, 'data')]
        self.log = open(os.path.join(self.work, 'apogeemq.log'), 'ab')
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, cwd=self.work,
                                        env={**os.environ, **self.environment}, start_new_session=True)
        port = self.namesrv_port if self.roles == 'namesrv' else self.broker_port
        wait_for(self._open(port), 30, f'apogeemq opens port {port}, see {self.log.name}')
        return self.ready()

    def of_names(self):
        """What a name server is given besides its port."""
        return []

    @property
    def pid(self):
        return self.process.pid

    def _open(self, port):
        def look():
            if self.process.poll() is not None:
                tail = open(self.log.name).read()[-2000:]
                raise AssertionError(f'apogeemq ended with {self.process.returncode}: {tail}')
            with socket.create_connection(('127.0.0.1', port), 1):
                return True
        return look

    def stop(self, kill=False):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self.thaw()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError('apogeemq did not stop within 30 s of SIGTERM')

    def restart(self, kill=False):
        self.stop(kill)
        self.start()


class Behind:
    """A server behind two of ApogeeMQ's proxies, each in a process of its own. Clients are given the proxies, in turn, as their name server, so the
    consumers of a group come through different ones. What is done by hand goes to the broker itself."""

    def __init__(self, server, work, tls=None):
        """`tls`: further lines of the proxies' file."""
        self.server, self.work, self.kind = server, os.path.join(work, 'proxies'), server.kind
        self.more, self.processes, self.turn, self.lock = tls or {}, [], 0, threading.Lock()

    def __getattr__(self, name):
        return getattr(self.server, name)

    @property
    def namesrv(self):
        with self.lock:
            self.turn += 1
            return self.proxies[self.turn % len(self.proxies)]

    def start(self):
        self.server.start()
        os.makedirs(self.work, exist_ok=True)
        conf = os.path.join(self.work, 'proxy.conf')
        with open(conf, 'w') as f:
            f.writelines(f'{k}={v}\n' for k, v in {'topicRouteServiceCacheRefreshSeconds': 1, **self.more}.items())
        ports = [free_port() for _ in range(2)]
        self.proxies = [f'127.0.0.1:{port}' for port in ports]
        self.log = open(os.path.join(self.work, 'proxy.log'), 'ab')
        for port in ports:
            self.processes.append(subprocess.Popen(
                [apogee_binary(), 'proxy', '-c', conf, '-n', self.server.namesrv, '--bind', '127.0.0.1', '--grpc-port', '0',
                 '--remoting-port', str(port), '--log', 'info'],
                cwd=self.work, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, start_new_session=True))

        def routed(proxy):
            with wire.Connection(proxy) as c:
                # 17: the broker creates no topics on its own.
                return c.ask(wire.ROUTE, dict(topic='TBW102')).code in (0, 17)
        for proxy in self.proxies:
            wait_for(lambda proxy=proxy: routed(proxy), 30, f'the proxy {proxy} tells a route, see {self.log.name}')
        return self

    def kill_one(self):
        """SIGKILL to the first proxy."""
        process = self.processes.pop(0)
        process.kill()
        process.wait()

    def stop(self, kill=False):
        for process in self.processes:
            process.terminate()
        try:
            for process in self.processes:
                assert process.wait(30) == 0, f'a proxy ended with {process.returncode}, see {self.log.name}'
        finally:
            self.processes = []
            self.server.stop(kill)


class ApacheController(Apache):
    """A name server of Apache with the controller in it."""

    def __init__(self, work):
        self.addresses = {'n0': f'127.0.0.1:{free_port()}'}
        settings = dict(enableControllerInNamesrv='true', controllerDLegerGroup='group1', controllerDLegerSelfId='n0',
                        controllerDLegerPeers=f'n0-{self.addresses["n0"]}', controllerStorePath=os.path.join(work, 'controller'))
        super().__init__(work, settings, roles='namesrv')

    def leader(self):
        return leader_of(self.addresses.values())


def leader_of(controllers):
    """The address of the leader that one of these controllers names, or None."""
    for address in controllers:
        try:
            with wire.Connection(address) as c:
                found = c.ask(wire.CONTROLLER_METADATA).ext.get('controllerLeaderAddress')
        except (OSError, wire.Closed):
            continue
        if found:
            return found


def replicas(group):
    """What the leader of these controllers says of the brokers."""
    leader = group.leader()
    if not leader:
        return {}
    with wire.Connection(leader) as c:
        answer = c.ask(wire.SYNC_STATE_DATA, body=json.dumps(['broker-a']).encode())
        return answer.json()['replicasInfoTable'].get('broker-a', {}) if answer.code == 0 else {}


def in_sync(group):
    """Ids of the living brokers that are in sync."""
    return sorted(replica['brokerId'] for replica in replicas(group).get('inSyncReplicas', []) if replica['alive'])


def master(names):
    """The master's address by the name server, or None."""
    with wire.Connection(names.namesrv) as c:
        brokers = c.ask(wire.CLUSTER_INFO).json()['brokerAddrTable']
        return {int(i): a for i, a in brokers.get('broker-a', {}).get('brokerAddrs', {}).items()}.get(0)


class NamesWithController(Apogee):
    """A name server of ours with the controller in it. `addresses`: those of the controllers of its group by their names, of which `name` is its own."""

    def __init__(self, work, addresses=None, name='n0'):
        super().__init__(work, None, roles='namesrv')
        self.name, self.addresses = name, addresses or {name: f'127.0.0.1:{free_port()}'}

    def of_names(self):
        conf = os.path.join(self.work, 'names.conf')
        peers = ';'.join(f'{name}-{address}' for name, address in self.addresses.items())
        with open(conf, 'w') as f:
            f.write(f'enableControllerInNamesrv=true\ncontrollerDLegerPeers={peers}\ncontrollerDLegerSelfId={self.name}\n'
                    f'controllerStorePath={os.path.join(self.work, "controller")}\n')
        return ['-c', conf]

    def leader(self):
        return leader_of(self.addresses.values())


class Controllers(Apogee):
    """One controller of ours for each of `names`, in one group; `roles` and broker do not count."""

    def __init__(self, work, settings=None, names=('n0',)):
        super().__init__(work, settings, roles='controller', namesrv='none')
        self.settings, self.processes = settings or {}, {}
        self.addresses = {name: f'127.0.0.1:{free_port()}' for name in names}

    def start(self, *names):
        for name in names or self.addresses:
            work = os.path.join(self.work, name)
            os.makedirs(work, exist_ok=True)
            conf = os.path.join(work, 'controller.conf')
            peers = ';'.join(f'{n}-{a}' for n, a in self.addresses.items())
            with open(conf, 'w') as f:
                f.writelines(f'{k}={v}\n' for k, v in {'controllerDLegerPeers': peers, 'controllerDLegerSelfId': name, **self.settings}.items())
            self.log = open(os.path.join(work, 'apogeemq.log'), 'ab')
            self.process = self.processes[name] = subprocess.Popen(
                [apogee_binary(), 'controller', '-c', conf, '--bind', self.bind, '--data', os.path.join(work, 'data')],
                stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, cwd=work, start_new_session=True)
            wait_for(self._open(int(self.addresses[name].split(':')[1])), 30, f'controller {name} opens its port, see {self.log.name}')
        return self

    def stop(self, *names, kill=False):
        for name in names or list(self.processes):
            self.process = self.processes.pop(name, None)
            super().stop(kill)

    def leader(self):
        """The address of the leader that a controller names, or None."""
        return leader_of(self.addresses[name] for name in self.processes)


KINDS = {'apache': Apache, 'apogee': Apogee}
#: What `run --target` may be.
TARGETS = {**KINDS, 'apogee-proxy': lambda work: Behind(Apogee(work), work), 'apache-behind': lambda work: Behind(Apache(work), work)}
