"""What official clients see while the master of two brokers of one name is killed, and frozen and thawed, under the controller in a name server."""
import os
import threading
import time

from harness import targets, wire
from harness.drivers import DriverError
from harness.scenario import sdk
from harness.targets import in_sync, master, replicas

from . import controllers
from .groups import everything
from .pops import pop
from .transactions import all_of, send_in_transaction

SETTINGS = dict(enableControllerMode='true', allAckInSyncStateSet='true', transactionTimeOut=2000, transactionCheckInterval=1000,
                transactionCheckMax=1_000_000)
#: When what waits is due, and for how long a popped message is invisible: the master is lost before.
DUE_MS, LEVEL = 10_000, dict(messageDelayLevel='10s')
INVISIBLE_MS = 8_000
#: Slaves copy the offsets of groups every second; the rest is for a busy machine.
OFFSETS_GO_BACK_S = 2.5
QUEUES = 2


@sdk('java-5.5.0', 'go', deadline=300, ours=True)
def clients_lose_nothing_when_the_master_is_killed_and_when_it_is_frozen(s):
    pair = Pair(s)
    topic, ordered = s.topic('t', queues=QUEUES, target=pair.master), s.topic('o', queues=QUEUES, target=pair.master, order=True)
    popped = s.topic('popped', queues=1, target=pair.master)
    consumer = Deliveries(s.push('consumer', topic, target=pair.names, brief=True))
    in_order = Deliveries(s.push('in-order', ordered, group=s.name('og'), orderly=True, target=pair.names, brief=True))
    transactional = s.start('transaction_producer', 'transactional', group=s.name('tg'), target=pair.names)
    sends = Sends(s, s.producer(target=pair.names, timeout_ms=1000), topic)
    sends_in_order = Sends(s, s.producer('p2', target=pair.names, timeout_ms=1000), ordered, queues=QUEUES)
    loads = [sends, sends_in_order]
    until_sent(s, loads, 100)
    waiting = [lose(s, pair, loads, Waiting(s, pair, sends.producer, transactional, topic, popped, 'k'), 'killed'),
               lose(s, pair, loads, Waiting(s, pair, sends.producer, transactional, topic, popped, 'f'), 'frozen')]
    for load, deliveries in zip(loads, (consumer, in_order)):
        sent = load.stop()
        everything(s, sent, lambda: set(deliveries.texts()))
        again = len(deliveries.texts()) - len(set(deliveries.texts()))
        s.slow.append(f'{load.topic}: {len(sent)} acknowledged and consumed, {again} deliveries again')
    is_in_order(in_order.texts())
    for one in waiting:
        one.ended(consumer)
    for deliveries, of in ((consumer, topic), (in_order, ordered)):
        s.wait(lambda: all_is_committed(s, pair.master, deliveries.client.group, of), f'the offsets in {of} are committed', 90)


def lose(s, pair, loads, waiting, how):
    """The master is lost in this way, and comes back as a slave."""
    commits = Commits(s, pair.master, loads[0].topic)
    s.wait(lambda: len(commits.acked) > 20, 'offsets are committed', 30)
    s.wait(lambda: commits.acked[-1][0] - commits.acked[0][0] > 2 * OFFSETS_GO_BACK_S, 'for long enough', 30)
    waiting.begin()
    lost = pair.master
    moment = time.monotonic()
    if how == 'killed':
        lost.stop(kill=True)
    else:
        lost.freeze()
    s.wait(lambda: replicas(pair.names).get('masterAddress') not in (None, lost.broker), 'the other one is the master', 30)
    elected = time.monotonic() - moment
    pair.turn()
    back = commits.went_back(moment, pair.master)
    until_sent(s, loads, 50, since=moment)
    gaps = [load.gap(moment) for load in loads]
    lost.start() if how == 'killed' else lost.thaw()
    s.wait(lambda: in_sync(pair.names) == [1, 2], f'the {how} one is in sync again', 60)
    assert replicas(pair.names)['masterAddress'] == pair.master.broker, replicas(pair.names)
    until_sent(s, loads, 50, since=time.monotonic())
    s.slow.append(f'{how}: another master after {elected:.2f} s, no acknowledged send for {gaps[0]:.2f} s, to chosen queues for {gaps[1]:.2f} s, '
                  f'sends that failed: {loads[0].failed} and {loads[1].failed}, a committed offset went back by {back:.2f} s')
    return waiting


