"""Brokers in controller mode under our controllers, Apache's, ours, and one of each: they get their ids, one becomes master, and the other one
follows it when it is killed."""
import json
import os
import subprocess
import sys
import threading
import time

from harness import targets
from harness.scenario import sdk
from harness.targets import in_sync, master, replicas

from .groups import everything
from .replicas import own

MODE = dict(enableControllerMode='true', allAckInSyncStateSet='true', inSyncReplicas=1, minInSyncReplicas=1, slaveReadEnable='true',
            syncBrokerMetadataPeriod=1000, checkSyncStateSetPeriod=1000, syncControllerMetadataPeriod=1000)


@sdk('java-5.5.0', deadline=150, ours=True)
def a_killed_master_of_apache_is_followed_by_its_slave(s):
    fails_over(s, ['n0'])


@sdk('java-5.5.0', deadline=180, ours=True)
def brokers_of_apache_fail_over_when_the_leader_of_three_controllers_is_killed_too(s):
    fails_over(s, ['n0', 'n1', 'n2'])


@sdk('java-5.5.0', deadline=150, ours=True)
def a_killed_master_of_ours_is_followed_by_its_slave(s):
    fails_over(s, ['n0'], ('apogee', 'apogee'))


@sdk('java-5.5.0', deadline=180, ours=True)
def our_brokers_fail_over_when_the_leader_of_three_controllers_is_killed_too(s):
    fails_over(s, ['n0', 'n1', 'n2'], ('apogee', 'apogee'))


@sdk('java-5.5.0', deadline=180, ours=True)
def a_broker_of_apache_and_one_of_ours_follow_each_other(s):
    fails_over(s, ['n0'], ('apache', 'apogee'))


@sdk('java-5.5.0', deadline=180, ours=True)
def our_brokers_fail_over_under_the_controller_of_apache(s):
    fails_over(s, ['n0'], ('apogee', 'apogee'), of_apache=True)


def fails_over(s, controllers, kinds=('apache', 'apache'), of_apache=False):
    work = os.path.join(s.work, 'controllers')
    if of_apache:
        names = group = targets.ApacheController(work)
    else:
        names = own(s, 'apogee', {}, 'names', roles='namesrv')
        names.start()
        group = targets.Controllers(work, {}, controllers)
    s.own_targets.append(group)
    group.start()
    s.wait(group.leader, 'a controller leads', 20)
    mode = {**MODE, 'controllerAddr': ';'.join(group.addresses.values())}
    brokers = [own(s, kind, mode, name, roles='broker', namesrv=names.namesrv) for kind, name in zip(kinds, ('one', 'other'))]
    starts = [threading.Thread(target=broker.start) for broker in brokers]
    for start in starts:
        start.start()
    s.wait(lambda: in_sync(group) == [1, 2], 'both are in sync', 60)
    for start in starts:
        start.join()
    first, second = brokers if replicas(group)['masterAddress'] == brokers[0].broker else brokers[::-1]
    successor = 3 - replicas(group)['masterBrokerId']
    s.wait(lambda: master(names) == first.broker, 'the name server knows the master', 30)
    topic = s.topic(queues=4, target=first)
    consumer = s.push('consumer', topic, target=names)
    sends = Sends(s, s.producer(target=names, timeout_ms=1000), topic)
    s.wait(lambda: len(sends.acked) >= 100, 'sends are acknowledged', 30)
    if len(controllers) > 1:
        leader = group.leader()
        group.stop(next(name for name, address in group.addresses.items() if address == leader), kill=True)
    killed = time.monotonic()
    first.stop(kill=True)
    s.wait(lambda: replicas(group).get('masterAddress') == second.broker, 'the second is master', 30)
    s.wait(lambda: sends.since(killed) >= 100, 'sends are acknowledged again', 60)
    found = replicas(group)
    assert found['masterBrokerId'] == successor and found['masterEpoch'] >= 2, found
    # The killed one comes back as slave, and gets in sync.
    first.start()
    s.wait(lambda: in_sync(group) == [1, 2], 'the killed one is in sync again', 60)
    assert replicas(group)['masterBrokerId'] == successor, replicas(group)
    count = len(sends.acked)
    s.wait(lambda: len(sends.acked) > count + 50, 'sends wait for both', 30)
    gap = sends.gap(killed)
    acked = sends.stop()
    everything(s, acked, lambda: set(consumer.texts()))
    # Not under load: a master of Apache whose role changes while it stores a message acknowledges it without its slave.
    if not of_apache:
        administer(s, names, group, first, 3 - successor)
    for broker in brokers:
        broker.stop(kill=True)  # a clean end takes Java many seconds, and is not what this is about
    print(f'{s.case.title}: no acknowledged send for {gap:.2f} s, {len(acked)} acknowledged and consumed', file=sys.stderr, flush=True)


def administer(s, names, group, first, first_id):
    """The verbs of `apogeemq admin`; the first becomes master again."""
    at = ['-a', ';'.join(group.addresses[name] for name in group.processes)]

    def admin(*words):
        command = [targets.apogee_binary(), 'admin', '-n', names.namesrv, '--output', 'json', *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr
    assert admin('getControllerMetaData', *at)['leaderAddress'] == group.leader()
    sets = admin('getSyncStateSet', *at, '-b', 'broker-a')['brokers']
    assert [len(one['inSyncReplicas']) for one in sets] == [2], sets
    epochs = admin('getBrokerEpoch', '-b', 'broker-a')['brokers']
    assert len(epochs) == 2 and all([e['epoch'] for e in one['epochs']] == [1, 2] for one in epochs), epochs
    refused = admin('cleanBrokerMetadata', *at, '-bn', 'broker-a', '-b', str(first_id), '-c', 'DefaultCluster')
    assert 'failed' in refused, refused
    elected = admin('electMaster', *at, '-b', str(first_id), '-bn', 'broker-a', '-c', 'DefaultCluster')
    assert (elected['masterAddress'], elected['masterEpoch']) == (first.broker, 3), elected
    assert 'false' == admin('getControllerConfig', *at)['servers'][0]['table']['enableElectUncleanMaster']
    changed = admin('updateControllerConfig', *at, '-k', 'enableElectUncleanMaster', '-v', 'true')['changes']
    assert all('error' not in one for one in changed), changed
    assert 'true' == admin('getControllerConfig', *at)['servers'][0]['table']['enableElectUncleanMaster']


class Sends:
    """A client sends one message after the other, until stopped; notes when each was acknowledged."""

    def __init__(self, s, producer, topic):
        self.s, self.producer, self.topic = s, producer, topic
        self.acked, self.over = [], threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        i = 0
        while not self.over.is_set():
            text = f'n{i}'
            i += 1
            try:
                if self.producer.send(self.topic, text)['status'] == 'SEND_OK':
                    self.acked.append((time.monotonic(), text))
            except Exception:  # noqa: BLE001 - no broker serves now
                self.over.wait(0.02)
            self.over.wait(0.005)

    def since(self, moment):
        return sum(at > moment for at, _ in self.acked)

    def gap(self, moment):
        """Seconds without an acknowledged send around and after `moment`."""
        times = [at for at, _ in self.acked]
        return max(b - a for a, b in zip(times, times[1:]) if b > moment)

    def stop(self):
        self.over.set()
        self.thread.join(30)
        assert not self.thread.is_alive(), 'a send does not end'
        return [text for _, text in self.acked]
