"""A static topic is moved from one broker to another and back while clients send and consume in order."""
import json
import subprocess
import threading
import time

from harness import wire
from harness.drivers import DriverError
from harness.scenario import sdk
from harness.targets import apogee_binary

from .replicas import own

QUEUES, LOGICAL = 4, '__syslo__global__'
#: So many sends to each queue are acknowledged between two steps.
SENDS = 50
#: How long a queue may be without an acknowledgement: clients learn of a move when they ask for the route again, every second.
LONGEST_GAP = 20


class Load:
    """A producer for each logical queue that sends one message after the other, each until it is acknowledged."""

    def __init__(self, s, producer, topic):
        self.s, self.producer, self.topic = s, producer, topic
        self.acknowledged = {queue: [] for queue in range(QUEUES)}
        self.repeated, self.failures, self.gap = set(), {}, 0.0
        self.ends = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(queue,)) for queue in range(QUEUES)]
        for thread in self.threads:
            thread.start()

    def run(self, queue):
        last = time.monotonic()
        while not self.ends.is_set():
            text = f'{queue}-{len(self.acknowledged[queue])}'
            while not self.send(queue, text):
                self.repeated.add(text)
                if time.monotonic() - last > 60:
                    return
                time.sleep(0.05)
            self.gap, last = max(self.gap, time.monotonic() - last), time.monotonic()
            time.sleep(0.005)

    def send(self, queue, text):
        try:
            sent = self.producer.call('send', topic=self.topic, text=text, queue=queue, broker=LOGICAL)
        except DriverError as error:
            self.failures[error.code] = self.failures.get(error.code, 0) + 1
            return False
        assert sent['queue'] == queue, sent
        self.acknowledged[queue].append((text, sent['offset']))
        return True

    def goes_on(self, what):
        ends = {queue: len(sent) + SENDS for queue, sent in self.acknowledged.items()}
        self.s.wait(lambda: all(len(self.acknowledged[queue]) >= end for queue, end in ends.items()),
                    f'{what}: sends to every queue are acknowledged; failures by code: {self.failures}', 120)

    def stop(self):
        self.ends.set()
        for thread in self.threads:
            thread.join()


@sdk('java-5.5.0', deadline=300)
def a_topic_moves_between_brokers_under_load(s):
    moves(s, s.target.kind, s.target.kind)


@sdk('java-5.5.0', ours=True, deadline=300)
def a_topic_moves_between_a_broker_of_apache_and_ours_under_load(s):
    moves(s, 'apache', 'apogee')


def moves(s, first, second):
    names = own(s, 'apogee', {}, 'names', roles='namesrv')
    names.start()
    brokers = {}
    for name, kind in (('broker-a', first), ('broker-b', second)):
        brokers[name] = own(s, kind, dict(brokerName=name), name, roles='broker', namesrv=names.namesrv).start()
    s.wait(lambda: len(registered(names)) == 2, 'both brokers are registered', 60)
    topic = s.name('t')
    admin(names, 'updateStaticTopic', '-b', 'broker-a', '-t', topic, '-qn', QUEUES)
    s.wait(lambda: leaders(names, topic) == {'broker-a'}, 'the topic is routed')
    consumer = s.push('consumer', topic, target=names, orderly=True)
    load = Load(s, s.producer('producer', target=names), topic)
    try:
        load.goes_on('before')
        for broker in ('broker-b', 'broker-a', 'broker-b'):
            admin(names, 'remappingStaticTopic', '-b', broker, '-t', topic)
            s.wait(lambda: leaders(names, topic) == {broker}, f'the topic is routed to {broker}')
            load.goes_on(f'on {broker}')
    finally:
        load.stop()
    sent = {queue: [text for text, _ in messages] for queue, messages in load.acknowledged.items()}
    expected = {text for texts in sent.values() for text in texts}
    s.wait(lambda: expected <= set(consumer.texts()), f'all {len(expected)} acknowledged messages are consumed', 90)
    got = consumer.received()
    again = 0
    for queue, texts in sent.items():
        of_queue = [m for m in got if m['queue'] == queue]
        first_times = list(dict.fromkeys(m['text'] for m in of_queue if m['text'] in expected))
        assert first_times == texts, f'queue {queue}: the order is not that of the sends'
        repeated = [m['text'] for m in of_queue if [o['text'] for o in of_queue].count(m['text']) > 1]
        assert set(repeated) <= load.repeated, f'queue {queue}: consumed again without having been sent again: {repeated[:5]}'
        again += len(set(repeated))
        offsets = [m['offset'] for m in of_queue]
        assert offsets == sorted(offsets), f'queue {queue}: logical offsets must grow'
        known = {text: offset for text, offset in load.acknowledged[queue] if offset >= 0}
        assert all(m['offset'] == known[m['text']] for m in of_queue if m['text'] in known and m['text'] not in repeated)
    # An earlier item is read by way of the leader.
    late = s.push('late', topic, group=s.name('late'), target=names)
    s.wait(lambda: expected <= set(late.texts()), 'a new group reads all of it, from both brokers', 90)
    assert load.gap < LONGEST_GAP, f'{load.gap:.1f} s without an acknowledgement'
    print(f'{s.case.title}: {len(expected)} acknowledged, failures by code {load.failures}, {again} sent twice; '
          f'longest time without an acknowledgement in a queue: {load.gap:.1f} s')


def registered(names):
    with wire.Connection(names.namesrv) as c:
        return c.ask(wire.CLUSTER_INFO).json()['brokerAddrTable']


def leaders(names, topic):
    """The brokers that lead the logical queues."""
    with wire.Connection(names.namesrv) as c:
        answer = c.ask(wire.ROUTE, dict(topic=topic, acceptStandardJsonOnly='true'))
    if answer.code != 0:
        return set()
    mappings = answer.json().get('topicQueueMappingByBroker') or {}
    return {broker for broker, mapping in mappings.items() if mapping['currIdMap']}


def admin(names, *command):
    done = subprocess.run([apogee_binary(), 'admin', *map(str, command), '-n', names.namesrv, '--output', 'json'],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, f'{command}: {done.stdout}{done.stderr}'
    assert all('error' not in change for change in json.loads(done.stdout)['changes']), done.stdout
