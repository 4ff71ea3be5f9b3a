"""A slave of either broker takes over from the other's master while clients send and consume: how a cluster moves here without a copy, and back."""
import threading
import time

from harness import wire
from harness.drivers import DriverError
from harness.scenario import sdk

from .replicas import is_copied, is_registered, own

#: So many sends are acknowledged between two steps.
SENDS = 150


class Load:
    """A producer that sends one message after the other until each is acknowledged, or its fate is not known."""

    def __init__(self, s, producer, topic):
        self.s, self.producer, self.topic = s, producer, topic
        self.acknowledged, self.failures, self.gap, self.gaps = [], [], 0.0, []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        n, last = 0, time.monotonic()
        while not self.ends.is_set():
            text, n = f'm{n}', n + 1
            try:
                status = self.producer.send(self.topic, text)['status']
            except DriverError as error:
                status = str(error)
            if status == 'SEND_OK':
                self.acknowledged.append(text)
                self.gap, last = max(self.gap, time.monotonic() - last), time.monotonic()
            else:
                self.failures.append(status)
            time.sleep(0.01)

    def goes_on(self, what):
        end = len(self.acknowledged) + SENDS
        self.s.wait(lambda: len(self.acknowledged) >= end, f'{what}: sends are acknowledged; the last that failed: {self.failures[-1:]}', 120)
        self.gaps.append(f'{what} {self.gap:.1f} s')
        self.gap = 0.0

    def stop(self):
        self.ends.set()
        self.thread.join()


@sdk('java-5.5.0', ours=True, deadline=400)
def a_cluster_moves_here_live_and_back(s):
    names = own(s, 'apogee', {}, 'names', roles='namesrv')
    java = own(s, 'apache', {}, 'java', roles='broker', namesrv=names.namesrv)
    names.start()
    java.start()
    s.wait(lambda: is_registered(names, java), 'the master is registered', 30)
    topic = s.topic(queues=4, target=java)
    consumer = s.push('consumer', topic, target=names)
    load = Load(s, s.producer('producer', target=names), topic)
    try:
        load.goes_on('before')

        ours = slave(s, names, 'apogee', 'ours')
        has_all(s, java)
        # From now on a send is answered when the slave has it, too.
        set_live(java, inSyncReplicas=2, brokerRole='SYNC_MASTER')
        load.goes_on('with a slave')
        java.stop()
        becomes_master(ours)
        load.goes_on('on the slave that took over')

        back = slave(s, names, 'apache', 'back')
        has_all(s, ours)
        ours.settings.update(brokerRole='SYNC_MASTER', inSyncReplicas=2)
        ours.restart()
        has_all(s, ours)
        load.goes_on('with a slave of Apache')
        s.wait(lambda: has_tables(back, topic, consumer.group), 'the slave has the tables', 120)
        ours.stop()
        becomes_master(back)
        load.goes_on('back on a broker of Apache')
    finally:
        load.stop()
    expected = set(load.acknowledged)
    s.wait(lambda: expected <= set(consumer.texts()), f'all {len(expected)} acknowledged messages are consumed', 60)
    got = consumer.texts()
    print(f'{s.case.title}: {len(expected)} acknowledged, {len(load.failures)} failed, {len(got) - len(set(got))} consumed again; '
          f'longest time without an acknowledgement: {", ".join(load.gaps)}')


def slave(s, names, kind, name):
    target = own(s, kind, dict(brokerRole='SLAVE', brokerId=1), name, roles='broker', namesrv=names.namesrv)
    target.start()
    return target


def has_all(s, master):
    def look():
        with wire.Connection(master.broker) as c:
            return is_copied(c)
    s.wait(look, 'the slave has all of it', 60)


def has_tables(target, topic, group):
    with wire.Connection(target.broker) as c:
        topics, groups = c.ask(wire.ALL_TOPICS).json()['topicConfigTable'], c.ask(wire.ALL_GROUPS).json()['subscriptionGroupTable']
        offset = c.ask(wire.QUERY_OFFSET, dict(consumerGroup=group, topic=topic, queueId=0, setZeroIfNotFound=False))
        return topic in topics and group in groups and offset.code == 0


def set_live(target, **settings):
    with wire.Connection(target.broker) as c:
        body = ''.join(f'{key}={value}\n' for key, value in settings.items()).encode()
        answer = c.ask(wire.UPDATE_CONFIG, {}, body)
        assert answer.code == 0, answer


def becomes_master(target):
    """The operator starts the slave again, as the master."""
    target.stop()
    target.settings.update(brokerRole='ASYNC_MASTER', brokerId=0, inSyncReplicas=1)
    target.start()