class Pair:
    """Two brokers of one name, and a name server with the controller in it, each a server of these classes."""

    def __init__(self, s, names=targets.NamesWithController, broker=targets.Apogee):
        self.s, self.names = s, names(os.path.join(s.work, 'names'))
        s.own_targets.append(self.names)
        self.names.start()
        s.wait(self.names.leader, 'the controller leads', 20)
        settings = {**SETTINGS, **LEVEL, 'controllerAddr': self.names.addresses['n0']}
        self.master, self.slave = (broker(os.path.join(s.work, name), settings, roles='broker', namesrv=self.names.namesrv) for name in ('one', 'other'))
        s.own_targets += [self.master, self.slave]
        self.master.start()
        s.wait(lambda: master(self.names) == self.master.broker, 'the first one is the master', 30)
        self.slave.start()
        s.wait(lambda: in_sync(self.names) == [1, 2], 'both are in sync', 60)

    def turn(self):
        """The slave is the master now."""
        self.master, self.slave = self.slave, self.master
        # It answers before its role changes, too, and closes all connections then.
        self.s.wait(lambda: master(self.names) == self.master.broker, 'the new master has registered', 30)


class Sends(controllers.Sends):
    """Without a pause; counts sends that failed. With `queues` to these in turn, each text until it is acknowledged; otherwise to what the client chooses,
    with its own retries, each text once."""

    def __init__(self, s, producer, topic, queues=0):
        self.queues, self.failed = queues, 0
        super().__init__(s, producer, topic)

    def _run(self):
        n = 0
        try:
            while not self.over.is_set():
                if self.queues:
                    for queue in range(self.queues):
                        while not self._is_sent(f'{queue}-{n}', queue=queue) and not self.over.is_set():
                            pass
                else:
                    self._is_sent(f'n{n}')
                n += 1
        except (OSError, ValueError):
            pass  # the driver is closed, because the case has failed

    def _is_sent(self, text, **more):
        try:
            sent = self.producer.send(self.topic, text, **more)
        except DriverError:
            self.failed += 1
            self.over.wait(0.02)
            return False
        if sent['status'] == 'SEND_OK':
            self.acked.append((time.monotonic(), text))
            return True
        self.failed += 1
        return False


class Deliveries:
    """What a consumer was given, in that order."""

    def __init__(self, client):
        self.client, self.got = client, []

    def texts(self):
        self.got += [m['text'] for m in self.client.received(start=len(self.got))]
        return self.got


def until_sent(s, loads, count, since=0.0):
    for load in loads:
        s.wait(lambda: load.since(since) >= count, f'{count} sends to {load.topic} are acknowledged', 120)


class Commits:
    """A group commits ever higher offsets by hand, until the master is lost; notes when each was acknowledged."""

    def __init__(self, s, master, topic):
        self.s, self.topic, self.acked, self.connection = s, topic, [], wire.Connection(master.broker, timeout=3)
        self.group = made_group(self.connection, s.name('commits'))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        queue = dict(topic=self.topic, queueId=0)
        try:
            while True:
                end = int(self.connection.ask(wire.MAX_OFFSET, queue).ext['offset'])
                answer = self.connection.ask(wire.UPDATE_OFFSET, dict(queue, consumerGroup=self.group, commitOffset=end))
                if answer.code == 0:
                    self.acked.append((time.monotonic(), end))
                time.sleep(0.01)
        except (OSError, wire.Closed):
            self.connection.close()

    def went_back(self, moment, master):
        """How many seconds before this moment the offset that the new master has is from; it is not more than is promised."""
        self.thread.join(20)
        assert not self.thread.is_alive(), 'the lost master answers'
        with wire.Connection(master.broker) as c:
            answer = c.ask(wire.QUERY_OFFSET, dict(consumerGroup=self.group, topic=self.topic, queueId=0, setZeroIfNotFound=False))
        found = int(answer.ext['offset']) if answer.code == 0 else -1
        passed = [at for at, offset in self.acked if offset > found]
        back = max(0.0, moment - passed[0]) if passed else 0.0
        assert back <= OFFSETS_GO_BACK_S, f'the offset is that of {back:.2f} s before: {found}, committed was {self.acked[-1][1]}'
        return back


