"""A disk that is full: what needs no new file goes on, what does is refused with a code, and all is well when there is room again.

What fills it is a limit on the size of a file, set on the running process: a file that would be larger cannot be made. A write behind the limit fails, as on a
disk that fails.
"""
import contextlib
import resource
import time

from harness import wire
from harness.drivers import DriverError
from harness.scenario import sdk
from harness.targets import in_sync, replicas

from .failover import Deliveries, Pair, Sends, until_sent
from .groups import everything

MIB = 1 << 20
SMALL = dict(mappedFileSizeCommitLog=MIB, mappedFileSizeConsumeQueue=20000, maxHashSlotNum=1000, maxIndexNum=4000)


@contextlib.contextmanager
def no_file_over(s, size, target=None):
    """No file of the broker can be made, grow or be written beyond `size` bytes inside this block."""
    pid = (target or s.target).process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def sends_until(s, code, send):
    """Sends until the answer has this code; returns it. Everything before it must be a success."""
    answer = send()
    while answer.code == 0:
        assert s.left() > 1, f'{send.acknowledged} sends, and none is answered with {code}'
        answer = send()
    assert answer.code == code, answer
    return answer


def as_the_java_client_sees_it(producer, topic, code):
    """The same code reaches the application."""
    try:
        sent = producer.send(topic, 'x' * 50_000)
        raise AssertionError(f'{sent}, not refused with {code}')
    except DriverError as e:
        assert e.code == code, e


class Counted:
    """Sends by hand, counting what was acknowledged."""

    def __init__(self, s, topic, body, props=None):
        self.s, self.topic, self.body, self.props, self.acknowledged = s, topic, body, props or (lambda i: {}), 0
        self.connection = s.connect()

    def __call__(self):
        answer = self.connection.ask(wire.SEND, wire.send_header(self.topic, props=self.props(self.acknowledged)), self.body)
        self.acknowledged += answer.code == 0
        return answer

    def all_are_there(self):
        end = int(self.s.ask(wire.MAX_OFFSET, dict(topic=self.topic, queueId=0)).ext['offset'])
        assert end == self.acknowledged, f'{self.acknowledged} acknowledged, the queue ends at {end}'


@sdk('java-5.5.0', settings=SMALL, ours=True)
def without_room_for_the_next_log_file_sends_are_refused_with_14(s):
    topic, producer = s.topic(queues=1), s.producer(retries=0)
    send = Counted(s, topic, b'x' * 50_000)
    with no_file_over(s, MIB - 1):
        answer = sends_until(s, 14, send)
        assert answer.remark, answer
        as_the_java_client_sees_it(producer, topic, 14)
        send.all_are_there()
        pulled = s.ask(wire.PULL, wire.pull_header(topic, 0))
        assert pulled.code == 0, f'what is there can still be read: {pulled}'
    assert send().code == 0, 'as soon as there is room'
    producer.send(topic, 'y')
    send.acknowledged += 1
    send.all_are_there()


@sdk('java-5.5.0', settings=dict(SMALL, maxHashSlotNum=100_000, maxIndexNum=400_000, apogeeMaxIndexBacklog=1000), ours=True)
def without_room_for_the_next_index_file_sends_go_on_and_no_key_is_forgotten(s):
    """The log's files fit, those of the key index do not: keys wait in memory, and over apogeeMaxIndexBacklog they are left to the log."""
    topic, producer = s.topic(queues=1), s.producer(retries=0)
    send = Counted(s, topic, b'x', lambda i: dict(KEYS=' '.join([f'first{i}', *(f'k{i}-{n}' for n in range(50))])))
    with no_file_over(s, 2 * MIB):
        for _ in range(500):
            answer = send()
            assert answer.code == 0, answer
        producer.send(topic, 'y')
        send.acknowledged += 1
        send.all_are_there()
    assert send().code == 0
    for i in (0, 250, 499):
        s.wait(lambda: s.ask(wire.QUERY_MESSAGE, dict(topic=topic, key=f'first{i}', maxNum=10, beginTimestamp=0,
                                                      endTimestamp=1 << 62)).code == 0, f'message {i} is found by its key')


@sdk('java-5.5.0', ours=True, deadline=200)
def a_master_whose_disk_fails_gives_its_role_away(s):
    """Writes of its log fail from one moment on. It refuses sends until it has handed over, and is a slave when its disk works again."""
    pair = Pair(s)
    topic = s.topic(queues=2, target=pair.master)
    consumer = Deliveries(s.push('consumer', topic, target=pair.names, brief=True))
    loads = [Sends(s, s.producer(target=pair.names, timeout_ms=1000), topic)]
    with wire.Connection(pair.master.broker) as c:
        for n in range(8):
            assert c.ask(wire.SEND, wire.send_header(topic), b'x' * 20_000).code == 0, n
    until_sent(s, loads, 50)
    failing, moment = pair.master, time.monotonic()
    with no_file_over(s, 64 << 10, failing):
        s.wait(lambda: replicas(pair.names).get('masterAddress') not in (None, failing.broker), 'another one is the master', 60)
        after = time.monotonic() - moment
        pair.turn()
        until_sent(s, loads, 50, since=moment)
    gap = loads[0].gap(moment)
    if failing.process.poll() is not None:
        # As a service manager does. It may lack what was not synced, so it is silent until its master has forgotten it, longer than `start` waits.
        with contextlib.suppress(AssertionError):
            failing.start()
    s.wait(lambda: in_sync(pair.names) == [1, 2], 'it is in sync again', 90)
    assert replicas(pair.names)['masterAddress'] == pair.master.broker, replicas(pair.names)
    sent = loads[0].stop()
    everything(s, sent, lambda: set(consumer.texts()))
    s.slow.append(f'another master after {after:.1f} s, no acknowledged send for {gap:.1f} s, {len(sent)} acknowledged and consumed')