class Waiting:
    """What waits when the master is lost: a message of a delay level, one with a time, two open transactions, and a popped message."""

    def __init__(self, s, pair, producer, transactional, topic, popped, name):
        self.s, self.pair, self.producer, self.transactional = s, pair, producer, transactional
        self.topic, self.popped, self.name, self.due = topic, popped, name, {}

    def text(self, what):
        return f'{self.name}-{what}'

    def begin(self):
        timed = int(time.time() * 1000) + DUE_MS
        of_client = dict(props=dict(TIMER_DELIVER_MS=str(timed))) if self.s.case.client == 'go' else dict(deliver_ms=timed)
        self.producer.send(self.topic, self.text('timed'), **of_client)
        self.due = {self.text('timed'): timed, self.text('delayed'): int(time.time() * 1000) + DUE_MS}
        self.producer.send(self.topic, self.text('delayed'), delay=1)
        for end in ('commit', 'rollback'):
            send_in_transaction(self.transactional, self.topic, self.text(end), 'unknown', ','.join(['unknown'] * 6 + [end]))
        with wire.Connection(self.pair.master.broker) as c:
            self.group = made_group(c, self.s.name(f'popping-{self.name}'))
            self.s.send_raw(self.popped, 2, prefix=self.text('p'), connection=c)
            found = [m['body'].decode() for m in pop(c, self.popped, self.group, invisibleTime=INVISIBLE_MS).messages()]
            assert set(found) >= {self.text('p0'), self.text('p1')}, found

    def ended(self, consumer):
        """Each has come once, and not early."""
        come = [*self.due, self.text('commit')]
        self.s.wait(lambda: set(come) <= set(consumer.texts()), f'{come} are consumed', 120)
        with wire.Connection(self.pair.master.broker) as c:
            stored = [m for queue in range(QUEUES) for m in all_of(c, self.topic, queue) if m['body'].decode().startswith(f'{self.name}-')]
            assert sorted(m['body'].decode() for m in stored) == sorted(come), stored
            early = [m for m in stored if m['stored'] < self.due.get(m['body'].decode(), 0)]
            assert not early, early
            again = set()

            def is_popped_again():
                answer = pop(c, self.popped, self.group, invisibleTime=60_000)
                again.update(m['body'].decode() for m in (answer.messages() if answer.code == 0 else []))
                return again >= {self.text('p0'), self.text('p1')}
            self.s.wait(is_popped_again, 'what was popped and not acknowledged is popped again', 60)


def made_group(c, name):
    assert c.ask(wire.UPDATE_GROUP, body=dict(groupName=name)).code == 0
    return name


def is_in_order(texts):
    """The first deliveries of each queue are in the order of their sends."""
    for queue in range(QUEUES):
        first = list(dict.fromkeys(int(text.split('-')[1]) for text in texts if text.startswith(f'{queue}-')))
        assert first == sorted(first), f'queue {queue}: {[(a, b) for a, b in zip(first, first[1:]) if a > b][:10]}'


def all_is_committed(s, broker, group, topic):
    with wire.Connection(broker.broker) as c:
        return all(c.ask(wire.QUERY_OFFSET, dict(consumerGroup=group, topic=topic, queueId=queue)).ext.get('offset')
                   == c.ask(wire.MAX_OFFSET, dict(topic=topic, queueId=queue)).ext['offset'] for queue in range(QUEUES))
